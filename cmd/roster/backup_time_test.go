package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// TestBackupTime makes a backup of a store with many users, restores it and verifies what
// came of it; with ROSTER_TEST_BACKUP as many as that, see `make backups`. It says how long
// that takes, and with how much memory.
func TestBackupTime(t *testing.T) {
	users := int(numberFrom(t, "ROSTER_TEST_BACKUP", 3000))
	dir := t.TempDir()
	from, to, file := filepath.Join(dir, "from.db"), filepath.Join(dir, "to.db"), filepath.Join(dir, "backup.jsonl")
	fillForBackup(t, from, users)
	t.Logf("%d users, half of them with a password, one in ten in a group; the store has %d MiB", users, sizeOf(t, from))
	measured(t, "backup", "backup", "--store", from, "--to", file)
	t.Logf("the backup has %d MiB", sizeOf(t, file))
	measured(t, "restore", "restore", "--from", file, "--store", to)
	for _, store := range []string{from, to} {
		out, most := measured(t, "verify", "verify", "--store", store)
		// What it keeps is a portion at a time, and the pages that SQLite does.
		if users >= 100_000 && most > 320 {
			t.Errorf("verify took %d MiB; want 320 at most, however many users there are", most)
		}
		if want := fmt.Sprintf("%d resources, %d items", users+1, users/2); !strings.Contains(out, want) {
			t.Errorf("verify says %q; want %s", out, want)
		}
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size() >> 20
}

// measured runs a command that must succeed, and logs what it took. It returns what it said, and the most memory it had.
func measured(t *testing.T, name string, args ...string) (out string, mib int64) {
	t.Helper()
	cmd := exec.Command("roster", args...)
	var said, say strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = cleanEnv(), &said, &say
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("roster %s: %v\n%s%s", name, err, &said, &say)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	t.Logf("%s: %s (%s of processor time), %d MiB at most", name, time.Since(begun).Round(time.Second/10),
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Second/10), usage.Maxrss>>10)
	return said.String(), usage.Maxrss >> 10
}

// fillForBackup makes a store with users as large as those of real companies.
func fillForBackup(t *testing.T, path string, users int) {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_700_000_000_000)
	id := func(n int) string { return fmt.Sprintf("01a20000-0000-7000-8000-%012d", n) }
	resource := func(typ string, n int, attrs map[string]any) *storage.Resource {
		r := &storage.Resource{Type: typ, ID: id(n), Version: 1, Created: at, LastModified: at}
		attrs["id"], r.Name = r.ID, storage.NameOf(attrs)
		r.Doc, r.Index = set.Type(typ).Document(attrs), s.NewIndex(storage.DefaultTenant, set.Type(typ), attrs)
		return r
	}
	group := resource("Group", users, map[string]any{"displayName": "All"})
	err = s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(tx.Create(group), tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "group.create", Type: "Group", ID: group.ID, Version: 1}))
	})
	for begin := 0; begin < users && err == nil; begin += 2000 {
		var list []*storage.Resource
		for n := begin; n < min(begin+2000, users); n++ {
			scattered := uint32(n) * 0x9e3779b1 // names far apart, as those of a real company
			list = append(list, resource("User", n, map[string]any{
				"userName": fmt.Sprintf("%08x.%d@example.com", scattered, n), "externalId": fmt.Sprintf("%08x-%d", scattered*7, n), "active": true,
				"displayName": fmt.Sprintf("Given%d Family%d", n%977, n%1013), "title": "Software Engineer",
				"name":         map[string]any{"givenName": fmt.Sprint("Given", n%977), "familyName": fmt.Sprint("Family", n%1013), "formatted": fmt.Sprintf("Given%d Family%d", n%977, n%1013)},
				"emails":       []any{map[string]any{"value": fmt.Sprintf("%08x.%d@example.com", scattered, n), "type": "work", "primary": true}},
				"phoneNumbers": []any{map[string]any{"value": fmt.Sprintf("+46 8 %07d", n), "type": "work"}},
				"addresses":    []any{map[string]any{"type": "work", "streetAddress": fmt.Sprintf("%d Main Street", n%500), "locality": "Stockholm", "country": "SE", "postalCode": "11122"}},
			}))
		}
		err = s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			var members []storage.Member
			for i, r := range list {
				e := storage.AuditEntry{At: at, RequestID: r.ID, Actor: "client:hr", Action: "user.create", Type: "User", ID: r.ID, Version: 1, From: "192.0.2.1",
					Attributes: []string{"userName", "externalId", "active", "displayName", "title"},
					Changes:    []storage.Change{{Path: "userName", After: []byte(`"` + r.Name + `"`)}, {Path: "active", After: []byte("true")}, {Path: "title", After: []byte(`"Software Engineer"`)}}}
				if err := errors.Join(tx.Create(r), tx.Audit(e)); err != nil {
					return err
				}
				if i%10 == 0 {
					members = append(members, storage.Member{Value: r.ID})
				}
				if i%2 == 0 {
					c, err := auth.ReadCredential(tx, r.ID)
					if err != nil {
						return err
					}
					c.PushPassword("$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIDE2$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI", at)
					if err := auth.SaveCredential(tx, r.ID, c); err != nil {
						return err
					}
				}
			}
			_, err := tx.AddMembers(group, members)
			return err
		})
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}
