package sqlite

import (
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// runLength is the size a run of ids is split back to when it reaches twice
// that. It bounds how far a page has to skip.
const runLength = 1024

// tally counts the live resources of each type in runs of neighbouring ids. The
// writer collects the differences of a batch and applies them once before the
// commit.
type tally struct{ diffs []diff }

type diff struct {
	tenant, typ, id string
	by              int64
}

func (t *tally) reset() { t.diffs = t.diffs[:0] }

func (t *tally) add(tenant, typ, id string, by int64) {
	t.diffs = append(t.diffs, diff{tenant, typ, id, by})
}

func (t *tally) mark() int     { return len(t.diffs) }
func (t *tally) undo(mark int) { t.diffs = t.diffs[:mark] }

// flush applies what was collected. Creations have neighbouring ids, so nearly
// always all of them fall into one run.
func (t *tally) flush(c *sqlite.Conn) error {
	slices.SortFunc(t.diffs, func(a, b diff) int {
		if n := strings.Compare(a.tenant, b.tenant); n != 0 {
			return n
		}
		if n := strings.Compare(a.typ, b.typ); n != 0 {
			return n
		}
		return strings.Compare(a.id, b.id)
	})
	for i := 0; i < len(t.diffs); {
		d := t.diffs[i]
		lo, next, err := runOf(c, d)
		if err != nil {
			return err
		}
		var by int64
		for ; i < len(t.diffs) && t.diffs[i].tenant == d.tenant && t.diffs[i].typ == d.typ &&
			(next == "" || t.diffs[i].id < next); i++ {
			by += t.diffs[i].by
		}
		live := int64(0)
		err = query(c, `INSERT INTO tally (tenant, type, lo, live) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET live = live + excluded.live RETURNING live`,
			func(st *sqlite.Stmt) error { live = st.ColumnInt64(0); return nil }, d.tenant, d.typ, lo, by)
		if err != nil {
			return err
		}
		if live >= 2*runLength {
			if err := split(c, d, lo, live); err != nil {
				return err
			}
		}
	}
	return nil
}

// runOf returns where the run that d's id falls into begins, and where the next
// one begins ("" if it is the last).
func runOf(c *sqlite.Conn, d diff) (lo, next string, err error) {
	err = query(c, `SELECT coalesce((SELECT lo FROM tally WHERE tenant = ?1 AND type = ?2 AND lo <= ?3 ORDER BY lo DESC LIMIT 1), ''),
		coalesce((SELECT lo FROM tally WHERE tenant = ?1 AND type = ?2 AND lo > ?3 ORDER BY lo LIMIT 1), '')`,
		func(st *sqlite.Stmt) error {
			lo, next = st.ColumnText(0), st.ColumnText(1)
			return nil
		}, d.tenant, d.typ, d.id)
	return lo, next, err
}

// split cuts a run that has grown too long after its first runLength ids, as
// often as needed.
func split(c *sqlite.Conn, d diff, lo string, live int64) error {
	for live >= 2*runLength {
		cut := ""
		err := query(c, `SELECT id FROM resource WHERE tenant = ? AND type = ? AND deleted IS NULL AND id >= ? ORDER BY id LIMIT 1 OFFSET 0 + ?`,
			func(st *sqlite.Stmt) error { cut = st.ColumnText(0); return nil }, d.tenant, d.typ, lo, runLength)
		if err != nil {
			return err
		}
		live -= runLength
		if err := exec(c, `UPDATE tally SET live = ? WHERE tenant = ? AND type = ? AND lo = ?`, runLength, d.tenant, d.typ, lo); err != nil {
			return err
		}
		if err := exec(c, `INSERT INTO tally (tenant, type, lo, live) VALUES (?, ?, ?, ?)`, d.tenant, d.typ, cut, live); err != nil {
			return err
		}
		lo = cut
	}
	return nil
}

// position finds, without walking the ids themselves, how many resources of a
// type there are, and the run in which the one at offset lies: its beginning
// and how many ids of it come before.
func position(c *sqlite.Conn, tenant, typ string, offset int64) (total int64, lo string, skip int64, err error) {
	skip = offset
	found := false
	err = query(c, `SELECT lo, live FROM tally WHERE tenant = ? AND type = ? ORDER BY lo`, func(st *sqlite.Stmt) error {
		live := st.ColumnInt64(1)
		if !found {
			if skip < live {
				lo, found = st.ColumnText(0), true
			} else {
				skip -= live
			}
		}
		total += live
		return nil
	}, tenant, typ)
	return total, lo, skip, err
}
