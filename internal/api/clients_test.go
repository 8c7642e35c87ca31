package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestChangeClient: what changes about a client holds for its next request, is no more
// than whoever changes it may do, and is told with what was before; what is refused
// changes nothing.
func TestChangeClient(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting}, changeClient)
}

func changeClient(t *testing.T, w *world) {
	full := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
	less := w.mfa(t, w.person(t, "applications", auth.ApplicationAdministrator))
	type made struct {
		Client struct{ ID string }
		Token  string
	}
	c := must[made](t, w.post(t, "/admin/v1/clients", full.Token, object{"name": "hr", "scopes": []string{"users"}, "profile": "okta", "rate": 1000, "burst": 2000}), 201)
	reader := must[made](t, w.post(t, "/admin/v1/clients", full.Token, object{"name": "reader", "scopes": []string{"users:read"}}), 201)
	patch := func(token, id string, body object) testserver.Response {
		text, _ := json.Marshal(body)
		return w.send(t, "PATCH", "/admin/v1/clients/"+id, string(text), "Content-Type", "application/json", "Authorization", "Bearer "+token)
	}
	get := func(token, path, from string) int {
		return w.Do(t, "GET", path, "", "Authorization", "Bearer "+token, "X-Forwarded-For", from).Status
	}
	const office, cafe = "192.0.2.1", "198.51.100.1"
	if got := []int{get(c.Token, "/Users", cafe), get(c.Token, "/Groups", office)}; got[0] != 200 || got[1] != 403 {
		t.Fatalf("before: %v", got)
	}

	type answer struct {
		Name, Profile, References string
		Scopes, Networks          []string
		Rate, Burst               int
	}
	got := must[answer](t, patch(full.Token, c.Client.ID, object{"name": "payroll", "scopes": []string{"groups:read"}, "profile": "", "references": "late", "networks": []string{"192.0.2.0/24"}, "rate": 500, "burst": 0}), 200)
	if diff := cmp.Diff(answer{"payroll", "", "late", []string{"groups:read"}, []string{"192.0.2.0/24"}, 500, 0}, got); diff != "" {
		t.Errorf("the answer (-want +got):\n%s", diff)
	}
	for _, request := range []struct {
		path, from string
		want       int
	}{{"/Groups", office, 200}, {"/Users", office, 403}, {"/Groups", cafe, 401}} {
		if got := get(c.Token, request.path, request.from); got != request.want {
			t.Errorf("afterwards, %s from %s: %d, want %d", request.path, request.from, got, request.want)
		}
	}
	want := map[string][2]string{
		"name": {`"hr"`, `"payroll"`}, "scopes": {`["users"]`, `["groups:read"]`}, "profile": {`"okta"`, ""}, "references": {"", `"late"`}, "networks": {"", `["192.0.2.0/24"]`},
		"rate": {"1000", "500"}, "burst": {"2000", ""},
	}
	if diff := cmp.Diff(want, w.told(t, "client.update")); diff != "" {
		t.Errorf("the audit entry (-want +got):\n%s", diff)
	}

	// One thing leaves the others alone, and tokens end earlier, never later.
	must[answer](t, patch(full.Token, c.Client.ID, object{"networks": []string{}}), 200)
	if got := get(c.Token, "/Groups", cafe); got != 200 {
		t.Errorf("without networks: %d", got)
	}
	for _, d := range []time.Duration{time.Hour, 48 * time.Hour} {
		must[answer](t, patch(full.Token, c.Client.ID, object{"expires": w.now().Add(d)}), 200)
	}
	all := must[struct {
		Clients []struct {
			ID     string
			Tokens []struct{ Expires time.Time }
		}
	}](t, w.get(t, "/admin/v1/clients", full.Token), 200)
	for _, cl := range all.Clients {
		if cl.ID == c.Client.ID && (len(cl.Tokens) != 1 || !cl.Tokens[0].Expires.Equal(w.now().Add(time.Hour))) {
			t.Errorf("the tokens are %+v, want one that ends in an hour", cl.Tokens)
		}
	}

	for name, test := range map[string]struct {
		by, id string
		body   object
		status int
		want   string
	}{
		"more than whoever changes it":   {less.Token, reader.Client.ID, object{"scopes": []string{"users"}}, 403, "not-permitted"},
		"less, of what they do not have": {less.Token, bigger(t, w, full), object{"scopes": []string{"users:read"}}, 403, "not-permitted"},
		"a name that is taken":           {full.Token, c.Client.ID, object{"name": "reader"}, 409, "name is in use"},
		"no scopes":                      {full.Token, c.Client.ID, object{"scopes": []string{}}, 400, "scopes: "},
		"no network":                     {full.Token, c.Client.ID, object{"networks": []string{"office"}}, 400, "networks: "},
		"a negative rate":                {full.Token, c.Client.ID, object{"rate": -1}, 400, "rate: "},
		"a burst without a rate":         {full.Token, c.Client.ID, object{"rate": 0, "burst": 5}, 400, "burst: "},
		"the past":                       {full.Token, c.Client.ID, object{"expires": w.now()}, 400, "expires: "},
		"what is no member":              {full.Token, c.Client.ID, object{"tenant": "acme"}, 400, "no such member"},
		"a client that is not there":     {full.Token, nobody, object{"name": "x"}, 404, ""},
	} {
		if r := patch(test.by, test.id, test.body); r.Status != test.status || !strings.Contains(r.Body, test.want) {
			t.Errorf("%s: %d %s, want %d %s", name, r.Status, r.Body, test.status, test.want)
		}
	}
	must[answer](t, patch(less.Token, reader.Client.ID, object{"name": "readers"}), 200)
	must[any](t, w.post(t, "/admin/v1/clients/"+reader.Client.ID+"/revoke", full.Token, nil), 204)
	if r := patch(full.Token, reader.Client.ID, object{"name": "again"}); r.Status != 409 {
		t.Errorf("a revoked client: %d %s", r.Status, r.Body)
	}
	if told := w.told(t, "client.revoke"); told["name"] != [2]string{`"readers"`, ""} || told["scopes"] != [2]string{`["users:read"]`, ""} || told["tokens"][0] == "" {
		t.Errorf("the audit entry of revoking: %v", told)
	}
	next := must[made](t, w.post(t, "/admin/v1/clients/"+c.Client.ID+"/rotate", full.Token, object{}), 201)
	told := w.told(t, "client.rotate")
	id := strings.Split(next.Token, "_")[1]
	if len(told) != 1 || strings.Contains(told["tokens"][0], id) || !strings.Contains(told["tokens"][1], id) || strings.Contains(told["tokens"][1], secretOf(next.Token)) {
		t.Errorf("the audit entry of a new token: %v", told)
	}
	if told := w.told(t, "client.create"); told["name"] != [2]string{"", `"bigger"`} || told["scopes"] != [2]string{"", `["groups","users"]`} {
		t.Errorf("the audit entry of a new client: %v", told)
	}
	w.advance(auth.StepUpAge)
	if r := patch(full.Token, c.Client.ID, object{"name": "late"}); r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `max_age="300"`) {
		t.Errorf("with an old passcode: %d %s", r.Status, r.Body)
	}
}

// TestClientWasUsed: who looks at a client sees when each of its tokens was last used.
func TestClientWasUsed(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		by := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
		type made struct {
			Client struct{ ID string }
			Token  string
		}
		c := must[made](t, w.post(t, "/admin/v1/clients", by.Token, object{"name": "hr", "scopes": []string{"users"}}), 201)
		used := func() time.Time {
			t.Helper()
			got := must[struct {
				Tokens []struct{ LastUsed time.Time }
			}](t, w.get(t, "/admin/v1/clients/"+c.Client.ID, by.Token), 200)
			if len(got.Tokens) != 1 {
				t.Fatalf("%+v", got)
			}
			return got.Tokens[0].LastUsed
		}
		if at := used(); !at.IsZero() {
			t.Errorf("before: used at %s", at)
		}
		w.advance(time.Minute)
		if r := w.Do(t, "GET", "/Users", "", "Authorization", "Bearer "+c.Token); r.Status != 200 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		settled(t, func() bool { return !used().IsZero() })
		if at := used(); !at.Equal(w.now()) {
			t.Errorf("used at %s, want %s", at, w.now())
		}
	})
}

// bigger makes a client that may write users and groups, and returns its id.
func bigger(t *testing.T, w *world, by signedIn) string {
	t.Helper()
	return must[struct{ Client struct{ ID string } }](t, w.post(t, "/admin/v1/clients", by.Token, object{"name": "bigger", "scopes": []string{"users", "groups"}}), 201).Client.ID
}

// told returns what the last audit entry of an action tells, before and after by path.
func (w *world) told(t *testing.T, action string) map[string][2]string {
	t.Helper()
	entries, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	var told map[string][2]string
	for _, e := range entries {
		if e.Action == action {
			told = map[string][2]string{}
			for _, c := range e.Changes {
				told[c.Path] = [2]string{string(c.Before), string(c.After)}
			}
		}
	}
	return told
}
