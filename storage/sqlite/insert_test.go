package sqlite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/roster-id/roster/storage"
)

// TestPendingRowsAreSeen: what a write has created is there for those that come after
// it in the same commit, whatever they ask, and for the rest of the write itself.
func TestPendingRowsAreSeen(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(0))
	errs := together(t, s,
		func(tx storage.Tx) error {
			err := creating(1)(tx)
			return errors.Join(err, tx.Delete(held(t, tx, 1), someday))
		},
		creating(2),
		func(tx storage.Tx) error {
			next := newUser(2)
			next.Name = "renamed"
			next.Version = 2
			return errors.Join(tx.Update(held(t, tx, 2), next), tx.Audit(storage.AuditEntry{Actor: "operator", Action: "x", At: someday}))
		},
		creating(3),
		func(tx storage.Tx) error {
			group := newGroup(1)
			err := errors.Join(tx.Create(group), tx.Audit(storage.AuditEntry{Actor: "operator", Action: "x", At: someday}))
			n, added := tx.AddMembers(group, []storage.Member{{Value: newUser(3).ID}})
			if n != 1 {
				t.Errorf("%d members were added", n)
			}
			return errors.Join(err, added)
		})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0, 1, 1} {
		if n := count(t, s, userType, fmt.Sprintf(`userName eq "user%d"`, i)); n != want {
			t.Errorf("user%d is there %d times, want %d", i, n, want)
		}
	}
	if name := number(t, s, `SELECT count(*) FROM resource WHERE name = 'renamed' AND version = 2`); name != 1 {
		t.Error("the change of a pending resource is lost")
	}
	checkTally(t, s)
	if entries, faults := trail(t, s); len(entries) != 6 || len(faults) > 0 {
		t.Errorf("%d entries, want 6; %v", len(entries), faults)
	}
}

// TestPendingEntriesAreSeen: a tenant whose first audit entry is pending is no empty one.
func TestPendingEntriesAreSeen(t *testing.T) {
	s := openNew(t, Options{})
	errs := together(t, s,
		func(tx storage.Tx) error {
			return tx.Audit(storage.AuditEntry{Actor: "operator", Action: "x", At: someday})
		},
		func(tx storage.Tx) error { return tx.SetLoad(nil, &storage.LoadMark{Dump: "d"}) })
	if errs[0] != nil || !errors.Is(errs[1], storage.ErrNotEmpty) {
		t.Error(errs)
	}
}

// TestARowIsRefused: rows are inserted together, and yet it is the write that brought
// the one that is refused which fails, alone.
func TestARowIsRefused(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(0))
	again := func(n int) func(storage.Tx) error {
		return func(tx storage.Tx) error {
			u := newUser(n)
			u.ID = newUser(0).ID // which somebody has
			return errors.Join(tx.Create(u), tx.Audit(storage.AuditEntry{Actor: "operator", Action: "x", At: someday}))
		}
	}
	var fns []func(storage.Tx) error
	for i := range 2*insertResources.rows + 3 {
		fns = append(fns, creating(1+i))
	}
	const first = 3
	last := len(fns) - 1
	fns[first], fns[last] = again(1+first), again(1+last)
	for i, err := range together(t, s, fns...) {
		if refused := i == first || i == last; (err != nil) != refused {
			t.Errorf("write %d: %v", i, err)
		}
		want := 1
		if i == first || i == last {
			want = 0
		}
		if n := count(t, s, userType, fmt.Sprintf(`userName eq "user%d"`, 1+i)); n != want {
			t.Errorf("user%d is there %d times, want %d", 1+i, n, want)
		}
	}
	checkTally(t, s)
	if entries, faults := trail(t, s); len(entries) != len(fns)-1 || len(faults) > 0 {
		t.Errorf("%d entries, want %d; %v", len(entries), len(fns)-1, faults)
	}
}

// TestSeenAndTakenBack: a write that fails after it has looked at what it created
// leaves nothing.
func TestSeenAndTakenBack(t *testing.T) {
	s := openNew(t, Options{})
	errs := together(t, s, creating(1), creating(3), func(tx storage.Tx) error {
		err := creating(2)(tx)
		held(t, tx, 2)
		return errors.Join(err, errRolledBack)
	})
	if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], errRolledBack) {
		t.Fatal(errs)
	}
	for i, want := range map[int]int{1: 1, 2: 0, 3: 1} {
		if n := count(t, s, userType, fmt.Sprintf(`userName eq "user%d"`, i)); n != want {
			t.Errorf("user%d is there %d times, want %d", i, n, want)
		}
	}
	if entries, faults := trail(t, s); len(entries) != 2 || len(faults) > 0 {
		t.Errorf("%d entries, want 2; %v", len(entries), faults)
	}
}

// TestRowsAreRefused: writes that create several users, some of whom are refused, share
// commits with others, look at what they have created or not, and find out or not. Of each
// write there is all or nothing.
func TestRowsAreRefused(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(0))
	seed, next, entries := rand.New(rand.NewPCG(13, 14)), 1, 1
	for round := range 60 {
		type refusable struct {
			from, to int
			refused  bool // some row of it
			fails    bool // by itself
		}
		var writes []refusable
		var fns []func(storage.Tx) error
		for range 1 + seed.IntN(12) {
			w := refusable{from: next, to: next + seed.IntN(2*insertResources.rows+3), fails: seed.IntN(6) == 0}
			next = w.to
			seed, which := seed.Uint64(), -1
			if w.to > w.from && round%3 > 0 && seed%4 == 0 {
				w.refused, which = true, w.from+int(seed>>8)%(w.to-w.from)
			}
			writes = append(writes, w)
			fns = append(fns, func(tx storage.Tx) error {
				r := rand.New(rand.NewPCG(seed, 0)) // it may run twice
				if r.IntN(4) == 0 {
					_, _ = tx.Get(userType.Name, newUser(0).ID) // which inserts what others have created
				}
				for n := w.from; n < w.to; n++ {
					u := newUser(n)
					if n == which {
						u.ID = newUser(0).ID // which somebody has
					}
					if err := tx.Create(u); err != nil {
						return err
					}
					if r.IntN(8) == 0 {
						_, _ = tx.Get(u.Type, u.ID) // and never mind
					}
				}
				if w.fails {
					return errRolledBack
				}
				return tx.Audit(storage.AuditEntry{Actor: "operator", Action: "x", At: someday})
			})
		}
		for i, err := range together(t, s, fns...) {
			w := writes[i]
			if (err != nil) != (w.refused || w.fails) || errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("round %d, write %d: %v of %+v", round, i, err, w)
			}
			want := 1
			if w.refused || w.fails {
				want = 0
			} else {
				entries++
			}
			for n := w.from; n < w.to; n++ {
				if got := count(t, s, userType, fmt.Sprintf(`userName eq "user%d"`, n)); got != want {
					t.Errorf("round %d, write %d: user%d is there %d times, want %d", round, i, n, got, want)
				}
			}
		}
	}
	if flaws, _ := flawsOf(t, s); len(flaws) > 0 {
		t.Error(flaws)
	}
	if got, faults := trail(t, s); len(got) != entries || len(faults) > 0 {
		t.Errorf("%d entries, want %d; %v", len(got), entries, faults)
	}
}
