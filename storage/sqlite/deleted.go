package sqlite

import (
	"context"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

const deletedFrom = ` FROM resource r WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NOT NULL`

// formerGroups selects the live groups that a deleted row was a member of. Without being
// told, SQLite prefers resource_deleted, which covers more and finds less.
const formerGroups = ` FROM resource x INDEXED BY resource_hidden CROSS JOIN membership m ON m.member = x.n CROSS JOIN resource g ON g.n = m.grp AND g.deleted IS NULL
	WHERE x.tenant = ? AND x.id = ? AND x.deleted IS NOT NULL ORDER BY g.id`

// scanDeleted reads resourceColumns, deleted, name and an epoch.
func scanDeleted(st *sqlite.Stmt, typ string) *storage.WholeResource {
	w := &storage.WholeResource{Deleted: columnTime(st, 6)}
	scan(st, &w.Resource)
	w.Type, w.ID, w.Name, w.Epoch = typ, st.ColumnText(1), st.ColumnText(7), st.ColumnInt64(8)
	w.Doc = appendDoc(nil, st, 5, w.ID)
	return w
}

func deleted(c *sqlite.Conn, typ, sql string, args ...any) (list []*storage.WholeResource, err error) {
	err = query(c, sql, func(st *sqlite.Stmt) error {
		list = append(list, scanDeleted(st, typ))
		return nil
	}, args...)
	return list, err
}

func getDeleted(c *sqlite.Conn, tenant, typ, id string) (*storage.WholeResource, error) {
	list, err := deleted(c, typ, `SELECT `+resourceColumns+`, r.deleted, r.name, (SELECT e.n FROM epoch e WHERE e.tenant = r.tenant)
		FROM resource r INDEXED BY resource_hidden WHERE r.tenant = ? AND r.type = ? AND r.id = ? AND r.deleted IS NOT NULL`, tenant, typ, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, storage.ErrNotFound
	}
	return list[0], nil
}

// GetDeleted implements storage.Deleted.
func (s *Store) GetDeleted(ctx context.Context, tenant storage.TenantID, typ, id string) (w *storage.WholeResource, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		w, err = getDeleted(c, string(tenant), typ, id)
		return err
	})
	return w, err
}

// ListDeleted implements storage.Deleted.
func (s *Store) ListDeleted(ctx context.Context, tenant storage.TenantID, typ string, after storage.DeletedPlace, limit int) (list []*storage.WholeResource, err error) {
	sql, args := `SELECT `+resourceColumns+`, r.deleted, r.name, 0`+deletedFrom, []any{string(tenant), typ}
	if !after.At.IsZero() {
		sql, args = sql+` AND (r.deleted, r.id) < (?, ?)`, append(args, after.At, after.ID)
	}
	err = s.read(ctx, func(c *sqlite.Conn) error {
		list, err = deleted(c, typ, sql+` ORDER BY r.deleted DESC, r.id DESC LIMIT 0 + ?`, append(args, limit)...)
		return err
	})
	return list, err
}

// CountDeleted implements storage.Deleted.
func (s *Store) CountDeleted(ctx context.Context, tenant storage.TenantID, typ string) (n int, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT count(*)`+deletedFrom, func(st *sqlite.Stmt) error { n = st.ColumnInt(0); return nil }, string(tenant), typ)
	})
	return n, err
}

// FormerGroups implements storage.Deleted.
func (s *Store) FormerGroups(ctx context.Context, tenant storage.TenantID, id string) (list []storage.Membership, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT g.id, g.name`+formerGroups, func(st *sqlite.Stmt) error {
			list = append(list, storage.Membership{Group: st.ColumnText(0), Display: st.ColumnText(1), Direct: true})
			return nil
		}, string(tenant), id)
	})
	return list, err
}

// GetDeleted implements storage.Tx.
func (t *tx) GetDeleted(typ, id string) (*storage.WholeResource, error) {
	return getDeleted(t.conn(), t.tenant, typ, id)
}

// FormerGroups implements storage.Tx.
func (t *tx) FormerGroups(prev *storage.WholeResource) (groups []*storage.Resource, err error) {
	err = query(t.conn(), `SELECT g.n, g.id, g.version, g.created, g.modified, g.type, g.name`+formerGroups, func(st *sqlite.Stmt) error {
		groups = append(groups, scanGroup(st))
		return nil
	}, t.tenant, prev.ID)
	return groups, err
}

// hidden fails unless prev is a deleted row as it is stored.
func (t *tx) hidden(prev *storage.WholeResource) error {
	if t.batch.store.guest {
		return errGuest
	}
	there := false
	err := query(t.conn(), `SELECT 1 FROM resource WHERE n = ? AND tenant = ? AND version = ? AND deleted = ?`,
		func(*sqlite.Stmt) error { there = true; return nil }, prev.Ref, t.tenant, prev.Version, prev.Deleted)
	if err == nil && !there {
		err = storage.ErrConflict
	}
	return err
}

// Restore implements storage.Tx. The keys come first, as in Create.
func (t *tx) Restore(prev *storage.WholeResource, next *storage.Resource, memberships bool) error {
	if err := t.hidden(prev); err != nil {
		return err
	}
	x, err := t.index(next)
	if err != nil {
		return err
	}
	if err := t.reindex(prev.Ref, rowKeys{}, x.keys, x.unique); err != nil {
		return err
	}
	next.Ref = prev.Ref
	if err := t.change(`UPDATE resource SET deleted = NULL, version = ?, modified = ?, name = ?, keys = ?, doc = CAST(? AS TEXT), shadow = ? WHERE n = ?`,
		next.Version, next.LastModified, next.Name, x.packed, shortDoc(nil, next.Doc, next.ID), x.shadow, prev.Ref); err != nil {
		return err
	}
	t.batch.tally.add(t.tenant, next.Type, next.ID, +1)
	if !memberships {
		return t.change(`DELETE FROM membership WHERE member = ?`, prev.Ref)
	}
	return t.moveGroups(prev.Ref, next.LastModified)
}

// moveGroups gives the groups of a member that comes or goes the next version.
func (t *tx) moveGroups(member int64, at time.Time) error {
	return t.change(`UPDATE resource SET version = version + 1, modified = max(modified, ?)
		WHERE deleted IS NULL AND n IN (SELECT grp FROM membership WHERE member = ?)`, at, member)
}

// Purge implements storage.Tx.
func (t *tx) Purge(prev *storage.WholeResource) (more bool, err error) {
	if err := t.hidden(prev); err != nil {
		return false, err
	}
	if err := t.change(`DELETE FROM membership WHERE grp = ?1 AND id IN (SELECT id FROM membership WHERE grp = ?1 ORDER BY id LIMIT 0 + ?2)`,
		prev.Ref, storage.PurgedAtOnce); err != nil {
		return false, err
	}
	if t.conn().Changes() == storage.PurgedAtOnce {
		return true, nil
	}
	if err := t.change(`DELETE FROM membership WHERE member = ?`, prev.Ref); err != nil {
		return false, err
	}
	if err := t.exec(`UPDATE purged SET n = max(n, ?)`, prev.Ref); err != nil {
		return false, err
	}
	t.batch.purged = true
	return false, t.change(`DELETE FROM resource WHERE n = ?`, prev.Ref)
}
