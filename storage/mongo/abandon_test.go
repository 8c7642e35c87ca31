package mongo

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestGivingUpALoad does what the documentation says of a load that nobody is
// going to finish: nothing of the tenant is left, and another load can begin.
func TestGivingUpALoad(t *testing.T) {
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{})
	const tenant = storage.DefaultTenant
	g, u, at := newGroup(s, 1, "staff"), newUser(s, 2, "ana"), newUser(s, 2, "ana").Created
	mark := &storage.LoadMark{Dump: "d1", Records: 7, Digest: []byte("x")}
	write := func(fn func(storage.Tx) error) {
		t.Helper()
		if err := s.Write(t.Context(), tenant, fn); err != nil {
			t.Fatal(err)
		}
	}
	load := func() {
		t.Helper()
		write(func(tx storage.Tx) error { return tx.SetLoad(nil, mark) })
		write(func(tx storage.Tx) error {
			for _, r := range []*storage.Record{
				{Client: &storage.Client{ID: "c", Name: "c", Created: at}},
				{Token: &storage.Token{ID: "k", Client: "c", Hash: []byte{1}, Created: at, Expires: at}},
				{Resource: &storage.WholeResource{Resource: *g}},
				{Resource: &storage.WholeResource{Resource: *u}},
				{Members: &storage.GroupMembers{Group: g.ID, Members: []storage.Member{{Value: u.ID}}}},
				{Item: &storage.Item{Kind: "credential", ID: u.ID, Version: 1, Data: []byte("{}")}},
				{Audit: &storage.AuditEntry{Seq: 5, At: at, Actor: "operator", Action: "test"}},
			} {
				if err := tx.Load(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	load()
	for _, c := range documented(t) {
		filter := d("$or", bson.A{d(fTenant, string(tenant)), d(fID, string(tenant))})
		if _, err := s.db.Collection(c).DeleteMany(t.Context(), filter); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range indexes {
		if c.collection == tenants || c.collection == meta {
			continue
		}
		if n, err := s.db.Collection(c.collection).CountDocuments(t.Context(), bson.D{}); err != nil || n != 0 {
			t.Errorf("%s still has %d documents, %v", c.collection, n, err)
		}
	}
	load()
}

// documented are the collections that the documentation clears, in that order.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "no load of this tenant is under way")
	script, _, _ := strings.Cut(rest, "```")
	var list []string
	for _, line := range strings.Split(script, "\n") {
		for _, m := range regexp.MustCompile(`"(\w+)"|db\.(\w+)\.delete`).FindAllStringSubmatch(line, -1) {
			list = append(list, m[1]+m[2])
		}
	}
	if len(list) < 2 || list[len(list)-1] != clients || slices.Index(list, clients) < slices.Index(list, tokens) {
		t.Fatalf("the documentation clears %q, want the clients last, for the mark of the load is among them", list)
	}
	return list
}
