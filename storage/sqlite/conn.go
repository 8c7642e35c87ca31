package sqlite

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/schemas"
)

// busyTimeout is how long a connection waits for others: before its pragmas and by them.
const busyTimeout = 5 * time.Second

// minVersion is the first SQLite without the WAL-reset corruption.
const minVersion = "3.51.3"

// appID is SQLite's application_id of a store: "Rost".
const appID = 0x526f7374

type role bool

const (
	reader role = false
	writer role = true
)

// pragma is a setting and the value it must read back as. SQLite ignores a
// misspelt pragma without a word.
type pragma struct{ name, set, want string }

func pragmas(r role) []pragma {
	busy := strconv.FormatInt(busyTimeout.Milliseconds(), 10)
	ps := []pragma{
		{"journal_mode", "WAL", "wal"},
		{"synchronous", "FULL", "2"},
		{"foreign_keys", "ON", "1"},
		{"busy_timeout", busy, busy},
		{"trusted_schema", "OFF", "0"},
		{"mmap_size", "0", "0"},
		// The journal of savepoints stays in memory: what a rollback of one write
		// needs is not needed after a crash.
		{"temp_store", "MEMORY", "2"},
		{"cell_size_check", "ON", "1"},
	}
	if r == writer {
		return append(ps,
			// After a split of pages a commit looks through all of it. What is not there
			// is in that of the system.
			pragma{"cache_size", "-16000", "-16000"},
			pragma{"secure_delete", "ON", "1"},     // what is purged is not to be found in the file
			pragma{"wal_autocheckpoint", "0", "0"}, // see checkpointer
			pragma{"journal_size_limit", "134217728", "134217728"})
	}
	return append(ps, pragma{"cache_size", "-4000", "-4000"}, pragma{"query_only", "ON", "1"})
}

// openConn opens a connection and verifies every setting.
func openConn(path string, r role) (*sqlite.Conn, error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(busyTimeout)
	if r == writer { // who comes first
		err = ours(c, path)
	}
	if err == nil {
		err = configure(c, r)
	}
	if err == nil {
		err = c.CreateFunction("roster_fold", fold)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ours refuses the database of another program, before a setting changes it.
func ours(c *sqlite.Conn, path string) error {
	// The tables first: a server that makes a store says that it is one before they are there.
	var tables, id int
	err := query(c, "SELECT count(*) FROM sqlite_schema", func(st *sqlite.Stmt) error { tables = st.ColumnInt(0); return nil })
	if err == nil {
		err = query(c, "PRAGMA application_id", func(st *sqlite.Stmt) error { id = st.ColumnInt(0); return nil })
	}
	if err == nil && id != appID && (id != 0 || tables > 0) {
		err = fmt.Errorf("%s is a database of another program", path)
	}
	return err
}

// fold gives SQL the comparison form of text that has no shadow: the display
// names of members.
var fold = &sqlite.FunctionImpl{
	NArgs: 1, Deterministic: true,
	Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
		return sqlite.TextValue(schemas.Fold(args[0].Text())), nil
	},
}

func configure(c *sqlite.Conn, r role) error {
	v := ""
	err := query(c, "SELECT sqlite_version()", func(st *sqlite.Stmt) error { v = st.ColumnText(0); return nil })
	if err != nil {
		return err
	}
	if !atLeast(v, minVersion) {
		return fmt.Errorf("SQLite is %s, at least %s is needed", v, minVersion)
	}
	for _, p := range pragmas(r) {
		if err := sqlitex.ExecuteTransient(c, "PRAGMA "+p.name+" = "+p.set, nil); err != nil {
			return fmt.Errorf("PRAGMA %s: %w", p.name, err)
		}
		got := ""
		err := sqlitex.ExecuteTransient(c, "PRAGMA "+p.name, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			got = s.ColumnText(0)
			return nil
		}})
		if err != nil {
			return fmt.Errorf("PRAGMA %s: %w", p.name, err)
		}
		// An omitted mmap build answers nothing, which is as good as zero.
		if got != p.want && (p.name != "mmap_size" || got != "") {
			return fmt.Errorf("PRAGMA %s is %q after setting it, expected %q", p.name, got, p.want)
		}
	}
	return nil
}

// atLeast compares dotted versions number by number.
func atLeast(v, want string) bool {
	a, b := strings.Split(v, "."), strings.Split(want, ".")
	for i := range b {
		if i >= len(a) {
			return false
		}
		x, errX := strconv.Atoi(a[i])
		y, _ := strconv.Atoi(b[i])
		if errX != nil || x != y {
			return errX == nil && x > y
		}
	}
	return true
}
