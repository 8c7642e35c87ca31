package mongo

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestContradiction: a write that what is stored keeps from ever succeeding is
// reported as a fault at once, and not taken for one that others are in the way of.
func TestContradiction(t *testing.T) {
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{})
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

// TestWhatWasSeenHolds: whoever is told of the groups above somebody, and commits,
// was told of those that were there at that moment, whatever took others out.
func TestWhatWasSeenHolds(t *testing.T) {
	server := mongotest.Start(t)
	for name, remove := range map[string]func(tx storage.Tx, g *storage.Resource, member string) (int, error){
		"RemoveMembers": func(tx storage.Tx, g *storage.Resource, member string) (int, error) {
			return tx.RemoveMembers(g, []string{member})
		},
		"SetMembers": func(tx storage.Tx, g *storage.Resource, _ string) (int, error) { return tx.SetMembers(g, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, server.URI(server.NewDatabase(t)), Options{})
			above, below := newGroup(s, 1, "above"), newGroup(s, 2, "below")
			write := func(fn func(storage.Tx) error) {
				t.Helper()
				err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					return errors.Join(fn(tx), tx.Audit(entryOf(above, 0)))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for what, look := range map[string]func(storage.Tx) (int, error){
				"MemberOf":  func(tx storage.Tx) (int, error) { list, err := tx.MemberOf(below); return len(list), err },
				"Ancestors": func(tx storage.Tx) (int, error) { list, err := tx.Ancestors(below); return len(list), err },
			} {
				write(func(tx storage.Tx) error {
					for _, g := range []*storage.Resource{above, below} {
						if _, err := tx.Get("Group", g.ID); errors.Is(err, storage.ErrNotFound) {
							if err := tx.Create(g); err != nil {
								return err
							}
						}
					}
					_, err := tx.AddMembers(above, []storage.Member{{Value: below.ID}})
					return err
				})
				seen, runs := 0, 0
				write(func(tx storage.Tx) (err error) {
					if seen, err = look(tx); err != nil {
						return err
					}
					if runs++; runs == 1 {
						write(func(tx storage.Tx) error { _, err := remove(tx, above, below.ID); return err })
					}
					return nil
				})
				if seen != 0 || runs < 2 {
					t.Errorf("%s found %d groups in run %d, want none in the second", what, seen, runs)
				}
			}
		})
	}
}

// newGroup makes a group with a number for an id.
func newGroup(s *Store, n int, name string) *storage.Resource {
	r := newUser(s, n, name)
	attrs := map[string]any{"id": r.ID, "displayName": name}
	rt := set.Type("Group")
	r.Type, r.Doc, r.Index = rt.Name, rt.Document(attrs), s.NewIndex(storage.DefaultTenant, rt, attrs)
	return r
}

// TestSweepHalfWay: a sweep that does not get to its end tells what it did.
func TestSweepHalfWay(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{})
	deletes := 0
	second := &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName != "delete" {
			return
		}
		if deletes++; deletes == 2 {
			server.Fail(mongotest.Failure{Command: "delete", Code: codeMaxTimeMSExpired})
		}
	}}
	s := open(t, server.URI("roster"), Options{Monitor: second})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var notes []*storage.Item
	for i := range inPortion + 10 {
		notes = append(notes, &storage.Item{Kind: "note", ID: fmt.Sprint(i), Expires: at, Data: []byte("{}")})
	}
	if err := s.NoteItems(t.Context(), storage.DefaultTenant, notes); err != nil {
		t.Fatal(err)
	}
	if n, err := s.SweepItems(t.Context(), at.Add(time.Second)); n != inPortion || !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %d, %v, want %d and ErrUnavailable", n, err, inPortion)
	}
	if n, err := s.SweepItems(t.Context(), at.Add(time.Second)); n != 10 || err != nil {
		t.Errorf("the next time: got %d, %v, want 10", n, err)
	}
}
