package sqlite

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Keys are hashes, so each falls on a page of its own, and a new user has about
// five: written at once they would cost more than everything else about the
// user together. So the keys of new rows are kept in memory, and in the row
// itself, until there are mergeRows of them; then they go into the tables in one
// sorted sweep. What is in memory can be rebuilt from the rows beyond keyed.n.

// mergeRows is how many new rows wait for a merge.
const mergeRows = 32768

// uniqueKey is a key of unique_key, lookupKey one of lookup.
type (
	uniqueKey [16]byte
	lookupKey int64
)

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
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.unique))) //nolint:gosec // a schema has few unique attributes
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

// recent holds the keys of rows that are not merged yet. Readers ask it before
// they look into the database. The writer adds keys before a commit and takes keys
// away after it, so that whoever asks finds at least what the database holds then:
// a key too many is harmless, since every row found is compared with the whole
// filter. Who asked before the keys of a commit were added and looked after it
// asks again, and then keeps them as they are until it looks (Store.Query).
type recent struct {
	// still is held by the writer when it changes keys, and by readers who need keys and
	// rows of one moment, from before they ask until they look. Who holds mu as well
	// takes this one first.
	still  sync.RWMutex
	mu     sync.RWMutex
	keyed  int64 // rows up to here are merged
	rows   int   // committed ones beyond that
	unique map[uniqueKey]int64
	lookup rowLists
	// leaving are those rows of unique whose keys the commit under way gives to
	// another row: until it is made, both may be the right one.
	leaving map[uniqueKey]int64
	commits atomic.Int64 // those that added keys, counted before they are made
}

// rowLists maps keys to the rows that have them. It is made of three blocks
// without pointers, because the garbage collector would look at every list of its
// own again and again.
type rowLists struct {
	heads map[lookupKey]int32 // the first link, counted from 1
	links []rowLink
	free  int32 // a link to be used again, 0 for none
}

type rowLink struct {
	n    int64
	next int32 // 0 at the end
}

// clear keeps the blocks: soon they are full again.
func (l *rowLists) clear() {
	if l.heads == nil {
		l.heads = make(map[lookupKey]int32)
	}
	clear(l.heads)
	l.links, l.free = l.links[:0], 0
}

func (l *rowLists) add(k lookupKey, n int64) {
	link := rowLink{n, l.heads[k]}
	at := l.free
	if at == 0 {
		l.links = append(l.links, link)
		at = int32(len(l.links)) //nolint:gosec // a few per row, and rows are merged by the thousand
	} else {
		l.free, l.links[at-1] = l.links[at-1].next, link
	}
	l.heads[k] = at
}

func (l *rowLists) remove(k lookupKey, n int64) {
	for at, before := l.heads[k], int32(0); at != 0; before, at = at, l.links[at-1].next {
		link := &l.links[at-1]
		if link.n != n {
			continue
		}
		switch {
		case before != 0:
			l.links[before-1].next = link.next
		case link.next != 0:
			l.heads[k] = link.next
		default:
			delete(l.heads, k)
		}
		*link = rowLink{next: l.free}
		l.free = at
		return
	}
}

// all yields the rows that have a key.
func (l *rowLists) all(k lookupKey) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for at := l.heads[k]; at != 0 && yield(l.links[at-1].n); at = l.links[at-1].next {
		}
	}
}

func (r *recent) clear() {
	r.rows = 0
	if r.unique == nil {
		r.unique = make(map[uniqueKey]int64)
	}
	clear(r.unique)
	r.lookup.clear()
}

// load rebuilds the keys in memory from the rows that are not merged.
func (r *recent) load(c *sqlite.Conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	err := query(c, `SELECT n FROM keyed`, func(st *sqlite.Stmt) error {
		r.keyed = st.ColumnInt64(0)
		return nil
	})
	if err != nil {
		return err
	}
	return query(c, `SELECT n, keys, deleted IS NULL FROM resource WHERE n > ?`, func(st *sqlite.Stmt) error {
		r.rows++
		if !st.ColumnBool(2) {
			return nil
		}
		b := make([]byte, st.ColumnLen(1))
		st.ColumnBytes(1, b)
		k, n := unpackKeys(b), st.ColumnInt64(0)
		for _, u := range k.unique {
			r.unique[u] = n
		}
		for _, l := range k.lookup {
			r.lookup.add(l, n)
		}
		return nil
	}, r.keyed)
}

// findUnique returns the row that has a key and the one that is about to.
func (r *recent) findUnique(k uniqueKey) (rows []int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, m := range []map[uniqueKey]int64{r.unique, r.leaving} {
		if n, ok := m[k]; ok {
			rows = append(rows, n)
		}
	}
	return rows
}

func (r *recent) findLookup(k lookupKey) []int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(r.lookup.all(k))
}

// keyChange is one change to the keys in memory that a batch will make.
type keyChange struct {
	n      int64
	add    bool
	unique uniqueKey
	lookup lookupKey
	which  keyKind
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
	keyed  int64 // as of this transaction
	merged bool  // this transaction has moved everything in recent to the tables
	log    []keyChange
	taken  map[uniqueKey]bool // unique keys in log: added, or removed
}

// begin prepares for a transaction, and merges when it is time to.
func (k *keys) begin(c *sqlite.Conn) error {
	k.conn, k.keyed, k.merged = c, k.recent.keyed, false
	k.undo(0)
	if k.recent.rows < mergeRows {
		return nil
	}
	k.merged = true
	return k.merge()
}

// merge writes the keys in memory to the tables, in the order of the tables.
func (k *keys) merge() error {
	r := k.recent // only this goroutine changes it
	uniques := make([]uniqueKey, 0, len(r.unique))
	for u := range r.unique {
		uniques = append(uniques, u)
	}
	slices.SortFunc(uniques, func(a, b uniqueKey) int { return bytes.Compare(a[:], b[:]) })
	err := insertUnique.run(k.conn, len(uniques), func(st *sqlite.Stmt, at, i int) {
		st.BindBytes(at, uniques[i][:])
		st.BindInt64(at+1, r.unique[uniques[i]])
	})
	if err != nil {
		return err
	}
	type entry struct{ h, n int64 }
	entries := make([]entry, 0, 4*len(uniques))
	for l := range r.lookup.heads {
		for n := range r.lookup.all(l) {
			entries = append(entries, entry{int64(l), n})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(cmp.Compare(a.h, b.h), cmp.Compare(a.n, b.n)) })
	err = insertLookup.run(k.conn, len(entries), func(st *sqlite.Stmt, at, i int) {
		st.BindInt64(at, entries[i].h)
		st.BindInt64(at+1, entries[i].n)
	})
	if err != nil {
		return err
	}
	return query(k.conn, `UPDATE keyed SET n = (SELECT coalesce(max(n), 0) FROM resource) RETURNING n`, func(st *sqlite.Stmt) error {
		k.keyed = st.ColumnInt64(0)
		return nil
	})
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
		case c.which == kindUnique:
			if n, ok := r.unique[c.unique]; ok && n != c.n {
				if r.leaving == nil {
					r.leaving = make(map[uniqueKey]int64)
				}
				r.leaving[c.unique] = n
			}
			r.unique[c.unique] = c.n
		case c.which == kindLookup:
			r.lookup.add(c.lookup, c.n)
		}
	}
	r.commits.Add(1)
}

// failed takes back what was announced: the rows say what holds.
func (k *keys) failed() error {
	k.recent.still.Lock()
	defer k.recent.still.Unlock()
	k.recent.mu.Lock()
	k.recent.leaving = nil
	k.recent.mu.Unlock()
	return k.recent.load(k.conn)
}

// committed brings memory up to the commit that has just been made.
func (k *keys) committed() {
	r := k.recent
	r.still.Lock()
	defer r.still.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = nil
	if k.merged {
		// What was there is in the tables now, and the rest begins anew.
		r.keyed = k.keyed
		r.clear()
	}
	for _, c := range k.log {
		switch {
		case c.which == kindRow:
			r.rows++
		case c.which == kindUnique && c.add:
			if k.merged {
				r.unique[c.unique] = c.n
			}
		case c.which == kindUnique:
			if !k.taken[c.unique] { // nor given to another since
				delete(r.unique, c.unique)
			}
		case c.add:
			if k.merged {
				r.lookup.add(c.lookup, c.n)
			}
		default:
			r.lookup.remove(c.lookup, c.n)
		}
	}
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
	k.log = append(k.log, c)
	if c.which == kindUnique {
		k.taken[c.unique] = c.add
	}
}

// free reports whether nobody has a unique key.
func (k *keys) free(u uniqueKey) (bool, error) {
	added, known := k.taken[u]
	if added {
		return false, nil
	}
	if !known && !k.merged {
		if _, ok := k.recent.unique[u]; ok {
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
	return !found, err
}

// reindex moves a row from one set of keys to another, touching only what
// differs. unique are the keys that to has the hashes of.
func (t *tx) reindex(n int64, from, to rowKeys, unique []storage.Key) error {
	k := &t.batch.keys
	later := n > k.keyed
	for i, u := range without(to.unique, from.unique) {
		free, err := k.free(u)
		if err != nil {
			return err
		}
		if !free {
			return &storage.UniqueError{Attr: unique[i].Path}
		}
		if later {
			k.note(keyChange{which: kindUnique, n: n, unique: u, add: true})
		} else if err := t.change(`INSERT INTO unique_key (h, n) VALUES (?, ?)`, u[:], n); err != nil {
			return err
		}
	}
	for _, u := range without(from.unique, to.unique) {
		if later {
			k.note(keyChange{which: kindUnique, n: n, unique: u})
		} else if err := t.change(`DELETE FROM unique_key WHERE h = ? AND n = ?`, u[:], n); err != nil {
			return err
		}
	}
	for _, l := range without(to.lookup, from.lookup) {
		if later {
			k.note(keyChange{which: kindLookup, n: n, lookup: l, add: true})
		} else if err := t.change(`INSERT OR IGNORE INTO lookup (h, n) VALUES (?, ?)`, int64(l), n); err != nil {
			return err
		}
	}
	for _, l := range without(from.lookup, to.lookup) {
		if later {
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
		version = st.ColumnInt64(0)
		b := make([]byte, st.ColumnLen(1))
		st.ColumnBytes(1, b)
		k = unpackKeys(b)
		return nil
	}, n, t.tenant)
	return k, version, err
}
