package scim_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// made is the answer to a POST that must succeed.
func made(t *testing.T, s *testserver.Server, path, body string) map[string]any {
	t.Helper()
	r := s.Do(t, "POST", path, body)
	var v map[string]any
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 201 {
		t.Fatalf("POST %s %s: %d %s", path, body, r.Status, r.Body)
	}
	return v
}

// TestExternalIDsFindNothing: whatever a client calls somebody, the server's ids are
// its own: nobody is found, changed or impersonated by an externalId (V01).
func TestExternalIDsFindNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteStore(t))
	by, before := hr(t), w.guarded()
	seen := map[string]bool{}
	for _, r := range w.ids {
		seen[r] = true
	}
	for i, external := range []string{
		"1", "0", "-1", w.ids["bob"], w.ids["gus"], w.ids["admins"], w.ids["gus is GA"], "00000000-0000-7000-8000-000000000001",
		"8b2c1f1e-5f0e-4c58-9a5c-2f2b7f9d3f10", "null", "../1", "9223372036854775808", "gus",
	} {
		id, err := w.post(by, "User", fmt.Sprintf(`{"userName":"new%d","externalId":%q,"id":%q}`, i, external, external))
		if err != nil {
			t.Fatalf("externalId %s: %v", external, err)
		}
		if seen[id] || id == external {
			t.Errorf("externalId %s: the new user is %s, which was there before", external, id)
		}
		seen[id] = true
		if err := w.patch(by, "User", id, `{"op":"add","path":"title","value":"new"}`); err != nil {
			t.Errorf("externalId %s: %v", external, err)
		}
		r, err := w.store.Get(t.Context(), "default", "User", external)
		if err == nil && strings.Contains(string(r.Doc), fmt.Sprint("new", i)) {
			t.Errorf("externalId %s finds the new user", external)
		}
	}
	if got := w.guarded(); got != before {
		t.Errorf("an administrator is other than before:\n%s", cmp.Diff(before, got))
	}
	r, err := w.store.Get(t.Context(), "default", "User", w.ids["bob"])
	if err != nil || strings.Contains(string(r.Doc), "new") {
		t.Errorf("somebody else is other than before: %s, %v", r.Doc, err)
	}
}

// TestIDsComeOnce: ids are not given again, and what was known of somebody who is
// gone, id and version, gets at nobody (V19).
func TestIDsComeOnce(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	seen := map[string]bool{}
	for _, typ := range []struct{ path, body string }{
		{"/Users", `{"schemas":["` + schemas.UserURI + `"],"userName":"ana","externalId":"1"}`},
		{"/Groups", `{"schemas":["` + schemas.GroupURI + `"],"displayName":"staff","externalId":"1"}`},
	} {
		var last, tag string
		for range 200 {
			v := made(t, s, typ.path, typ.body)
			id := v["id"].(string)
			if seen[id] {
				t.Fatalf("the id %s came twice", id)
			}
			seen[id] = true
			if last != "" {
				for _, method := range []string{"GET", "PUT", "PATCH", "DELETE"} {
					body := map[string]string{"PUT": typ.body, "PATCH": patchOp(`{"op":"add","path":"externalId","value":"2"}`)}[method]
					if r := s.Do(t, method, typ.path+"/"+last, body, "If-Match", tag); r.Status != 404 {
						t.Fatalf("%s of somebody who is gone: %d %s", method, r.Status, r.Body)
					}
				}
			}
			last, tag = id, v["meta"].(map[string]any)["version"].(string)
			if r := s.Do(t, "DELETE", typ.path+"/"+id, ""); r.Status != 204 {
				t.Fatalf("DELETE: %d %s", r.Status, r.Body)
			}
		}
	}
}

// TestPathDecidesEverywhere: on each write the id, the tenant and the type are those
// of path and credential; whatever a body says of them, nothing else changes (V04).
func TestPathDecidesEverywhere(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Scopes: []string{"users", "groups", "roles", "roles:assign:one", "roles:assign:other"}})
	user := func(name string) string {
		return made(t, s, "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":%q}`, schemas.UserURI, name))["id"].(string)
	}
	role := func(name string) string {
		return made(t, s, "/Roles", fmt.Sprintf(`{"value":%q}`, name))["id"].(string)
	}
	group := func(name string) string {
		return made(t, s, "/Groups", fmt.Sprintf(`{"schemas":[%q],"displayName":%q}`, schemas.GroupURI, name))["id"].(string)
	}
	u1, u2, r1, r2, g1, g2 := user("one"), user("other"), role("one"), role("other"), group("one"), group("other")
	assignment := func(r, u string) string {
		return made(t, s, "/RoleAssignments", fmt.Sprintf(`{"role":{"value":%q},"principal":{"value":%q}}`, r, u))["id"].(string)
	}
	a1, a2 := assignment(r1, u1), assignment(r2, u2)
	for _, c := range []struct{ path, id, other, rest, attr string }{
		{"/Users/", u1, u2, `"schemas":["` + schemas.UserURI + `"],"userName":"one"`, "title"},
		{"/Groups/", g1, g2, `"schemas":["` + schemas.GroupURI + `"],"displayName":"one"`, "externalId"},
		{"/Roles/", r1, r2, `"value":"one"`, "display"},
		{"/RoleAssignments/", a1, a2, fmt.Sprintf(`"role":{"value":%q},"principal":{"value":%q}`, r1, u1), "externalId"},
	} {
		before := s.Do(t, "GET", c.path+c.other, "")
		mine := s.Do(t, "GET", c.path+c.id, "")
		if before.Status != 200 || mine.Status != 200 {
			t.Fatalf("GET: %d, %d", before.Status, mine.Status)
		}
		meta := `"meta":{"location":"` + s.URL + c.path + c.other + `","version":"W/\"7\"","resourceType":"Group"}`
		collection := strings.TrimSuffix(c.path, "/")
		for what, r := range map[string]testserver.Response{
			"PUT":                 s.Do(t, "PUT", c.path+c.id, `{`+c.rest+`,"id":"`+c.other+`",`+meta+`}`),
			"PUT with ID":         s.Do(t, "PUT", c.path+c.id, `{`+c.rest+`,"ID":"`+c.other+`","tenant":"acme"}`),
			"PATCH":               s.Do(t, "PATCH", c.path+c.id, patchOp("%s", `{"op":"replace","value":{"id":"`+c.other+`","`+c.attr+`":"x",`+meta+`}}`)),
			"PATCH id":            s.Do(t, "PATCH", c.path+c.id, patchOp("%s", `{"op":"replace","path":"id","value":"`+c.other+`"}`)),
			"PATCH the message":   s.Do(t, "PATCH", c.path+c.id, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"id":"`+c.other+`","Operations":[{"op":"add","path":"`+c.attr+`","value":"y","id":"`+c.other+`"}]}`),
			"PUT with a query":    s.Do(t, "PUT", c.path+c.id+"?id="+c.other, `{`+c.rest+`}`),
			"DELETE of all":       s.Do(t, "DELETE", collection+"?id="+c.other, ""),
			"DELETE with a body":  s.Do(t, "DELETE", c.path+"00000000-0000-7000-8000-000000000000", `{"id":"`+c.other+`"}`),
			"POST of another one": s.Do(t, "POST", collection, `{`+strings.ReplaceAll(c.rest, `"one"`, `"third"`)+`,"id":"`+c.other+`",`+meta+`}`),
		} {
			want := map[string][]int{"PATCH id": {400}, "DELETE of all": {405}, "DELETE with a body": {404}, "POST of another one": {201, 409}}[what]
			if want == nil {
				want = []int{200}
			}
			if !slices.Contains(want, r.Status) {
				t.Errorf("%s%s: %d %s, want %d", c.path, what, r.Status, r.Body, want)
			}
			if r.Status < 300 && r.Body != "" {
				var v struct {
					ID   string
					Meta struct{ Location, ResourceType string }
				}
				if err := json.Unmarshal([]byte(r.Body), &v); err != nil || v.ID == c.other || !strings.HasSuffix(v.Meta.Location, c.path+v.ID) || what != "POST of another one" && v.ID != c.id {
					t.Errorf("%s%s: %s", c.path, what, r.Body)
				}
			}
		}
		after := s.Do(t, "GET", c.path+c.other, "")
		before.Header, after.Header = nil, nil
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s: another one has changed:\n%s", c.path, diff)
		}
	}
}

// TestNoOracle: what is never returned cannot be asked about, however it is
// spelt and placed: the answer does not depend on whether there is such a value, or
// any (V07).
func TestNoOracle(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	const secret = "correct horse battery"
	with := made(t, s, "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"with","password":%q}`, schemas.UserURI, secret))["id"].(string)
	without := made(t, s, "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"without"}`, schemas.UserURI))["id"].(string)
	hidden := 0
	for _, typ := range s.Provider.Schemas.Types() {
		for _, a := range typ.Attributes() {
			if a.Readable() {
				continue
			}
			hidden++
			names := []string{a.Name, strings.ToUpper(a.Name), a.Path, schemas.UserURI + ":" + a.Name, schemas.UserURI + ":" + strings.ToUpper(a.Name)}
			for _, name := range names {
				for _, shape := range []string{`%s eq "%s"`, `%s ne "%s"`, `%s sw "%s"`, `%s co "%s"`, `%s gt "%s"`, `not (%s eq "%s")`, `userName eq "with" and %s eq "%s"`, `userName pr or %s eq "%s"`} {
					answers := map[string]int{}
					for _, value := range []string{secret, "wrong", ""} {
						r := s.Do(t, "GET", typ.Endpoint+"?filter="+url.QueryEscape(fmt.Sprintf(shape, name, value)), "")
						answers[fmt.Sprint(r.Status, r.Body)]++
						if r.Status != 400 {
							t.Errorf("%s: %d %s", fmt.Sprintf(shape, name, value), r.Status, r.Body)
						}
					}
					if len(answers) != 1 {
						t.Errorf("%s of %s: the answers differ: %v", shape, name, answers)
					}
				}
				for _, q := range []string{"filter=" + url.QueryEscape(name+" pr"), "filter=" + url.QueryEscape("not ("+name+" pr)"), "filter=" + url.QueryEscape(name+" eq null"), "sortBy=" + url.QueryEscape(name)} {
					if r := s.Do(t, "GET", typ.Endpoint+"?"+q, ""); r.Status != 400 {
						t.Errorf("%s: %d %s", q, r.Status, r.Body)
					}
				}
				for _, q := range []string{"attributes=" + url.QueryEscape(name), "excludedAttributes=userName"} {
					if r := s.Do(t, "GET", typ.Endpoint+"?"+q, ""); strings.Contains(strings.ToLower(r.Body), "password") || strings.Contains(r.Body, "argon2") {
						t.Errorf("%s: %d %s", q, r.Status, r.Body)
					}
				}
				// The filter of a PATCH asks too. Both users get the same answer.
				op := patchOp(`{"op":"replace","path":"emails[%s eq \"%s\"].value","value":"x"}`, name, secret)
				a, b := s.Do(t, "PATCH", "/Users/"+with, op), s.Do(t, "PATCH", "/Users/"+without, op)
				if a.Status != 400 || a.Body != b.Body {
					t.Errorf("PATCH: %d %s, %d %s", a.Status, a.Body, b.Status, b.Body)
				}
			}
		}
	}
	if hidden == 0 {
		t.Error("no attribute is hidden, so this shows nothing")
	}
}

// TestLookalikes: a name that is another one in Unicode's compatible forms, in
// capitals or with white space around is that name (S10).
func TestLookalikes(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	name := func(s string) string { return fmt.Sprintf(`{"schemas":[%q],"userName":%q}`, schemas.UserURI, s) }
	made(t, s, "/Users", name("abcdefghijklmnopqrstuvwxyz0123456789"))
	variants := map[string]bool{}
	const whole = "abcdefghijklmnopqrstuvwxyz0123456789"
	for r := rune(0x80); r < 0x20000; r++ {
		// Unicode's own table says what looks like a letter of ours; this is not
		// how names are compared, but has to come to the same.
		plain := strings.ToLower(norm.NFKD.String(string(r)))
		if len(plain) == 1 && strings.Contains(whole, plain) {
			variants[strings.Replace(whole, plain, string(r), 1)] = true
		}
	}
	for i := range len(whole) {
		variants[whole[:i]+strings.ToUpper(whole[i:])] = true
	}
	for _, space := range []string{" ", "\t", "\u00a0", "\u2003", "\u3000"} {
		variants[space+whole], variants[whole+space] = true, true
	}
	for _, unseen := range "\x00\t\x7f\u0085\u00ad\u034f\u061c\u115f\u17b4\u180b\u200b\u200d\u2028\u202e\u2060\u2066\u3164\ufe0f\ufeff\uffa0\U000e0061\U000e0100" {
		variants[whole[:9]+string(unseen)+whole[9:]] = true
	}
	delete(variants, whole)
	if len(variants) < 500 {
		t.Errorf("%d variants", len(variants))
	}
	for _, v := range slices.Sorted(maps.Keys(variants)) {
		if r := s.Do(t, "POST", "/Users", name(v)); r.Status != 409 && r.Status != 400 {
			t.Errorf("%+q: %d %s", v, r.Status, r.Body)
		}
	}
}

// TestNothingIsMadeUp: somebody without an address has none (V23).
func TestNothingIsMadeUp(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	v := made(t, s, "/Users", `{"schemas":["`+schemas.UserURI+`"],"userName":"ana"}`)
	if got := slices.Sorted(maps.Keys(v)); !slices.Equal(got, []string{"active", "id", "meta", "schemas", "userName"}) {
		t.Errorf("of a user with a name there is %q", got)
	}
	if r := s.Do(t, "GET", "/Users?filter="+url.QueryEscape("emails pr or externalId pr or displayName pr or name pr"), ""); !strings.Contains(r.Body, `"totalResults":0`) {
		t.Errorf("found by what was not sent: %s", r.Body)
	}
}

// TestAnswersAreOnesOwn: of two who ask at the same time, with much to ask, each
// gets what is theirs (V29).
func TestAnswersAreOnesOwn(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	const acme = "acme"
	tokens := map[string]string{"default": s.Token, acme: s.Issue(t, &storage.Client{Tenant: acme, Name: "acme", Scopes: []string{"users"}})}
	ids := map[string]string{}
	for tenant, token := range tokens {
		r := s.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"of %s"}`, schemas.UserURI, tenant), "Authorization", "Bearer "+token)
		var v struct{ ID string }
		if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 201 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		ids[tenant] = v.ID
	}
	var wg sync.WaitGroup
	for tenant, token := range tokens {
		for worker := range 16 {
			wg.Go(func() {
				for n := range 100 {
					method, path, body := "GET", "/Users/"+ids[tenant], ""
					switch (n + worker) % 3 {
					case 1:
						path = "/Users?filter=" + url.QueryEscape(`userName sw "of"`)
					case 2:
						method, body = "PATCH", patchOp(`{"op":"replace","path":"title","value":"title of %s %d.%d"}`, tenant, worker, n)
					}
					request := fmt.Sprintf("%s-%d-%d", tenant, worker, n)
					r, err := s.Try(t.Context(), method, path, body, "Authorization", "Bearer "+token, "X-Request-Id", request)
					if err != nil || r.Status != 200 && r.Status != 503 || r.Header.Get("X-Request-Id") != request {
						t.Errorf("%s %s: %d %v %s, %v", method, path, r.Status, r.Header, r.Body, err)
						return
					}
					if r.Status == 200 && (!strings.Contains(r.Body, ids[tenant]) || strings.Count(r.Body, "of "+tenant) < strings.Count(r.Body, "of ")) {
						t.Errorf("%s gets %s", tenant, r.Body)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}
