package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/storage"
)

// maxBatch bounds how many writes share a commit, so that a long queue does not
// make its first writer wait for its last.
const maxBatch = 256

// yields is how often a batch makes way for others before it commits.
const yields = 3

type job struct {
	ctx    context.Context
	tenant storage.TenantID
	fn     func(storage.Tx) error
	err    error
	done   chan struct{}
}

var (
	errClosed = fmt.Errorf("%w: closed", storage.ErrUnavailable)
	errBroken = fmt.Errorf("%w: an earlier write to disk failed, or the file is damaged or was moved away", storage.ErrUnavailable)
)

// Write implements storage.Store. Writes that wait at the same time share one
// transaction and one fsync; each is alone in its savepoint.
func (s *Store) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if s.broken.Load() {
		return errBroken
	}
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	j := &job{ctx: ctx, tenant: tenant, fn: fn, done: make(chan struct{})}
	select {
	case s.jobs <- j: // there is room nearly always, and Done would make a channel that nobody needs
	default:
		select {
		case s.jobs <- j:
		case <-s.closing:
			return errClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: the queue of writes is full", storage.ErrUnavailable)
		}
	}
	storage.TurnOf(ctx).Take() // the queue keeps the order
	// From here on the outcome is the writer's to tell: giving up early would
	// leave the caller not knowing.
	select {
	case <-j.done:
	case <-s.done:
		select {
		case <-j.done:
		default: // the writer ended without seeing it
			return errClosed
		}
	}
	return j.err
}

// write is the one goroutine that changes the database.
func (s *Store) write(c *sqlite.Conn, k *checkpointer) {
	defer close(s.done)
	defer c.Close()
	w := &batch{store: s, conn: c, keys: keys{recent: &s.recent}, ends: make(map[string]end), left: make(map[string]end)}
	var erase <-chan time.Time
	var eraseWait time.Duration
	for commits := 1; ; commits++ {
		select {
		case j := <-s.jobs:
			w.run(j)
			if err := k.tend(c, commits, len(w.jobs) > 1); err != nil {
				s.opt.Log.Warn("the log could not be moved into the file", "error", s.explain(err))
			}
			if w.purged && erase == nil {
				erase = time.After(s.opt.eraseAfter)
			}
		case <-erase:
			if erase = nil; k.erase(c, eraseWait) {
				eraseWait = 0
			} else {
				erase = time.After(s.opt.eraseAfter)
				eraseWait = min(eraseWait+eraseFor, insistFor)
			}
			w.purged = erase != nil
		case <-s.closing:
			for {
				select {
				case j := <-s.jobs:
					w.run(j)
					continue
				default:
				}
				break
			}
			k.close()
			if err := sqlitex.ExecuteTransient(c, "PRAGMA wal_checkpoint(TRUNCATE)", nil); err != nil {
				s.opt.Log.Warn("checkpoint at close failed; the next start will do it", "error", err)
			}
			return
		}
	}
}

// batch is one transaction of the writer and the jobs in it.
type batch struct {
	store   *Store
	conn    *sqlite.Conn
	jobs    []*job
	tally   tally
	keys    keys
	pending pending
	// careful makes every job run in a savepoint. That costs a copy of each page
	// it touches, so it is done only once a job has failed after it had changed
	// something: then the batch is begun again.
	careful bool
	lastRow int64          // the highest row number of resource, 0 while unknown
	ends    map[string]end // of the audit trail of each tenant, if known
	left    map[string]end // where this process left the trail of each tenant that it wrote to
	purged  bool           // the log holds what was purged
	looked  time.Time      // when the file was seen to be in its place
}

// run commits first and whatever else is waiting by then.
func (b *batch) run(first *job) {
	start := time.Now()
	b.jobs = append(b.jobs[:0], first)
	b.careful = false
	var err error
	if start.Sub(b.looked) > time.Second {
		b.looked = start
		err = b.store.inPlace()
	}
	if err == nil {
		err = b.attempt()
	}
	if err != nil {
		err = b.store.explain(err)
		b.store.opt.Log.Error("commit failed", "writes", len(b.jobs), "error", err)
		if !b.conn.AutocommitEnabled() {
			_ = exec(b.conn, "ROLLBACK") // there is nothing left to lose
		}
	}
	if f := b.store.opt.OnCommit; f != nil && err == nil {
		f(len(b.jobs), time.Since(start))
	}
	var failed error
	if err != nil {
		why := b.store.inWords(err)
		for _, j := range b.jobs { // where SQLite gave the transaction up, one of them knows why
			why = cmp.Or(why, b.store.inWords(j.err))
		}
		failed = fmt.Errorf("%w: %s", storage.ErrUnavailable, cmp.Or(why, "commit failed"))
	}
	for _, j := range b.jobs {
		if failed != nil {
			j.err = failed
		}
		close(j.done)
	}
}

// attempt runs the jobs of the batch and those that join it, and commits.
func (b *batch) attempt() error {
	b.tally.reset()
	b.pending.clear()
	b.lastRow = 0
	clear(b.ends)
	if err := exec(b.conn, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := b.keys.begin(b.conn); err != nil {
		return err
	}
	for i := 0; i < maxBatch; i++ {
		if i == len(b.jobs) && !b.more() {
			break
		}
		if undone := b.do(b.jobs[i]); undone {
			return b.again()
		}
		if b.conn.AutocommitEnabled() {
			break // commit will tell
		}
	}
	if err := b.pending.flush(b.conn); err != nil && !b.conn.AutocommitEnabled() {
		return b.again() // whose fault it is
	}
	return b.commit()
}

// again begins the batch again, with each job in a savepoint.
func (b *batch) again() error {
	b.careful = true
	if err := exec(b.conn, "ROLLBACK"); err != nil {
		return err
	}
	return b.attempt()
}

// more takes another waiting job. When there is none, it lets those goroutines run
// first that could: a commit costs as much as several writes, so whoever is about
// to write had better come along.
func (b *batch) more() bool {
	for range yields {
		select {
		case j := <-b.store.jobs:
			b.jobs = append(b.jobs, j)
			return true
		default:
			runtime.Gosched()
		}
	}
	return false
}

func (b *batch) commit() error {
	if b.conn.AutocommitEnabled() {
		return errGivenUp
	}
	if err := b.tally.flush(b.conn); err != nil {
		return err
	}
	b.keys.announce()
	if err := exec(b.conn, "COMMIT"); err != nil {
		return err
	}
	b.keys.committed()
	b.leave()
	return nil
}

// nextRow returns the row number of the next resource. Nobody else can take it
// while this transaction holds the lock.
func (b *batch) nextRow() (int64, error) {
	if b.lastRow == 0 {
		var err error
		if b.lastRow, err = highest(b.conn, `SELECT max(n, (SELECT coalesce(max(n), 0) FROM resource)) FROM purged`); err != nil {
			return 0, err
		}
	}
	b.lastRow++
	return b.lastRow, nil
}

func highest(c *sqlite.Conn, sql string, args ...any) (n int64, err error) {
	err = query(c, sql, func(st *sqlite.Stmt) error { n = st.ColumnInt64(0); return nil }, args...)
	return n, err
}

// do runs one job and leaves its outcome in the job. It reports true when the
// job failed and left changes behind that only a rollback of everything can
// undo.
func (b *batch) do(j *job) (undone bool) {
	j.err = nil
	if j.ctx.Err() != nil {
		j.err = fmt.Errorf("%w: the request ended before its turn", storage.ErrUnavailable)
		return false
	}
	if b.careful {
		if err := exec(b.conn, "SAVEPOINT job"); err != nil {
			j.err = b.store.explain(err)
			return false
		}
	}
	t := &tx{batch: b, tenant: string(j.tenant)}
	b.pending.begin()
	mark, keyMark := b.tally.mark(), b.keys.mark()
	last, known := b.ends[t.tenant]
	j.err = b.store.explain(call(j.fn, t))
	if b.careful && j.err == nil {
		t.settle() // what is wrong with a row is told to whose it is
	}
	switch {
	case t.failed != nil: // what came after follows from it
		j.err = b.store.explain(t.failed)
	case j.err != nil:
	case t.changed && !t.audited:
		j.err = storage.ErrUnaudited
	}
	t.over = true
	if j.err != nil {
		b.pending.undo()
		b.tally.undo(mark)
		b.keys.undo(keyMark)
		if delete(b.ends, t.tenant); known {
			b.ends[t.tenant] = last
		}
	}
	switch {
	case b.conn.AutocommitEnabled():
		return false
	case !b.careful:
		return j.err != nil && t.wrote
	case j.err != nil:
		if err := exec(b.conn, "ROLLBACK TO job"); err != nil {
			b.store.opt.Log.Error("rollback to savepoint failed", "error", err)
			_ = exec(b.conn, "ROLLBACK") // commit will notice
			return false
		}
	}
	if err := exec(b.conn, "RELEASE job"); err != nil && j.err == nil {
		j.err = b.store.explain(err)
	}
	return false
}

// call keeps a panic in one write from taking the others with it.
func call(fn func(storage.Tx) error, t *tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a write: %v\n%s", r, debug.Stack())
		}
	}()
	return fn(t)
}

// exec runs a cached statement that returns no rows.
func exec(c *sqlite.Conn, sql string, args ...any) error {
	st, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	bind(st, args)
	return run(st)
}

// run runs a statement that returns no rows and has its parameters.
func run(st *sqlite.Stmt) error {
	_, err := st.Step()
	if rerr := st.Reset(); err == nil {
		err = rerr
	}
	return err
}

// query runs a cached statement and calls row for each of its rows.
func query(c *sqlite.Conn, sql string, row func(*sqlite.Stmt) error, args ...any) error {
	st, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	bind(st, args)
	return rows(st, row)
}

func rows(st *sqlite.Stmt, row func(*sqlite.Stmt) error) error {
	for {
		ok, err := st.Step()
		if err == nil && ok {
			err = row(st)
		}
		if err != nil || !ok {
			if rerr := st.Reset(); err == nil {
				err = rerr
			}
			return err
		}
	}
}

func bind(st *sqlite.Stmt, args []any) {
	for i, a := range args {
		switch a := a.(type) {
		case string:
			st.BindText(i+1, a)
		case int64:
			st.BindInt64(i+1, a)
		case int:
			st.BindInt64(i+1, int64(a))
		case float64:
			st.BindFloat(i+1, a)
		case bool:
			st.BindBool(i+1, a)
		case []byte:
			st.BindBytes(i+1, a)
		case time.Time:
			bindTime(st, i+1, a)
		case nil:
			st.BindNull(i + 1)
		default:
			panic(fmt.Sprintf("cannot bind %T", a))
		}
	}
}

func bindTime(st *sqlite.Stmt, param int, t time.Time) {
	if t.IsZero() {
		st.BindNull(param)
	} else {
		st.BindInt64(param, t.UnixMilli())
	}
}

func columnTime(st *sqlite.Stmt, col int) time.Time {
	if st.ColumnIsNull(col) {
		return time.Time{}
	}
	return time.UnixMilli(st.ColumnInt64(col)).UTC()
}

// textAgain returns a text, which is likely to be that of the row before.
func textAgain(st *sqlite.Stmt, col int, before string) string {
	var short [64]byte
	if n := st.ColumnLen(col); n == len(before) && n <= len(short) {
		if string(short[:st.ColumnBytes(col, short[:])]) == before {
			return before
		}
	}
	return st.ColumnText(col)
}

// columnBytes returns a copy of a blob or text, nil if it is empty.
func columnBytes(st *sqlite.Stmt, col int) []byte {
	if st.ColumnLen(col) == 0 {
		return nil
	}
	b := make([]byte, st.ColumnLen(col))
	st.ColumnBytes(col, b)
	return b
}
