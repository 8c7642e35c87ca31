package sqlite

import (
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	// checkpointAt is from how many pages in the log (32 MB) that are not in the file
	// they are moved there. A page that changed several times is moved once, so that
	// longer logs are less work.
	checkpointAt = 8000
	// anewAt is how many times as many pages are in the log when it is to begin anew,
	// however busy the writer is. For that it has to move the last pages itself, while
	// everybody waits; when nobody else does, it does so at once.
	anewAt = 3
	// writersShare is which part of as many pages is left to the writer.
	writersShare = 16
	// commitsBetweenLooks is how often the writer asks how long the log is.
	commitsBetweenLooks = 16
	// eraseAfter is how long what was purged stays in the log: what else is purged
	// meanwhile goes with it.
	eraseAfter = 10 * time.Second
)

// checkpointer moves the log into the file on a connection of its own, so that
// writes go on meanwhile. What they add the writer moves in the end: a few pages.
// Only then does the log begin anew.
type checkpointer struct {
	conn    *sqlite.Conn
	store   *Store
	start   chan struct{}
	ended   chan struct{}
	running atomic.Bool
	ran     atomic.Bool // since the writer looked
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
		k.running.Store(false)
		k.ran.Store(true)
	}
}

// close waits for the run under way.
func (k *checkpointer) close() {
	close(k.start)
	<-k.ended
}

// tend looks after the log between two commits of the writer, which is busy when
// several writes share a commit.
func (k *checkpointer) tend(c *sqlite.Conn, commits int, busy bool) error {
	ran := k.ran.CompareAndSwap(true, false)
	if !ran && commits%commitsBetweenLooks != 0 {
		return nil
	}
	at := k.store.opt.checkpointAt
	pages, moved, err := logPages(c)
	if err != nil || pages < at {
		return err
	}
	busy = busy && pages < anewAt*at
	left := at / writersShare
	if busy {
		left = at
	}
	switch {
	case k.running.Load():
		if pages < 2*anewAt*at {
			return nil
		}
	case pages-moved >= left && !ran:
		k.running.Store(true)
		k.start <- struct{}{}
		return nil
	case busy:
		return nil
	}
	return exec(c, "PRAGMA wal_checkpoint(PASSIVE)")
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

// logPages returns how many pages are in the log, and how many of them are in the file.
func logPages(c *sqlite.Conn) (pages, moved int, err error) {
	err = query(c, "PRAGMA wal_checkpoint(NOOP)", func(st *sqlite.Stmt) error {
		pages, moved = st.ColumnInt(1), st.ColumnInt(2)
		return nil
	})
	return pages, moved, err
}
