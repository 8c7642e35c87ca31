package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestMe: people read their own resource at /Me, and change what says how they are called
// and reached; for the rest they need what they would need for anybody.
func TestMe(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		bo, admin, helper := w.person(t, "bo"), w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "helper", auth.HelpdeskAdministrator)
		session := w.signIn(t, bo).Token
		me := must[object](t, w.scim(t, session, "GET", "/Me", ""), 200)
		r := w.scim(t, session, "GET", "/Me", "")
		if me["userName"] != "bo" || me["id"] != bo.id || !strings.HasSuffix(r.Header.Get("Location"), "/scim/v2/Users/"+bo.id) {
			t.Errorf("/Me of bo: %s at %s", r.Body, r.Header.Get("Location"))
		}
		replace := `{"schemas":["` + schemas.UserURI + `"],"userName":"bo","nickName":"Bobo","active":true`
		for _, c := range []struct {
			method, body string
			want         int
		}{
			{"PATCH", patching(`{"op":"replace","path":"displayName","value":"Bo Ek"},{"op":"add","path":"name.familyName","value":"Ek"},{"op":"add","path":"phoneNumbers","value":[{"value":"+46 1"}]}`), 200},
			{"PATCH", patching(`{"op":"replace","path":"displayName","value":"x"},{"op":"replace","path":"title","value":"Director"}`), 403},
			{"PATCH", patching(`{"op":"replace","path":"userName","value":"admin2"}`), 403},
			{"PATCH", patching(`{"op":"add","path":"emails","value":[{"value":"admin@x.example"}]}`), 403},
			{"PATCH", patching(`{"op":"add","path":"roles","value":[{"value":"director"}]}`), 403},
			{"PATCH", patching(`{"op":"replace","path":"active","value":false}`), 403},
			{"PATCH", patching(`{"op":"replace","path":"password","value":"` + goodPassword + `"}`), 403},
			{"PATCH", patching(`{"op":"replace","path":"` + schemas.EnterpriseUserURI + `:department","value":"Board"}`), 403},
			{"PUT", replace + `,"externalId":"x"}`, 403},
			{"PUT", replace + `}`, 200},
			{"DELETE", "", 401}, // with a passcode 403, below
			{"POST", "{}", 405},
		} {
			if r := w.scim(t, session, c.method, "/Me", c.body); r.Status != c.want {
				t.Errorf("%s /Me %s: %d %s, want %d", c.method, c.body, r.Status, r.Body, c.want)
			}
		}
		me = must[object](t, w.scim(t, session, "GET", "/Me?attributes=nickName,displayName,title", ""), 200)
		if me["nickName"] != "Bobo" || me["displayName"] != nil || me["title"] != nil {
			t.Errorf("afterwards: %v", me)
		}
		// Nobody else's resource is opened by that.
		for _, method := range []string{"GET", "PATCH"} {
			for _, id := range []string{admin.id, bo.id} {
				if r := w.scim(t, session, method, "/Users/"+id, patching(`{"op":"replace","path":"displayName","value":"x"}`)); r.Status != 401 && r.Status != 403 {
					t.Errorf("%s /Users/…: %d %s", method, r.Status, r.Body)
				}
			}
		}
		// Who holds a role gives a passcode first.
		rename := patching(`{"op":"replace","path":"displayName","value":"Helper"}`)
		w.enrol(t, helper)
		low := w.signIn(t, helper).Token
		if r := w.scim(t, low, "PATCH", "/Me", rename); r.Status != 401 {
			t.Errorf("an administrator without a passcode: %d %s", r.Status, r.Body)
		}
		high := w.mfa(t, helper).Token
		if r := w.scim(t, high, "PATCH", "/Me", rename); r.Status != 200 {
			t.Errorf("an administrator: %d %s", r.Status, r.Body)
		}
		if r := w.scim(t, high, "DELETE", "/Me", ""); r.Status != 403 {
			t.Errorf("an administrator who may not delete: %d %s", r.Status, r.Body)
		}
		if r := w.scim(t, w.mfa(t, admin).Token, "DELETE", "/Me", ""); r.Status != 409 {
			t.Errorf("the last Global Administrator: %d %s", r.Status, r.Body)
		}
		// One of two deletes the own account, and the session with it.
		second := w.person(t, "second", auth.GlobalAdministrator)
		own := w.mfa(t, second).Token
		if r := w.scim(t, own, "DELETE", "/Me", ""); r.Status != 204 {
			t.Errorf("one of two Global Administrators: %d %s", r.Status, r.Body)
		}
		w.advance(time.Second)
		if me, user := w.scim(t, own, "GET", "/Me", "").Status, w.Do(t, "GET", "/Users/"+second.id, "").Status; me != 401 || user != 404 {
			t.Errorf("after the deletion of the own account /Me is %d and the user %d, want 401 and 404", me, user)
		}
		// A client is nobody.
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE"} {
			if r := w.scim(t, w.Token, method, "/Me", rename); r.Status != 404 {
				t.Errorf("%s /Me of a client: %d %s", method, r.Status, r.Body)
			}
		}
	})
}

// TestFormsAreForClients: JSON that is called a form, as browsers send it from anywhere, is read from
// clients alone.
func TestFormsAreForClients(t *testing.T) {
	w := begin(t, testserver.Options{})
	boss := w.mfa(t, w.person(t, "boss", auth.GlobalAdministrator))
	for token, want := range map[string]int{w.Token: 201, boss.Token: 415} {
		r := w.send(t, "POST", "/scim/v2/Users", `{"userName":"form"}`, "Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer "+token)
		if r.Status != want {
			t.Errorf("%d %s, want %d", r.Status, r.Body, want)
		}
	}
}
