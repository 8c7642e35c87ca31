package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestVocabulary: a tenant has roles and entitlements to choose from, and when it says so,
// users get no others; what they had stays good.
func TestVocabulary(t *testing.T) {
	shows(t, "A7")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		boss := w.fresh(t, admin)
		const path = "/admin/v1/policies/vocabulary"
		put := func(body string) testserver.Response {
			return w.send(t, "PUT", path, body, "Authorization", "Bearer "+boss, "Content-Type", "application/json")
		}
		create := func(typ, more string) string {
			return must[struct{ ID string }](t, w.Do(t, "POST", "/"+typ+"s", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:%s"],%s}`, typ, more)), 201).ID
		}
		buyer, seat := create("Role", `"value":"buyer"`), create("Entitlement", `"value":"seat.full"`)
		must[any](t, w.scim(t, boss, "POST", "/Roles", `{"schemas":["`+schemas.RoleURI+`"],"value":"harbour","`+schemas.RosterRoleURI+`":{"kind":"administrative"}}`), 201)
		list := must[struct {
			Resources []struct{ DisplayName string }
		}](t, w.send(t, "GET", "/scim/v2/Roles", "", "Authorization", "Bearer "+w.Client(t, "okta", auth.ProfileOkta)), 200)
		if len(list.Resources) != 1 || list.Resources[0].DisplayName != "buyer" {
			t.Errorf("Okta chooses from %+v", list.Resources)
		}

		// By itself, everything is a word.
		if got := must[auth.Vocabulary](t, w.get(t, path, boss), 200); got != (auth.Vocabulary{}) {
			t.Errorf("by itself: %+v", got)
		}
		old := create("User", `"userName":"old","roles":[{"value":"stoker"}],"entitlements":[{"value":"coal"}]`)
		unsaid := create("User", `"userName":"unsaid","roles":[{"display":"Stoker"}]`)
		for _, body := range []string{`{"roles":"yes","entitlements":true}`, `{"roles":true,"entitlements":true,"groups":true}`} {
			must[any](t, put(body), 400)
		}
		want := auth.Vocabulary{Roles: true, Entitlements: true}
		if got := must[auth.Vocabulary](t, put(`{"roles":true,"entitlements":true}`), 200); got != want {
			t.Errorf("set: %+v", got)
		}
		for _, body := range []string{`{}`, `null`, `{"roles":true}`, `{"roles":true,"entitlements":null}`} {
			must[any](t, put(body), 400)
		}
		if got := must[auth.Vocabulary](t, w.get(t, path, boss), 200); got != want {
			t.Errorf("after bodies that do not say all: %+v", got)
		}

		n := 0
		user := func(attributes string) testserver.Response {
			n++
			return w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"u%d",%s}`, schemas.UserURI, n, attributes))
		}
		refused := func(r testserver.Response, path string) {
			t.Helper()
			p := must[struct{ ScimType, Detail string }](t, r, 400)
			if p.ScimType != "invalidValue" || !strings.HasPrefix(p.Detail, path+":") || strings.Contains(p.Detail, "stoker") || strings.Contains(p.Detail, "coal") {
				t.Errorf("refused with %+v, want it to be about %s", p, path)
			}
		}
		must[any](t, user(`"roles":[{"value":"Buyer"},{"value":"`+buyer+`"}],"entitlements":[{"value":"SEAT.full"},{"value":"`+seat+`"}]`), 201)
		must[any](t, user(`"title":"none of either"`), 201)
		refused(user(`"roles":[{"value":"buyer"},{"value":"stoker"}]`), "roles[1].value")
		refused(user(`"entitlements":[{"value":"coal"}]`), "entitlements[0].value")
		refused(user(`"roles":[{"value":"harbour"}]`), "roles[0].value")
		refused(user(`"roles":[{"value":"`+auth.GlobalAdministrator+`"}]`), "roles[0].value")
		refused(user(`"roles":[{"value":"global-administrator"}]`), "roles[0].value")
		refused(user(`"entitlements":[{"value":"buyer"}]`), "entitlements[0].value")
		// What has no value is no word of the tenant either, whatever it says of itself.
		refused(user(`"roles":[{"value":"buyer"},{"display":"stoker"}]`), "roles[1].value")
		refused(user(`"entitlements":[{"display":"coal","type":"app"}]`), "entitlements[0].value")
		patch := func(id, operation string) testserver.Response {
			return w.Do(t, "PATCH", "/Users/"+id, patching(operation))
		}
		must[any](t, patch(old, `{"op":"add","path":"title","value":"Still"}`), 200)
		must[any](t, patch(old, `{"op":"add","path":"roles","value":[{"value":"buyer"}]}`), 200)
		refused(patch(old, `{"op":"add","path":"roles","value":[{"value":"captain"}]}`), "roles[2].value")
		refused(patch(old, `{"op":"add","path":"roles","value":[{"display":"Captain"}]}`), "roles[2].value")
		must[any](t, patch(unsaid, `{"op":"add","path":"roles","value":[{"value":"buyer"}]}`), 200)
		refused(w.Do(t, "PUT", "/Users/"+old, `{"schemas":["`+schemas.UserURI+`"],"userName":"old","entitlements":[{"value":"coal"},{"value":"coke"}]}`), "entitlements[1].value")
		account := w.send(t, "POST", "/admin/v1/users", `{"user":{"userName":"made","roles":[{"value":"stoker"}]}}`, "Authorization", "Bearer "+boss, "Content-Type", "application/json")
		if account.Status != 400 || !strings.Contains(account.Body, "roles[0].value") {
			t.Errorf("an account: %d %s", account.Status, account.Body)
		}

		// Each by itself, and recorded.
		must[any](t, put(`{"roles":false,"entitlements":true}`), 200)
		must[any](t, user(`"roles":[{"value":"stoker"}]`), 201)
		refused(user(`"entitlements":[{"value":"coal"}]`), "entitlements[0].value")
		must[any](t, put(`{"roles":true,"entitlements":false}`), 200)
		must[any](t, user(`"entitlements":[{"value":"coal"}]`), 201)
		refused(user(`"roles":[{"value":"stoker"}]`), "roles[0].value")
		entries := w.entries(t, "vocabulary")
		if len(entries) != 3 {
			t.Fatalf("%d entries", len(entries))
		}
		e := entries[1]
		if diff := cmp.Diff([]storage.Change{{Path: "roles", Before: []byte("true"), After: []byte("false")}}, e.Changes); diff != "" || e.Action != "policy.replace" || e.Type != "Policy" || e.Actor != "user:"+admin.id {
			t.Errorf("recorded as %+v (-want +got):\n%s", e, diff)
		}
		w.advance(6 * time.Minute)
		must[any](t, put(`{"roles":false,"entitlements":false}`), 401)
	})
}
