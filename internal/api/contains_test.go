package api_test

import (
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
)

// TestContainedRole: what a role contains holds for conditional rules as if it were given,
// from the moment on at which it is contained, and is recorded.
func TestContainedRole(t *testing.T) {
	shows(t, "A7")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		boss := w.fresh(t, admin)
		deckhand := w.create(t, boss, "/Roles", `{"schemas":[%q],"value":"deckhand"}`, schemas.RoleURI)
		bosun := w.create(t, boss, "/Roles", `{"schemas":[%q],"value":"bosun"}`, schemas.RoleURI)
		w.assign(t, boss, bo.id, bosun, "")
		must[any](t, w.post(t, "/admin/v1/rules", boss, object{"name": "No deckhands", "state": "on", "when": object{"roles": []string{deckhand}}, "then": "block"}), 201)
		in := func() int {
			w.advance(time.Minute)
			return w.post(t, "/auth/v1/sign-in", "", object{"name": bo.name, "password": bo.password}).Status
		}
		patch := func(operation string) {
			t.Helper()
			must[any](t, w.scim(t, boss, "PATCH", "/Roles/"+bosun, patching(operation)), 200)
		}
		if s := in(); s != 200 {
			t.Errorf("a bosun: %d", s)
		}
		patch(`{"op":"add","path":"contains","value":["deckhand"]}`)
		if s := in(); s < 400 || s >= 500 {
			t.Errorf("a bosun, who is a deckhand by that: %d", s)
		}
		patch(`{"op":"remove","path":"contains"}`)
		if s := in(); s != 200 {
			t.Errorf("a bosun, and no deckhand any more: %d", s)
		}
		list := w.entries(t, bosun)
		if len(list) != 3 {
			t.Fatalf("%d entries", len(list))
		}
		if c := list[1].Changes; len(c) != 1 || c[0].Path != "contains" || c[0].Before != nil || string(c[0].After) != `["deckhand"]` {
			t.Errorf("recorded as %+v", c)
		}
		mate := w.create(t, boss, "/Roles", `{"schemas":[%q],"value":"mate","contains":[%q]}`, schemas.RoleURI, bosun)
		told := false
		for _, c := range w.entries(t, mate)[0].Changes {
			told = told || c.Path == "contains" && string(c.After) == `["bosun"]`
		}
		if !told {
			t.Errorf("created, recorded as %+v", w.entries(t, mate)[0].Changes)
		}
	})
}
