package api_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestForgedAddresses: rules and clients' networks go by the address that a proxy named
// by the operator has seen, whatever else a request says about where it comes from.
func TestForgedAddresses(t *testing.T) {
	t.Parallel()
	const office, cafe = "192.0.2.1", "198.51.100.1"
	for name, test := range map[string]struct {
		opt    testserver.Options
		header []string
		in     bool // from the office
	}{
		"no proxy is trusted":      {testserver.Options{}, []string{"X-Forwarded-For", office}, false},
		"seen by the proxy":        {testserver.Options{Server: trusting}, []string{"X-Forwarded-For", office}, true},
		"forged before the proxy":  {testserver.Options{Server: trusting}, []string{"X-Forwarded-For", office + ", " + cafe}, false},
		"in a header of its own":   {testserver.Options{Server: trusting}, []string{"X-Forwarded-For", office, "X-Forwarded-For", cafe}, false},
		"a loopback in between":    {testserver.Options{Server: trusting}, []string{"X-Forwarded-For", office + ", " + cafe + ", 127.0.0.1"}, false},
		"nonsense behind it":       {testserver.Options{Server: trusting}, []string{"X-Forwarded-For", office + ", office"}, false},
		"other headers":            {testserver.Options{Server: trusting}, []string{"Forwarded", "for=" + office, "X-Real-IP", office, "True-Client-IP", office, "X-Forwarded-For", cafe}, false},
		"mapped into IPv6":         {testserver.Options{Server: trusting}, []string{"X-Forwarded-For", "::ffff:" + office}, true},
		"nobody says, from a host": {testserver.Options{Server: trusting}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := begin(t, test.opt)
			in := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
			bo := w.person(t, "bo")
			spare := object{"name": "Only from the office", "state": "on", "when": object{"outsideNetworks": []string{"192.0.2.0/24"}, "groups": []string{w.groupOf(t, bo)}}, "then": "block"}
			must[any](t, w.post(t, "/admin/v1/rules", in.Token, spare), 201)
			client := must[struct{ Token string }](t, w.post(t, "/admin/v1/clients", in.Token, object{"name": "hr", "scopes": []string{"users"}, "networks": []string{"192.0.2.0/24"}}), 201)
			body, _ := json.Marshal(object{"name": bo.name, "password": bo.password})
			want := map[bool]int{true: 200, false: 401}[test.in]
			if r := w.send(t, "POST", "/auth/v1/sign-in", string(body), append([]string{"Content-Type", "application/json"}, test.header...)...); r.Status != want {
				t.Errorf("a rule: %d, want %d", r.Status, want)
			}
			if r := w.Do(t, "GET", "/Users", "", append([]string{"Authorization", "Bearer " + client.Token}, test.header...)...); r.Status != want {
				t.Errorf("a client's networks: %d, want %d", r.Status, want)
			}
		})
	}
}

// groupOf puts somebody into a new group and returns its id.
func (w *world) groupOf(t *testing.T, p *person) string {
	t.Helper()
	return must[struct{ ID string }](t, w.Do(t, "POST", "/Groups", fmt.Sprintf(
		`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"of %s","members":[{"value":%q}]}`, p.name, p.id)), 201).ID
}

// TestTwentyCodes: twenty wrong passcodes by all ways in, at the pace that the delays
// leave, and no passcode and no recovery code is accepted any more; sessions that there
// are go on without one. Somebody entitled helps, and nothing less.
func TestTwentyCodes(t *testing.T) {
	onStores(t, twentyCodes)
}

func twentyCodes(t *testing.T, w *world) {
	ana, helper := w.person(t, "ana"), w.person(t, "helper", auth.AuthenticationAdministrator)
	in := w.enrol(t, ana)
	w.enrol(t, helper)
	looked := func() int {
		return w.metric(t, "roster_signin_total")["wrong"] + w.metric(t, "roster_stepup_total")["wrong"] + w.metric(t, "roster_passcode_total")["wrong"]
	}
	disabled := func() int { return w.metric(t, "roster_lockouts_total")["disabled"] }
	tries := 0
	for disabled() == 0 {
		if tries++; tries > 60 {
			t.Fatal("60 wrong passcodes have not ended it")
		}
		w.advance(15 * time.Minute)
		w.get(t, "/auth/v1/session", in.Token) // so that it lasts
		code := wrongCode(w.code(t, ana))
		switch tries % 3 {
		case 0:
			w.post(t, "/auth/v1/sign-in", "", object{"name": ana.name, "password": ana.password, "passcode": code})
		case 1:
			w.post(t, "/auth/v1/step-up", in.Token, object{"code": code})
		case 2:
			w.post(t, "/auth/v1/totp/check", in.Token, object{"code": code})
		}
	}
	if got := looked(); got != 20 || tries != 20 {
		t.Errorf("%d of %d wrong passcodes were looked at, want 20", got, tries)
	}
	w.advance(15 * time.Minute)
	for what, r := range map[string]testserver.Response{
		"a passcode at sign-in": w.post(t, "/auth/v1/sign-in", "", object{"name": ana.name, "password": ana.password, "passcode": w.code(t, ana)}),
		"a recovery code":       w.post(t, "/auth/v1/sign-in", "", object{"name": ana.name, "password": ana.password, "recoveryCode": ana.recovery[0]}),
		"a step-up":             w.post(t, "/auth/v1/step-up", in.Token, object{"code": w.code(t, ana)}),
	} {
		if r.Status != 401 && r.Status != 403 {
			t.Errorf("%s after that: %d %s", what, r.Status, r.Body)
		}
	}
	if r := w.get(t, "/auth/v1/session", in.Token); r.Status != 200 {
		t.Errorf("the session that there was: %d", r.Status)
	}
	boss := w.mfa(t, helper)
	must[any](t, w.send(t, "POST", "/admin/v1/users/"+ana.id+"/mfa-reset", "", "Authorization", "Bearer "+boss.Token), 204)
	ana.secret = ""
	w.enrol(t, ana)
}

// TestCustomRoles: whoever holds a role of one's own does what it permits, to whom they
// may, and gets no further by it.
func TestCustomRoles(t *testing.T) {
	shows(t, "D3")
	onStores(t, testCustomRoles)
}

func testCustomRoles(t *testing.T, w *world) {
	admin, desk := w.person(t, "admin", auth.GlobalAdministrator), w.person(t, "desk")
	plain, pra := w.person(t, "plain"), w.person(t, "pra", auth.PrivilegedRoleAdministrator)
	boss := w.mfa(t, admin)
	w.enrol(t, desk)
	role := func(value, permissions string) string {
		return fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Role",%q],"value":%q,"display":%[2]q,%[1]q:{"kind":"administrative","permissions":[%[3]s]}}`, schemas.RosterRoleURI, value, permissions)
	}
	give := func(to, role string) string {
		return fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:extension:roster:2.0:RoleAssignment"],"role":{"value":%q},"principal":{"value":%q}}`, role, to)
	}
	boss = w.stepUp(t, admin, boss)
	own := must[struct{ ID string }](t, w.scim(t, boss.Token, "POST", "/Roles", role("desk", `"users.read","users.password.reset","roles.read","roles.create","roles.update","roles.assign"`)), 201)
	more := must[struct{ ID string }](t, w.scim(t, boss.Token, "POST", "/Roles", role("more", `"users.delete"`)), 201)
	must[any](t, w.scim(t, boss.Token, "POST", "/RoleAssignments", give(desk.id, own.ID)), 201)
	if r := w.scim(t, boss.Token, "POST", "/Roles", role("all", `"roles.assign.global"`)); r.Status != 400 && r.Status != 403 {
		t.Errorf("a role that gives Global Administrator: %d %s", r.Status, r.Body)
	}

	in := w.mfa(t, desk)
	grow := func(list string) string {
		return patching(`{"op":"replace","path":"` + schemas.RosterRoleURI + `:permissions","value":[` + list + `]}`)
	}
	for what, test := range map[string]struct {
		method, path, body string
		status             int
	}{
		"lists users":                              {"GET", "/scim/v2/Users?count=1", "", 200},
		"lists groups":                             {"GET", "/scim/v2/Groups?count=1", "", 403},
		"reads the audit trail":                    {"GET", "/admin/v1/audit", "", 403},
		"resets a plain password":                  {"POST", "/admin/v1/users/" + plain.id + "/password-reset", "", 200},
		"resets a Global Administrator's":          {"POST", "/admin/v1/users/" + admin.id + "/password-reset", "", 403},
		"resets a Privileged Role Administrator's": {"POST", "/admin/v1/users/" + pra.id + "/password-reset", "", 403},
		"takes passcodes away":                     {"POST", "/admin/v1/users/" + plain.id + "/mfa-reset", "", 403},
		"deletes":                                  {"DELETE", "/scim/v2/Users/" + plain.id, "", 403},
		"gives itself another role of one's own":   {"POST", "/scim/v2/RoleAssignments", give(desk.id, more.ID), 403},
		"gives its own role":                       {"POST", "/scim/v2/RoleAssignments", give(plain.id, own.ID), 403},
		"gives Global Administrator":               {"POST", "/scim/v2/RoleAssignments", give(desk.id, auth.GlobalAdministrator), 403},
		"lets its own role grow":                   {"PATCH", "/scim/v2/Roles/" + own.ID, grow(`"users.read","users.delete"`), 403},
		"lets another role grow":                   {"PATCH", "/scim/v2/Roles/" + more.ID, grow(`"users.delete","users.purge"`), 403},
		"makes a role of more than it has":         {"POST", "/scim/v2/Roles", role("mine", `"users.delete"`), 403},
		"makes an administrative role":             {"POST", "/scim/v2/Roles", role("mine", `"users.read"`), 403},
		"makes a business role":                    {"POST", "/scim/v2/Roles", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Role"],"value":"deckhand"}`, 201},
		"changes a built-in role":                  {"PATCH", "/scim/v2/Roles/" + auth.HelpdeskAdministrator, grow(`"users.read"`), 400},
		"makes a client":                           {"POST", "/admin/v1/clients", `{"name":"x","scopes":["users:read"]}`, 403},
	} {
		header := []string{"Authorization", "Bearer " + in.Token}
		if test.body != "" {
			header = append(header, "Content-Type", map[bool]string{true: "application/json", false: "application/scim+json"}[test.path[1] == 'a'])
		}
		if r := w.send(t, test.method, test.path, test.body, header...); r.Status != test.status {
			t.Errorf("a role of one's own %s: %d %s, want %d", what, r.Status, r.Body, test.status)
		}
	}
}
