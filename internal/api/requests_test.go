package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

type request struct {
	ID, User, UserName, Role, RoleName, Reason, State, DecidedBy, DecisionReason, Assignment string
	Hours                                                                                    int
	Until, Expires                                                                           time.Time
}

// decide sends a decision about a request.
func (w *world) decide(t *testing.T, id, token, decision, reason string) testserver.Response {
	t.Helper()
	return w.post(t, "/admin/v1/role-requests/"+id+"/decision", token, object{"decision": decision, "reason": reason})
}

func (w *world) ask(t *testing.T, token string, body object) request {
	t.Helper()
	return must[request](t, w.post(t, "/auth/v1/roles/requests", token, body), 201)
}

func (w *world) ownRequests(t *testing.T, token string) []request {
	t.Helper()
	return must[struct{ Requests []request }](t, w.get(t, "/auth/v1/roles/requests", token), 200).Requests
}

// waiting is the ids of what waits for somebody.
func (w *world) waiting(t *testing.T, token string) (ids []string) {
	t.Helper()
	q := must[struct {
		Requests    []request
		Activations []struct{ Activation string }
	}](t, w.get(t, "/admin/v1/role-requests", token), 200)
	for _, r := range q.Requests {
		ids = append(ids, r.ID)
	}
	for _, a := range q.Activations {
		ids = append(ids, a.Activation)
	}
	return ids
}

// actions are those that the audit trail has of somebody.
func (w *world) actions(t *testing.T, actor string) (list []string) {
	t.Helper()
	entries, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Actor == "user:"+actor {
			list = append(list, e.Action)
		}
	}
	return list
}

// TestRoleRequest: a user asks for a role, those who could give it see that it waits, and
// one of them gives it: in their own name, with all that giving a role takes (B10).
func TestRoleRequest(t *testing.T) {
	shows(t, "B10")
	onStores(t, func(t *testing.T, w *world) {
		admin, helper, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "helper", auth.UserAdministrator), w.person(t, "bo")
		boss, helping := w.stepUp(t, admin, w.mfa(t, admin)), w.mfa(t, helper)
		role := w.create(t, boss.Token, "/Roles", `{"value":"deckhand","display":"Deckhand"}`)
		in := w.signIn(t, bo)
		askedAt := w.now()
		crew := w.ask(t, in.Token, object{"role": role, "reason": "summer", "hours": 48})
		office := w.ask(t, in.Token, object{"role": auth.Auditor, "reason": "the audit", "until": w.now().Add(72 * time.Hour)})
		if diff := cmp.Diff([]string{office.ID, crew.ID}, requestIDs(w.ownRequests(t, in.Token))); diff != "" {
			t.Errorf("own requests (-want +got):\n%s", diff)
		}
		if crew.State != "waiting" || crew.RoleName != "Deckhand" || crew.UserName != "bo" || !crew.Expires.Equal(askedAt.Add(14*24*time.Hour)) {
			t.Errorf("asked for: %+v", crew)
		}
		if got := w.waiting(t, helping.Token); !slices.Equal(got, []string{crew.ID}) {
			t.Errorf("a User Administrator sees %v, want that for the business role %v", got, crew.ID)
		}
		if got := w.waiting(t, boss.Token); !slices.Equal(got, []string{office.ID, crew.ID}) {
			t.Errorf("a Global Administrator sees %v", got)
		}

		// What one may not decide.
		if r := w.decide(t, office.ID, helping.Token, "approve", ""); r.Status != 403 {
			t.Errorf("approved by somebody who may not give the role: %d %s", r.Status, r.Body)
		}
		if r := w.decide(t, office.ID, helping.Token, "deny", "no"); r.Status != 403 {
			t.Errorf("denied by somebody who may not give the role: %d %s", r.Status, r.Body)
		}
		if r := w.decide(t, crew.ID, helping.Token, "deny", " "); r.Status != 400 {
			t.Errorf("denied without a reason: %d %s", r.Status, r.Body)
		}
		if r := w.decide(t, crew.ID, helping.Token, "maybe", "x"); r.Status != 400 {
			t.Errorf("neither approved nor denied: %d %s", r.Status, r.Body)
		}
		w.advance(6 * time.Minute)
		if r := w.decide(t, office.ID, boss.Token, "approve", ""); r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `max_age="300"`) {
			t.Errorf("an administrative role without a fresh passcode: %d %s", r.Status, r.Body)
		}
		if got := w.ownRequests(t, in.Token); got[0].State != "waiting" || got[1].State != "waiting" {
			t.Errorf("after decisions that were none: %+v", got)
		}

		// What one may.
		approved := must[request](t, w.decide(t, crew.ID, helping.Token, "approve", "welcome"), 200)
		if approved.State != "approved" || approved.DecidedBy != helper.id || approved.Assignment == "" {
			t.Errorf("approved: %+v", approved)
		}
		given := must[struct {
			AssignedBy, Reason, EndDate string
			Role, Principal             struct{ Value string }
		}](t, w.scim(t, boss.Token, "GET", "/RoleAssignments/"+approved.Assignment, ""), 200)
		if end := w.now().Add(48 * time.Hour).Format("2006-01-02T15:04:05.000Z"); given.AssignedBy != "user:"+helper.id || given.Reason != "summer" || given.EndDate != end || given.Role.Value != role || given.Principal.Value != bo.id {
			t.Errorf("the assignment is %+v, want it to end at %s", given, end)
		}
		own := w.ownRequests(t, in.Token)
		if own[1].State != "approved" || own[1].DecisionReason != "welcome" || own[1].DecidedBy != "" {
			t.Errorf("who asked reads %+v", own[1])
		}
		for _, decision := range []string{"approve", "deny"} {
			if r := w.decide(t, crew.ID, boss.Token, decision, "x"); r.Status != 409 || strings.Contains(r.Body, "this is not possible now") { // the title says so
				t.Errorf("%s once more: %d %s", decision, r.Status, r.Body)
			}
		}
		must[request](t, w.decide(t, office.ID, boss.Token, "deny", "not needed"), 200)
		if got := w.ownRequests(t, in.Token)[0]; got.State != "denied" || got.DecisionReason != "not needed" {
			t.Errorf("denied: %+v", got)
		}
		if got := w.waiting(t, boss.Token); len(got) != 0 {
			t.Errorf("still waiting: %v", got)
		}
		if got := w.actions(t, helper.id); !slices.Contains(got, "role.request.approve") || !slices.Contains(got, "roleassignment.create") {
			t.Errorf("the audit trail of the helper: %v", got)
		}
		entries := w.get(t, "/admin/v1/audit?action=role.request.deny&actor="+url.QueryEscape("user:"+admin.id), boss.Token)
		if !strings.Contains(entries.Body, `"before":"waiting","after":"denied"`) || !strings.Contains(entries.Body, `"not needed"`) {
			t.Errorf("the audit trail tells of the denial: %s", entries.Body)
		}
	})
}

func requestIDs(list []request) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

// TestRequestForLonger: who holds a role until a date may ask for more, and gets what goes
// on where that ends.
func TestRequestForLonger(t *testing.T) {
	shows(t, "B10")
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		role := must[struct{ ID string }](t, w.Do(t, "POST", "/Roles", fmt.Sprintf(`{"schemas":[%q],"value":"deckhand"}`, schemas.RoleURI)), 201).ID
		boss := w.fresh(t, admin)
		first := w.now().Add(time.Hour).UTC()
		second := first.Add(time.Hour + 1234*time.Microsecond)
		w.assign(t, boss, bo.id, role, fmt.Sprintf(`,"endDate":%q`, first.Format(time.RFC3339Nano)))
		w.assign(t, boss, bo.id, role, fmt.Sprintf(`,"startDate":%q,"endDate":%q`, first.Format(time.RFC3339Nano), second.Format(time.RFC3339Nano)))
		given := func(more object) (start, end time.Time) {
			t.Helper()
			ask := object{"role": role, "reason": "longer"}
			for k, v := range more {
				ask[k] = v
			}
			id := w.ask(t, w.fresh(t, bo), ask).ID
			made := must[request](t, w.decide(t, id, w.fresh(t, admin), "approve", ""), 200).Assignment
			a := must[struct{ StartDate, EndDate time.Time }](t, w.scim(t, w.fresh(t, admin), "GET", "/RoleAssignments/"+made, ""), 200)
			return a.StartDate, a.EndDate
		}
		until := second.Add(time.Hour).Truncate(time.Millisecond)
		if start, end := given(object{"until": until}); !start.Equal(second) || !end.Equal(until) {
			t.Errorf("given from %v to %v, want %v to %v", start, end, second, until)
		}
		// For no longer than it is given already: nothing would come of it.
		id := w.ask(t, w.fresh(t, bo), object{"role": role, "reason": "an hour", "hours": 1}).ID
		boss = w.fresh(t, admin)
		p := must[struct{ Detail string }](t, w.decide(t, id, boss, "approve", ""), 409)
		if !strings.Contains(p.Detail, "already") {
			t.Errorf("refused with %q", p.Detail)
		}
		must[any](t, w.decide(t, id, boss, "deny", "you have it"), 200)
		if start, end := given(nil); !start.Equal(until) || !end.IsZero() {
			t.Errorf("for good: given from %v to %v", start, end)
		}
		must[any](t, w.post(t, "/auth/v1/roles/requests", w.fresh(t, bo), object{"role": role, "reason": "more"}), 409)
	})
}

// TestRequestOfDeleted: a request of somebody who is deleted waits for nobody, and cannot be
// approved, until they are back.
func TestRequestOfDeleted(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		id := w.ask(t, w.fresh(t, bo), object{"role": auth.Auditor, "reason": "year end"}).ID
		boss := w.fresh(t, admin)
		must[any](t, w.scim(t, boss, "DELETE", "/Users/"+bo.id, ""), 204)
		if got := w.waiting(t, boss); len(got) > 0 {
			t.Errorf("what waits: %v", got)
		}
		p := must[struct{ Type, Detail string }](t, w.decide(t, id, boss, "approve", ""), 409)
		if p.Type != "urn:roster:problem:conflict" || strings.Contains(p.Detail, "principal") {
			t.Errorf("refused with %+v", p)
		}
		must[any](t, w.post(t, "/admin/v1/deleted-users/"+bo.id+"/restore", boss, object{}), 200)
		if got := w.waiting(t, boss); !slices.Equal(got, []string{id}) {
			t.Errorf("what waits when they are back: %v", got)
		}
		must[any](t, w.decide(t, id, boss, "approve", ""), 200)
	})
}

// TestOwnRequest: nobody decides about their own request, however entitled; it is not even
// in their queue, nor are their own activations.
func TestOwnRequest(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, other := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "other", auth.PrivilegedRoleAdministrator)
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		in := w.stepUp(t, other, w.mfa(t, other))
		assignment := w.assign(t, boss.Token, other.id, auth.Auditor, `,"kind":"eligible","approvalRequired":true`)
		asked := w.ask(t, in.Token, object{"role": auth.UserAdministrator, "reason": "mine"})
		activation := must[struct{ ID string }](t, w.post(t, "/auth/v1/roles/activations", in.Token, object{"assignment": assignment, "durationSeconds": 600, "reason": "mine"}), 201)
		if got := w.waiting(t, in.Token); len(got) != 0 {
			t.Errorf("one's own wait for oneself: %v", got)
		}
		for _, decision := range []string{"approve", "deny"} {
			if r := w.decide(t, asked.ID, in.Token, decision, "x"); r.Status != 403 {
				t.Errorf("%s one's own request: %d %s", decision, r.Status, r.Body)
			}
		}
		if got := w.waiting(t, boss.Token); !slices.Equal(got, []string{asked.ID, activation.ID}) {
			t.Errorf("others see %v, want the request and the activation", got)
		}
		if roles := w.get(t, "/auth/v1/roles", in.Token).Body; strings.Contains(roles, auth.UserAdministrator) {
			t.Errorf("the role was given: %s", roles)
		}
	})
}

// TestRequestLimits: what cannot be asked for, how often one asks, and that a request does
// not wait for ever.
func TestRequestLimits(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo, cy := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo"), w.person(t, "cy")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		var roles []string
		for i := range 12 {
			roles = append(roles, w.create(t, boss.Token, "/Roles", `{"value":"r%d"}`, i))
		}
		in := w.signIn(t, bo)
		for _, c := range []struct {
			body object
			want int
		}{
			{object{"role": nobody, "reason": "x"}, 404},
			{object{"role": roles[0], "reason": " "}, 400},
			{object{"role": roles[0], "reason": strings.Repeat("x", 501)}, 400},
			{object{"role": roles[0], "reason": "x", "hours": 0}, 400},
			{object{"role": roles[0], "reason": "x", "hours": 1 << 50}, 400},
			{object{"role": roles[0], "reason": "x", "until": w.now()}, 400},
			{object{"role": roles[0], "reason": "x", "hours": 1, "until": w.now().Add(time.Hour)}, 400},
			{object{"role": roles[0], "reason": "x", "user": cy.id}, 400},
		} {
			if r := w.post(t, "/auth/v1/roles/requests", in.Token, c.body); r.Status != c.want {
				t.Errorf("%v: %d %s, want %d", c.body, r.Status, r.Body, c.want)
			}
		}
		w.assign(t, boss.Token, bo.id, roles[11], "")
		if r := w.post(t, "/auth/v1/roles/requests", in.Token, object{"role": roles[11], "reason": "x"}); r.Status != 409 {
			t.Errorf("for a role that one has: %d %s", r.Status, r.Body)
		}
		first := w.ask(t, in.Token, object{"role": roles[0], "reason": "x", "until": w.now().Add(time.Hour)})
		if r := w.post(t, "/auth/v1/roles/requests", in.Token, object{"role": roles[0], "reason": "x"}); r.Status != 409 {
			t.Errorf("for the same role: %d %s", r.Status, r.Body)
		}
		for _, role := range roles[1:10] {
			w.ask(t, in.Token, object{"role": role, "reason": "x"})
		}
		if r := w.post(t, "/auth/v1/roles/requests", in.Token, object{"role": roles[10], "reason": "x"}); r.Status != 409 {
			t.Errorf("the eleventh of a day: %d %s", r.Status, r.Body)
		}

		// Nobody else's.
		other := w.signIn(t, cy)
		if r := w.send(t, "DELETE", "/auth/v1/roles/requests/"+first.ID, "", "Authorization", "Bearer "+other.Token); r.Status != 404 {
			t.Errorf("somebody else's is taken back: %d %s", r.Status, r.Body)
		}
		if got := w.ownRequests(t, other.Token); len(got) != 0 {
			t.Errorf("somebody else's are shown: %+v", got)
		}
		second := w.ownRequests(t, in.Token)[0]
		must[any](t, w.send(t, "DELETE", "/auth/v1/roles/requests/"+second.ID, "", "Authorization", "Bearer "+in.Token), 204)
		if got := w.ownRequests(t, in.Token)[0].State; got != "withdrawn" {
			t.Errorf("taken back: %s", got)
		}

		w.advance(2 * time.Hour)
		boss = w.stepUp(t, admin, w.mfa(t, admin))
		if r := w.decide(t, first.ID, boss.Token, "approve", ""); r.Status != 409 {
			t.Errorf("for a time that is over: %d %s", r.Status, r.Body)
		}
		w.advance(14 * 24 * time.Hour)
		boss = w.stepUp(t, admin, w.mfa(t, admin))
		if got := w.waiting(t, boss.Token); len(got) != 0 {
			t.Errorf("after two weeks these wait: %v", got)
		}
		third := w.ownRequests(t, w.signIn(t, bo).Token)[1]
		if r := w.decide(t, third.ID, boss.Token, "approve", ""); r.Status != 409 || third.State != "expired" {
			t.Errorf("an expired request (%s): %d %s", third.State, r.Status, r.Body)
		}
	})
}

// TestDecisionsRace: of many who decide at once one does, and what is written is what was
// decided: no role comes of a request that was denied.
func TestDecisionsRace(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		in := w.signIn(t, bo)
		for round := range 5 {
			asked := w.ask(t, in.Token, object{"role": role, "reason": fmt.Sprint(round)})
			var (
				wg   sync.WaitGroup
				mu   sync.Mutex
				done []string
			)
			for i := range 8 {
				decision := []string{"approve", "deny"}[i%2]
				wg.Go(func() {
					r := w.decide(t, asked.ID, boss.Token, decision, "x")
					mu.Lock()
					defer mu.Unlock()
					switch r.Status {
					case 200:
						done = append(done, decision)
					case 409:
					default:
						t.Errorf("%s: %d %s", decision, r.Status, r.Body)
					}
				})
			}
			wg.Wait()
			held := strings.Contains(w.get(t, "/auth/v1/roles", in.Token).Body, role)
			if len(done) != 1 || held != (done[0] == "approve") {
				t.Fatalf("decisions that counted: %v; the role is held: %t", done, held)
			}
			if held {
				return
			}
		}
	})
}

// TestRequestsRace: who asks many times at once has asked once.
func TestRequestsRace(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		in := w.signIn(t, bo)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if r := w.post(t, "/auth/v1/roles/requests", in.Token, object{"role": role, "reason": "x"}); r.Status != 201 && r.Status != 409 {
					t.Errorf("%d %s", r.Status, r.Body)
				}
			})
		}
		wg.Wait()
		if got := w.ownRequests(t, in.Token); len(got) != 1 {
			t.Errorf("%d requests wait, want 1", len(got))
		}
	})
}

// TestRequestsArePurged: nothing is left of what somebody asked for who is removed for good.
func TestRequestsArePurged(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, bo := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "bo")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		w.ask(t, w.signIn(t, bo).Token, object{"role": auth.Auditor, "reason": "x"})
		must[any](t, w.scim(t, boss.Token, "DELETE", "/Users/"+bo.id, ""), 204)
		must[any](t, w.send(t, "DELETE", "/admin/v1/deleted-users/"+bo.id, "", "Authorization", "Bearer "+boss.Token), 204)
		if left, err := w.Store.Items(t.Context(), storage.DefaultTenant, auth.RequestKind, ""); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// TestApprovers: whom to ask for a role, and nothing that would help to sign in as them.
func TestApprovers(t *testing.T) {
	shows(t, "B10")
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin@example.com", auth.GlobalAdministrator)
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		named := func(userName, display, role string) string {
			t.Helper()
			id := w.create(t, w.Token, "/Users", `{"schemas":[%q],"userName":%q,"displayName":%q,"emails":[{"value":%q}]}`, schemas.UserURI, userName, display, userName+"@mail.example")
			w.grant(t, storage.DefaultTenant, id, role)
			return id
		}
		named("gail.g", "Gail Global", auth.GlobalAdministrator)
		named("pat.p", "Pat Privileged", auth.PrivilegedRoleAdministrator)
		named("ursula.u", "Ursula User", auth.UserAdministrator)
		named("hal.h", "Hal Help", auth.HelpdeskAdministrator)
		named("same", "same", auth.GlobalAdministrator)
		named("mail", "mail@mail.example", auth.GlobalAdministrator)
		for _, id := range []string{named("em.e", "Emergency", auth.GlobalAdministrator)} {
			must[any](t, w.send(t, "PUT", "/admin/v1/users/"+id+"/emergency", `{"emergency":true}`, "Authorization", "Bearer "+boss.Token, "Content-Type", "application/json"), 204)
		}
		later := w.create(t, w.Token, "/Users", `{"schemas":[%q],"userName":"el","displayName":"El Eligible"}`, schemas.UserURI)
		w.assign(t, boss.Token, later, auth.PrivilegedRoleAdministrator, `,"kind":"eligible"`)
		w.create(t, boss.Token, "/Roles", `{"value":"deckhand"}`)
		in := w.signIn(t, w.person(t, "bo"))
		catalogue := must[struct {
			Roles []struct {
				ID, Name, Description string
				Administrative        bool
			}
		}](t, w.get(t, "/auth/v1/roles/catalogue", in.Token), 200).Roles
		if len(catalogue) != 11 || catalogue[0].Description == "" || !catalogue[0].Administrative || catalogue[10].Name != "deckhand" {
			t.Fatalf("the catalogue: %+v", catalogue)
		}
		for role, want := range map[string][]string{
			auth.GlobalAdministrator: {"Gail Global"},
			auth.Auditor:             {"Gail Global", "Pat Privileged", "El Eligible"},
			catalogue[10].ID:         {"Gail Global", "Pat Privileged", "Ursula User", "El Eligible"},
		} {
			r := w.get(t, "/auth/v1/roles/"+role+"/approvers", in.Token)
			got := must[struct {
				Names []string
				More  bool
			}](t, r, 200)
			slices.Sort(got.Names)
			slices.Sort(want)
			if !slices.Equal(got.Names, want) || !got.More {
				t.Errorf("for %s: %+v, want %v and more", role, got, want)
			}
			var any map[string]json.RawMessage
			if err := json.Unmarshal([]byte(r.Body), &any); err != nil || len(any) != 2 || strings.Contains(r.Body, "@") || strings.Contains(r.Body, ".g") {
				t.Errorf("a user learns %s", r.Body)
			}
		}
	})
}
