package mongo

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestClocksDisagree: the events of one resource come in the order of its
// versions, though the process that made the first has a clock that is ahead, and
// more other entries wait for a number than are numbered at once.
func TestClocksDisagree(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(tx storage.Tx, b *Store, ana, late *storage.Resource) error
		want   []int64
	}{
		{"update", func(tx storage.Tx, b *Store, ana, _ *storage.Resource) error {
			return update(tx, b, ana, "anna")
		}, []int64{1, 2}},
		{"update, with the entry before", func(tx storage.Tx, b *Store, ana, _ *storage.Resource) error {
			return errors.Join(tx.Audit(entryOf(ana, 2)), tx.Update(ana, &storage.Resource{Type: "User", ID: ana.ID, Version: 2, LastModified: ana.LastModified}))
		}, []int64{1, 2}},
		{"update twice", func(tx storage.Tx, b *Store, ana, _ *storage.Resource) error {
			next := &storage.Resource{Type: "User", ID: ana.ID, Version: 2, LastModified: ana.LastModified}
			return errors.Join(tx.Update(ana, next), tx.Audit(entryOf(ana, 2)), update(tx, b, next, "anna"))
		}, []int64{1, 2, 3}},
		{"update of a resource without a stamp before", func(tx storage.Tx, b *Store, ana, late *storage.Resource) error {
			return errors.Join(update(tx, b, late, "later"), update(tx, b, ana, "anna"))
		}, []int64{1, 2}},
		{"delete", func(tx storage.Tx, b *Store, ana, _ *storage.Resource) error {
			return errors.Join(tx.Delete(ana, ana.Created), tx.Audit(entryOf(ana, 2)))
		}, []int64{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := mongotest.Start(t)
			uri := server.URI(server.NewDatabase(t))
			ahead, b := open(t, uri, Options{}), open(t, uri, Options{})
			late := newUser(b, 2, "late")
			if err := create(t.Context(), b, late); err != nil {
				t.Fatal(err)
			}
			ahead.stamps.last = time.Now().Add(time.Hour).UnixMilli() << 20
			if err := create(t.Context(), ahead, newUser(ahead, 1, "ana")); err != nil {
				t.Fatal(err)
			}
			ana, err := b.Get(t.Context(), storage.DefaultTenant, "User", newUser(b, 1, "ana").ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error { return c.change(tx, b, ana, late) }); err != nil {
				t.Fatal(err)
			}
			others := newUser(b, 3, "other")
			err = b.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
				for range numberedAtOnce {
					if err := tx.Audit(entryOf(others, 1)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			list, err := b.Events(t.Context(), storage.DefaultTenant, 0, 2*numberedAtOnce)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, e := range list {
				if e.ID == ana.ID {
					got = append(got, e.Version)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("the versions of ana come as %d, want %d", got, c.want)
			}
		})
	}
}

// update gives a user the next version, and records it.
func update(tx storage.Tx, s *Store, prev *storage.Resource, name string) error {
	var n int
	for _, c := range prev.ID[len(prev.ID)-12:] {
		n = 10*n + int(c-'0')
	}
	next := newUser(s, n, name)
	next.Version = prev.Version + 1
	return errors.Join(tx.Update(prev, next), tx.Audit(entryOf(next, next.Version)))
}

func entryOf(r *storage.Resource, version int64) storage.AuditEntry {
	return storage.AuditEntry{At: r.Created, Actor: "operator", Action: "test", Type: r.Type, ID: r.ID, Version: version}
}
