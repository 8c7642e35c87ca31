package sqlite

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// someUsers makes a store and closes it.
func someUsers(t *testing.T, path string) {
	t.Helper()
	s := open(t, path, Options{})
	for i := range 100 {
		create(t, s, newUser(i+1))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// damage overwrites a page that is not needed to open the store: the root of the
// index on memberships, which is the same in every store.
func damage(t *testing.T, path string) {
	t.Helper()
	var page, size int64
	err := openNew(t, Options{}).read(t.Context(), func(c *sqlite.Conn) error {
		return query(c, `SELECT s.rootpage, p.page_size FROM sqlite_schema s, pragma_page_size p WHERE s.name = 'membership_member'`,
			func(st *sqlite.Stmt) error {
				page, size = st.ColumnInt64(0), st.ColumnInt64(1)
				return nil
			})
	})
	if err != nil || page == 0 {
		t.Fatalf("the root is page %d: %v", page, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)), (page-1)*size); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedStore: a small store is checked before it is served.
func TestDamagedStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	someUsers(t, path)
	if err := open(t, path, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, path)
	s, err := Open(t.Context(), path, Options{Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("Open of a damaged store: got %v, want ErrDamaged", err)
	}
	if err == nil {
		s.Close()
	}
}

// kill copies the files of a store that is open, which is what a sudden end of
// its process leaves, and returns where.
func kill(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "roster.db")
	for _, end := range []string{"", "-wal"} {
		from, err := os.Open(path + end)
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		f, err := os.OpenFile(to+end, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(f, from); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestCheckMeanwhile: a large store is served while it is checked after a sudden
// end. Damage ends the writing and the readiness.
func TestCheckMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	someUsers(t, path)
	s := open(t, path, Options{})
	create(t, s, newUser(5000))
	sound, damaged := kill(t, path), kill(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, damaged)

	large := Options{checkedAtOnce: 1}
	marked := func(path string) bool { _, err := os.Stat(unchecked(path)); return err == nil }
	// A command in between does not check, and does not forget.
	if err := open(t, sound, Options{Guest: true}).Close(); err != nil {
		t.Fatal(err)
	}
	if !marked(sound) {
		t.Error("a command forgot that the store has to be checked")
	}
	s = open(t, sound, large)
	s.checks.Wait()
	if err := s.Ping(t.Context()); err != nil || marked(sound) {
		t.Errorf("a sound store: Ping: %v; still to be checked: %v", err, marked(sound))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, sound, large)
	create(t, s, newUser(5001))
	if err := s.Close(); err != nil || marked(sound) {
		t.Errorf("Close: %v; to be checked after a clean end: %v", err, marked(sound))
	}

	var log lockedBuffer
	large.Log = slog.New(slog.NewTextHandler(&log, nil))
	for range 2 { // the second start knows it too
		s = open(t, damaged, large)
		s.checks.Wait()
		if err := s.Ping(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Ping of a damaged store: %v", err)
		}
		if err := write(s, func(storage.Tx) error { return nil }); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("a write to a damaged store: %v", err)
		}
		if !marked(damaged) || !strings.Contains(log.String(), ErrDamaged.Error()) {
			t.Errorf("a damaged store: still to be checked: %v, and the log has\n%s", marked(damaged), log.String())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestCheckEnds: a store can be closed while it is checked.
func TestCheckEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	someUsers(t, path)
	s := open(t, path, Options{})
	create(t, s, newUser(5000))
	copied := kill(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, copied, Options{checkedAtOnce: 1})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
