package sqlite

import (
	"context"
	"errors"
	"iter"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// display is how a row of membership m with the member x shows the member.
const display = `iif(m.display <> '', m.display, x.name)`

// memberTypes are the resource types a member may have, the usual one first.
var memberTypes = []string{"User", "Group"}

// find returns the row number of a live user or group.
func find(c *sqlite.Conn, tenant, id string) (n int64, err error) {
	for _, typ := range memberTypes {
		err := query(c, `SELECT n FROM resource WHERE tenant = ? AND type = ? AND id = ? AND deleted IS NULL`,
			func(st *sqlite.Stmt) error { n = st.ColumnInt64(0); return nil }, tenant, typ, id)
		if err != nil || n != 0 {
			return n, err
		}
	}
	return 0, storage.ErrNotFound
}

func (t *tx) AddMembers(group *storage.Resource, members []storage.Member) (int, error) {
	added := 0
	for i, m := range members {
		n, err := t.member(i, m)
		if err != nil {
			return added, err
		}
		if err := t.change(`INSERT OR IGNORE INTO membership (grp, id, member, display) VALUES (?, ?, ?, ?)`, group.Ref, m.Value, n, m.Display); err != nil {
			return added, err
		}
		added += t.conn().Changes()
	}
	return added, nil
}

// member finds a member to be added.
func (t *tx) member(i int, m storage.Member) (int64, error) {
	n, err := find(t.conn(), t.tenant, m.Value)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, &storage.UnknownMemberError{Index: i}
	}
	return n, err
}

func (t *tx) RemoveMembers(group *storage.Resource, ids []string) (int, error) {
	removed := 0
	for _, id := range ids {
		_, err := find(t.conn(), t.tenant, id)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return removed, err
		}
		if err := t.change(`DELETE FROM membership WHERE grp = ? AND id = ?`, group.Ref, id); err != nil {
			return removed, err
		}
		removed += t.conn().Changes()
	}
	return removed, nil
}

// SetMembers works in a temporary table, so that its memory does not grow with
// the size of the group.
func (t *tx) SetMembers(group *storage.Resource, members []storage.Member) (int, error) {
	if err := t.removeHidden(group); err != nil {
		return 0, err
	}
	if len(members) == 0 {
		err := t.change(`DELETE FROM membership WHERE grp = ?`, group.Ref)
		return t.conn().Changes(), err
	}
	if err := t.exec(`CREATE TEMP TABLE IF NOT EXISTS wanted (id TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL, display TEXT NOT NULL) WITHOUT ROWID`); err != nil {
		return 0, err
	}
	if err := t.exec(`DELETE FROM temp.wanted`); err != nil {
		return 0, err
	}
	for i, m := range members {
		n, err := t.member(i, m)
		if err != nil {
			return 0, err
		}
		if err := t.exec(`INSERT OR IGNORE INTO temp.wanted (id, n, display) VALUES (?, ?, ?)`, m.Value, n, m.Display); err != nil {
			return 0, err
		}
	}
	if err := t.change(`DELETE FROM membership WHERE grp = ? AND id NOT IN (SELECT id FROM temp.wanted)`, group.Ref); err != nil {
		return 0, err
	}
	changed := t.conn().Changes()
	if err := t.change(`INSERT OR IGNORE INTO membership (grp, id, member, display) SELECT ?, id, n, display FROM temp.wanted`, group.Ref); err != nil {
		return changed, err
	}
	return changed + t.conn().Changes(), nil
}

// removeHidden removes the rows of deleted members of a group whose members are set, or
// restoring one would bring the row back; nobody sees them, so they count for nothing. They
// are found from the deleted where those are few and the members are many.
func (t *tx) removeHidden(group *storage.Resource) error {
	many := t.batch.store.opt.manyMembers
	members, err := highest(t.conn(), `SELECT count(*) FROM (SELECT 1 FROM membership WHERE grp = ? LIMIT 0 + ?)`, group.Ref, many)
	if err != nil {
		return err
	}
	if members == many {
		deleted, err := highest(t.conn(), `SELECT count(*) FROM (SELECT 1 FROM resource x INDEXED BY resource_hidden
			WHERE x.tenant = ? AND x.deleted IS NOT NULL LIMIT 0 + ?)`, t.tenant, many)
		if err != nil {
			return err
		}
		if deleted < many {
			return t.exec(`DELETE FROM membership WHERE grp = ? AND id IN (SELECT x.id FROM resource x INDEXED BY resource_hidden
				WHERE x.tenant = ? AND x.deleted IS NOT NULL)`, group.Ref, t.tenant)
		}
	}
	return t.exec(`DELETE FROM membership WHERE grp = ?
		AND EXISTS (SELECT 1 FROM resource x WHERE x.n = membership.member AND x.deleted IS NOT NULL)`, group.Ref)
}

func (t *tx) EachMember(group *storage.Resource, fn func(storage.Member) error) error {
	return query(t.conn(), `SELECT x.id, x.type, `+display+` FROM membership m JOIN resource x ON x.n = m.member AND x.deleted IS NULL
		WHERE m.grp = (SELECT n FROM resource WHERE n = ? AND tenant = ? AND deleted IS NULL) ORDER BY m.id`, func(st *sqlite.Stmt) error {
		return fn(storage.Member{Value: st.ColumnText(0), Type: st.ColumnText(1), Display: st.ColumnText(2)})
	}, group.Ref, t.tenant)
}

func (t *tx) MembersAmong(group *storage.Resource, ids []string) (list []storage.Member, err error) {
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		err := query(t.conn(), `SELECT x.id, x.type, `+display+` FROM membership m JOIN resource x ON x.n = m.member AND x.deleted IS NULL
			WHERE m.grp = (SELECT n FROM resource WHERE n = ? AND tenant = ? AND deleted IS NULL) AND m.id = ?`, func(st *sqlite.Stmt) error {
			list = append(list, storage.Member{Value: st.ColumnText(0), Type: st.ColumnText(1), Display: st.ColumnText(2)})
			return nil
		}, group.Ref, t.tenant, id)
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Ancestors implements storage.Tx. There is one writer, so nothing that it
// returns changes before the write is over.
func (t *tx) Ancestors(group *storage.Resource) (ids []string, err error) {
	err = query(t.conn(), `WITH RECURSIVE up (n) AS (
			SELECT m.grp FROM resource x JOIN membership m ON m.member = x.n JOIN resource g ON g.n = m.grp AND g.deleted IS NULL
				WHERE x.n = ? AND x.tenant = ? AND x.deleted IS NULL
			UNION
			SELECT m.grp FROM up JOIN membership m ON m.member = up.n JOIN resource g ON g.n = m.grp AND g.deleted IS NULL)
		SELECT g.id FROM up CROSS JOIN resource g ON g.n = up.n`,
		func(st *sqlite.Stmt) error {
			ids = append(ids, st.ColumnText(0))
			return nil
		}, group.Ref, t.tenant)
	return ids, err
}

// MemberOf implements storage.Tx; see Ancestors.
func (t *tx) MemberOf(r *storage.Resource) (groups []*storage.Resource, err error) {
	err = query(t.conn(), `SELECT g.n, g.id, g.version, g.created, g.modified, g.type, g.name FROM resource x
		JOIN membership m ON m.member = x.n JOIN resource g ON g.n = m.grp AND g.deleted IS NULL
		WHERE x.n = ? AND x.tenant = ? AND x.deleted IS NULL ORDER BY g.id`, func(st *sqlite.Stmt) error {
		groups = append(groups, scanGroup(st))
		return nil
	}, r.Ref, t.tenant)
	return groups, err
}

func (t *tx) Remains(typ, id string) error {
	err := storage.ErrNotFound
	if rerr := query(t.conn(), `SELECT 1 FROM resource WHERE tenant = ? AND type = ? AND id = ? AND deleted IS NULL`, func(*sqlite.Stmt) error {
		err = nil
		return nil
	}, t.tenant, typ, id); rerr != nil {
		return rerr
	}
	return err
}

// scanGroup reads a group without its document.
func scanGroup(st *sqlite.Stmt) *storage.Resource {
	g := &storage.Resource{ID: st.ColumnText(1), Type: st.ColumnText(5), Name: st.ColumnText(6)}
	scan(st, g)
	return g
}

// membersAhead is how many members one visit to the database reads.
const membersAhead = 1000

// Members implements storage.Memberships. Each portion is a read of its own, so
// a slow consumer holds no reader.
func (s *Store) Members(ctx context.Context, tenant storage.TenantID, group, after string) iter.Seq2[storage.Member, error] {
	return func(yield func(storage.Member, error) bool) {
		last := after
		for {
			members := make([]storage.Member, 0, membersAhead)
			err := s.read(ctx, func(c *sqlite.Conn) error {
				return query(c, `SELECT m.id, x.type, `+display+` FROM resource g
					JOIN membership m ON m.grp = g.n
					JOIN resource x ON x.n = m.member AND x.deleted IS NULL
					WHERE g.tenant = ? AND g.type = 'Group' AND g.id = ? AND g.deleted IS NULL AND m.id > ?
					ORDER BY m.id LIMIT 0 + ?`, func(st *sqlite.Stmt) error {
					last = st.ColumnText(0)
					members = append(members, storage.Member{Value: last, Type: st.ColumnText(1), Display: st.ColumnText(2)})
					return nil
				}, string(tenant), group, last, membersAhead)
			})
			if err != nil {
				yield(storage.Member{}, err)
				return
			}
			for _, m := range members {
				if !yield(m, nil) {
					return
				}
			}
			if len(members) < membersAhead {
				return
			}
		}
	}
}

// CountMembers implements storage.Memberships.
func (s *Store) CountMembers(ctx context.Context, tenant storage.TenantID, group string, limit int) (int, error) {
	count := 0
	err := s.snapshot(ctx, func(c *sqlite.Conn) error {
		if int64(limit) > s.opt.manyMembers {
			n, err := highest(c, `SELECT n FROM resource WHERE tenant = ? AND type = 'Group' AND id = ? AND deleted IS NULL`, string(tenant), group)
			if err != nil || n == 0 {
				return err
			}
			n, ok, err := s.countMembers(c, string(tenant), []int64{n})
			if count = int(min(n, int64(limit))); err != nil || ok {
				return err
			}
		}
		return query(c, `SELECT count(*) FROM (SELECT 1 FROM resource g
			JOIN membership m ON m.grp = g.n
			JOIN resource x ON x.n = m.member AND x.deleted IS NULL
			WHERE g.tenant = ? AND g.type = 'Group' AND g.id = ? AND g.deleted IS NULL LIMIT 0 + ?)`, func(st *sqlite.Stmt) error {
			count = st.ColumnInt(0)
			return nil
		}, string(tenant), group, limit)
	})
	return count, err
}

// Groups implements storage.Memberships. UNION visits each group once, so a
// cycle of groups ends. CROSS JOIN keeps the planner from walking all resources
// in the order of the result.
func (s *Store) Groups(ctx context.Context, tenant storage.TenantID, members ...string) (map[string][]storage.Membership, error) {
	out := make(map[string][]storage.Membership)
	err := s.snapshot(ctx, func(c *sqlite.Conn) error {
		for _, id := range members {
			n, err := find(c, string(tenant), id)
			if errors.Is(err, storage.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			err = query(c, `WITH RECURSIVE up (n, direct) AS (
					SELECT m.grp, 1 FROM membership m JOIN resource g ON g.n = m.grp AND g.deleted IS NULL WHERE m.member = ?1
					UNION
					SELECT m.grp, 0 FROM up JOIN membership m ON m.member = up.n JOIN resource g ON g.n = m.grp AND g.deleted IS NULL)
				SELECT g.id, g.name, max(up.direct) FROM up CROSS JOIN resource g ON g.n = up.n GROUP BY g.n ORDER BY max(up.direct) DESC, g.id`,
				func(st *sqlite.Stmt) error {
					out[id] = append(out[id], storage.Membership{Group: st.ColumnText(0), Display: st.ColumnText(1), Direct: st.ColumnBool(2)})
					return nil
				}, n)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}
