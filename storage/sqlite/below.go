package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// Who is in a group, directly or through others, in the order of ids. A group may have a
// million members, so a page reads about as many memberships as it shows.

// mostMerged is of how many groups the members are merged. Who is in more is
// gathered first.
const mostMerged = 50

// groupsBelow returns the row number of a group, and of those inside it.
func (s *Store) groupsBelow(ctx context.Context, c *sqlite.Conn, tenant, id string) (groups []int64, err error) {
	note := noting(func(st *sqlite.Stmt) { groups = append(groups, st.ColumnInt64(0)) })
	if err := query(c, `SELECT n FROM resource WHERE tenant = ? AND type = 'Group' AND id = ? AND deleted IS NULL`, note, tenant, id); err != nil {
		return nil, err
	}
	all, _, _, err := position(c, tenant, "Group", 0)
	if err != nil {
		return nil, err
	}
	seen := map[int64]bool{}
	err = interruptibly(ctx, c, func() error {
		for i := 0; i < len(groups); i++ {
			if seen[groups[i]] {
				continue
			}
			seen[groups[i]] = true
			// Which members are groups is found among the members or among the groups,
			// whichever are fewer.
			n, err := highest(c, `SELECT count(*) FROM (SELECT 1 FROM membership WHERE grp = ? LIMIT 0 + ?)`, groups[i], all+1)
			if err != nil {
				return err
			}
			if n <= all {
				err = query(c, `SELECT x.n FROM membership m CROSS JOIN resource x ON x.n = m.member
					WHERE m.grp = ? AND x.type = 'Group' AND x.deleted IS NULL`, note, groups[i])
			} else {
				err = query(c, `SELECT x.n FROM resource x INDEXED BY resource_live WHERE x.tenant = ? AND x.type = 'Group' AND x.deleted IS NULL
					AND EXISTS (SELECT 1 FROM membership m WHERE m.grp = ? AND m.id = x.id)`, note, tenant, groups[i])
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	distinct := groups[:0]
	for _, n := range groups {
		if seen[n] {
			distinct = append(distinct, n)
			delete(seen, n)
		}
	}
	return distinct, nil
}

// below returns the selection of those in the groups, one of which is s.under and the
// others are inside it.
func (s selection) below(groups []int64, q storage.Query) selection {
	if q.SortBy != nil || len(groups) == 0 || len(groups) > mostMerged {
		s.from = `(SELECT DISTINCT member AS n FROM membership WHERE grp IN (SELECT value FROM json_each(?))) u CROSS JOIN ` + s.from + ` AND r.n = u.n`
		s.args = append([]any{jsonInts(groups)}, s.args...)
		return s
	}
	// The members of each group lie in order. What SQLite does with an ORDER BY outside
	// is to gather them all and sort; a subquery with a LIMIT keeps its own.
	dir, behind, args := "", "", []any(nil)
	if q.Descending {
		dir = " DESC"
	}
	if q.After != nil {
		behind = " AND m.id > ?"
		if q.Descending {
			behind = " AND m.id < ?"
		}
		args = slices.Repeat([]any{q.After.ID}, len(groups))
	}
	s.from = "(" + membersOf(groups, "m.id AS id, m.member AS n", behind) + " ORDER BY 1" + dir + " LIMIT -1) u CROSS JOIN " + s.from + " AND r.n = u.n"
	s.args = append(args, s.args...)
	s.inOrder = true
	if s.all && q.Type == "User" {
		s.groups = groups
	}
	return s
}

// membersOf selects columns of the memberships of groups, those that are alike once.
func membersOf(groups []int64, columns, and string) string {
	var sql strings.Builder
	for i, n := range groups {
		if i > 0 {
			sql.WriteString(" UNION ")
		}
		fmt.Fprintf(&sql, "SELECT %s FROM membership m WHERE m.grp = %d%s", columns, n, and)
	}
	return sql.String()
}

// manyMembers is from how many memberships on those of deleted members are counted in
// the place of the others: they are few, and each costs a look at a row.
const manyMembers = 10_000

// countMembers counts the live members of live groups, each once, or returns false where
// it would not be faster than looking at each.
func (s *Store) countMembers(c *sqlite.Conn, tenant string, groups []int64) (total int64, ok bool, err error) {
	count := func(sql string, args ...any) (n int64, err error) {
		err = transient(c, sql, func(st *sqlite.Stmt) error { n = st.ColumnInt64(0); return nil }, args)
		return n, err
	}
	total, err = count("SELECT count(*) FROM (" + membersOf(groups, "m.id", "") + " ORDER BY 1 LIMIT -1)")
	if err != nil || total < s.opt.manyMembers {
		return 0, false, err
	}
	const deleted = ` FROM resource x INDEXED BY resource_hidden WHERE x.tenant = ? AND x.deleted IS NOT NULL`
	if n, err := count(`SELECT count(*) FROM (SELECT 1`+deleted+` LIMIT 0 + ?)`, tenant, total); err != nil || n == total {
		return 0, false, err
	}
	hidden, err := count(`SELECT count(*)`+deleted+` AND EXISTS (SELECT 1 FROM membership m WHERE m.grp IN (SELECT value FROM json_each(?)) AND m.id = x.id)`,
		tenant, jsonInts(groups))
	return total - hidden, err == nil, err
}

// countUsers counts the users among the members of live groups, all those below one, as
// countMembers does.
func (s *Store) countUsers(c *sqlite.Conn, tenant string, groups []int64) (total int64, ok bool, err error) {
	total, ok, err = s.countMembers(c, tenant, groups)
	if err != nil || !ok {
		return 0, false, err
	}
	inside, err := highest(c, `SELECT count(*) FROM json_each(?1) g WHERE EXISTS (
		SELECT 1 FROM membership m WHERE m.member = g.value AND m.grp IN (SELECT value FROM json_each(?1)))`, jsonInts(groups))
	return total - inside, err == nil, err
}
