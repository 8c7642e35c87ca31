package sqlite

import (
	"bytes"
	"context"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// derivedAtOnce is how many shadows one transaction derives anew.
const derivedAtOnce = 1000

// derive brings shadows and keys into the form of this program, once a migration has
// noted in stale that there are some in an older one. It is done in portions, each with
// the note of how far it has come: after a sudden end the next start goes on there.
// Unique keys have had one form ever since.
func (s *Store) derive(ctx context.Context, c *sqlite.Conn) error {
	after, stale, err := noted(c, "stale")
	if err != nil || !stale {
		return err
	}
	types := s.opt.Types
	if types == nil {
		if types, err = schemas.Load(); err != nil {
			return err
		}
	}
	rows, err := staleRows(c, types, after)
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		s.opt.Log.Info("what resources are searched by is derived anew", "resources", len(rows))
	}
	for some := range slices.Chunk(rows, derivedAtOnce) {
		if err := upgradeStep(ctx, c, func() error { return s.deriveRows(c, types, some) }); err != nil {
			return err
		}
	}
	return exec(c, `DELETE FROM stale`)
}

// noted returns how far a long upgrade has come, and whether it is under way at all.
func noted(c *sqlite.Conn, table string) (after int64, underWay bool, err error) {
	err = query(c, `SELECT n FROM `+table, func(st *sqlite.Stmt) error {
		after, underWay = st.ColumnInt64(0), true
		return nil
	})
	return after, underWay, err
}

// upgradeStep runs fn in a transaction of its own, as one step of a long upgrade.
func upgradeStep(ctx context.Context, c *sqlite.Conn, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := exec(c, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		_ = exec(c, "ROLLBACK") // the first error tells more
		return err
	}
	if err := exec(c, "COMMIT"); err != nil {
		return err
	}
	if pages, _, err := logPages(c); err != nil || pages < checkpointAt {
		return err
	}
	return exec(c, "PRAGMA wal_checkpoint(PASSIVE)")
}

// staleRows returns the rows beyond one whose shadows may have dateTimes, and those that
// have a manager, in ascending order. For the former it looks into indexes, because
// most stores have none; for the latter it reads the users.
func staleRows(c *sqlite.Conn, types *schemas.Set, after int64) (rows []int64, err error) {
	for _, t := range types.Types() {
		which := ""
		switch {
		case storage.HasTimes(t):
		case storage.ManagerOf(t) != nil:
			which = ` AND instr(r.doc, '"manager":')`
		default:
			continue
		}
		for _, state := range []string{"r.deleted IS NULL", "r.deleted IS NOT NULL"} {
			err := query(c, `SELECT r.n FROM tenant t CROSS JOIN resource r ON r.tenant = t.id AND `+state+` WHERE r.type = ? AND r.n > ?`+which,
				func(st *sqlite.Stmt) error {
					rows = append(rows, st.ColumnInt64(0))
					return nil
				}, t.Name, after)
			if err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(rows)
	return rows, nil
}

func (s *Store) deriveRows(c *sqlite.Conn, types *schemas.Set, rows []int64) error {
	merged, err := mergedRows(c)
	if err != nil {
		return err
	}
	for _, n := range rows {
		if err := s.deriveRow(c, types, n, &merged); err != nil {
			return err
		}
	}
	return exec(c, `UPDATE stale SET n = ?`, rows[len(rows)-1])
}

func (s *Store) deriveRow(c *sqlite.Conn, types *schemas.Set, n int64, merged *[keyParts]int64) error {
	var tenant, typ, id string
	var doc, shadow []byte
	var from rowKeys
	var live bool
	err := query(c, `SELECT tenant, type, id, doc, shadow, keys, deleted IS NULL FROM resource WHERE n = ?`, func(st *sqlite.Stmt) error {
		tenant, typ, id = st.ColumnText(0), st.ColumnText(1), st.ColumnText(2)
		doc, shadow = appendDoc(nil, st, 3, id), columnBytes(st, 4)
		from, live = unpackKeys(columnBytes(st, 5)), st.ColumnBool(6)
		return nil
	}, n)
	if err != nil {
		return err
	}
	rt := types.Type(typ)
	attrs, err := rt.Parse(doc)
	if err != nil { // no read of it succeeds either
		s.opt.Log.Error("a resource cannot be read, and is searched by what it was", "resource_type", typ, "id", id)
		return nil //nolint:nilerr // it is logged, and the others go on
	}
	j := newJSONB()
	_, equal := storage.Derive(rt, attrs, j)
	to := rowKeys{from.unique, hashKeys(tenant, typ, nil, equal).lookup}
	for _, l := range without(to.lookup, from.lookup) {
		if live && n <= merged[l.part()] {
			if err := exec(c, `INSERT OR IGNORE INTO lookup (h, n) VALUES (?, ?)`, int64(l), n); err != nil {
				return err
			}
		}
	}
	now := j.bytes()
	if !storage.HasTimes(rt) { // a tenant may have added to it, which only its own type knows
		now = shadow
	}
	if !bytes.Equal(now, shadow) || !slices.Equal(from.lookup, to.lookup) {
		return exec(c, `UPDATE resource SET shadow = ?, keys = ? WHERE n = ?`, now, to.pack(), n)
	}
	return nil
}
