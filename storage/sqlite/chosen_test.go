package sqlite

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/storagetest"
)

// TestChosenAnswers: with indexes by choice, queries find what they find without.
func TestChosenAnswers(t *testing.T) {
	raced.Skip(t)
	chosen := storagetest.Chosen(t)
	storagetest.RunFilters(t, func(t *testing.T) storage.Store {
		return open(t, filepath.Join(t.TempDir(), "roster.db"), Options{QueryTimeout: time.Minute, Indexed: chosen})
	})
}

func choose(t *testing.T, list ...string) []*schemas.Attribute {
	t.Helper()
	chosen, err := storage.ChooseIndexed(set, list)
	if err != nil {
		t.Fatal(err)
	}
	return chosen
}

// TestChosenAreSeeks: an index by choice is there for resources from before it was
// chosen, for as long as it is chosen, and equality starts from it.
func TestChosenAreSeeks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "roster.db")
	titled := func(n int, title string) *storage.Resource {
		return newResource(userType, n, map[string]any{
			"userName": fmt.Sprint("user", n), "title": title,
			"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": map[string]any{"employeeNumber": fmt.Sprint(n)},
		})
	}
	s := open(t, file, Options{})
	create(t, s, titled(1, "Nurse"), titled(2, "Cook"))
	const number = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber"
	queries := []struct {
		filter, path string
		found        int
	}{
		{`title eq "NURSE"`, "title", 2}, // one from before, one from later
		{`title eq "nurse" and active pr`, "title", 0},
		{`title eq "nurse" and not (title eq "cook")`, "title", 2},
		{number + ` eq "2"`, number, 1},
		{`employeeNumber eq "1"`, number, 1},
	}
	all := []string{"User:title", "User:" + number}
	for _, step := range []struct {
		name string
		opt  Options
		want []string // paths that have an index
	}{
		{"chosen", Options{Indexed: choose(t, all...)}, []string{"title", number}},
		{"opened by a program that leaves indexes alone", Options{}, []string{"title", number}},
		{"one not chosen any more", Options{Indexed: choose(t, all[1:]...)}, []string{number}},
		{"another one", Options{Indexed: choose(t, all[:1]...)}, []string{"title"}},
		{"none", Options{Indexed: choose(t)}, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, file, step.opt)
			if step.name == "chosen" {
				create(t, s, titled(3, "Nurse"))
			}
			if n := int(numberOfChosen(t, s)); n != len(step.want) {
				t.Errorf("%d indexes, want %d", n, len(step.want))
			}
			plan := planner(t, s)
			for _, q := range queries {
				if got := count(t, s, userType, q.filter); got != q.found {
					t.Errorf("%s: found %d, want %d", q.filter, got, q.found)
				}
				query := storage.Query{Type: "User", Filter: parse(t, userType, q.filter)}
				seek := `INDEX chosen ` + q.path + ` (tenant=? AND type=? AND <expr>=?)`
				has := slices.Contains(step.want, q.path)
				if sel := s.compile("default", query); sel.wide == has {
					t.Errorf("%s: wide %v, with an index %v", q.filter, sel.wide, has)
				}
				for _, sql := range pageSQL(s, query) {
					lines := strings.Join(plan(sql), "\n\t")
					if has != strings.Contains(lines, seek) || has != (scans.FindString(lines) == "") || strings.Contains(lines, "ORDER BY") {
						t.Errorf("%s, with an index %v:\n\t%s", q.filter, has, lines)
					}
				}
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func numberOfChosen(t *testing.T, s *Store) int64 {
	t.Helper()
	return number(t, s, `SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name LIKE 'chosen %'`)
}

// TestChosenByGuests: a command beside a server neither makes nor drops nor needs
// indexes, whatever the server does with them meanwhile.
func TestChosenByGuests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, file, Options{Indexed: choose(t, "User:title")})
	defer s.Close()
	create(t, s, newUser(1))
	guest := open(t, file, Options{Guest: true, Indexed: choose(t)})
	defer guest.Close()
	if n := numberOfChosen(t, s); n != 1 {
		t.Errorf("%d indexes beside a guest, want 1", n)
	}
	onWriter(t, s, func(c *sqlite.Conn) error { return exec(c, "DROP INDEX "+chosenIndex("title")) })
	if got := count(t, guest, userType, `title eq "x"`); got != 1 {
		t.Errorf("the guest found %d, want 1", got)
	}
}

// TestChosenTimes: an instant is found by every way of writing it.
func TestChosenTimes(t *testing.T) {
	s := openNew(t, Options{Indexed: choose(t, "RoleAssignment:startDate")})
	assignment := set.Type("RoleAssignment")
	create(t, s, newResource(assignment, 1, map[string]any{"kind": "active", "startDate": "2026-03-01T12:00:00.1234567Z"}))
	for _, c := range []struct {
		filter string
		found  int
	}{
		{`startDate eq "2026-03-01T12:00:00.1234567Z"`, 1},
		{`startDate eq "2026-03-01T13:00:00.1234567+01:00"`, 1},
		{`startDate eq "2026-03-01T12:00:00.1234568Z"`, 0},
	} {
		if got := count(t, s, assignment, c.filter); got != c.found {
			t.Errorf("%s: found %d, want %d", c.filter, got, c.found)
		}
		sel := s.compile("default", storage.Query{Type: assignment.Name, Filter: parse(t, assignment, c.filter)})
		if !strings.Contains(sel.from, chosenIndex("startDate")) {
			t.Errorf("%s starts from %s", c.filter, sel.from)
		}
	}
}
