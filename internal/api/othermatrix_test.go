package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
)

// TestMatrixElsewhere: what TestMatrix tries by users, groups, roles and assignments is
// refused by the other ways there are to it, too: bulk requests, memberships as resources,
// by both their names, invitations, accounts made in one step, and oneself (S8, V05).
func TestMatrixElsewhere(t *testing.T) { onStores(t, matrixElsewhere) }

func matrixElsewhere(t *testing.T, w *world) {
	root, uma := w.person(t, "root", auth.GlobalAdministrator), w.person(t, "uma", auth.UserAdministrator)
	w.enrol(t, w.person(t, "spare", auth.GlobalAdministrator))
	boss := w.fresh(t, root)
	adam, eve := w.person(t, "adam"), w.person(t, "eve")
	admins := w.group(t, "admins", adam.id)
	outer := w.group(t, "outer")
	shore := w.group(t, "shore")
	w.assign(t, boss, admins, auth.HelpdeskAdministrator, "")
	given := w.assign(t, boss, root.id, auth.Auditor, "")
	callers := map[string]string{
		"a client":             w.Client(t, "hr", "", "users", "groups", "memberships", "roles", "roles:assign:x", "invitations"),
		"a User Administrator": w.fresh(t, uma),
	}
	member := func(id string) string { return fmt.Sprintf(`[{"value":%q}]`, id) }
	assignment := func(role, to string) string {
		return fmt.Sprintf(`{"schemas":[%q],"role":{"value":%q},"principal":{"value":%q}}`, schemas.RoleAssignmentURI, role, to)
	}
	everything := func() []string { // but when tokens were last used
		return slices.DeleteFunc(w.everything(t, "default"), func(line string) bool { return strings.Contains(line, `"Token":{`) })
	}
	before := everything()
	for who, token := range callers {
		// In bulk: each a method, a path and data.
		operations := [][3]string{
			{"PATCH", "/Users/" + root.id, patching(`{"op":"replace","path":"active","value":false}`)},
			{"PATCH", "/Users/" + root.id, patching(`{"op":"replace","value":{"emails":[{"value":"mine@x.example"}]}}`)},
			{"PATCH", "/Users/" + adam.id, patching(`{"op":"replace","path":"password","value":"a long one of mine"}`)},
			{"PUT", "/Users/" + root.id, fmt.Sprintf(`{"schemas":[%q],"userName":"mine"}`, schemas.UserURI)},
			{"DELETE", "/Users/" + root.id, ""},
			{"PATCH", "/Groups/" + admins, patching(`{"op":"add","path":"members","value":` + member(eve.id) + `}`)},
			{"PATCH", "/Groups/" + admins, patching(`{"op":"remove","path":"members"}`)},
			{"PATCH", "/Groups/" + admins, patching(`{"op":"add","path":"members","value":` + member(shore) + `}`)},
			{"PATCH", "/Groups/" + shore, patching(`{"op":"add","path":"members","value":` + member(root.id) + `}`)},
			{"PATCH", "/Groups/" + outer, patching(`{"op":"add","path":"members","value":` + member(admins) + `}`)},
			{"DELETE", "/Groups/" + admins, ""},
			{"POST", "/RoleAssignments", assignment(auth.GlobalAdministrator, eve.id)},
			{"POST", "/RoleAssignments", assignment(auth.GuestInviter, shore)},
			{"DELETE", "/RoleAssignments/" + given, ""},
			{"POST", "/Roles", fmt.Sprintf(`{"value":"mine",%q:{"kind":"administrative","permissions":["users.delete"]}}`, schemas.RosterRoleURI)},
		}
		var texts []string
		for i, o := range operations {
			data := ""
			if o[2] != "" {
				data = `,"data":` + o[2]
			}
			texts = append(texts, fmt.Sprintf(`{"method":%q,"bulkId":"b%d","path":%q%s}`, o[0], i, o[1], data))
		}
		answer := must[struct {
			Operations []struct{ Status, BulkID string }
		}](t, w.scim(t, token, "POST", "/Bulk", fmt.Sprintf(`{"schemas":[%q],"Operations":[%s]}`, scim.BulkRequestURI, strings.Join(texts, ","))), 200)
		if len(answer.Operations) != len(operations) {
			t.Fatalf("%s: %d answers to %d operations", who, len(answer.Operations), len(operations))
		}
		for _, a := range answer.Operations {
			if a.Status != "403" {
				t.Errorf("%s, in bulk, %s: %s, want 403", who, texts[slices.IndexFunc(texts, func(s string) bool { return strings.Contains(s, `"`+a.BulkID+`"`) })], a.Status)
			}
		}
		// One by one.
		for _, name := range []string{"/GroupMemberships", "/GroupMembers"} {
			for what, body := range map[string][2]string{
				"eve in a group that carries a role":         {admins, eve.id},
				"a group in a group that carries a role":     {admins, shore},
				"an administrator in a group":                {shore, root.id},
				"somebody with a role by a group in a group": {shore, adam.id},
				"a group that carries a role in a group":     {outer, admins},
			} {
				text := fmt.Sprintf(`{"schemas":[%q],"group":{"value":%q},"member":{"value":%q}}`, schemas.GroupMembershipURI, body[0], body[1])
				if r := w.scim(t, token, "POST", name, text); r.Status != 403 {
					t.Errorf("%s, POST %s, %s: %d %s", who, name, what, r.Status, r.Body)
				}
			}
			if r := w.scim(t, token, "DELETE", name+"/"+admins+"."+adam.id, ""); r.Status != 403 {
				t.Errorf("%s, DELETE of %s: %d %s", who, name, r.Status, r.Body)
			}
		}
		for _, more := range []string{`"roles":[{"value":"` + auth.GuestInviter + `"}]`, `"roles":[{"value":"` + auth.GlobalAdministrator + `","kind":"eligible"}]`, `"groups":` + member(admins)} {
			if r := w.scim(t, token, "POST", "/Invitations", fmt.Sprintf(`{"schemas":[%q],"email":"x@out.example",%s}`, schemas.InvitationURI, more)); r.Status != 403 {
				t.Errorf("%s invites with %s: %d %s", who, more, r.Status, r.Body)
			}
		}
		for _, more := range []object{{"roles": []object{{"value": auth.GuestInviter}}}, {"groups": []string{admins}}} {
			more["user"] = object{"userName": "made"}
			if r := w.post(t, "/admin/v1/users", token, more); r.Status != 403 {
				t.Errorf("%s makes an account: %d %s", who, r.Status, r.Body)
			}
		}
		if after := everything(); !slices.Equal(before, after) {
			t.Fatalf("%s has changed something: %q", who, difference(before, after))
		}
	}
	// And oneself. What a user says of roles and groups is a claim and gives nothing.
	by := callers["a User Administrator"]
	holdings := func() string {
		return w.get(t, "/admin/v1/users/"+uma.id+"/roles", by).Body + fmt.Sprint(w.user(t, uma.id).Groups)
	}
	held := holdings()
	for op, refused := range map[string]bool{
		`{"op":"add","path":"roles","value":[{"value":"` + auth.GlobalAdministrator + `"}]}`: false,
		`{"op":"add","path":"groups","value":` + member(admins) + `}`:                        false,
		`{"op":"replace","path":"userName","value":"other"}`:                                 true,
		`{"op":"replace","path":"active","value":false}`:                                     true,
	} {
		if r := w.scim(t, by, "PATCH", "/Me", patching(op)); refused != (r.Status == 403) {
			t.Errorf("PATCH /Me %s: %d %s", op, r.Status, r.Body)
		}
	}
	if got := holdings(); got != held || !strings.Contains(got, auth.UserAdministrator) {
		t.Errorf("by oneself: %s, want %s", got, held)
	}
	// What is allowed is done by the same ways.
	for who, token := range callers {
		id := must[struct{ ID string }](t, w.scim(t, token, "POST", "/GroupMembers", fmt.Sprintf(`{"schemas":[%q],"group":{"value":%q},"member":{"value":%q}}`, schemas.GroupMembershipURI, shore, eve.id)), 201).ID
		if r := w.scim(t, token, "DELETE", "/GroupMemberships/"+id, ""); r.Status != 204 {
			t.Errorf("%s ends a membership: %d %s", who, r.Status, r.Body)
		}
	}
}
