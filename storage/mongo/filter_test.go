package mongo

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestManyGroupsInAFilter: however many terms ask for a large group, the query is
// one that MongoDB takes, and the members of the group are read once.
func TestManyGroupsInAFilter(t *testing.T) {
	raced.Skip(t)
	finds := 0
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{Monitor: &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if collection, _ := e.Command.Lookup("find").StringValueOK(); collection == rows {
			finds++
		}
	}}})
	tenant := strings.Repeat("t", 100)
	const group = "01a20000-0000-7000-8000-999999999999"
	people := []any{d(fID, key(tenant, group), fTenant, tenant, fType, groupType, fResource, group)}
	var members []any
	for i := range mostInGroup - 1 {
		id := fmt.Sprintf("01a20000-0000-7000-8000-%012d", i)
		people = append(people, d(fID, key(tenant, id), fTenant, tenant, fType, "User", fResource, id))
		members = append(members, d(fID, rowsOf(tenant, group)+id, fTenant, tenant, fKind, id, fGroup, group))
	}
	for collection, docs := range map[string][]any{resources: people, rows: members} {
		if _, err := s.db.Collection(collection).InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
	text := `groups.value eq "` + group + `"`
	e, err := filter.Parse(strings.Repeat(text+" or ", 30)+text, userType, filter.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	finds = 0
	cond, _, err := s.compile(t.Context(), tenant, storage.Query{Type: "User", Filter: e})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bson.Marshal(cond.query)
	if err != nil || len(raw) > 8<<20 {
		t.Errorf("the query has %d bytes, %v", len(raw), err)
	}
	if finds != 1 {
		t.Errorf("memberships were read %d times, want once", finds)
	}
}
