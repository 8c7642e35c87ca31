package sqlite

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// scans are the plans that read a table or an index of it from end to end, or
// all of a type or kind in it. Lists in memory and the results of subqueries are scanned
// rightly.
var scans = regexp.MustCompile(`SCAN (r|m|x|g|c|i|f|k|resource|membership|unique_key|lookup|item|item_key|token|client|audit|outbox|tally)\b|SEARCH (r|resource) .*\(tenant=\? AND type=\?\)|SEARCH (k|f|item_key) .*\(tenant=\? AND kind=\?\)`)

// explainSQL returns how a connection would run a statement, a line for each step.
func explainSQL(t testing.TB, c *sqlite.Conn, sql string) []string {
	t.Helper()
	var lines []string
	st, _, err := c.PrepareTransient("EXPLAIN QUERY PLAN " + sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	err = rows(st, func(st *sqlite.Stmt) error {
		lines = append(lines, st.ColumnText(3))
		return nil
	})
	if ferr := st.Finalize(); err != nil || ferr != nil {
		t.Fatalf("%s: %v, %v", sql, err, ferr)
	}
	return lines
}

// planner explains on a reader of its own.
func planner(t testing.TB, s *Store) func(sql string) []string {
	t.Helper()
	return func(sql string) (lines []string) {
		t.Helper()
		if err := s.read(t.Context(), func(c *sqlite.Conn) error {
			lines = explainSQL(t, c, sql)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return lines
	}
}

// prepared returns the statements that a connection keeps.
func prepared(c *sqlite.Conn) []string {
	var list []string
	for _, k := range reflect.ValueOf(c).Elem().FieldByName("stmts").MapKeys() {
		list = append(list, k.String())
	}
	slices.Sort(list)
	return list
}

// keptByReaders returns the statements that any reader keeps.
func keptByReaders(s *Store) []string {
	var conns []*sqlite.Conn
	var list []string
	for range s.size {
		c := <-s.readers
		conns = append(conns, c)
		list = append(list, prepared(c)...)
	}
	for _, c := range conns {
		s.readers <- c
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// pageSQL is what search runs for a page and for the total.
func pageSQL(s *Store, q storage.Query) []string {
	sel := s.compile(string(storage.DefaultTenant), q)
	if sel.under != "" {
		sel = sel.below([]int64{1, 2}, q)
	}
	return []string{"SELECT " + resourceColumns + " FROM " + sel.from + sel.order(q) + " LIMIT 0 + ? OFFSET 0 + ?", "SELECT count(*) FROM " + sel.from}
}

// seekTests are filters with the steps their plans must have.
var seekTests = []struct {
	rt     *schemas.ResourceType
	filter string
	want   []string
}{
	{userType, `id eq "x"`, []string{`SEARCH r USING INDEX resource_live (tenant=? AND type=? AND id=?)`}},
	{groupType, `id eq "x"`, []string{`SEARCH r USING INDEX resource_live (tenant=? AND type=? AND id=?)`}},
	{userType, `userName eq "user1"`, uniqueSeek},
	{userType, `userName eq "USER1" and active eq true`, uniqueSeek},
	{userType, `not (title pr) and (userName eq "user1")`, uniqueSeek},
	{groupType, `displayName eq "group1"`, uniqueSeek},
	{userType, `displayName eq "user1"`, lookupSeek},
	{userType, `externalId eq "user1"`, lookupSeek},
	{groupType, `externalId eq "user1"`, lookupSeek},
	{userType, `manager eq "x"`, lookupSeek},
	{userType, `urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value eq "x"`, lookupSeek},
	{userType, `emails.value eq "user1@x.example"`, lookupSeek},
	{userType, `emails eq "user1@x.example"`, lookupSeek},
	{userType, `emails[value eq "user1@x.example"]`, lookupSeek},
	{userType, `emails[type eq "work" and value eq "user1@x.example"]`, lookupSeek},
	{userType, `emails[type eq "work"].value eq "user1@x.example"`, lookupSeek},
	{userType, `title co "x" and emails[type eq "work" and value eq "user1@x.example"]`, lookupSeek},
	{groupType, `members.value eq "x"`, memberSeek},
	{groupType, `members eq "x"`, memberSeek},
	{groupType, `members[value eq "x"]`, memberSeek},
	{groupType, `members[value eq "x" and type eq "User"]`, memberSeek},
	{userType, `groups.value eq "x"`, groupSeek},
	{userType, `groups[value eq "x"]`, groupSeek},
	{userType, `groups[value eq "x" and type eq "direct"]`, groupSeek},
	{userType, `meta.lastModified gt "2026-01-01T00:00:00Z"`, []string{`SEARCH r USING INDEX resource_modified (tenant=? AND type=? AND modified>?)`}},
	{userType, `meta.lastModified ge "2026-01-01T00:00:00Z"`, []string{`SEARCH r USING INDEX resource_modified (tenant=? AND type=? AND modified>?)`}},
	{userType, `meta.lastModified lt "2026-01-01T00:00:00Z"`, []string{`SEARCH r USING INDEX resource_modified (tenant=? AND type=? AND modified<?)`}},
	{groupType, `meta.lastModified le "2026-01-01T00:00:00Z"`, []string{`SEARCH r USING INDEX resource_modified (tenant=? AND type=? AND modified<?)`}},
	{userType, `meta.lastModified eq "2026-01-01T00:00:00Z"`, []string{`SEARCH r USING INDEX resource_modified (tenant=? AND type=? AND modified=?)`}},
}

var (
	uniqueSeek = []string{`SEARCH r USING INTEGER PRIMARY KEY (rowid=?)`, `SEARCH unique_key USING PRIMARY KEY (h=?)`}
	lookupSeek = []string{`SEARCH r USING INTEGER PRIMARY KEY (rowid=?)`, `SEARCH lookup USING PRIMARY KEY (h=?)`}
	memberSeek = []string{`SEARCH k USING COVERING INDEX membership_member (member=?)`, `SEARCH r USING INTEGER PRIMARY KEY (rowid=?)`}
	groupSeek  = []string{`SEARCH m USING PRIMARY KEY (grp=?)`, `SEARCH r USING INTEGER PRIMARY KEY (rowid=?)`}
)

// TestEqualityIsASeek holds every attribute that clients match by to an index:
// for the page and for the total, for keys in memory and for merged ones.
func TestEqualityIsASeek(t *testing.T) {
	s := openNew(t, Options{})
	plan := planner(t, s)
	create(t, s, newUser(1), newGroup(2))
	for _, merged := range []bool{false, true} {
		if merged {
			onWriter(t, s, func(*sqlite.Conn) error { s.recent.rows = mergeRows; return nil })
			create(t, s, newUser(3))
		}
		for _, c := range seekTests {
			for _, sql := range pageSQL(s, storage.Query{Type: c.rt.Name, Filter: parse(t, c.rt, c.filter)}) {
				lines := plan(sql)
				text := strings.Join(lines, "\n\t")
				if at := scans.FindString(text); at != "" {
					t.Errorf("%s, merged %v: %s:\n\t%s", c.filter, merged, at, text)
				}
				for _, want := range c.want {
					// Sometimes the index alone answers.
					covering := strings.Replace(want, "USING INDEX", "USING COVERING INDEX", 1)
					if !slices.Contains(lines, want) && !slices.Contains(lines, covering) {
						t.Errorf("%s, merged %v: no %q in\n\t%s", c.filter, merged, want, text)
					}
				}
			}
		}
	}
}

// TestGroupsAreMerged: those in groups are not gathered for a page, nor sorted, and a page
// of a walk begins where the last one ended.
func TestGroupsAreMerged(t *testing.T) {
	s := openNew(t, Options{})
	plan := planner(t, s)
	for _, descending := range []bool{false, true} {
		for _, f := range []string{`groups.value eq "x"`, `groups[value eq "x"] and title co "y"`} {
			q := storage.Query{Type: "User", Filter: parse(t, userType, f), Descending: descending}
			for _, q.After = range []*storage.Mark{nil, {ID: "y"}} {
				text := strings.Join(plan(pageSQL(s, q)[0]), "\n\t")
				if strings.Contains(text, "TEMP B-TREE") || q.After != nil && strings.Count(text, "(grp=? AND id") != 2 {
					t.Errorf("%s, descending %v, behind %v:\n\t%s", f, descending, q.After != nil, text)
				}
			}
		}
	}
}

// TestScansAreSeen makes sure that the test above can fail.
func TestScansAreSeen(t *testing.T) {
	s := openNew(t, Options{})
	text := strings.Join(planner(t, s)("SELECT count(*) FROM resource r JOIN membership m ON m.display = r.name"), "\n")
	if !scans.MatchString(text) {
		t.Errorf("no scan in\n%s", text)
	}
	for _, f := range []string{`title eq "x"`, `userName co "x"`, `userName eq "x" or title eq "x"`, `not (userName eq "x")`, `userName ne "x"`} {
		q := storage.Query{Type: "User", Filter: parse(t, userType, f)}
		if s.compile("default", q).seeks {
			t.Errorf("%s: is a seek", f)
		}
	}
}

// TestScansLookUpTheRest: a query may have to look at all resources of a type, but
// for each of them it looks up no more than what belongs to it.
func TestScansLookUpTheRest(t *testing.T) {
	s := openNew(t, Options{})
	plan := planner(t, s)
	for _, c := range []struct {
		rt     *schemas.ResourceType
		filter string
	}{
		{userType, `groups.display eq "x"`}, {userType, `groups[type eq "direct"]`}, {userType, `groups pr`}, {userType, `groups.type co "x"`},
		{userType, `not (groups.value eq "x")`}, {userType, `title co "x" or groups[value eq "x" and display sw "y"]`}, {userType, `groups[not (value eq "x")]`},
		{groupType, `members.display co "x"`}, {groupType, `members pr`}, {groupType, `not (members.value eq "x")`}, {groupType, `members.type eq "User"`},
		{groupType, `displayName co "x" or members.value eq "x"`}, {groupType, `members[value ne "x"]`}, {groupType, `members.value co "x"`},
	} {
		for _, sql := range pageSQL(s, storage.Query{Type: c.rt.Name, Filter: parse(t, c.rt, c.filter)}) {
			lines := plan(sql)
			text := strings.Join(lines, "\n\t")
			of := 0
			for _, line := range lines {
				if scans.MatchString(line) {
					of++
				}
			}
			if of > 1 || of == 1 && !strings.Contains(text, "(tenant=? AND type=?)") {
				t.Errorf("%s:\n\t%s", c.filter, text)
			}
		}
	}
}

// TestMembershipIsTwoSeeks: whether somebody is in a group must not depend on how
// many others are.
func TestMembershipIsTwoSeeks(t *testing.T) {
	s := openNew(t, Options{})
	plan := planner(t, s)
	for _, f := range []string{`id eq "g" and members[value eq "u"]`, `id eq "g" and members.value eq "u"`, `members eq "u" and id eq "g"`,
		`displayName eq "g" and members.value eq "u"`} {
		for _, sql := range pageSQL(s, storage.Query{Type: "Group", Filter: parse(t, groupType, f)}) {
			lines := plan(sql)
			text := strings.Join(lines, "\n\t")
			if scans.MatchString(text) || strings.Contains(text, "(grp=?)") || strings.Contains(text, "(member=?)") {
				t.Errorf("%s: walks a membership:\n\t%s", f, text)
			}
			if !strings.Contains(text, "(grp=? AND member=?)") && !strings.Contains(text, "(member=? AND grp=?)") {
				t.Errorf("%s: does not seek the row:\n\t%s", f, text)
			}
		}
	}
}

// TestPlansAreOfWhatRuns compares the texts explained above with those that
// queries leave prepared.
func TestPlansAreOfWhatRuns(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(1), newGroup(2))
	for _, c := range seekTests {
		q := storage.Query{Type: c.rt.Name, Filter: parse(t, c.rt, c.filter), StartIndex: 1, Count: 1}
		if !s.compile("default", q).common {
			continue
		}
		for q.Count = range 2 {
			if _, err := s.Query(t.Context(), storage.DefaultTenant, q); err != nil {
				t.Fatal(err)
			}
		}
		kept := keptByReaders(s)
		for _, sql := range pageSQL(s, q) {
			if !slices.Contains(kept, sql) {
				t.Errorf("%s does not run\n%s\nbut one of\n%s", c.filter, sql, strings.Join(kept, "\n"))
			}
		}
	}
}

// TestReadsAreSeeks runs every kind of read that has one text, and explains all
// that readers keep prepared for it.
func TestReadsAreSeeks(t *testing.T) {
	s := openNew(t, Options{})
	users := []*storage.Resource{newUser(1), newUser(2)}
	g := newGroup(3)
	create(t, s, users[0], users[1], g)
	addMembers(t, s, g, users...)
	ctx, tenant := t.Context(), storage.DefaultTenant
	for range 50 { // so that every reader is asked
		_, err1 := s.Get(ctx, tenant, "User", users[0].ID)
		p, err := s.Query(ctx, tenant, storage.Query{Type: "User", StartIndex: 1, Count: 10})
		if err != nil {
			t.Fatal(err)
		}
		_, err2 := p.Next(ctx)
		for _, err := range s.Members(ctx, tenant, g.ID, "") {
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err3 := s.CountMembers(ctx, tenant, g.ID, 10)
		_, err4 := s.Groups(ctx, tenant, users[0].ID)
		_, err5 := s.Items(ctx, tenant, "note", "")
		_, err6 := s.Items(ctx, tenant, "note", "a")
		if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Item(ctx, tenant, "note", "1"); !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
		if _, _, err := s.Token(ctx, "k"); !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
	}
	kept := keptByReaders(s)
	if len(kept) < 10 {
		t.Errorf("only %d statements were prepared:\n%s", len(kept), strings.Join(kept, "\n"))
	}
	plan := planner(t, s)
	for _, sql := range kept {
		if strings.HasPrefix(sql, "SELECT count(*) FROM tenant") || strings.HasPrefix(sql, "BEGIN") || strings.HasPrefix(sql, "COMMIT") {
			continue
		}
		text := strings.Join(plan(sql), "\n\t")
		if at := scans.FindString(text); at != "" {
			t.Errorf("%s:\n%s\n\t%s", at, sql, text)
		}
		if strings.Contains(sql, "ORDER BY r.id LIMIT") && !strings.Contains(text, "resource_live (tenant=? AND type=? AND id>?)") {
			t.Errorf("the default page does not start at its run:\n%s\n\t%s", sql, text)
		}
		if strings.Contains(text, "TEMP B-TREE FOR ORDER BY") && !strings.Contains(sql, "WITH RECURSIVE") {
			t.Errorf("sorts:\n%s\n\t%s", sql, text)
		}
	}
}

// newlyPrepared returns what fn makes the writer prepare.
func newlyPrepared(t testing.TB, s *Store, fn func(storage.Tx) error) (list []string) {
	t.Helper()
	var before []string
	onWriter(t, s, func(c *sqlite.Conn) error { before = prepared(c); return nil })
	if err := write(s, fn); err != nil {
		t.Fatal(err)
	}
	onWriter(t, s, func(c *sqlite.Conn) error { list = prepared(c); return nil })
	return slices.DeleteFunc(list, func(sql string) bool { return slices.Contains(before, sql) })
}

// TestAddingAMemberReadsNoMembers: adding one to a million costs what adding one
// to none costs.
func TestAddingAMemberReadsNoMembers(t *testing.T) {
	s := openNew(t, Options{})
	u, g := newUser(1), newGroup(2)
	create(t, s, u, g)
	statements := newlyPrepared(t, s, func(tx storage.Tx) error {
		held, err := tx.Get("Group", g.ID)
		if err != nil {
			return err
		}
		if _, err := tx.Ancestors(held); err != nil {
			return err
		}
		if _, err := tx.AddMembers(held, []storage.Member{{Value: u.ID}}); err != nil {
			return err
		}
		return tx.Update(held, &storage.Resource{Type: "Group", ID: g.ID, Version: 2, LastModified: someday})
	})
	if len(statements) < 3 {
		t.Errorf("prepared only %q", statements)
	}
	inserts := 0
	for _, sql := range statements {
		if strings.Contains(sql, "INTO membership") {
			inserts++
		}
		onWriter(t, s, func(c *sqlite.Conn) error {
			text := strings.Join(explainSQL(t, c, sql), "\n\t")
			if scans.MatchString(text) || strings.Contains(text, "(grp=?)") {
				t.Errorf("reads the members of the group:\n%s\n\t%s", sql, text)
			}
			return nil
		})
	}
	if inserts != 1 {
		t.Errorf("%d statements insert a membership, want 1:\n%s", inserts, strings.Join(statements, "\n"))
	}
}

// TestWritesAreSeeks explains what the writer prepares for each kind of change.
func TestWritesAreSeeks(t *testing.T) {
	s := openNew(t, Options{})
	a, b, g := newUser(1), newUser(2), newGroup(3)
	next := newUser(1)
	next.Version = 2
	note := &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Data: []byte("{}")}
	changed := *note
	var gone *storage.WholeResource
	back, again := newUser(2), newUser(2)
	back.Version, again.Version = 2, 3
	statements := newlyPrepared(t, s, func(tx storage.Tx) error {
		for i, fn := range []func() error{
			func() error { return tx.Create(a) },
			func() error { return tx.Create(b) },
			func() error { return tx.Create(g) },
			func() error { _, err := tx.AddMembers(g, []storage.Member{{Value: a.ID}, {Value: b.ID}}); return err },
			func() error { _, err := tx.Ancestors(g); return err },
			func() error { _, err := tx.RemoveMembers(g, []string{a.ID}); return err },
			func() error { return tx.EachMember(g, func(storage.Member) error { return nil }) },
			func() error { _, err := tx.MembersAmong(g, []string{a.ID}); return err },
			func() error { _, err := tx.MemberOf(b); return err },
			func() error { return tx.Update(a, next) },
			func() error { return tx.PutItem(nil, note) },
			func() error { _, err := tx.Item("note", "1"); return err },
			func() error { _, err := tx.Items("note", ""); return err },
			func() error { _, err := tx.Items("note", "a"); return err },
			func() error { return tx.PutItem(note, &changed) },
			func() error { return tx.DeleteItem(&changed) },
			func() error { return tx.Delete(b, someday) },
			func() (err error) { gone, err = tx.GetDeleted("User", b.ID); return err },
			func() error { _, err := tx.FormerGroups(gone); return err },
			func() error { return tx.Restore(gone, back, true) },
			func() error { return tx.Delete(back, someday) },
			func() (err error) { gone, err = tx.GetDeleted("User", b.ID); return err },
			func() error { return tx.Restore(gone, again, false) },
			func() error { return tx.Delete(again, someday) },
			func() (err error) { gone, err = tx.GetDeleted("User", b.ID); return err },
			func() error { _, err := tx.Purge(gone); return err },
			func() error { return tx.CreateClient(newClient("c", "c")) },
			func() error {
				return tx.CreateToken(&storage.Token{ID: "k", Client: "c", Hash: []byte{1}, Created: someday, Expires: someday})
			},
			func() error { _, err := tx.Tokens("c"); return err },
			func() error { return tx.ExpireToken("k", someday) },
			func() error { return tx.RevokeClient("c", someday) },
			func() error {
				return tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "x", Type: "User", ID: a.ID})
			},
		} {
			if err := fn(); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
		}
		return nil
	})
	if len(statements) < 20 {
		t.Errorf("only %d statements were prepared:\n%s", len(statements), strings.Join(statements, "\n"))
	}
	for _, sql := range statements {
		if strings.HasPrefix(sql, "SAVEPOINT") || strings.HasPrefix(sql, "RELEASE") {
			continue
		}
		onWriter(t, s, func(c *sqlite.Conn) error {
			text := strings.Join(explainSQL(t, c, sql), "\n\t")
			// Five ids are among the first rows of the membership, whatever comes after.
			if at := scans.FindString(text); at != "" {
				t.Errorf("%s:\n%s\n\t%s", at, sql, text)
			}
			return nil
		})
	}
}

// TestSweepsAreSeeks: what extends an item or removes those that expired does not
// look at the others.
func TestSweepsAreSeeks(t *testing.T) {
	s := openNew(t, Options{})
	if err := write(s, func(tx storage.Tx) error {
		return tx.PutItem(nil, &storage.Item{Kind: "session", ID: "1", Keys: []string{"a"}, Expires: someday, Data: []byte("{}")})
	}); err != nil {
		t.Fatal(err)
	}
	var statements []string
	for n := range 3 {
		if err := s.ExtendItem(t.Context(), storage.DefaultTenant, "session", "1", someday.Add(time.Duration(n)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.SweepItems(t.Context(), someday.Add(time.Hour)); err != nil || n != 1 {
		t.Fatalf("SweepItems: got %d, %v, want 1", n, err)
	}
	onWriter(t, s, func(c *sqlite.Conn) error { statements = prepared(c); return nil })
	seen := 0
	for _, sql := range statements {
		if !strings.Contains(sql, "item") {
			continue
		}
		seen++
		onWriter(t, s, func(c *sqlite.Conn) error {
			text := strings.Join(explainSQL(t, c, sql), "\n\t")
			if scans.MatchString(text) || strings.Contains(sql, "expires < ? LIMIT") && !strings.Contains(text, "item_expires (expires<?)") {
				t.Errorf("%s\n\t%s", sql, text)
			}
			return nil
		})
	}
	if seen < 5 {
		t.Errorf("only %d statements were seen:\n%s", seen, strings.Join(statements, "\n"))
	}
}

// TestStatementsKeptAreFew asks with thousands of texts that a client can make up
// and looks at what stays prepared.
func TestStatementsKeptAreFew(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(1), newGroup(2))
	ask := func(rt *schemas.ResourceType, text string, by *schemas.Attribute) {
		t.Helper()
		for _, n := range []int{0, 1, 10} {
			q := storage.Query{Type: rt.Name, Filter: parse(t, rt, text), SortBy: by, StartIndex: 1, Count: n}
			if _, err := s.Query(t.Context(), storage.DefaultTenant, q); err != nil {
				t.Fatal(err)
			}
		}
	}
	common := func() {
		for range s.size {
			for _, c := range seekTests {
				ask(c.rt, c.filter, nil)
				ask(c.rt, strings.ReplaceAll(c.filter, "1", "8"), nil) // with a key that is not in memory
			}
		}
	}
	common()
	before := keptByReaders(s)
	for i := range 60 {
		terms := make([]string, 1+i%7)
		for j := range terms {
			terms[j] = fmt.Sprintf(`%s %s "%d"`, []string{"title", "userName", "emails.value", "emails[type pr].value", "externalId", "groups.display"}[(i+j)%6],
				[]string{"eq", "co", "ne", "sw", "gt"}[(i/2+j)%5], i)
		}
		ask(userType, strings.Join(terms, []string{" and ", " or "}[i%2]), nil)
		ask(userType, fmt.Sprintf(`userName eq "user%d"`, i), []*schemas.Attribute{userType.Lookup("title"), userType.Lookup("emails.value")}[i%2])
		ask(userType, fmt.Sprintf(`externalId eq "%d"`, i), nil)
		ask(userType, fmt.Sprintf(`meta.lastModified gt "2026-01-01T00:00:%02dZ"`, i%60), nil)
	}
	common()
	after := keptByReaders(s)
	if diff := slices.DeleteFunc(after, func(sql string) bool { return slices.Contains(before, sql) }); len(diff) > 0 {
		t.Errorf("kept besides the common ones:\n%s", strings.Join(diff, "\n"))
	}
	if len(before) > 80 {
		t.Errorf("%d common statements are kept", len(before))
	}
}
