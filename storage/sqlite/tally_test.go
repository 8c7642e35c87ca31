package sqlite

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// checkTally counts every run of ids again.
func checkTally(t testing.TB, s *Store) {
	t.Helper()
	runs := 0
	err := s.read(t.Context(), func(c *sqlite.Conn) error {
		return query(c, `SELECT t.tenant, t.type, t.lo, t.live,
			(SELECT count(*) FROM resource r WHERE r.tenant = t.tenant AND r.type = t.type AND r.deleted IS NULL AND r.id >= t.lo
				AND r.id < coalesce((SELECT min(u.lo) FROM tally u WHERE u.tenant = t.tenant AND u.type = t.type AND u.lo > t.lo), '~'))
			FROM tally t`, func(st *sqlite.Stmt) error {
			runs++
			if st.ColumnInt64(3) != st.ColumnInt64(4) || st.ColumnInt64(3) >= 2*runLength || st.ColumnInt64(3) < 0 {
				t.Errorf("the run of %s %s from %q counts %d, there are %d", st.ColumnText(0), st.ColumnText(1), st.ColumnText(2), st.ColumnInt64(3), st.ColumnInt64(4))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if live, counted := number(t, s, "SELECT count(*) FROM resource WHERE deleted IS NULL"), number(t, s, "SELECT coalesce(sum(live), 0) FROM tally"); live != counted {
		t.Errorf("%d resources are live in %d runs that count %d", live, runs, counted)
	}
}

// TestTallySurvives makes runs long enough to be cut, empties some of them, and
// opens the store again.
func TestTallySurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer func() { s.Close() }()
	rng := rand.New(rand.NewPCG(3, 4))
	numbers := rng.Perm(3 * runLength)
	var live []int
	for portion := range slices.Chunk(numbers, 700) {
		var groups []*storage.Resource
		for _, n := range portion {
			groups = append(groups, newGroup(n))
		}
		create(t, s, groups...)
		checkTally(t, s)
	}
	if n := number(t, s, "SELECT count(*) FROM tally"); n < 2 {
		t.Errorf("%d resources are in %d run", len(numbers), n)
	}
	if err := write(s, func(tx storage.Tx) error {
		for _, n := range numbers {
			if n%3 == 0 || n < runLength { // the first run, and some of the others
				r, err := tx.Get("Group", newGroup(n).ID)
				if err = errors.Join(err, tx.Delete(r, someday)); err != nil {
					return err
				}
			} else {
				live = append(live, n)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(live)
	for again := range 2 {
		checkTally(t, s)
		for _, start := range []int{1, 2, runLength - 1, runLength, runLength + 1, len(live), len(live) + 1} {
			p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "Group", StartIndex: start, Count: 3})
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			list, _ := p.Next(t.Context())
			for _, r := range list {
				got = append(got, r.ID)
			}
			for _, n := range live[min(start-1, len(live)):min(start+2, len(live))] {
				want = append(want, newGroup(n).ID)
			}
			if p.TotalResults != len(live) || !slices.Equal(got, want) {
				t.Errorf("opened %d times: from %d: %d and %q, want %d and %q", 1+again, start, p.TotalResults, got, len(live), want)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, Options{})
	}
}

// TestTallyOfOneCommit adds to several tenants and types at once, and takes away
// again what it added.
func TestTallyOfOneCommit(t *testing.T) {
	s := openNew(t, Options{})
	var fns []func(storage.Tx) error
	for i := range 30 {
		fns = append(fns, creating(i))
	}
	fns = append(fns, func(tx storage.Tx) error {
		return errors.Join(tx.Delete(held(t, tx, 5), someday), tx.Create(newGroup(100)), creating(200)(tx), tx.Delete(held(t, tx, 200), someday))
	})
	done := make(chan error)
	go func() {
		done <- s.Write(t.Context(), "acme", func(tx storage.Tx) error {
			r := newUser(1)
			r.Index = s.NewIndex("acme", userType, map[string]any{"userName": "user1"})
			return errors.Join(tx.Create(r), tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "x"}))
		})
	}()
	if err := errors.Join(together(t, s, fns...)...); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkTally(t, s)
	for typ, want := range map[string]int{"User": 29, "Group": 1, "Device": 0} {
		p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: typ, StartIndex: 1})
		if err != nil || p.TotalResults != want {
			t.Errorf("%s: %d, %v, want %d", typ, p.TotalResults, err, want)
		}
	}
	if n := number(t, s, "SELECT live FROM tally WHERE tenant = 'acme'"); n != 1 {
		t.Errorf("acme has %d", n)
	}
}
