package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

const badgeURN = "urn:example:params:scim:schemas:extension:badge:1.0:User"

// badge is an extension of users with one attribute of each kind that matters.
func badge(more ...object) object {
	return object{"extends": []string{"User"}, "schema": object{"id": badgeURN, "name": "Badge", "attributes": append([]object{
		{"name": "number", "type": "string", "uniqueness": "server", "caseExact": true},
		{"name": "colour", "type": "string"},
		{"name": "level", "type": "integer"},
		{"name": "issued", "type": "dateTime"},
		{"name": "code", "type": "string", "mutability": "writeOnly", "returned": "never"},
		{"name": "doors", "type": "complex", "multiValued": true, "subAttributes": []object{
			{"name": "value", "type": "string", "required": true}, {"name": "type", "type": "string"},
		}},
	}, more...)}}
}

// definer is an administrator who gives a new passcode for each change.
type definer struct {
	*world
	t  *testing.T
	by *person
	in signedIn
}

func newDefiner(t *testing.T, w *world) *definer {
	t.Helper()
	p := w.person(t, "admin", auth.GlobalAdministrator)
	return &definer{w, t, p, w.mfa(t, p)}
}

// admin sends a request as the administrator, below /admin/v1.
func (d *definer) admin(method, path string, body any) testserver.Response {
	d.t.Helper()
	d.advance(time.Minute)
	d.in = must[signedIn](d.t, d.post(d.t, "/auth/v1/step-up", d.in.Token, object{"code": d.code(d.t, d.by)}), 200)
	text := ""
	header := []string{"Authorization", "Bearer " + d.in.Token}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		text, header = string(b), append(header, "Content-Type", "application/json")
	}
	return d.send(d.t, method, "/admin/v1"+path, text, header...)
}

// scim sends a request as the client and returns what it answers with.
func (d *definer) scim(status int, method, path string, body any) object {
	d.t.Helper()
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		text = string(b)
	}
	r := d.Do(d.t, method, path, text)
	if r.Status != status {
		d.t.Fatalf("%s %s: %d %s, want %d", method, path, r.Status, r.Body, status)
	}
	if r.Body == "" {
		return nil
	}
	return must[object](d.t, r, status)
}

// found returns the user names that a filter selects.
func (d *definer) found(path, filter string) []string {
	d.t.Helper()
	l := d.scim(200, "GET", path+"?filter="+url.QueryEscape(filter), nil)
	names := []string{}
	list, _ := l["Resources"].([]any)
	for _, r := range list {
		name, _ := r.(object)["userName"].(string)
		if name == "" {
			name, _ = r.(object)["displayName"].(string)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func badged(name string, badge object) object {
	return object{"schemas": []string{schemas.UserURI, badgeURN}, "userName": name, badgeURN: badge}
}

// TestExtension: an extension of users is live as soon as it has been defined, wherever
// attributes are.
func TestExtension(t *testing.T) {
	shows(t, "A8")
	onStores(t, func(t *testing.T, w *world) {
		d := newDefiner(t, w)
		d.scim(201, "POST", "/Users", badged("early", object{"number": "0"})) // what nobody has defined is ignored
		out := must[schemas.CustomSchema](t, d.admin("POST", "/schemas", badge()), 201)
		if out.Schema.ID != badgeURN || len(out.Schema.Attributes) != 6 {
			t.Errorf("the answer is %+v", out)
		}

		s := d.scim(200, "GET", "/Schemas/"+badgeURN, nil)
		if list := s["attributes"].([]any); len(list) != 6 || list[0].(object)["uniqueness"] != "server" {
			t.Errorf("the schema is %v", s)
		}
		if !strings.Contains(w.Do(t, "GET", "/Schemas", "").Body, badgeURN) || !strings.Contains(fmt.Sprint(d.scim(200, "GET", "/ResourceTypes/User", nil)), badgeURN) {
			t.Error("discovery does not tell of the schema")
		}

		ann := d.scim(201, "POST", "/Users", badged("ann", object{"number": "A1", "colour": "Red", "level": 3, "issued": "2026-01-02T03:04:05Z", "code": "s3cret",
			"doors": []object{{"value": "north", "type": "main"}, {"value": "south"}}}))
		if b := ann[badgeURN].(object); b["number"] != "A1" || b["level"] != 3.0 || b["code"] != nil || !slices.Contains(ann["schemas"].([]any), any(badgeURN)) {
			t.Errorf("the user is %v", ann)
		}
		d.scim(201, "POST", "/Users", badged("bob", object{"number": "B2", "colour": "blue", "level": 10}))
		d.scim(201, "POST", "/Users", badged("cid", object{"number": "a1"})) // caseExact
		d.scim(400, "POST", "/Users", badged("dot", object{"level": "many"}))
		d.scim(409, "POST", "/Users", badged("eve", object{"number": "B2"}))
		if e := d.scim(400, "POST", "/Users", badged("fay", object{"doors": []object{{"type": "main"}}})); !strings.Contains(fmt.Sprint(e["detail"]), badgeURN+":doors[0].value") {
			t.Errorf("a door without a value: %v", e)
		}

		path := "/Users/" + ann["id"].(string)
		patched := d.scim(200, "PATCH", path, object{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}, "Operations": []object{
			{"op": "replace", "path": badgeURN + ":colour", "value": "green"}, {"op": "remove", "path": badgeURN + `:doors[value eq "south"]`},
		}})
		if b := patched[badgeURN].(object); b["colour"] != "green" || len(b["doors"].([]any)) != 1 {
			t.Errorf("after a PATCH: %v", b)
		}
		for filter, want := range map[string][]string{
			badgeURN + `:number eq "A1"`: {"ann"}, badgeURN + `:number eq "a1"`: {"cid"}, badgeURN + `:colour eq "GREEN"`: {"ann"}, badgeURN + `:level gt 3`: {"bob"},
			badgeURN + `:issued lt "2026-02-01T00:00:00Z"`: {"ann"}, badgeURN + `:doors[value eq "north" and type eq "main"]`: {"ann"}, badgeURN + `:doors.value pr`: {"ann"},
			badgeURN + ` pr`: {"ann", "bob", "cid"}, `colour pr`: {"ann", "bob"},
		} {
			if got := d.found("/Users", filter); !slices.Equal(got, want) {
				t.Errorf("%s selects %q, want %q", filter, got, want)
			}
		}
		if r := w.Do(t, "GET", "/Users?filter="+url.QueryEscape(badgeURN+`:code eq "s3cret"`), ""); r.Status != 400 && strings.Contains(r.Body, "ann") {
			t.Errorf("a filter finds what is never returned: %d %s", r.Status, r.Body)
		}
		sorted := d.scim(200, "GET", "/Users?count=2&sortOrder=descending&sortBy="+badgeURN+":level&filter="+url.QueryEscape(badgeURN+":level pr"), nil)
		if first := sorted["Resources"].([]any)[0].(object)["userName"]; first != "bob" {
			t.Errorf("by level the first is %v", first)
		}
		only := d.scim(200, "GET", path+"?attributes="+badgeURN+":colour", nil)
		if b := only[badgeURN].(object); len(b) != 1 || only["userName"] != nil {
			t.Errorf("one attribute: %v", only)
		}
		search := d.scim(200, "POST", "/.search", object{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:SearchRequest"}, "filter": badgeURN + `:level eq 10`})
		if search["totalResults"] != 1.0 {
			t.Errorf("a search over all: %v", search)
		}
		bulk := d.scim(200, "POST", "/Bulk", object{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:BulkRequest"}, "Operations": []object{
			{"method": "POST", "path": "/Users", "bulkId": "x", "data": badged("gus", object{"number": "G7"})},
			{"method": "POST", "path": "/Users", "bulkId": "y", "data": badged("hal", object{"number": "G7"})},
		}})
		var statuses []string
		for _, o := range bulk["Operations"].([]any) {
			statuses = append(statuses, o.(object)["status"].(string))
		}
		if slices.Sort(statuses); !slices.Equal(statuses, []string{"201", "409"}) {
			t.Errorf("in a bulk request: %v", bulk)
		}
		replaced := d.scim(200, "PUT", path, badged("ann", object{"number": "A9"}))
		if b := replaced[badgeURN].(object); b["number"] != "A9" || len(b) != 1 {
			t.Errorf("after a PUT: %v", b)
		}
		d.scim(201, "POST", "/Users", badged("ivy", object{"number": "A1"})) // is free again

		other := w.customer(t, "other")
		if r := w.Do(t, "GET", "/Schemas/"+badgeURN, "", "Authorization", "Bearer "+other); r.Status != 404 {
			t.Errorf("in another tenant: %d %s", r.Status, r.Body)
		}

		entries, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		created := slices.IndexFunc(entries, func(e storage.AuditEntry) bool { return e.Action == "schema.create" })
		if created < 0 || entries[created].ID != badgeURN || len(entries[created].Changes) != 1 || !strings.Contains(string(entries[created].Changes[0].After), "writeOnly") {
			t.Errorf("the audit trail does not tell of it: %d", created)
		}
	})
}

// customer makes a tenant and returns the token of a client of it.
func (w *world) customer(t *testing.T, tenant storage.TenantID) string {
	t.Helper()
	err := w.Store.Write(t.Context(), tenant, func(tx storage.Tx) error {
		if err := tx.CreateTenant(string(tenant), w.now()); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: w.now(), Actor: "operator", Action: "tenant.create", Type: "Tenant", ID: string(tenant)})
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.Issue(t, &storage.Client{Tenant: tenant, Name: "other", Scopes: []string{"users", "groups", "resources"}})
}
