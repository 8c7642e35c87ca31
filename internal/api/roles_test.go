package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

type holding struct {
	Role, Principal, Through string
	Eligible                 bool
	ActiveTill               time.Time
}

// scim sends a request to the protocol in somebody's session.
func (w *world) scim(t *testing.T, token, method, path, body string) testserver.Response {
	t.Helper()
	header := []string{"Authorization", "Bearer " + token}
	if body != "" {
		header = append(header, "Content-Type", "application/scim+json")
	}
	return w.send(t, method, testserver.Base+path, body, header...)
}

func (w *world) stepUp(t *testing.T, p *person, in signedIn) signedIn {
	t.Helper()
	w.advance(time.Minute)
	return must[signedIn](t, w.post(t, "/auth/v1/step-up", in.Token, object{"code": w.code(t, p)}), 200)
}

// TestActivation: a role that somebody is eligible for permits nothing until it is
// activated, with a fresh passcode, a reason and somebody else's approval, and again
// nothing when its time is over. Who holds what, and the audit trail, say so.
func TestActivation(t *testing.T) {
	shows(t, "B10")
	onStores(t, testActivation)
}

func testActivation(t *testing.T, w *world) {
	admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
	boss, in := w.mfa(t, admin), w.mfa(t, bo)
	boss = w.stepUp(t, admin, boss)
	assignment := must[struct{ ID string }](t, w.scim(t, boss.Token, "POST", "/RoleAssignments", fmt.Sprintf(
		`{"schemas":["urn:ietf:params:scim:schemas:extension:roster:2.0:RoleAssignment"],"role":{"value":%q},"principal":{"value":%q},"kind":"eligible","approvalRequired":true}`,
		auth.GroupsAdministrator, bo.id)), 201)
	group := func(name string) int {
		return w.scim(t, in.Token, "POST", "/Groups", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":%q}`, name)).Status
	}
	if got := group("early"); got != 403 {
		t.Errorf("eligible alone: %d, want 403", got)
	}
	ask := object{"assignment": assignment.ID, "durationSeconds": 3600, "reason": "quarterly clean-up"}
	w.advance(6 * time.Minute)
	if r := w.post(t, "/auth/v1/roles/activations", in.Token, ask); r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `max_age="300"`) {
		t.Errorf("without a fresh passcode: %d %s", r.Status, r.Body)
	}
	in = w.stepUp(t, bo, in)
	for _, wrong := range []object{
		{"assignment": assignment.ID, "durationSeconds": 3600, "reason": " "},
		{"assignment": assignment.ID, "durationSeconds": 1 << 40, "reason": "x"},
		{"assignment": assignment.ID, "durationSeconds": -1, "reason": "x"},
	} {
		if r := w.post(t, "/auth/v1/roles/activations", in.Token, wrong); r.Status != 400 {
			t.Errorf("%v: %d %s, want 400", wrong, r.Status, r.Body)
		}
	}
	asked := must[struct {
		ID    string
		Until time.Time
	}](t, w.post(t, "/auth/v1/roles/activations", in.Token, ask), 201)
	if !asked.Until.IsZero() || group("waiting") != 403 {
		t.Errorf("asked for, not approved: active until %v", asked.Until)
	}
	if r := w.post(t, "/auth/v1/roles/activations/"+asked.ID+"/approval", in.Token, nil); r.Status != 403 {
		t.Errorf("approved by who asked: %d %s", r.Status, r.Body)
	}
	friend := w.person(t, "friend", auth.UserAdministrator)
	other := w.mfa(t, friend)
	if r := w.post(t, "/auth/v1/roles/activations/"+asked.ID+"/approval", other.Token, nil); r.Status != 403 {
		t.Errorf("approved by somebody who could not give the role: %d %s", r.Status, r.Body)
	}
	boss = w.stepUp(t, admin, boss)
	must[any](t, w.post(t, "/auth/v1/roles/activations/"+asked.ID+"/approval", boss.Token, nil), 200)
	w.advance(time.Second)
	if got := group("active"); got != 201 {
		t.Errorf("approved: %d, want 201", got)
	}

	held := must[struct{ Holdings []holding }](t, w.get(t, "/admin/v1/roles/"+auth.GroupsAdministrator+"/holders", boss.Token), 200)
	if len(held.Holdings) != 1 || held.Holdings[0].Principal != bo.id || !held.Holdings[0].Eligible || held.Holdings[0].ActiveTill.IsZero() {
		t.Errorf("who holds the role: %+v", held)
	}
	own := must[struct{ Holdings []holding }](t, w.get(t, "/auth/v1/roles", in.Token), 200)
	if len(own.Holdings) != 1 || own.Holdings[0].Role != auth.GroupsAdministrator {
		t.Errorf("one's own roles: %+v", own)
	}

	for range 4 { // sessions end when they are idle
		w.advance(20 * time.Minute)
		w.get(t, "/auth/v1/session", in.Token)
		w.get(t, "/auth/v1/session", boss.Token)
	}
	if got := group("late"); got != 403 {
		t.Errorf("an hour later: %d, want 403", got)
	}

	type entry struct {
		Action, Actor, Level, From, RequestID string
		Changes                               json.RawMessage
	}
	var actions []string
	for after := ""; ; {
		page := must[struct {
			Entries []entry
			Next    string
		}](t, w.get(t, "/admin/v1/audit?limit=7&actor="+url.QueryEscape("user:"+bo.id)+"&after="+after, boss.Token), 200)
		for _, e := range page.Entries {
			if e.Actor != "user:"+bo.id || e.From == "" {
				t.Errorf("the search returned %+v", e)
			}
			if e.Action == "group.create" && e.Level != "mfa" {
				t.Errorf("a group was created at level %q", e.Level)
			}
			if e.Action == "role.activate.request" && (e.Level != "mfa" || !strings.Contains(string(e.Changes), `"quarterly clean-up"`)) {
				t.Errorf("asking for a role was recorded as %+v", e)
			}
			if e.RequestID == "" {
				t.Errorf("no request has caused %+v", e)
			}
			actions = append(actions, e.Action)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	for _, want := range []string{"role.activate.request", "group.create"} {
		if !slices.Contains(actions, want) {
			t.Errorf("the audit trail has %v, and not %s", actions, want)
		}
	}
	other = w.mfa(t, friend)
	if r := w.get(t, "/admin/v1/audit", other.Token); r.Status != 403 {
		t.Errorf("the audit trail without its permission: %d", r.Status)
	}
	if r := w.get(t, "/admin/v1/audit?limit=0&limit=5000", boss.Token); r.Status != 400 {
		t.Errorf("a limit twice: %d", r.Status)
	}
}

// TestOwnActivation: who may give a role approves nobody's activation but others'.
func TestOwnActivation(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		bo, friend := w.person(t, "bo", auth.PrivilegedRoleAdministrator), w.person(t, "friend", auth.PrivilegedRoleAdministrator)
		in, other := w.mfa(t, bo), w.mfa(t, friend)
		assignment := w.assign(t, other.Token, bo.id, auth.GroupsAdministrator, `,"kind":"eligible","approvalRequired":true`)
		asked := must[struct{ ID string }](t, w.post(t, "/auth/v1/roles/activations", in.Token, object{"assignment": assignment, "durationSeconds": 3600, "reason": "clean-up"}), 201)
		path := "/auth/v1/roles/activations/" + asked.ID + "/approval"
		if r := w.post(t, path, in.Token, nil); r.Status != 403 || !strings.Contains(r.Body, "somebody else") {
			t.Errorf("approved by who asked: %d %s", r.Status, r.Body)
		}
		must[any](t, w.post(t, path, other.Token, nil), 200)
	})
}

// TestPasswordsOverSCIM: nobody chooses somebody else's password. An administrator's
// session writes users, and no passwords.
func TestPasswordsOverSCIM(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
	in := w.mfa(t, admin)
	const user, op = "urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/Users", `{"schemas":["` + user + `"],"userName":"cy","password":"` + goodPassword + `"}`, 403},
		{"POST", "/Users", `{"schemas":["` + user + `"],"userName":"cy"}`, 201},
		{"PUT", "/Users/" + bo.id, `{"schemas":["` + user + `"],"userName":"bo","password":"` + goodPassword + `"}`, 403},
		{"PATCH", "/Users/" + bo.id, `{"schemas":["` + op + `"],"Operations":[{"op":"replace","path":"password","value":"` + goodPassword + `"}]}`, 403},
		{"PATCH", "/Users/" + bo.id, `{"schemas":["` + op + `"],"Operations":[{"op":"remove","path":"password"}]}`, 403},
		{"PATCH", "/Users/" + bo.id, `{"schemas":["` + op + `"],"Operations":[{"op":"replace","path":"title","value":"Director"}]}`, 200},
	} {
		if r := w.scim(t, in.Token, c.method, c.path, c.body); r.Status != c.want || strings.Contains(r.Body, goodPassword) {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, r.Status, r.Body, c.want)
		}
	}
	w.signIn(t, bo)
}

// TestPasswordTakesAPasscode: who knows a password and has no passcode cannot change
// it, and so lock its owner out.
func TestPasswordTakesAPasscode(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	bo := w.person(t, "bo")
	w.enrol(t, bo)
	thief := w.signIn(t, bo)
	change := object{"current": bo.password, "new": "another long enough one"}
	if r := w.post(t, "/auth/v1/password", thief.Token, change); r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), "insufficient_user_authentication") {
		t.Errorf("without a passcode: %d %s", r.Status, r.Body)
	}
	in := must[signedIn](t, w.post(t, "/auth/v1/passcode", thief.Token, object{"code": w.code(t, bo)}), 200)
	must[signedIn](t, w.post(t, "/auth/v1/password", in.Token, change), 200)
}
