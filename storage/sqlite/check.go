package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// checkedAtOnce is up to which size a store is checked whenever it is opened to
// be served, before anything is answered. SQLite checks about 250 MB a second.
const checkedAtOnce = 8 << 20

// ErrDamaged is what Open returns when the file is not a sound database.
var ErrDamaged = errors.New("the store is damaged: restore it from a backup")

// unchecked is the name of a file beside the store which says that the store has
// not been checked since a process that wrote to it came to a sudden end. The log
// that SQLite leaves behind says so too, but only until the store is opened again,
// be it by a command that is over before it could check anything.
func unchecked(path string) string { return path + ".unchecked" }

// noteSuddenEnd looks whether the last process ended without closing the store. It
// must come before the store is opened.
func noteSuddenEnd(path string) error {
	switch fi, err := os.Stat(path + "-wal"); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Size() == 0:
		return nil
	}
	f, err := os.OpenFile(unchecked(path), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// checkAtStart checks a small store at once. A large one is checked only after a
// sudden end, while it is served already: see checkMeanwhile.
func (s *Store) checkAtStart(c *sqlite.Conn) (later bool, err error) {
	fi, err := os.Stat(s.path)
	if err != nil {
		return false, err
	}
	limit := s.opt.checkedAtOnce
	if limit == 0 {
		limit = checkedAtOnce
	}
	if fi.Size() > limit {
		_, err := os.Stat(unchecked(s.path))
		return err == nil, nil
	}
	return false, s.check(c)
}

// checkMeanwhile checks the store until that is done or the store is closed. When
// it finds damage nothing is written any more and Ping fails, so that no requests
// are sent here; what can be read is still read.
func (s *Store) checkMeanwhile() {
	start := time.Now()
	c, err := openConn(s.path, reader)
	if err == nil {
		defer c.Close()
		c.SetInterrupt(s.closing)
		err = s.check(c)
	}
	switch {
	case err == nil:
		s.opt.Log.Info("the store was not closed the last time; it has been checked and is sound", "took", time.Since(start))
	case sqlite.ErrCode(err) == sqlite.ResultInterrupt: // the next start begins again
	case errors.Is(err, ErrDamaged):
		s.broken.Store(true)
		s.opt.Log.Error("nothing is written any more", "error", err)
	default:
		s.opt.Log.Error("the store could not be checked", "error", err)
	}
}

// check asks SQLite whether the file is sound, and notes it if so.
func (s *Store) check(c *sqlite.Conn) error {
	var found []string
	err := query(c, "PRAGMA quick_check(5)", func(st *sqlite.Stmt) error {
		found = append(found, st.ColumnText(0))
		return nil
	})
	if isDamage(err) {
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	if len(found) != 1 || found[0] != "ok" {
		return fmt.Errorf("%w (%s)", ErrDamaged, strings.Join(found, "; "))
	}
	if err := os.Remove(unchecked(s.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.opt.Log.Warn("the store will be checked again at the next start", "error", err)
	}
	return nil
}

// isDamage reports whether SQLite came upon damage, and nobody has said so yet.
func isDamage(err error) bool {
	code := sqlite.ErrCode(err).ToPrimary()
	return (code == sqlite.ResultCorrupt || code == sqlite.ResultNotADB) && !errors.Is(err, ErrDamaged)
}
