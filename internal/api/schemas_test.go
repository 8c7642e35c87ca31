package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

const badgeURN = "urn:example:params:scim:schemas:extension:badge:1.0:User"

// badge is an extension of users with one attribute of each kind that matters.
func badge() object {
	return object{"extends": []string{"User"}, "schema": object{"id": badgeURN, "name": "Badge", "attributes": []object{
		{"name": "number", "type": "string", "uniqueness": "server", "caseExact": true},
		{"name": "colour", "type": "string"},
		{"name": "level", "type": "integer"},
		{"name": "issued", "type": "dateTime"},
		{"name": "code", "type": "string", "mutability": "writeOnly", "returned": "never"},
		{"name": "doors", "type": "complex", "multiValued": true, "subAttributes": []object{
			{"name": "value", "type": "string", "required": true}, {"name": "type", "type": "string"},
		}},
	}}}
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

// TestDevicePack plays a script for devices once the pack has been added.
func TestDevicePack(t *testing.T) {
	shows(t, "A8")
	onStores(t, func(t *testing.T, w *world) {
		d := newDefiner(t, w)
		list := must[struct{ Schemas []schemas.CustomSchema }](t, d.admin("POST", "/schema-packs/device", nil), 201)
		if len(list.Schemas) != 8 {
			t.Errorf("the pack has %d schemas", len(list.Schemas))
		}
		if r := d.admin("POST", "/schema-packs/device", nil); r.Status != 409 {
			t.Errorf("once more: %d %s", r.Status, r.Body)
		}
		if r := d.admin("POST", "/schema-packs/printer", nil); r.Status != 404 {
			t.Errorf("another pack: %d %s", r.Status, r.Body)
		}
		runner := w.Runner(t)
		scimtest.Run(t, os.DirFS("testdata"), func(*testing.T) *scimtest.Runner { return runner })
	})
}

const gadgetURN = "urn:example:params:scim:schemas:core:1.0:Gadget"

func gadget(attributes ...object) object {
	return object{"resourceType": object{"name": "Gadget", "endpoint": "/Gadgets"}, "schema": object{"id": gadgetURN, "attributes": append([]object{
		{"name": "displayName", "type": "string", "required": true}}, attributes...)}}
}

// offenders are what a problem lists.
type offenders struct {
	Type      string
	Count     int
	Offenders []struct {
		Type, ID, Detail string
		Deleted          bool
	}
}

// TestRedefinition: a definition changes only where what is stored fits the new one, and
// then all that is searched by says what the new one does.
func TestRedefinition(t *testing.T) {
	shows(t, "A8")
	onStores(t, func(t *testing.T, w *world) {
		d := newDefiner(t, w)
		put := func(status int, body object) (o offenders) {
			t.Helper()
			r := d.admin("PUT", "/schemas/"+body["schema"].(object)["id"].(string), body)
			if r.Status != status {
				t.Fatalf("%d %s, want %d", r.Status, r.Body, status)
			}
			if status != 200 {
				must[object](t, r, status)
				if err := json.Unmarshal([]byte(r.Body), &o); err != nil {
					t.Fatal(err)
				}
			}
			return o
		}
		must[object](t, d.admin("POST", "/schemas", gadget(object{"name": "serial", "type": "string"}, object{"name": "size", "type": "string"})), 201)
		one := d.scim(201, "POST", "/Gadgets", object{"displayName": "one", "serial": "X1", "size": "12"})["id"].(string)
		two := d.scim(201, "POST", "/Gadgets", object{"displayName": "two", "serial": "x1"})["id"].(string)
		d.scim(201, "POST", "/Gadgets", object{"displayName": "three"})

		serial := func(more object) object {
			s := object{"name": "serial", "type": "string"}
			for k, v := range more {
				s[k] = v
			}
			return s
		}
		size := object{"name": "size", "type": "string"}
		o := put(409, gadget(serial(object{"uniqueness": "server"}), size))
		if o.Type != "urn:roster:problem:stored-data" || o.Count != 1 || o.Offenders[0].ID != two || !strings.Contains(o.Offenders[0].Detail, one) {
			t.Errorf("two with one serial number: %+v", o)
		}
		if o := put(409, gadget(serial(object{"required": true}), size)); o.Count != 1 || o.Offenders[0].Type != "Gadget" {
			t.Errorf("one without a serial number: %+v", o)
		}
		if o := put(409, gadget(serial(nil))); o.Count != 1 || o.Offenders[0].ID != one {
			t.Errorf("a size that would have no attribute: %+v", o)
		}
		if o := put(409, gadget(serial(nil), object{"name": "size", "type": "integer"})); o.Count != 1 || strings.Contains(fmt.Sprint(o), "12") && !strings.Contains(one, "12") {
			t.Errorf("a size that is no integer: %+v", o)
		}
		if o := put(409, gadget(serial(nil), object{"name": "Size", "type": "string"})); o.Count != 1 || o.Offenders[0].ID != one {
			t.Errorf("a size under a name that is spelled otherwise: %+v", o)
		}
		upper := gadget(serial(nil), size)
		upper["schema"].(object)["id"] = strings.Replace(gadgetURN, "Gadget", "GADGET", 1)
		if o := put(409, upper); o.Count != 3 {
			t.Errorf("a URN that is spelled otherwise: %+v", o)
		}
		if o := put(409, gadget(serial(nil), object{"name": "size", "type": "string", "returned": "never"})); o.Count != 1 || o.Offenders[0].ID != one {
			t.Errorf("a size that nobody may read, and that is kept: %+v", o)
		}
		if o := put(409, gadget(serial(nil), object{"name": "size", "type": "string", "mutability": "readOnly"})); o.Count != 1 || o.Offenders[0].ID != one {
			t.Errorf("a size that nobody may give, and that is there: %+v", o)
		}
		// None of these has changed anything, and nobody waits any longer.
		d.scim(201, "POST", "/Gadgets", object{"displayName": "four", "size": "4"})
		if got := d.found("/Gadgets", `serial eq "X1"`); len(got) != 2 {
			t.Errorf("serial numbers are compared exactly: %q", got)
		}

		// With case they are unique, and the index is made anew.
		put(200, gadget(serial(object{"uniqueness": "server", "caseExact": true}), size))
		for filter, want := range map[string][]string{`serial eq "X1"`: {"one"}, `serial eq "x1"`: {"two"}, `serial sw "x"`: {"two"}, `size eq "4"`: {"four"}} {
			if got := d.found("/Gadgets", filter); !slices.Equal(got, want) {
				t.Errorf("%s selects %q, want %q", filter, got, want)
			}
		}
		d.scim(409, "POST", "/Gadgets", object{"displayName": "five", "serial": "x1"})
		d.scim(200, "PUT", "/Gadgets/"+two, object{"displayName": "two", "serial": "X2"})
		five := d.scim(201, "POST", "/Gadgets", object{"displayName": "five", "serial": "x1"})["id"].(string)
		if v := d.scim(200, "GET", "/Gadgets/"+one, nil)["meta"].(object)["version"]; v != `W/"1"` {
			t.Errorf("a new definition is no new version of a resource: %v", v)
		}
		put(200, gadget(serial(nil), size, object{"name": "tags", "type": "string", "multiValued": true}))
		d.scim(201, "POST", "/Gadgets", object{"displayName": "six", "serial": "X1", "tags": []string{"a", "b"}})
		if got := d.found("/Gadgets", `serial eq "x1"`); !slices.Equal(got, []string{"five", "one", "six"}) {
			t.Errorf("without uniqueness: %q", got)
		}

		// What uses a type or an extension keeps it.
		must[object](t, d.admin("POST", "/schemas", badge()), 201)
		ann := d.scim(201, "POST", "/Users", badged("ann", object{"level": 1}))["id"].(string)
		d.scim(204, "DELETE", "/Users/"+ann, nil)
		bob := d.scim(201, "POST", "/Users", badged("bob", object{"level": 2}))["id"].(string)
		cy := d.scim(201, "POST", "/Users", badged("cy", object{"number": "7"}))["id"].(string)
		d.scim(204, "DELETE", "/Users/"+cy, nil)
		dan := d.scim(201, "POST", "/Users", badged("dan", object{"number": "7"}))["id"].(string)
		back := "/deleted-users/" + cy + "/restore"
		if p := must[struct{ Type, Attribute, Detail string }](t, d.admin("POST", back, object{}), 409); p.Type != "urn:roster:problem:name-taken" || p.Attribute != badgeURN+":number" || !strings.HasSuffix(p.Detail, "change it there") {
			t.Errorf("a number that somebody else has by now: %+v", p)
		}
		d.scim(204, "DELETE", "/Users/"+dan, nil)
		for _, id := range []string{cy, dan} {
			if r := d.admin("DELETE", "/deleted-users/"+id, nil); r.Status != 204 {
				t.Errorf("purging %s: %d %s", id, r.Status, r.Body)
			}
		}
		r := d.admin("DELETE", "/schemas/"+badgeURN, nil)
		if err := json.Unmarshal([]byte(r.Body), &o); err != nil || r.Status != 409 || o.Count != 2 || o.Offenders[0].ID != bob || o.Offenders[0].Deleted || o.Offenders[1].ID != ann || !o.Offenders[1].Deleted {
			t.Errorf("an extension that two users have: %d %s", r.Status, r.Body)
		}
		must[object](t, d.admin("POST", "/deleted-users/"+ann+"/restore", object{}), 200)
		if u := d.scim(200, "GET", "/Users/"+ann, nil); u[badgeURN] == nil {
			t.Errorf("a restored user has lost the extension: %v", u)
		}
		for _, id := range []string{ann, bob} {
			d.scim(200, "PATCH", "/Users/"+id, object{"schemas": []string{patchURI}, "Operations": []object{{"op": "remove", "path": badgeURN}}})
		}
		if r := d.admin("DELETE", "/schemas/"+url.PathEscape(badgeURN), nil); r.Status != 204 {
			t.Errorf("an extension that nobody has: %d %s", r.Status, r.Body)
		}
		d.scim(404, "GET", "/Schemas/"+badgeURN, nil)

		extended := object{"extends": []string{"Gadget"}, "schema": object{"id": "urn:example:gadget:extra", "attributes": []object{{"name": "x"}}}}
		must[object](t, d.admin("POST", "/schemas", extended), 201)
		if r := d.admin("DELETE", "/schemas/"+gadgetURN, nil); r.Status != 409 || !strings.Contains(r.Body, "extend") {
			t.Errorf("a type with an extension: %d %s", r.Status, r.Body)
		}
		if r := d.admin("DELETE", "/schemas/urn:example:gadget:extra", nil); r.Status != 204 {
			t.Errorf("the extension: %d %s", r.Status, r.Body)
		}
		r = d.admin("DELETE", "/schemas/"+gadgetURN, nil)
		if err := json.Unmarshal([]byte(r.Body), &o); err != nil || r.Status != 409 || o.Count != 6 {
			t.Errorf("a type with resources: %d %s", r.Status, r.Body)
		}
		list := d.scim(200, "GET", "/Gadgets", nil)["Resources"].([]any)
		for _, g := range list {
			d.scim(204, "DELETE", "/Gadgets/"+g.(object)["id"].(string), nil)
		}
		if r := d.admin("DELETE", "/schemas/"+gadgetURN, nil); r.Status != 204 {
			t.Errorf("a type without resources: %d %s", r.Status, r.Body)
		}
		d.scim(404, "GET", "/Gadgets", nil)
		if n, err := w.Store.CountDeleted(t.Context(), storage.DefaultTenant, "Gadget"); err != nil || n != 0 {
			t.Errorf("%d resources of the type are waiting to be purged: %v", n, err)
		}
		// What is required and was not kept is missed once it would be kept.
		must[object](t, d.admin("POST", "/schemas", object{"resourceType": object{"name": "Lock", "endpoint": "/Locks"}, "schema": object{"id": "urn:example:lock", "attributes": []object{
			{"name": "pin", "required": true, "returned": "never"}, {"name": "keys", "type": "complex", "multiValued": true, "subAttributes": []object{{"name": "value"}, {"name": "cut"}}},
		}}}), 201)
		lock := d.scim(201, "POST", "/Locks", object{"pin": "1234", "keys": []object{{"value": "k", "cut": "9"}}})["id"].(string)
		locks := func(pin, cut object) object {
			pin["name"], cut["name"] = "pin", "cut"
			return object{"resourceType": object{"name": "Lock", "endpoint": "/Locks"}, "schema": object{"id": "urn:example:lock", "attributes": []object{
				pin, {"name": "keys", "type": "complex", "multiValued": true, "subAttributes": []object{{"name": "value"}, cut}},
			}}}
		}
		secret := func() object { return object{"required": true, "returned": "never"} }
		if o := put(409, locks(object{"required": true}, object{})); o.Count != 1 || o.Offenders[0].ID != lock {
			t.Errorf("a pin that was not kept: %+v", o)
		}
		if o := put(409, locks(secret(), object{"returned": "never"})); o.Count != 1 || !strings.Contains(o.Offenders[0].Detail, "keys.cut") {
			t.Errorf("a cut that nobody may read, and that is kept: %+v", o)
		}
		put(200, locks(object{}, object{}))
		d.scim(200, "PATCH", "/Locks/"+lock, object{"schemas": []string{patchURI}, "Operations": []object{{"op": "remove", "path": "keys.cut"}}})
		put(200, locks(object{}, object{"returned": "never"}))
		put(200, locks(secret(), object{"returned": "never"})) // there is no pin yet, which PUT will ask for
		put(200, locks(secret(), object{"returned": "never", "type": "integer"}))
		// Where there are no values, names may be spelled otherwise.
		d.scim(204, "DELETE", "/Locks/"+lock, nil)
		put(200, object{"resourceType": object{"name": "Lock", "endpoint": "/Locks"}, "schema": object{"id": "urn:example:lock", "attributes": []object{{"name": "PIN"}}}})
		// What there is already is not left without an extension that it has to have.
		room := func(required bool) object {
			return object{"extends": []string{"Hotel"}, "required": required, "schema": object{"id": "urn:example:stars", "attributes": []object{{"name": "count", "type": "integer"}}}}
		}
		must[object](t, d.admin("POST", "/schemas", object{"resourceType": object{"name": "Hotel", "endpoint": "/Hotels"}, "schema": object{"id": "urn:example:hotel", "attributes": []object{{"name": "displayName"}}}}), 201)
		hotel := d.scim(201, "POST", "/Hotels", object{"displayName": "Ritz"})["id"].(string)
		if r := d.admin("POST", "/schemas", room(true)); r.Status != 409 || !strings.Contains(r.Body, "urn:roster:problem:conflict") {
			t.Errorf("an extension that a hotel does not have: %d %s", r.Status, r.Body)
		}
		must[object](t, d.admin("POST", "/schemas", room(false)), 201)
		if o := put(409, room(true)); o.Count != 1 || o.Offenders[0].ID != hotel {
			t.Errorf("an extension that a hotel does not have yet: %+v", o)
		}
		d.scim(200, "PATCH", "/Hotels/"+hotel, object{"schemas": []string{patchURI}, "Operations": []object{{"op": "add", "path": "urn:example:stars:count", "value": 5}}})
		put(200, room(true))
		// Another type of this name has nothing of it.
		must[object](t, d.admin("POST", "/schemas", gadget(serial(object{"uniqueness": "server"}))), 201)
		d.scim(201, "POST", "/Gadgets", object{"displayName": "new", "serial": "X1"})
		// Nothing is done with it that is done with users of the same attributes.
		must[object](t, d.admin("POST", "/schemas", object{"resourceType": object{"name": "Gizmo", "endpoint": "/Gizmos"}, "schema": object{"id": "urn:example:gizmo", "attributes": []object{
			{"name": "active"}, {"name": "displayName", "type": "integer"}, {"name": "emails", "type": "complex", "multiValued": true, "subAttributes": []object{{"name": "value", "caseExact": true}}},
		}}}), 201)
		gizmo := d.scim(201, "POST", "/Gizmos", object{"displayName": 7, "emails": []object{{"value": "X"}, {"value": "x"}}})
		if gizmo["active"] != nil || gizmo["displayName"] != 7.0 {
			t.Errorf("a gizmo: %v", gizmo)
		}
		for _, f := range []string{`emails.value eq "x" and displayName gt 6`, `displayName eq 7`} {
			if l := d.scim(200, "GET", "/Gizmos?filter="+url.QueryEscape(f), nil); l["totalResults"] != 1.0 {
				t.Errorf("gizmos with %s: %v", f, l)
			}
		}
		entries, err := w.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if last := entries[len(entries)-1]; last.Action != "resource.create" || last.Type != "Gizmo" {
			t.Errorf("the last entry is %s of a %s", last.Action, last.Type)
		}
		if o := put(409, object{"resourceType": object{"name": "Gizmo", "endpoint": "/Gizmos"}, "schema": object{"id": "urn:example:gizmo", "attributes": []object{
			{"name": "active"}, {"name": "displayName", "type": "integer"}, {"name": "emails", "type": "complex", "multiValued": true, "subAttributes": []object{{"name": "value"}}},
		}}}); o.Count != 1 || !strings.Contains(o.Offenders[0].Detail, "emails") {
			t.Errorf("two values that would be the same: %+v", o)
		}
		d.scim(404, "GET", "/Gadgets/"+five, nil)
	})
}

// TestDefinitionRefused: what is no schema by RFC 7643, and what would take something from
// others, is refused with the attribute and the rule.
func TestDefinitionRefused(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	d := newDefiner(t, w)
	with := func(a object) object {
		return object{"extends": []string{"User"}, "schema": object{"id": badgeURN, "attributes": []object{a}}}
	}
	of := func(urn string) object {
		return object{"extends": []string{"User"}, "schema": object{"id": urn, "attributes": []object{{"name": "a"}}}}
	}
	typed := func(name, endpoint string) object {
		return object{"resourceType": object{"name": name, "endpoint": endpoint}, "schema": object{"id": gadgetURN, "attributes": []object{{"name": "a"}}}}
	}
	many := badge()
	for i := range 200 {
		s := many["schema"].(object)
		s["attributes"] = append(s["attributes"].([]object), object{"name": fmt.Sprint("more", i)})
	}
	gadgets := gadget()
	gadgets["required"] = true
	for name, c := range map[string]struct {
		body object
		want string
	}{
		"type":                        {with(object{"name": "a", "type": "text"}), "attribute a: type"},
		"mutability":                  {with(object{"name": "a", "mutability": "sometimes"}), "attribute a: mutability"},
		"name":                        {with(object{"name": "a b"}), "name must be a letter"},
		"a common attribute":          {with(object{"name": "Meta"}), "attribute Meta: every resource has"},
		"complex below complex":       {with(object{"name": "a", "type": "complex", "subAttributes": []object{{"name": "b", "type": "complex"}}}), "attribute a.b:"},
		"a sub-attribute twice":       {with(object{"name": "a", "type": "complex", "subAttributes": []object{{"name": "b"}, {"name": "B"}}}), "attribute a.B:"},
		"uniqueness of an integer":    {with(object{"name": "a", "type": "integer", "uniqueness": "server"}), "attribute a: uniqueness"},
		"uniqueness of a secret":      {with(object{"name": "a", "returned": "never", "uniqueness": "server"}), "attribute a: uniqueness"},
		"a secret that is told":       {with(object{"name": "a", "mutability": "writeOnly"}), "attribute a:"},
		"required and readOnly":       {with(object{"name": "a", "mutability": "readOnly", "required": true}), "attribute a:"},
		"references of a string":      {with(object{"name": "a", "referenceTypes": []string{"User"}}), "attribute a: referenceTypes"},
		"canonical values of numbers": {with(object{"name": "a", "type": "integer", "canonicalValues": []string{"1"}}), "attribute a: canonicalValues"},
		"an unknown characteristic":   {with(object{"name": "a", "mutabilty": "readOnly"}), "no such member"},
		"too many":                    {many, "at most 200"},
		"no URN":                      {of("badge"), "schema.id"},
		"a built-in URN":              {of("urn:ietf:params:scim:schemas:core:2.0:user"), "schema.id"},
		"what begins a built-in one":  {of("urn:ietf:params:scim:schemas:core"), "schema.id"},
		"behind a built-in one":       {of(schemas.UserURI + ":name"), "schema.id"},
		"a reserved URN":              {of("urn:ietf:params:scim:schemas:extension:roster:2.0:Badge"), "reserved"},
		"a built-in type":             {typed("user", "/People"), "name or endpoint"},
		"a built-in endpoint":         {typed("Person", "/users"), "name or endpoint"},
		"a reserved type":             {typed("Bulk", "/Bulks"), "reserved"},
		"a reserved endpoint":         {typed("Myself", "/Me"), "reserved"},
		"an endpoint with more":       {typed("Gadget", "/Gadgets/x"), "endpoint"},
		"a reserved attribute":        {gadget(object{"name": "Password"}), "attribute Password: the name is reserved"},
		"groups that are written":     {gadget(object{"name": "groups"}), "attribute groups: the name is reserved"},
		"nothing to extend":           {object{"schema": object{"id": badgeURN, "attributes": []object{{"name": "a"}}}}, "either extends or resourceType"},
		"an unknown type":             {object{"extends": []string{"Gizmo"}, "schema": object{"id": badgeURN, "attributes": []object{{"name": "a"}}}}, "extends"},
		"roles":                       {object{"extends": []string{"Role"}, "schema": object{"id": badgeURN, "attributes": []object{{"name": "a"}}}}, "extends: expected User, Group"},
		"required of users":           {object{"extends": []string{"User"}, "required": true, "schema": object{"id": badgeURN, "attributes": []object{{"name": "a"}}}}, "required"},
		"a type that is required":     {gadgets, "required: is for extensions"},
	} {
		r := d.admin("POST", "/schemas", c.body)
		if r.Status != 400 || !strings.Contains(r.Body, c.want) {
			t.Errorf("%s: %d %s, want 400 with %q", name, r.Status, r.Body, c.want)
		}
	}
	must[object](t, d.admin("POST", "/schemas", badge()), 201)
	if r := d.admin("POST", "/schemas", badge()); r.Status != 409 {
		t.Errorf("the same once more: %d %s", r.Status, r.Body)
	}
	for name, body := range map[string]object{"as a type": {"resourceType": object{"name": "Badge", "endpoint": "/Badges"}, "schema": badge()["schema"]}, "another URN": of("urn:example:other")} {
		if r := d.admin("PUT", "/schemas/"+badgeURN, body); r.Status != 400 {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	if r := d.admin("PUT", "/schemas/urn:example:other", of("urn:example:other")); r.Status != 404 {
		t.Errorf("a change of nothing: %d %s", r.Status, r.Body)
	}
	if list := must[struct{ Schemas []object }](t, d.admin("GET", "/schemas", nil), 200); len(list.Schemas) != 1 {
		t.Errorf("there are %d schemas", len(list.Schemas))
	}
	for i := range schemas.MaxCustomSchemas - 1 {
		must[object](t, d.admin("POST", "/schemas", of(fmt.Sprint("urn:example:n", i))), 201)
	}
	if r := d.admin("POST", "/schemas", of("urn:example:last")); r.Status != 400 || !strings.Contains(r.Body, "as many as") {
		t.Errorf("one too many: %d %s", r.Status, r.Body)
	}
}

// gadgets gives the default tenant a resource type of its own, at /Gadgets.
func (w *world) gadgets(t *testing.T) {
	t.Helper()
	err := w.Provider.Define(t.Context(), auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}, schemas.CustomSchema{
		ResourceType: &schemas.TypeDefinition{Name: "Gadget", Endpoint: "/Gadgets"},
		Schema:       schemas.SchemaDefinition{ID: gadgetURN, Attributes: []schemas.AttributeDefinition{{Name: "serial"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}
