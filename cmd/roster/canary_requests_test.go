package main

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roster-id/roster/schemas"
)

// TestCanariesOfRefusals puts texts into every place of requests that are refused, and
// looks for them in the store, whose provisioning log tells of these requests, and in
// what is shown of it.
func TestCanariesOfRefusals(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	token := rosterToken(t, "client", "create", "--store", store+"/", "--name", "okta", "--scopes", "users,groups")
	strict := rosterToken(t, "client", "create", "--store", store, "--name", "strict", "--scopes", "users,groups", "--profile", "strict")
	s := serveTLS(t, store)
	texts := map[string]string{"the token": secretOf(token), "the strict token": secretOf(strict)}
	value := func(what string) string { texts[what] = canary(what); return quote(texts[what]) }
	name := func(what string) string { texts[what] = "canary" + rand.Text(); return texts[what] }
	const (
		patchOp = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
		bulk    = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
		search  = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
	)
	res, body, err := s.do("POST", "/Users", token, `{"schemas":["`+schemas.UserURI+`"],"userName":"ana"}`)
	if err != nil || res.StatusCode != 201 {
		t.Fatalf("%v %s, %v", res, body, err)
	}
	ana := "/Users/" + between(body, `"id":"`, `"`)
	op := func(method, path, data string) string {
		return fmt.Sprintf(`{"method":%q,"path":%q,"bulkId":%s,"version":%s,"data":%s}`, method, path, value("the bulkId of "+path), value("the version of "+path), data)
	}
	patch := func(operations string) string {
		return `{"schemas":["` + patchOp + `"],"Operations":[` + operations + `]}`
	}
	requests := []struct{ method, path, body string }{
		{"POST", "/Users", `{"schemas":["` + schemas.UserURI + `",` + value("a schema") + `],"userName":"ana","externalId":` + value("an externalId") + `,"password":` + value("a password") +
			`,"name":{"givenName":` + value("a name") + `,"` + name("the name of a sub-attribute") + `":1},"emails":[{"value":` + value("an address") + `,"type":` + value("a type") + `}],"` +
			name("the name of an attribute") + `":{"x":[` + value("a value of nobody's") + `]},"` + schemas.EnterpriseUserURI + `":{"manager":{"displayName":` + value("a manager") + `}}}`},
		{"POST", "/Users", `{"userName":"x","active":` + value("no boolean") + `}`},
		{"POST", "/Users", `{"userName":"x","password":{"value":` + value("a password in an object") + `}}`},
		{"POST", "/Users", `{"userName":` + value("no JSON")},
		{"PUT", ana, `{"schemas":["` + schemas.UserURI + `"],"title":` + value("a title") + `}`},
		{"PATCH", ana, patch(`{"op":` + value("an op") + `,"path":"title","value":` + value("the value of no op") + `}`)},
		{"PATCH", ana, patch(`{"op":"add","path":` + quote(`emails[value eq `+value("a value in a path")+` and `+name("a name in a path")+` pr].`+name("a sub-attribute in a path")) + `,"value":` + value("the value of no path") + `}`)},
		{"PATCH", ana, patch(`{"op":"replace","value":{"password":` + value("a password without a path") + `,"active":` + value("no boolean without a path") + `,"` + name("a name without a path") + `":1}}`)},
		{"PATCH", ana, patch(`{"op":"replace","path":"password","value":{"x":` + value("a password in an object of a PATCH") + `}}`)},
		{"POST", "/Groups", `{"schemas":["` + schemas.GroupURI + `"],"displayName":` + value("a group") + `,"members":[{"value":` + value("a member") + `,"display":` + value("what a member is called") + `}]}`},
		{"GET", "/Users?filter=" + url.QueryEscape(`title eq `+value("a value in a filter")+` and `+name("a name in a filter")+` pr`) + "&sortBy=" + name("what is sorted by") + "&" + name("a parameter") + "=1", ""},
		{"POST", "/Users/.search", `{"schemas":["` + search + `"],"filter":` + quote(name("a name in a search")+` eq `+value("a value in a search")) + `,"attributes":["` + name("an attribute in a search") + `"]}`},
		{"GET", "/Users/" + name("an id"), ""},
		{"POST", "/Bulk", `{"schemas":["` + bulk + `"],"Operations":[` + strings.Join([]string{
			op("POST", "/Users", `{"userName":"ana","title":`+value("a title in Bulk")+`,"password":`+value("a password in Bulk")+`}`),
			op("PATCH", ana, patch(`{"op":"add","path":"active","value":`+value("no boolean in Bulk")+`}`)),
			op("PUT", "/Users/"+name("an id in Bulk"), `{"userName":`+value("a user name in Bulk")+`}`),
			op("POST", "/"+name("an endpoint in Bulk"), `{}`),
			op(name("a method in Bulk"), "/Users", `{"x":`+value("the data of no method")+`}`),
		}, ",") + `]}`},
		{"POST", "/Bulk", `{"schemas":[` + value("no Bulk") + `],"Operations":[` + op("POST", "/Groups", `{"displayName":`+value("what is not in Bulk")+`}`) + `]}`},
	}
	refused := 0
	for _, bearer := range []string{token, strict} {
		for _, r := range requests {
			res, body, err := s.do(r.method, r.path, bearer, r.body, "If-None-Match", `W/"`+name("an entity tag of "+r.path)+`"`)
			if err != nil || res.StatusCode < 400 && !strings.Contains(body, `"status":"4`) || res.StatusCode >= 500 {
				t.Errorf("%s %.20s: %v %s, %v", r.method, r.path, res, body, err)
			}
			refused++
		}
	}
	shown := map[string]string{}
	told := func() int {
		n := 0
		for _, client := range []string{"okta", "strict"} {
			shown["the log of "+client] = roster(t, "client", "log", client, "--refused", "--json", "--store", store)
			shown["the log of "+client+", for people"] = roster(t, "client", "log", client, "--store", store)
			n += strings.Count(shown["the log of "+client], "\n")
		}
		return n
	}
	for tries := 0; told() != refused; tries++ {
		if tries == 100 {
			t.Fatalf("%d requests were refused, and in the log are %d:\n%s", refused, told(), shown["the log of okta, for people"])
		}
		time.Sleep(100 * time.Millisecond)
	}
	maps.Copy(shown, files(t, store))
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	for where, content := range files(t, store) {
		shown[where+" afterwards"] = content
	}
	lookFor(t, texts, shown)
	for _, what := range []string{`"scimType":"uniqueness"`, `"scimType":"invalidPath"`, `"scimType":"invalidFilter"`, `"password":"(secret)"`, `"bulkOperation":4`} {
		if !strings.Contains(shown["the log of okta"], what) {
			t.Errorf("the log does not tell of %s:\n%s", what, shown["the log of okta"])
		}
	}
	if text := shown["the log of okta, for people"]; !strings.Contains(text, "uniqueness: userName is already in use\n") || !strings.Contains(text, "RFC 7644 §3.5.2") || !strings.Contains(text, "POST /scim/v2/Bulk") {
		t.Errorf("people are told:\n%s", text)
	}
}
