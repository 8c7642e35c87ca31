package sqlite

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// moments is a writer whose commits can be looked at from outside at each moment of them,
// beside a model of what they do.
type moments struct {
	t      *testing.T
	b      *batch
	reader *sqlite.Conn
	is     people // as of the last commit
}

// people are the users of a model by number.
type people map[int]person

type person struct {
	name, display string // userName and displayName
	gone          bool
}

func (p people) owner(name string) (int, bool) {
	for n, who := range p {
		if who.name == name && !who.gone {
			return n, true
		}
	}
	return 0, false
}

const (
	momentNames    = 12
	momentDisplays = 5
)

// TestKeysAtEachMoment does anything to users, in commits that are made, that fail, or that
// are given up, while parts are merged, and the sieve is read in and forgotten. At each
// moment whoever asks finds each user by name, no name is given twice, and none that is
// free is refused.
func TestKeysAtEachMoment(t *testing.T) {
	s := openNew(t, Options{})
	raw(t, s.path, func(c *sqlite.Conn) {
		reader, err := openConn(s.path, reader)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		m := &moments{t: t, reader: reader, is: people{}}
		seed := rand.New(rand.NewPCG(11, 12))
		for step := 0; step < 800 && !t.Failed(); step++ {
			if step%200 == 0 { // the process begins anew
				m.b = &batch{store: s, conn: c, keys: keys{recent: new(recent)}, ends: make(map[string]end), left: make(map[string]end)}
				if err := m.b.keys.recent.load(c); err != nil {
					t.Fatal(err)
				}
			}
			m.step(step, seed)
		}
	})
	if flaws, _ := flawsOf(t, s); len(flaws) > 0 {
		t.Error(flaws)
	}
}

// step is one transaction.
func (m *moments) step(step int, r *rand.Rand) {
	m.t.Helper()
	b, k := m.b, &m.b.keys
	if r.IntN(3) == 0 {
		k.recent.rows = mergeEvery * r.IntN(keyParts/2)
	}
	for i := range momentNames {
		part := byte(uniqueOf(fmt.Sprint("n", i)).part())
		switch p := &k.sieve.parts[part]; r.IntN(12) {
		case 0:
			if p.bits == nil && !slices.Contains(k.sieve.due, part) {
				k.sieve.due = append(k.sieve.due, part)
			}
		case 1:
			p.room = 0
		}
	}
	must := func(err error) {
		if err != nil {
			m.t.Fatalf("step %d: %v", step, err)
		}
	}
	b.tally.reset()
	b.pending.clear()
	b.lastRow, b.careful = 0, r.IntN(2) == 0
	clear(b.ends)
	must(exec(b.conn, "BEGIN IMMEDIATE"))
	must(k.begin(b.conn))
	becomes := m.is
	for range 1 + r.IntN(3) {
		next, fails := maps.Clone(becomes), r.IntN(5) == 0
		j := &job{ctx: m.t.Context(), tenant: storage.DefaultTenant, fn: func(tx storage.Tx) error {
			for range 1 + r.IntN(5) {
				must(m.anything(tx.(*tx_), r, next))
			}
			if fails {
				return errRolledBack
			}
			return tx.Audit(storage.AuditEntry{Actor: "operator", Action: "x", At: someday})
		}}
		if undone := b.do(j); undone {
			must(exec(b.conn, "ROLLBACK"))
			m.check(step, "given up", m.is)
			return
		}
		if fails != errors.Is(j.err, errRolledBack) || !fails && j.err != nil {
			m.t.Fatalf("step %d: %v", step, j.err)
		}
		if !fails {
			becomes = next
		}
	}
	must(b.pending.flush(b.conn))
	must(b.tally.flush(b.conn))
	k.announce()
	m.check(step, "announced", m.is)
	if r.IntN(6) == 0 {
		must(exec(b.conn, "ROLLBACK"))
		m.check(step, "failed", m.is)
		return
	}
	must(exec(b.conn, "COMMIT"))
	m.is = becomes
	m.check(step, "made", m.is)
	k.committed()
	m.check(step, "done", m.is)
	m.exact(step)
}

func uniqueOf(name string) uniqueKey {
	return hashUnique("default", "User", storage.Key{Path: "userName", Value: name})
}

// anything does something to some user, or tries to.
func (m *moments) anything(tx *tx_, r *rand.Rand, is people) error {
	n := r.IntN(momentNames + 4)
	who, known := is[n]
	next := person{name: fmt.Sprint("n", r.IntN(momentNames)), display: fmt.Sprint("d", r.IntN(momentDisplays))}
	res := newResource(userType, n, map[string]any{"userName": next.name, "displayName": next.display})
	res.Name = next.display
	owner, taken := is.owner(next.name)
	taken = taken && owner != n
	var err error
	switch {
	case !known && r.IntN(3) == 0:
		w := &storage.WholeResource{Resource: *res}
		if next.gone = r.IntN(2) == 0; next.gone {
			w.Deleted, taken = someday, false
		}
		err = tx.loadResource(w)
		tx.changed = true
	case !known:
		err = tx.Create(res)
	case !who.gone:
		var prev *storage.Resource
		if prev, err = tx.Get("User", res.ID); err != nil {
			return err
		}
		if r.IntN(3) == 0 {
			if err = tx.Delete(prev, someday); err == nil {
				who.gone = true
				is[n] = who
			}
			return err
		}
		res.Version = prev.Version + 1
		err = tx.Update(prev, res)
	default:
		var gone *storage.WholeResource
		if gone, err = tx.GetDeleted("User", res.ID); err != nil {
			return err
		}
		if r.IntN(3) == 0 {
			delete(is, n)
			_, err = tx.Purge(gone)
			return err
		}
		res.Version = gone.Version + 1
		err = tx.Restore(gone, res, true)
	}
	if _, refused := errors.AsType[*storage.UniqueError](err); refused != taken {
		return fmt.Errorf("user %d, to be %s, which %d has (%v): %w", n, next.name, owner, taken, err)
	} else if refused {
		return nil
	}
	is[n] = next
	return err
}

// check asks for everybody as readers do.
func (m *moments) check(step int, moment string, is people) {
	m.t.Helper()
	for n, who := range is {
		if who.gone {
			continue
		}
		row := m.rows(`SELECT n FROM resource WHERE id = ? AND deleted IS NULL`, newUser(n).ID)
		if len(row) != 1 {
			m.t.Fatalf("step %d, %s: user %d is there %d times", step, moment, n, len(row))
		}
		u, l := uniqueOf(who.name), hashLookup("default", "User", storage.Key{Path: "displayName", Value: who.display})
		if found := append(m.rows(`SELECT n FROM unique_key WHERE h = ?`, u[:]), m.b.keys.recent.findUnique(u)...); !slices.Contains(found, row[0]) {
			m.t.Errorf("step %d, %s: %s leads to the rows %v, and not to %d", step, moment, who.name, found, row[0])
		}
		if found := append(m.rows(`SELECT n FROM lookup WHERE h = ?`, int64(l)), m.b.keys.recent.findLookup(l)...); !slices.Contains(found, row[0]) {
			m.t.Errorf("step %d, %s: %s leads to the rows %v, and not to %d", step, moment, who.display, found, row[0])
		}
	}
}

func (m *moments) rows(sql string, args ...any) (list []int64) {
	m.t.Helper()
	if err := query(m.reader, sql, func(st *sqlite.Stmt) error {
		list = append(list, st.ColumnInt64(0))
		return nil
	}, args...); err != nil {
		m.t.Fatal(err)
	}
	return list
}

// exact compares what is in memory after a commit with what is read from the rows, and asks
// the sieve for all of it.
func (m *moments) exact(step int) {
	m.t.Helper()
	var want recent
	if err := want.load(m.b.conn); err != nil {
		m.t.Fatal(err)
	}
	for i := range want.parts {
		got, want := &m.b.keys.recent.parts[i], &want.parts[i]
		for _, p := range []*recentPart{got, want} {
			slices.SortFunc(p.unique, func(a, b uniqueRow) int { return cmp.Or(bytes.Compare(a.key[:], b.key[:]), cmp.Compare(a.n, b.n)) })
			slices.SortFunc(p.lookup, func(a, b lookupRow) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.n, b.n)) })
		}
		if got.merged != want.merged || !slices.Equal(got.unique, want.unique) || !slices.Equal(got.lookup, want.lookup) {
			m.t.Fatalf("step %d: part %d has %v in memory, and %v in the rows", step, i, *got, *want)
		}
		for _, u := range got.unique {
			if m.b.keys.sieve.absent(u.key) {
				m.t.Errorf("step %d: a key in memory is taken for absent", step)
			}
		}
	}
	if err := query(m.b.conn, `SELECT h FROM unique_key`, func(st *sqlite.Stmt) error {
		if u := uniqueKey(columnBytes(st, 0)); m.b.keys.sieve.absent(u) {
			m.t.Errorf("step %d: a key in the table is taken for absent", step)
		}
		return nil
	}); err != nil {
		m.t.Fatal(err)
	}
}
