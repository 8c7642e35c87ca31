package mongo

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestCompiled: MongoDB is asked whatever it can answer. Match would make up for a
// compiler that asks for everything, so the answers do not tell.
func TestCompiled(t *testing.T) {
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{})
	const emails = `"s.emails": {"$elemMatch": `
	for text, want := range map[string]string{ // parts of the query
		`userName eq "ana"`:                               `{"k": "userName=ana"}`,
		`userName sw "an"`:                                `{"s.userName": {"$regex": "^an"}}`,
		`title pr`:                                        `{"s.title": {"$exists": true}}`,
		`name.familyName co "sen"`:                        `{"s.name.familyName": {"$regex": "sen"}}`,
		`not (title pr)`:                                  `{"$nor": [{"s.title": {"$exists": true}}]}`,
		`active eq true or title eq "x"`:                  `{"$or": [{"s.active": {"$eq": true}},{"s.title": {"$eq": "x"}}]}`,
		`meta.lastModified gt "2026-03-01T12:00:00Z"`:     `{"m": {"$gt": {"$numberLong":"1772366400000"}}}`,
		`emails[type eq "work" and value co "@x"]`:        `{` + emails + `{"$and": [{"type": {"$eq": "work"}},{"value": {"$regex": "@x"}}]}}}`,
		`emails.type eq "work" and emails.value co "@x"`:  `{` + emails + `{"type": {"$eq": "work"}}}},{` + emails + `{"value": {"$regex": "@x"}}}}`,
		`emails[value eq "a@x"]`:                          `{"k": "emails.value=a@x"}`,
		`not (emails[type eq "home" or primary eq true])`: `{"$nor": [{` + emails + `{"$or": [{"type": {"$eq": "home"}},{"primary": {"$eq": true}}]}}}]}`,
		`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq "Yard"`: `{"s.urn:ietf:params:scim:schemas:extension:enterprise:2%2E0:User.department": {"$eq": "yard"}}`,
	} {
		e, err := filter.Parse(text, userType, filter.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		cond, _, err := s.compile(t.Context(), "default", storage.Query{Type: "User", Filter: e})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := bson.Marshal(cond.query)
		if err != nil {
			t.Fatal(err)
		}
		got := bson.Raw(raw).String()
		if !cond.exact || !strings.HasPrefix(got, `{"t": "default","y": "User",`) || !strings.Contains(got, want) {
			t.Errorf("%s\nexact %v: %s\nwant exactly %s in it", text, cond.exact, got, want)
		}
	}
}

// TestReadsStream: whoever reads a little of much has not made the server send all of
// it. Batches are what is in memory at a time.
func TestReadsStream(t *testing.T) {
	const people = 1500
	var sent atomic.Int64 // bytes of documents that the server has answered with
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{Monitor: &event.CommandMonitor{Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
		for _, name := range []string{"firstBatch", "nextBatch"} {
			if batch, ok := e.Reply.Lookup("cursor", name).ArrayOK(); ok {
				sent.Add(int64(len(batch)))
			}
		}
	}}})
	crew := newGroup(s, people, "crew")
	err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		list := make([]storage.Member, people)
		for n := range list {
			u := newUser(s, n, "user"+newUser(s, n, "").ID)
			if err := tx.Create(u); err != nil {
				return err
			}
			list[n].Value = u.ID
		}
		if err := tx.Create(crew); err != nil {
			return err
		}
		if _, err := tx.AddMembers(crew, list); err != nil {
			return err
		}
		return tx.Audit(entryOf(crew, 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		// read reads up to most, and says how many there were.
		read func(ctx context.Context, most int) (int, error)
		all  int
		// ahead is how much of all may have been sent for the first ten, in hundredths.
		ahead int64
	}{
		{"Dump", func(ctx context.Context, most int) (n int, err error) {
			for r, err := range s.Dump(ctx, storage.DefaultTenant) {
				switch {
				case err != nil:
					return n, err
				case r.Resource == nil:
					continue
				}
				if n++; n == most {
					break
				}
			}
			return n, nil
		}, people + 1, 10},
		{"Members", func(ctx context.Context, most int) (n int, err error) {
			for _, err := range s.Members(ctx, storage.DefaultTenant, crew.ID, "") {
				if err != nil {
					return n, err
				}
				if n++; n == most {
					break
				}
			}
			return n, nil
		}, people, 70},
		{"a page", func(ctx context.Context, most int) (n int, err error) {
			p, err := s.Query(ctx, storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: people})
			for n < most && err == nil {
				var list []*storage.Resource
				if list, err = p.Next(ctx); len(list) == 0 {
					break
				}
				n += len(list)
			}
			return n, err
		}, people, 40}, // with the ids of all
	} {
		ctx := timeout(t, time.Minute)
		sent.Store(0)
		if n, err := c.read(ctx, 10); err != nil || n < 10 {
			t.Fatalf("%s: read %d, %v", c.what, n, err)
		}
		few := sent.Swap(0)
		if n, err := c.read(ctx, people+2); err != nil || n != c.all {
			t.Errorf("%s: read %d, %v, want %d", c.what, n, err, c.all)
		}
		all := sent.Load()
		t.Logf("%s: %d of %d bytes for the first ten", c.what, few, all)
		if few == 0 || few*100 > all*c.ahead {
			t.Errorf("%s: for the first ten the server sent %d of %d bytes, want at most %d in 100", c.what, few, all, c.ahead)
		}
	}
}
