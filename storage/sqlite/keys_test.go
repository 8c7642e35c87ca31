package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
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

// keyRows tells up to which row all keys are merged, how many are in the tables, and how
// many unique ones in memory.
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
	onWriter(t, s, func(*sqlite.Conn) error { s.recent.rows = 3 * mergeRows; return nil }) // as if there had been so many
	onWriter(t, s, func(*sqlite.Conn) error { return nil })
	onWriter(t, s, func(*sqlite.Conn) error {
		if s.recent.rows != 0 {
			t.Errorf("%d rows are left to be merged when all were", s.recent.rows)
		}
		return nil
	})
	if merged, unique, lookup, inMemory := keyRows(t, s); merged != int64(len(users)) || unique != merged || lookup != 3*merged || inMemory != 0 {
		t.Errorf("%d merged, %d and %d in the tables, %d in memory", merged, unique, lookup, inMemory)
	}
	for _, i := range []int{0, insertUnique.rows - 1, insertUnique.rows, 3*insertUnique.rows + 6} {
		if n := count(t, s, userType, fmt.Sprintf(`externalId eq "user%d"`, i)); n != 1 {
			t.Errorf("user %d is found %d times", i, n)
		}
	}
}

// TestNamesPassOnWhileOthersRead: names go from hand to hand, several times in a commit, of
// users that come, go, come back and are purged, while parts are merged and some commits
// fail. Whoever asks meanwhile finds each name once.
func TestNamesPassOnWhileOthersRead(t *testing.T) {
	s := openNew(t, Options{})
	onWriter(t, s, func(c *sqlite.Conn) error {
		return exec(c, `CREATE TABLE fault (id TEXT REFERENCES tenant DEFERRABLE INITIALLY DEFERRED)`)
	})
	const names = 6
	var owners [names]int
	for i := range owners {
		owners[i] = i
		create(t, s, newUser(i))
	}
	ctx, end := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer end()
	for i, path := range []string{"userName", "externalId", "displayName"} {
		readers.Go(func() {
			for name := i; ctx.Err() == nil && !t.Failed(); name = (name + 1) % names {
				if n := count(t, s, userType, fmt.Sprintf(`%s eq "user%d"`, path, name)); n != 1 {
					t.Errorf("%s of user %d is found %d times", path, name, n)
				}
			}
		})
	}
	seed, failed := rand.New(rand.NewPCG(7, 8)), 0
	for step := 0; step < 200 && !t.Failed(); step++ {
		before, seed, fails := owners, seed.Uint64(), step%9 == 8
		err := write(s, func(tx storage.Tx) error {
			r := rand.New(rand.NewPCG(seed, 0)) // it may run twice
			owners = before
			if r.IntN(3) == 0 {
				tx.(*tx_).batch.keys.recent.rows = mergeEvery * r.IntN(5*mergeAtOnce) // before the next one
			}
			for hand := range 1 + r.IntN(6) {
				name, next := r.IntN(2), r.IntN(2*names)
				if slices.Contains(owners[:], next) {
					continue
				}
				var err error
				if prev := held(t, tx, owners[name]); r.IntN(3) == 0 {
					err = tx.Delete(prev, someday)
				} else {
					err = called(tx, r, owners[name], fmt.Sprintf("spare %d-%d", step, hand))
				}
				if err = errors.Join(err, called(tx, r, next, fmt.Sprint("user", name))); err != nil {
					return err
				}
				owners[name] = next
			}
			if fails {
				return tx.(*tx_).exec(`INSERT INTO fault (id) VALUES ('no tenant')`)
			}
			return nil
		})
		switch {
		case fails && errors.Is(err, storage.ErrUnavailable):
			owners = before
			failed++
		case err != nil:
			t.Errorf("step %d: %v", step, err)
		}
	}
	if failed == 0 {
		t.Error("no commit failed")
	}
	mergeNow(t, s)
	if flaws, _ := flawsOf(t, s); len(flaws) > 0 {
		t.Error(flaws)
	}
}

// called gives user n a name, whether there is one, there was one, or not.
func called(tx storage.Tx, r *rand.Rand, n int, name string) error {
	next := newResource(userType, n, map[string]any{"userName": name, "externalId": name, "displayName": name})
	prev, err := tx.Get(next.Type, next.ID)
	if err == nil {
		next.Version = prev.Version + 1
		return tx.Update(prev, next)
	}
	gone, err := tx.GetDeleted(next.Type, next.ID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return tx.Create(next)
	case err != nil:
		return err
	case r.IntN(2) == 0:
		next.Version = gone.Version + 1
		return tx.Restore(gone, next, true)
	}
	_, err = tx.Purge(gone)
	return errors.Join(err, tx.Create(next))
}

// TestRowsWithManyKeys: they are merged sooner, whether they have just been written or
// were there at the start.
func TestRowsWithManyKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer func() { s.Close() }()
	merged := func() int64 { return number(t, s, `SELECT count(*) FROM key_part WHERE n > 0`) }
	heavy := func(n int) *storage.Resource {
		var emails []any
		for i := range 4000 {
			emails = append(emails, map[string]any{"value": fmt.Sprintf("%d-%d@x.example", n, i)})
		}
		return newResource(userType, n, map[string]any{"userName": fmt.Sprint("u", n), "emails": emails})
	}
	create(t, s, heavy(1), heavy(2))
	if n := merged(); n != 0 {
		t.Fatalf("%d parts are merged at first", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	create(t, s, heavy(3), newUser(4))
	create(t, s, newUser(5))
	if n := merged(); n != 3*4000/usualKeys/mergeEvery {
		t.Errorf("%d parts are merged, of three rows with 4000 keys each", n)
	}
	create(t, s, newUser(6))
	if flaws, _ := flawsOf(t, s); len(flaws) > 0 {
		t.Error(flaws)
	}
}

// TestKeysOfACommitThatFails: what was announced to readers is taken back, though not while
// the rows cannot be read.
func TestKeysOfACommitThatFails(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(0), newUser(1))
	onWriter(t, s, func(c *sqlite.Conn) error {
		return exec(c, `CREATE TABLE fault (id TEXT REFERENCES tenant DEFERRABLE INITIALLY DEFERRED)`)
	})
	commits := s.recent.commits.Load()
	rename := func(tx storage.Tx) error {
		next := newResource(userType, 0, map[string]any{"userName": "user7", "externalId": "user7"})
		next.Version = 2
		return tx.Update(held(t, tx, 0), next)
	}
	err := write(s, func(tx storage.Tx) error {
		return errors.Join(rename(tx), tx.Create(newUser(2)), tx.(*tx_).exec(`INSERT INTO fault (id) VALUES ('no tenant')`))
	})
	if !errors.Is(err, storage.ErrUnavailable) || s.recent.commits.Load() == commits {
		t.Fatalf("got %v, want ErrUnavailable when the commit was announced", err)
	}
	check := func(when string) {
		t.Helper()
		for n, want := range []int{1, 1, 0, 0, 0, 0, 0, 0} {
			for _, attr := range []string{"userName", "externalId"} {
				if got := count(t, s, userType, fmt.Sprintf(`%s eq "user%d"`, attr, n)); got != want {
					t.Errorf("%s: %s of user %d is found %d times, want %d", when, attr, n, got, want)
				}
			}
		}
	}
	check("at once")
	call := func(from, to string) {
		t.Helper()
		raw(t, s.path, func(c *sqlite.Conn) {
			if err := exec(c, `ALTER TABLE resource RENAME COLUMN `+from+` TO `+to); err != nil {
				t.Fatal(err)
			}
		})
	}
	call("keys", "unreadable")
	if err := write(s, func(storage.Tx) error { return nil }); err == nil {
		t.Error("a write succeeded without knowing the keys")
	}
	check("when a write could not read the rows")
	call("unreadable", "keys")
	create(t, s, newUser(2))
	if err := write(s, rename); err != nil {
		t.Error(err)
	}
	mergeNow(t, s)
	if flaws, _ := flawsOf(t, s); len(flaws) > 0 {
		t.Error(flaws)
	}
}

// TestAnnouncedOwners: until a commit is made, whoever has a unique key is found, through
// however many hands it goes.
func TestAnnouncedOwners(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(1))
	u := hashUnique("default", "User", storage.Key{Path: "userName", Value: "user1"})
	err := write(s, func(tx storage.Tx) error {
		k := &tx.(*tx_).batch.keys
		for _, c := range []keyChange{{n: 1}, {n: 8, add: true}, {n: 8}, {n: 9, add: true}} {
			c.unique = u
			k.note(c)
		}
		k.announce()
		if got := s.recent.findUnique(u); !slices.Contains(got, 1) || !slices.Contains(got, 9) {
			t.Errorf("the rows %v, want 1 and 9", got)
		}
		return errRolledBack
	})
	if !errors.Is(err, errRolledBack) {
		t.Fatal(err)
	}
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
		want, is := owners[u]
		if n, ok := p.owner(u); ok != is || n != want {
			t.Fatalf("step %d: the owner is %d, %v, want %d, %v", i, n, ok, want, is)
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
					if err = tx.Delete(held(t, tx, n), someday); err != nil {
						return err
					}
					delete(names, before)
					delete(users, n)
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

// TestSieve asks for keys that are in the table or in memory, and for others, while they grow.
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
		recent, wrong, asked := new(recent), 0, 0
		for i := range 5000 {
			u := random()
			v.add(u)
			if i%2 == 0 {
				recent.parts[u.part()].give(u, int64(i))
			} else if err := exec(c, `INSERT INTO unique_key (h, n) VALUES (?, ?)`, u[:], i); err != nil {
				return err
			}
			keys = append(keys, u)
			v.looked(u, int64(i))
			if err := v.readIn(c, recent); err != nil {
				return err
			}
			if known := keys[r.IntN(len(keys))]; v.absent(known) {
				t.Fatalf("after %d keys %x is taken for absent", i, known)
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
				t.Errorf("%x is taken for absent", u)
			}
		}
		if asked < 4000 || wrong > asked/100 {
			t.Errorf("of %d keys that are not there %d were taken for ones that are", asked, wrong)
		}
		return exec(c, `DELETE FROM unique_key`)
	})
}

// TestSieveWhenAWriteFails: a key that was deleted for a while is not taken for absent.
func TestSieveWhenAWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer func() { s.Close() }()
	var names []string // with keys of one part
	for i := 0; len(names) < 3; i++ {
		name := fmt.Sprint("n", i)
		if hashUnique("default", "User", storage.Key{Path: "userName", Value: name}).part() == 7 {
			names = append(names, name)
		}
	}
	user := func(n int) *storage.Resource { return newResource(userType, n, map[string]any{"userName": names[n]}) }
	create(t, s, user(0))
	mergeNow(t, s)
	if err := s.Close(); err != nil { // what was read in is forgotten
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if err := write(s, func(tx storage.Tx) error {
		return errors.Join(tx.Delete(held(t, tx, 0), someday), tx.Create(user(1)), errRolledBack)
	}); !errors.Is(err, errRolledBack) {
		t.Fatal(err)
	}
	create(t, s, user(2))
	err := write(s, func(tx storage.Tx) error {
		return tx.Create(newResource(userType, 3, map[string]any{"userName": names[0]}))
	})
	if _, taken := errors.AsType[*storage.UniqueError](err); !taken {
		t.Errorf("a name was given twice: %v", err)
	}
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

// TestGuestLooksUp: a command beside a server finds somebody by name without looking at
// everybody, whether or not the keys are in the tables, and in its own tenant.
func TestGuestLooksUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer s.Close()
	create(t, s, newUser(1), newUser(2))
	mergeNow(t, s)
	create(t, s, newUser(3), newGroup(4))
	other := newResource(userType, 5, map[string]any{"userName": "user5", "externalId": "user5", "emails": []any{map[string]any{"value": "user5@x.example"}}})
	other.Index = s.NewIndex("acme", userType, map[string]any{"userName": "user5", "externalId": "user5", "emails": []any{map[string]any{"value": "user5@x.example"}}})
	if err := s.Write(t.Context(), "acme", func(tx storage.Tx) error {
		return errors.Join(tx.Create(other), tx.Audit(storage.AuditEntry{At: someday, Actor: "test", Action: "user.create", Type: "User", ID: other.ID}))
	}); err != nil {
		t.Fatal(err)
	}
	guest := open(t, path, Options{Guest: true})
	defer guest.Close()
	for _, c := range []struct {
		rt     *schemas.ResourceType
		filter string
		want   int
	}{
		{userType, `userName eq "user%d"`, 3}, {userType, `externalId eq "user%d"`, 3}, {userType, `emails.value eq "user%d@x.example"`, 3}, {groupType, `displayName eq "group%d"`, 1},
	} {
		found := 0
		for n := 1; n <= 5; n++ {
			q := storage.Query{Type: c.rt.Name, Filter: parse(t, c.rt, fmt.Sprintf(c.filter, n)), StartIndex: 1, Count: 10}
			if sel := guest.compile("default", q); sel.wide || !sel.seeks {
				t.Errorf("%s is a scan", c.filter)
			}
			p, err := guest.Query(t.Context(), storage.DefaultTenant, q)
			if err != nil {
				t.Fatal(err)
			}
			found += p.TotalResults
			plan := strings.Join(planner(t, guest)(pageSQL(guest, q)[0]), "\n\t")
			if at := scans.FindString(plan); at != "" || !strings.Contains(plan, "SEARCH resource USING INTEGER PRIMARY KEY (rowid>?)") {
				t.Errorf("%s:\n\t%s", c.filter, plan)
			}
		}
		if found != c.want {
			t.Errorf("%s: found %d, want %d", c.filter, found, c.want)
		}
	}
}
