package scim_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// npmVariable names the folder with node_modules, which `make conformance` fills.
const npmVariable = "ROSTER_TEST_NPM"

// scimmyStart starts a server made of the packages scimmy and scimmy-routers and returns the URL of its SCIM root.
func scimmyStart(t *testing.T, modules string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "testdata/scimmy.js")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait()
	})
	if err != nil {
		t.Fatalf("the server of scimmy has not started: %v", err)
	}
	return strings.TrimSpace(line)
}

const (
	userHead  = `{"schemas":["` + schemas.UserURI + `"],`
	groupHead = `{"schemas":["` + schemas.GroupURI + `"],`
	patchHead = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`
)

// Where scimmy differs, and why ours is right, or may be. A request with a reason
// must be answered differently, so that the list stays true.
const (
	itemsPerPage     = "RFC 7644 §3.4.2.4: itemsPerPage is how many there are on the page; there it is how many were asked for"
	activeFilled     = "RFC 7643 §4.1.1 leaves open what a user without active is; ours is active"
	emptyName        = "RFC 7643 §4.1.1: userName is not empty"
	onePrimary       = "RFC 7643 §2.4: primary is true once at most"
	unknownAttribute = "it drops what no schema defines, on which RFC 7644 §3.3 is silent; our profile strict refuses it"
	brokenJSON       = "RFC 7644 §3.12, table 9: invalidSyntax"
	withoutSchemas   = "RFC 7643 §3: schemas is required"
	wrongSchemas     = "RFC 7644 §3.12, table 9, fits both; a resource in a schema that its type has not got is invalidValue here"
	methods          = "RFC 9110 §15.5.6: a resource that is there does not know the method, which is 405"
	alwaysSchemas    = "RFC 7643 §3: all representations have schemas"
	urns             = "RFC 7644 §3.10: a name may have the URI of its schema before it"
	exclusive        = "RFC 7644 §3.9: attributes and excludedAttributes are mutually exclusive"
	beyond           = "RFC 7644 §3.4.2.4: nothing comes after the last; there the page begins anew"
	integers         = "RFC 7644 §3.4.2.4: startIndex and count are integers; there anything else is not looked at"
	order            = "RFC 7644 §3.4.2.3: ascending or descending; there anything else is not looked at"
	sortUnknown      = "RFC 7644 §3.4.2.3 leaves open what an unknown sortBy is; there it is not looked at"
	caseExact        = "RFC 7643 §2.2 and RFC 7644 §3.4.2.2: what is not caseExact is compared without regard to case"
	absent           = "RFC 7644 §3.4.2.2: what has no value does not match; there the request fails if one resource has none"
	brackets         = "RFC 7644 §3.4.2.2, figure 1: what is in brackets stands together, also beside and within other expressions; there it does not"
	escapes          = "RFC 7644 §3.4.2.2: values are written as in JSON"
	badFilter        = "RFC 7644 §3.4.2.2, figure 1: no filter"
	filterUnknown    = "RFC 7644 §3.4.2.1 tells what an unknown attribute is only for queries over all types; ours says invalidFilter rather than nothing"
	ordered          = "RFC 7644 §3.4.2.2: gt on a Boolean is an invalidFilter"
	types            = "RFC 7644 §3.12, table 9: a comparison that is not supported is an invalidFilter"
	password         = "RFC 7643 §7 lets a filter have what is never returned or not; ours does not, so that it cannot be guessed"
	emptyList        = "RFC 7643 §2.5: an empty list is no value, which may be left out; there it comes back"
	unchanged        = "RFC 7644 §3.5.2 leaves open whether the answer is 200 or 204; there it is 204 if nothing changed"
	capitals         = "RFC 7644 §3.5.2: add, remove or replace; our profile strict takes this at its word"
	names            = "RFC 7643 §2.1: names of attributes do not regard case"
	subAttributes    = "RFC 7644 §3.5.2.3: sub-attributes that are not in the value stay"
	again            = "RFC 7644 §3.5.2.1: a value that is there is not added again"
	required         = "RFC 7644 §3.5.2.2: to remove what is required is an error of the type mutability"
	readOnly         = "RFC 7644 §3.5.2: a client must not modify what is readOnly"
	pathFilter       = "RFC 7644 §3.12, table 9: invalidFilter is also for the filter in a path of PATCH"
	noOperations     = "RFC 7644 §3.12, table 9: a message that is not as §3.5.2 has it is invalidSyntax"
)

// scimmyRequest is something that both servers are asked. Braces stand for the id of
// the resource that a request before created under that name.
type scimmyRequest struct {
	create, method, path, body string
	differs                    string // why, if the answers are not the same
	ours                       string // then, the status and the scimType of ours
}

var scimmyRequests = []scimmyRequest{
	// Create.
	{create: "zoe", method: "POST", path: "/Users", body: userHead + `"userName":"zoe"}`, differs: activeFilled, ours: "201"},
	{method: "DELETE", path: "/Users/{zoe}"},
	{create: "ana", method: "POST", path: "/Users", body: userHead + `"userName":"ana","active":true,"title":"Pilot","emails":[{"value":"ana@x.example","type":"work","primary":true},{"value":"a@y.example","type":"home"}]}`},
	{create: "bo", method: "POST", path: "/Users", body: `{"schemas":["` + schemas.UserURI + `","` + schemas.EnterpriseUserURI + `"],"externalId":"7","userName":"Bo","name":{"givenName":"Bo","familyName":"Ek"},"displayName":"Bo Ek","active":false,"password":"correct horse","` + schemas.EnterpriseUserURI + `":{"department":"North","employeeNumber":"12"}}`},
	{create: "cy", method: "POST", path: "/Users", body: userHead + `"userName":"cy@x.example","active":true,"displayName":"Cy","nickName":"C","name":{"givenName":"Cy","familyName":"Ax"},"phoneNumbers":[{"value":"tel:+1-201-555-0123","type":"mobile"}]}`},
	{create: "di", method: "POST", path: "/Users", body: userHead + `"userName":"di","active":true,"title":"Cook","addresses":[{"type":"work","locality":"Oslo","country":"NO"}]}`},
	{create: "crew", method: "POST", path: "/Groups", body: groupHead + `"displayName":"Crew"}`},
	{create: "deck", method: "POST", path: "/Groups", body: groupHead + `"displayName":"Deck","externalId":"d1","members":[{"value":"{bo}"},{"value":"{cy}"}]}`},
	{create: "all", method: "POST", path: "/Groups", body: groupHead + `"displayName":"all","members":[{"value":"{deck}","type":"Group"}]}`},

	// What is wrong with a resource.
	{method: "POST", path: "/Users", body: userHead + `"userName":"ANA"}`},
	{method: "POST", path: "/Users", body: userHead + `"title":"nobody"}`},
	{method: "POST", path: "/Users", body: userHead + `"userName":""}`, differs: emptyName, ours: "400 invalidValue"},
	{method: "POST", path: "/Users", body: userHead + `"userName":7}`},
	{method: "POST", path: "/Users", body: userHead + `"userName":"new1","active":"maybe"}`},
	{method: "POST", path: "/Users", body: userHead + `"userName":"new2","name":"Ed"}`},
	{method: "POST", path: "/Users", body: userHead + `"userName":"new3","emails":{"value":"ed@x.example"}}`},
	{method: "POST", path: "/Users", body: userHead + `"userName":"new4","emails":[{"value":"ed@x.example","primary":true},{"value":"e@y.example","primary":true}]}`, differs: onePrimary, ours: "400 invalidValue"},
	{method: "POST", path: "/Users", body: userHead + `"userName":"new5","nosuch":"x"}`, differs: unknownAttribute, ours: "400 invalidSyntax"},
	{method: "POST", path: "/Users", body: userHead + `"userName":`, differs: brokenJSON, ours: "400 invalidSyntax"},
	{method: "POST", path: "/Users", body: `[]`},
	{method: "POST", path: "/Users", body: `{"userName":"new6"}`, differs: withoutSchemas, ours: "400 invalidValue"},
	{method: "POST", path: "/Users", body: `{"schemas":["urn:nosuch"],"userName":"new7"}`, differs: wrongSchemas, ours: "400 invalidValue"},
	{method: "POST", path: "/Groups", body: groupHead + `"members":[]}`},
	{method: "POST", path: "/Users/{ana}", body: userHead + `"userName":"new8"}`, differs: methods, ours: "405"},
	{create: "ed", method: "POST", path: "/Users", body: userHead + `"id":"mine","userName":"ed","active":true,"meta":{"created":"2001-01-01T00:00:00Z"},"groups":[{"value":"{crew}"}]}`},
	{create: "fay", method: "POST", path: "/Users", body: `{"SCHEMAS":["` + schemas.UserURI + `"],"USERNAME":"fay","active":true,"Title":"Mate"}`},

	// Get.
	{method: "GET", path: "/Users/{ana}"},
	{method: "GET", path: "/Users/{bo}"},
	{method: "GET", path: "/Users/{cy}"},
	{method: "GET", path: "/Users/{ed}"},
	{method: "GET", path: "/Users/{fay}"},
	{method: "GET", path: "/Groups/{crew}"},
	{method: "GET", path: "/Groups/{deck}"},
	{method: "GET", path: "/Groups/{all}"},
	{method: "GET", path: "/Users/{crew}"},
	{method: "GET", path: "/Groups/{ana}"},
	{method: "GET", path: "/Users/nobody"},
	{method: "GET", path: "/Nothing"},
	{method: "GET", path: "/Users/{bo}?attributes=userName", differs: alwaysSchemas, ours: "200"},
	{method: "GET", path: "/Users/{bo}?attributes=USERNAME,name.givenName", differs: alwaysSchemas, ours: "200"},
	{method: "GET", path: "/Users/{bo}?attributes=name,title", differs: alwaysSchemas, ours: "200"},
	{method: "GET", path: "/Users/{ana}?attributes=emails.value", differs: alwaysSchemas, ours: "200"},
	{method: "GET", path: "/Users/{bo}?attributes=" + schemas.EnterpriseUserURI + ":department", differs: urns, ours: "200"},
	{method: "GET", path: "/Users/{bo}?attributes=password", differs: alwaysSchemas, ours: "200"},
	{method: "GET", path: "/Users/{bo}?excludedAttributes=name,displayName"},
	{method: "GET", path: "/Users/{bo}?excludedAttributes=id,userName"},
	{method: "GET", path: "/Users/{ana}?excludedAttributes=emails.type"},
	{method: "GET", path: "/Users/{bo}?attributes=userName&excludedAttributes=name", differs: exclusive, ours: "400 invalidValue"},
	{method: "GET", path: "/Groups/{deck}?excludedAttributes=members"},

	// List, page, sort.
	{method: "GET", path: "/Users"},
	{method: "GET", path: "/Groups"},
	{method: "GET", path: "/Users?startIndex=2&count=1"},
	{method: "GET", path: "/Users?startIndex=2"},
	{method: "GET", path: "/Users?startIndex=3&count=2"},
	{method: "GET", path: "/Users?startIndex=6&count=2"},
	{method: "GET", path: "/Users?startIndex=0&count=1"},
	{method: "GET", path: "/Users?startIndex=-3&count=1"},
	{method: "GET", path: "/Users?startIndex=9", differs: beyond, ours: "200"},
	{method: "GET", path: "/Users?count=0"},
	{method: "GET", path: "/Users?count=-1"},
	{method: "GET", path: "/Users?count=many", differs: integers, ours: "400 invalidValue"},
	{method: "GET", path: "/Users?startIndex=first", differs: integers, ours: "400 invalidValue"},
	{method: "GET", path: "/Users?sortBy=userName"},
	{method: "GET", path: "/Users?sortBy=userName&sortOrder=descending"},
	{method: "GET", path: "/Users?sortBy=userName&sortOrder=ascending&startIndex=2&count=2"},
	{method: "GET", path: "/Users?sortBy=userName&sortOrder=sideways", differs: order, ours: "400 invalidValue"},
	{method: "GET", path: "/Users?sortBy=name.familyName"},
	{method: "GET", path: "/Users?sortBy=title"},
	{method: "GET", path: "/Users?sortBy=title&sortOrder=descending"},
	{method: "GET", path: "/Users?sortBy=emails.value"},
	{method: "GET", path: "/Users?sortBy=emails"},
	{method: "GET", path: "/Users?sortBy=meta.created"},
	{method: "GET", path: "/Users?sortBy=USERNAME"},
	{method: "GET", path: "/Users?sortBy=nosuch", differs: sortUnknown, ours: "400 invalidPath"},
	{method: "GET", path: "/Groups?sortBy=displayName"},
	{method: "GET", path: "/Users?attributes=userName&count=2", differs: alwaysSchemas, ours: "200"},

	// Filter.
	{method: "GET", path: `/Users?filter=userName eq "ana"`},
	{method: "GET", path: `/Users?filter=userName eq "ANA"`, differs: caseExact, ours: "200"},
	{method: "GET", path: `/Users?filter=USERNAME sw "b"`, differs: caseExact, ours: "200"},
	{method: "GET", path: `/Users?filter=userName sw "a"`},
	{method: "GET", path: `/Users?filter=` + schemas.UserURI + `:userName eq "ana"`, differs: urns, ours: "200"},
	{method: "GET", path: `/Users?filter=userName ne "ana"`},
	{method: "GET", path: `/Users?filter=userName EQ "ana"`},
	{method: "GET", path: `/Users?filter=title pr`},
	{method: "GET", path: `/Users?filter=not (title pr)`},
	{method: "GET", path: `/Users?filter=active eq false`},
	{method: "GET", path: `/Users?filter=active eq true`},
	{method: "GET", path: `/Users?filter=name.familyName co "E"`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=name.familyName co "e"`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=name pr`},
	{method: "GET", path: `/Users?filter=title ew "t"`},
	{method: "GET", path: `/Users?filter=title eq "Pilot" or title eq "Cook"`},
	{method: "GET", path: `/Users?filter=title eq "Pilot" and userName eq "ana" or displayName eq "Cy"`},
	{method: "GET", path: `/Users?filter=userName gt "b"`, differs: caseExact, ours: "200"},
	{method: "GET", path: `/Users?filter=userName le "cz"`},
	{method: "GET", path: `/Users?filter=title pr and (displayName pr or userName gt "a")`},
	{method: "GET", path: `/Users?filter=emails[type eq "work"]`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=emails[type eq "work" and value ew "x.example"]`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=emails[type eq "home" and value ew "x.example"]`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=emails.value eq "a@y.example"`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=emails co "x.example"`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=externalId eq "7"`},
	{method: "GET", path: `/Users?filter=id eq "{ana}"`},
	{method: "GET", path: `/Users?filter=title ne "Pilot"`},
	{method: "GET", path: `/Users?filter=title eq null`},
	{method: "GET", path: `/Users?filter=` + schemas.EnterpriseUserURI + `:department eq "North"`, differs: urns, ours: "200"},
	{method: "GET", path: `/Users?filter=meta.created gt "2001-01-01T00:00:00Z"`},
	{method: "GET", path: `/Users?filter=meta.created lt "2001-01-01T00:00:00Z"`},
	{method: "GET", path: `/Users?filter=meta.resourceType eq "User"`},
	{method: "GET", path: `/Users?filter=groups.value eq "{deck}"`, differs: absent, ours: "200"},
	{method: "GET", path: `/Users?filter=userName eq "an\u0061"`, differs: escapes, ours: "200"},
	{method: "GET", path: `/Users?filter=userName eq "nobody"`},
	{method: "GET", path: `/Users?filter=title pr&sortBy=userName&startIndex=2&count=1`},
	{method: "GET", path: `/Groups?filter=displayName eq "Crew"`},
	{method: "GET", path: `/Groups?filter=displayName eq "crew"`, differs: caseExact, ours: "200"},
	{method: "GET", path: `/Groups?filter=members.value eq "{bo}"`, differs: absent, ours: "200"},
	{method: "GET", path: `/Groups?filter=members[value eq "{bo}"]`, differs: absent, ours: "200"},
	{method: "GET", path: `/Groups?filter=not (members pr)`, differs: absent, ours: "200"},
	{method: "POST", path: "/Users/.search", body: `{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],"filter":"title pr","sortBy":"title","count":2}`},
	{method: "POST", path: "/Users/.search", body: `{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],"attributes":["userName"],"startIndex":2}`, differs: alwaysSchemas, ours: "200"},
	{method: "POST", path: "/Users/.search", body: `{"filter":"title pr"}`},

	{method: "GET", path: `/Users?filter=userName eq`, differs: badFilter, ours: "400 invalidFilter"},
	{method: "GET", path: `/Users?filter=userName is "ana"`},
	{method: "GET", path: `/Users?filter=userName eq "ana`},
	{method: "GET", path: `/Users?filter=(userName eq "ana"`},
	{method: "GET", path: `/Users?filter=userName eq "ana" and`, differs: badFilter, ours: "400 invalidFilter"},
	{method: "GET", path: `/Users?filter=nosuch eq "ana"`, differs: filterUnknown, ours: "400 invalidFilter"},
	{method: "GET", path: `/Users?filter=active gt true`, differs: ordered, ours: "400 invalidFilter"},
	{method: "GET", path: `/Users?filter=userName eq 5`, differs: types, ours: "400 invalidFilter"},
	{method: "GET", path: `/Users?filter=password eq "correct horse"`, differs: password, ours: "400 invalidFilter"},

	// Replace.
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"userName":"anna","active":true,"emails":[]}`, differs: emptyList, ours: "200"},
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"userName":"bo"}`},
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"title":"nobody"}`},
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"id":"other","userName":"anna","active":true,"title":"Pilot","nickName":null}`},
	{method: "PUT", path: "/Users/nobody", body: userHead + `"userName":"nobody"}`},
	{method: "PUT", path: "/Users", body: userHead + `"userName":"nobody"}`, differs: methods, ours: "405"},
	{method: "PUT", path: "/Groups/{deck}", body: groupHead + `"displayName":"Deck","members":[{"value":"{bo}"},{"value":"{di}"}]}`},
	{method: "GET", path: "/Users/{ana}"},
	{method: "GET", path: "/Users/{cy}"},
	{method: "GET", path: "/Users/{di}"},
	{method: "GET", path: `/Users?filter=userName eq "ana"`},

	// Patch.
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"title","value":"Mate"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"title","value":"Mate"}]}`, differs: unchanged, ours: "200"},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"TITLE","value":"Bosun"}]}`, differs: names, ours: "200"},
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"userName":"anna","active":true,"title":"Bosun"}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"Replace","path":"title","value":"Captain"}]}`, differs: capitals, ours: "400 invalidSyntax"},
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"userName":"anna","active":true,"title":"Bosun"}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","value":{"nickName":"An","name":{"givenName":"Ana"}}}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"name.familyName","value":"Ek"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"name","value":{"middleName":"B"}}]}`, differs: subAttributes, ours: "200"},
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"userName":"anna","active":true,"title":"Bosun","nickName":"An","name":{"givenName":"Ana","middleName":"B"}}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"emails","value":[{"value":"ana@x.example","type":"work"}]}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"emails","value":[{"value":"a@y.example","type":"home"}]}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"emails","value":[{"value":"a@y.example","type":"home"}]}]}`, differs: again, ours: "200"},
	{method: "PUT", path: "/Users/{ana}", body: userHead + `"userName":"anna","active":true,"title":"Bosun","nickName":"An","name":{"givenName":"Ana","middleName":"B"},"emails":[{"value":"ana@x.example","type":"work"},{"value":"a@y.example","type":"home"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"emails[type eq \"work\"].display","value":"Ana"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"emails[type eq \"home\"].value","value":"an@y.example"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"emails[type eq \"home\"]","value":{"value":"n@y.example","type":"other"}}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"emails[type eq \"nosuch\"].value","value":"x@y.example"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"remove","path":"emails[type eq \"work\"]"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"remove","path":"emails"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"remove","path":"name.middleName"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"` + schemas.EnterpriseUserURI + `:department","value":"Deck"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"remove","path":"` + schemas.EnterpriseUserURI + `:department"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","value":{"active":false}},{"op":"remove","path":"nickName"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"active","value":"true"}]}`},
	{method: "GET", path: "/Users/{ana}"},
	{method: "PATCH", path: "/Groups/{crew}", body: patchHead + `{"op":"add","path":"members","value":[{"value":"{ana}"},{"value":"{bo}"}]}]}`},
	{method: "PATCH", path: "/Groups/{crew}", body: patchHead + `{"op":"add","path":"members","value":[{"value":"{bo}"}]}]}`, differs: again, ours: "200"},
	{method: "PATCH", path: "/Groups/{crew}", body: patchHead + `{"op":"remove","path":"members[value eq \"{bo}\"]"}]}`},
	{method: "PATCH", path: "/Groups/{crew}", body: patchHead + `{"op":"replace","path":"members","value":[{"value":"{cy}"}]}]}`},
	{method: "GET", path: "/Groups/{crew}"},
	{method: "GET", path: "/Users/{cy}"},
	{method: "PATCH", path: "/Groups/{crew}", body: patchHead + `{"op":"remove","path":"members"}]}`},
	{method: "GET", path: "/Groups/{crew}"},

	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"remove"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"remove","path":"userName"}]}`, differs: required, ours: "400 mutability"},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"id","value":"x"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"groups","value":[{"value":"{crew}"}]}]}`, differs: readOnly, ours: "400 mutability"},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"move","path":"title","value":"x"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"title"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"nosuch","value":"x"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"title","value":["x"]}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"add","path":"emails[type eq","value":"x"}]}`, differs: pathFilter, ours: "400 invalidFilter"},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"userName","value":"bo"}]}`},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `{"op":"replace","path":"title","value":"Half"},{"op":"remove","path":"userName"}]}`, differs: required, ours: "400 mutability"},
	{method: "PATCH", path: "/Users/{ana}", body: patchHead + `]}`, differs: noOperations, ours: "400 invalidSyntax"},
	{method: "PATCH", path: "/Users/{ana}", body: `{"Operations":[{"op":"replace","path":"title","value":"Mate"}]}`},
	{method: "PATCH", path: "/Users/nobody", body: patchHead + `{"op":"replace","path":"title","value":"Mate"}]}`},
	{method: "GET", path: "/Users/{ana}"},

	// Delete.
	{method: "DELETE", path: "/Users/{bo}"},
	{method: "DELETE", path: "/Users/{bo}"},
	{method: "GET", path: "/Users/{bo}"},
	{method: "GET", path: "/Groups/{deck}"},
	{method: "PUT", path: "/Users/{bo}", body: userHead + `"userName":"bo"}`},
	{method: "PATCH", path: "/Users/{bo}", body: patchHead + `{"op":"replace","path":"title","value":"Mate"}]}`},
	{create: "bo again", method: "POST", path: "/Users", body: userHead + `"userName":"bo","active":true}`},
	{method: "DELETE", path: "/Groups/{deck}"},
	{method: "GET", path: "/Groups/{deck}"},
	{method: "GET", path: "/Users/{di}"},
	{method: "DELETE", path: "/Groups/nobody"},
	{method: "DELETE", path: "/Users", differs: methods, ours: "405"},
	{method: "GET", path: "/Users"},
	{method: "GET", path: "/Groups"},
}

// scimmyRandom are random requests, the same ones each time, in which nothing occurs
// of what is known to differ, but at the end: values are in lower case and everybody
// has all of them.
func scimmyRandom(n int) []scimmyRequest {
	r := rand.New(rand.NewPCG(7644, 3))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	titles := []string{"cook", "mate", "pilot", "bosun", "purser"}
	var out []scimmyRequest
	for _, name := range []string{"ana", "cy", "di", "ed", "fay", "bo again"} { // who have not
		out = append(out, scimmyRequest{method: "DELETE", path: "/Users/{" + name + "}"})
	}
	var all []string   // names of users
	var title []string // of each
	body := func(i int) string {
		return userHead + fmt.Sprintf(`"userName":"%s","active":%s,"title":"%s","displayName":"%s","name":{"givenName":"%s","familyName":"%s"},"emails":[{"value":"%s@x.example","type":"%s"}]}`,
			all[i], pick("true", "false"), title[i], pick("a", "ab", "abc", "b", "bc"), pick("ana", "bo"), pick("ek", "ask", "alm"), pick("a", "b", "c"), pick("work", "home"))
	}
	numbers := r.Perm(1000)
	grow := func() {
		all, title = append(all, fmt.Sprintf("user%03d", numbers[0])), append(title, pick(titles...))
		numbers = numbers[1:]
		out = append(out, scimmyRequest{create: all[len(all)-1], method: "POST", path: "/Users", body: body(len(all) - 1)})
	}
	term := func() string {
		switch op := pick("eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"); r.IntN(6) {
		case 0:
			return "active " + pick("eq", "ne") + " " + pick("true", "false")
		case 1:
			return pick("title", "nickName", "displayName") + " pr"
		case 2:
			return `title ` + op + ` "` + pick("cook", "mate", "pi", "o", "t") + `"`
		case 3:
			return `name.familyName ` + op + ` "` + pick("ek", "as", "a", "k") + `"`
		case 4:
			return fmt.Sprintf(`userName %s "user%03d"`, op, r.IntN(1000))
		default:
			return `displayName ` + op + ` "` + pick("a", "ab", "b", "c") + `"`
		}
	}
	expr := func() string {
		switch r.IntN(7) {
		case 4:
			return `emails[type eq "` + pick("work", "home") + `" ` + pick("and", "or") + ` value ` + pick("eq", "sw") + ` "` + pick("a", "b@x.example") + `"]`
		case 0:
			return "not (" + term() + ")"
		case 1:
			return "(" + term() + " or " + term() + ") and " + term()
		case 2:
			return term() + pick(" and ", " or ") + term()
		case 3:
			return term() + pick(" and ", " or ") + term() + pick(" and ", " or ") + term()
		default:
			return term()
		}
	}
	for range 20 {
		grow()
	}
	for range n {
		i := r.IntN(len(all))
		user := "/Users/{" + all[i] + "}"
		switch r.IntN(10) {
		case 0:
			was := title[i]
			for title[i] == was {
				title[i] = pick(titles...)
			}
			out = append(out, scimmyRequest{method: "PATCH", path: user, body: patchHead + pick(`{"op":"replace","path":"title","value":"`+title[i]+`"}`, `{"op":"add","value":{"title":"`+title[i]+`"}}`) + `]}`})
		case 1:
			out = append(out, scimmyRequest{method: "PUT", path: user, body: body(i)})
		case 2:
			out = append(out, scimmyRequest{method: "GET", path: user + pick("", "?excludedAttributes=name.givenName,emails")})
		case 3:
			out = append(out, scimmyRequest{method: "DELETE", path: user})
			all, title = slices.Delete(all, i, i+1), slices.Delete(title, i, i+1)
			grow()
		case 4, 5:
			out = append(out, scimmyRequest{method: "GET", path: fmt.Sprintf("/Users?sortBy=%s&startIndex=%d&count=%d", pick("userName", "userName&sortOrder=descending", "title", "name.familyName"), 1+r.IntN(len(all)), r.IntN(len(all)))})
		default:
			out = append(out, scimmyRequest{method: "GET", path: fmt.Sprintf("/Users?filter=%s&sortBy=%s&count=%d", expr(), pick("userName", "displayName"), 5+r.IntN(15))})
		}
	}
	return append(out, scimmyRequest{method: "GET", path: `/Users?filter=not (emails[type eq "work" and value sw "b@"])`, differs: brackets, ours: "200"})
}

// TestScimmy sends the same requests to this server and to one of scimmy, a package of npm, and compares what
// they say.
func TestScimmy(t *testing.T) {
	raced.Skip(t)
	modules := os.Getenv(npmVariable)
	if modules == "" {
		t.Skip("SKIPPED: scimmy is not installed; run make conformance, or name the folder node_modules in " + npmVariable)
	}
	ours := testserver.Start(t, testserver.Options{Profile: "strict"})
	theirs := &testserver.Server{Root: strings.TrimSuffix(scimmyStart(t, modules), "/scim"), HTTP: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(theirs.HTTP.CloseIdleConnections)
	one, other := map[string]string{}, map[string]string{} // names of resources by their ids
	same, reasons := 0, map[string]int{}
	requests := append(slices.Clone(scimmyRequests), scimmyRandom(600)...)
	for _, q := range requests {
		send := func(s *testserver.Server, base string, names map[string]string) testserver.Response {
			path := strings.NewReplacer(" ", "%20", `"`, "%22", `\`, "%5C").Replace(fill(q.path, names))
			r, err := s.Page(t.Context(), q.method, base+path, fill(q.body, names), "Content-Type", "application/scim+json", "Authorization", "Bearer "+s.Token)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		a, b := send(ours, testserver.Base, one), send(theirs, "/scim", other)
		if q.create != "" {
			one[created(t, a.Body)], other[created(t, b.Body)] = q.create, q.create
		}
		if (a.Status == http.StatusCreated) != (b.Status == http.StatusCreated) { // leave no trace of it
			mine, base, r := ours, testserver.Base, a
			if b.Status == http.StatusCreated {
				mine, base, r = theirs, "/scim", b
			}
			if r, err := mine.Page(t.Context(), "DELETE", base+"/Users/"+created(t, r.Body), "", "Authorization", "Bearer "+mine.Token); err != nil || r.Status != http.StatusNoContent {
				t.Fatalf("%d %v", r.Status, err)
			}
		}
		what := q.method + " " + q.path + " " + q.body
		x, y := scimmyAnswer(t, a, one), scimmyAnswer(t, b, other)
		if x["itemsPerPage"] != nil && y["itemsPerPage"] != nil {
			if x["itemsPerPage"] != y["itemsPerPage"] {
				reasons[itemsPerPage]++
			}
			delete(x, "itemsPerPage")
			delete(y, "itemsPerPage")
		}
		diff := gocmp.Diff(x, y)
		switch {
		case diff != "" && q.differs == "":
			t.Errorf("%s\n(-ours +scimmy's):\n%s", what, diff)
		case diff == "" && q.differs != "":
			t.Errorf("%s\nno longer true: %s", what, q.differs)
		case diff == "":
			same++
		default:
			reasons[q.differs]++
			if got := strings.TrimSuffix(fmt.Sprint(a.Status, " ", cmp.Or(x["scimType"], any(""))), " "); got != q.ours {
				t.Errorf("%s\nours is %q, want %q", what, got, q.ours)
			}
		}
	}
	if reasons[itemsPerPage] == 0 {
		t.Errorf("no longer true: %s", itemsPerPage)
	}
	t.Logf("of %d requests both answer %d in the same way; %v", len(requests), same, reasons)
}

var scimmyPrefix = regexp.MustCompile(`"(http://127\.0\.0\.1:\d+)?/scim(/v2)?/`)

// scimmyAnswer is an answer with names for ids, without times and what comes before a path.
func scimmyAnswer(t *testing.T, r testserver.Response, names map[string]string) map[string]any {
	t.Helper()
	body := scimmyPrefix.ReplaceAllString(r.Body, `"/`)
	for id, name := range names {
		body = strings.ReplaceAll(body, id, name)
	}
	v := map[string]any{}
	if body != "" {
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	}
	delete(v, "detail")
	list, _ := v["Resources"].([]any)
	for _, r := range append(list, v) {
		if meta, ok := r.(map[string]any)["meta"].(map[string]any); ok {
			for _, name := range []string{"created", "lastModified", "version"} {
				delete(meta, name)
			}
		}
	}
	v["HTTP status"] = r.Status
	return v
}
