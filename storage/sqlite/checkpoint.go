package sqlite

import (
	"sync"
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
	// insistAt is how many times as many pages are in the log when it is to begin anew though
	// others read, who would have to be done all at once: then the writer waits for those who
	// are at it, insistFor at first. Where one is not done by then, it tries again when
	// the log is twice as long, and waits for twice as long, insistMore times (8 s).
	insistAt   = 2 * anewAt
	insistFor  = 500 * time.Millisecond
	insistMore = 4
	// commitsBetweenLooks is how often the writer asks how long the log is.
	commitsBetweenLooks = 16
	// eraseAfter is how long what was purged stays in the log: what else is purged
	// meanwhile goes with it. Nobody waits for that the first time, and then each time
	// eraseFor longer, up to insistFor.
	eraseAfter = 10 * time.Second
	eraseFor   = 20 * time.Millisecond
)

// checkpointer moves the log into the file on a connection of its own, so that
// writes go on meanwhile. What they add the writer moves in the end: a few pages.
// Only then does the log begin anew.
type checkpointer struct {
	conn    *sqlite.Conn
	store   *Store
	start   chan struct{}
	ended   chan struct{}
	work    sync.Mutex  // held by whoever moves the log; locked before start is told
	ran     atomic.Bool // since the writer looked
	refused int         // how often the log has not begun anew though the writer waited for it
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
		k.work.Unlock() // before the writer is told that it can go on with the rest
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
	if err != nil {
		return err
	}
	if pages < at {
		k.refused = 0
		return nil
	}
	if pages >= insistAt*at<<min(k.refused, 16) {
		return k.insist(c, pages)
	}
	if !k.work.TryLock() {
		return nil
	}
	busy = busy && pages < anewAt*at
	left := at / writersShare
	if busy {
		left = at
	}
	if pages-moved >= left && !ran {
		k.start <- struct{}{}
		return nil
	}
	defer k.work.Unlock()
	if busy {
		return nil
	}
	return exec(c, "PRAGMA wal_checkpoint(PASSIVE)")
}

// insist lets the log begin anew as soon as the reads under way are done. Those that begin
// meanwhile are not in the way, and nobody but the writer waits.
func (k *checkpointer) insist(c *sqlite.Conn, pages int) error {
	k.work.Lock()
	defer k.work.Unlock()
	done, err := moveAll(c, "RESTART", k.store.opt.insistFor<<min(k.refused, insistMore))
	if err != nil {
		return err
	}
	if done {
		k.refused = 0
		return nil
	}
	k.refused++
	k.store.opt.Log.Warn("the log of the store goes on growing, for somebody has been reading for long", "pages", pages)
	return nil
}

// erase moves the whole log into the file and empties it, if those who read are done within
// wait. What was purged is overwritten in the file (secure_delete), but pages in
// the log, which is written over again and again, are as they were before.
func (k *checkpointer) erase(c *sqlite.Conn, wait time.Duration) bool {
	if !k.work.TryLock() {
		return false
	}
	defer k.work.Unlock()
	done, err := moveAll(c, "TRUNCATE", wait)
	return err == nil && done
}

// moveAll moves the whole log into the file, waits for those who read from it, and lets it
// begin anew. SQLite's own way to wait would not do: it waits for a place among the
// readers to be free, which those who come later may take over from each other for ever, though
// they read what is newest and are in no way.
func moveAll(c *sqlite.Conn, mode string, wait time.Duration) (done bool, err error) {
	c.SetBusyTimeout(0)
	defer c.SetBusyTimeout(busyTimeout)
	until := time.Now().Add(wait)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err = query(c, "PRAGMA wal_checkpoint("+mode+")", func(st *sqlite.Stmt) error { done = !st.ColumnBool(0); return nil })
		if err != nil || done || !time.Now().Before(until) {
			return done, err
		}
		time.Sleep(pause)
	}
}

// logPages returns how many pages are in the log, and how many of them are in the file.
func logPages(c *sqlite.Conn) (pages, moved int, err error) {
	err = query(c, "PRAGMA wal_checkpoint(NOOP)", func(st *sqlite.Stmt) error {
		pages, moved = st.ColumnInt(1), st.ColumnInt(2)
		return nil
	})
	return pages, moved, err
}
