package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

type progress struct{ Total, Confirmed, Revoked, Undecided int }

type review struct {
	ID, Title, OnNoDecision, CreatedBy, ClosedBy, Applied string
	Roles, Reviewers                                      []string
	Overdue                                               bool
	Due, Closed                                           time.Time
	Progress                                              progress
}

type reviewed struct {
	Assignment, Role, RoleName, Principal, Name, Decision, Reason, DecidedBy, DecidedByName, Outcome string
	Given                                                                                            time.Time
}

// reviewed are the assignments of a review, by what their principals are called.
func (w *world) reviewed(t *testing.T, token, id string) map[string]reviewed {
	t.Helper()
	all := map[string]reviewed{}
	for _, r := range must[rows[reviewed]](t, w.get(t, "/admin/v1/reviews/"+id+"/assignments", token), 200).Rows {
		all[r.Name] = r
	}
	return all
}

func (w *world) judge(t *testing.T, token, review, assignment, decision, reason string) testserver.Response {
	t.Helper()
	return w.post(t, "/admin/v1/reviews/"+review+"/decisions", token, object{"assignment": assignment, "decision": decision, "reason": reason})
}

func (w *world) review(t *testing.T, token string, body object) review {
	t.Helper()
	return must[review](t, w.post(t, "/admin/v1/reviews", token, body), 201)
}

// holds reports whether somebody is told to hold a role.
func (w *world) holds(t *testing.T, token, user, role string) bool {
	t.Helper()
	return strings.Contains(w.get(t, "/admin/v1/users/"+user+"/roles", token).Body, role)
}

// TestReview: assignments are noted, confirmed and revoked by reviewers in their own name,
// the rest is revoked at the end, and the result can be taken along (B5).
func TestReview(t *testing.T) {
	shows(t, "B5")
	onStores(t, func(t *testing.T, w *world) {
		admin, helper := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "helper", auth.UserAdministrator)
		ana, bo, cy, di := w.person(t, "ana"), w.person(t, "bo"), w.person(t, "cy"), w.person(t, "di")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"deckhand","display":"Deckhand"}`)
		group := w.create(t, boss.Token, "/Groups", `{"schemas":[%q],"displayName":"night","members":[{"value":%q}]}`, schemas.GroupURI, helper.id)
		given := w.now()
		for _, id := range []string{ana.id, bo.id, cy.id, di.id, group} {
			w.assign(t, boss.Token, id, role, "")
		}
		helping := w.stepUp(t, helper, w.mfa(t, helper))
		boss = w.stepUp(t, admin, boss)
		body := object{"title": "Deckhands", "roles": []string{role}, "reviewers": []string{helper.id, admin.id}, "due": w.now().Add(48 * time.Hour), "onNoDecision": "revoke"}
		made := w.review(t, helping.Token, body)
		if made.CreatedBy != helper.id || made.Progress != (progress{5, 0, 0, 5}) || made.Overdue {
			t.Errorf("begun: %+v", made)
		}
		w.assign(t, boss.Token, admin.id, role, "") // comes later, and is no part of it
		items := w.reviewed(t, boss.Token, made.ID)
		if x := items["ana"]; len(items) != 5 || x.RoleName != "Deckhand" || x.Principal != ana.id || !x.Given.Equal(given) || x.Decision != "" {
			t.Errorf("the assignments are %+v", items)
		}

		confirmed := must[reviewed](t, w.judge(t, helping.Token, made.ID, items["ana"].Assignment, "confirm", ""), 200)
		if confirmed.Outcome != "kept" || !w.holds(t, boss.Token, ana.id, role) {
			t.Errorf("confirmed: %+v", confirmed)
		}
		revoked := must[reviewed](t, w.judge(t, helping.Token, made.ID, items["bo"].Assignment, "revoke", "left the ship"), 200)
		if revoked.Outcome != "revoked" || revoked.DecidedByName != "helper" || w.holds(t, boss.Token, bo.id, role) {
			t.Errorf("revoked: %+v; is the role held still? %t", revoked, w.holds(t, boss.Token, bo.id, role))
		}
		if r := w.scim(t, boss.Token, "GET", "/RoleAssignments/"+items["bo"].Assignment, ""); r.Status != 404 {
			t.Errorf("the assignment that was revoked: %d", r.Status)
		}
		must[any](t, w.scim(t, boss.Token, "DELETE", "/RoleAssignments/"+items["cy"].Assignment, ""), 204)
		for name, c := range map[string]struct {
			assignment, decision, reason string
			want                         int
		}{
			"of what is revoked":        {items["bo"].Assignment, "confirm", "", 409},
			"without a reason":          {items["di"].Assignment, "revoke", "", 400},
			"neither of the two":        {items["di"].Assignment, "keep", "x", 400},
			"of something else":         {nobody, "confirm", "", 404},
			"to confirm what is gone":   {items["cy"].Assignment, "confirm", "", 409},
			"of one's own, by a group":  {items["night"].Assignment, "confirm", "", 403},
			"of one's own, to be taken": {items["night"].Assignment, "revoke", "x", 403},
		} {
			if r := w.judge(t, helping.Token, made.ID, c.assignment, c.decision, c.reason); r.Status != c.want {
				t.Errorf("a decision %s: %d %s, want %d", name, r.Status, r.Body, c.want)
			}
		}
		if gone := must[reviewed](t, w.judge(t, helping.Token, made.ID, items["cy"].Assignment, "revoke", "gone"), 200); gone.Outcome != "gone" {
			t.Errorf("revoked what was gone: %+v", gone)
		}

		w.advance(20 * time.Minute)
		w.get(t, "/auth/v1/session", helping.Token)
		helping = w.stepUp(t, helper, w.mfa(t, helper))
		closed := must[review](t, w.post(t, "/admin/v1/reviews/"+made.ID+"/close", helping.Token, object{}), 200)
		want := progress{Total: 5, Confirmed: 1, Revoked: 3, Undecided: 1}
		if closed.Progress != want || closed.Applied != "revoke" || closed.ClosedBy != helper.id {
			t.Errorf("closed: %+v, want %+v", closed, want)
		}
		boss = w.mfa(t, admin)
		after := w.reviewed(t, boss.Token, made.ID)
		if x := after["night"]; x.Outcome != "refused" || x.Decision != "" || !w.holds(t, boss.Token, helper.id, role) {
			t.Errorf("what the one who closes holds: %+v", x)
		}
		if x := after["di"]; x.Outcome != "revoked" || x.DecidedBy != helper.id || w.holds(t, boss.Token, di.id, role) {
			t.Errorf("what nobody has decided about: %+v", x)
		}
		if !w.holds(t, boss.Token, ana.id, role) || !w.holds(t, boss.Token, admin.id, role) {
			t.Error("what was confirmed, or came later, is gone")
		}
		if r := w.judge(t, boss.Token, made.ID, items["ana"].Assignment, "revoke", "late"); r.Status != 409 {
			t.Errorf("a decision in a closed review: %d %s", r.Status, r.Body)
		}
		boss = w.stepUp(t, admin, boss)
		if r := w.post(t, "/admin/v1/reviews/"+made.ID+"/close", boss.Token, object{}); r.Status != 409 {
			t.Errorf("closed once more: %d %s", r.Status, r.Body)
		}

		lines := w.lines(t, "/admin/v1/reviews/"+made.ID+"/assignments?format=csv", boss.Token)
		if len(lines) != 6 || !slices.Contains(lines[0], "outcome") {
			t.Errorf("as CSV: %q", lines)
		}
		list := must[struct{ Reviews []review }](t, w.get(t, "/admin/v1/reviews", boss.Token), 200).Reviews
		if len(list) != 1 || list[0].Progress != want {
			t.Errorf("the list: %+v", list)
		}
		trail := w.actions(t, helper.id)
		for action, n := range map[string]int{"review.create": 1, "review.decide": 4, "roleassignment.delete": 2, "review.close": 1} {
			if got := len(slices.DeleteFunc(slices.Clone(trail), func(a string) bool { return a != action })); got != n {
				t.Errorf("%d entries of %s, want %d: %v", got, action, n, trail)
			}
		}
		entry := w.get(t, "/admin/v1/audit?action=review.decide&actor="+url.QueryEscape("user:"+helper.id), boss.Token)
		if !strings.Contains(entry.Body, `"left the ship"`) || !strings.Contains(entry.Body, items["bo"].Assignment) {
			t.Errorf("the audit trail tells of the decision: %s", entry.Body)
		}
	})
}

// TestReviewOfDeleted: what is revoked of somebody who is deleted does not come back with
// them, be it revoked by a reviewer or at the end; that takes the right to take it. What
// nobody revokes comes back.
func TestReviewOfDeleted(t *testing.T) {
	shows(t, "B5", "B7")
	onStores(t, func(t *testing.T, w *world) {
		admin, pra := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "pra")
		boss := w.fresh(t, admin)
		right := w.assign(t, boss, pra.id, auth.PrivilegedRoleAdministrator, "")
		user := func(name string) string { return w.pushed(t, w.Token, name).id }
		ana, bo, cy, crew, kept := user("ana"), user("bo"), user("cy"), w.group(t, "crew"), w.group(t, "kept")
		assigned := map[string]string{}
		for _, p := range []string{ana, bo, cy, crew, kept} {
			assigned[p] = w.assign(t, boss, p, auth.Auditor, "")
		}
		begin := func(onNoDecision string) string {
			return w.review(t, boss, object{"title": "Auditors", "roles": []string{auth.Auditor}, "due": w.now().Add(time.Hour), "reviewers": []string{pra.id}, "onNoDecision": onNoDecision}).ID
		}
		revoke, keep := begin("revoke"), begin("keep")
		for path, ids := range map[string][]string{"/Users/": {ana, bo, cy}, "/Groups/": {crew, kept}} {
			for _, id := range ids {
				must[any](t, w.scim(t, boss, "DELETE", path+id, ""), 204)
			}
		}
		in := w.fresh(t, pra)
		for _, id := range []string{ana, crew} {
			if got := must[reviewed](t, w.judge(t, in, revoke, assigned[id], "revoke", "left"), 200); got.Outcome != "revoked" {
				t.Errorf("what was to come back: %+v", got)
			}
		}
		if got := must[reviewed](t, w.judge(t, in, keep, assigned[ana], "revoke", "left"), 200); got.Outcome != "gone" {
			t.Errorf("what does not come back any more: %+v", got)
		}
		// Who may not take the role, or gave no passcode just now, takes it from nobody.
		w.advance(auth.StepUpAge + time.Second)
		must[any](t, w.judge(t, in, keep, assigned[bo], "revoke", "left"), 401)
		in = w.fresh(t, pra)
		must[any](t, w.scim(t, w.fresh(t, admin), "DELETE", "/RoleAssignments/"+right, ""), 204)
		must[any](t, w.judge(t, in, keep, assigned[bo], "revoke", "left"), 403)

		restore := func(kind, id string) {
			t.Helper()
			must[any](t, w.post(t, "/admin/v1/deleted-"+kind+"/"+id+"/restore", w.fresh(t, admin), object{}), 200)
		}
		holds := func(what, id string, want bool) {
			t.Helper()
			status := w.scim(t, w.fresh(t, admin), "GET", "/RoleAssignments/"+assigned[id], "").Status
			if (status == 200) != want {
				t.Errorf("%s, restored: the assignment is %d, want it: %t", what, status, want)
			}
		}
		restore("users", ana)
		restore("groups", crew)
		restore("groups", kept)
		restore("users", bo)
		holds("revoked of a user", ana, false)
		holds("revoked of a group", crew, false)
		holds("not decided about, a group", kept, true)
		holds("refused", bo, true)
		if result := must[review](t, w.post(t, "/admin/v1/reviews/"+revoke+"/close", w.fresh(t, admin), object{}), 200); result.Progress.Revoked != 5 {
			t.Errorf("closed: %+v", result)
		}
		restore("users", cy)
		holds("revoked at the end", cy, false)
		holds("revoked at the end, and there", bo, false)
	})
}

// TestReviewRights: a review gives nobody a right: who begins or closes it, and its
// reviewers, have to be entitled to take what is reviewed, and nobody else decides.
func TestReviewRights(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, second := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "second", auth.GlobalAdministrator)
		helper, bo := w.person(t, "helper", auth.UserAdministrator), w.person(t, "bo")
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		w.assign(t, boss.Token, bo.id, auth.Auditor, "")
		w.assign(t, boss.Token, admin.id, auth.Auditor, "")
		helping := w.stepUp(t, helper, w.mfa(t, helper))
		boss = w.stepUp(t, admin, boss)
		due := w.now().Add(24 * time.Hour)
		good := func(changes object) object {
			b := object{"title": "Auditors", "roles": []string{auth.Auditor}, "reviewers": []string{admin.id, second.id}, "due": due}
			for k, v := range changes {
				b[k] = v
				if v == nil {
					delete(b, k)
				}
			}
			return b
		}
		for name, c := range map[string]struct {
			token string
			body  object
			want  int
		}{
			"who may not take the role":         {helping.Token, good(nil), 403},
			"a reviewer who may not either":     {boss.Token, good(object{"reviewers": []string{admin.id, helper.id}}), 400},
			"a reviewer that there is not":      {boss.Token, good(object{"reviewers": []string{nobody}}), 400},
			"nobody to review":                  {boss.Token, good(object{"reviewers": []string{}}), 400},
			"a role that there is not":          {boss.Token, good(object{"roles": []string{nobody}}), 400},
			"a role that nobody holds":          {boss.Token, good(object{"roles": []string{auth.GuestInviter}}), 400},
			"neither roles nor all":             {boss.Token, good(object{"roles": nil}), 400},
			"both":                              {boss.Token, good(object{"administrative": true}), 400},
			"due yesterday":                     {boss.Token, good(object{"due": w.now().Add(-time.Hour)}), 400},
			"no title":                          {boss.Token, good(object{"title": " "}), 400},
			"something else when nobody says":   {boss.Token, good(object{"onNoDecision": "confirm"}), 400},
			"reminders of too long an interval": {boss.Token, good(object{"remindDays": 91}), 400},
		} {
			if r := w.post(t, "/admin/v1/reviews", c.token, c.body); r.Status != c.want {
				t.Errorf("%s: %d %s, want %d", name, r.Status, r.Body, c.want)
			}
		}
		one := w.review(t, boss.Token, good(object{"reviewers": []string{second.id}}))
		all := w.review(t, boss.Token, good(object{"roles": nil, "administrative": true, "onNoDecision": "revoke"}))
		if all.Progress.Total != 5 || len(all.Roles) != 3 {
			t.Errorf("all administrative roles: %+v", all)
		}
		items := w.reviewed(t, boss.Token, one.ID)
		if r := w.judge(t, helping.Token, one.ID, items["bo"].Assignment, "revoke", "x"); r.Status != 403 {
			t.Errorf("decided by nobody's reviewer: %d %s", r.Status, r.Body)
		}
		if r := w.judge(t, boss.Token, one.ID, items["bo"].Assignment, "confirm", ""); r.Status != 403 {
			t.Errorf("decided by who began it, and is no reviewer: %d %s", r.Status, r.Body)
		}
		if r := w.post(t, "/admin/v1/reviews/"+one.ID+"/close", helping.Token, object{}); r.Status != 403 {
			t.Errorf("closed by who may not take the role: %d %s", r.Status, r.Body)
		}
		if r := w.judge(t, boss.Token, all.ID, items["admin"].Assignment, "confirm", ""); r.Status != 403 {
			t.Errorf("one's own: %d %s", r.Status, r.Body)
		}
		in := w.mfa(t, second)
		w.advance(6 * time.Minute)
		if r := w.judge(t, in.Token, one.ID, items["bo"].Assignment, "revoke", "x"); r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `max_age="300"`) {
			t.Errorf("an administrative role without a fresh passcode: %d %s", r.Status, r.Body)
		}
		if x := w.reviewed(t, in.Token, one.ID)["bo"]; x.Decision != "" || !w.holds(t, in.Token, bo.id, auth.Auditor) {
			t.Errorf("after decisions that were none: %+v", x)
		}
		in = w.stepUp(t, second, in)
		// A reviewer who has lost the right takes nothing any more.
		err := w.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			grants, err := auth.GrantsTo(tx, second.id)
			if err != nil {
				return err
			}
			if err := auth.DropGrant(tx, grants[0], auth.BuiltInRole(auth.GlobalAdministrator)); err != nil {
				return err
			}
			return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "roleassignment.delete", Type: "RoleAssignment", ID: grants[0].ID})
		})
		if err != nil {
			t.Fatal(err)
		}
		w.advance(time.Second)
		if r := w.judge(t, in.Token, one.ID, items["bo"].Assignment, "revoke", "x"); r.Status != 403 {
			t.Errorf("by a reviewer who has lost the right: %d %s", r.Status, r.Body)
		}
		boss = w.mfa(t, admin)
		boss = w.stepUp(t, admin, boss)
		closed := must[review](t, w.post(t, "/admin/v1/reviews/"+all.ID+"/close", boss.Token, object{"keep": true}), 200)
		if closed.Applied != "keep" || closed.Progress.Revoked != 0 || !w.holds(t, boss.Token, bo.id, auth.Auditor) {
			t.Errorf("kept after all: %+v", closed)
		}
	})
}

// TestJudgementsRace: of many who decide about an assignment at once, while the review is
// closed, what is written is what was done.
func TestJudgementsRace(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin, second := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "second", auth.GlobalAdministrator)
		boss, in := w.mfa(t, admin), w.mfa(t, second)
		boss, in = w.stepUp(t, admin, boss), w.stepUp(t, second, in)
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		for _, id := range w.Users(t, 8) {
			w.assign(t, boss.Token, id, role, "")
		}
		made := w.review(t, boss.Token, object{"title": "x", "roles": []string{role}, "reviewers": []string{admin.id, second.id}, "due": w.now().Add(time.Hour), "onNoDecision": "revoke"})
		var wg sync.WaitGroup
		for i, x := range must[rows[reviewed]](t, w.get(t, "/admin/v1/reviews/"+made.ID+"/assignments", boss.Token), 200).Rows {
			for n, token := range []string{boss.Token, in.Token} {
				wg.Go(func() {
					if r := w.judge(t, token, made.ID, x.Assignment, []string{"confirm", "revoke"}[(i+n)%2], "x"); r.Status != 200 && r.Status != 409 {
						t.Errorf("%d %s", r.Status, r.Body)
					}
				})
			}
		}
		wg.Go(func() {
			if r := w.post(t, "/admin/v1/reviews/"+made.ID+"/close", boss.Token, object{}); r.Status != 200 {
				t.Errorf("closing: %d %s", r.Status, r.Body)
			}
		})
		wg.Wait()
		final := must[review](t, w.get(t, "/admin/v1/reviews/"+made.ID, boss.Token), 200)
		if final.Closed.IsZero() || final.Progress.Undecided != 0 {
			t.Errorf("at the end: %+v", final)
		}
		counted := progress{Total: 8}
		for _, x := range must[rows[reviewed]](t, w.get(t, "/admin/v1/reviews/"+made.ID+"/assignments", boss.Token), 200).Rows {
			there := w.scim(t, boss.Token, "GET", "/RoleAssignments/"+x.Assignment, "").Status == 200
			if there != (x.Decision == "confirm") || there != (x.Outcome == "kept") {
				t.Errorf("%+v; the assignment is there: %t", x, there)
			}
			if there {
				counted.Confirmed++
			} else {
				counted.Revoked++
			}
		}
		if diff := cmp.Diff(counted, final.Progress); diff != "" {
			t.Errorf("the result (-counted +told):\n%s", diff)
		}
	})
}

// TestReviewSize: a review is no larger than people can look at.
func TestReviewSize(t *testing.T) {
	raced.Skip(t)
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		boss := w.stepUp(t, admin, w.mfa(t, admin))
		role := w.create(t, boss.Token, "/Roles", `{"value":"crew"}`)
		give := func(from, to int) {
			t.Helper()
			err := w.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
				for i := from; i < to; i++ {
					g := &auth.Grant{ID: fmt.Sprintf("00000000-0000-7000-9000-%012d", i), Role: role, Principal: nobody, PrincipalType: auth.PrincipalUser}
					if err := auth.PutGrant(tx, nil, g, &auth.Role{ID: role, Value: "crew"}); err != nil {
						return err
					}
				}
				return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "x", Type: "Role", ID: role})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		body := object{"title": "x", "roles": []string{role}, "reviewers": []string{admin.id}, "due": w.now().Add(time.Hour)}
		give(0, 1000)
		if made := w.review(t, boss.Token, body); made.Progress.Total != 1000 {
			t.Errorf("a thousand: %+v", made)
		}
		give(1000, 1001)
		if r := w.post(t, "/admin/v1/reviews", boss.Token, body); r.Status != 400 {
			t.Errorf("one more: %d %s", r.Status, r.Body)
		}
	})
}
