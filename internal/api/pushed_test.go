package api_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
)

// TestPushedPassword: whoever knows the password that a client wrote waits in vain for
// its owner to become an administrator: signed in before with an app of their own, or
// coming afterwards, they get no further, whatever they change, until somebody entitled
// has handed over another password. What they enrolled is gone then.
func TestPushedPassword(t *testing.T) {
	shows(t, "B8")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "gus", auth.GlobalAdministrator)
		w.enrol(t, admin)
		promote := func(p *person) {
			t.Helper()
			body := fmt.Sprintf(`{"schemas":[%q],"role":{"value":%q},"principal":{"value":%q}}`, schemas.RoleAssignmentURI, auth.UserAdministrator, p.id)
			r := w.send(t, "POST", "/scim/v2/RoleAssignments", body, "Authorization", "Bearer "+w.mfa(t, admin).Token, "Content-Type", "application/scim+json")
			if r.Status != 201 {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
		}
		stuck := func(what string, in signedIn) {
			t.Helper()
			w.advance(time.Second)
			now := must[signedIn](t, w.get(t, "/auth/v1/session", in.Token), 200)
			if now.Level != "limited" || !slices.Equal(now.Missing, []string{"handover"}) {
				t.Errorf("%s: %+v", what, now)
			}
			if r := w.get(t, "/scim/v2/Users", in.Token); r.Status != 403 {
				t.Errorf("%s: an administrator's route: %d %s", what, r.Status, r.Body)
			}
			if r := w.post(t, "/auth/v1/totp", in.Token, object{"password": goodPassword}); r.Status != 403 {
				t.Errorf("%s: enrolling: %d %s", what, r.Status, r.Body)
			}
		}

		// One who enrolled before.
		mia := w.pushed(t, w.Token, "mia")
		thief := *mia
		before := w.enrol(t, &thief)
		promote(mia)
		stuck("a session from before", before)
		thief.password = "what the thief has chosen"
		in := w.signIn(t, mia)
		w.post(t, "/auth/v1/passcode", in.Token, object{"code": w.code(t, &thief)})
		in = must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", object{"name": "mia", "password": goodPassword, "passcode": w.code(t, &thief)}), 200)
		stuck("a session with the thief's app", in)
		in = must[signedIn](t, w.post(t, "/auth/v1/password", in.Token, object{"current": goodPassword, "new": thief.password}), 200)
		stuck("after changing the password", in)

		// One who did not.
		noa := w.pushed(t, w.Token, "noa")
		promote(noa)
		stuck("without an app", w.signIn(t, noa))

		for _, p := range []*person{mia, noa} {
			by := w.mfa(t, admin)
			p.password = must[account](t, w.post(t, "/admin/v1/users/"+p.id+"/password-reset", by.Token, nil), 200).Password
			in := w.signIn(t, p)
			in = must[signedIn](t, w.post(t, "/auth/v1/password", in.Token, object{"new": "a much better one, really"}), 200)
			p.password = "a much better one, really"
			if !slices.Equal(in.Missing, []string{"enrolment"}) {
				t.Errorf("%s, after choosing a password: %+v", p.name, in)
			}
			if r := w.get(t, "/scim/v2/Users", w.enrol(t, p).Token); r.Status != 200 {
				t.Errorf("%s, after enrolling: %d %s", p.name, r.Status, r.Body)
			}
		}
	})
}
