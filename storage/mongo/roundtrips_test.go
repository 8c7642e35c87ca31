package mongo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"

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

// TestRoundTrips counts what requests cost: the commands that each waits for. All
// of them end with the request.
func TestRoundTrips(t *testing.T) {
	server := mongotest.Start(t)
	sent := &commands{}
	store, err := mongo.Open(t.Context(), server.URI(server.NewDatabase(t)), mongo.Options{Monitor: sent.monitor()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	sent.unbounded = nil // Open has no deadline
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
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
	var members []string
	for _, r := range others {
		members = append(members, `{"value":"`+r.ID+`"}`)
	}
	large := create(group, `{"displayName":"Large","members":[`+strings.Join(members, ",")+`]}`)
	add := func(id string) string { return `{"op":"add","path":"members","value":[{"value":"` + id + `"}]}` }

	note := &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Data: []byte("{}")}
	other := &storage.Item{Kind: "note", ID: "2", Data: []byte("{}")}
	write := func(fn func(storage.Tx) error) error {
		return store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			return errors.Join(fn(tx), tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"}))
		})
	}

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
		{"list, the first page", func() error { return query(user, "", 10) },
			[]string{"find resources", "aggregate resources"}},
		{"list, all on one page", func() error { return query(user, "", 100) },
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
		{"remove a member", func() error {
			return change(group, large.ID, `{"op":"remove","path":"members[value eq \"`+others[0].ID+`\"]"}`)
		},
			[]string{"find resources", "update resources", "delete rows", "insert rows", "commitTransaction"}},
		{"groups of a member", func() error { _, err := store.Groups(ctx, by.Tenant, ana.ID); return err },
			[]string{"find rows", "find resources", "find rows"}},
		{"members of a group", func() error {
			for _, err := range store.Members(ctx, by.Tenant, large.ID, "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
			[]string{"find rows", "find resources"}},
		{"groups with a member", func() error { return query(group, `members.value eq "`+ana.ID+`"`, 100) },
			[]string{"find resources", "find rows", "find resources"}},
		{"delete", func() error { return p.Delete(ctx, by, user, others[5].ID, scim.Precondition{}) },
			[]string{"find resources", "find rows", "find resources", "update resources", "find items", "find items", "find items", "find items", "find items", "update items", "findAndModify resources", "find rows", "update resources",
				"delete keys", "insert rows", "commitTransaction"}},
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
		{"sweep items", func() error { _, err := store.SweepItems(ctx, time.Now()); return err },
			[]string{"delete items"}},
		{"give a role", func() error {
			_, err := p.Create(ctx, by, set.Type("RoleAssignment"), decode(t, `{"role":{"value":"`+auth.Auditor+`"},"principal":{"value":"`+others[7].ID+`"}}`))
			return err
		},
			[]string{"find resources", "insert resources", "find resources", "find rows", "find resources", "update resources", "find items", "update items", "update resources",
				"insert rows", "commitTransaction"}},
		{"the first change after a role was given", func() error { return change(user, ana.ID, `{"op":"replace","path":"title","value":"a"}`) },
			[]string{"find resources", "find resources", "find items", "find items", "find rows", "find resources", "find rows", "find resources", "find resources", "update resources",
				"insert rows", "commitTransaction"}},
		{"a change beside administrators", func() error { return change(user, ana.ID, `{"op":"replace","path":"title","value":"b"}`) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"add a member beside administrators", func() error { return change(group, small.ID, add(others[9].ID)) },
			[]string{"find resources", "update resources", "insert rows", "commitTransaction"}},
		{"find a token", func() error { _, _, err := store.Token(ctx, "nobody's"); return ignoreNotFound(err) },
			[]string{"find tokens"}},
	} {
		sent.take()
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := sent.take(); !slices.Equal(got, c.want) {
			t.Errorf("%s: sent %q, want %q", c.what, got, c.want)
		} else {
			t.Logf("%-34s %d: %s", c.what, len(got), strings.Join(got, ", "))
		}
	}
	if err := store.Ping(ctx); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if err := store.TokenUsed(ctx, by.Tenant, "nobody's", time.Now()); err != nil {
		t.Errorf("TokenUsed: %v", err)
	}
	if len(sent.weak) > 0 {
		t.Errorf("weaker than w: majority and j: true, or read concern majority: %q", sent.weak)
	}
	if len(sent.unbounded) > 0 {
		t.Errorf("without maxTimeMS: %q", sent.unbounded)
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
