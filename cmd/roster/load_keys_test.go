package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// sealed makes a store, and a key file beside it, in which a tenant has a secret.
func sealed(t *testing.T, tenant storage.TenantID) (dir string) {
	t.Helper()
	dir = t.TempDir()
	store, err := sqlite.Open(t.Context(), dir, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := auth.CreateKeyFile(filepath.Join(dir, "roster.keys")); err != nil {
		t.Fatal(err)
	}
	operator := auth.Principal{Kind: auth.Operator, Tenant: tenant}
	if tenant != storage.DefaultTenant {
		if err := auth.CreateTenant(t.Context(), store, operator, string(tenant), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	err = store.Write(t.Context(), tenant, func(tx storage.Tx) error {
		if err := ring(t, dir).MeetCanary(tx, tenant); err != nil {
			return err
		}
		return tx.Audit(operator.Entry(t.Context(), time.Now().Truncate(time.Millisecond), "test.seal", "Tenant", string(tenant)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func ring(t *testing.T, dir string) *auth.KeyRing {
	t.Helper()
	keys, err := auth.LoadKeyRing(filepath.Join(dir, "roster.keys"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestLoadOfSecrets: secrets in a dump are loaded where the key file of the store opens
// them, or where there are neither key file nor secrets yet. Elsewhere nothing is loaded,
// and the store can still be served: one that two key files were needed for could not.
func TestLoadOfSecrets(t *testing.T) {
	from := sealed(t, storage.DefaultTenant)
	file := filepath.Join(t.TempDir(), "dump.jsonl")
	roster(t, "dump", "--store", from, "--out", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	otherKey := func(t *testing.T) string { return sealed(t, "acme") }
	withoutFile := func(t *testing.T) string {
		dir := sealed(t, "acme")
		if err := os.Rename(filepath.Join(dir, "roster.keys"), filepath.Join(dir, "elsewhere.keys")); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	sameKey := func(t *testing.T) string {
		dir := t.TempDir()
		b, err := os.ReadFile(filepath.Join(from, "roster.keys"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "roster.keys"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, test := range []struct {
		name   string
		into   func(*testing.T) string
		args   []string
		refuse string // part of the error; "" if it is loaded
	}{
		{"a new store", func(t *testing.T) string { return t.TempDir() }, nil, ""},
		{"a store with the same key file", sameKey, nil, ""},
		{"a store with secrets and another key file", otherKey, nil, "were not sealed with the key file"},
		{"a store with secrets whose key file is not found", withoutFile, nil, "name the key file of the store with --key-file"},
		{"another tenant", func(t *testing.T) string { return t.TempDir() }, []string{"--tenant", "other"}, "load it without --tenant"},
	} {
		for _, source := range []string{file, "-"} {
			t.Run(test.name+" from "+filepath.Base(source), func(t *testing.T) {
				dir := test.into(t)
				var say bytes.Buffer
				cmd := exec.Command("roster", append([]string{"load", "--store", dir, "--in", source}, test.args...)...)
				cmd.Env, cmd.Stdin, cmd.Stderr = cleanEnv(), bytes.NewReader(text), &say
				err := cmd.Run()
				if (err == nil) != (test.refuse == "") || !strings.Contains(say.String(), test.refuse) {
					t.Fatalf("%v, %s; want %q", err, &say, test.refuse)
				}
				store, err := sqlite.Open(t.Context(), dir, sqlite.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				for _, tenant := range []storage.TenantID{storage.DefaultTenant, "other"} {
					items, err := store.Items(t.Context(), tenant, "keyring", "")
					if err != nil || (len(items) > 0) != (test.refuse == "" && tenant == storage.DefaultTenant) {
						t.Errorf("tenant %s has %d of the dump's secrets, %v", tenant, len(items), err)
					}
				}
				if test.name == "a store with secrets and another key file" {
					if err := ring(t, dir).Check(t.Context(), store); err != nil {
						t.Errorf("the store cannot be served any more: %v", err)
					}
				}
			})
		}
	}
}

// TestLostKeyFile: a server does not start on secrets that it has no keys for, nor make
// others in their place (S23, S44).
func TestLostKeyFile(t *testing.T) {
	for name, test := range map[string]struct {
		keys func(path string) error
		want string
	}{
		"no key file":      {func(string) error { return nil }, "put the file back"},
		"another key file": {auth.CreateKeyFile, "belongs to another store"},
	} {
		dir := sealed(t, storage.DefaultTenant)
		path := filepath.Join(dir, "roster.keys")
		if err := errors.Join(os.Remove(path), test.keys(path)); err != nil {
			t.Fatal(err)
		}
		_, before := os.Stat(path)
		store, err := sqlite.Open(t.Context(), dir, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = openKeys(t.Context(), place{kind: embedded, location: dir}, "", store, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
		if _, after := os.Stat(path); (before == nil) != (after == nil) {
			t.Errorf("%s: a key file was made", name)
		}
		store.Close()
	}
}
