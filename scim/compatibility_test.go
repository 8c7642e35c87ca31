package scim_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

const compatibilityPage = "../docs/compatibility.md"

// habit is a row of docs/compatibility.md: something that clients send, what becomes of it
// by default and for a client with the strict profile, and requests that show both.
type habit struct {
	sent, who, byDefault, strict string
	proofs                       []proof
}

// proof is a request, and the two answers to it. In path and body {user} and {group} are
// resources of its own, which nobody has changed, {bo} is another user, and {n} a text
// that no other request has.
type proof struct {
	method, path, body string
	byDefault, strict  answer
	others             map[string]answer // by profile, or the setting for references
	media              string            // "" for application/scim+json
}

const formType = "application/x-www-form-urlencoded"

// okta adds the answer to a client with that profile.
func (p proof) okta(want answer) proof {
	p.others = map[string]answer{auth.ProfileOkta: want}
	return p
}

// late adds the answer to a client whose order of arrival is not guaranteed.
func (p proof) late(want answer) proof {
	p.others = map[string]answer{auth.ReferencesLate: want}
	return p
}

// answer is a status and, in words separated by spaces, what the body has. A word after "!"
// is what it has not.
type answer struct {
	status int
	body   string
}

var (
	refusedSyntax     = answer{400, `"scimType":"invalidSyntax"`}
	refusedValue      = answer{400, `"scimType":"invalidValue"`}
	refusedPath       = answer{400, `"scimType":"invalidPath"`}
	refusedTarget     = answer{400, `"scimType":"noTarget"`}
	refusedMutability = answer{400, `"scimType":"mutability"`}
	refusedFilter     = answer{400, `"scimType":"invalidFilter"`}
)

func ok(body string) answer     { return answer{200, body} }
func stored(body string) answer { return answer{201, body} }

// patchUser is a PATCH of {user} with these operations.
func patchUser(operations string, byDefault, strict answer) proof {
	return proof{"PATCH", "/Users/{user}", patchStart + operations + `]}`, byDefault, strict, nil, ""}
}

func patchGroup(operations string, byDefault, strict answer) proof {
	return proof{"PATCH", "/Groups/{group}", patchStart + operations + `]}`, byDefault, strict, nil, ""}
}

// postUser is a POST of a user with these attributes.
func postUser(attributes string, byDefault, strict answer) proof {
	return proof{"POST", "/Users", `{"schemas":["` + schemas.UserURI + `"],"userName":"{n}",` + attributes + `}`, byDefault, strict, nil, ""}
}

// habits is what is tolerated, row by row.
var habits = []habit{
	{"`op` capitalised", "Entra", "understood", "400 `invalidSyntax`", []proof{
		patchUser(`{"op":"Replace","path":"title","value":"x"}`, ok(`"title":"x"`), refusedSyntax),
	}},
	{"booleans as strings, in any case", "Entra", "become booleans", "400 `invalidValue`", []proof{
		postUser(`"active":"False"`, stored(`"active":false`), refusedValue),
		patchUser(`{"op":"replace","path":"active","value":"fAlse"}`, ok(`"active":false`), refusedValue),
	}},
	{"`\"\"` for an attribute; white space for a URI", "Entra, Okta, HR files; Saviynt", "clears it, as `null` and `[]` do", "400 `invalidValue`", []proof{
		postUser(`"profileUrl":" ","photos":[{"value":" ","type":"photo"}]`, stored(`!profileUrl !photos`), refusedValue),
		patchUser(`{"op":"replace","path":"profileUrl","value":" "}`, ok(`!profileUrl`), refusedValue),
		postUser(`"title":""`, stored(`!"title"`), refusedValue),
		patchUser(`{"op":"replace","path":"title","value":""}`, ok(`!"title"`), refusedValue),
		patchUser(`{"op":"replace","path":"title","value":null}`, ok(`!"title"`), ok(`!"title"`)),
	}},
	{"an element of a list with `\"\"` as its `value`", "Okta, HR files", "is dropped, unless it has more than `type`, `primary` and `display`", "400 `invalidValue`", []proof{
		postUser(`"phoneNumbers":[{"value":"","type":"work"}]`, stored(`!"phoneNumbers"`), refusedValue),
		patchUser(`{"op":"add","path":"phoneNumbers","value":[{"value":null,"type":"work"}]}`, ok(`"phoneNumbers":[{"type":"work"}]`), ok(`"phoneNumbers":[{"type":"work"}]`)),
		patchUser(`{"op":"replace","path":"phoneNumbers","value":[{"value":"","type":"work"}]}`, ok(`!"phoneNumbers"`), refusedValue),
	}},
	{"one object where a list belongs; a list of one where a single value belongs", "OneLogin, Entra", "understood", "400 `invalidValue`, but for the object that an `add` with a path adds to a list (RFC 7644 §3.5.2.1)", []proof{
		patchUser(`{"op":"add","path":"phoneNumbers","value":{"value":"5"}}`, ok(`"value":"5"`), ok(`"value":"5"`)),
		postUser(`"emails":{"value":"{n}@x.example"}`, stored(`"emails":[{"value":"{n}@x.example"}]`), refusedValue),
		postUser(`"title":["x"]`, stored(`"title":"x"`), refusedValue),
		patchUser(`{"op":"replace","path":"title","value":[{"value":"x"}]}`, ok(`"title":"x"`), refusedValue),
	}},
	{"`manager` as a bare string", "Entra", "`{\"value\": …}`", "400 `invalidValue`", []proof{
		patchUser(`{"op":"add","path":"manager","value":"{bo}"}`, ok(`"manager":{"value":"{bo}"`), refusedValue),
	}},
	{"add or replace on `emails[type eq \"work\"].value` without such an element", "Entra and its validator", "creates it", "400 `noTarget`", []proof{
		patchUser(`{"op":"replace","path":"emails[type eq \"work\"].value","value":"{n}@x.example"}`, ok(`"value":"{n}@x.example"`), refusedTarget),
		patchUser(`{"op":"add","path":"emails[type eq \"work\"].value","value":"{n}@x.example"}`, ok(`"type":"work"`), refusedTarget),
	}},
	{"keys of a path-less value that are paths: `name.givenName`, `urn:…:User:department`", "Entra with flag, Okta", "read as paths", "400 `invalidPath`: keys are names of attributes and URNs of extensions", []proof{
		patchUser(`{"op":"add","value":{"name.givenName":"x"}}`, ok(`"name":{"givenName":"x"}`), refusedPath),
		patchUser(`{"op":"add","value":{"`+schemas.EnterpriseUserURI+`:department":"x"}}`, ok(`"department":"x"`), refusedPath),
		patchUser(`{"op":"add","value":{"`+schemas.EnterpriseUserURI+`":{"department":"x"}}}`, ok(`"department":"x"`), ok(`"department":"x"`)),
	}},
	{"a part of the name as a path of its own: `givenName`", "Grouper", "`name.givenName`", "400 `invalidPath`", []proof{
		patchUser(`{"op":"replace","path":"givenName","value":"x"}`, ok(`"name":{"givenName":"x"}`), refusedPath),
	}},
	{"the URN of the core schema as a path", "clients that treat it as an extension", "its attributes", "400 `invalidPath`", []proof{
		patchUser(`{"op":"add","path":"`+schemas.UserURI+`","value":{"title":"x"}}`, ok(`"title":"x"`), refusedPath),
	}},
	{"unknown attributes in a body or a path-less value", "many", "ignored; a `replace` by elements of which nothing is known is 400 `invalidValue`", "400 `invalidSyntax`; in a path-less value `invalidPath`", []proof{
		postUser(`"shoeSize":44`, stored(`!shoeSize`), refusedSyntax),
		postUser(`"name":{"shoeSize":44,"givenName":"x"}`, stored(`!shoeSize "givenName":"x"`), refusedSyntax),
		patchUser(`{"op":"add","value":{"shoeSize":44,"title":"x"}}`, ok(`!shoeSize "title":"x"`), refusedPath),
		patchUser(`{"op":"add","path":"shoeSize","value":44}`, refusedPath, refusedPath),
		patchUser(`{"op":"replace","path":"emails","value":[{"address":"a@x.example"}]}`, refusedValue, refusedSyntax),
	}},
	{"`id`, `meta`, `groups` in a body or a path-less value; `groups` as a path", "Okta, authentik, SailPoint", "ignored", "ignored in a body (RFC 7644 §3.3), 400 `mutability` in PATCH", []proof{
		postUser(`"id":"x","meta":{"version":"x"},"groups":[]`, stored(`!"id":"x"`), stored(`!"id":"x"`)),
		patchUser(`{"op":"replace","value":{"id":"{user}","title":"x"}}`, ok(`"title":"x"`), refusedMutability),
		patchUser(`{"op":"add","value":{"groups":[{"value":"{bo}"}]}}`, ok(`!{bo}`), refusedMutability),
		patchUser(`{"op":"add","path":"groups","value":[{"value":"{bo}"}]}`, ok(`!{bo}`), refusedMutability),
	}},
	{"`schemas` in a path-less value", "authentik", "ignored", "ignored when they are schemas of the type, else 400 `invalidValue`", []proof{
		patchUser(`{"op":"add","value":{"schemas":["`+schemas.UserURI+`"],"title":"x"}}`, ok(`"title":"x"`), ok(`"title":"x"`)),
		patchUser(`{"op":"add","value":{"schemas":["urn:example:other"],"title":"x"}}`, ok(`"title":"x"`), refusedValue),
	}},
	{"an object, or the attributes of a path-less value, as JSON in a string", "SCIM for Keycloak, SCIM-SDK", "understood", "400 `invalidValue`", []proof{
		patchUser(`{"op":"add","path":"emails","value":"{\"value\":\"a@x.example\"}"}`, ok(`"emails":[{"value":"a@x.example"}]`), refusedValue),
		patchGroup(`{"op":"replace","value":"{\"displayName\":\"to {n}\"}"}`, ok(`"displayName":"to`), refusedValue),
	}},
	{"an object as `application/x-www-form-urlencoded`", "HelloID: PowerShell, of a POST of which nothing is said", "understood", "415", []proof{
		{"POST", "/Users", `{"schemas":["` + schemas.UserURI + `"],"userName":"{n}"}`, stored(`"userName":"{n}"`), answer{415, ""}, nil, formType},
		{"POST", "/Users", `userName={n}`, answer{415, ""}, answer{415, ""}, nil, formType},
	}},
	{"integers in quotes in a POST `.search`", "SCIM-SDK", "understood", "400 `invalidValue`", []proof{
		{"POST", "/Users/.search", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],"startIndex":"1","count":"0"}`, ok(`"Resources":[]`), refusedValue, nil, ""},
	}},
	{"one operation for each member that joins a group or leaves it", "authentik, midPoint", "1,000 of them, beside 100 others", "100 in all, else 413", []proof{
		patchGroup(strings.Repeat(`{"op":"remove","path":"members[value eq \"{bo}\"]"},`, 100)+`{"op":"remove","path":"members[value eq \"{bo}\"]"}`, ok(`{user} !{bo}`), answer{413, `100`}),
	}},
	{"`remove` with path `members` and a list", "Entra, JumpCloud, ssosync", "removes exactly those", "400 `invalidValue`", []proof{
		patchGroup(`{"op":"remove","path":"members","value":[{"value":"{bo}"}]}`, ok(`{user} !{bo}`), refusedValue),
	}},
	{"`remove` on a filter that matches nothing", "", "changes nothing", "400 `noTarget`", []proof{
		patchUser(`{"op":"remove","path":"emails[type eq \"work\"]"}`, ok(`"version":"W/\"1`), refusedTarget),
		patchGroup(`{"op":"remove","path":"members[value eq \"nobody\"]"}`, ok(`"version":"W/\"1`), refusedTarget),
	}},
	{"`remove` of the value of an element, `emails[type eq \"work\"].value`", "Entra", "the element goes, unless more than `type`, `primary` and `display` is left of it", "its value goes (RFC 7644 §3.5.2.2)", []proof{
		patchUser(`{"op":"add","path":"emails","value":[{"value":"a@x.example","type":"work"}]},{"op":"remove","path":"emails[type eq \"work\"].value"}`, ok(`!"work"`), ok(`"work" !"a@x.example"`)),
	}},
	{"two primary values in one request", "Ping", "the first keeps it; when a PATCH adds to a list, one that was not primary before goes before one that was", "400 `invalidValue`", []proof{
		postUser(`"emails":[{"value":"a@x.example","primary":true},{"value":"b@x.example","primary":true}]`, stored(`{"value":"a@x.example","primary":true}`), refusedValue),
	}},
	{"a filter for an attribute with one value: `manager[value eq \"…\"]`", "", "the value, if it matches", "400 `invalidPath`", []proof{
		patchUser(`{"op":"add","path":"manager","value":{"value":"{bo}"}},{"op":"remove","path":"manager[value eq \"{bo}\"]"}`, ok(`!"manager"`), refusedPath),
	}},
	{"several values for a sub-attribute: `emails.value` with a list", "older servers' clients", "one element for each", "400 `invalidValue`", []proof{
		patchUser(`{"op":"add","path":"emails.value","value":["a@x.example","b@x.example"]}`, ok(`"a@x.example" "b@x.example"`), refusedValue),
	}},
	{"an empty list of operations", "Entra's validator", "200, nothing changes", "400 `invalidSyntax`", []proof{
		patchUser(``, ok(`"version":"W/\"1`), refusedSyntax),
	}},
	{"`operations` in small letters; one operation that is no list; a list of operations without the message", "clients that serialise their own classes, HR loaders", "understood", "400 `invalidSyntax`", []proof{
		{"PATCH", "/Users/{user}", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"operations":[{"Op":"add","Path":"title","Value":"x"}]}`, ok(`"title":"x"`), refusedSyntax, nil, ""},
		{"PATCH", "/Users/{user}", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":{"op":"add","path":"title","value":"x"}}`, ok(`"title":"x"`), refusedSyntax, nil, ""},
		{"PATCH", "/Users/{user}", `[{"op":"add","path":"title","value":"x"}]`, ok(`"title":"x"`), refusedSyntax, nil, ""},
	}},
	{"unknown schema URIs", "Entra", "ignored", "400 `invalidValue`", []proof{
		{"POST", "/Users", `{"schemas":["` + schemas.UserURI + `","http://schemas.example/User"],"userName":"{n}"}`, stored(`!schemas.example`), refusedValue, nil, ""},
	}},
	{"the URIs that schemas had before the RFC: `urn:scim:schemas:core:1.0`, `urn:scim:schemas:extension:enterprise:2.0`", "OneLogin, HelloID", "the schemas of today", "400 `invalidValue`; as the name of an extension `invalidSyntax`", []proof{
		{"POST", "/Users", `{"schemas":["urn:scim:schemas:core:1.0","urn:scim:schemas:extension:enterprise:1.0"],"userName":"{n}"}`, stored(`!urn:scim`), refusedValue, nil, ""},
		postUser(`"urn:scim:schemas:extension:enterprise:2.0":{"department":"x"}`, stored(`"`+schemas.EnterpriseUserURI+`":{"department":"x"}`), refusedSyntax),
		patchUser(`{"op":"add","value":{"urn:scim:schemas:extension:enterprise:2.0:User":{"department":"x"}}}`, ok(`"department":"x"`), refusedPath),
	}},
	{"`urn:scim:schemas:core:2.0:BulkRequest`, `…:core:2.0:PatchOp`: a message with the name of another family before its own", "Oracle HCM's loaders", "understood", "400 `invalidSyntax`", []proof{
		{"POST", "/Bulk", `{"schemas":["urn:scim:schemas:core:2.0:BulkRequest"],"Operations":[{"method":"POST","path":"/Users","bulkId":"x","data":{"schemas":["urn:scim:schemas:core:2.0:User"],"userName":"{n}"}}]}`, ok(`"status":"201"`), refusedSyntax, nil, ""},
		{"PATCH", "/Users/{user}", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:PatchOp"],"Operations":[{"op":"add","path":"title","value":"x"}]}`, ok(`"title":"x"`), refusedSyntax, nil, ""},
	}},
	{"no `schemas` in a body", "Oracle HCM's loaders", "understood, but in a search 400 `invalidSyntax`", "400 `invalidValue`; in PATCH and Bulk `invalidSyntax`", []proof{
		{"POST", "/Users", `{"userName":"{n}"}`, stored(`"schemas":["` + schemas.UserURI + `"]`), refusedValue, nil, ""},
		{"PATCH", "/Users/{user}", `{"Operations":[{"op":"add","path":"title","value":"x"}]}`, ok(`"title":"x"`), refusedSyntax, nil, ""},
		{"POST", "/Bulk", `{"Operations":[{"method":"DELETE","path":"/Users/{user}"}]}`, ok(`"status":"204"`), refusedSyntax, nil, ""},
		{"POST", "/Users/.search", `{"filter":"userName pr"}`, refusedSyntax, refusedSyntax, nil, ""},
	}},
	{"a `manager` that is no user of the directory", "Okta, with values of its own making", "400 `invalidValue`; with `--profile okta` stored, and shown as it was sent", "400 `invalidValue`", []proof{
		patchUser(`{"op":"add","path":"manager","value":{"value":"{group}"}}`, refusedValue, refusedValue).okta(ok(`"manager":{"value":"{group}"}`)),
	}},
	{"a `manager` or member that is to come, by its `externalId` or `userName`", "HR loaders, clients that send in parallel", "400 `invalidValue`; with `--references late` accepted, and resolved when it comes", "400 `invalidValue`, unless with `--references late`", []proof{
		patchUser(`{"op":"add","path":"manager","value":{"value":"to-come-{n}"}}`, refusedValue, refusedValue).late(ok(`"manager":{"value":"to-come-{n}"}`)),
		patchUser(`{"op":"add","path":"manager","value":{"value":"bo-{n}"}}`, refusedValue, refusedValue).late(ok(`"manager":{"value":"{bo}"`)),
		patchGroup(`{"op":"add","path":"members","value":[{"value":"to-come-{n}"}]}`, refusedValue, refusedValue).late(ok(`{bo} !to-come`)),
	}},
	{"a POST in Bulk without `bulkId`", "HR loaders", "done", "400 of that operation", []proof{
		{"POST", "/Bulk", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[{"method":"POST","path":"/Users","data":{"schemas":["` + schemas.UserURI + `"],"userName":"{n}"}}]}`,
			ok(`"status":"201"`), ok(`"status":"400"`), nil, ""},
	}},
}

// interop are the rules of draft-zollner-scim-interop-profile about requests, and what a
// client with the strict profile gets. The answer to others is in the proofs, too.
var interop = []habit{
	{"`eq` and `and` in filters", "", "", "yes", []proof{
		{"GET", `/Users?filter=userName%20eq%20%22{n}%22%20and%20active%20eq%20true`, "", ok(`"totalResults":0`), ok(`"totalResults":0`), nil, ""},
	}},
	{"an unknown attribute in a body is 400 `invalidSyntax`", "", "", "yes", []proof{
		postUser(`"shoeSize":44`, stored(``), refusedSyntax),
	}},
	{"an unknown attribute in a filter is 400 `invalidFilter`", "", "", "yes, for every client", []proof{
		{"GET", `/Users?filter=shoeSize%20eq%2044`, "", refusedFilter, refusedFilter, nil, ""},
	}},
	{"every operation of a PATCH has a path", "", "", "no: RFC 7644 §3.5.2.1 and §3.5.2.3 let add and replace be without one; remove is 400 `noTarget`", []proof{
		patchUser(`{"op":"add","value":{"title":"x"}}`, ok(`"title":"x"`), ok(`"title":"x"`)),
		patchUser(`{"op":"remove"}`, refusedTarget, refusedTarget),
	}},
	{"`id` and `externalId` are exact, `userName` is not", "", "", "yes, for every client", []proof{
		{"GET", `/Users?filter=externalId%20eq%20%22ext-{n}%22`, "", ok(`"totalResults":1`), ok(`"totalResults":1`), nil, ""},
		{"GET", `/Users?filter=externalId%20eq%20%22EXT-{n}%22`, "", ok(`"totalResults":0`), ok(`"totalResults":0`), nil, ""},
		{"GET", `/Users?filter=userName%20eq%20%22FIX-{n}%22`, "", ok(`"totalResults":1`), ok(`"totalResults":1`), nil, ""},
	}},
	{"a page may have 100 resources at least", "", "", "yes, up to 1,000", []proof{
		{"GET", `/ServiceProviderConfig`, "", ok(`"maxPageSize":1000`), ok(`"maxPageSize":1000`), nil, ""},
	}},
	{"DELETE is followed by 404; a duplicate is 409 `uniqueness`", "", "", "yes, for every client", []proof{
		{"DELETE", "/Users/{user}", "", answer{204, ""}, answer{204, ""}, nil, ""},
		{"POST", "/Users", `{"schemas":["` + schemas.UserURI + `"],"userName":"FIX-{n}"}`, answer{409, `"scimType":"uniqueness"`}, answer{409, `"scimType":"uniqueness"`}, nil, ""},
	}},
	{"`interopProfileConformant` in the configuration", "", "", "no: the draft's rule on paths is not kept", []proof{
		{"GET", `/ServiceProviderConfig`, "", ok(`!interopProfile`), ok(`!interopProfile`), nil, ""},
	}},
}

// TestCompatibility sends what docs/compatibility.md speaks of, as a client without a
// profile and as a strict one, and holds the tables of the page to what was sent.
func TestCompatibility(t *testing.T) {
	s := testserver.Start(t, testserver.Options{})
	tokens := map[string]string{"default": s.Token, "strict": s.Client(t, "strict one", auth.ProfileStrict),
		auth.ProfileOkta:    s.Client(t, "okta one", auth.ProfileOkta),
		auth.ReferencesLate: s.Issue(t, &storage.Client{Tenant: storage.DefaultTenant, Name: "late one", Scopes: []string{"users", "groups"}, References: auth.ReferencesLate})}
	n := 0
	for _, h := range append(append([]habit{}, habits...), interop...) {
		if len(h.proofs) == 0 {
			t.Errorf("%s: nothing shows that", h.sent)
		}
		for _, p := range h.proofs {
			media := p.media
			if media == "" {
				media = "application/scim+json"
			}
			wanted := map[string]answer{"default": p.byDefault, "strict": p.strict}
			maps.Copy(wanted, p.others)
			for profile, want := range wanted {
				n++
				fill := fixtures(t, s, n)
				r := s.Do(t, p.method, fill(p.path), fill(p.body), "Authorization", "Bearer "+tokens[profile], "Content-Type", media)
				if r.Status != want.status {
					t.Errorf("%s, %s: %s %s %s\n%d %s, want %d", h.sent, profile, p.method, p.path, p.body, r.Status, r.Body, want.status)
				}
				for _, word := range strings.Fields(fill(want.body)) {
					if word, not := strings.CutPrefix(word, "!"); strings.Contains(r.Body, word) == not {
						t.Errorf("%s, %s: %s %s %s\n%s\nhas %s: %v", h.sent, profile, p.method, p.path, p.body, r.Body, word, not)
					}
				}
			}
		}
	}
	if t.Failed() {
		return
	}
	old, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(old)
	for name, table := range map[string]string{"habits": habitTable(), "interop": interopTable()} {
		begin, end := "<!-- "+name+": made by go test ./scim -run TestCompatibility -update -->\n", "<!-- end of "+name+" -->\n"
		before, rest, found := strings.Cut(page, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no place for %s", compatibilityPage, name)
		}
		page = before + begin + "\n" + table + "\n" + end + after
	}
	if *update {
		if err := os.WriteFile(compatibilityPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(page, string(old)); diff != "" {
		t.Errorf("%s is not what the tables say (go test ./scim -run TestCompatibility -update):\n%s", compatibilityPage, diff)
	}
}

// fixtures makes what a proof finds, and returns what fills its braces.
func fixtures(t *testing.T, s *testserver.Server, n int) func(string) string {
	t.Helper()
	id := func(path, body string) string {
		r := s.Do(t, "POST", path, body)
		if r.Status != 201 {
			t.Fatalf("POST %s: %d %s", path, r.Status, r.Body)
		}
		_, rest, _ := strings.Cut(r.Body, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	name := fmt.Sprint("n", n)
	user := id("/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"fix-%s","externalId":"ext-%s","title":"old"}`, schemas.UserURI, name, name))
	bo := id("/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"bo-%s"}`, schemas.UserURI, name))
	group := id("/Groups", fmt.Sprintf(`{"schemas":[%q],"displayName":"fix-%s","members":[{"value":%q},{"value":%q}]}`, schemas.GroupURI, name, user, bo))
	return strings.NewReplacer("{n}", name, "{user}", user, "{bo}", bo, "{group}", group).Replace
}

func habitTable() string {
	var b strings.Builder
	b.WriteString("| what a client sends | who | by default | strict |\n|---|---|---|---|\n")
	for _, h := range habits {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", h.sent, h.who, h.byDefault, h.strict)
	}
	return b.String()
}

func interopTable() string {
	var b strings.Builder
	b.WriteString("| rule | for a strict client |\n|---|---|\n")
	for _, h := range interop {
		fmt.Fprintf(&b, "| %s | %s |\n", h.sent, h.strict)
	}
	return b.String()
}
