package sqlite

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Keys are hashes, so each falls on a page of its own, and a new user has about
// five: written at once they would cost more than everything else about the
// user together. So the keys of new rows are kept in memory, and in the row
// itself, until there are some mergeRows of them; then they go into the tables in a sorted
// sweep. It is done for a few parts of all hashes at a time, each when it is its turn, so
// that writes never wait for it long.
// What is in memory can be rebuilt from the rows beyond those that key_part names.

const (
	// mergeRows is how many new rows wait for a merge.
	mergeRows = 65536
	// keyParts is how many parts there are, by the first byte of a hash.
	keyParts = 256
	// mergeEvery is how many new rows there are for each part that is merged.
	mergeEvery = mergeRows / keyParts
	// usualKeys is how many keys a row may have to count as one new row: parts in memory must
	// not become long lists of a few rows with thousands of keys each.
	usualKeys = 8
	// mergeAtOnce is how many parts are merged together at least: after a split of pages
	// in the middle of a table a commit looks through SQLite's whole cache.
	mergeAtOnce = 4
)

// newRows returns as how many new rows some count that brought so many keys.
func newRows(rows, added int) int { return max(rows, added/usualKeys) }

// uniqueKey is a key of unique_key, lookupKey one of lookup.
type (
	uniqueKey [16]byte
	lookupKey int64
)

func (u uniqueKey) part() int { return int(u[0]) }
func (l lookupKey) part() int { return int(uint64(l) >> 56) } //nolint:gosec // bits

// rowKeys are all keys of a row.
type rowKeys struct {
	unique []uniqueKey
	lookup []lookupKey
}

// keyHash is what stands in the database for a key. None of its parts contains
// U+0000, so no two keys are written alike before they are hashed.
func keyHash(tenant, typ string, k storage.Key) [sha256.Size]byte {
	b := make([]byte, 0, 160)
	b = append(append(b, tenant...), 0)
	b = append(append(b, typ...), 0)
	b = append(append(b, k.Path...), 0)
	return sha256.Sum256(append(b, k.Value...))
}

func hashUnique(tenant, typ string, k storage.Key) uniqueKey {
	h := keyHash(tenant, typ, k)
	return uniqueKey(h[:])
}

func hashLookup(tenant, typ string, k storage.Key) lookupKey {
	h := keyHash(tenant, typ, k)
	return lookupKey(binary.BigEndian.Uint64(h[:])) //nolint:gosec // any 64 bits will do
}

// index is a storage.Index.
type index struct {
	tenant string
	unique []storage.Key // those that keys has the hashes of
	keys   rowKeys
	packed []byte // keys.pack()
	shadow []byte // JSONB
}

// NewIndex implements storage.Indexer.
func (s *Store) NewIndex(tenant storage.TenantID, t *schemas.ResourceType, attrs map[string]any) storage.Index {
	j := newJSONB()
	unique, equal := storage.Derive(t, attrs, j)
	x := &index{tenant: string(tenant), unique: unique, keys: hashKeys(string(tenant), t.Name, unique, equal), shadow: j.bytes()}
	x.packed = x.keys.pack()
	return x
}

// hashKeys returns the keys of a resource, in the order they are given.
func hashKeys(tenant, typ string, unique, equal []storage.Key) rowKeys {
	k := rowKeys{make([]uniqueKey, len(unique)), make([]lookupKey, len(equal))}
	for i, u := range unique {
		k.unique[i] = hashUnique(tenant, typ, u)
	}
	for i, e := range equal {
		k.lookup[i] = hashLookup(tenant, typ, e)
	}
	if slices.Sort(k.lookup); len(equal) > 1 {
		k.lookup = slices.Compact(k.lookup)
	}
	return k
}

// pack writes the keys as they stand in a row: how many are unique, those, and
// the others.
func (k rowKeys) pack() []byte {
	b := make([]byte, 0, 2+16*len(k.unique)+8*len(k.lookup))
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.unique))) //nolint:gosec // lists have a few thousand values (scim.MaxValues)
	for _, u := range k.unique {
		b = append(b, u[:]...)
	}
	for _, l := range k.lookup {
		b = binary.BigEndian.AppendUint64(b, uint64(l)) //nolint:gosec // bits
	}
	return b
}

func unpackKeys(b []byte) (k rowKeys) {
	if len(b) < 2 {
		return k
	}
	n := int(binary.BigEndian.Uint16(b))
	for b = b[2:]; n > 0 && len(b) >= 16; n, b = n-1, b[16:] {
		k.unique = append(k.unique, uniqueKey(b))
	}
	for ; len(b) >= 8; b = b[8:] {
		k.lookup = append(k.lookup, lookupKey(binary.BigEndian.Uint64(b))) //nolint:gosec // bits
	}
	return k
}

// keyChange is one change to the keys in memory that a batch will make.
type keyChange struct {
	n      int64
	add    bool
	unique uniqueKey
	lookup lookupKey
	which  keyKind
	fresh  bool // a unique key that is added and not in memory
}

type keyKind uint8

const (
	kindUnique keyKind = iota
	kindLookup
	kindRow // a new row
)

// keys is what a batch does to keys: at once in the tables for merged rows, at
// its commit in memory for later ones.
type keys struct {
	recent *recent
	conn   *sqlite.Conn
	sieve  sieve
	// moved are the parts that this transaction has moved to the tables, up to newest.
	moved  [keyParts]bool
	newest int64
	merges int // how many of moved
	// announced says that memory has what a commit adds that has not been made. If it fails,
	// that stays until the next transaction begins: more than there is does readers no harm.
	announced bool
	log       []keyChange
	taken     map[uniqueKey]bool // unique keys in log: added, or removed
	// unique and lookup are room for the keys of a part, to be sorted.
	unique []uniqueRow
	lookup []lookupRow
}

// begin prepares for a transaction, and merges when it is time to: those parts first
// that have waited longest. It comes before any change of the transaction, so that what
// it reads holds whether there will be a commit or not.
func (k *keys) begin(c *sqlite.Conn) (err error) {
	k.conn, k.merges = c, 0
	clear(k.moved[:])
	k.undo(0)
	if k.announced {
		if err := k.recent.load(c); err != nil {
			return err
		}
		k.announced = false
	}
	if err := k.sieve.readIn(c, k.recent); err != nil {
		return err
	}
	due := min(k.recent.rows/mergeEvery, keyParts)
	if due < mergeAtOnce {
		return nil
	}
	if k.newest, err = highest(c, `SELECT coalesce(max(n), 0) FROM resource`); err != nil {
		return err
	}
	for k.merges < due {
		next := -1
		for i := range k.moved {
			if !k.moved[i] && (next < 0 || k.merged(i) < k.merged(next)) {
				next = i
			}
		}
		if err := k.merge(next); err != nil {
			return err
		}
	}
	return nil
}

// merged returns up to which row a part is merged as of this transaction.
func (k *keys) merged(part int) int64 {
	if k.moved[part] {
		return k.newest
	}
	return k.recent.parts[part].merged
}

// merge writes a part of the keys in memory to the tables, in the order of the tables.
func (k *keys) merge(part int) error {
	p := &k.recent.parts[part] // only this goroutine changes it
	k.unique = append(k.unique[:0], p.unique...)
	slices.SortFunc(k.unique, func(a, b uniqueRow) int { return bytes.Compare(a.key[:], b.key[:]) })
	err := insertUnique.run(k.conn, len(k.unique), func(st *sqlite.Stmt, at, i int) {
		st.BindBytes(at, k.unique[i].key[:])
		st.BindInt64(at+1, k.unique[i].n)
	})
	if err != nil {
		return err
	}
	k.lookup = append(k.lookup[:0], p.lookup...)
	slices.SortFunc(k.lookup, func(a, b lookupRow) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		return cmp.Compare(a.n, b.n)
	})
	err = insertLookup.run(k.conn, len(k.lookup), func(st *sqlite.Stmt, at, i int) {
		st.BindInt64(at, int64(k.lookup[i].key))
		st.BindInt64(at+1, k.lookup[i].n)
	})
	if err != nil {
		return err
	}
	k.moved[part] = true
	k.merges++
	return exec(k.conn, `UPDATE key_part SET n = ? WHERE part = ?`, k.newest, part)
}

// announce shows readers the keys that the next commit adds.
func (k *keys) announce() {
	if len(k.log) == 0 {
		return
	}
	r := k.recent
	r.still.Lock()
	defer r.still.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range k.log {
		switch {
		case !c.add:
		case c.fresh:
			p := &r.parts[c.unique.part()]
			p.unique = append(p.unique, uniqueRow{c.unique, c.n})
		case c.which == kindUnique:
			n, had := r.parts[c.unique.part()].give(c.unique, c.n)
			if _, known := r.leaving[c.unique]; had && !known { // who comes after the first never had it
				if r.leaving == nil {
					r.leaving = make(map[uniqueKey]int64)
				}
				r.leaving[c.unique] = n
			}
		case c.which == kindLookup:
			r.parts[c.lookup.part()].add(c.lookup, c.n)
		}
	}
	r.commits.Add(1)
	k.announced = true
}

// committed brings memory up to the commit that has just been made.
func (k *keys) committed() {
	k.announced = false
	r := k.recent
	r.still.Lock()
	defer r.still.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = nil
	if k.merges > 0 {
		// What was there is in the tables now, and the rest begins anew.
		for i := range r.parts {
			if k.moved[i] {
				r.parts[i].clear()
				r.parts[i].merged = k.newest
			}
		}
		if r.rows -= k.merges * mergeEvery; k.merges == keyParts {
			r.rows = 0 // of however many
		}
	}
	rows, added := 0, 0
	for _, c := range k.log {
		if c.add {
			added++
		}
		switch c.which {
		case kindRow:
			rows++
		case kindUnique:
			p := &r.parts[c.unique.part()]
			if !c.add {
				if !k.taken[c.unique] { // nor given to another since
					p.release(c.unique)
				}
			} else if k.moved[c.unique.part()] {
				p.give(c.unique, c.n)
			}
		case kindLookup:
			p := &r.parts[c.lookup.part()]
			if !c.add {
				p.remove(c.lookup, c.n)
			} else if k.moved[c.lookup.part()] {
				p.add(c.lookup, c.n)
			}
		}
	}
	r.rows += newRows(rows, added)
}

func (k *keys) mark() int { return len(k.log) }

// undo forgets what was done since mark.
func (k *keys) undo(mark int) {
	k.log = k.log[:mark]
	clear(k.taken)
	if k.taken == nil {
		k.taken = make(map[uniqueKey]bool)
	}
	for _, c := range k.log {
		if c.which == kindUnique {
			k.taken[c.unique] = c.add
		}
	}
}

func (k *keys) note(c keyChange) {
	if c.which == kindUnique {
		// Memory has nothing of it, or free would have found that: what it has of moved parts, free
		// does not ask for.
		_, known := k.taken[c.unique]
		if c.fresh = c.add && !known && !k.moved[c.unique.part()]; c.add {
			k.sieve.add(c.unique)
		}
		k.taken[c.unique] = c.add
	}
	k.log = append(k.log, c)
}

// free reports whether nobody has a unique key.
func (k *keys) free(u uniqueKey) (bool, error) {
	added, known := k.taken[u]
	if added {
		return false, nil
	}
	if k.sieve.absent(u) {
		return true, nil
	}
	part := u.part()
	if !known && !k.moved[part] {
		if _, ok := k.recent.parts[part].owner(u); ok {
			return false, nil
		}
	}
	st, err := k.conn.Prepare(`SELECT 1 FROM unique_key WHERE h = ?`)
	if err != nil {
		return false, err
	}
	st.BindBytes(1, u[:])
	found, err := st.Step()
	if rerr := st.Reset(); err == nil {
		err = rerr
	}
	k.sieve.looked(u, k.merged(part))
	return !found, err
}

// reindex moves a row from one set of keys to another, touching only what
// differs, and nothing when a unique key is taken. unique are the keys that to has the hashes of.
func (t *tx) reindex(n int64, from, to rowKeys, unique []storage.Key) error {
	k := &t.batch.keys
	for i, u := range without(to.unique, from.unique) {
		free, err := k.free(u)
		if err != nil {
			return err
		}
		if !free {
			return &storage.UniqueError{Attr: unique[i].Path}
		}
	}
	for _, u := range without(to.unique, from.unique) {
		if n > k.merged(u.part()) {
			k.note(keyChange{which: kindUnique, n: n, unique: u, add: true})
			continue
		}
		k.sieve.add(u)
		if err := t.change(`INSERT INTO unique_key (h, n) VALUES (?, ?)`, u[:], n); err != nil {
			return err
		}
	}
	for _, u := range without(from.unique, to.unique) {
		if n > k.merged(u.part()) {
			k.note(keyChange{which: kindUnique, n: n, unique: u})
		} else if err := t.change(`DELETE FROM unique_key WHERE h = ? AND n = ?`, u[:], n); err != nil {
			return err
		}
	}
	for _, l := range without(to.lookup, from.lookup) {
		if n > k.merged(l.part()) {
			k.note(keyChange{which: kindLookup, n: n, lookup: l, add: true})
		} else if err := t.change(`INSERT OR IGNORE INTO lookup (h, n) VALUES (?, ?)`, int64(l), n); err != nil {
			return err
		}
	}
	for _, l := range without(from.lookup, to.lookup) {
		if n > k.merged(l.part()) {
			k.note(keyChange{which: kindLookup, n: n, lookup: l})
		} else if err := t.change(`DELETE FROM lookup WHERE h = ? AND n = ?`, int64(l), n); err != nil {
			return err
		}
	}
	return nil
}

// without yields the keys of a that are not in b. Most rows have a handful; one
// with thousands must not hold up the writer.
func without[K comparable](a, b []K) iter.Seq2[int, K] {
	in := func(k K) bool { return slices.Contains(b, k) }
	if len(b) > 16 {
		set := make(map[K]bool, len(b))
		for _, k := range b {
			set[k] = true
		}
		in = func(k K) bool { return set[k] }
	}
	return func(yield func(int, K) bool) {
		for i, k := range a {
			if !in(k) && !yield(i, k) {
				return
			}
		}
	}
}

// stored returns the keys and the version of a live row of the tenant.
func (t *tx) stored(n int64) (k rowKeys, version int64, err error) {
	err = query(t.conn(), `SELECT version, keys FROM resource WHERE n = ? AND tenant = ? AND deleted IS NULL`, func(st *sqlite.Stmt) error {
		version, k = st.ColumnInt64(0), unpackKeys(columnBytes(st, 1))
		return nil
	}, n, t.tenant)
	return k, version, err
}
