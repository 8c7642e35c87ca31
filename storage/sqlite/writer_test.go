package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// commits collects what OnCommit is told.
type commits struct {
	mu     sync.Mutex
	writes []int
}

func (c *commits) add(writes int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if took <= 0 {
		writes = -1
	}
	c.writes = append(c.writes, writes)
}

// take returns the commits since the last call. They are told of before those who waited
// for them go on.
func (c *commits) take() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.writes
	c.writes = nil
	return list
}

// together makes the writer wait inside a write until all of fns are queued, so
// that they share the next commit, and returns their errors.
func together(t testing.TB, s *Store, fns ...func(storage.Tx) error) []error {
	t.Helper()
	holding, release := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	go func() {
		var once sync.Once // the write may run again
		held <- s.Write(context.Background(), storage.DefaultTenant, func(storage.Tx) error {
			once.Do(func() {
				close(holding)
				<-release
			})
			return nil
		})
	}()
	<-holding
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() { errs[i] = s.Write(context.Background(), storage.DefaultTenant, fn) })
		for len(s.jobs) <= i { // in this order
			time.Sleep(50 * time.Microsecond)
		}
	}
	close(release)
	wg.Wait()
	if err := <-held; err != nil && !errors.Is(err, storage.ErrUnavailable) { // it shares their commit
		t.Errorf("the write that waited: %v", err)
	}
	return errs
}

// creating is a write that creates one user.
func creating(n int) func(storage.Tx) error {
	return func(tx storage.Tx) error {
		return errors.Join(tx.Create(newUser(n)), tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "user.create"}))
	}
}

func TestWritesShareCommits(t *testing.T) {
	var c commits
	s := openNew(t, Options{OnCommit: c.add})
	var fns []func(storage.Tx) error
	for i := range 50 {
		fns = append(fns, creating(i))
	}
	if err := errors.Join(together(t, s, fns...)...); err != nil {
		t.Fatal(err)
	}
	if got := c.take(); !slices.Equal(got, []int{51}) {
		t.Errorf("commits of %v writes, want one of 51", got)
	}
	if n := count(t, s, userType, "userName pr"); n != 50 {
		t.Errorf("%d users, want 50", n)
	}

	// Writers that come as they like share commits too.
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 5 {
				if err := s.Write(context.Background(), storage.DefaultTenant, creating(1000+5*i+j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list := c.take()
	sum := 0
	for _, n := range list {
		sum += n
	}
	if sum != 320 || len(list) > 160 {
		t.Errorf("%d commits of %d writes in all, want fewer than half of 320", len(list), sum)
	}
}

func TestCommitsAreBounded(t *testing.T) {
	var c commits
	s := openNew(t, Options{OnCommit: c.add})
	fns := make([]func(storage.Tx) error, maxBatch+40)
	for i := range fns {
		fns[i] = creating(i)
	}
	if err := errors.Join(together(t, s, fns...)...); err != nil {
		t.Fatal(err)
	}
	if got := c.take(); !slices.Equal(got, []int{maxBatch, 41}) {
		t.Errorf("commits of %v writes, want %d and 41", got, maxBatch)
	}
}

// TestFailuresStayAlone puts every kind of failure into one commit with writes
// that succeed.
func TestFailuresStayAlone(t *testing.T) {
	var c commits
	s := openNew(t, Options{OnCommit: c.add})
	create(t, s, newUser(0))
	c.take()
	runs := 0
	fns := []func(storage.Tx) error{
		creating(1),
		creating(0), // the name is taken
		func(tx storage.Tx) error { return errors.Join(creating(2)(tx), errRolledBack) },
		creating(3),
		func(tx storage.Tx) error { return tx.Create(newUser(4)) }, // no audit entry
		func(tx storage.Tx) error {
			_ = creating(5)(tx)
			panic("a bug in fn")
		},
		creating(6),
		func(tx storage.Tx) error { // something SQLite refuses
			return errors.Join(creating(7)(tx), tx.(*tx_).exec(`INSERT INTO tenant (id) VALUES ('x')`))
		},
		func(tx storage.Tx) error { runs++; return creating(2)(tx) }, // what the third gave up is free
		creating(8),
		creating(8), // taken within the commit
		func(tx storage.Tx) error { return errors.Join(tx.Delete(held(t, tx, 1), someday), errRolledBack) },
		func(tx storage.Tx) error {
			return errors.Join(tx.Delete(held(t, tx, 3), someday), tx.Audit(storage.AuditEntry{Actor: "operator", Action: "x", At: someday}))
		},
		creating(3), // free again
	}
	errs := together(t, s, fns...)
	wantOK := map[int]bool{0: true, 3: true, 6: true, 8: true, 9: true, 12: true}
	for i, err := range errs {
		if ok := err == nil; ok != wantOK[i] && i != 13 {
			t.Errorf("write %d: %v", i, err)
		}
	}
	// The id of a deleted resource cannot be given again, but its name can.
	if _, taken := errors.AsType[*storage.UniqueError](errs[13]); taken {
		t.Errorf("write 13: %v", errs[13])
	}
	for i, want := range map[int]string{1: "already in use", 2: errRolledBack.Error(), 4: storage.ErrUnaudited.Error(), 5: "a bug in fn", 7: "NOT NULL", 10: "already in use"} {
		if errs[i] == nil || !strings.Contains(errs[i].Error(), want) {
			t.Errorf("write %d: got %v, want %s", i, errs[i], want)
		}
	}
	if got := c.take(); len(got) != 1 || got[0] != len(fns)+1 {
		t.Errorf("commits of %v writes, want one of %d", got, len(fns)+1)
	}
	if runs == 0 {
		t.Error("a write did not run")
	}
	for i, want := range map[int]int{0: 1, 1: 1, 2: 1, 4: 0, 5: 0, 6: 1, 7: 0, 8: 1} {
		if n := count(t, s, userType, fmt.Sprintf(`userName eq "user%d"`, i)); n != want {
			t.Errorf("user%d is there %d times, want %d", i, n, want)
		}
	}
	checkTally(t, s)
}

// tx_ is the type tx where a parameter has its name.
type tx_ = tx

// held reads user n as somebody holds it who is about to change it.
func held(t testing.TB, tx storage.Tx, n int) *storage.Resource {
	t.Helper()
	r, err := tx.Get("User", newUser(n).ID)
	if err != nil {
		t.Error(err)
		return newUser(n)
	}
	return r
}

// TestAFullDisk stops the file from growing in the middle of a commit: SQLite then
// gives the whole transaction up.
func TestAFullDisk(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(0))
	var pages int64
	onWriter(t, s, func(c *sqlite.Conn) error {
		return query(c, "PRAGMA page_count", func(st *sqlite.Stmt) error { pages = st.ColumnInt64(0); return nil })
	})
	limit := func(n int64) {
		onWriter(t, s, func(c *sqlite.Conn) error { return exec(c, fmt.Sprintf("PRAGMA max_page_count = %d", n)) })
	}
	limit(pages + 2)
	big := newUser(2)
	big.Doc = fmt.Appendf(nil, `{"id":%q,"nickName":%q}`, big.ID, strings.Repeat("x", 100_000))
	errs := together(t, s,
		creating(1),
		func(tx storage.Tx) error {
			if err := tx.Create(big); err != nil {
				return err
			}
			// A careless caller goes on after the failure.
			if _, err := tx.Get(big.Type, big.ID); err == nil {
				t.Error("100 KB went into two pages")
			}
			return tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "after the failure"})
		},
		creating(3))
	for i, err := range errs {
		n := count(t, s, userType, fmt.Sprintf(`userName eq "user%d"`, i+1))
		switch {
		case err == nil && n != 1:
			t.Errorf("write %d succeeded and left nothing", i)
		case err != nil && (n != 0 || !errors.Is(err, storage.ErrUnavailable)):
			t.Errorf("write %d: got %v and left %d, want ErrUnavailable and nothing", i, err, n)
		}
	}
	if errs[1] == nil {
		t.Error("100 KB went into two pages")
	}
	err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		err := tx.Create(big)
		if err == nil {
			_, err = tx.Get(big.Type, big.ID)
		}
		return errors.Join(err, tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "user.create"}))
	})
	if want := "no space is left on the disk of " + s.path; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want) // a command prints it
	}
	entries, err := s.AuditEntries(t.Context(), storage.DefaultTenant, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Action == "after the failure" {
			t.Error("the audit entry of a change that did not happen was kept")
		}
	}
	limit(1 << 30)
	create(t, s, newUser(4))
	checkTally(t, s)
	if n := count(t, s, userType, `userName eq "user4"`); n != 1 {
		t.Error("the store does not work any more")
	}
}

func TestWhatSQLiteSaysIsExplained(t *testing.T) {
	const (
		full   = "no space is left on the disk of r.db"
		disk   = "r.db, or a file beside it, cannot be read or written"
		rights = "r.db, or a file beside it, cannot be written"
		locked = "r.db is locked by another program"
	)
	for _, c := range []struct {
		code        sqlite.ResultCode
		unavailable bool
		broken      bool
		words       string
	}{
		{sqlite.ResultFull, true, false, full},
		{sqlite.ResultIOErr, true, false, disk},
		{sqlite.ResultIOErrRead, true, false, disk},
		{sqlite.ResultIOErrWrite, true, false, disk},
		{sqlite.ResultBusy, true, false, locked},
		{sqlite.ResultBusySnapshot, true, false, locked},
		{sqlite.ResultReadOnly, true, false, rights},
		{sqlite.ResultCantOpen, true, false, rights},
		{sqlite.ResultNoMem, true, false, ""},
		{sqlite.ResultIOErrFsync, true, true, disk},
		{sqlite.ResultIOErrDirFsync, true, true, disk},
		{sqlite.ResultConstraintUnique, false, false, ""},
		{sqlite.ResultError, false, false, ""},
		{sqlite.ResultCorrupt, false, false, ""},
	} {
		s := &Store{path: "r.db"}
		cause := fmt.Errorf("in the test: %w", c.code.ToError())
		err := s.explain(cause)
		if errors.Is(err, storage.ErrUnavailable) != c.unavailable || !errors.Is(err, cause) || s.broken.Load() != c.broken {
			t.Errorf("%v: got %v, broken %v", c.code, err, s.broken.Load())
		}
		if words := s.inWords(err); !strings.HasPrefix(words, c.words) || words != "" && (c.words == "" || !strings.Contains(err.Error(), words)) {
			t.Errorf("%v: got %v, want it in words: %s", c.code, err, c.words)
		}
	}
	if err := (&Store{}).explain(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	if err := (&Store{}).explain(errRolledBack); err != errRolledBack { //nolint:errorlint // the same one
		t.Errorf("an error of fn became %v", err)
	}
}

// TestAFailedFsyncIsTheEnd: what it has left on disk is unknown, so nothing is
// written any more until the store is opened again.
func TestAFailedFsyncIsTheEnd(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(1))
	s.broken.Store(true)
	if err := s.Write(t.Context(), storage.DefaultTenant, creating(2)); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Write: got %v, want ErrUnavailable", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Ping: got %v, want ErrUnavailable", err)
	}
	if _, err := s.Get(t.Context(), storage.DefaultTenant, "User", newUser(1).ID); err != nil {
		t.Errorf("reading goes on: %v", err)
	}
}

func TestEndedRequests(t *testing.T) {
	s := openNew(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ran := false
	errs := make(chan error, 1)
	together(t, s, func(storage.Tx) error {
		// While this write runs another one waits, and its request ends.
		go func() {
			errs <- s.Write(ctx, storage.DefaultTenant, func(tx storage.Tx) error { ran = true; return creating(1)(tx) })
		}()
		for len(s.jobs) == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		cancel()
		return nil
	})
	if err := <-errs; !errors.Is(err, storage.ErrUnavailable) || ran {
		t.Errorf("got %v, ran %v, want ErrUnavailable", err, ran)
	}
}

// TestAFullQueue fills the queue of writes behind one that does not end.
func TestAFullQueue(t *testing.T) {
	s := openNew(t, Options{})
	holding, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Write(context.Background(), storage.DefaultTenant, func(storage.Tx) error {
			close(holding)
			<-release
			return nil
		})
	})
	<-holding
	for range cap(s.jobs) {
		wg.Go(func() {
			if err := s.Write(context.Background(), storage.DefaultTenant, func(storage.Tx) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	for len(s.jobs) < cap(s.jobs) {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Write(ctx, storage.DefaultTenant, creating(1)); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	close(release)
	wg.Wait()
}

func TestNoReaderIsFree(t *testing.T) {
	s := openNew(t, Options{})
	var conns []*sqlite.Conn
	for range s.size {
		conns = append(conns, <-s.readers)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Get(ctx, storage.DefaultTenant, "User", "x"); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	for _, c := range conns {
		s.readers <- c
	}
}

// TestCloseWaitsForWrites closes while writes wait and run: each either is in the
// file afterwards or was told that it is not.
func TestCloseWaitsForWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	var wg sync.WaitGroup
	errs := make([]error, 300)
	started := make(chan struct{}, len(errs))
	for i := range errs {
		wg.Go(func() {
			started <- struct{}{}
			errs[i] = s.Write(context.Background(), storage.DefaultTenant, creating(i))
		})
	}
	for range 150 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	s = open(t, path, Options{})
	defer s.Close()
	for i, err := range errs {
		n := count(t, s, userType, fmt.Sprintf(`userName eq "user%d"`, i))
		switch {
		case err == nil && n != 1:
			t.Errorf("write %d succeeded and is lost", i)
		case err != nil && (n != 0 || !errors.Is(err, storage.ErrUnavailable)):
			t.Errorf("write %d: got %v and left %d, want ErrUnavailable and nothing", i, err, n)
		}
	}
	checkTally(t, s)
}

func TestTxAfterItsWrite(t *testing.T) {
	s := openNew(t, Options{})
	var kept storage.Tx
	if err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error { kept = tx; return creating(1)(tx) }); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a Tx was used after Write returned")
		}
	}()
	_ = kept.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "late"})
}

func TestAuditNeedsWhoAndWhat(t *testing.T) {
	s := openNew(t, Options{})
	for _, e := range []storage.AuditEntry{{At: someday}, {At: someday, Actor: "operator"}, {At: someday, Action: "user.create"}} {
		err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error { return errors.Join(tx.Create(newUser(1)), tx.Audit(e)) })
		if err == nil {
			t.Errorf("%+v was accepted", e)
		}
	}
	if n := count(t, s, userType, "userName pr"); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

func TestBindKnowsItsTypes(t *testing.T) {
	s := openNew(t, Options{})
	err := s.Write(t.Context(), storage.DefaultTenant, func(w storage.Tx) error { return w.(*tx).exec("SELECT ?", struct{}{}) })
	if err == nil || !strings.Contains(err.Error(), "struct {}") {
		t.Errorf("got %v, want the type that cannot be bound", err)
	}
}

func TestBaseline(t *testing.T) {
	s := openNew(t, Options{})
	for range 2 { // the table may be there already
		b, err := NewBaseline(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(time.Now().UnixNano())
		if _, err := b.Read(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Read of nothing: got %v, want ErrNotFound", err)
		}
		if err := b.Write(t.Context(), id, []byte(`{"x":"é"}`)); err != nil {
			t.Fatal(err)
		}
		if doc, err := b.Read(t.Context(), id); err != nil || string(doc) != `{"x":"é"}` {
			t.Errorf("Read: got %s, %v", doc, err)
		}
	}
}

// TestAFileMovedAway: nothing more is written to a file that the next start would not
// find, and what was written is in it.
func TestAFileMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	for name, notice := range map[string]func(*Store) error{
		"a health check": func(s *Store) error { return s.Ping(t.Context()) },
		"a write": func(s *Store) error {
			time.Sleep(1100 * time.Millisecond) // it looks once a second
			return s.Write(t.Context(), storage.DefaultTenant, creating(2))
		},
	} {
		var log bytes.Buffer
		s, err := Open(t.Context(), path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		create(t, s, newUser(1))
		moved := path + ".moved"
		if err := os.Rename(path, moved); err != nil {
			t.Fatal(err)
		}
		if err := notice(s); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
		if err := s.Write(t.Context(), storage.DefaultTenant, creating(3)); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("a write after %s: got %v, want ErrUnavailable", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "put the file back") {
			t.Errorf("%s: the log does not say what to do:\n%s", name, &log)
		}
		if s, err = Open(t.Context(), moved, Options{}); err != nil {
			t.Fatal(err)
		}
		if n := count(t, s, userType, `userName sw "user"`); n != 1 {
			t.Errorf("%s: the moved file has %d users, want 1", name, n)
		}
		if err := errors.Join(s.Close(), os.Remove(moved)); err != nil {
			t.Error(err)
		}
	}
}
