package api_test

import (
	"fmt"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestDeactivatedByAnother: whose activation somebody else ends is without the role in
// the next request.
func TestDeactivatedByAnother(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
	in, boss := w.mfa(t, bo), w.mfa(t, admin)
	assignment := must[struct{ ID string }](t, w.scim(t, boss.Token, "POST", "/RoleAssignments", fmt.Sprintf(
		`{"schemas":["urn:ietf:params:scim:schemas:extension:roster:2.0:RoleAssignment"],"role":{"value":%q},"principal":{"value":%q},"kind":"eligible"}`,
		auth.GroupsAdministrator, bo.id)), 201)
	in = w.stepUp(t, bo, in)
	active := must[struct{ ID string }](t, w.post(t, "/auth/v1/roles/activations", in.Token, object{"assignment": assignment.ID, "durationSeconds": 3600, "reason": "x"}), 201)
	if r := w.scim(t, in.Token, "GET", "/Groups", ""); r.Status != 200 {
		t.Fatalf("with the role: %d %s", r.Status, r.Body)
	}
	must[any](t, w.send(t, "DELETE", "/auth/v1/roles/activations/"+active.ID, "", "Authorization", "Bearer "+boss.Token), 204)
	if r := w.scim(t, in.Token, "GET", "/Groups", ""); r.Status != 403 {
		t.Errorf("the request after it was ended: %d %s, want 403", r.Status, r.Body)
	}
}

// TestClientAfterwards: who was an administrator until a moment ago, as their session
// remembers, leaves no client behind, for its token would outlive the role.
func TestClientAfterwards(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo", auth.GlobalAdministrator)
		boss, in := w.mfa(t, admin), w.mfa(t, bo)
		client := object{"name": "hr", "scopes": []string{"users"}}
		kept := must[struct{ Client struct{ ID string } }](t, w.post(t, "/admin/v1/clients", in.Token, client), 201)
		must[any](t, w.scim(t, boss.Token, "PATCH", "/Users/"+bo.id,
			`{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"active","value":false}]}`), 200)
		for _, path := range []string{"/admin/v1/clients", "/admin/v1/clients/" + kept.Client.ID + "/rotate"} {
			body := object{}
			if path == "/admin/v1/clients" {
				body = object{"name": "backdoor", "scopes": []string{"users"}}
			}
			if r := w.post(t, path, in.Token, body); r.Status != 401 && r.Status != 403 {
				t.Errorf("POST %s: %d %s, want a refusal", path, r.Status, r.Body)
			}
		}
	})
}

// TestClientOfLess: so does who has lost a part of what they might do; nor do they leave an
// account with a password that they know.
func TestClientOfLess(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo", auth.ApplicationAdministrator)
		boss := w.mfa(t, admin)
		more := w.assign(t, boss.Token, bo.id, auth.UserAdministrator, "")
		in := w.mfa(t, bo)
		kept := must[struct{ Client struct{ ID string } }](t, w.post(t, "/admin/v1/clients", in.Token, object{"name": "hr", "scopes": []string{"users"}}), 201).Client.ID
		must[any](t, w.scim(t, boss.Token, "DELETE", "/RoleAssignments/"+more, ""), 204)
		for _, r := range []testserver.Response{
			w.post(t, "/admin/v1/clients", in.Token, object{"name": "backdoor", "scopes": []string{"users"}}),
			w.post(t, "/admin/v1/clients/"+kept+"/rotate", in.Token, object{}),
			w.send(t, "PATCH", "/admin/v1/clients/"+kept, `{"networks":[]}`, "Content-Type", "application/json", "Authorization", "Bearer "+in.Token),
			w.post(t, "/admin/v1/users", in.Token, object{"user": object{"userName": "back"}}),
		} {
			if r.Status != 403 {
				t.Errorf("%d %s, want a refusal", r.Status, r.Body)
			}
		}
		must[any](t, w.post(t, "/admin/v1/clients", in.Token, object{"name": "reader", "scopes": []string{"users:read"}}), 201)
	})
}

// TestLastSignIn: a session says when its user had signed in before, so that who did
// not can tell.
func TestLastSignIn(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	p := w.person(t, "ana")
	type answer struct{ Token, LastSignIn string }
	body := object{"name": p.name, "password": p.password}
	first := must[answer](t, w.post(t, "/auth/v1/sign-in", "", body), 200)
	at := w.now()
	w.advance(auth.SessionIdle / 2)
	second := must[answer](t, w.post(t, "/auth/v1/sign-in", "", body), 200)
	again := must[answer](t, w.get(t, "/auth/v1/session", second.Token), 200)
	want := at.Format("2006-01-02T15:04:05Z")
	if first.LastSignIn != "" || second.LastSignIn != want || again.LastSignIn != want {
		t.Errorf("the first says %q, the second %q and later %q; want nothing and %s twice", first.LastSignIn, second.LastSignIn, again.LastSignIn, want)
	}
}
