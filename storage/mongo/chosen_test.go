package mongo

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/storagetest"
)

// TestChosenAnswers: with indexes by choice, queries find what they find without.
func TestChosenAnswers(t *testing.T) {
	raced.Skip(t)
	server := mongotest.Start(t)
	chosen := storagetest.Chosen(t)
	storagetest.RunFilters(t, func(t *testing.T) storage.Store {
		return open(t, server.URI(server.NewDatabase(t)), Options{QueryTimeout: time.Minute, Indexed: chosen})
	})
}

// TestChosenAreSeeks: an index by choice is there for resources from before it was
// chosen, for as long as it is chosen, and equality starts from it.
func TestChosenAreSeeks(t *testing.T) {
	server := mongotest.Start(t)
	uri := server.URI(server.NewDatabase(t))
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	choose := func(list ...string) []*schemas.Attribute {
		chosen, err := storage.ChooseIndexed(set, list)
		if err != nil {
			t.Fatal(err)
		}
		return chosen
	}
	const number = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber"
	before := open(t, uri, Options{})
	r := newUser(before, 1, "ana")
	attrs := map[string]any{"id": r.ID, "userName": "ana", "title": "Nurse", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": map[string]any{"employeeNumber": "7"}}
	r.Doc, r.Index = userType.Document(attrs), before.NewIndex(storage.DefaultTenant, userType, attrs)
	if err := create(t.Context(), before, r); err != nil {
		t.Fatal(err)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	all := []string{"User:title", "User:" + number}
	for _, step := range []struct {
		name string
		opt  Options
		want []string // paths that have an index
	}{
		{"chosen", Options{Indexed: choose(all...)}, []string{"title", number}},
		{"again, by another process", Options{Indexed: choose(all...)}, []string{"title", number}},
		{"opened by a program that leaves indexes alone", Options{}, []string{"title", number}},
		{"one not chosen any more", Options{Indexed: choose(all[1:]...)}, []string{number}},
		{"another one", Options{Indexed: choose(all[:1]...)}, []string{"title"}},
		{"none", Options{Indexed: choose()}, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			s := open(t, uri, step.opt)
			for path, text := range map[string]string{"title": `title eq "NURSE"`, number: number + ` eq "7"`} {
				e, err := filter.Parse(text, userType, filter.DefaultLimits)
				if err != nil {
					t.Fatal(err)
				}
				q := storage.Query{Type: "User", Filter: e, StartIndex: 1, Count: 10}
				cond, _, err := s.compile(t.Context(), string(storage.DefaultTenant), q)
				if err != nil {
					t.Fatal(err)
				}
				var reply bson.M
				find := d("find", resources, "filter", cond.query, "sort", d(fResource, 1))
				if err := s.db.RunCommand(t.Context(), d("explain", find, "verbosity", "queryPlanner")).Decode(&reply); err != nil {
					t.Fatal(err)
				}
				plan, err := bson.MarshalExtJSON(reply["queryPlanner"], false, false)
				if err != nil {
					t.Fatal(err)
				}
				has := slices.Contains(step.want, path)
				if has != strings.Contains(string(plan), `"chosen `+path+`"`) || has && strings.Contains(string(plan), "SORT") {
					t.Errorf("%s, with an index %v: %s", text, has, plan)
				}
				p, err := s.Query(t.Context(), storage.DefaultTenant, q)
				if err != nil || p.TotalResults != 1 {
					t.Errorf("%s: got %+v, %v, want one user", text, p, err)
				}
			}
		})
	}
}
