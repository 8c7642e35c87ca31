package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// TestLastAdministratorElsewhere: ways to the last usable Global Administrator beside those
// that TestLastAdministrator races: memberships as resources, bulk requests, reviews, an end
// of an activation, and oneself. None leads there (S11, V31).
func TestLastAdministratorElsewhere(t *testing.T) { onStores(t, lastAdministratorElsewhere) }

func lastAdministratorElsewhere(t *testing.T, w *world) {
	root, idle := w.person(t, "root", auth.GlobalAdministrator), w.person(t, "idle") // who has no passcode app
	boss := w.fresh(t, root)
	w.assign(t, boss, idle.id, auth.GlobalAdministrator, "")
	// From here on root is one by a group in a group.
	inner := w.create(t, boss, "/Groups", `{"schemas":[%q],"displayName":"inner","members":[{"value":%q}]}`, schemas.GroupURI, root.id)
	globals := w.create(t, boss, "/Groups", `{"schemas":[%q],"displayName":"globals","members":[{"value":%q}]}`, schemas.GroupURI, inner)
	by := w.assign(t, boss, globals, auth.GlobalAdministrator, "")
	err := w.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		grants, err := auth.GrantsTo(tx, root.id)
		for _, g := range grants {
			err = errors.Join(err, auth.DropGrant(tx, g, auth.BuiltInRole(g.Role)))
		}
		return errors.Join(err, tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "test"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	boss = w.fresh(t, root)

	review := must[struct{ ID string }](t, w.post(t, "/admin/v1/reviews", boss, object{
		"title": "x", "roles": []string{auth.GlobalAdministrator}, "reviewers": []string{idle.id, root.id}, "due": w.now().Add(48 * time.Hour), "onNoDecision": "revoke"}), 201).ID
	bulk := func(method, path, op string) int {
		t.Helper()
		data := ""
		if op != "" {
			data = `,"data":` + patching(op)
		}
		a := must[struct{ Operations []struct{ Status string } }](t, w.scim(t, boss, "POST", "/Bulk",
			fmt.Sprintf(`{"schemas":[%q],"Operations":[{"method":%q,"path":%q%s}]}`, scim.BulkRequestURI, method, path, data)), 200)
		if len(a.Operations) != 1 {
			return 0
		}
		var status int
		_, _ = fmt.Sscan(a.Operations[0].Status, &status)
		return status
	}
	for what, do := range map[string]func() int{
		"a membership":                   func() int { return w.scim(t, boss, "DELETE", "/GroupMemberships/"+inner+"."+root.id, "").Status },
		"that of the group":              func() int { return w.scim(t, boss, "DELETE", "/GroupMembers/"+globals+"."+inner, "").Status },
		"blocked in bulk":                func() int { return bulk("PATCH", "/Users/"+root.id, `{"op":"replace","path":"active","value":false}`) },
		"deleted in bulk":                func() int { return bulk("DELETE", "/Users/"+root.id, "") },
		"members in bulk":                func() int { return bulk("PATCH", "/Groups/"+inner, `{"op":"remove","path":"members"}`) },
		"the group in bulk":              func() int { return bulk("DELETE", "/Groups/"+globals, "") },
		"the assignment in bulk":         func() int { return bulk("DELETE", "/RoleAssignments/"+by, "") },
		"oneself":                        func() int { return w.scim(t, boss, "DELETE", "/Me", "").Status },
		"one's own, revoked by a review": func() int { return w.judge(t, boss, review, by, "revoke", "x").Status },
		"one's own passcode app":         func() int { return w.delete(t, "/auth/v1/totp", boss).Status },
		"one's own passcodes":            func() int { return w.post(t, "/admin/v1/users/"+root.id+"/mfa-reset", boss, nil).Status },
		"one's own password":             func() int { return w.post(t, "/admin/v1/users/"+root.id+"/password-reset", boss, nil).Status },
	} {
		boss = w.fresh(t, root)
		want := http.StatusConflict
		if strings.HasPrefix(what, "one's own") { // whoever it is
			want = http.StatusForbidden
		}
		if got := do(); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	boss = w.fresh(t, root)
	r := w.post(t, "/admin/v1/reviews/"+review+"/close", boss, object{})
	boss = w.fresh(t, root) // who is there still
	if got := w.get(t, "/admin/v1/users/"+root.id+"/roles", boss).Body; r.Status != 200 || !strings.Contains(got, auth.GlobalAdministrator) {
		t.Errorf("after a review was closed (%d %s): %s", r.Status, r.Body, got)
	}
}
