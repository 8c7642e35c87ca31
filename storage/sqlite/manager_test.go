package sqlite

import (
	"fmt"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// TestManagersAreDerived: users of a store that had no keys of managers are found by
// them, whether their keys were in the tables or not.
func TestManagersAreDerived(t *testing.T) {
	path := t.TempDir()
	s := open(t, path, Options{})
	var users []*storage.Resource
	reporting := func(n int) *storage.Resource {
		u := newUser(n)
		attrs, err := userType.Parse(u.Doc)
		if err != nil {
			t.Fatal(err)
		}
		if attrs[schemas.EnterpriseUserURI] = map[string]any{"manager": map[string]any{"value": fmt.Sprint("boss", n)}}; n == 4 {
			delete(attrs, schemas.EnterpriseUserURI)
		}
		u.Doc, u.Index = userType.Document(attrs), s.NewIndex(storage.DefaultTenant, userType, attrs)
		users = append(users, u)
		return u
	}
	create(t, s, reporting(1))
	onWriter(t, s, func(*sqlite.Conn) error { s.recent.rows = mergeRows; return nil })
	create(t, s, reporting(2), reporting(3), reporting(4))
	const manager = `urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value`
	check := func(when string, want int) {
		t.Helper()
		for n := 1; n < 4; n++ {
			if got := count(t, s, userType, fmt.Sprintf(`%s eq "boss%d"`, manager, n)); got != want {
				t.Errorf("%s %d users have the manager boss%d, want %d", when, got, n, want)
			}
		}
	}
	check("at first", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file := path + "/roster.db"
	var kept [][]byte
	raw(t, file, func(c *sqlite.Conn) {
		for n := 1; n < 4; n++ {
			h := hashLookup("default", "User", storage.Key{Path: manager, Value: fmt.Sprint("boss", n)})
			err := query(c, `SELECT keys FROM resource WHERE n = ?`, func(st *sqlite.Stmt) error {
				k := unpackKeys(columnBytes(st, 0))
				kept = append(kept, k.pack())
				k.lookup = slices.DeleteFunc(k.lookup, func(l lookupKey) bool { return l == h })
				if err := exec(c, `UPDATE resource SET keys = ? WHERE n = ?`, k.pack(), n); err != nil {
					return err
				}
				return exec(c, `DELETE FROM lookup WHERE h = ?`, int64(h))
			}, n)
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	s = open(t, path, Options{})
	check("without keys", 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, file, func(c *sqlite.Conn) {
		rows, err := staleRows(c, set, 0)
		if err != nil || !slices.Equal(rows, []int64{1, 2, 3}) {
			t.Errorf("the rows to derive are %v, %v, want the three with a manager", rows, err)
		}
		if err := exec(c, `INSERT INTO stale (n) VALUES (0)`); err != nil {
			t.Fatal(err)
		}
	})
	s = open(t, path, Options{})
	defer s.Close()
	check("derived anew", 1)
	for n := 1; n < 4; n++ {
		onWriter(t, s, func(c *sqlite.Conn) error {
			return query(c, `SELECT keys FROM resource WHERE n = ?`, func(st *sqlite.Stmt) error {
				if got := columnBytes(st, 0); !slices.Equal(got, kept[n-1]) {
					t.Errorf("row %d has the keys %x, want %x", n, got, kept[n-1])
				}
				return nil
			}, n)
		})
	}
}
