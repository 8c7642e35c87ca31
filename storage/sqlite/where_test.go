package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// injections would do harm as part of a statement.
var injections = []string{
	`'`, `"`, `\`, `''`, `";`, `';`, `--`, `/*`, `*/`, `)`, `))`, `%`, `_`, `?`, `?1`, `:x`, `@x`, `$x`, `[`, `]`,
	`' OR '1'='1`, `" OR "1"="1`, `' OR 1=1 --`, `') OR (1=1`, `') OR 1 --`, `'; DROP TABLE resource; --`, `"; DROP TABLE resource; --`,
	`x') UNION SELECT n, id, version, created, modified, doc FROM resource --`, `'); DELETE FROM audit; --`, `$."x"`, `$[0]`, `'$."x"'`,
	"x'||(SELECT hash FROM token)||'", "\x01", "\n", "１", "char(39)", "0x27", "NULL", "1", "true",
}

// TestValuesNeverReachTheSQL puts them into every comparison that a filter on
// users and groups can make. The statements must be the same for all of them, and
// the tables too.
func TestValuesNeverReachTheSQL(t *testing.T) {
	s := openNew(t, Options{QueryTimeout: time.Minute})
	u, g := newUser(1), newGroup(2)
	create(t, s, u, g)
	addMembers(t, s, g, u)
	before := number(t, s, "SELECT count(*) FROM resource") + 1000*number(t, s, "SELECT count(*) FROM audit") + 1e6*number(t, s, "SELECT count(*) FROM sqlite_schema")
	asked := 0
	ask := func(rt *schemas.ResourceType, template string) {
		t.Helper()
		statement := ""
		for i, v := range append([]string{"harmless"}, injections...) {
			text := fmt.Sprintf(template, schemas.AppendString(nil, v))
			e := parse(t, rt, text)
			q := storage.Query{Type: rt.Name, Filter: e, StartIndex: 1, Count: 5}
			sql := s.compile("default", q).from
			if i == 0 {
				statement = sql
			}
			if sql != statement && v != "" {
				t.Errorf("%s becomes\n%s\nwhere a harmless value becomes\n%s", text, sql, statement)
			}
			if asked%len(injections) != i-1 {
				continue // each value is asked for by many kinds of filters
			}
			p, err := s.Query(t.Context(), storage.DefaultTenant, q)
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			if list, err := p.Next(t.Context()); err != nil || len(list) != p.TotalResults {
				t.Errorf("%s: %d of %d resources, %v", text, len(list), p.TotalResults, err)
			}
		}
		asked++
	}
	for _, rt := range []*schemas.ResourceType{userType, groupType} {
		var walk func([]*schemas.Attribute)
		walk = func(attrs []*schemas.Attribute) {
			for _, a := range attrs {
				if a.Type == schemas.Complex {
					walk(a.SubAttributes)
					continue
				}
				if !a.Readable() || a.Type != schemas.String && a.Type != schemas.Reference && a.Type != schemas.Binary {
					continue
				}
				ops := []string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"}
				if a.Type == schemas.Binary {
					ops = ops[:2]
				}
				for _, op := range ops {
					ask(rt, a.Path+" "+op+" %s")
					if p := a.Parent; p != nil && !p.Extension {
						ask(rt, p.Path+"[not ("+a.Name+" "+op+" %s)]")
					}
				}
			}
		}
		walk(rt.Attributes())
	}
	if asked < 500 {
		t.Errorf("only %d kinds of filters were asked", asked)
	}
	after := number(t, s, "SELECT count(*) FROM resource") + 1000*number(t, s, "SELECT count(*) FROM audit") + 1e6*number(t, s, "SELECT count(*) FROM sqlite_schema")
	if before != after {
		t.Errorf("the tables were %d and are %d", before, after)
	}
}

// TestNamesAreSafeInSQL: names come from schemas, which administrators write.
func TestNamesAreSafeInSQL(t *testing.T) {
	a := &schemas.Attribute{Name: `it's."x"`, Path: `it's."x"`}
	if got := path(a, nil); got != `'$."it''s%2E"x""'` {
		t.Errorf("got %s", got)
	}
}

func TestUnknownExpressionsAreABug(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unknown expression was compiled")
		}
	}()
	(&compiler{}).expr(unknown{}, row)
}

type unknown struct{ filter.Expr }

// TestAScanIsStopped gives a query a moment for many rows.
func TestAScanIsStopped(t *testing.T) {
	s := openNew(t, Options{QueryTimeout: 2 * time.Millisecond})
	heavy(t, s, 100_000)
	slow := storage.Query{Type: "User", Filter: parse(t, userType, `title co "x" and title ew "y" and not (title sw "z")`), StartIndex: 1, Count: 1}
	stopped := func(q storage.Query) error {
		for {
			// On a busy machine the moment may be over before there is a reader.
			if _, err := s.Query(t.Context(), storage.DefaultTenant, q); !errors.Is(err, storage.ErrUnavailable) {
				return err
			}
		}
	}
	for range 3 * s.size { // no reader is the worse for it
		if err := stopped(slow); !errors.Is(err, storage.ErrTooExpensive) {
			t.Fatalf("got %v, want ErrTooExpensive", err)
		}
		if n := count(t, s, userType, `userName eq "user1"`); n != 1 {
			t.Fatalf("an index finds %d, want 1", n)
		}
	}
	sorted := storage.Query{Type: "User", SortBy: userType.Lookup("title"), StartIndex: 1, Count: 1}
	if err := stopped(sorted); !errors.Is(err, storage.ErrTooExpensive) {
		t.Errorf("sorted: got %v, want ErrTooExpensive", err)
	}
	if _, err := s.Get(t.Context(), storage.DefaultTenant, "User", newUser(1).ID); err != nil {
		t.Error(err)
	}
}

// heavy fills a store with users that filters below take long over.
func heavy(t *testing.T, s *Store, rows int) {
	t.Helper()
	create(t, s, newUser(1))
	onWriter(t, s, func(c *sqlite.Conn) error {
		return exec(c, `WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < ?)
			INSERT INTO resource (tenant, type, id, version, created, modified, name, keys, doc, shadow)
			SELECT 'default', 'User', printf('ffffffff-0000-7000-8000-%012d', i), 1, 0, 0, '', x'0000', '{}', jsonb('{"title":"abc"}') FROM k`, rows)
	})
}

const slowFilter = `title co "x" and title ew "y" and not (title sw "z")`

// TestScansLeaveReaders: however many scans are asked for, what an index answers
// finds a reader.
func TestScansLeaveReaders(t *testing.T) {
	s := openNew(t, Options{QueryTimeout: time.Minute})
	heavy(t, s, 20_000)
	text := slowFilter
	for i := range 20 {
		text += fmt.Sprintf(` and not (title co "x%d")`, i)
	}
	slow := storage.Query{Type: "User", Filter: parse(t, userType, "("+text+`) or title co "q"`), StartIndex: 1, Count: 1}
	ctx, stop := context.WithCancel(t.Context())
	var scans atomic.Int64
	var wg sync.WaitGroup
	for range 4 * s.size {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Query(ctx, storage.DefaultTenant, slow); err != nil && ctx.Err() == nil {
					t.Errorf("a scan: %v", err)
					return
				}
				scans.Add(1)
			}
		})
	}
	for scans.Load() < int64(4*s.size) && !t.Failed() {
		if len(s.readers) == 0 { // nobody else reads at this moment
			t.Errorf("scans have all %d readers", s.size)
		}
		if _, err := s.Get(t.Context(), storage.DefaultTenant, "User", newUser(1).ID); err != nil {
			t.Error(err)
		}
		for _, f := range []string{`userName eq "user1"`, `userName eq "user1" and title eq "x"`} {
			if n := count(t, s, userType, f); n != 1 {
				t.Errorf("%s finds %d, want 1", f, n)
			}
		}
	}
	stop()
	wg.Wait()
}

// TestScansWaitForTheirTurn: beyond the places there are, a scan waits, and is
// told to come again when there is none in time. The next one is none the worse.
func TestScansWaitForTheirTurn(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(1), newGroup(2))
	ask := func(rt *schemas.ResourceType, f string, sortBy string) error {
		q := storage.Query{Type: rt.Name, SortBy: rt.Lookup(sortBy), StartIndex: 1, Count: 1}
		if f != "" {
			q.Filter = parse(t, rt, f)
		}
		_, err := s.Query(t.Context(), storage.DefaultTenant, q)
		return err
	}
	for range cap(s.scans) {
		s.scans <- struct{}{}
	}
	s.opt.QueryTimeout = 10 * time.Millisecond
	for _, f := range []string{`title co "x"`, `title pr`, `meta.lastModified gt "2020-01-01T00:00:00Z"`, `groups.value eq "x"`, `id sw "0"`} {
		if err := ask(userType, f, ""); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s, with no place free: got %v, want ErrUnavailable", f, err)
		}
	}
	if err := ask(userType, "", "title"); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("sorted, with no place free: got %v, want ErrUnavailable", err)
	}
	s.opt.QueryTimeout = time.Minute // however slow the machine is
	for _, f := range []string{`id eq "x"`, `userName eq "x"`, `externalId eq "x" and title co "y"`, `emails[type eq "work" and value eq "x"]`} {
		if err := ask(userType, f, "userName"); err != nil {
			t.Errorf("%s waits for scans: %v", f, err)
		}
	}
	if err := ask(groupType, `members.value eq "x"`, ""); err != nil {
		t.Errorf("members.value waits for scans: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Query(ended, storage.DefaultTenant, storage.Query{Type: "User", Filter: parse(t, userType, `title pr`), Count: 1}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a request that ended: got %v, want ErrUnavailable", err)
	}
	<-s.scans
	for range 3 {
		if err := ask(userType, `title co "x"`, ""); err != nil {
			t.Errorf("with a place free: %v", err)
		}
	}
	if len(s.scans) != cap(s.scans)-1 {
		t.Errorf("%d of %d places are taken, want all but one", len(s.scans), cap(s.scans))
	}
	for range len(s.scans) {
		<-s.scans
	}
}

// TestOneBudgetForAPage: the page and the total share the time of a query, so
// neither has one of its own.
func TestOneBudgetForAPage(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(1))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, count := range []int{0, 1} { // the total first, the page first
		q := storage.Query{Type: "User", Filter: parse(t, userType, slowFilter), StartIndex: 1, Count: count}
		err := s.snapshot(t.Context(), func(c *sqlite.Conn) error {
			p := &page{store: s, typ: q.Type, read: new(portion)}
			_, err := p.search(over, c, "default", s.compile("default", q), q)
			return err
		})
		if !errors.Is(err, storage.ErrTooExpensive) {
			t.Errorf("count=%d when the time is over: got %v, want ErrTooExpensive", count, err)
		}
	}
}

// TestShadowIsJSONB lets SQLite read what storage writes, at every size where the
// form of a header changes.
func TestShadowIsJSONB(t *testing.T) {
	s := openNew(t, Options{})
	for _, size := range []int{1, 10, 11, 12, 13, 240, 254, 255, 256, 257, 65_500, 65_534, 65_535, 65_536, 65_537, 70_000} {
		attrs := map[string]any{
			"userName": "x", "title": strings.Repeat("t", size), "active": true,
			"emails": []any{map[string]any{"value": strings.Repeat("e", size), "primary": false}, map[string]any{"type": "é"}},
			"name":   map[string]any{"givenName": strings.Repeat("g", size)},
		}
		var text string
		var valid int
		if err := s.read(t.Context(), func(c *sqlite.Conn) error {
			return query(c, "SELECT json_valid(?1, 8), json(?1)", func(st *sqlite.Stmt) error {
				valid, text = st.ColumnInt(0), st.ColumnText(1)
				return nil
			}, s.NewIndex(storage.DefaultTenant, userType, attrs).(*index).shadow)
		}); err != nil || valid != 1 {
			t.Errorf("size %d: valid %d, %v", size, valid, err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(any(attrs), spelledOut(got)); diff != "" {
			t.Errorf("size %d (-want +got):\n%.500s", size, diff)
		}
	}
}
