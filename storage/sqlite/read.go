package sqlite

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// readAhead bounds the documents a page holds in memory at a time.
const readAhead = 256 << 10

// Get implements storage.Resources.
func (s *Store) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (r *storage.Resource, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		r, err = get(c, getResource, string(tenant), typ, id)
		return err
	})
	return r, err
}

// GetToChange implements storage.Resources.
func (s *Store) GetToChange(ctx context.Context, tenant storage.TenantID, typ, id string) (r *storage.Resource, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		r, err = get(c, getToChange, string(tenant), typ, id)
		return err
	})
	return r, err
}

// Epoch implements storage.Resources.
func (s *Store) Epoch(ctx context.Context, tenant storage.TenantID) (n int64, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		n, err = highest(c, `SELECT coalesce(max(n), 0) FROM epoch WHERE tenant = ?`, string(tenant))
		return err
	})
	return n, err
}

// Names implements storage.Resources.
func (s *Store) Names(ctx context.Context, tenant storage.TenantID, typ string, ids ...string) (map[string]string, error) {
	names := make(map[string]string, len(ids))
	err := s.snapshot(ctx, func(c *sqlite.Conn) error {
		for _, id := range ids {
			err := query(c, `SELECT name FROM resource WHERE tenant = ? AND type = ? AND id = ? AND deleted IS NULL`,
				func(st *sqlite.Stmt) error {
					names[id] = st.ColumnText(0)
					return nil
				}, string(tenant), typ, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return names, err
}

// Query implements storage.Resources.
func (s *Store) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	for certain := false; ; certain = true {
		commits := s.recent.commits.Load()
		p := &page{store: s, typ: q.Type, read: portions.Get().(*portion)}
		total, err := p.query(ctx, string(tenant), q, certain)
		if err != nil {
			return nil, err
		}
		// A commit that came between asking for keys and reading may have given one
		// to a row that was not asked for.
		if !p.asked || certain || s.recent.commits.Load() == commits {
			answer := storage.NewPage(total, p.next)
			answer.Last = p.last
			return answer, nil
		}
		p.read.release()
	}
}

// query reads what the page begins with, and the total. If it is to be certain, no commit
// comes between asking for keys and reading: writers wait for that.
func (p *page) query(ctx context.Context, tenant string, q storage.Query, certain bool) (total int, err error) {
	if q.Filter == nil && q.SortBy == nil && !q.Descending {
		err = p.store.snapshot(ctx, func(c *sqlite.Conn) error {
			if total, err = p.list(c, tenant, q); err != nil {
				return err
			}
			return p.read.finish(c)
		})
		return total, err
	}
	sel := p.store.compile(tenant, q)
	p.asked = sel.asked
	if sel.wide {
		leave, err := p.store.enterScan(ctx)
		if err != nil {
			return 0, err
		}
		defer leave()
	}
	if sel.slow() {
		// One budget for the page and the total.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.store.opt.QueryTimeout)
		defer cancel()
	}
	err = p.store.snapshot(ctx, func(c *sqlite.Conn) error {
		if certain {
			if sel, err = p.store.compileNow(c, tenant, q); err != nil {
				return err
			}
		}
		if sel.under != "" {
			groups, err := p.store.groupsBelow(ctx, c, tenant, sel.under)
			if err != nil {
				return err
			}
			sel = sel.below(groups, q)
		}
		if total, err = p.search(ctx, c, tenant, sel, q); err != nil {
			return err
		}
		return p.read.finish(c)
	})
	return total, err
}

// enterScan waits until a scan may begin. There are fewer places than readers, so
// that scans, however many clients ask for them, leave readers to what an index
// answers.
func (s *Store) enterScan(ctx context.Context) (leave func(), err error) {
	select {
	case s.scans <- struct{}{}:
	default:
		wait, cancel := context.WithTimeout(ctx, s.opt.QueryTimeout)
		defer cancel()
		select {
		case s.scans <- struct{}{}:
		case <-wait.Done():
			return nil, fmt.Errorf("%w: too many queries without an index", storage.ErrUnavailable)
		case <-s.closing:
			return nil, errClosed
		}
	}
	return func() { <-s.scans }, nil
}

// page is the result of a query: a portion read ahead, and the row numbers of
// those resources that did not fit into it.
type page struct {
	store *Store
	typ   string
	read  *portion // nil at the end
	given bool     // the caller has read
	rest  []int64
	asked bool // for keys in memory
	last  *storage.Mark
}

// portion is resources whose documents and ids lie in one buffer each, because
// a page of a hundred users is read far more often than anything else is
// allocated for.
type portion struct {
	list []storage.Resource
	docs []byte
	ids  []byte
	out  []*storage.Resource
}

// take reads a row of resourceColumns, or only its number once enough is held.
func (p *page) take(st *sqlite.Stmt) {
	if len(p.read.docs) >= readAhead {
		p.rest = append(p.rest, st.ColumnInt64(0))
		return
	}
	b := p.read
	b.list = append(b.list, storage.Resource{Type: p.typ})
	r := &b.list[len(b.list)-1]
	scan(st, r)
	b.ids = slices.Grow(b.ids, idLength)
	b.ids = b.ids[:len(b.ids)+st.ColumnBytes(1, b.ids[len(b.ids):len(b.ids)+idLength])]
	before := len(b.docs)
	b.docs = appendDoc(b.docs, st, 5, b.ids[len(b.ids)-idLength:])
	// The buffer may move while it grows, so documents are cut out at the end;
	// until then Doc says only how long they are.
	n := len(b.docs) - before
	r.Doc = b.docs[:n:n]
}

const idLength = 36

// finish completes the resources of a portion.
func (b *portion) finish(c *sqlite.Conn) error {
	docs, ids := b.docs, string(b.ids)
	for i := range b.list {
		r := &b.list[i]
		n := len(r.Doc)
		r.Doc, docs = docs[:n:n], docs[n:]
		r.ID, ids = ids[:idLength], ids[idLength:]
		b.out = append(b.out, r)
	}
	return b.markGroups(c)
}

// markGroups finds out who is in a group. Pages are mostly of neighbouring rows,
// for which one look at the index answers.
func (b *portion) markGroups(c *sqlite.Conn) error {
	if len(b.list) == 0 {
		return nil
	}
	lo, hi := b.list[0].Ref, b.list[0].Ref
	for i := range b.list {
		lo, hi = min(lo, b.list[i].Ref), max(hi, b.list[i].Ref)
	}
	if hi-lo >= int64(4*len(b.list)+100) {
		for i := range b.list {
			r := &b.list[i]
			err := query(c, `SELECT EXISTS (SELECT 1 FROM membership m JOIN resource g ON g.n = m.grp AND g.deleted IS NULL
				WHERE m.member = ?)`, func(st *sqlite.Stmt) error {
				r.InGroups = st.ColumnBool(0)
				return nil
			}, r.Ref)
			if err != nil {
				return err
			}
		}
		return nil
	}
	var in map[int64]bool
	err := query(c, `SELECT DISTINCT m.member FROM membership m JOIN resource g ON g.n = m.grp AND g.deleted IS NULL
		WHERE m.member BETWEEN ? AND ?`, func(st *sqlite.Stmt) error {
		if in == nil {
			in = make(map[int64]bool)
		}
		in[st.ColumnInt64(0)] = true
		return nil
	}, lo, hi)
	if in != nil {
		for i := range b.list {
			b.list[i].InGroups = in[b.list[i].Ref]
		}
	}
	return err
}

var portions = sync.Pool{New: func() any { return new(portion) }}

// release takes a portion back that nobody uses any more.
func (b *portion) release() {
	clear(b.list)
	b.list, b.docs, b.ids, b.out = b.list[:0], b.docs[:0], b.ids[:0], b.out[:0]
	if cap(b.docs) <= 2*readAhead {
		portions.Put(b)
	}
}

func (p *page) next(ctx context.Context) ([]*storage.Resource, error) {
	if p.given {
		p.given = false
		p.read.release()
		p.read = nil
		if len(p.rest) > 0 {
			if err := p.readRest(ctx); err != nil {
				return nil, err
			}
		}
	}
	if p.read == nil {
		return nil, nil
	}
	p.given = true
	return p.read.out, nil
}

// readRest reads the next portion of the resources that are known by number.
func (p *page) readRest(ctx context.Context) error {
	p.read = portions.Get().(*portion)
	return p.store.snapshot(ctx, func(c *sqlite.Conn) error {
		for len(p.rest) > 0 && len(p.read.docs) < readAhead {
			n := p.rest[0]
			p.rest = p.rest[1:]
			err := query(c, `SELECT `+resourceColumns+` FROM resource r WHERE r.n = ? AND r.deleted IS NULL`,
				func(st *sqlite.Stmt) error { p.take(st); return nil }, n)
			if err != nil {
				return err
			}
		}
		return p.read.finish(c)
	})
}

// list reads a page of all resources of a type in the order of their ids.
func (p *page) list(c *sqlite.Conn, tenant string, q storage.Query) (int, error) {
	if q.Walk {
		return p.walk(c, tenant, q)
	}
	total, lo, skip, err := position(c, tenant, q.Type, int64(max(0, q.StartIndex-1)))
	if err != nil || q.Count <= 0 || int64(q.StartIndex) > total {
		return int(total), err
	}
	err = query(c, `SELECT `+resourceColumns+` FROM resource r
		WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL AND r.id >= ? ORDER BY r.id LIMIT 0 + ? OFFSET 0 + ?`,
		func(st *sqlite.Stmt) error { p.take(st); return nil }, tenant, q.Type, lo, q.Count, skip)
	return int(total), err
}

// walk reads a page of a walk over all resources of a type in the order of their ids.
func (p *page) walk(c *sqlite.Conn, tenant string, q storage.Query) (total int, err error) {
	after := ""
	if q.After != nil {
		after = q.After.ID
	} else {
		n, _, _, err := position(c, tenant, q.Type, 0)
		if err != nil {
			return 0, err
		}
		total = int(n)
	}
	if q.Count <= 0 {
		return total, nil
	}
	w := walker{page: p, left: q.Count}
	err = query(c, `SELECT `+resourceColumns+` FROM resource r
		WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL AND r.id > ? ORDER BY r.id LIMIT 0 + ?`,
		func(st *sqlite.Stmt) error { w.take(st); return nil }, tenant, q.Type, after, q.Count+1)
	if err != nil || !w.more {
		return total, err
	}
	p.last, err = w.mark(c, nil)
	return total, err
}

// walker takes the rows of a page of a walk. One more than the page has room for says
// that the walk goes on.
type walker struct {
	page *page
	left int
	n    int64 // the row that was taken last
	more bool
}

func (w *walker) take(st *sqlite.Stmt) {
	if w.left == 0 {
		w.more = true
		return
	}
	w.left--
	w.n = st.ColumnInt64(0)
	w.page.take(st)
}

// mark reads the place of the row that was taken last.
func (w *walker) mark(c *sqlite.Conn, sortBy *schemas.Attribute) (*storage.Mark, error) {
	col := "NULL"
	if sortBy != nil {
		col = sortColumn(sortBy)
	}
	m := new(storage.Mark)
	err := transient(c, "SELECT r.id, "+col+" FROM resource r WHERE r.n = ?", func(st *sqlite.Stmt) error {
		m.ID = st.ColumnText(0)
		switch st.ColumnType(1) {
		case sqlite.TypeInteger:
			m.Value = st.ColumnInt64(1)
		case sqlite.TypeFloat:
			m.Value = st.ColumnFloat(1)
		case sqlite.TypeText:
			m.Value = st.ColumnText(1)
		}
		return nil
	}, []any{w.n})
	return m, err
}

// searchOn is search for a page of a walk.
func (p *page) searchOn(ctx context.Context, c *sqlite.Conn, tenant string, sel selection, q storage.Query, run func(sql string, args []any, row func(*sqlite.Stmt)) error) (int, error) {
	from, args := sel.from, sel.args
	if q.After != nil && !sel.inOrder {
		on, more := behind(q.SortBy, q.Descending, q.After)
		from, args = from+" AND "+on, append(slices.Clone(args), more...)
	}
	w := walker{page: p, left: q.Count}
	err := run("SELECT "+resourceColumns+" FROM "+from+sel.order(q)+" LIMIT 0 + ?", append(slices.Clone(args), q.Count+1), w.take)
	switch {
	case err != nil:
		return 0, err
	case w.more:
		if p.last, err = w.mark(c, q.SortBy); err != nil {
			return 0, err
		}
	}
	if q.After != nil {
		return 0, nil
	}
	if !w.more {
		return q.Count - w.left, nil
	}
	return p.count(ctx, c, tenant, sel, run)
}

// count counts what a query selects.
func (p *page) count(ctx context.Context, c *sqlite.Conn, tenant string, sel selection, run func(sql string, args []any, row func(*sqlite.Stmt)) error) (total int, err error) {
	if len(sel.groups) > 0 {
		var n int64
		var ok bool
		err := interruptibly(ctx, c, func() (err error) {
			n, ok, err = p.store.countUsers(c, tenant, sel.groups)
			return err
		})
		if err != nil || ok {
			return int(n), err
		}
	}
	err = run("SELECT count(*) FROM "+sel.from, sel.args, func(st *sqlite.Stmt) { total = st.ColumnInt(0) })
	return total, err
}

// search reads a page of what a filter selects, or of everything in another
// order.
func (p *page) search(ctx context.Context, c *sqlite.Conn, tenant string, sel selection, q storage.Query) (int, error) {
	run := func(sql string, args []any, row func(*sqlite.Stmt)) error {
		return p.store.bounded(ctx, c, sel, sql, args, row)
	}
	if q.Walk && q.Count > 0 {
		return p.searchOn(ctx, c, tenant, sel, q, run)
	}
	got := 0
	skip := max(0, q.StartIndex-1)
	if q.Count > 0 {
		sql := "SELECT " + resourceColumns + " FROM " + sel.from + sel.order(q)
		err := run(sql+" LIMIT 0 + ? OFFSET 0 + ?", append(slices.Clone(sel.args), q.Count, skip), func(st *sqlite.Stmt) {
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
	return p.count(ctx, c, tenant, sel, run)
}

// selection is a compiled filter: what follows FROM.
type selection struct {
	from    string
	args    []any
	under   string  // the group to start from; from lacks what below adds
	all     bool    // everybody in it is selected
	groups  []int64 // it and those inside it, if all their users are selected
	inOrder bool    // from yields the rows in the order of the query, behind its mark
	single  bool    // at most one row
	common  bool    // one of few texts, worth keeping prepared
	seeks   bool    // starts from an index
	wide    bool    // may look at any number of rows: what clients can make slow at will
	asked   bool    // for keys in memory
}

// order returns the ORDER BY of a page.
func (s selection) order(q storage.Query) string {
	if s.single || s.inOrder {
		return ""
	}
	return " ORDER BY " + order(q.SortBy, q.Descending)
}

// slow reports whether the query may take long, if only because it is as
// complicated as a client made it.
func (s selection) slow() bool { return s.wide || !s.common }

// compile asks for the keys in memory, so it comes before the database is read.
func (s *Store) compile(tenant string, q storage.Query) selection {
	c := &compiler{tenant: tenant, typ: q.Type}
	if !s.guest {
		c.recent, c.chosen = &s.recent, s.chosen
	}
	if q.Filter == nil {
		return selection{from: "resource r WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL", args: []any{tenant, q.Type}, wide: true}
	}
	from, rank, ok := c.seek(q.Filter)
	if !ok || c.under != "" {
		from.add("resource r WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL", tenant, q.Type)
	}
	c.expr(q.Filter, row)
	_, simple := q.Filter.(filter.Compare)
	which := c.text()
	return selection{
		from: from.text() + " AND " + which, args: append(from.args, c.args...), under: c.under, all: c.under != "" && which == "1",
		single: rank >= oneRow, seeks: ok, wide: rank < fewRows, asked: c.asked, common: ok && c.under == "" && simple && q.SortBy == nil && !q.Descending,
	}
}

// compileNow is compile for a transaction that has not read yet, and sees the rows of the
// moment of the keys afterwards.
func (s *Store) compileNow(c *sqlite.Conn, tenant string, q storage.Query) (selection, error) {
	s.recent.still.RLock()
	defer s.recent.still.RUnlock()
	// The first statement of a transaction decides which commit it sees.
	return s.compile(tenant, q), query(c, "SELECT 1 FROM key_part LIMIT 1", func(*sqlite.Stmt) error { return nil })
}

// bounded runs a compiled query. What may take long is interrupted when ctx ends;
// only the few common texts stay prepared, since clients can make up any number of
// others.
func (s *Store) bounded(ctx context.Context, c *sqlite.Conn, sel selection, sql string, args []any, row func(*sqlite.Stmt)) error {
	each := noting(row)
	if !sel.slow() {
		return query(c, sql, each, args...)
	}
	return interruptibly(ctx, c, func() error {
		if sel.common {
			return query(c, sql, each, args...)
		}
		return transient(c, sql, each, args)
	})
}

// noting is row where one that may fail is expected.
func noting(row func(*sqlite.Stmt)) func(*sqlite.Stmt) error {
	return func(st *sqlite.Stmt) error { row(st); return nil }
}

// interruptibly runs queries that may take long, until ctx ends.
func interruptibly(ctx context.Context, c *sqlite.Conn, fn func() error) error {
	start := time.Now()
	c.SetInterrupt(ctx.Done())
	defer c.SetInterrupt(nil)
	err := fn()
	if sqlite.ErrCode(err) == sqlite.ResultInterrupt {
		return fmt.Errorf("%w: stopped after %s", storage.ErrTooExpensive, time.Since(start).Round(time.Millisecond))
	}
	return err
}

// transient is query for a statement that is not kept.
func transient(c *sqlite.Conn, sql string, row func(*sqlite.Stmt) error, args []any) error {
	st, _, err := c.PrepareTransient(sql)
	if err != nil {
		return err
	}
	bind(st, args)
	err = rows(st, row)
	if ferr := st.Finalize(); err == nil {
		err = ferr
	}
	return err
}
