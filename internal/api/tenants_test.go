package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// everything is all there is of a tenant, a line for each record.
func (w *world) everything(t *testing.T, tenant storage.TenantID) []string {
	t.Helper()
	var lines []string
	for record, err := range w.Store.Dump(t.Context(), tenant) {
		if err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%T %s", record, line))
	}
	return lines
}

// bodyFor is a body that a route with an id takes, made of what belongs to the
// tenant that sends it.
func bodyFor(method, path, role, user string) string {
	patch := func(attr, value string) string {
		return patching(fmt.Sprintf(`{"op":"replace","path":%q,"value":%q}`, attr, value))
	}
	switch {
	case method == "GET" || method == "DELETE":
		return ""
	case method == "PATCH" && strings.Contains(path, "/RoleAssignments/"):
		return patch("endDate", "2999-01-01T00:00:00Z")
	case method == "PATCH":
		return patch("externalId", "stolen")
	case strings.Contains(path, "/RoleAssignments/"):
		return fmt.Sprintf(`{"role":{"value":%q},"principal":{"value":%q}}`, role, user)
	case strings.Contains(path, "/scim/v2/Users/"):
		return fmt.Sprintf(`{"schemas":[%q],"userName":"stolen"}`, schemas.UserURI)
	case strings.Contains(path, "/scim/v2/Groups/"):
		return fmt.Sprintf(`{"schemas":[%q],"displayName":"stolen"}`, schemas.GroupURI)
	case strings.Contains(path, "/scim/v2/Invitations/"):
		return `{"email":"stolen@x.example"}`
	case strings.Contains(path, "/scim/v2/Roles/"):
		return `{"value":"stolen"}`
	case strings.HasSuffix(path, "/emergency"):
		return `{"emergency":true}`
	case strings.HasSuffix(path, "/role-requests/{id}/decision"):
		return `{"decision":"approve"}`
	case strings.HasSuffix(path, "/rotate"), strings.HasSuffix(path, "/close"):
		return `{}`
	case strings.Contains(path, "/tenants/") && method == "PUT":
		return `{"name":"stolen"}`
	case strings.HasSuffix(path, "/reviews/{id}/decisions"):
		return fmt.Sprintf(`{"assignment":%q,"decision":"confirm"}`, user)
	case strings.Contains(path, "/rules/"):
		return `{"name":"stolen","state":"off","when":{},"then":"passcode"}`
	}
	return ""
}

// TestTenantsApart asks every route that takes an id for everything that another
// tenant has, as a client with all scopes and as a Global Administrator: the answer
// is the one about what nobody has, and nothing of the other tenant changes.
func TestTenantsApart(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	const acme storage.TenantID = "acme"
	w := begin(t, testserver.Options{Sender: &refusing{}})
	made := func(path, token, body string) string {
		t.Helper()
		media := "application/json"
		if strings.HasPrefix(path, "/scim/") {
			media = "application/scim+json"
		}
		r := w.send(t, "POST", path, body, "Authorization", "Bearer "+token, "Content-Type", media)
		var v struct {
			ID           string
			Client, Feed struct{ ID string }
		}
		if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 201 {
			t.Fatalf("POST %s: %d %s", path, r.Status, r.Body)
		}
		return v.ID + v.Client.ID + v.Feed.ID
	}

	// What the one tenant has.
	victim := w.person(t, "victim@a.example")
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	in := w.mfa(t, admin)
	theirs := map[string]string{
		"user": victim.id, "administrator": admin.id, "session": in.Session,
		"group": made("/scim/v2/Groups", w.Token, fmt.Sprintf(`{"schemas":[%q],"displayName":"zqxzqxgroup","members":[{"value":%q}]}`, schemas.GroupURI, victim.id)),
		"role":  made("/scim/v2/Roles", in.Token, `{"value":"zqxzqxrole"}`),
	}
	theirs["invitation"] = made("/admin/v1/invitations", in.Token, fmt.Sprintf(`{"invitation":{"email":"zqxzqxinvited@a.example","roles":[{"value":%q}]}}`, theirs["role"]))
	theirs["assignment"] = made("/scim/v2/RoleAssignments", in.Token, fmt.Sprintf(`{"role":{"value":%q},"principal":{"value":%q},"kind":"eligible"}`, theirs["role"], admin.id))
	theirs["client"] = made("/admin/v1/clients", in.Token, `{"name":"zqxzqxclient","scopes":["users"]}`)
	theirs["rule"] = made("/admin/v1/rules", in.Token, `{"name":"zqxzqxrule","state":"off","when":{},"then":"passcode"}`)
	theirs["activation"] = made("/auth/v1/roles/activations", in.Token, fmt.Sprintf(`{"assignment":%q,"durationSeconds":600,"reason":"a test"}`, theirs["assignment"]))
	theirs["domain"] = "zqxzqxdomain.example"
	made("/admin/v1/domains", in.Token, `{"name":"zqxzqxdomain.example"}`)
	theirs["move"] = made("/admin/v1/domain-moves", in.Token, `{"from":"zqxzqxdomain.example","to":"default.roster.invalid"}`)
	theirs["link"] = "zqxzqxlink"
	err := w.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return auth.PutLink(t.Context(), tx, auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant},
			auth.Link{ID: "zqxzqxlink", User: victim.id, Tenant: acme, Other: victim.id, Out: true, Since: w.now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	theirs["request"] = made("/auth/v1/roles/requests", w.signIn(t, victim).Token, fmt.Sprintf(`{"role":%q,"reason":"zqxzqx"}`, theirs["role"]))
	theirs["review"] = made("/admin/v1/reviews", w.stepUp(t, admin, w.mfa(t, admin)).Token, fmt.Sprintf(`{"title":"zqxzqx","roles":[%q],"reviewers":[%q],"due":%q}`, theirs["role"], admin.id, w.now().Add(time.Hour).Format(time.RFC3339)))
	w.queue(t, "no@example.com", w.now().Add(time.Hour))
	settled(t, func() bool {
		letters, _, err := w.Mail.List(t.Context(), storage.DefaultTenant)
		if err != nil || len(letters) == 0 {
			t.Fatal(letters, err)
		}
		theirs["mail"] = letters[0].ID
		return len(letters) == 1 && letters[0].State == mail.StateDead // the invitation has been sent
	})
	theirs["token"] = strings.Split(w.Token, "_")[1]
	theirs["entitlement"] = made("/scim/v2/Entitlements", in.Token, `{"value":"zqxzqxentitlement"}`)
	theirs["feed"] = made("/admin/v1/feeds", w.stepUp(t, admin, w.mfa(t, admin)).Token, `{"name":"zqxzqxfeed","delivery":"poll","types":["User"],"client":"`+theirs["client"]+`"}`)
	for kind, path := range map[string]string{"deleted user": "/scim/v2/Users", "deleted group": "/scim/v2/Groups"} {
		theirs[kind] = made(path, w.Token, `{"schemas":["`+schemas.UserURI+`","`+schemas.GroupURI+`"],"userName":"zqxzqxdeleted","displayName":"zqxzqxdeleted"}`)
		if r := w.Do(t, "DELETE", strings.TrimPrefix(path, "/scim/v2")+"/"+theirs[kind], ""); r.Status != 204 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
	}

	// And who comes from the other one.
	if err := auth.CreateTenant(t.Context(), w.Store, auth.Principal{Kind: auth.Operator, Tenant: acme}, "Acme", w.now()); err != nil {
		t.Fatal(err)
	}
	client := w.Issue(t, &storage.Client{Tenant: acme, Name: "acme", Scopes: []string{"users", "groups", "roles"}})
	own := w.personOf(t, acme, client, "own", auth.GlobalAdministrator)
	other := w.mfa(t, own)
	role := made("/scim/v2/Roles", other.Token, `{"value":"own"}`)
	group := made("/scim/v2/Groups", client, fmt.Sprintf(`{"schemas":[%q],"displayName":"own"}`, schemas.GroupURI))
	if r := w.Do(t, "GET", "/Users?cursor=&count=1", ""); r.Status != 200 { // the first makes the key of all
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	before := w.everything(t, storage.DefaultTenant)

	callers := map[string]string{"a client": client, "a Global Administrator": other.Token}
	ask := func(token, method, path, body string) testserver.Response {
		media := "application/json"
		if strings.HasPrefix(path, "/scim/") {
			media = "application/scim+json"
		}
		if body == "" {
			media = ""
		}
		r := w.send(t, method, path, body, "Authorization", "Bearer "+token, "Content-Type", media)
		r.Header.Del("Date")
		r.Header.Del("X-Request-Id")
		return r
	}
	compare := func(what, token, method string, path, body func(id string) string) {
		t.Helper()
		want := ask(token, method, path(nobody), body(nobody))
		// Nobody has no sessions and no links either.
		if (want.Status < 400 || want.Status == 401 || want.Status >= 500) && !strings.HasSuffix(path(nobody), nobody+"/sessions") && !strings.HasSuffix(path(nobody), nobody+"/account-links") {
			t.Errorf("%s with an id of nothing: %d %s", what, want.Status, want.Body)
		}
		for kind, id := range theirs {
			if diff := cmp.Diff(want, ask(token, method, path(id), body(id))); diff != "" {
				t.Errorf("%s with the id of another tenant's %s (-of nothing +of that):\n%s", what, kind, diff)
			}
		}
	}
	tried := 0
	for _, m := range w.Mounts {
		for _, route := range m.Routes {
			if !strings.Contains(route.Path, "{id}") || strings.HasPrefix(route.Path, "/ResourceTypes") || strings.HasPrefix(route.Path, "/Schemas") {
				continue
			}
			tried++
			for who, token := range callers {
				compare(fmt.Sprintf("%s%s as %s", route.Method+" "+m.Prefix, route.Path, who), token, route.Method,
					func(id string) string {
						return m.Prefix + strings.NewReplacer("{id}", id, "{type}", "Gadgets").Replace(route.Path)
					},
					func(string) string { return bodyFor(route.Method, m.Prefix+route.Path, role, own.id) })
			}
		}
	}
	if tried < 20 {
		t.Errorf("%d routes with an id", tried)
	}
	// Ids in bodies.
	at := func(path string) func(string) string { return func(string) string { return path } }
	for who, token := range callers {
		for what, b := range map[string]struct {
			method, path, body string
		}{
			"a new group":      {"POST", "/scim/v2/Groups", `{"schemas":["` + schemas.GroupURI + `"],"displayName":"x","members":[{"value":"%s"}]}`},
			"a member":         {"PATCH", "/scim/v2/Groups/" + group, patching(`{"op":"add","path":"members","value":[{"value":"%s"}]}`)},
			"members":          {"PUT", "/scim/v2/Groups/" + group, `{"schemas":["` + schemas.GroupURI + `"],"displayName":"own","members":[{"value":"%s"}]}`},
			"the principal":    {"POST", "/scim/v2/RoleAssignments", `{"role":{"value":"` + role + `"},"principal":{"value":"%s"}}`},
			"the role":         {"POST", "/scim/v2/RoleAssignments", `{"role":{"value":"%s"},"principal":{"value":"` + own.id + `"}}`},
			"what to activate": {"POST", "/auth/v1/roles/activations", `{"assignment":"%s","durationSeconds":600,"reason":"x"}`},
		} {
			if strings.HasPrefix(b.path, "/auth/") && who == "a client" {
				continue
			}
			compare(what+" as "+who, token, b.method, at(b.path), func(id string) string { return fmt.Sprintf(b.body, id) })
		}
		// Lists have nothing of theirs, whatever is asked.
		lists := []string{
			"/scim/v2/Users?filter=" + url.QueryEscape(`id eq "`+victim.id+`" or userName sw "v" or groups.value eq "`+theirs["group"]+`" or id pr`),
			"/scim/v2/Groups?filter=" + url.QueryEscape(`members.value eq "`+victim.id+`" or displayName co "zqxzqx"`),
			"/scim/v2/RoleAssignments?filter=" + url.QueryEscape(`principal.value eq "`+admin.id+`"`),
			"/scim/v2/GroupMemberships?filter=" + url.QueryEscape(`group.value eq "`+theirs["group"]+`"`),
			"/admin/v1/roles/" + auth.GlobalAdministrator + "/holders",
		}
		for _, m := range w.Mounts {
			for _, route := range m.Routes {
				alone := route.Path == "/GroupMemberships" || route.Path == "/GroupMembers" || route.Path == "/Me" // which take a filter, or a person
				if route.Method == "GET" && !strings.Contains(route.Path, "{") && !alone {
					lists = append(lists, m.Prefix+route.Path)
				}
			}
		}
		if len(lists) < 50 {
			t.Errorf("%d lists", len(lists))
		}
		for _, path := range lists {
			r := ask(token, "GET", path, "")
			if r.Status != 200 && (who != "a client" || r.Status != 403) {
				t.Errorf("GET %s as %s: %d %s", path, who, r.Status, r.Body)
			}
			for kind, id := range theirs {
				if strings.Contains(r.Body, id) || strings.Contains(r.Body, "zqxzqx") || strings.Contains(r.Body, victim.name) {
					t.Errorf("GET %s as %s shows another tenant's %s: %s", path, who, kind, r.Body)
				}
			}
		}
	}
	if diff := cmp.Diff(before, w.everything(t, storage.DefaultTenant)); diff != "" {
		t.Errorf("the other tenant is not as it was:\n%s", diff)
	}
	if r := w.get(t, "/auth/v1/session", in.Token); r.Status != 200 {
		t.Errorf("somebody in the other tenant is signed out: %d", r.Status)
	}
}
