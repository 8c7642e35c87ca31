package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/sqlite"
)

// TestLoadKilled kills `roster load` again and again wherever it is, until the
// dump is loaded all the same: nothing is missing then, and nothing is there
// twice.
func TestLoadKilled(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	from, file := filepath.Join(folder, "from.db"), filepath.Join(folder, "dump.jsonl")
	fillForLoad(t, from, 3000)
	roster(t, "dump", "--store", from, "--out", file)
	t.Run("SQLite", func(t *testing.T) {
		loadKilled(t, file, func(n int) string { return filepath.Join(folder, fmt.Sprint("to-", n, ".db")) })
	})
	t.Run("MongoDB", func(t *testing.T) {
		// What a process that was killed leaves open ends soon; see docs/scale.md.
		double := mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Second})
		loadKilled(t, file, func(n int) string { return double.URI(fmt.Sprint("roster_", n)) })
	})
}

// runAndKill runs a command and kills it before its end, or after: lived is for how long
// the one before had, and this one gets longer, so that it comes to an end on a slow
// machine too.
func runAndKill(t *testing.T, cmd *exec.Cmd, lived *time.Duration) error {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	*lived += *lived/4 + time.Duration(rand.Int64N(int64(40*time.Millisecond)))
	select {
	case err := <-ended:
		return err
	case <-time.After(*lived):
		_ = cmd.Process.Kill() // it may have ended
		return <-ended
	}
}

// killUntilDone runs a command and kills it until it comes to its end, or says that one
// that was killed did, and returns the store that it did so on. When it was killed once only,
// which shows little and happens where this process waits for its turn, it begins anew with
// another store.
func killUntilDone(t *testing.T, command func(to string) *exec.Cmd, stores func(n int) string, said string) (to string) {
	t.Helper()
	for n := range 10 {
		to = stores(n)
		var lived time.Duration
		kills := 0
		for begun := time.Now(); ; {
			cmd := command(to)
			var say bytes.Buffer
			cmd.Env, cmd.Stderr = cleanEnv(), &say
			err := runAndKill(t, cmd, &lived)
			// One that was killed between its last commit and its end was complete; what
			// the store holds then is compared below.
			if err == nil || kills > 0 && bytes.Contains(say.Bytes(), []byte(said)) {
				break
			}
			if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Exited() {
				t.Fatalf("%s after %d kills: %v\n%s", cmd, kills, err, &say)
			}
			if kills++; time.Since(begun) > 4*patience {
				t.Fatalf("%s has not come to its end after %d kills", cmd, kills)
			}
		}
		t.Logf("done after %d kills", kills)
		if kills > 1 {
			return to
		}
	}
	t.Error("it was hardly ever killed, so this has shown little")
	return to
}

func loadKilled(t *testing.T, file string, stores func(n int) string) {
	want := recordsOf(t, file)
	slices.SortFunc(want, bytes.Compare)
	to := killUntilDone(t, func(to string) *exec.Cmd {
		return exec.Command(shipped(t), "load", "--in", file, "--store", to)
	}, stores, "is not empty")
	roster(t, "verify", "--store", to)
	after := filepath.Join(t.TempDir(), "after.jsonl")
	roster(t, "dump", "--store", to, "--out", after)
	got := recordsOf(t, after)
	if last := len(got) - 1; !bytes.Contains(got[last], []byte(`"action":"tenant.load"`)) {
		t.Errorf("the last record is %s, want that of the load", got[last])
	} else {
		got = got[:last]
		slices.SortFunc(got, bytes.Compare) // stores have orders of their own
		if !slices.EqualFunc(want, got, bytes.Equal) {
			t.Errorf("the store has %d records, want the %d of the dump", len(got), len(want))
		}
	}
}

// recordsOf returns the lines of a dump between its header and its trailer.
func recordsOf(t *testing.T, file string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	return lines[1 : len(lines)-1]
}

// fillForLoad makes a store with users who are all in one group.
func fillForLoad(t *testing.T, path string, users int) {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	resource := func(typ string, n int, attrs map[string]any) *storage.Resource {
		r := &storage.Resource{Type: typ, ID: fmt.Sprintf("01a20000-0000-7000-8000-%012d", n), Version: 1, Created: time.UnixMilli(1), LastModified: time.UnixMilli(2)}
		attrs["id"], r.Name = r.ID, storage.NameOf(attrs)
		r.Doc, r.Index = set.Type(typ).Document(attrs), s.NewIndex(storage.DefaultTenant, set.Type(typ), attrs)
		return r
	}
	group := resource("Group", users, map[string]any{"displayName": "All"})
	err = s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		var members []storage.Member
		err := tx.Create(group)
		for n := range users {
			u := resource("User", n, map[string]any{"userName": fmt.Sprint("user", n)})
			members = append(members, storage.Member{Value: u.ID})
			err = errors.Join(err, tx.Create(u), tx.Audit(storage.AuditEntry{At: u.Created, Actor: "operator", Action: "user.create", Type: "User", ID: u.ID, Version: 1}))
		}
		_, membersErr := tx.AddMembers(group, members)
		return errors.Join(err, membersErr)
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}
