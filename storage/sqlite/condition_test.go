package sqlite

import (
	"testing"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// TestConditionIsHandedOn: what seek returns can be added to. With a strings.Builder in it,
// which knows its own address and must not be copied, it could not; and the copy kept the
// address of a frame that was gone, which ended the process when memory was collected at a
// bad moment.
func TestConditionIsHandedOn(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	users := set.Type("User")
	for _, f := range []string{`id eq "x"`, `userName eq "x"`, `externalId eq "x"`, `emails.value eq "x" and active eq true`, `meta.lastModified gt "2026-01-01T00:00:00Z"`} {
		e, err := filter.Parse(f, users, filter.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		c := &compiler{tenant: string(storage.DefaultTenant), typ: "User"}
		from, _, ok := c.seek(e)
		before := from.text()
		from.add(" AND 1")
		if got := from.text(); !ok || before == "" || got != before+" AND 1" {
			t.Errorf("%s: %v, %q, and then %q", f, ok, before, got)
		}
	}
}
