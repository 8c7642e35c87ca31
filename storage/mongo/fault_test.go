package mongo

import (
	"errors"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestContradiction: a write that what is stored keeps from ever succeeding is
// reported as a fault at once, and not taken for one that others are in the way of.
func TestContradiction(t *testing.T) {
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{})
	defer s.Close()
	ana := newUser(s, 1, "ana")
	if err := create(t.Context(), s, ana); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Collection(keys).DeleteMany(t.Context(), d(fTenant, string(storage.DefaultTenant))); err != nil {
		t.Fatal(err)
	}
	for what, fn := range map[string]func(storage.Tx) error{
		"Delete": func(tx storage.Tx) error { return errors.Join(tx.Delete(ana, ana.Created), tx.Audit(entryOf(ana, 2))) },
		"rename": func(tx storage.Tx) error { return update(tx, s, ana, "anna") },
	} {
		err := s.Write(timeout(t, 20*time.Second), storage.DefaultTenant, fn)
		if err == nil || errors.Is(err, storage.ErrUnavailable) || errors.Is(err, errAgain) {
			t.Errorf("%s: got %v, want a fault", what, err)
		} else {
			t.Log(err)
		}
	}
}
