package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/storagetest"
)

func TestContract(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return &merging{Store: open(t, filepath.Join(t.TempDir(), "roster.db"), Options{QueryTimeout: time.Minute, manyMembers: 3})}
	})
}

func TestMove(t *testing.T) {
	raced.Skip(t)
	plain := func(t *testing.T) storage.Store {
		return open(t, filepath.Join(t.TempDir(), "roster.db"), Options{QueryTimeout: time.Minute})
	}
	storagetest.Move(t, plain, func(t *testing.T) storage.Store { return &merging{Store: plain(t).(*Store)} })
}

// merging is a Store that moves the keys of new rows from memory to the tables
// with every seventh write, so that the contract sees rows of both kinds.
type merging struct {
	*Store
	writes int // the writer's
}

func (s *merging) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	return s.Store.Write(ctx, tenant, func(t storage.Tx) error {
		if s.writes++; s.writes%7 == 0 {
			t.(*tx).batch.keys.recent.rows = mergeRows
		}
		return fn(t)
	})
}

// open opens a store whose log goes nowhere, unless opt has one.
func open(t testing.TB, path string, opt Options) *Store {
	t.Helper()
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// openNew opens a store in a folder of its own until the test ends.
func openNew(t testing.TB, opt Options) *Store {
	t.Helper()
	s := open(t, filepath.Join(t.TempDir(), "roster.db"), opt)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

var set = func() *schemas.Set {
	s, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	return s
}()

var userType, groupType = set.Type("User"), set.Type("Group")

var someday = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newResource makes a resource from attributes; the id grows with n.
func newResource(rt *schemas.ResourceType, n int, attrs map[string]any) *storage.Resource {
	r := &storage.Resource{Type: rt.Name, ID: fmt.Sprintf("01a20000-0000-7000-8000-%012d", n), Version: 1, Created: someday, LastModified: someday}
	attrs["id"], attrs["schemas"] = r.ID, rt.SchemasOf(attrs)
	if r.Name, _ = attrs["userName"].(string); r.Name == "" {
		r.Name, _ = attrs["displayName"].(string)
	}
	r.Doc = rt.Document(attrs)
	r.Index = new(Store).NewIndex(storage.DefaultTenant, rt, attrs)
	return r
}

func newUser(n int) *storage.Resource {
	name := fmt.Sprintf("user%d", n)
	return newResource(userType, n, map[string]any{
		"userName": name, "externalId": name, "displayName": name, "title": "x",
		"emails": []any{map[string]any{"value": name + "@x.example", "type": "work"}},
	})
}

func newGroup(n int) *storage.Resource {
	return newResource(groupType, n, map[string]any{"displayName": fmt.Sprintf("group%d", n)})
}

// write runs fn in a write with an audit entry.
func write(s *Store, fn func(storage.Tx) error) error {
	return s.Write(context.Background(), storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(fn(tx), tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "test"}))
	})
}

// create stores resources.
func create(t testing.TB, s *Store, resources ...*storage.Resource) {
	t.Helper()
	if err := write(s, func(tx storage.Tx) error {
		for _, r := range resources {
			if err := tx.Create(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// addMembers adds members to a group.
func addMembers(t testing.TB, s *Store, group *storage.Resource, members ...*storage.Resource) {
	t.Helper()
	if err := write(s, func(tx storage.Tx) error {
		for _, m := range members {
			if _, err := tx.AddMembers(group, []storage.Member{{Value: m.ID}}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, rt *schemas.ResourceType, text string) filter.Expr {
	t.Helper()
	e, err := filter.Parse(text, rt, filter.Limits{})
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return e
}

// count returns TotalResults of a filter.
func count(t testing.TB, s *Store, rt *schemas.ResourceType, text string) int {
	t.Helper()
	p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: rt.Name, Filter: parse(t, rt, text), StartIndex: 1})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p.TotalResults
}

// onWriter runs fn on the writer's connection.
func onWriter(t testing.TB, s *Store, fn func(*sqlite.Conn) error) {
	t.Helper()
	if err := s.Write(t.Context(), storage.DefaultTenant, func(w storage.Tx) error { return fn(w.(*tx).conn()) }); err != nil {
		t.Fatal(err)
	}
}

// number reads one integer with SQL.
func number(t testing.TB, s *Store, sql string, args ...any) (n int64) {
	t.Helper()
	if err := s.read(t.Context(), func(c *sqlite.Conn) error {
		return query(c, sql, func(st *sqlite.Stmt) error { n = st.ColumnInt64(0); return nil }, args...)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestInGroupsIsExact: this store says of a resource that left its groups that it
// is in none, so nobody has to ask for them.
func TestInGroupsIsExact(t *testing.T) {
	s := openNew(t, Options{})
	u, g, h := newUser(1), newGroup(2), newGroup(3)
	create(t, s, u, g, h)
	check := func(when string, want bool) {
		t.Helper()
		r, err := s.Get(t.Context(), storage.DefaultTenant, "User", u.ID)
		if err != nil || r.InGroups != want {
			t.Errorf("%s: Get: %v, InGroups %v, want %v", when, err, r.InGroups, want)
		}
		p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 1})
		if err != nil {
			t.Fatal(err)
		}
		if list, err := p.Next(t.Context()); err != nil || len(list) != 1 || list[0].InGroups != want {
			t.Errorf("%s: Query: %v, %+v, want InGroups %v", when, err, list, want)
		}
	}
	check("first", false)
	addMembers(t, s, g, u)
	addMembers(t, s, h, u)
	check("in two groups", true)
	if err := write(s, func(tx storage.Tx) error { return tx.Delete(h, someday) }); err != nil {
		t.Fatal(err)
	}
	check("one is deleted", true)
	if err := write(s, func(tx storage.Tx) error { _, err := tx.RemoveMembers(g, []string{u.ID}); return err }); err != nil {
		t.Fatal(err)
	}
	check("out of the other", false)
}
