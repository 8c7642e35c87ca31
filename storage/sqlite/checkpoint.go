package sqlite

import (
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	// checkpointAt is from how many pages in the log (32 MB) they are moved into
	// the file. A page that changed several times is moved once, so that longer
	// logs are less work.
	checkpointAt = 8000
	// checkpointNow is at how many pages the writer moves them itself, whatever
	// else is waiting, lest the log grows without end.
	checkpointNow = 4 * checkpointAt
	// commitsBetweenLooks is how often the writer asks how long the log is.
	commitsBetweenLooks = 16
	// eraseAfter is how long what was purged stays in the log: what else is purged
	// meanwhile goes with it.
	eraseAfter = 10 * time.Second
)

// checkpointer moves the log into the file on a connection of its own, so that
// writes go on meanwhile. What they add the writer moves at the end: a few pages.
// Only then does the log begin anew.
type checkpointer struct {
	conn    *sqlite.Conn
	store   *Store
	start   chan struct{}
	ended   chan struct{}
	running atomic.Bool
	moved   atomic.Bool // the log as it was when the last run began is in the file
}

func newCheckpointer(s *Store) (*checkpointer, error) {
	c, err := openConn(s.path, writer)
	if err != nil {
		return nil, err
	}
	k := &checkpointer{conn: c, store: s, start: make(chan struct{}, 1), ended: make(chan struct{})}
	go k.run()
	return k, nil
}

func (k *checkpointer) run() {
	defer close(k.ended)
	defer k.conn.Close()
	for range k.start {
		if err := sqlitex.ExecuteTransient(k.conn, "PRAGMA wal_checkpoint(PASSIVE)", nil); err != nil {
			k.store.opt.Log.Warn("checkpoint failed; the writer will try", "error", k.store.explain(err))
		}
		k.moved.Store(true)
		k.running.Store(false)
	}
}

// close waits for the run under way.
func (k *checkpointer) close() {
	close(k.start)
	<-k.ended
}

// tend looks after the log between two commits of the writer.
func (k *checkpointer) tend(c *sqlite.Conn, commits int) error {
	finish := k.moved.CompareAndSwap(true, false)
	if !finish && commits%commitsBetweenLooks != 0 {
		return nil
	}
	pages := 0
	if !finish {
		var err error
		if pages, err = logPages(c); err != nil || pages < checkpointAt {
			return err
		}
	}
	if finish || pages >= checkpointNow {
		return exec(c, "PRAGMA wal_checkpoint(PASSIVE)")
	}
	if k.running.CompareAndSwap(false, true) {
		k.start <- struct{}{}
	}
	return nil
}

// eraseLog moves the whole log into the file and empties it, unless somebody is in the
// way: nobody waits for that. What was purged is overwritten in the file
// (secure_delete), but pages in the log, which is written over again and again, are as
// they were before.
func eraseLog(c *sqlite.Conn) (done bool) {
	c.SetBusyTimeout(0)
	defer c.SetBusyTimeout(busyTimeout)
	busy := true
	err := query(c, "PRAGMA wal_checkpoint(TRUNCATE)", func(st *sqlite.Stmt) error { busy = st.ColumnBool(0); return nil })
	return err == nil && !busy
}

// logPages returns how many pages are in the log.
func logPages(c *sqlite.Conn) (pages int, err error) {
	err = query(c, "PRAGMA wal_checkpoint(NOOP)", func(st *sqlite.Stmt) error { pages = st.ColumnInt(1); return nil })
	return pages, err
}
