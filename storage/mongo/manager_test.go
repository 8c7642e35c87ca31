package mongo

import (
	"testing"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestManagersAreDerived: users whom version 2 wrote are found by their managers.
func TestManagersAreDerived(t *testing.T) {
	server := mongotest.Start(t)
	uri := server.URI(server.NewDatabase(t))
	s := open(t, uri, Options{})
	user := newUser(s, 0, "ana")
	rt := set.Type("User")
	attrs, err := rt.Parse(user.Doc)
	if err != nil {
		t.Fatal(err)
	}
	attrs[schemas.EnterpriseUserURI] = map[string]any{"manager": map[string]any{"value": "boss"}}
	user.Doc, user.Index = rt.Document(attrs), s.NewIndex(storage.DefaultTenant, rt, attrs)
	if err := create(t.Context(), s, user); err != nil {
		t.Fatal(err)
	}
	const manager = schemas.EnterpriseUserURI + ":manager.value"
	check := func(when string, want int) {
		t.Helper()
		e, err := filter.Parse(manager+` eq "boss"`, rt, filter.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", Filter: e, StartIndex: 1, Count: 1})
		if err != nil || p.TotalResults != want {
			t.Errorf("%s: %+v, %v, want %d users", when, p, err, want)
		}
	}
	check("at first", 1)
	if _, err := s.db.Collection(resources).UpdateOne(t.Context(), d(fResource, user.ID), d("$pull", d(fKeys, manager+"=boss"))); err != nil {
		t.Fatal(err)
	}
	check("without a key", 0)
	if _, err := s.db.Collection(meta).UpdateOne(t.Context(), d(fID, "schema"), d("$set", d(fSchema, 2))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, uri, Options{})
	check("derived anew", 1)
}
