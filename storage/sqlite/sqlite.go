package sqlite

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitemigration"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Options are how a Store is opened. The zero value is what a server wants.
type Options struct {
	// Guest opens the store beside a running server if there is one, for short
	// commands. Without Guest, a store that another process serves is refused.
	Guest bool
	// MustExist refuses to create a store where there is none.
	MustExist bool
	// AsIs refuses a store that is not of this version (storage.ErrOtherVersion), in the
	// place of bringing it up to date; it is for a Guest that only reads.
	AsIs bool
	// OnCommit is told of every commit: how many writes shared it and how long
	// it took. It must be fast.
	OnCommit func(writes int, took time.Duration)
	// QueryTimeout bounds one query that cannot use an index, and how long it
	// waits for its turn; 2 s if zero.
	QueryTimeout time.Duration
	// Types are those of the resources in the store, which are needed when an older
	// program has written it; those of schemas.Load if nil.
	Types *schemas.Set
	// Indexed are the attributes to index beyond those that are anyway; see
	// storage.ChooseIndexed. Other such indexes are dropped. If nil, whatever
	// indexes there are stay and are used. A guest takes no notice.
	Indexed []*schemas.Attribute
	// Log gets what callers cannot see; slog.Default() if nil.
	Log *slog.Logger

	// In tests, in the place of constants.
	checkedAtOnce int64
	eraseAfter    time.Duration
	checkpointAt  int
	insistFor     time.Duration
	manyMembers   int64
}

// Store is a storage.Store in one SQLite file.
type Store struct {
	path    string
	opt     Options
	lock    *flock.Flock
	readers chan *sqlite.Conn
	size    int             // of readers
	scans   chan struct{}   // holds one for every scan under way
	guest   bool            // a server runs on the store
	chosen  map[string]bool // paths of attributes that have an index by choice
	recent  recent

	jobs      chan *job
	done      chan struct{} // closed when the writer has ended
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	broken    atomic.Bool // what is on disk is not known: nothing is written any more
	file      os.FileInfo // the file when it was opened
	checks    sync.WaitGroup
}

// ErrInUse is returned by Open when another process serves the store.
var ErrInUse = errors.New("another roster process serves this store")

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations returns the schema changes in the order in which they apply.
// SQLite's user_version says how many of them a file has; they are never edited
// once released, only added to.
func migrations() (sqlitemigration.Schema, error) {
	s := sqlitemigration.Schema{AppID: appID}
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return s, err
	}
	for _, n := range names {
		b, err := migrationFiles.ReadFile(n)
		if err != nil {
			return s, err
		}
		s.Migrations = append(s.Migrations, string(b))
	}
	return s, nil
}

// Open opens the store at path, creating and migrating it as needed. A path
// that is a directory, or ends with a separator, means roster.db inside it.
func Open(ctx context.Context, path string, opt Options) (*Store, error) {
	if opt.QueryTimeout == 0 {
		opt.QueryTimeout = 2 * time.Second
	}
	if opt.manyMembers == 0 {
		opt.manyMembers = manyMembers
	}
	if opt.eraseAfter == 0 {
		opt.eraseAfter = eraseAfter
	}
	if opt.checkpointAt == 0 {
		opt.checkpointAt = checkpointAt
	}
	if opt.insistFor == 0 {
		opt.insistFor = insistFor
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	path, err := prepareFile(path, opt.MustExist)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, opt: opt, lock: flock.New(path+".lock", flock.SetPermissions(0o600)),
		size: min(8, 2*runtime.GOMAXPROCS(0)),
		jobs: make(chan *job, 1024), done: make(chan struct{}), closing: make(chan struct{}),
	}
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the store: %w", err)
	}
	if !locked && !opt.Guest {
		return nil, ErrInUse
	}
	s.guest = !locked
	if err := s.start(ctx); err != nil {
		s.closeReaders()
		if isDamage(err) {
			err = fmt.Errorf("%w (%w)", ErrDamaged, err)
		}
		if words := s.inWords(err); words != "" {
			err = fmt.Errorf("%s (%w)", words, err)
		}
		return nil, errors.Join(err, s.lock.Unlock())
	}
	return s, nil
}

// start opens the connections, brings the file up to date and begins to write.
func (s *Store) start(ctx context.Context) error {
	if !s.guest {
		if err := noteSuddenEnd(s.path); err != nil {
			return err
		}
	}
	w, err := openConn(s.path, writer)
	if err != nil {
		return err
	}
	later, err := s.prepare(ctx, w)
	if err == nil {
		err = s.openReaders()
	}
	if err == nil {
		s.file, err = os.Stat(s.path)
	}
	var k *checkpointer
	if err == nil {
		k, err = newCheckpointer(s)
	}
	if err != nil {
		w.Close()
		return err
	}
	go s.write(w, k)
	if later {
		s.checks.Go(s.checkMeanwhile)
	}
	return nil
}

// prepare checks the file and brings it up to date, or finds out that it is. later says
// that there is more to be checked while it is served.
func (s *Store) prepare(ctx context.Context, w *sqlite.Conn) (later bool, err error) {
	if !s.opt.Guest { // a short command leaves it to the server
		if later, err = s.checkAtStart(w); err != nil {
			return false, err
		}
	}
	if s.opt.AsIs && !s.guest {
		if err := upToDate(w); err != nil {
			return false, err
		}
	}
	if err := migrate(ctx, w, !s.guest); err != nil || s.guest {
		return later, err // a guest knows no keys, and must not merge those of the server
	}
	if err := s.derive(ctx, w); err != nil {
		return false, err
	}
	if err := s.shorten(ctx, w); err != nil {
		return false, err
	}
	if err := s.choose(ctx, w); err != nil {
		return false, err
	}
	return later, s.recent.load(w)
}

func (s *Store) openReaders() error {
	s.readers = make(chan *sqlite.Conn, s.size)
	// A scan computes all the time. With two readers to a processor, a quarter of
	// them leaves half of the processors to everybody else.
	s.scans = make(chan struct{}, max(1, s.size/4))
	for i := range s.size {
		r, err := openConn(s.path, reader)
		if err != nil {
			s.size = i // as many are to be closed
			return err
		}
		s.readers <- r
	}
	return nil
}

// File returns the file that Open opens for a path, which may be that of a folder.
func File(path string) string {
	if fi, err := os.Stat(path); (err == nil && fi.IsDir()) || path != "" && os.IsPathSeparator(path[len(path)-1]) {
		return filepath.Join(path, "roster.db")
	}
	return path
}

// prepareFile creates the file and its folder for the owner alone, unless it must
// exist, and refuses a file that others may read.
func prepareFile(path string, mustExist bool) (string, error) {
	if path == "" {
		return "", errors.New("the path of the store is empty")
	}
	path = File(path)
	if mustExist {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("there is no store: %w", err)
		} else if err != nil {
			return "", err // it may be where the caller may not look
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if err := localDisk(filepath.Dir(path), fileSystem); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file that could be a store", path) // and its mode stays as it is
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s may be read by others (mode %o): run chmod 600 on it", path, fi.Mode().Perm())
	}
	// One name whatever links lead here, for the lock is beside the file.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return path, localDisk(filepath.Dir(path), fileSystem)
}

// startTime is how long a guest waits for a server that is starting.
const startTime = 3 * time.Second

// migrate brings the file to the newest schema. A guest of a running server
// only checks, because the server decides when to migrate.
func migrate(ctx context.Context, c *sqlite.Conn, owner bool) error {
	schema, err := migrations()
	if err != nil {
		return err
	}
	newest := len(schema.Migrations)
	var have int
	var between bool
	// A server that has just started may be about to migrate: a guest waits.
	for end := time.Now().Add(startTime); ; time.Sleep(10 * time.Millisecond) {
		if have, between, err = version(c, newest); err != nil {
			return err
		}
		if owner || have >= newest && !between || time.Now().After(end) {
			break
		}
	}
	switch {
	case have > newest:
		return fmt.Errorf("the store has schema version %d, this program knows %d: use a newer roster", have, newest)
	case have < newest && !owner:
		return fmt.Errorf("the store has schema version %d: it is served by an older roster, which has to be stopped first, or is being brought up to date", have)
	case between && !owner:
		return fmt.Errorf("the store is being brought up to date to schema version %d: try again when the server has started", have)
	case !owner:
		return nil
	}
	if err := sqlitemigration.Migrate(ctx, c, schema); err != nil {
		return fmt.Errorf("migrate the store: %w", err)
	}
	return nil
}

// upToDate refuses a store that migrate, derive and shorten would change.
func upToDate(c *sqlite.Conn) error {
	schema, err := migrations()
	if err != nil {
		return err
	}
	newest := len(schema.Migrations)
	have, between, err := version(c, newest)
	if err == nil && between {
		return fmt.Errorf("%w (to bring it to schema version %d was begun and has not ended)", storage.ErrOtherVersion, have)
	}
	if err == nil && have < newest {
		err = fmt.Errorf("%w (schema version %d, and this one is for %d)", storage.ErrOtherVersion, have, newest)
	}
	return err
}

// version returns the schema version of a store, and whether it is the newest one but
// derive and shorten have not come to their end.
func version(c *sqlite.Conn, newest int) (have int, between bool, err error) {
	err = query(c, "PRAGMA user_version", func(st *sqlite.Stmt) error { have = st.ColumnInt(0); return nil })
	if err == nil && have == newest {
		err = query(c, "SELECT 1 FROM stale UNION ALL SELECT 1 FROM long", func(*sqlite.Stmt) error { between = true; return nil })
	}
	return have, between, err
}

// Close waits for writes under way, moves the log into the file and releases
// the lock.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.done
		s.checks.Wait()
		s.closeReaders()
		s.closeErr = s.lock.Unlock()
	})
	return s.closeErr
}

func (s *Store) closeReaders() {
	for s.readers != nil && s.size > 0 {
		select {
		case c := <-s.readers:
			c.Close()
			s.size--
		case <-time.After(5 * time.Second):
			return // a reader is stuck in a call; the process is about to end
		}
	}
}

// Ping reports whether the writer and the readers answer.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.inPlace(); err != nil {
		return err
	}
	return s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT count(*) FROM tenant", func(*sqlite.Stmt) error { return nil })
	})
}

// inPlace finds out whether the file is still what its path leads to. What is written to
// one that was moved away or removed is not there at the next start.
func (s *Store) inPlace() error {
	if s.broken.Load() {
		return errBroken
	}
	now, err := os.Stat(s.path)
	if err == nil && os.SameFile(s.file, now) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !s.broken.Swap(true) {
		s.opt.Log.Error("the file of the store was moved away, removed or replaced; nothing is written any more: stop the server, and put the file back", "file", s.path)
	}
	return errBroken
}

// read runs fn with a reader. Unless fn opens a transaction, each statement
// sees the newest commit.
func (s *Store) read(ctx context.Context, fn func(*sqlite.Conn) error) error {
	select {
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		return s.explain(fn(c))
	case <-ctx.Done():
		return fmt.Errorf("%w: no reader was free in time", storage.ErrUnavailable)
	case <-s.closing:
		return errClosed
	}
}

// snapshot is read for what takes several statements and must see one state. It
// also spares them a lock each.
func (s *Store) snapshot(ctx context.Context, fn func(*sqlite.Conn) error) error {
	return s.read(ctx, func(c *sqlite.Conn) error {
		if err := exec(c, "BEGIN"); err != nil {
			return err
		}
		defer func() { _ = exec(c, "COMMIT") }() // nothing was written
		return fn(c)
	})
}

// inWords says what keeps SQLite from the file, for people who do not know its words, or
// "" if it is something else.
func (s *Store) inWords(err error) string {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultFull:
		return "no space is left on the disk of " + s.path + ": free some"
	case sqlite.ResultIOErr:
		return s.path + ", or a file beside it, cannot be read or written: check the disk, and the limits of space and file size"
	case sqlite.ResultReadOnly, sqlite.ResultCantOpen:
		return s.path + ", or a file beside it, cannot be written: check who owns them and their folder"
	case sqlite.ResultBusy, sqlite.ResultLocked:
		return s.path + " is locked by another program: end it, and try again"
	}
	return ""
}

// explain turns SQLite's result codes into what callers tell apart.
func (s *Store) explain(err error) error {
	if err == nil {
		return nil
	}
	switch code := sqlite.ErrCode(err); code.ToPrimary() {
	case sqlite.ResultFull, sqlite.ResultIOErr, sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultReadOnly, sqlite.ResultCantOpen, sqlite.ResultNoMem:
		if code == sqlite.ResultIOErrFsync || code == sqlite.ResultIOErrDirFsync {
			// What an fsync that failed has left on disk is unknown.
			s.broken.Store(true)
		}
		if words := s.inWords(err); words != "" {
			err = fmt.Errorf("%s (%w)", words, err)
		}
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}
