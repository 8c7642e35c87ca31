package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// log reads the provisioning log when it has a number of requests at least.
func (w *world) log(t *testing.T, session, query string, least int) []api.ProvisioningRequest {
	t.Helper()
	var list []api.ProvisioningRequest
	settled(t, func() bool {
		w.Requests.Flush(t.Context()) // a request is told of when its answer is out
		list = must[api.ProvisioningLog](t, w.get(t, "/admin/v1/provisioning-log?"+query, session), 200).Requests
		return len(list) >= least
	})
	return list
}

// as sends a request of a client.
func (w *world) as(t *testing.T, token, method, path, body string, header ...string) testserver.Response {
	t.Helper()
	return w.Do(t, method, path, body, append(header, "Authorization", "Bearer "+token)...)
}

// TestProvisioningLog: what an integrator is told of why a client was refused, by the
// id that the client saw.
func TestProvisioningLog(t *testing.T) {
	shows(t, "A11")
	onStores(t, testProvisioningLog)
}

func testProvisioningLog(t *testing.T, w *world) {
	in := w.mfa(t, w.person(t, "integrator", auth.ApplicationAdministrator)).Token
	hr := w.Client(t, "hr connector", "", "users", "groups:read")
	strict := w.Client(t, "strict one", auth.ProfileStrict, "users")
	ids := map[string]string{}
	for _, c := range must[api.ClientList](t, w.get(t, "/admin/v1/clients", in), 200).Clients {
		ids[c.Name] = c.ID
	}
	id := must[struct{ ID string }](t, w.as(t, hr, "POST", "/Users", `{"schemas":["`+schemas.UserURI+`"],"userName":"ada"}`), 201).ID
	type why struct {
		Status                       int
		ScimType, Detail, Attribute  string
		Operation, Offset, BulkIndex int
		ResourceType, ResourceID     string
		Query, Body                  string
		Tolerated                    bool
	}
	const none = -1
	for _, c := range []struct {
		what, token, method, path, body string
		status                          int
		want                            why
	}{
		{"a name that is taken", hr, "POST", "/Users", `{"schemas":["` + schemas.UserURI + `"],"userName":"ADA","password":"Hush-hush-1","emails":[{"value":"ada@example.org","primary":true}],"favourite":{"colour":"vermilion"}}`, 409,
			why{Status: 409, ScimType: "uniqueness", Detail: "userName is already in use", Operation: none, Offset: none, BulkIndex: none, ResourceType: "User",
				Body: `{"emails":[{"primary":true,"value":"(string, 15)"}],"password":"(secret)","schemas":["` + schemas.UserURI + `"],"unknown":{"unknown":"(string)"},"userName":"(string, 3)"}`}},
		{"an operation of a PATCH", hr, "PATCH", "/Users/" + id, patching(`{"op":"Replace","path":"title","value":"Captain"},{"op":"replace","path":"active","value":"maybe"}`), 400,
			why{Status: 400, ScimType: "invalidValue", Detail: "Operations[1]: active: expected a boolean", Attribute: "active", Operation: 1, Offset: none, BulkIndex: none, ResourceType: "User", ResourceID: id,
				Body: `{"Operations":[{"op":"replace","path":"title","value":"(string, 7)"},{"op":"replace","path":"active","value":"(string, 5)"}],"schemas":["` + patchURI + `"]}`}},
		{"a path that is none", hr, "PATCH", "/Users/" + id, patching(`{"op":"add","path":"emails[type eq \"work\"].zip","value":"12345"}`), 400,
			why{Status: 400, ScimType: "invalidPath", Operation: 0, Offset: none, BulkIndex: none, Attribute: "emails", ResourceType: "User", ResourceID: id,
				Body: `{"Operations":[{"op":"add","path":"emails[type eq \"(string)\"].unknown","value":"(string)"}],"schemas":["` + patchURI + `"]}`}},
		{"a filter", hr, "GET", "/Users?filter=" + url.QueryEscape(`userName eq "ada" and shoeSize gt 42`) + "&count=5&who=ada", "", 400,
			why{Status: 400, ScimType: "invalidFilter", Operation: none, Offset: 22, BulkIndex: none, ResourceType: "User", Query: `count=(string)&filter=userName eq "(string)" and unknown gt (number)&unknown=(string)`}},
		{"the scope", hr, "POST", "/Groups", `{"displayName":"Crew"}`, 403,
			why{Status: 403, Detail: "the scopes of the client, or the roles of the person, do not permit this", Operation: none, Offset: none, BulkIndex: none}},
		{"an endpoint that is none", hr, "GET", "/Boats", "", 404,
			why{Status: 404, Detail: "no such endpoint", Operation: none, Offset: none, BulkIndex: none}},
		{"an id that is none", hr, "GET", "/Users/ada@example.org", "", 404,
			why{Status: 404, Detail: "no such resource", Operation: none, Offset: none, BulkIndex: none, ResourceType: "User"}},
		{"what is no JSON", hr, "POST", "/Users", `userName=ada`, 400,
			why{Status: 400, ScimType: "invalidSyntax", Detail: "*", Operation: none, Offset: none, BulkIndex: none, ResourceType: "User", Body: `"(no acceptable JSON)"`}},
		{"an attribute nobody knows", strict, "POST", "/Users", `{"schemas":["` + schemas.UserURI + `"],"userName":"grace","shoeSize":42}`, 400,
			why{Status: 400, ScimType: "invalidSyntax", Detail: "the body has an attribute that no schema of User defines", Operation: none, Offset: none, BulkIndex: none, ResourceType: "User", Tolerated: true,
				Body: `{"schemas":["` + schemas.UserURI + `"],"unknown":"(number)","userName":"(string, 5)"}`}},
		{"an operation of a bulk request", hr, "POST", "/Bulk", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[
			{"method":"POST","path":"/Users","bulkId":"a","data":{"schemas":["` + schemas.UserURI + `"],"userName":"linus"}},
			{"method":"PATCH","path":"/Users/` + id + `","data":{"schemas":["` + patchURI + `"],"Operations":[{"op":"remove","path":"userName"}]}}]}`, 200,
			why{Status: 400, ScimType: "*", Detail: "*", Operation: 0, Offset: none, BulkIndex: 1, ResourceType: "User", ResourceID: id, Attribute: "userName"}},
	} {
		r := w.as(t, c.token, c.method, c.path, c.body)
		request := r.Header.Get("X-Request-Id")
		if r.Status != c.status {
			t.Errorf("%s: %d %s", c.what, r.Status, r.Body)
			continue
		}
		var found testserver.Response
		settled(t, func() bool {
			w.Requests.Flush(t.Context())
			found = w.get(t, "/admin/v1/provisioning-log/"+request, in)
			return found.Status == 200
		})
		e := must[api.ProvisioningRequest](t, found, 200)
		if len(e.Failures) != 1 || !e.Refused || e.Status != c.status || e.Method != c.method || e.RequestID != request {
			t.Errorf("%s: %s", c.what, found.Body)
			continue
		}
		f := e.Failures[0]
		at := func(n *int) int {
			if n == nil {
				return none
			}
			return *n
		}
		got := why{f.Status, f.ScimType, f.Detail, f.Attribute, at(f.Operation), at(f.Offset), at(f.BulkOperation), e.ResourceType, e.ResourceID, e.Query, string(e.Body), len(f.Tolerated) > 0}
		if f.BulkOperation != nil {
			got.ResourceType, got.ResourceID = f.ResourceType, f.ResourceID
			if string(f.Body) != `{"Operations":[{"op":"remove","path":"userName"}],"schemas":["`+patchURI+`"]}` || e.Operations != 2 || e.Failed != 1 {
				t.Errorf("%s: %s", c.what, found.Body)
			}
		}
		if c.want.Detail == "*" && got.Detail != "" {
			got.Detail = "*"
		}
		if c.want.ScimType == "*" && got.ScimType != "" {
			got.ScimType = "*"
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
		if f.Meaning == "" || f.Reference == "" {
			t.Errorf("%s is not explained: %s", c.what, found.Body)
		}
		for _, value := range []string{"ADA", "ada@", "Hush", "vermilion", "colour", "favourite", "Captain", "maybe", "zip", "12345", "work", "shoeSize", "Crew", "Boats", "grace", "linus"} {
			if strings.Contains(found.Body, value) {
				t.Errorf("%s: %q stands in %s", c.what, value, found.Body)
			}
		}
	}

	// A list of one client's, by page and by what is asked for.
	all := w.log(t, in, "client="+ids["hr connector"], 10)
	if !slices.ContainsFunc(all, func(e api.ProvisioningRequest) bool {
		return !e.Refused && e.Status == 201 && e.ResourceID == id && e.Route == "/scim/v2/Users" && e.Body == nil
	}) {
		t.Errorf("what succeeded is not in the log: %v", all)
	}
	for _, e := range all {
		if e.Client != ids["hr connector"] {
			t.Errorf("another's request: %v", e)
		}
	}
	var paged []api.ProvisioningRequest
	for query := "client=" + ids["hr connector"] + "&limit=3"; ; {
		page := must[api.ProvisioningLog](t, w.get(t, "/admin/v1/provisioning-log?"+query, in), 200)
		paged = append(paged, page.Requests...)
		if page.Next == "" {
			break
		}
		query = "client=" + ids["hr connector"] + "&limit=3&after=" + page.Next
	}
	if diff := cmp.Diff(all, paged); diff != "" {
		t.Errorf("in pages (-whole +pages):\n%s", diff)
	}
	if got := w.log(t, in, "resourceId="+id+"&refused=true", 3); len(got) != 3 { // two PATCH, and one in Bulk
		t.Errorf("%d requests about the user were refused", len(got))
	}
	if got := w.log(t, in, "since="+w.now().Add(time.Hour).Format(time.RFC3339), 0); len(got) != 0 {
		t.Errorf("%d requests of the future", len(got))
	}
	for query, want := range map[string]int{"client=" + nobody: 404, "refused=perhaps": 400, "since=yesterday": 400, "limit=0": 400, "after=x": 400, "what=ever": 400} {
		if r := w.get(t, "/admin/v1/provisioning-log?"+query, in); r.Status != want {
			t.Errorf("%s: %d %s", query, r.Status, r.Body)
		}
	}
	if r := w.get(t, "/admin/v1/provisioning-log/0000", in); r.Status != 404 {
		t.Errorf("a request that never was: %d %s", r.Status, r.Body)
	}

	// It is over after a week, before it is swept and when it is.
	w.advance(7*24*time.Hour + time.Minute)
	if items, err := w.Store.Items(t.Context(), storage.DefaultTenant, "provisioning-log", ""); err != nil || len(items) == 0 {
		t.Errorf("%d items, %v", len(items), err)
	}
	in = w.mfa(t, w.person(t, "another integrator", auth.Auditor)).Token
	if got := w.log(t, in, "client="+ids["hr connector"], 0); len(got) != 0 {
		t.Errorf("%d requests are still there", len(got))
	}
	if n, err := w.Store.SweepItems(t.Context(), w.now()); err != nil || n < len(all) {
		t.Errorf("%d swept, %v", n, err)
	}
}

// TestProvisioningLogTenants: nobody sees what clients of another tenant sent.
func TestProvisioningLogTenants(t *testing.T) { onStores(t, testProvisioningLogTenants) }

func testProvisioningLogTenants(t *testing.T, w *world) {
	const request = "chosen-by-the-client"
	in := w.mfa(t, w.person(t, "integrator", auth.ApplicationAdministrator)).Token
	other := w.clientOf(t, "elsewhere")
	w.as(t, other, "GET", "/Users/nobody", "", "X-Request-Id", request)
	settled(t, func() bool { // or there would be nothing to see
		w.Requests.Flush(t.Context())
		items, err := w.Store.Items(t.Context(), "elsewhere", "provisioning-log", "request:"+request)
		if err != nil {
			t.Fatal(err)
		}
		return len(items) == 1
	})
	if r := w.get(t, "/admin/v1/provisioning-log/"+request, in); r.Status != 404 {
		t.Errorf("a request of another tenant: %d %s", r.Status, r.Body)
	}
	for _, e := range w.log(t, in, "", 0) {
		if e.RequestID == request {
			t.Errorf("a request of another tenant: %v", e)
		}
	}
}

// TestProvisioningLogSize: of each client the last ones are kept.
func TestProvisioningLogSize(t *testing.T) {
	onStoresWith(t, testserver.Options{Server: trusting, LogSize: 20}, func(t *testing.T, w *world) {
		in := w.mfa(t, w.person(t, "integrator", auth.ApplicationAdministrator)).Token
		noisy, quiet := w.Client(t, "noisy", "", "users"), w.Client(t, "quiet", "", "users")
		w.as(t, quiet, "GET", "/Users/1", "", "X-Request-Id", "quiet")
		for i := range 60 {
			w.as(t, noisy, "GET", "/Users/1", "", "X-Request-Id", fmt.Sprint("noisy-", i))
			w.Requests.Flush(t.Context())
		}
		w.log(t, in, "refused=true", 20)
		kept := map[string]int{}
		for _, e := range w.log(t, in, "refused=true&limit=1000", 20) {
			kept[strings.TrimRight(e.RequestID, "-0123456789")]++
		}
		if kept["quiet"] != 1 || kept["noisy"] < 20 || kept["noisy"] > 26 {
			t.Errorf("kept are %v", kept)
		}
		if r := w.get(t, "/admin/v1/provisioning-log/noisy-0", in); r.Status != 404 {
			t.Errorf("the first one: %d", r.Status)
		}
	})
}
