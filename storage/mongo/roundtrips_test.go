package mongo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// commands notes the commands that the driver sends.
type commands struct {
	mu    sync.Mutex
	names []string
	// unbounded are commands that would run on when nobody waits for them any more.
	unbounded []string
	// weak are commands that ask for less than a majority with its journals.
	weak []string
	// everywhere are commands that do not say which tenant they are for, and so
	// would be for all shards.
	everywhere []string
}

func (c *commands) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		name := e.CommandName
		if collection, ok := e.Command.Lookup(name).StringValueOK(); ok {
			name += " " + collection
		}
		c.names = append(c.names, name)
		if e.Command.Lookup("maxTimeMS").IsZero() {
			c.unbounded = append(c.unbounded, name)
		}
		if !ofOneTenant(e.Command) {
			c.everywhere = append(c.everywhere, name)
		}
		w, _ := e.Command.Lookup("writeConcern", "w").StringValueOK()
		j, _ := e.Command.Lookup("writeConcern", "j").BooleanOK()
		level, _ := e.Command.Lookup("readConcern", "level").StringValueOK()
		_, inTransaction := e.Command.Lookup("autocommit").BooleanOK()
		switch e.CommandName {
		case "find", "aggregate":
			if level != "majority" && level != "snapshot" && !inTransaction {
				c.weak = append(c.weak, name)
			}
		case "insert", "update", "delete", "findAndModify":
			if !inTransaction && (w != "majority" || !j) {
				c.weak = append(c.weak, name)
			}
		case "commitTransaction":
			if w != "majority" || !j {
				c.weak = append(c.weak, name)
			}
		}
	}}
}

// take returns what was sent since it was called last.
func (c *commands) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := c.names
	c.names = nil
	return names
}

// ofOneTenant reports whether all that a command reads or writes is of the default
// tenant. Commands that name no documents are of everybody.
func ofOneTenant(command bson.Raw) bool {
	var list []bson.RawValue // the filters, or the documents
	switch command.Index(0).Key() {
	case "find":
		list = append(list, command.Lookup("filter"))
	case "findAndModify":
		list = append(list, command.Lookup("query"))
	case "aggregate":
		list = append(list, command.Lookup("pipeline", "0", "$match"))
	case "insert":
		list, _ = command.Lookup("documents").Array().Values()
	case "update", "delete":
		statements, _ := command.Lookup(map[string]string{"update": "updates", "delete": "deletes"}[command.Index(0).Key()]).Array().Values()
		for _, s := range statements {
			list = append(list, s.Document().Lookup("q"))
		}
	default:
		return true
	}
	for _, v := range list {
		doc, ok := v.DocumentOK()
		if !ok {
			return false
		}
		tenant, _ := doc.Lookup("t").StringValueOK()
		id, _ := doc.Lookup("_id").StringValueOK()
		if tenant != string(storage.DefaultTenant) && !beginsWithTenant(id) {
			return false
		}
	}
	return len(list) > 0
}

func beginsWithTenant(id string) bool {
	tenant := string(storage.DefaultTenant)
	return id == tenant || strings.HasPrefix(id, tenant+"/")
}

// TestRoundTrips counts what requests cost: the commands that each waits for. All
// of them end with the request.
func TestRoundTrips(t *testing.T) {
	server := mongotest.Start(t)
	database := server.NewDatabase(t)
	sent := &commands{}
	store, err := mongo.Open(t.Context(), server.URI(database), mongo.Options{Monitor: sent.monitor()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	sent.unbounded, sent.everywhere = nil, nil // Open has no deadline, and is for all tenants
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := &scim.Provider{Store: store, Schemas: set, Hasher: auth.NewWeakHasher(), Now: time.Now}
	by := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	user, group := set.Type("User"), set.Type("Group")

	create := func(rt *schemas.ResourceType, body string) *storage.Resource {
		t.Helper()
		r, err := p.Create(ctx, by, rt, decode(t, body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return r
	}
	change := func(rt *schemas.ResourceType, id, ops string) error {
		list, err := patch.Decode(decode(t, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`+ops+`]}`), patch.DefaultLimits, schemas.Lenient)
		if err != nil {
			return err
		}
		_, err = p.Patch(ctx, by, rt, id, scim.Precondition{}, list)
		return err
	}
	query := func(rt *schemas.ResourceType, text string, count int) error {
		q := storage.Query{Type: rt.Name, StartIndex: 1, Count: count}
		if text != "" {
			e, err := filter.Parse(text, rt, filter.Limits{})
			if err != nil {
				return err
			}
			q.Filter = e
		}
		page, err := p.Query(ctx, by, rt, q)
		if err != nil {
			return err
		}
		_, err = page.Next(ctx)
		return err
	}

	ana := create(user, `{"userName":"ana","emails":[{"value":"ana@x.example","type":"work"}]}`)
	var others []*storage.Resource
	for i := range 30 {
		others = append(others, create(user, fmt.Sprintf(`{"userName":"u%d"}`, i)))
	}
	small := create(group, `{"displayName":"Small"}`)
	var values []string
	for _, r := range others {
		values = append(values, `{"value":"`+r.ID+`"}`)
	}
	large := create(group, `{"displayName":"Large","members":[`+strings.Join(values, ",")+`]}`)
	members := func(group string) error {
		for _, err := range store.Members(ctx, by.Tenant, group, "") {
			if err != nil {
				return err
			}
		}
		return nil
	}
	add := func(id string) string { return `{"op":"add","path":"members","value":[{"value":"` + id + `"}]}` }

	// More than are read at once.
	huge := create(group, `{"displayName":"Huge!"}`)
	const many = 1200
	at := time.Now().UTC().Truncate(time.Millisecond)
	err = store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		all := make([]storage.Member, many)
		for i := range all {
			attrs := map[string]any{"id": uuid.Must(uuid.NewV7()).String(), "userName": fmt.Sprint("many", i)}
			r := &storage.Resource{Type: user.Name, ID: attrs["id"].(string), Version: 1, Created: at, LastModified: at, Name: storage.NameOf(attrs)}
			r.Doc, r.Index = user.Document(attrs), store.NewIndex(by.Tenant, user, attrs)
			if err := tx.Create(r); err != nil {
				return err
			}
			all[i].Value = r.ID
		}
		held, err := tx.Get(group.Name, huge.ID)
		if err != nil {
			return err
		}
		if n, err := tx.AddMembers(held, all); err != nil || n != many {
			return fmt.Errorf("added %d members: %w", n, err)
		}
		return tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "test"})
	})
	if err != nil {
		t.Fatal(err)
	}
	inner, innermost := create(group, `{"displayName":"Inner"}`), create(user, `{"userName":"innermost"}`)
	create(group, `{"displayName":"Outer","members":[{"value":"`+inner.ID+`"}]}`)
	if err := change(group, inner.ID, add(innermost.ID)); err != nil {
		t.Fatal(err)
	}
	gone := create(user, `{"userName":"gone"}`)

	note := &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Data: []byte("{}")}
	other := &storage.Item{Kind: "note", ID: "2", Data: []byte("{}")}
	write := func(fn func(storage.Tx) error) error {
		return store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			return errors.Join(fn(tx), tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"}))
		})
	}

	if err := write(func(tx storage.Tx) error {
		return errors.Join(tx.CreateClient(&storage.Client{ID: "c1", Tenant: by.Tenant, Name: "idp", Created: at}),
			tx.CreateToken(&storage.Token{ID: "k1", Client: "c1", Hash: []byte{1}, Created: at, Expires: at.Add(time.Hour)}))
	}); err != nil {
		t.Fatal(err)
	}

	documented := scaleTable(t)
	for _, c := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"get by id", func() error { _, err := p.Get(ctx, by, user, ana.ID); return err },
			[]string{"find resources"}},
		{"filter by userName", func() error { return query(user, `userName eq "ana"`, 100) },
			[]string{"find resources"}},
		{"filter by userName, one wanted", func() error { return query(user, `userName eq "ana"`, 1) },
			[]string{"find resources"}},
		{"filter by e-mail address", func() error { return query(user, `emails[type eq "work" and value eq "ana@x.example"]`, 100) },
			[]string{"find resources"}},
		{"filter by externalId", func() error { return query(user, `externalId eq "1"`, 100) },
			[]string{"find resources"}},
		{"filter by displayName", func() error { return query(group, `displayName eq "small"`, 100) },
			[]string{"find resources"}},
		{"list, the first page", func() error { return query(user, "", 10) },
			[]string{"find resources", "aggregate resources"}},
		{"list, all on one page", func() error { return query(group, "", 100) },
			[]string{"find resources"}},
		{"create", func() error {
			_, err := p.Create(ctx, by, user, decode(t, `{"userName":"new","externalId":"1"}`))
			return err
		},
			[]string{"insert keys", "insert resources", "insert rows", "commitTransaction"}},
		{"create with a password", func() error {
			_, err := p.Create(ctx, by, user, decode(t, `{"userName":"newer","password":"correct horse"}`))
			return err
		},
			[]string{"insert keys", "insert resources", "update items", "insert rows", "commitTransaction"}},
		{"change a password", func() error {
			return change(user, ana.ID, `{"op":"replace","path":"password","value":"correct horse"}`)
		},
			[]string{"find resources", "update resources", "find items", "update items", "find items", "find items", "insert rows", "commitTransaction"}},
		{"change an attribute", func() error { return change(user, ana.ID, `{"op":"replace","path":"title","value":"x"}`) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"rename", func() error { return change(user, ana.ID, `{"op":"replace","path":"userName","value":"anna"}`) },
			[]string{"find resources", "delete keys", "insert keys", "update resources", "insert rows", "commitTransaction"}},
		{"change nothing", func() error { return change(user, ana.ID, `{"op":"replace","path":"title","value":"x"}`) },
			[]string{"find resources"}},
		{"add a member to an empty group", func() error { return change(group, small.ID, add(ana.ID)) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"add a member to a larger group", func() error { return change(group, large.ID, add(ana.ID)) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"add a member to a group of 1,200", func() error { return change(group, huge.ID, add(ana.ID)) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"remove a member", func() error {
			return change(group, large.ID, `{"op":"remove","path":"members[value eq \"`+others[0].ID+`\"]"}`)
		},
			[]string{"find resources", "update resources", "delete rows", "insert rows", "commitTransaction"}},
		{"groups of a member", func() error { _, err := store.Groups(ctx, by.Tenant, ana.ID); return err },
			[]string{"find rows", "find resources", "find rows"}},
		{"groups of a member, two levels", func() error { _, err := store.Groups(ctx, by.Tenant, innermost.ID); return err },
			[]string{"find rows", "find resources", "find rows", "find resources", "find rows"}},
		{"members of a group", func() error { return members(large.ID) },
			[]string{"find rows", "find resources"}},
		{"members of a group of 1,201", func() error { return members(huge.ID) },
			[]string{"find rows", "find resources", "find rows", "find resources"}},
		{"groups with a member", func() error { return query(group, `members.value eq "`+ana.ID+`"`, 100) },
			[]string{"find resources", "find rows", "find resources"}},
		{"delete of one in no group", func() error { return p.Delete(ctx, by, user, gone.ID, scim.Precondition{}) },
			[]string{"find resources", "find resources", "find items", "update resources", "find items", "find items", "find items", "find items", "find items", "update items", "findAndModify resources",
				"delete keys", "insert rows", "commitTransaction", "find resources"}},
		{"delete", func() error { return p.Delete(ctx, by, user, others[5].ID, scim.Precondition{}) },
			[]string{"find resources", "find resources", "find items", "find rows", "find resources", "update resources", "find items", "find items", "find items", "find items", "find items", "update items", "findAndModify resources", "find rows", "update resources",
				"delete keys", "insert rows", "commitTransaction", "find resources"}},
		{"list deleted users, two of them", func() error {
			page, err := p.ListDeleted(ctx, by, user, scim.DeletedQuery{Limit: 2})
			if err == nil && len(page.Deleted) != 2 {
				err = fmt.Errorf("got %d deleted users, want 2", len(page.Deleted))
			}
			return err
		},
			[]string{"find items", "aggregate resources", "find resources", "find items", "find items"}},
		{"read an item", func() error { _, err := store.Item(ctx, by.Tenant, "note", "1"); return ignoreNotFound(err) },
			[]string{"find items"}},
		{"items with a key", func() error { _, err := store.Items(ctx, by.Tenant, "note", "a"); return err },
			[]string{"find items"}},
		{"items by their ids", func() error { _, err := store.ItemsByID(ctx, by.Tenant, "note", "1", "2"); return err },
			[]string{"find items"}},
		{"put new items", func() error {
			return write(func(tx storage.Tx) error { return errors.Join(tx.PutItem(nil, note), tx.PutItem(nil, other)) })
		},
			[]string{"update items", "insert rows", "commitTransaction"}},
		{"read an item and put it", func() error {
			return write(func(tx storage.Tx) error {
				prev, err := tx.Item("note", "1")
				if err != nil {
					return err
				}
				return tx.PutItem(prev, &storage.Item{Kind: "note", ID: "1", Data: note.Data})
			})
		},
			[]string{"find items", "update items", "insert rows", "commitTransaction"}},
		{"delete an item under a guard", func() error {
			return write(func(tx storage.Tx) error { return errors.Join(tx.Guard("notes"), tx.DeleteItem(other)) })
		},
			[]string{"update counters", "update items", "delete items", "insert rows", "commitTransaction"}},
		{"extend an item", func() error { return store.ExtendItem(ctx, by.Tenant, "note", "1", time.Now()) },
			[]string{"update items"}},
		{"note an item and sweep it", func() error {
			err := store.NoteItems(ctx, by.Tenant, []*storage.Item{{Kind: "note", ID: "short", Expires: at, Data: note.Data}})
			if err != nil {
				return err
			}
			before := len(sent.everywhere)
			_, err = store.SweepItems(ctx, at.Add(time.Hour))
			sent.everywhere = sent.everywhere[:before] // it is for all tenants
			return err
		},
			[]string{"insert items", "find items", "delete items"}},
		{"give a role", func() error {
			_, err := p.Create(ctx, by, set.Type("RoleAssignment"), decode(t, `{"role":{"value":"`+auth.Auditor+`"},"principal":{"value":"`+others[7].ID+`"}}`))
			return err
		},
			[]string{"find resources", "insert resources", "find resources", "find rows", "find resources", "update resources", "find items", "update items", "update resources",
				"insert rows", "commitTransaction"}},
		{"the first change after a role was given", func() error { return change(user, ana.ID, `{"op":"replace","path":"title","value":"a"}`) },
			[]string{"find resources", "find resources", "find items", "find items", "find items", "find rows", "find resources", "find rows", "find resources", "find resources", "update resources",
				"insert rows", "commitTransaction"}},
		{"a change beside administrators", func() error { return change(user, ana.ID, `{"op":"replace","path":"title","value":"b"}`) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"add a member beside administrators", func() error { return change(group, small.ID, add(others[9].ID)) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"find a token", func() error { _, _, err := store.Token(ctx, "k1"); return err },
			[]string{"find tokens", "find clients"}},
		{"find a token that there is not", func() error { _, _, err := store.Token(ctx, "nobody's"); return ignoreNotFound(err) },
			[]string{"find tokens"}},
		{"ready", func() error { return store.Ping(ctx) }, []string{"update meta"}},
	} {
		sent.take()
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		got := sent.take()
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: sent %q, want %q", c.what, got, c.want)
		} else {
			t.Logf("%-34s %d: %s", c.what, len(got), strings.Join(got, ", "))
		}
		for _, row := range inScale[c.what] {
			documented.check(t, row, c.what, got)
		}
	}
	for row, r := range documented {
		if !r.seen {
			t.Errorf("no case shows the row %q of %s", row, scaleFile)
		}
	}
	noneGrows(t, server.URI(database), database, small.ID, large.ID, huge.ID)
	if err := store.TokenUsed(ctx, by.Tenant, "nobody's", time.Now()); err != nil {
		t.Errorf("TokenUsed: %v", err)
	}
	if len(sent.weak) > 0 {
		t.Errorf("weaker than w: majority and j: true, or read concern majority: %q", sent.weak)
	}
	if len(sent.unbounded) > 0 {
		t.Errorf("without maxTimeMS: %q", sent.unbounded)
	}
	// A token says whose it is once it is found.
	sent.everywhere = slices.DeleteFunc(sent.everywhere, func(s string) bool {
		return slices.Contains([]string{"find tokens", "update tokens", "update meta"}, s)
	})
	if len(sent.everywhere) > 0 {
		t.Errorf("without the tenant: %q", sent.everywhere)
	}
}

// noneGrows: whatever the number of members, the documents of groups are as large as
// one another, and there is no large one elsewhere.
func noneGrows(t *testing.T, uri, database string, groups ...string) {
	t.Helper()
	client, err := driver.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) }()
	db := client.Database(database)
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int{}
	for _, name := range names {
		cursor, err := db.Collection(name).Find(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		for cursor.Next(t.Context()) {
			id, _ := cursor.Current.Lookup("_id").StringValueOK()
			if name != "meta" && name != "tokens" && !beginsWithTenant(id) {
				t.Errorf("%s has the _id %q, which does not begin with the tenant", name, id)
			}
			if n := len(cursor.Current); n > 4<<10 {
				t.Errorf("%s has a document of %d bytes, %q", name, n, id)
			}
			if name == "resources" {
				sizes[id] = len(cursor.Current)
			}
		}
		if err := cursor.Err(); err != nil {
			t.Fatal(err)
		}
	}
	first := sizes[string(storage.DefaultTenant)+"/"+groups[0]]
	for _, g := range groups {
		if n := sizes[string(storage.DefaultTenant)+"/"+g]; n == 0 || n != first {
			t.Errorf("the document of the group %s has %d bytes, that of another group %d", g, n, first)
		}
	}
}

const scaleFile = "../../docs/scale.md"

// shown is a row of the table in scaleFile that a case is about: which of the numbers
// in its last column is what it costs, and how often the next number comes on top.
type shown struct {
	row           string
	number, onTop int
}

// inScale has the rows of the table that a case is about.
var inScale = map[string][]shown{
	"get by id":                        {{"get by id", 0, 0}},
	"groups of a member":               {{groupsRow, 0, 0}},
	"filter by userName":               {{filterRow, 0, 0}},
	"filter by externalId":             {{filterRow, 0, 0}},
	"filter by e-mail address":         {{filterRow, 0, 0}},
	"filter by displayName":            {{filterRow, 0, 0}},
	"list, the first page":             {{listRow, 0, 0}},
	"list, all on one page":            {{listRow, 1, 0}},
	"create":                           {{"create", 0, 0}},
	"create with a password":           {{"… with a password", 0, 0}},
	"change a password":                {{"change a password", 0, 0}},
	"change an attribute":              {{"change an attribute", 0, 0}},
	"change nothing":                   {{"… that changes nothing", 0, 0}},
	"rename":                           {{"rename", 0, 0}},
	"add a member to an empty group":   {{addRow, 0, 0}},
	"add a member to a larger group":   {{addRow, 0, 0}},
	"add a member to a group of 1,200": {{addRow, 0, 0}},
	"remove a member":                  {{"remove a member", 0, 0}},
	"members of a group":               {{"read the members of a group", 0, 0}},
	"groups with a member":             {{"groups with a member", 0, 0}},
	"delete":                           {{"delete a user who is in groups, and nobody's manager", 0, 0}},
	"list deleted users, two of them":  {{"list deleted users, a page of up to 200", 0, 2}},
	"groups of a member, two levels":   {{groupsRow, 0, 1}},
	"find a token":                     {{tokenRow, 0, 0}},
	"ready":                            {{"`/readyz`", 0, 0}},
}

const (
	groupsRow = "… of one who has been in a group, or a page with such: the groups"
	filterRow = "filter by `userName`, `externalId`, `emails.value`, `displayName`"
	listRow   = "list, a page of up to 250"
	addRow    = "add a member, to a group of any size"
	tokenRow  = "find a token (not with each request, but every half second for each token and process)"
)

// scaleRow is a row of the table.
type scaleRow struct {
	collections []string // that the column of indexes names; nil where it refers to another row
	figures     []int
	seen        bool
}

type scaleRows map[string]*scaleRow

var (
	firstFigures = regexp.MustCompile(`\d+`)
	inBackticks  = regexp.MustCompile("`([a-z]+)`")
)

// scaleTable reads what each request touches from scaleFile.
func scaleTable(t *testing.T) scaleRows {
	t.Helper()
	text, err := os.ReadFile(scaleFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n| operation | indexes | shards | round trips |\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	rows := scaleRows{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 4 {
			continue // the line below the head
		}
		r := &scaleRow{}
		for _, n := range firstFigures.FindAllString(cells[3], -1) {
			figure, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			r.figures = append(r.figures, figure)
		}
		if !strings.HasPrefix(cells[1], "as ") && !strings.HasPrefix(cells[1], "the same") && !strings.Contains(cells[1], " as ") {
			for _, m := range inBackticks.FindAllStringSubmatch(cells[1], -1) {
				r.collections = append(r.collections, m[1])
			}
			slices.Sort(r.collections)
			r.collections = slices.Compact(r.collections)
		}
		rows[strings.TrimSpace(cells[0])] = r
	}
	if len(rows) < 15 {
		t.Fatalf("%s has a table of %d operations", scaleFile, len(rows))
	}
	return rows
}

// check compares a row with the commands of a case.
func (rows scaleRows) check(t *testing.T, s shown, what string, commands []string) {
	t.Helper()
	r := rows[s.row]
	if r == nil || s.number >= len(r.figures) {
		t.Errorf("%s: %s has no row %q with %d figures", what, scaleFile, s.row, s.number+1)
		return
	}
	r.seen = true
	want := r.figures[s.number]
	if s.onTop > 0 && s.number+1 < len(r.figures) {
		want += s.onTop * r.figures[s.number+1]
	}
	if want != len(commands) {
		t.Errorf("%s: %d round trips; %s says %d", what, len(commands), scaleFile, want)
	}
	var touched []string
	for _, c := range commands {
		if _, collection, ok := strings.Cut(c, " "); ok {
			touched = append(touched, collection)
		}
	}
	slices.Sort(touched)
	if touched = slices.Compact(touched); r.collections != nil && !slices.Equal(touched, r.collections) {
		t.Errorf("%s: touches %q; %s names indexes of %q", what, touched, scaleFile, r.collections)
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}

func decode(t *testing.T, body string) any {
	t.Helper()
	v, err := schemas.Decode([]byte(body), schemas.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
