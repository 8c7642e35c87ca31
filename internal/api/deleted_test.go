package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// assign gives somebody a role as people do, in a session with a fresh passcode, and
// returns the id of the assignment.
func (w *world) assign(t *testing.T, token, principal, role, more string) string {
	t.Helper()
	return must[struct{ ID string }](t, w.scim(t, token, "POST", "/RoleAssignments", fmt.Sprintf(
		`{"schemas":[%q],"role":{"value":%q},"principal":{"value":%q}%s}`, schemas.RoleAssignmentURI, role, principal, more)), 201).ID
}

// group makes a group as the client, and returns its id.
func (w *world) group(t *testing.T, name string, members ...string) string {
	t.Helper()
	var list []object
	for _, m := range members {
		list = append(list, object{"value": m})
	}
	b, err := json.Marshal(object{"schemas": []string{schemas.GroupURI}, "displayName": name, "members": list})
	if err != nil {
		t.Fatal(err)
	}
	return must[struct{ ID string }](t, w.Do(t, "POST", "/Groups", string(b)), 201).ID
}

// user reads a user over SCIM.
type user struct {
	ID, UserName, DisplayName string
	Groups                    []struct{ Value string }
	Enterprise                struct {
		Manager struct {
			Value string
			Ref   string `json:"$ref"`
		}
	} `json:"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`
}

func (w *world) user(t *testing.T, id string) user {
	t.Helper()
	return must[user](t, w.Do(t, "GET", "/Users/"+id, ""), 200)
}

// entries are the audit entries about a record, oldest first.
func (w *world) entries(t *testing.T, id string) []storage.AuditEntry {
	t.Helper()
	list, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(e storage.AuditEntry) bool { return e.ID != id })
}

func (w *world) delete(t *testing.T, path, token string) testserver.Response {
	t.Helper()
	return w.send(t, "DELETE", path, "", "Authorization", "Bearer "+token)
}

// fresh returns the token of a session with a passcode given just now.
func (w *world) fresh(t *testing.T, p *person) string {
	t.Helper()
	return w.mfa(t, p).Token
}

// TestDeletedUser: somebody who is deleted is gone for everybody, and their name is free;
// they come back as they were, but for their sessions: groups, roles, password, passcode
// app, and whose manager they are (B7, C4).
func TestDeletedUser(t *testing.T) {
	shows(t, "B7", "C4")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		report := must[user](t, w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q,%q],"userName":"cy",%q:{"manager":{"value":%q}}}`,
			schemas.UserURI, schemas.EnterpriseUserURI, schemas.EnterpriseUserURI, bo.id)), 201)
		staff, lost := w.group(t, "Staff", bo.id, report.ID), w.group(t, "Lost", bo.id)
		outer := w.group(t, "Outer", staff)
		boss := w.fresh(t, admin)
		assignment := w.assign(t, boss, bo.id, auth.HelpdeskAdministrator, "")
		ended := w.assign(t, boss, bo.id, auth.ReportsReader, fmt.Sprintf(`,"endDate":%q`, w.now().Add(time.Minute).Format(time.RFC3339)))
		in := w.mfa(t, bo)

		boss = w.fresh(t, admin)
		deleted := w.now()
		must[any](t, w.scim(t, boss, "DELETE", "/Users/"+bo.id, ""), 204)
		must[any](t, w.Do(t, "DELETE", "/Groups/"+lost, ""), 204)
		for _, r := range []testserver.Response{
			w.Do(t, "GET", "/Users/"+bo.id, ""), w.scim(t, boss, "PATCH", "/Users/"+bo.id, patching(`{"op":"replace","path":"title","value":"x"}`)),
			w.Do(t, "PUT", "/Users/"+bo.id, fmt.Sprintf(`{"schemas":[%q],"userName":"bo"}`, schemas.UserURI)), w.Do(t, "DELETE", "/Users/"+bo.id, ""),
			w.get(t, "/admin/v1/users/"+bo.id+"/roles", boss), w.get(t, "/admin/v1/deleted-users/"+admin.id, boss), w.get(t, "/admin/v1/deleted-groups/"+bo.id, boss),
			w.get(t, "/admin/v1/deleted-users/"+nobody, boss), w.get(t, "/admin/v1/deleted-users/x", boss),
		} {
			must[any](t, r, 404)
		}

		w.advance(24 * time.Hour)
		boss = w.fresh(t, admin)
		list := must[api.DeletedList](t, w.get(t, "/admin/v1/deleted-users", boss), 200)
		want := api.DeletedResource{ID: bo.id, UserName: "bo", DeletedAt: deleted, DeletedBy: "user:" + admin.id, PurgeAt: deleted.Add(30 * 24 * time.Hour), DaysLeft: 29}
		if diff := cmp.Diff(api.DeletedList{Deleted: []api.DeletedResource{want}, Total: 1}, list); diff != "" {
			t.Errorf("the list (-want +got):\n%s", diff)
		}
		detail := must[api.DeletedDetail](t, w.get(t, "/admin/v1/deleted-users/"+bo.id, boss), 200)
		wantDetail := api.DeletedDetail{DeletedResource: want, Groups: []api.GroupReference{{ID: staff, Display: "Staff"}},
			Roles: []api.RoleReference{{ID: auth.HelpdeskAdministrator, Display: "Helpdesk Administrator", Administrative: true}}}
		if diff := cmp.Diff(wantDetail, detail); diff != "" {
			t.Errorf("the detail (-want +got):\n%s", diff)
		}

		// The name is free at once, by whatever way somebody comes to it; so it has to be
		// another one by now.
		must[any](t, w.Do(t, "PUT", "/Users/"+report.ID, fmt.Sprintf(`{"schemas":[%q],"userName":"Bo"}`, schemas.UserURI)), 200)
		must[any](t, w.Do(t, "PATCH", "/Users/"+report.ID, patching(`{"op":"replace","path":"userName","value":"cy"}`)), 200)
		taken := w.person(t, "BO")
		restore := "/admin/v1/deleted-users/" + bo.id + "/restore"
		boss = w.fresh(t, admin)
		problem := must[api.Problem](t, w.post(t, restore, boss, object{}), 409)
		if problem.Type != api.TypeNameTaken || problem.Attribute != "userName" || problem.Holder == nil || *problem.Holder != (api.Holder{ID: taken.id, Display: "BO"}) {
			t.Errorf("the name is taken: %+v", problem)
		}
		if r := w.post(t, restore, boss, object{"userName": "bo"}); r.Status != 409 {
			t.Errorf("the same name: %d %s", r.Status, r.Body)
		}
		if r := w.post(t, restore, boss, object{"userName": " "}); r.Status != 400 {
			t.Errorf("no name: %d %s", r.Status, r.Body)
		}
		if r := w.post(t, restore, boss, object{"without": []string{"shame"}}); r.Status != 400 || strings.Contains(r.Body, "shame") {
			t.Errorf("without what there is not: %d %s", r.Status, r.Body)
		}
		restored := must[api.Restored](t, w.post(t, restore, boss, object{"userName": "bo2"}), 200)
		if diff := cmp.Diff(api.Restored{ID: bo.id, Name: "bo2", Version: 2}, restored); diff != "" {
			t.Errorf("restored (-want +got):\n%s", diff)
		}
		must[any](t, w.post(t, restore, boss, object{}), 404)
		got := w.user(t, bo.id)
		if len(got.Groups) != 2 || got.Groups[0].Value != staff || got.Groups[1].Value != outer || got.UserName != "bo2" {
			t.Errorf("over SCIM: %+v", got)
		}
		if m := w.user(t, report.ID).Enterprise.Manager; m.Value != bo.id || !strings.HasSuffix(m.Ref, "/Users/"+bo.id) {
			t.Errorf("the manager of somebody else is %+v", m)
		}
		must[any](t, w.scim(t, boss, "GET", "/RoleAssignments/"+assignment, ""), 200)
		must[any](t, w.scim(t, boss, "GET", "/RoleAssignments/"+ended, ""), 404)
		held := must[struct{ Holdings []holding }](t, w.get(t, "/admin/v1/users/"+bo.id+"/roles", boss), 200)
		if len(held.Holdings) != 1 || held.Holdings[0].Role != auth.HelpdeskAdministrator {
			t.Errorf("roles: %+v", held)
		}
		// Whoever follows the changes hears of all of them.
		heard := map[string]string{bo.id: "user.restore 2", staff: "group.patch 3", assignment: "roleassignment.restore 2"}
		for id, text := range heard {
			list := w.entries(t, id)
			e := list[len(list)-1]
			if got := fmt.Sprint(e.Action, " ", e.Version); got != text {
				t.Errorf("the last entry is %s, want %s", got, text)
			}
			if e.Actor != "user:"+admin.id || e.Level != "mfa" || e.From == "" || e.RequestID == "" {
				t.Errorf("%s: %+v", text, e)
			}
			switch id {
			case staff:
				if len(e.Changes) != 1 || !strings.Contains(string(e.Changes[0].After), bo.id) {
					t.Errorf("%s: %+v", text, e.Changes)
				}
			case bo.id:
				if !slices.ContainsFunc(e.Changes, func(c storage.Change) bool {
					return c.Path == "userName" && string(c.Before) == `"bo"` && string(c.After) == `"bo2"`
				}) {
					t.Errorf("%s: %+v", text, e.Changes)
				}
			}
		}
		if got := must[struct{ Meta struct{ Version string } }](t, w.Do(t, "GET", "/Groups/"+staff, ""), 200).Meta.Version; !strings.HasPrefix(got, `W/"3`) {
			t.Errorf("the group has version %s", got)
		}

		// The password and the app are what they were, the session is not.
		must[any](t, w.get(t, "/auth/v1/session", in.Token), 401)
		bo.name = "bo2"
		if again := w.mfa(t, bo); again.Level != "mfa" {
			t.Errorf("signed in again: %+v", again)
		}

		// And the group that went has its member again.
		if r := w.post(t, "/admin/v1/deleted-groups/"+lost+"/restore", w.fresh(t, admin), object{}); r.Status != 200 {
			t.Errorf("the group: %d %s", r.Status, r.Body)
		}
		if got := w.user(t, bo.id); len(got.Groups) != 3 {
			t.Errorf("after the group came back: %+v", got.Groups)
		}
	})
}

// TestRestoreWhom: who restores must be able to give what comes back. Otherwise the
// role is named, and what to leave out.
func TestRestoreWhom(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, uma := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "uma", auth.UserAdministrator)
		priv := w.person(t, "priv", auth.PrivilegedRoleAdministrator)
		plain, helper, second, joiner, eligible := w.person(t, "plain"), w.person(t, "helper"), w.person(t, "second"), w.person(t, "joiner"), w.person(t, "eligible")
		member := w.person(t, "member")
		desk := w.group(t, "Desk", joiner.id, member.id)
		business := must[struct{ ID string }](t, w.Do(t, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"deckhand","display":"Deckhand"}`, schemas.RoleURI)), 201).ID
		boss := w.fresh(t, admin)
		w.assign(t, boss, plain.id, business, "")
		w.assign(t, boss, helper.id, auth.HelpdeskAdministrator, "")
		w.assign(t, boss, second.id, auth.GlobalAdministrator, "")
		w.assign(t, boss, eligible.id, auth.Auditor, `,"kind":"eligible"`)
		w.assign(t, boss, desk, auth.HelpdeskAdministrator, "")
		boss = w.fresh(t, admin)
		for _, p := range []*person{plain, helper, second, joiner, eligible, member} {
			must[any](t, w.scim(t, boss, "DELETE", "/Users/"+p.id, ""), 204)
		}
		path := func(p *person) string { return "/admin/v1/deleted-users/" + p.id }
		restore := func(token string, p *person, without ...string) testserver.Response {
			return w.post(t, path(p)+"/restore", token, object{"without": without})
		}

		low := w.fresh(t, uma)
		for _, c := range []struct {
			p       *person
			without []string
			role    string
			want    string
		}{
			{helper, nil, "Helpdesk Administrator", "roles"}, {helper, []string{"groups"}, "Helpdesk Administrator", "roles"},
			{second, nil, "Global Administrator", "roles"}, {eligible, nil, "Auditor", "roles"},
			{joiner, nil, "Helpdesk Administrator", "groups"}, {joiner, []string{"roles"}, "Helpdesk Administrator", "groups"},
		} {
			p := must[api.Problem](t, restore(low, c.p, c.without...), 403)
			if p.Type != api.TypeNotPermitted || !strings.Contains(p.Detail, c.role) || !strings.Contains(p.Detail, `"`+c.want+`"`) {
				t.Errorf("%s without %v: %+v, want it to name %s and %s", c.p.name, c.without, p, c.role, c.want)
			}
		}
		// Nor does who restores purge.
		for _, p := range []*person{plain, helper} {
			must[any](t, w.delete(t, path(p), low), 403)
		}
		// Who gives roles restores nobody.
		must[any](t, restore(w.fresh(t, priv), helper), 403)
		low = w.fresh(t, uma)
		must[any](t, restore(low, plain), 200)
		// Leaving an administrative role out takes it for good, as purging does.
		must[any](t, restore(low, helper, "roles"), 403)
		must[any](t, restore(low, joiner, "groups"), 403)
		boss = w.fresh(t, admin)
		must[any](t, restore(boss, helper, "roles"), 200)
		must[any](t, restore(boss, joiner, "groups"), 200)
		for p, want := range map[*person]int{plain: 1, helper: 0, joiner: 0} {
			held := must[struct{ Holdings []holding }](t, w.get(t, "/admin/v1/users/"+p.id+"/roles", boss), 200)
			if len(held.Holdings) != want {
				t.Errorf("%s: %+v, want %d", p.name, held.Holdings, want)
			}
		}
		if got := w.user(t, joiner.id); len(got.Groups) != 0 {
			t.Errorf("without groups: %+v", got.Groups)
		}
		// Deleted again, what was left out does not come back either.
		must[any](t, w.scim(t, boss, "DELETE", "/Users/"+helper.id, ""), 204)
		if d := must[api.DeletedDetail](t, w.get(t, path(helper), boss), 200); len(d.Roles) != 0 {
			t.Errorf("roles that were left out: %+v", d.Roles)
		}

		// Giving an administrative role back takes a passcode given just now.
		w.advance(6 * time.Minute)
		if r := restore(boss, second); r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `max_age="300"`) {
			t.Errorf("without a fresh passcode: %d %s", r.Status, r.Body)
		}
		if r := w.delete(t, path(second), boss); r.Status != 401 {
			t.Errorf("purged without a fresh passcode: %d %s", r.Status, r.Body)
		}
		if r := restore(boss, second, "roles", "groups"); r.Status != 401 {
			t.Errorf("restored without the role, and without a fresh passcode: %d %s", r.Status, r.Body)
		}
		must[any](t, restore(w.fresh(t, admin), second, "roles", "groups"), 200)
		boss = w.fresh(t, admin)
		must[any](t, restore(boss, eligible), 200)
		// Every decision sees them at once.
		low = w.fresh(t, uma)
		must[any](t, w.scim(t, low, "DELETE", "/Users/"+eligible.id, ""), 403)
		must[any](t, w.scim(t, low, "DELETE", "/Users/"+second.id, ""), 204)
		boss = w.fresh(t, admin)
		must[any](t, restore(boss, member), 200)
		must[any](t, w.scim(t, low, "DELETE", "/Users/"+member.id, ""), 403)

		// Who may purge, purges nobody that they could not manage.
		janitor := must[struct{ ID string }](t, w.scim(t, boss, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q,%q],"value":"janitor",%q:{"kind":"administrative","permissions":["users.purge"]}}`,
			schemas.RoleURI, schemas.RosterRoleURI, schemas.RosterRoleURI)), 201).ID
		jan := w.person(t, "jan")
		w.assign(t, boss, jan.id, janitor, "")
		for _, p := range []*person{eligible, member, plain} {
			must[any](t, w.scim(t, boss, "DELETE", "/Users/"+p.id, ""), 204)
		}
		clean := w.fresh(t, jan)
		must[any](t, w.delete(t, path(eligible), clean), 403)
		must[any](t, w.delete(t, path(member), clean), 403)
		must[any](t, w.delete(t, path(plain), clean), 204)
		must[any](t, w.get(t, path(plain), clean), 403)
	})
}

// TestDeleteWhom: a Global Administrator deletes anyone but the last of its kind, a User
// Administrator only those who hold no administrative role (B6).
func TestDeleteWhom(t *testing.T) {
	shows(t, "B6")
	onStores(t, func(t *testing.T, w *world) {
		admin, second, uma := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "second", auth.GlobalAdministrator), w.person(t, "uma", auth.UserAdministrator)
		helper, other, plain, another := w.person(t, "helper", auth.HelpdeskAdministrator), w.person(t, "other", auth.UserAdministrator), w.person(t, "plain"), w.person(t, "another")
		w.enrol(t, second)
		boss, low := w.fresh(t, admin), w.fresh(t, uma)
		for _, c := range []struct {
			token string
			who   *person
			want  int
		}{
			{low, admin, 403}, {low, helper, 403}, {low, other, 403}, {low, uma, 403}, {low, plain, 204}, {low, plain, 404},
			{boss, second, 204}, {boss, admin, 409}, {boss, other, 204}, {boss, helper, 204}, {boss, another, 204},
		} {
			if r := w.scim(t, c.token, "DELETE", "/Users/"+c.who.id, ""); r.Status != c.want {
				t.Errorf("delete %s: %d %s, want %d", c.who.name, r.Status, r.Body, c.want)
			}
		}
		if n := must[api.DeletedList](t, w.get(t, "/admin/v1/deleted-users", boss), 200).Total; n != 5 {
			t.Errorf("%d are deleted, want 5", n)
		}
	})
}

// TestPurge: what is removed for good is gone: for the list, for whoever wants it back,
// and for whoever signs in; the id comes to nobody else.
func TestPurge(t *testing.T) {
	shows(t, "B7", "C4")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		staff := w.group(t, "Staff", bo.id)
		boss := w.fresh(t, admin)
		assignment := w.assign(t, boss, bo.id, auth.HelpdeskAdministrator, "")
		w.mfa(t, bo)
		boss = w.fresh(t, admin)
		path := "/admin/v1/deleted-users/" + bo.id
		// Who is not deleted is not touched, nor those whose manager they are.
		cy := w.person(t, "cy")
		must[any](t, w.Do(t, "PATCH", "/Users/"+cy.id, fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"add","path":"%s:manager.value","value":%q}]}`,
			schemas.EnterpriseUserURI, bo.id)), 200)
		before := len(w.entries(t, cy.id))
		must[any](t, w.delete(t, path, boss), 404)
		if r := w.Do(t, "GET", "/Users/"+cy.id, ""); !strings.Contains(r.Body, bo.id) || len(w.entries(t, cy.id)) != before {
			t.Errorf("a report of somebody who is not deleted has lost its manager: %s", r.Body)
		}
		w.user(t, bo.id)
		must[any](t, w.scim(t, boss, "DELETE", "/Users/"+bo.id, ""), 204)
		must[any](t, w.delete(t, path, boss), 204)
		must[any](t, w.delete(t, path, boss), 404)
		must[any](t, w.get(t, path, boss), 404)
		must[any](t, w.post(t, path+"/restore", boss, object{}), 404)
		must[any](t, w.Do(t, "GET", "/Users/"+bo.id, ""), 404)
		if l := must[api.DeletedList](t, w.get(t, "/admin/v1/deleted-users", boss), 200); l.Total != 0 || len(l.Deleted) != 0 {
			t.Errorf("the list: %+v", l)
		}
		for r, err := range w.Store.Dump(t.Context(), storage.DefaultTenant) {
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case r.Item != nil && (r.Item.ID == bo.id || slices.Contains(r.Item.Keys, bo.id) || strings.Contains(string(r.Item.Data), bo.id)):
				t.Errorf("there is still %s %s: %s", r.Item.Kind, r.Item.ID, r.Item.Data)
			case r.Resource != nil && (r.Resource.ID == bo.id || r.Resource.ID == assignment):
				t.Errorf("there is still %s %s", r.Resource.Type, r.Resource.ID)
			case r.Members != nil:
				t.Errorf("there is still a membership in %s", r.Members.Group)
			}
		}
		for _, kind := range []string{auth.SignInKind, auth.SessionKind} {
			if list, err := w.Store.Items(t.Context(), storage.DefaultTenant, kind, bo.id); err != nil || len(list) > 0 {
				t.Errorf("there are still %d items of the kind %s, %v", len(list), kind, err)
			}
		}
		last := func(id string) storage.AuditEntry { list := w.entries(t, id); return list[len(list)-1] }
		if e := last(bo.id); e.Action != "user.purge" || e.Version != 0 || e.Actor != "user:"+admin.id || len(e.Changes) > 0 {
			t.Errorf("the last entry: %+v", e)
		}
		if e := last(assignment); e.Action != "roleassignment.purge" {
			t.Errorf("the last entry of the assignment: %+v", e)
		}
		if got := w.person(t, "bo"); got.id == bo.id {
			t.Error("the id is somebody else's")
		}
		if got := must[struct{ Members []any }](t, w.Do(t, "GET", "/Groups/"+staff, ""), 200); len(got.Members) > 0 {
			t.Errorf("the group: %+v", got)
		}
		// A group of its own.
		must[any](t, w.Do(t, "DELETE", "/Groups/"+staff, ""), 204)
		must[any](t, w.delete(t, "/admin/v1/deleted-groups/"+staff, boss), 204)
		must[any](t, w.post(t, "/admin/v1/deleted-groups/"+staff+"/restore", boss, object{}), 404)
	})
}

// TestDeletedGroups: a group comes back with its members and its roles; to whom, who
// restores must be able to give.
func TestDeletedGroups(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, uma, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "uma", auth.UserAdministrator), w.person(t, "bo")
		desk, crew, plain := w.group(t, "Desk", bo.id), w.group(t, "Crew", bo.id), w.group(t, "Plain", bo.id)
		inner := w.group(t, "Inner")
		outer := w.group(t, "Outer", inner)
		boss := w.fresh(t, admin)
		w.assign(t, boss, desk, auth.HelpdeskAdministrator, "")
		add := func(token, group, member string) {
			t.Helper()
			must[any](t, w.scim(t, token, "PATCH", "/Groups/"+group,
				patching(`{"op":"add","path":"members","value":[{"value":"`+member+`"}]}`)), 200)
		}
		add(boss, crew, admin.id)
		boss = w.fresh(t, admin)
		for _, id := range []string{desk, crew, plain, outer} {
			must[any](t, w.scim(t, boss, "DELETE", "/Groups/"+id, ""), 204)
		}
		path := func(id string) string { return "/admin/v1/deleted-groups/" + id }
		d := must[api.DeletedDetail](t, w.get(t, path(desk), boss), 200)
		if d.DisplayName != "Desk" || d.UserName != "" || len(d.Roles) != 1 || d.Roles[0].ID != auth.HelpdeskAdministrator || len(d.Groups) != 0 {
			t.Errorf("the detail: %+v", d)
		}
		if l := must[api.DeletedList](t, w.get(t, "/admin/v1/deleted-groups?name=ES", boss), 200); len(l.Deleted) != 1 || l.Total != 4 {
			t.Errorf("searched: %+v", l)
		}
		low := w.fresh(t, uma)
		must[any](t, w.post(t, path(desk)+"/restore", low, object{}), 403)
		must[any](t, w.post(t, path(crew)+"/restore", low, object{}), 403) // a Global Administrator is in it
		must[any](t, w.post(t, path(plain)+"/restore", low, object{}), 200)
		if got := w.user(t, bo.id); len(got.Groups) != 1 || got.Groups[0].Value != plain {
			t.Errorf("after one: %+v", got.Groups)
		}
		w.group(t, "Crew")
		boss = w.fresh(t, admin)
		if p := must[api.Problem](t, w.post(t, path(crew)+"/restore", boss, object{}), 409); p.Attribute != "displayName" || p.Holder == nil || p.Holder.Display != "Crew" {
			t.Errorf("the name is taken: %+v", p)
		}
		must[any](t, w.post(t, path(desk)+"/restore", boss, object{}), 200)
		must[any](t, w.post(t, path(plain)+"/restore", boss, object{}), 404)
		must[any](t, w.scim(t, boss, "PATCH", "/Users/"+bo.id, patching(`{"op":"replace","path":"title","value":"x"}`)), 200)
		must[any](t, w.post(t, path(crew)+"/restore", boss, object{"displayName": "Crew 2"}), 200)
		if got := w.user(t, bo.id); len(got.Groups) != 3 {
			t.Errorf("after all: %+v", got.Groups)
		}
		// Bo is an administrator again, and at once.
		low = w.fresh(t, uma)
		must[any](t, w.scim(t, low, "DELETE", "/Users/"+bo.id, ""), 403)
		must[any](t, w.scim(t, low, "DELETE", "/Groups/"+crew, ""), 403)

		// Inner could take in what Outer would be in.
		high := w.group(t, "High")
		add(w.Token, inner, high)
		boss = w.fresh(t, admin)
		must[any](t, w.post(t, path(outer)+"/restore", boss, object{}), 200)
		add(w.Token, high, plain)
		must[any](t, w.Do(t, "DELETE", "/Groups/"+inner, ""), 204)
		add(w.Token, high, outer)
		boss = w.fresh(t, admin)
		if p := must[api.Problem](t, w.post(t, path(inner)+"/restore", boss, object{}), 409); !strings.Contains(p.Detail, "contains it") {
			t.Errorf("a circle: %+v", p)
		}
		must[any](t, w.post(t, path(inner)+"/restore", boss, object{"without": []string{"groups"}}), 200)
	})
}

// TestSweepOfALoad: a tenant that is being loaded is left alone.
func TestSweepOfALoad(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		const tenant = "arriving"
		types := w.Provider.Schemas.Type("User")
		attrs := map[string]any{"schemas": []any{schemas.UserURI}, "id": nobody, "userName": "bo"}
		long := w.now().Add(-10 * 365 * 24 * time.Hour)
		mark := &storage.LoadMark{Dump: "d", Digest: []byte("x")}
		err := w.Store.Write(t.Context(), tenant, func(tx storage.Tx) error {
			if err := tx.SetLoad(nil, mark); err != nil {
				return err
			}
			return tx.Load(&storage.Record{Tenant: &storage.Tenant{ID: tenant, Name: "Arriving", Created: long}})
		})
		if err != nil {
			t.Fatal(err)
		}
		err = w.Store.Write(t.Context(), tenant, func(tx storage.Tx) error {
			return tx.Load(&storage.Record{Resource: &storage.WholeResource{Deleted: long, Resource: storage.Resource{
				Type: types.Name, ID: nobody, Version: 1, Created: long, LastModified: long, Name: "bo", Doc: types.Document(attrs), Index: w.Store.NewIndex(tenant, types, attrs),
			}}})
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := w.Provider.Sweep(t.Context(), tenant); n != 0 || err != nil {
			t.Errorf("while it is loaded: %d, %v", n, err)
		}
		err = w.Store.Write(t.Context(), tenant, func(tx storage.Tx) error {
			if err := tx.SetLoad(mark, nil); err != nil {
				return err
			}
			return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "tenant.load"})
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := w.Provider.Sweep(t.Context(), tenant); n != 1 || err != nil {
			t.Errorf("once it is loaded: %d, %v", n, err)
		}
	})
}

// TestDeletedList: page by page, each once, and by a part of a name.
func TestDeletedList(t *testing.T) {
	shows(t, "B7", "C4")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		boss := w.fresh(t, admin)
		var want []string
		for i := range 7 {
			name := fmt.Sprintf("u%d@example.com", i)
			u := must[user](t, w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":%q,"displayName":"Straße %d"}`, schemas.UserURI, name, i)), 201)
			if i%2 == 0 {
				w.advance(time.Millisecond)
			}
			must[any](t, w.Do(t, "DELETE", "/Users/"+u.ID, ""), 204)
			want = append([]string{name}, want...)
		}
		var got []string
		after := ""
		for {
			l := must[api.DeletedList](t, w.get(t, "/admin/v1/deleted-users?limit=3&after="+after, boss), 200)
			if l.Total != 7 || len(l.Deleted) > 3 {
				t.Errorf("a page: %+v", l)
			}
			for _, d := range l.Deleted {
				got = append(got, d.UserName)
				if !strings.HasPrefix(d.DeletedBy, "client:") {
					t.Errorf("deleted by %q", d.DeletedBy)
				}
			}
			if after = l.Next; after == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got, cmpopts.SortSlices(strings.Compare)); diff != "" || !slices.Equal(got[:1], want[:1]) {
			t.Errorf("page by page: %q (-want +got):\n%s", got, diff)
		}
		for query, n := range map[string]int{"?name=U3%40": 1, "?name=STRASSE": 7, "?name=%20": 7, "?name=nobody": 0, "?name=example&limit=2": 2} {
			if l := must[api.DeletedList](t, w.get(t, "/admin/v1/deleted-users"+query, boss), 200); len(l.Deleted) != n {
				t.Errorf("%s: %+v, want %d", query, l, n)
			}
		}
		for _, query := range []string{"?limit=0", "?limit=201", "?limit=x", "?after=x", "?after=" + "AAAA", "?name=a&name=b", "?filter=x"} {
			must[any](t, w.get(t, "/admin/v1/deleted-users"+query, boss), 400)
		}
	})
}

// TestRetention: how long what is deleted is kept is for the tenant to say, within
// bounds, and is recorded.
func TestRetention(t *testing.T) {
	shows(t, "B7")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		boss := w.fresh(t, admin)
		deleted := w.now()
		must[any](t, w.Do(t, "DELETE", "/Users/"+bo.id, ""), 204)
		const path = "/admin/v1/policies/retention"
		put := func(body string) testserver.Response {
			return w.send(t, "PUT", path, body, "Authorization", "Bearer "+boss, "Content-Type", "application/json")
		}
		if got := must[auth.Retention](t, w.get(t, path, boss), 200); got.DeletedDays != 30 {
			t.Errorf("by itself: %+v", got)
		}
		for _, body := range []string{`{"deletedDays":0}`, `{"deletedDays":-1}`, `{"deletedDays":3651}`, `{"deletedDays":"7"}`, `{"deletedDays":1.5}`, `{}`, `{"days":7}`} {
			must[any](t, put(body), 400)
		}
		for _, days := range []int{3650, 7} {
			if got := must[auth.Retention](t, put(fmt.Sprintf(`{"deletedDays":%d}`, days)), 200); got.DeletedDays != days {
				t.Errorf("set to %d: %+v", days, got)
			}
			l := must[api.DeletedList](t, w.get(t, "/admin/v1/deleted-users", boss), 200)
			if d := l.Deleted[0]; !d.PurgeAt.Equal(deleted.Add(time.Duration(days)*24*time.Hour)) || d.DaysLeft != days {
				t.Errorf("with %d days: %+v", days, d)
			}
		}
		list := w.entries(t, "retention")
		e := list[len(list)-1]
		want := []storage.Change{{Path: "deletedDays", Before: []byte("3650"), After: []byte("7")}}
		if diff := cmp.Diff(want, e.Changes); diff != "" || e.Action != "policy.replace" || e.Type != "Policy" || e.Actor != "user:"+admin.id || len(list) != 2 {
			t.Errorf("recorded as %+v (-want +got):\n%s", e, diff)
		}
		w.advance(6 * time.Minute)
		must[any](t, put(`{"deletedDays":8}`), 401)

		// It is kept for as long as that and no longer, and another tenant keeps its own.
		token := w.clientOf(t, "acme")
		err := auth.CreateTenant(t.Context(), w.Store, auth.Principal{Kind: auth.Operator, Tenant: "acme"}, "Acme", w.now())
		if err != nil {
			t.Fatal(err)
		}
		other := w.pushed(t, token, "bo")
		must[any](t, w.Do(t, "DELETE", "/Users/"+other.id, "", "Authorization", "Bearer "+token), 204)
		left := func() (n int) {
			t.Helper()
			for _, tenant := range []storage.TenantID{storage.DefaultTenant, "acme"} {
				if _, err := w.Provider.Sweep(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
				count, err := w.Store.CountDeleted(t.Context(), tenant, auth.PrincipalUser)
				if err != nil {
					t.Fatal(err)
				}
				n += count
			}
			return n
		}
		w.clock.Store(deleted.Add(7*24*time.Hour - time.Second).UnixMilli())
		if n := left(); n != 2 {
			t.Errorf("a second before the seven days are over: %d, want 2", n)
		}
		w.clock.Store(deleted.Add(7*24*time.Hour + time.Second).UnixMilli())
		if n := left(); n != 1 {
			t.Errorf("after seven days: %d, want that of the other tenant", n)
		}
	})
}

// TestSweep: what is deleted for longer than is kept is purged, by however many at once,
// each with one entry; what is not, is not.
func TestSweep(t *testing.T) {
	shows(t, "B7")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		boss := w.fresh(t, admin)
		for i := range 5 {
			p := w.person(t, fmt.Sprint("old", i))
			w.assign(t, boss, p.id, auth.Auditor, "")
			must[any](t, w.scim(t, boss, "DELETE", "/Users/"+p.id, ""), 204)
		}
		group := w.group(t, "Old")
		must[any](t, w.Do(t, "DELETE", "/Groups/"+group, ""), 204)
		role := must[struct{ ID string }](t, w.Do(t, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"deckhand","display":"Deckhand"}`, schemas.RoleURI)), 201).ID
		must[any](t, w.Do(t, "DELETE", "/Roles/"+role, ""), 204)
		w.advance(30*24*time.Hour - time.Second)
		young := w.person(t, "young")
		must[any](t, w.Do(t, "DELETE", "/Users/"+young.id, ""), 204)
		sweep := func() int {
			var mu sync.Mutex
			total := 0
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					n, err := w.Provider.Sweep(t.Context(), storage.DefaultTenant)
					mu.Lock()
					defer mu.Unlock()
					if total += n; err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return total
		}
		if n := sweep(); n != 0 {
			t.Errorf("a second too early: %d", n)
		}
		w.advance(2 * time.Second)
		if n := sweep(); n < 7 {
			t.Errorf("%d were purged, want 7 at least", n)
		}
		purges := map[string]int{}
		list, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if strings.HasSuffix(e.Action, ".purge") {
				purges[e.Action]++
				if e.Actor != "system" || e.From != "" {
					t.Errorf("recorded as %+v", e)
				}
			}
		}
		if diff := cmp.Diff(map[string]int{"user.purge": 5, "group.purge": 1, "role.purge": 1, "roleassignment.purge": 5}, purges); diff != "" {
			t.Errorf("purges (-want +got):\n%s", diff)
		}
		left := map[string]int{}
		for r, err := range w.Store.Dump(t.Context(), storage.DefaultTenant) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Resource != nil && !r.Resource.Deleted.IsZero() {
				left[r.Resource.ID]++
			}
		}
		if diff := cmp.Diff(map[string]int{young.id: 1}, left); diff != "" {
			t.Errorf("still there (-want +got):\n%s", diff)
		}
		metrics := w.Metrics(t)
		if want := `roster_provisioning_operations_total{operation="purge",outcome="ok",resource_type="User"} 5`; !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	})
}

// TestRestoredWhole: who comes back has their own manager again, and what they sign in by;
// an address that somebody else signs in by meanwhile is named, with whose it is (B7).
func TestRestoredWhole(t *testing.T) {
	shows(t, "B7")
	onStores(t, func(t *testing.T, w *world) {
		admin, chief := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "chief")
		boss := w.fresh(t, admin)
		made := must[account](t, w.account(t, boss, object{"signIn": "email", "user": object{"userName": "kim", "emails": []object{{"value": "kim@shop.example", "primary": true}},
			schemas.EnterpriseUserURI: object{"manager": object{"value": chief.id}}}}), 201)
		must[any](t, w.scim(t, boss, "DELETE", "/Users/"+made.ID, ""), 204)
		other := must[account](t, w.account(t, boss, object{"user": object{"userName": "kim@shop.example", "displayName": "Kim the Second"}}), 201)
		restore := "/admin/v1/deleted-users/" + made.ID + "/restore"
		problem := must[api.Problem](t, w.post(t, restore, boss, object{}), 409)
		if problem.Type != api.TypeNameTaken || problem.Attribute != "emails" || problem.Holder == nil || *problem.Holder != (api.Holder{ID: other.ID, Display: "Kim the Second"}) {
			t.Errorf("an address that is taken: %+v", problem)
		}
		if !strings.Contains(problem.Detail, `"signIn": "userName"`) || strings.Contains(problem.Detail, "kim@") {
			t.Errorf("what to do about it: %s", problem.Detail)
		}
		// Either they do without the address, or somebody changes it there.
		must[any](t, w.post(t, restore, boss, object{"signIn": "phone"}), 400)
		must[any](t, w.post(t, restore, boss, object{"userName": "kim2"}), 409)
		must[any](t, w.post(t, restore, boss, object{"signIn": "userName"}), 200)
		if r := w.Do(t, "GET", "/Users/"+made.ID, ""); strings.Contains(r.Body, "signInBy") || !strings.Contains(r.Body, "kim@shop.example") {
			t.Errorf("restored to sign in by user name: %s", r.Body)
		}
		must[any](t, w.scim(t, boss, "PATCH", "/Users/"+other.ID, patching(`{"op":"replace","path":"userName","value":"second"}`)), 200)
		must[any](t, w.scim(t, boss, "PATCH", "/Users/"+made.ID, patching(`{"op":"add","path":"`+schemas.RosterUserURI+`:signInBy","value":"email"}`)), 200)
		must[any](t, w.scim(t, boss, "DELETE", "/Users/"+made.ID, ""), 204)
		must[any](t, w.post(t, restore, boss, object{}), 200)
		if m := w.user(t, made.ID).Enterprise.Manager; m.Value != chief.id {
			t.Errorf("the manager is %+v", m)
		}
		w.advance(time.Minute)
		if in := must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", object{"name": "KIM@shop.example", "password": made.Password}), 200); in.User != made.ID || in.Level != "limited" {
			t.Errorf("signing in by the address, with the temporary password: %+v", in)
		}

		// And a user name that is somebody's address to sign in by.
		bo := w.person(t, "bo@shop.example")
		must[any](t, w.scim(t, boss, "DELETE", "/Users/"+bo.id, ""), 204)
		third := must[account](t, w.account(t, boss, object{"signIn": "email", "user": object{"userName": "third", "emails": []object{{"value": "bo@shop.example"}}}}), 201)
		restore = "/admin/v1/deleted-users/" + bo.id + "/restore"
		problem = must[api.Problem](t, w.post(t, restore, boss, object{}), 409)
		if problem.Attribute != "userName" || problem.Holder == nil || *problem.Holder != (api.Holder{ID: third.ID, Display: "third"}) {
			t.Errorf("a name that is an address by now: %+v", problem)
		}
		must[any](t, w.post(t, restore, boss, object{"userName": "bo", "signIn": "userName"}), 200)
	})
}
