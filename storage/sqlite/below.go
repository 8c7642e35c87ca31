package sqlite

import (
	"context"
	"fmt"
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
	note := func(st *sqlite.Stmt) error { groups = append(groups, st.ColumnInt64(0)); return nil }
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
	beyond, dir := ">", ""
	if q.Descending {
		beyond, dir = "<", " DESC"
	}
	var from strings.Builder
	var args []any
	for i, n := range groups {
		if i > 0 {
			from.WriteString(" UNION ")
		}
		fmt.Fprintf(&from, "SELECT m.id AS id, m.member AS n FROM membership m WHERE m.grp = %d", n)
		if q.After != nil {
			from.WriteString(" AND m.id " + beyond + " ?")
			args = append(args, q.After.ID)
		}
	}
	s.from = "(" + from.String() + " ORDER BY 1" + dir + " LIMIT -1) u CROSS JOIN " + s.from + " AND r.n = u.n"
	s.args = append(args, s.args...)
	s.inOrder = true
	return s
}
