package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		version, want string
		ok            bool
	}{
		{"3.51.3", "3.51.3", true},
		{"3.51.2", "3.51.3", false},
		{"3.51.10", "3.51.3", true},
		{"3.51.4", "3.51.3", true},
		{"3.52.0", "3.51.3", true},
		{"3.6.23", "3.51.3", false},
		{"3.50.99", "3.51.3", false},
		{"4.0.0", "3.51.3", true},
		{"2.99.99", "3.51.3", false},
		{"3.51", "3.51.3", false},
		{"3.51.3.1", "3.51.3", true},
		{"3.52", "3.51.3", true},
		{"", "3.51.3", false},
		{"3.51.x", "3.51.3", false},
		{"three", "3.51.3", false},
	} {
		if got := atLeast(c.version, c.want); got != c.ok {
			t.Errorf("atLeast(%q, %q) = %v", c.version, c.want, got)
		}
	}
}

// TestPragmas asks the connections of an open store for what they were set to.
func TestPragmas(t *testing.T) {
	s := openNew(t, Options{})
	check := func(c *sqlite.Conn, want map[string]string) {
		t.Helper()
		for name, value := range want {
			got, err := sqlitex.ResultText(c.Prep("PRAGMA " + name))
			if err != nil || got != value {
				t.Errorf("PRAGMA %s is %q, %v, want %q", name, got, err, value)
			}
		}
	}
	both := map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "trusted_schema": "0", "cell_size_check": "1",
	}
	onWriter(t, s, func(c *sqlite.Conn) error {
		check(c, both)
		check(c, map[string]string{"query_only": "0", "wal_autocheckpoint": "0", "journal_size_limit": "134217728"})
		return nil
	})
	for range s.size {
		c := <-s.readers
		defer func() { s.readers <- c }()
		check(c, both)
		check(c, map[string]string{"query_only": "1"})
		if err := exec(c, "DELETE FROM tenant"); err == nil {
			t.Error("a reader can write")
		}
	}
}

// TestPragmaThatDoesNotTake opens a database that cannot have a WAL: SQLite does
// not mind, so reading back has to.
func TestPragmaThatDoesNotTake(t *testing.T) {
	c, err := openConn(":memory:", writer)
	if err == nil {
		c.Close()
		t.Fatal("opened a database without a WAL")
	}
	if !strings.Contains(err.Error(), "journal_mode") {
		t.Errorf("got %v, want the name of the pragma in it", err)
	}
}

// TestEveryPragmaExists catches a misspelt name, which SQLite would pass over: a
// pragma it knows answers or at least changes something when read back.
func TestEveryPragmaExists(t *testing.T) {
	c, err := openConn(filepath.Join(t.TempDir(), "x.db"), writer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	known := map[string]bool{}
	err = query(c, "SELECT name FROM pragma_pragma_list", func(st *sqlite.Stmt) error {
		known[st.ColumnText(0)] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []role{reader, writer} {
		for _, p := range pragmas(r) {
			if !known[p.name] {
				t.Errorf("SQLite knows no pragma %s", p.name)
			}
		}
	}
}

func TestFoldInSQL(t *testing.T) {
	s := openNew(t, Options{})
	for text, want := range map[string]string{"Ana": "ana", "STRASSE": "strasse", "straße": "strasse", "ＡＮＡ": "ana", "": ""} {
		var got string
		if err := s.read(t.Context(), func(c *sqlite.Conn) error {
			return query(c, "SELECT roster_fold(?)", func(st *sqlite.Stmt) error { got = st.ColumnText(0); return nil }, text)
		}); err != nil || got != want {
			t.Errorf("roster_fold(%q) is %q, %v, want %q", text, got, err, want)
		}
	}
}
