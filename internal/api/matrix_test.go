package api_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/console"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// roleLetters are the built-in roles as the matrix below has them.
var roleLetters = map[byte]string{
	'G': auth.GlobalAdministrator, 'P': auth.PrivilegedRoleAdministrator, 'U': auth.UserAdministrator, 'A': auth.ApplicationAdministrator,
	'N': auth.AuthenticationAdministrator, 'H': auth.HelpdeskAdministrator, 'R': auth.GroupsAdministrator, 'I': auth.GuestInviter,
	'T': auth.ReportsReader, 'D': auth.Auditor,
}

const everyRole = "GPUANHRITD"

// roleMatrix says which roles each route lets in, in a session with a fresh
// passcode. It is written down apart from route table and catalogue: they must
// change together with it. Routes that everybody passes are not in it.
var roleMatrix = map[string]string{
	"GET /scim/v2/Users/.deltaToken": everyRole, "POST /scim/v2/Users/.delta": everyRole, "GET /scim/v2/Groups/.deltaToken": "GPUANHRTD", "POST /scim/v2/Groups/.delta": "GPUANHRTD",
	"GET /scim/v2/Users": everyRole, "POST /scim/v2/Users/.search": everyRole, "GET /scim/v2/Users/{id}": everyRole,
	"POST /scim/v2/Users": "GU", "PUT /scim/v2/Users/{id}": "GU", "PATCH /scim/v2/Users/{id}": "GU", "DELETE /scim/v2/Users/{id}": "GU",
	"DELETE /scim/v2/Me":  "GU",
	"GET /scim/v2/Groups": "GPUANHRTD", "POST /scim/v2/Groups/.search": "GPUANHRTD", "GET /scim/v2/Groups/{id}": "GPUANHRTD",
	"POST /scim/v2/Groups": "GUR", "PUT /scim/v2/Groups/{id}": "GUR", "PATCH /scim/v2/Groups/{id}": "GUR", "DELETE /scim/v2/Groups/{id}": "GUR",
	"GET /scim/v2/GroupMemberships": "GPUANHRTD", "GET /scim/v2/GroupMemberships/{id}": "GPUANHRTD", "POST /scim/v2/GroupMemberships/.search": "GPUANHRTD", "POST /scim/v2/GroupMemberships": "GUR", "DELETE /scim/v2/GroupMemberships/{id}": "GUR",
	"GET /scim/v2/GroupMembers": "GPUANHRTD", "GET /scim/v2/GroupMembers/{id}": "GPUANHRTD", "POST /scim/v2/GroupMembers/.search": "GPUANHRTD", "POST /scim/v2/GroupMembers": "GUR", "DELETE /scim/v2/GroupMembers/{id}": "GUR",
	"GET /scim/v2/Roles": "GPUANRTD", "POST /scim/v2/Roles/.search": "GPUANRTD", "GET /scim/v2/Roles/{id}": "GPUANRTD",
	"POST /scim/v2/Roles": "GP", "PUT /scim/v2/Roles/{id}": "GP", "PATCH /scim/v2/Roles/{id}": "GP", "DELETE /scim/v2/Roles/{id}": "GP",
	"GET /scim/v2/Entitlements": "GPUANRTD", "POST /scim/v2/Entitlements/.search": "GPUANRTD", "GET /scim/v2/Entitlements/{id}": "GPUANRTD",
	"POST /scim/v2/Entitlements": "GP", "PUT /scim/v2/Entitlements/{id}": "GP", "PATCH /scim/v2/Entitlements/{id}": "GP", "DELETE /scim/v2/Entitlements/{id}": "GP",
	"GET /scim/v2/RoleAssignments": "GPUANRTD", "POST /scim/v2/RoleAssignments/.search": "GPUANRTD", "GET /scim/v2/RoleAssignments/{id}": "GPUANRTD",
	"POST /scim/v2/RoleAssignments": "GPU", "PUT /scim/v2/RoleAssignments/{id}": "GPU", "PATCH /scim/v2/RoleAssignments/{id}": "GPU", "DELETE /scim/v2/RoleAssignments/{id}": "GPU",

	"GET /scim/v2/{type}": "GD", "POST /scim/v2/{type}/.search": "GD", "GET /scim/v2/{type}/{id}": "GD",
	"POST /scim/v2/{type}": "G", "PUT /scim/v2/{type}/{id}": "G", "PATCH /scim/v2/{type}/{id}": "G", "DELETE /scim/v2/{type}/{id}": "G",
	"GET /admin/v1/schemas": "GD", "GET /admin/v1/schemas/{id}": "GD", "POST /admin/v1/schemas": "G", "PUT /admin/v1/schemas/{id}": "G",
	"DELETE /admin/v1/schemas/{id}": "G", "POST /admin/v1/schema-packs/{id}": "G",
	"GET /scim/v2/Invitations": everyRole, "POST /scim/v2/Invitations/.search": everyRole, "GET /scim/v2/Invitations/{id}": everyRole,
	"POST /scim/v2/Invitations": "GUI", "PUT /scim/v2/Invitations/{id}": "GUI", "PATCH /scim/v2/Invitations/{id}": "GUI", "DELETE /scim/v2/Invitations/{id}": "GUI",
	"POST /admin/v1/invitations": "GUI", "POST /admin/v1/invitations/{id}/resend": "GUI", "POST /admin/v1/invitations/{id}/revoke": "GUI",
	"POST /admin/v1/users":                     "GU",
	"POST /admin/v1/users/{id}/password-reset": "GUNH", "POST /admin/v1/users/{id}/mfa-reset": "GN", "PUT /admin/v1/users/{id}/emergency": "G",
	"GET /admin/v1/users/{id}/sessions": "GUNHD", "DELETE /admin/v1/users/{id}/sessions": "GUNH",
	"GET /admin/v1/users/{id}/account-links": "GUNHD", "DELETE /admin/v1/users/{id}/account-links": "GUNH",
	"GET /admin/v1/tenants": "GD", "POST /admin/v1/tenants": "G", "PUT /admin/v1/tenants/{id}": "G",
	"GET /admin/v1/domains": "GD", "GET /admin/v1/domains/{id}": "GD", "POST /admin/v1/domains": "G", "DELETE /admin/v1/domains/{id}": "G",
	"POST /admin/v1/domains/{id}/verify": "G", "POST /admin/v1/domains/{id}/primary": "G",
	"GET /admin/v1/domain-moves": "GD", "GET /admin/v1/domain-moves/{id}": "GD", "POST /admin/v1/domain-moves": "G", "POST /admin/v1/domain-move-previews": "G",
	"POST /admin/v1/domain-moves/{id}/pause": "G", "POST /admin/v1/domain-moves/{id}/resume": "G", "POST /admin/v1/domain-moves/{id}/cancel": "G",
	"GET /admin/v1/deleted-users": "GU", "GET /admin/v1/deleted-users/{id}": "GU", "POST /admin/v1/deleted-users/{id}/restore": "GU",
	"DELETE /admin/v1/deleted-users/{id}": "G",
	"GET /admin/v1/deleted-groups":        "GUR", "GET /admin/v1/deleted-groups/{id}": "GUR", "POST /admin/v1/deleted-groups/{id}/restore": "GUR",
	"DELETE /admin/v1/deleted-groups/{id}": "G",
	"GET /admin/v1/policies/retention":     "GND", "PUT /admin/v1/policies/retention": "G",
	"GET /admin/v1/policies/vocabulary": "GND", "PUT /admin/v1/policies/vocabulary": "G",
	"GET /admin/v1/rules": "GND", "GET /admin/v1/rules/{id}": "GND", "POST /admin/v1/rule-trials": "GND",
	"POST /admin/v1/rules": "G", "PUT /admin/v1/rules/{id}": "G", "DELETE /admin/v1/rules/{id}": "G",
	"GET /admin/v1/users/{id}/roles": "GPUANRTD", "GET /admin/v1/roles/{id}/holders": "GPUANRTD",
	"GET /admin/v1/reviews": "GPUANRTD", "GET /admin/v1/reviews/{id}": "GPUANRTD", "GET /admin/v1/reviews/{id}/assignments": "GPUANRTD",
	"POST /admin/v1/reviews": "GPU", "POST /admin/v1/reviews/{id}/decisions": "GPU", "POST /admin/v1/reviews/{id}/close": "GPU",
	"GET /admin/v1/role-requests": "GPU", "POST /admin/v1/role-requests/{id}/decision": "GPU",
	"GET /admin/v1/permissions": "GPUANRTD", "GET /admin/v1/audit": "GD", "GET /admin/v1/audit/export": "GD",
	"GET /admin/v1/reports/role-holders": "GPTD", "GET /admin/v1/reports/privileged-accounts": "GPTD", "GET /admin/v1/reports/mfa": "GPTD",
	"GET /admin/v1/reports/stale-accounts": "GPTD", "GET /admin/v1/reports/shared-accounts": "GPTD", "GET /admin/v1/reports/activations": "GPTD",
	"GET /admin/v1/mail": "GD", "POST /admin/v1/mail/{id}/retry": "G", "DELETE /admin/v1/mail/{id}": "G",
	"GET /admin/v1/clients": "GAD", "GET /admin/v1/clients/{id}": "GAD",
	"POST /admin/v1/clients": "GA", "PATCH /admin/v1/clients/{id}": "GA", "POST /admin/v1/clients/{id}/rotate": "GA", "POST /admin/v1/clients/{id}/revoke": "GA",
	"GET /admin/v1/feeds": "GD", "GET /admin/v1/feeds/{id}": "GD", "POST /admin/v1/feeds": "G", "PATCH /admin/v1/feeds/{id}": "G", "DELETE /admin/v1/feeds/{id}": "G",
	"POST /admin/v1/feeds/{id}/rotate": "G", "POST /admin/v1/feeds/{id}/test": "G", "POST /admin/v1/feeds/{id}/replay": "G",
	"GET /admin/v1/feeds/{id}/dead-letters": "GD", "POST /admin/v1/dead-letters/{id}/retry": "G", "DELETE /admin/v1/dead-letters/{id}": "G",
	"POST /events/v1/poll/{id}":      "", // for clients
	"GET /admin/v1/provisioning-log": "GAD", "GET /admin/v1/provisioning-log/{id}": "GAD",
}

// TestRoleMatrix walks every route with every built-in role, and with none.
func TestRoleMatrix(t *testing.T) { onStores(t, testRoleMatrix) }

func testRoleMatrix(t *testing.T, w *world) {
	people := map[byte]*person{'-': w.person(t, "nobody special")}
	for letter, role := range roleLetters {
		people[letter] = w.person(t, "person "+string(letter), role)
	}
	for _, p := range people {
		w.enrol(t, p)
	}
	sessions := map[byte]string{}
	w.advance(time.Minute)
	for letter, p := range people {
		w.advance(6 * time.Second) // for the rate of an address
		code, err := totp.GenerateCode(p.secret, w.now())
		if err != nil {
			t.Fatal(err)
		}
		body := object{"name": p.name, "password": p.password, "passcode": code}
		sessions[letter] = must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", body), 200).Token
	}
	w.gadgets(t)
	met, seen := map[string]int{}, map[string]bool{}
	for _, m := range w.Mounts {
		for _, route := range m.Routes {
			name := route.Method + " " + m.Prefix + route.Path
			roles, restricted := roleMatrix[name]
			seen[name] = restricted
			need := route.Needs.String()
			if free := need == "public" || need == "token" || need == "step-up" || strings.HasPrefix(need, "session"); free == restricted {
				t.Errorf("%s (%s) is for some roles: %t; in the matrix: %t", name, need, !free, restricted)
				continue
			}
			if !restricted || name == "DELETE /scim/v2/Me" { // which would delete the people here: TestMe
				continue
			}
			// Whatever passes fails at the body or finds nothing.
			body := ""
			if route.Method != "GET" {
				body = "no JSON"
			}
			for letter, token := range sessions {
				r := w.send(t, route.Method, m.Prefix+strings.NewReplacer("{id}", nobody, "{type}", "Gadgets").Replace(route.Path), body, "Authorization", "Bearer "+token)
				if refused := r.Status == 403; refused == strings.ContainsRune(roles, rune(letter)) || r.Status == 401 || r.Status >= 500 {
					t.Errorf("%s with role %c: %d %s, want it for %s", name, letter, r.Status, r.Body, roles)
				}
				met[name]++
			}
		}
	}
	for name := range roleMatrix {
		if !seen[name] {
			t.Errorf("%s is in the matrix and no route", name)
		}
	}
	t.Logf("%d routes with %d roles and none", len(met), len(roleLetters))
}

// TestPublicRoutes: these and no others let in who brings nothing. What they do for
// somebody who is locked out takes a link, and nothing that could be guessed is one.
func TestPublicRoutes(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{Server: trusting})
	public := map[string]bool{}
	for _, route := range allRoutes(w.Server) {
		if route.Needs.Public() {
			public[route.Method+" "+route.Path] = true
		}
	}
	for _, route := range console.Routes() {
		if !route.Needs.Public() {
			t.Errorf("the page %s needs %s", route.Path, route.Needs)
		}
		public[route.Method+" "+route.Path] = true
	}
	want := []string{"GET /auth/v1/openapi.json", "GET /events/v1/keys", "GET /invitation", "GET /setup", "GET /static/roster.css", "GET /static/setup.js", "POST /auth/v1/invitations/accept", "POST /auth/v1/invitations/look", "POST /auth/v1/setup", "POST /auth/v1/setup/link", "POST /auth/v1/sign-in"}
	if got := slices.Sorted(maps.Keys(public)); !slices.Equal(got, want) {
		t.Errorf("public are %q, want %q", got, want)
	}
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	in := w.mfa(t, admin)
	before := w.everything(t, "default")
	for _, link := range []string{"", "x", "0", admin.id, in.Session, in.Token, w.Token, "setup", strings.Repeat("0", 64), strings.Replace(in.Token, "session", "setup", 1), strings.Replace(in.Token, "session", "invitation", 1)} {
		w.advance(6 * time.Second)
		for path, body := range map[string]object{
			"/auth/v1/setup/link": {"link": link}, "/auth/v1/setup": {"link": link, "userName": "mine", "password": goodPassword},
			"/auth/v1/invitations/look": {"link": link}, "/auth/v1/invitations/accept": {"link": link, "userName": "mine", "password": goodPassword},
		} {
			if r := w.post(t, path, "", body); r.Status/100 != 4 || r.Status == 429 {
				t.Errorf("POST %s with no link: %d %s", path, r.Status, r.Body)
			}
			if r := w.post(t, path, in.Token, body); r.Status/100 != 4 || r.Status == 429 {
				t.Errorf("POST %s with no link, by an administrator: %d %s", path, r.Status, r.Body)
			}
		}
		w.advance(time.Minute)
	}
	if after := w.everything(t, "default"); !slices.Equal(before, after) {
		t.Errorf("something has changed: %d records, %d before", len(after), len(before))
	}
}
