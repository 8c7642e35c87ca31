package api_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestAdministratorsLookLikeOthers: to a client that may read users, and no more, an
// administrator looks like anybody: alone, in a list, and whatever it asks for.
func TestAdministratorsLookLikeOthers(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	admin, plain := w.person(t, "somebodya", auth.GlobalAdministrator), w.person(t, "somebodyb")
	spare := w.person(t, "spare", auth.GlobalAdministrator)
	in := w.mfa(t, spare)
	w.enrol(t, admin)
	w.enrol(t, plain)
	reader := must[struct{ Token string }](t, w.post(t, "/admin/v1/clients", w.stepUp(t, spare, in).Token, object{"name": "reader", "scopes": []string{"users:read"}}), 201).Token
	get := func(path string) testserver.Response {
		return w.Do(t, "GET", path, "", "Authorization", "Bearer "+reader)
	}
	times := regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]+"`)
	alike := func(p *person, r testserver.Response) string {
		return times.ReplaceAllString(strings.ReplaceAll(strings.ReplaceAll(r.Body, p.id, "ID"), p.name, "NAME"), `"TIME"`) + r.Header.Get("ETag")
	}
	for _, query := range []string{"", "?attributes=roles,groups,entitlements,active,userType", "?attributes=meta", "?excludedAttributes=userName"} {
		a, b := alike(admin, get("/Users/"+admin.id+query)), alike(plain, get("/Users/"+plain.id+query))
		if a != b {
			t.Errorf("GET /Users/…%s: an administrator is\n%s\nsomebody else is\n%s", query, a, b)
		}
	}
	for _, path := range []string{"/Roles", "/RoleAssignments", "/RoleAssignments?count=1", "/Groups"} {
		if r := get(path); r.Status != 403 {
			t.Errorf("GET %s: %d, want 403", path, r.Status)
		}
	}
	if r := get("/Users?filter=roles+pr"); r.Status != 200 || !strings.Contains(r.Body, `"totalResults":0`) {
		t.Errorf("users with roles: %d %s, want none", r.Status, r.Body)
	}
}
