package sqlite

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

func TestPackKeys(t *testing.T) {
	for _, k := range []rowKeys{
		{},
		{unique: []uniqueKey{{1}, {0xff, 2}}},
		{lookup: []lookupKey{0, -1, 1 << 62}},
		{unique: []uniqueKey{{9}}, lookup: []lookupKey{-1 << 63, 7}},
	} {
		if diff := cmp.Diff(k, unpackKeys(k.pack()), cmp.AllowUnexported(rowKeys{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	whole := rowKeys{unique: []uniqueKey{{9}}, lookup: []lookupKey{7}}.pack()
	for n := range whole { // damage must not be a panic
		unpackKeys(whole[:n])
	}
}

func TestHashesAreApart(t *testing.T) {
	seen := map[uniqueKey]string{}
	for _, tenant := range []string{"a", "ab", "b"} {
		for _, typ := range []string{"User", "Group", "bUser"} {
			for _, k := range []storage.Key{{Path: "userName", Value: "x"}, {Path: "userNamex", Value: ""}, {Path: "userName", Value: "y"}, {Path: "User", Value: "userNamex"}} {
				h, what := hashUnique(tenant, typ, k), fmt.Sprint(tenant, typ, k)
				if other, ok := seen[h]; ok {
					t.Errorf("%s and %s have one hash", what, other)
				}
				seen[h] = what
			}
		}
	}
}

// state is where the keys of the store are.
func keyRows(t testing.TB, s *Store) (merged, unique, lookup, inMemory int64) {
	t.Helper()
	onWriter(t, s, func(*sqlite.Conn) error { // the writer's to look at
		for i := range s.recent.parts {
			inMemory += int64(len(s.recent.parts[i].unique))
		}
		return nil
	})
	return number(t, s, "SELECT min(n) FROM key_part"), number(t, s, "SELECT count(*) FROM unique_key"), number(t, s, "SELECT count(*) FROM lookup"), inMemory
}

func mergeNow(t testing.TB, s *Store) {
	t.Helper()
	onWriter(t, s, func(*sqlite.Conn) error { s.recent.rows = mergeRows; return nil })
	onWriter(t, s, func(*sqlite.Conn) error { return nil })
}

// TestKeysMove follows the keys of rows from memory to the tables and out again,
// and asks for every name on the way.
func TestKeysMove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer func() { s.Close() }()
	names := map[string]int{} // how many users should have it
	check := func(when string) {
		t.Helper()
		for name, want := range names {
			for _, attr := range []string{"userName", "externalId"} {
				if n := count(t, s, userType, fmt.Sprintf(`%s eq %q`, attr, name)); n != want {
					t.Errorf("%s: %s eq %q finds %d, want %d", when, attr, name, n, want)
				}
			}
			_, taken := errors.AsType[*storage.UniqueError](write(s, func(tx storage.Tx) error {
				return errors.Join(tx.Create(newResource(userType, 1e6, map[string]any{"userName": name})), errRolledBack)
			}))
			if taken != (want == 1) {
				t.Errorf("%s: %s is taken: %v", when, name, taken)
			}
		}
	}
	rename := func(n int, to string, version int64) {
		t.Helper()
		if err := write(s, func(tx storage.Tx) error {
			next := newResource(userType, n, map[string]any{"userName": to, "externalId": to})
			next.Version = version
			return tx.Update(held(t, tx, n), next)
		}); err != nil {
			t.Fatal(err)
		}
		names[to] = 1
	}
	for i := range 10 {
		create(t, s, newUser(i))
		names[fmt.Sprint("user", i)] = 1
	}
	if merged, unique, _, inMemory := keyRows(t, s); merged != 0 || unique != 0 || inMemory != 10 {
		t.Errorf("at first %d merged, %d in the table, %d in memory", merged, unique, inMemory)
	}
	check("in memory")
	rename(0, "renamed0", 2)
	names["user0"] = 0
	check("renamed in memory")

	mergeNow(t, s)
	if merged, unique, lookup, inMemory := keyRows(t, s); merged != 10 || unique != 10 || lookup != 28 || inMemory != 0 {
		t.Errorf("after a merge %d merged, %d and %d in the tables, %d in memory", merged, unique, lookup, inMemory)
	}
	check("merged")
	rename(1, "renamed1", 2)
	names["user1"] = 0
	check("renamed when merged")
	if err := write(s, func(tx storage.Tx) error { return tx.Delete(held(t, tx, 2), someday) }); err != nil {
		t.Fatal(err)
	}
	names["user2"] = 0
	check("deleted when merged")

	// A name goes from a merged row to a later one, and one back, in one write.
	if err := write(s, func(tx storage.Tx) error {
		a := newResource(userType, 3, map[string]any{"userName": "new3", "externalId": "new3"})
		a.Version = 2
		b := newResource(userType, 20, map[string]any{"userName": "user3", "externalId": "user3"})
		return errors.Join(tx.Update(held(t, tx, 3), a), tx.Create(b))
	}); err != nil {
		t.Fatal(err)
	}
	names["new3"] = 1
	check("handed on")
	if err := write(s, func(tx storage.Tx) error {
		later := newResource(userType, 20, map[string]any{"userName": "other", "externalId": "other"})
		later.Version = 2
		back := newResource(userType, 3, map[string]any{"userName": "user3", "externalId": "user3"})
		back.Version = 3
		return errors.Join(tx.Update(held(t, tx, 20), later), tx.Update(held(t, tx, 3), back))
	}); err != nil {
		t.Fatal(err)
	}
	names["new3"], names["other"] = 0, 1
	check("and back")

	// A merge and changes of what it moves, in one commit, once kept and once not.
	for i, fails := range []bool{true, false} {
		create(t, s, newUser(30+i))
		names[fmt.Sprint("user", 30+i)] = 1
		onWriter(t, s, func(*sqlite.Conn) error { s.recent.rows = mergeRows; return nil })
		err := write(s, func(tx storage.Tx) error {
			next := newResource(userType, 30+i, map[string]any{"userName": "at the merge", "externalId": "at the merge"})
			next.Version = 2
			err := errors.Join(tx.Update(held(t, tx, 30+i), next), tx.Create(newUser(40+i)), tx.Delete(held(t, tx, 4), someday))
			if fails {
				err = errors.Join(err, errRolledBack)
			}
			return err
		})
		if fails != errors.Is(err, errRolledBack) || !fails && err != nil {
			t.Fatal(err)
		}
		if !fails {
			names["at the merge"], names["user31"], names["user41"], names["user4"] = 1, 0, 1, 0
		}
		check(fmt.Sprint("merged in a write that fails: ", fails))
	}

	// What is in memory comes back from the rows.
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, Options{})
		check("opened again")
	}
	mergeNow(t, s)
	check("merged again")
	checkTally(t, s)
}

// TestManyPairs merges more rows than one statement inserts.
func TestManyPairs(t *testing.T) {
	s := openNew(t, Options{})
	var users []*storage.Resource
	for i := range 3*insertUnique.rows + 7 {
		users = append(users, newUser(i))
	}
	create(t, s, users...)
	mergeNow(t, s)
	if merged, unique, lookup, inMemory := keyRows(t, s); merged != int64(len(users)) || unique != merged || lookup != 3*merged || inMemory != 0 {
		t.Errorf("%d merged, %d and %d in the tables, %d in memory", merged, unique, lookup, inMemory)
	}
	for _, i := range []int{0, insertUnique.rows - 1, insertUnique.rows, 3*insertUnique.rows + 6} {
		if n := count(t, s, userType, fmt.Sprintf(`externalId eq "user%d"`, i)); n != 1 {
			t.Errorf("user %d is found %d times", i, n)
		}
	}
}

// TestKeysOfACommitThatFails: what was announced to readers is taken back.
func TestKeysOfACommitThatFails(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(0))
	b := &batch{store: s, keys: keys{recent: &s.recent}}
	k := hashUnique("default", "User", storage.Key{Path: "userName", Value: "x"})
	l := hashLookup("default", "User", storage.Key{Path: "externalId", Value: "x"})
	onWriter(t, s, func(c *sqlite.Conn) error {
		b.keys.conn = c
		b.keys.undo(0)
		b.keys.note(keyChange{which: kindUnique, n: 7, unique: k, add: true})
		b.keys.note(keyChange{which: kindLookup, n: 7, lookup: l, add: true})
		before := s.recent.commits.Load()
		b.keys.announce()
		if got := s.recent.findUnique(k); !slices.Equal(got, []int64{7}) {
			t.Errorf("announced: %v", got)
		}
		if got := s.recent.findLookup(l); !slices.Equal(got, []int64{7}) {
			t.Errorf("announced: %v", got)
		}
		if s.recent.commits.Load() == before {
			t.Error("the commit was not counted")
		}
		if err := b.keys.failed(); err != nil {
			t.Error(err)
		}
		if got := s.recent.findUnique(k); len(got) > 0 {
			t.Errorf("taken back: %v", got)
		}
		if got := s.recent.findLookup(l); len(got) > 0 {
			t.Errorf("taken back: %v", got)
		}
		return nil
	})
}

// TestRecentPart compares the keys in memory with a model.
func TestRecentPart(t *testing.T) {
	var p recentPart
	owners, lookup := map[uniqueKey]int64{}, map[lookupKey][]int64{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		u, l, n := uniqueKey{5: byte(r.IntN(20))}, lookupKey(r.IntN(20)), int64(r.IntN(30))
		switch r.IntN(4) {
		case 0:
			p.add(l, n)
			lookup[l] = append(lookup[l], n)
		case 1:
			p.remove(l, n)
			if at := slices.Index(lookup[l], n); at >= 0 {
				lookup[l] = slices.Delete(lookup[l], at, at+1)
			}
		case 2:
			before, had := p.give(u, n)
			if want, is := owners[u]; had != is || before != want {
				t.Fatalf("step %d: given by %d, %v, want %d, %v", i, before, had, want, is)
			}
			owners[u] = n
		case 3:
			p.release(u)
			delete(owners, u)
		}
		if i%5000 == 4999 {
			p.clear()
			clear(owners)
			clear(lookup)
		}
		if n, ok := p.owner(u); ok != (owners[u] != 0) && owners[u] != n {
			t.Fatalf("step %d: the owner is %d, %v, want %d", i, n, ok, owners[u])
		}
		var got []int64
		for _, row := range p.lookup {
			if row.key == l {
				got = append(got, row.n)
			}
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(lookup[l])); !slices.Equal(got, want) {
			t.Fatalf("step %d: key %d has the rows %v, want %v", i, l, got, want)
		}
	}
}

// TestKeysInParts does anything to users while parts of the keys are merged in between, and
// asks for every name afterwards, in the store and after it was opened again.
func TestKeysInParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer func() { s.Close() }()
	r := rand.New(rand.NewPCG(3, 4))
	names := map[string]int{} // and whose they are
	users := map[int]string{}
	versions := map[int]int64{}
	named := func(n int, name string, version int64) *storage.Resource {
		u := newResource(userType, n, map[string]any{"userName": name, "externalId": name, "displayName": "display " + name})
		u.Version, u.Name = version, "display "+name
		return u
	}
	check := func(step int) {
		t.Helper()
		for i := range 60 {
			name := fmt.Sprint("n", i)
			owner, taken := names[name]
			if n := count(t, s, userType, fmt.Sprintf(`userName eq %q`, name)); n == 1 != taken || n > 1 {
				t.Fatalf("step %d: %s is found %d times, taken: %v, by %d", step, name, n, taken, owner)
			}
			if n := count(t, s, userType, fmt.Sprintf(`displayName eq "display %s"`, name)); n == 1 != taken || n > 1 {
				t.Fatalf("step %d: the display name of %s is found %d times, taken: %v", step, name, n, taken)
			}
		}
		if flaws, _ := flawsOf(t, s); len(flaws) > 0 {
			t.Fatalf("step %d: %v", step, flaws)
		}
	}
	next := 0
	for step := range 600 {
		if r.IntN(3) == 0 {
			due := mergeEvery * r.IntN(5*mergeAtOnce)
			onWriter(t, s, func(*sqlite.Conn) error { s.recent.rows = due; return nil })
		}
		fails := r.IntN(8) == 0
		wasNames, wasUsers, wasVersions, seed := names, users, versions, r.Uint64()
		err := write(s, func(tx storage.Tx) error {
			// It may run twice.
			r := rand.New(rand.NewPCG(seed, 0))
			names, users, versions = maps.Clone(wasNames), maps.Clone(wasUsers), maps.Clone(wasVersions)
			for range 1 + r.IntN(4) {
				name := fmt.Sprint("n", r.IntN(60))
				n := next
				if len(users) > 0 && r.IntN(3) > 0 {
					n = slices.Sorted(maps.Keys(users))[r.IntN(len(users))]
				}
				var err error
				var unique *storage.UniqueError
				switch before, there := users[n]; {
				case !there:
					err = tx.Create(named(n, name, 1))
				case r.IntN(3) == 0:
					if err = tx.Delete(held(t, tx, n), someday); err == nil {
						delete(names, before)
						delete(users, n)
					}
					if err != nil {
						return err
					}
					continue
				default:
					err = tx.Update(held(t, tx, n), named(n, name, versions[n]+1))
				}
				if owner, taken := names[name]; errors.As(err, &unique) != (taken && owner != n) {
					return fmt.Errorf("%s, taken %v by %d, for %d: %w", name, taken, owner, n, err)
				}
				if unique != nil {
					continue
				}
				if err != nil {
					return err
				}
				delete(names, users[n])
				names[name], users[n] = n, name
				versions[n]++
				next = max(next, n+1)
			}
			if fails {
				return errRolledBack
			}
			return nil
		})
		if fails {
			names, users, versions = wasNames, wasUsers, wasVersions
			if !errors.Is(err, errRolledBack) {
				t.Fatalf("step %d: %v", step, err)
			}
		} else if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if step%20 == 0 {
			check(step)
		}
		if step%50 == 0 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, path, Options{})
			check(step)
		}
	}
	if n := number(t, s, "SELECT count(DISTINCT n) FROM key_part"); n < 5 {
		t.Errorf("the parts were merged up to %d rows", n)
	}
}

// TestSieve asks for keys that are in the table and for others, while it grows.
func TestSieve(t *testing.T) {
	s := openNew(t, Options{})
	onWriter(t, s, func(c *sqlite.Conn) error {
		var v sieve
		r := rand.New(rand.NewPCG(5, 6))
		random := func() (u uniqueKey) {
			for i := range u {
				u[i] = byte(r.Uint32())
			}
			u[0] = []byte{0, 7, 255}[r.IntN(3)]
			return u
		}
		var keys []uniqueKey
		wrong, asked := 0, 0
		for i := range 5000 {
			u := random()
			v.add(u)
			if err := exec(c, `INSERT INTO unique_key (h, n) VALUES (?, ?)`, u[:], i); err != nil {
				return err
			}
			keys = append(keys, u)
			if err := v.looked(c, u, int64(i)); err != nil {
				return err
			}
			if known := keys[r.IntN(len(keys))]; v.absent(known) {
				t.Fatalf("after %d keys %x is not in the table", i, known)
			}
			if p := &v.parts[u.part()]; p.bits != nil {
				asked++
				other := random()
				other[0] = u[0]
				if !v.absent(other) {
					wrong++
				}
			}
		}
		for _, u := range keys {
			if v.absent(u) {
				t.Errorf("%x is not in the table", u)
			}
		}
		if asked < 4000 || wrong > asked/100 {
			t.Errorf("of %d keys that are not there %d were taken for ones that are", asked, wrong)
		}
		return exec(c, `DELETE FROM unique_key`)
	})
}

// TestKeysWithinACommit gives names away and takes them back in one commit, before
// and after the rows are merged.
func TestKeysWithinACommit(t *testing.T) {
	for _, merged := range []bool{false, true} {
		t.Run(fmt.Sprint("merged ", merged), func(t *testing.T) {
			s := openNew(t, Options{})
			create(t, s, newUser(1), newUser(2))
			if merged {
				mergeNow(t, s)
			}
			rename := func(tx storage.Tx, n int, name string) error {
				prev := held(t, tx, n)
				next := newResource(userType, n, map[string]any{"userName": name, "externalId": name})
				next.Version = prev.Version + 1
				return tx.Update(prev, next)
			}
			if err := write(s, func(tx storage.Tx) error {
				// One goes and comes back, and the other takes its place in between.
				return errors.Join(rename(tx, 1, "away"), rename(tx, 2, "user1"), rename(tx, 2, "user2"), rename(tx, 1, "user1"))
			}); err != nil {
				t.Fatal(err)
			}
			if err := write(s, func(tx storage.Tx) error {
				return errors.Join(rename(tx, 1, "away"), rename(tx, 2, "user1"), rename(tx, 1, "user2"))
			}); err != nil {
				t.Fatal(err)
			}
			check := func() {
				t.Helper()
				for name, want := range map[string]int{"user1": 1, "user2": 1, "away": 0} {
					for _, attr := range []string{"userName", "externalId"} {
						if n := count(t, s, userType, fmt.Sprintf(`%s eq %q`, attr, name)); n != want {
							t.Errorf("%s eq %s finds %d, want %d", attr, name, n, want)
						}
					}
					err := write(s, func(tx storage.Tx) error {
						return errors.Join(tx.Create(newResource(userType, 3, map[string]any{"userName": name})), errRolledBack)
					})
					if _, taken := errors.AsType[*storage.UniqueError](err); taken != (want > 0) {
						t.Errorf("creating %s: %v", name, err)
					}
				}
			}
			check()
			mergeNow(t, s)
			check()
		})
	}
}
