package mongo

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/sqlite"
	"github.com/roster-id/roster/storage/storagetest"
)

func TestContract(t *testing.T) {
	server := mongotest.Start(t)
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return open(t, server.URI(server.NewDatabase(t)), Options{QueryTimeout: time.Minute})
	})
}

// TestStoresAgree: whoever moves from the embedded store to this one gets the same
// answers.
func TestStoresAgree(t *testing.T) {
	raced.Skip(t)
	server := mongotest.Start(t)
	storagetest.Agree(t, openEmbedded, opener(server))
}

// TestStoresInStep: whoever writes to this store is answered as by the embedded one.
func TestStoresInStep(t *testing.T) {
	raced.Skip(t)
	storagetest.Lockstep(t, openEmbedded, opener(mongotest.Start(t)))
}

// TestMove: a directory moves from the embedded store to this one and back, and
// the other way round.
func TestMove(t *testing.T) {
	raced.Skip(t)
	server := mongotest.Start(t)
	t.Run("from SQLite", func(t *testing.T) { storagetest.Move(t, openEmbedded, opener(server)) })
	t.Run("from MongoDB", func(t *testing.T) { storagetest.Move(t, opener(server), openEmbedded) })
}

func openEmbedded(t *testing.T) storage.Store {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "roster.db"), sqlite.Options{QueryTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opener(server *mongotest.Server) func(t *testing.T) storage.Store {
	return func(t *testing.T) storage.Store {
		return open(t, server.URI(server.NewDatabase(t)), Options{QueryTimeout: time.Minute})
	}
}

// TestGuardBetweenProcesses: what a Guard keeps apart are the writes of all
// processes on a database.
func TestGuardBetweenProcesses(t *testing.T) {
	server := mongotest.Start(t)
	uri := server.URI(server.NewDatabase(t))
	a, b := open(t, uri, Options{}), open(t, uri, Options{})
	storagetest.RemoveOne(t, 100, a, b)
}

// TestStandalone holds a server without transactions to what can be had without
// them: one after the other, everything works.
func TestStandalone(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{Standalone: true})
	s := open(t, server.URI("roster"), Options{AllowStandalone: true})
	ana, bob := newUser(s, 1, "ana"), newUser(s, 2, "bob")
	if err := errors.Join(create(t.Context(), s, ana), create(t.Context(), s, bob)); err != nil {
		t.Fatal(err)
	}
	err := create(t.Context(), s, newUser(s, 3, "ANA"))
	if e, ok := errors.AsType[*storage.UniqueError](err); !ok || e.Attr != "userName" {
		t.Errorf("a second ana: got %v, want a UniqueError", err)
	}
	if _, err := s.Get(t.Context(), storage.DefaultTenant, "User", newUser(s, 3, "x").ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of what was refused: got %v, want ErrNotFound", err)
	}
	note := &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Data: []byte(`"1"`)}
	changed := *note
	changed.Keys = []string{"b"}
	entry := storage.AuditEntry{At: ana.Created, Actor: "operator", Action: "test", Type: "User", ID: ana.ID, Version: 2}
	err = s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		next := newUser(s, 1, "anna")
		next.Version = 2
		return errors.Join(tx.Update(ana, next), tx.PutItem(nil, note), tx.PutItem(note, &changed), tx.Audit(entry))
	})
	if err != nil {
		t.Errorf("Update: %v", err)
	}
	if err := create(t.Context(), s, newUser(s, 4, "ana")); err != nil {
		t.Errorf("the name that was given up: %v", err)
	}
	for name, fn := range map[string]func(storage.Tx) error{
		"PutItem of what is there": func(tx storage.Tx) error { return tx.PutItem(nil, note) },
		"PutItem that is late":     func(tx storage.Tx) error { return tx.PutItem(note, &changed) },
		"DeleteItem that is late":  func(tx storage.Tx) error { return tx.DeleteItem(note) },
	} {
		if err := s.Write(t.Context(), storage.DefaultTenant, fn); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", name, err)
		}
	}
	if list, err := s.Items(t.Context(), storage.DefaultTenant, "note", ""); err != nil || len(list) != 1 || list[0].Version != 2 || list[0].Keys[0] != "b" {
		t.Errorf("Items: got %+v, %v, want the note in its second version", list, err)
	}
	list, err := s.Events(t.Context(), storage.DefaultTenant, 0, 10)
	if err != nil || len(list) != 4 {
		t.Errorf("Events: got %d, %v, want 4", len(list), err)
	}
	p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 10})
	if err != nil || p.TotalResults != 3 {
		t.Errorf("Query: got %+v, %v, want 3 users", p, err)
	}
}

// TestStandaloneLosesItsConnection: what a write without a transaction has done
// before it failed stays, so nobody is told that nothing was changed.
func TestStandaloneLosesItsConnection(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{Standalone: true})
	s := open(t, server.URI("roster"), Options{AllowStandalone: true})
	server.Fail(mongotest.Failure{Command: "insert", Times: 1, After: true})
	if err := create(t.Context(), s, newUser(s, 1, "ana")); !errors.Is(err, storage.ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrOutcomeUnknown", err)
	}
	server.Stop()
	err := create(timeout(t, 100*time.Millisecond), s, newUser(s, 2, "bob"))
	if !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without a server: got %v, want ErrUnavailable", err)
	}
}

// open opens a store for a test. Its log goes nowhere, unless opt has one.
func open(t testing.TB, uri string, opt Options) *Store {
	t.Helper()
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(t.Context(), uri, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
