package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestBackupBesideWriters: a backup that is made while a server writes is of one moment.
// What had been acknowledged by then is in it, and the store that is made of it is sound.
func TestBackupBesideWriters(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"SQLite", "MongoDB"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, to := filepath.Join(dir, "from", "roster.db"), filepath.Join(dir, "to", "roster.db")
			keys := filepath.Join(dir, "roster.keys")
			roster(t, "keys", "create", "--key-file", keys)
			if kind == "MongoDB" {
				server := mongotest.Start(t)
				store, to = server.URI(server.NewDatabase(t)), server.URI(server.NewDatabase(t))
			}
			token := rosterToken(t, "client", "create", "--store", store, "--name", "hr", "--scopes", "users,groups")
			s := serveStore(t, store, "--key-file", keys)
			var acked atomic.Int64
			stop := make(chan struct{})
			var writers sync.WaitGroup
			for w := range 4 {
				writers.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						body := fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"w%d-%d"}`, w, n)
						if err := s.expect(201, "POST", "/Users", token, body); err != nil {
							t.Error(err)
							return
						}
						acked.Add(1)
					}
				})
			}
			if err := eventually(func() error {
				if acked.Load() < 100 {
					return errors.New("too few")
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "backup.jsonl")
			before := acked.Load()
			roster(t, "backup", "--store", store, "--to", file)
			after := acked.Load()
			verified := roster(t, "verify", "--store", store, "--key-file", keys) // beside them, too
			close(stop)
			writers.Wait()
			roster(t, "restore", "--from", file, "--store", to, "--keep-tokens", "--key-file", keys)
			roster(t, "verify", "--store", to, "--key-file", keys)
			r := serveStore(t, to, "--key-file", keys)
			_, body, err := r.do("GET", "/Users?count=0", token, "")
			var total int64
			_, rest, _ := strings.Cut(body, `"totalResults":`)
			if _, scanErr := fmt.Sscan(strings.NewReplacer(",", " ", "}", " ").Replace(rest), &total); err != nil || scanErr != nil {
				t.Fatalf("%s, %v, %v", body, err, scanErr)
			}
			// Four are in flight at any moment.
			if total < before || total > after+4 {
				t.Errorf("%d users were restored, of %d acknowledged before the backup and %d at its end", total, before, after)
			}
			t.Logf("%d users before, %d in the backup, %d at its end; %s", before, total, after, strings.TrimSpace(verified))
		})
	}
}

// TestRestoreOfSecrets: secrets in a backup are restored beside the key file that opens
// them, or where there is none yet, and nothing is restored beside another one.
func TestRestoreOfSecrets(t *testing.T) {
	from := sealed(t, storage.DefaultTenant)
	file := filepath.Join(t.TempDir(), "backup.jsonl")
	roster(t, "backup", "--store", from, "--to", file)
	keys, err := os.ReadFile(filepath.Join(from, "roster.keys"))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		prepare func(keys string) error
		refuse  bool
		says    string
	}{
		"the same key file": {func(path string) error { return os.WriteFile(path, keys, 0o600) }, false, "Restored the backup"},
		"no key file":       {func(string) error { return nil }, false, "which is not here yet"},
		"another key file":  {auth.CreateKeyFile, true, "were not sealed with the key file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.prepare(filepath.Join(dir, "roster.keys")); err != nil {
				t.Fatal(err)
			}
			var say bytes.Buffer
			cmd := exec.Command("roster", "restore", "--from", file, "--store", dir+"/")
			cmd.Env, cmd.Stderr = cleanEnv(), &say
			if err := cmd.Run(); (err != nil) != test.refuse || !strings.Contains(say.String(), test.says) {
				t.Errorf("%v, %s; want %q", err, &say, test.says)
			}
			if _, err := os.Stat(filepath.Join(dir, "roster.db")); (err == nil) == test.refuse {
				t.Errorf("the store: %v", err)
			}
			verify := exec.Command("roster", "verify", "--store", dir+"/")
			verify.Env = cleanEnv()
			if err := verify.Run(); (err == nil) != (name == "the same key file") {
				t.Errorf("roster verify: %v", err)
			}
		})
	}
}

// TestRestoreKilled kills `roster restore` again and again wherever it is, until the
// backup is restored all the same.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, file := filepath.Join(dir, "from.db"), filepath.Join(dir, "backup.jsonl")
	fillForBackup(t, from, 1500)
	roster(t, "tenant", "create", "acme", "--store", from)
	roster(t, "backup", "--store", from, "--to", file)
	want := restorable(t, file)
	for _, kind := range []string{"SQLite", "MongoDB"} {
		t.Run(kind, func(t *testing.T) {
			stores := func(n int) string { return filepath.Join(dir, fmt.Sprint("to-", n, ".db")) }
			if kind == "MongoDB" {
				double := mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Second})
				stores = func(n int) string { return double.URI(fmt.Sprint("roster_", n)) }
			}
			to := killUntilDone(t, func(to string) *exec.Cmd {
				return exec.Command(shipped(t), "restore", "--from", file, "--store", to)
			}, stores, "holds this backup already")
			roster(t, "verify", "--store", to)
			again := filepath.Join(t.TempDir(), "again.jsonl")
			roster(t, "backup", "--store", to, "--to", again)
			got := restorable(t, again)
			for line, n := range want {
				if got[line] != n {
					t.Fatalf("%d times in what was restored, want %d: %.200s", got[line], n, line)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d records, want %d", len(got), len(want))
			}
		})
	}
}

// restorable counts the records of a backup, but for what each has of its own and what a
// restore adds or changes.
func restorable(t *testing.T, file string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]int{}
	for line := range strings.Lines(string(b)) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(line, `{"`), `"`)
		if kind == "tenant" || kind == "resource" || kind == "item" || kind == "audit" && !strings.Contains(line, `"store.restore"`) {
			records[line]++
		}
	}
	return records
}
