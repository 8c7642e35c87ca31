package sqlite

import (
	"slices"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"
)

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
	still sync.RWMutex
	mu    sync.RWMutex
	parts [keyParts]recentPart
	rows  int // new ones, less mergeEvery for each part that was merged
	// leaving are those rows of unique keys that the commit under way gives to
	// another row: until it is made, both may be the right one.
	leaving map[uniqueKey]int64
	commits atomic.Int64 // those that added keys, counted before they are made
}

// recentPart is the part of the keys in memory whose hashes begin alike: so few that
// to look through them takes no longer than to ask a map, and that the writer has much
// less to do to add one.
type recentPart struct {
	merged int64 // rows up to here have these keys in the tables
	unique []uniqueRow
	lookup []lookupRow
}

type uniqueRow struct {
	key uniqueKey
	n   int64
}

type lookupRow struct {
	key lookupKey
	n   int64
}

// clear keeps the room: soon it is full again.
func (p *recentPart) clear() { p.unique, p.lookup = p.unique[:0], p.lookup[:0] }

// find returns the index in unique of a key, or -1.
func (p *recentPart) find(k uniqueKey) int {
	for i := range p.unique {
		if p.unique[i].key == k {
			return i
		}
	}
	return -1
}

// owner returns the row of a unique key.
func (p *recentPart) owner(k uniqueKey) (n int64, ok bool) {
	if i := p.find(k); i >= 0 {
		return p.unique[i].n, true
	}
	return 0, false
}

// give makes a row the owner of a unique key, and returns the one before it.
func (p *recentPart) give(k uniqueKey, n int64) (before int64, had bool) {
	if i := p.find(k); i >= 0 {
		before, p.unique[i].n = p.unique[i].n, n
		return before, true
	}
	p.unique = append(p.unique, uniqueRow{k, n})
	return 0, false
}

func (p *recentPart) release(k uniqueKey) {
	if i := p.find(k); i >= 0 {
		p.unique = dropAt(p.unique, i)
	}
}

func (p *recentPart) add(k lookupKey, n int64) { p.lookup = append(p.lookup, lookupRow{k, n}) }

func (p *recentPart) remove(k lookupKey, n int64) {
	if i := slices.Index(p.lookup, lookupRow{k, n}); i >= 0 {
		p.lookup = dropAt(p.lookup, i)
	}
}

// dropAt removes an element of a list whose order is of no matter.
func dropAt[T any](list []T, i int) []T {
	last := len(list) - 1
	list[i] = list[last]
	return list[:last]
}

// mergedRows returns up to which row the keys of each part are in the tables.
func mergedRows(c *sqlite.Conn) (merged [keyParts]int64, err error) {
	err = query(c, `SELECT part, n FROM key_part`, func(st *sqlite.Stmt) error {
		merged[st.ColumnInt64(0)] = st.ColumnInt64(1)
		return nil
	})
	return merged, err
}

// load rebuilds the keys in memory from the rows that are not merged. What is there
// stays until they are complete.
func (r *recent) load(c *sqlite.Conn) error {
	merged, err := mergedRows(c)
	if err != nil {
		return err
	}
	parts, rows, added := new([keyParts]recentPart), 0, 0
	for i := range parts {
		parts[i].merged = merged[i]
	}
	last := slices.Max(merged[:])
	err = query(c, `SELECT n, keys, deleted IS NULL FROM resource WHERE n > ?`, func(st *sqlite.Stmt) error {
		n := st.ColumnInt64(0)
		k := unpackKeys(columnBytes(st, 1))
		if n > last {
			rows++
			added += len(k.unique) + len(k.lookup)
		}
		if !st.ColumnBool(2) {
			return nil
		}
		for _, u := range k.unique {
			if p := &parts[u.part()]; n > p.merged {
				p.give(u, n)
			}
		}
		for _, l := range k.lookup {
			if p := &parts[l.part()]; n > p.merged {
				p.add(l, n)
			}
		}
		return nil
	}, slices.Min(merged[:]))
	if err != nil {
		return err
	}
	r.still.Lock()
	defer r.still.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts, r.rows, r.leaving = *parts, newRows(rows, added), nil
	return nil
}

// findUnique returns the row that has a key and the one that is about to.
func (r *recent) findUnique(k uniqueKey) (rows []int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n, ok := r.parts[k.part()].owner(k); ok {
		rows = append(rows, n)
	}
	if n, ok := r.leaving[k]; ok {
		rows = append(rows, n)
	}
	return rows
}

func (r *recent) findLookup(k lookupKey) (rows []int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, l := range r.parts[k.part()].lookup {
		if l.key == k {
			rows = append(rows, l.n)
		}
	}
	return rows
}
