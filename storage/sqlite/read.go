package sqlite

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// readAhead bounds the documents a page holds in memory at a time.
const readAhead = 256 << 10

// Get implements storage.Resources.
func (s *Store) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (r *storage.Resource, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		r, err = get(c, string(tenant), typ, id)
		return err
	})
	return r, err
}

// Query implements storage.Resources.
func (s *Store) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	p := &page{store: s, typ: q.Type}
	total := 0
	err := s.read(ctx, func(c *sqlite.Conn) (err error) {
		if q.Filter == nil && q.SortBy == nil && !q.Descending {
			total, err = p.list(c, string(tenant), q)
		} else {
			total, err = p.search(ctx, c, string(tenant), q)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return storage.NewPage(total, p.next), nil
}

// page is the result of a query: documents read ahead, and the row numbers of
// those that did not fit.
type page struct {
	store *Store
	typ   string
	ahead []*storage.Resource
	bytes int
	rest  []int64
}

// take reads a row of resourceColumns, or only its number once enough is held.
func (p *page) take(st *sqlite.Stmt) {
	if p.bytes >= readAhead {
		p.rest = append(p.rest, st.ColumnInt64(0))
		return
	}
	r := scan(st, p.typ)
	p.bytes += len(r.Doc) + 200
	p.ahead = append(p.ahead, r)
}

func (p *page) next(ctx context.Context) ([]*storage.Resource, error) {
	if len(p.ahead) == 0 && len(p.rest) > 0 {
		err := p.store.read(ctx, func(c *sqlite.Conn) error {
			// One transaction spares a lock for each row.
			if err := exec(c, "BEGIN"); err != nil {
				return err
			}
			defer func() { _ = exec(c, "COMMIT") }()
			for len(p.rest) > 0 && p.bytes < readAhead {
				n := p.rest[0]
				p.rest = p.rest[1:]
				err := query(c, `SELECT `+resourceColumns+` FROM resource r WHERE r.n = ? AND r.deleted IS NULL`,
					func(st *sqlite.Stmt) error { p.take(st); return nil }, n)
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	out := p.ahead
	p.ahead, p.bytes = nil, 0
	return out, nil
}

// list reads a page of all resources of a type in the order of their ids.
func (p *page) list(c *sqlite.Conn, tenant string, q storage.Query) (int, error) {
	total, lo, skip, err := position(c, tenant, q.Type, int64(max(0, q.StartIndex-1)))
	if err != nil || q.Count <= 0 || int64(q.StartIndex) > total {
		return int(total), err
	}
	err = query(c, `SELECT `+resourceColumns+` FROM resource r
		WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL AND r.id >= ? ORDER BY r.id LIMIT ? OFFSET ?`,
		func(st *sqlite.Stmt) error { p.take(st); return nil }, tenant, q.Type, lo, q.Count, skip)
	return int(total), err
}

// search reads a page of what a filter selects, or of everything in another
// order.
func (p *page) search(ctx context.Context, c *sqlite.Conn, tenant string, q storage.Query) (int, error) {
	sel := p.store.compile(tenant, q)
	run := func(sql string, args []any, row func(*sqlite.Stmt)) error {
		return p.store.bounded(ctx, c, sel, sql, args, row)
	}
	got := 0
	skip := max(0, q.StartIndex-1)
	if q.Count > 0 {
		sql := "SELECT " + resourceColumns + " FROM " + sel.from
		if !sel.single {
			sql += " ORDER BY " + order(q.SortBy, q.Descending)
		}
		err := run(sql+" LIMIT ? OFFSET ?", append(sel.args, q.Count, skip), func(st *sqlite.Stmt) {
			got++
			p.take(st)
		})
		if err != nil {
			return 0, err
		}
		// A page that is not full, and not past the end, ends the result.
		if got < q.Count && (got > 0 || skip == 0) {
			return skip + got, nil
		}
	}
	total := 0
	err := run("SELECT count(*) FROM "+sel.from, sel.args, func(st *sqlite.Stmt) { total = st.ColumnInt(0) })
	return total, err
}

// selection is a compiled filter: what follows FROM.
type selection struct {
	from   string
	args   []any
	single bool // at most one row
	common bool // one of few texts, worth keeping prepared
	seeks  bool // starts from an index
}

// compile asks for the keys in memory, so it comes before the database is read.
func (s *Store) compile(tenant string, q storage.Query) selection {
	c := &compiler{tenant: tenant, typ: q.Type}
	if !s.guest {
		c.recent = &s.recent
	}
	if q.Filter == nil {
		return selection{from: "resource r WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL", args: []any{tenant, q.Type}}
	}
	from, single, ok := c.seek(q.Filter)
	if !ok {
		from.add("resource r WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL", tenant, q.Type)
	}
	c.expr(q.Filter, row)
	_, simple := q.Filter.(filter.Compare)
	return selection{
		from: from.sql.String() + " AND " + c.sql.String(), args: append(from.args, c.args...),
		single: single, seeks: ok, common: ok && simple && q.SortBy == nil && !q.Descending,
	}
}

// bounded runs a compiled query. What may scan is interrupted when its time is
// over; only the few common texts stay prepared, since clients can make up any
// number of others.
func (s *Store) bounded(ctx context.Context, c *sqlite.Conn, sel selection, sql string, args []any, row func(*sqlite.Stmt)) error {
	each := func(st *sqlite.Stmt) error { row(st); return nil }
	if sel.common {
		return query(c, sql, each, args...)
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.QueryTimeout)
	defer cancel()
	c.SetInterrupt(ctx.Done())
	defer c.SetInterrupt(nil)
	start := time.Now()
	st, _, err := c.PrepareTransient(sql)
	if err == nil {
		bind(st, args)
		err = rows(st, each)
		if ferr := st.Finalize(); err == nil {
			err = ferr
		}
	}
	if sqlite.ErrCode(err) == sqlite.ResultInterrupt {
		return fmt.Errorf("%w: stopped after %s", storage.ErrTooExpensive, time.Since(start).Round(time.Millisecond))
	}
	return err
}
