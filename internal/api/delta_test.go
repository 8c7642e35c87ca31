package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestDelta: a client that has read everything asks for what changed since, and gets each
// resource once, as it is now.
func TestDelta(t *testing.T) {
	shows(t, "A9")
	onStoresWith(t, testserver.Options{ByHand: true}, testDelta)
}

type deltaAnswer struct {
	TotalResults   int
	MoreAvailable  bool
	NextDeltaToken struct{ Value, Expiry string }
	Resources      []struct {
		Schemas                                     []string
		ResourceType, ChangeType, ChangedResourceID string
		Data                                        map[string]any
	}
}

func (d deltaAnswer) changes() (list []string) {
	for _, r := range d.Resources {
		name := ""
		if r.Data != nil {
			name = fmt.Sprint(r.Data["userName"])
		}
		list = append(list, strings.TrimSpace(r.ChangeType+" "+name))
	}
	return list
}

func testDelta(t *testing.T, w *world) {
	const uri = "urn:ietf:params:scim:api:messages:2.0:delta:request"
	ask := func(token string, more string) testserver.Response {
		t.Helper()
		return w.Do(t, "POST", "/Users/.delta", fmt.Sprintf(`{"schemas":[%q],"deltaToken":%q%s}`, uri, token, more))
	}
	ana, ben := w.userNamed(t, "ana", ""), w.userNamed(t, "ben", "")
	begun := must[struct {
		Schemas       []string
		Value, Expiry string
	}](t, w.Do(t, "GET", "/Users/.deltaToken", ""), 200)
	if begun.Schemas[0] != "urn:ietf:params:scim:api:messages:2.0:delta:token" || begun.Expiry == "" {
		t.Errorf("%+v", begun)
	}
	if r := w.Do(t, "GET", "/Users/.deltaToken?filter=active+eq+true", ""); r.Status != 400 || !strings.Contains(r.Body, "delta query") {
		t.Errorf("a token with a filter: %d %s", r.Status, r.Body)
	}
	// Whoever means less than everything must not get more.
	for name, r := range map[string]testserver.Response{
		"in the body": ask(begun.Value, `,"filter":"active eq true"`), "no string": ask(begun.Value, `,"Filter":{}`),
		"in the address": w.Do(t, "POST", "/Users/.delta?filter=active+eq+true", fmt.Sprintf(`{"schemas":[%q],"deltaToken":%q}`, uri, begun.Value)),
	} {
		if r.Status != 400 || !strings.Contains(r.Body, "invalidFilter") || !strings.Contains(r.Body, "delta query") {
			t.Errorf("a filter %s: %d %s", name, r.Status, r.Body)
		}
	}
	none := must[deltaAnswer](t, ask(begun.Value, ""), 200)
	if none.TotalResults != 0 || none.MoreAvailable || none.NextDeltaToken.Value == "" {
		t.Errorf("nothing has changed: %+v", none)
	}
	w.patchUser(t, ana, "title", "Boss")
	cleo := w.userNamed(t, "cleo", "")
	w.patchUser(t, cleo, "title", "Clerk")
	w.patchUser(t, ana, "title", "Chief")
	if r := w.Do(t, "POST", "/Groups", fmt.Sprintf(`{"schemas":[%q],"displayName":"g","members":[{"value":%q}]}`, schemas.GroupURI, ana)); r.Status != 201 {
		t.Fatal(r.Body)
	}
	if r := w.Do(t, "DELETE", "/Users/"+ben, ""); r.Status != 204 {
		t.Fatal(r.Body)
	}
	got := must[deltaAnswer](t, ask(begun.Value, ""), 200)
	if diff := cmp.Diff([]string{"update ana", "create cleo", "delete"}, got.changes()); diff != "" || got.MoreAvailable {
		t.Errorf("what changed (-want +got):\n%s", diff)
	}
	if d := got.Resources[0]; d.Data["title"] != "Chief" || d.ChangedResourceID != ana || d.ResourceType != "User" || d.Data["groups"] == nil || !slices.Contains(d.Schemas, "urn:ietf:params:scim:api:messages:2.0:delta:response") {
		t.Errorf("%+v", d)
	}
	if d := got.Resources[2]; d.ChangedResourceID != ben {
		t.Errorf("%+v", d)
	}
	// A page at a time, and only what is asked for.
	var walked []string
	for token := begun.Value; ; {
		page := must[deltaAnswer](t, ask(token, `,"count":1,"attributes":["userName"]`), 200)
		walked = append(walked, page.changes()...)
		if len(page.Resources) > 1 || len(page.Resources) == 1 && page.Resources[0].Data["title"] != nil || len(walked) > 10 {
			t.Fatalf("%+v", page)
		}
		if token = page.NextDeltaToken.Value; !page.MoreAvailable {
			break
		}
	}
	// Whoever changed twice may be in two pages.
	if diff := cmp.Diff([]string{"update ana", "create cleo", "update ana", "delete"}, walked); diff != "" {
		t.Errorf("page by page (-want +got):\n%s", diff)
	}
	if d := must[deltaAnswer](t, ask(got.NextDeltaToken.Value, ""), 200); d.TotalResults != 0 {
		t.Errorf("nothing has changed since: %+v", d)
	}
	// A token is for one client and one type.
	other := w.Issue(t, &storage.Client{Tenant: storage.DefaultTenant, Name: "other", Scopes: []string{"users", "groups"}})
	body := fmt.Sprintf(`{"schemas":[%q],"deltaToken":%q}`, uri, begun.Value)
	for name, r := range map[string]testserver.Response{
		"another client": w.Do(t, "POST", "/Users/.delta", body, "Authorization", "Bearer "+other), "another type": w.Do(t, "POST", "/Groups/.delta", body),
		"no token": ask("", ""), "a made up one": ask(begun.Value[:20], ""), "no schema": w.Do(t, "POST", "/Users/.delta", `{"deltaToken":"x"}`),
		"a number": w.Do(t, "POST", "/Users/.delta", fmt.Sprintf(`{"schemas":[%q],"deltaToken":1}`, uri)), "no count": ask(begun.Value, `,"count":0`),
	} {
		if r.Status != 400 {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	w.advance(7*24*time.Hour + time.Minute)
	if r := ask(begun.Value, ""); r.Status != 400 || !strings.Contains(r.Body, "expiredCursor") || !strings.Contains(r.Body, "read all resources") {
		t.Errorf("after a week: %d %s", r.Status, r.Body)
	}
	config := w.Do(t, "GET", "/ServiceProviderConfig", "")
	for _, text := range []string{`"DeltaQuery":{`, `"supportedResources":["User","Group"]`, `"asyncRequest":"request"`, "urn:ietf:params:scim:event:prov:delete"} {
		if !strings.Contains(config.Body, text) {
			t.Errorf("discovery has no %s: %s", text, config.Body)
		}
	}
	if r := w.Do(t, "GET", "/ServiceProviderConfig", "", "Authorization", "Bearer "+other); strings.Contains(r.Body, "securityEvents") || strings.Contains(r.Body, "DeltaQuery") {
		t.Errorf("a client without the scope is told of events: %s", r.Body)
	}
}
