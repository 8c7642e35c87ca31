package server_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// probe is a request with a mark wherever a client can put something.
type probe struct {
	name, method, path, body string
	header                   []string
}

// probes returns requests that carry mark in each place there is, most of which
// are refused.
func probes(mark, id string) []probe {
	q := url.QueryEscape
	user := `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],`
	patch := `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`
	return []probe{
		{"a value in a filter", "GET", "/Users?filter=" + q(`userName eq "`+mark+`" and`), "", nil},
		{"a value without quotes", "GET", "/Users?filter=" + q("userName eq "+mark), "", nil},
		{"a value of the wrong type", "GET", "/Users?filter=" + q(`active eq "`+mark+`"`), "", nil},
		{"a date", "GET", "/Users?filter=" + q(`meta.created gt "`+mark+`"`), "", nil},
		{"an operator", "GET", "/Users?filter=" + q(`userName `+mark+` "x"`), "", nil},
		{"a good filter", "GET", "/Users?filter=" + q(`userName eq "`+mark+`"`), "", nil},
		{"sortOrder", "GET", "/Users?sortBy=userName&sortOrder=" + mark, "", nil},
		{"sortBy", "GET", "/Users?sortBy=" + mark, "", nil},
		{"count", "GET", "/Users?count=" + mark, "", nil},
		{"a parameter", "GET", "/Users?" + mark + "=" + mark, "", nil},
		{"percent-encoding", "GET", "/Users?filter=" + mark + "%zz", "", nil},
		{"an id", "GET", "/Users/" + mark, "", nil},
		{"an endpoint", "GET", "/" + mark, "", nil},
		{"a path behind an id", "GET", "/Users/" + id + "/" + mark, "", nil},
		{"a path that no route has", "GET", "/." + mark, "", nil},
		{"a schema", "GET", "/Schemas/" + mark, "", nil},
		{"a resource type", "GET", "/ResourceTypes/" + mark, "", nil},
		{"a path that is not plain", "GET", "/Users/%2e" + mark, "", nil},
		{"a method", "X" + strings.ToUpper(mark), "/Users", "", nil},
		{"a media type", "POST", "/Users", user + `"userName":"x"}`, []string{"Content-Type", "text/" + mark}},
		{"a media type wanted", "GET", "/Users/" + id, "", []string{"Accept", "text/" + mark}},
		{"a tag", "DELETE", "/Users/" + id, "", []string{"If-Match", `W/"` + mark + `"`}},
		{"a token", "GET", "/Users", "", []string{"Authorization", "Bearer " + mark}},
		{"another scheme", "GET", "/Users", "", []string{"Authorization", mark + " x"}},
		{"a token in the query", "GET", "/Users?access_token=" + mark, "", nil},
		{"headers of all kinds", "GET", "/Users/" + nobody, "", []string{"User-Agent", mark, "Referer", "https://" + mark + ".example/", "Cookie", "a=" + mark,
			"X-Forwarded-For", mark, "X-Forwarded-Host", mark + ".example", "X-Forwarded-Proto", mark, "Forwarded", "for=" + mark, "X-Request-Id", mark + "<>",
			"Origin", "https://" + mark, "From", mark, "Accept-Language", mark, "Prefer", mark}},
		{"broken JSON", "POST", "/Users", `{"userName":` + mark, nil},
		{"JSON with more after it", "POST", "/Users", user + `"userName":"x"}` + mark, nil},
		{"a value twice", "POST", "/Users", user + `"userName":"` + mark + `","username":"` + mark + `"}`, nil},
		{"a wrong value", "POST", "/Users", user + `"userName":"x","active":"` + mark + `"}`, nil},
		{"a wrong value within", "POST", "/Users", user + `"userName":"x","emails":[{"value":{"` + mark + `":"` + mark + `"}}]}`, nil},
		{"an unknown attribute", "POST", "/Users", user + `"` + mark + `":"` + mark + `"}`, nil},
		{"a schema in a body", "POST", "/Users", `{"schemas":["` + mark + `"],"userName":"x"}`, nil},
		{"a password too long", "POST", "/Users", user + `"userName":"x","password":"` + strings.Repeat(mark, 20) + `"}`, nil},
		{"a member", "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"x","members":[{"value":"` + mark + `"}]}`, nil},
		{"an op", "PATCH", "/Users/" + id, patch + `{"op":"` + mark + `","path":"title","value":"x"}]}`, nil},
		{"a value in a PATCH", "PATCH", "/Users/" + id, patch + `{"op":"add","path":"active","value":"` + mark + `"}]}`, nil},
		{"a value in a path", "PATCH", "/Users/" + id, patch + `{"op":"replace","path":"emails[type eq ` + mark + `].value","value":"x"}]}`, nil},
		{"a filter that matches nothing", "PATCH", "/Users/" + id, patch + `{"op":"replace","path":"emails[type ne \"` + mark + `\" and value sw \"` + mark + `\"].value","value":"x"}]}`, nil},
		{"a name that is taken", "PUT", "/Users/" + id, user + `"userName":"` + mark + `@taken.example"}`, nil},
	}
}

// TestErrorsDoNotRepeat: what a client sends does not come back in an error, so
// that nothing can be made to appear in one.
func TestErrorsDoNotRepeat(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	id := s.Users(t, 1)[0]
	const mark = "zqxmark"
	if r := s.Do(t, "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"`+mark+`@TAKEN.example"}`); r.Status != 201 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	for _, p := range probes(mark, id) {
		r := s.Do(t, p.method, p.path, p.body, p.header...)
		if r.Status >= 400 && strings.Contains(strings.ToLower(r.Body), mark) {
			t.Errorf("%s: %d %s", p.name, r.Status, r.Body)
		}
		for name, values := range r.Header {
			if strings.Contains(strings.ToLower(strings.Join(values, " ")), mark) {
				t.Errorf("%s: in the header %s: %s", p.name, name, values)
			}
		}
		if r.Status >= 500 {
			t.Errorf("%s: %d %s", p.name, r.Status, r.Body)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", p.name, r.Header)
		}
	}
}

// TestNamesThatComeBack: a filter with an attribute nobody knows is told its name,
// but no more than a name can be.
func TestNamesThatComeBack(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	id := s.Users(t, 1)[0]
	long := strings.Repeat("n", 3000)
	for _, name := range []string{"shoeSize", "shoe<script>alert(1)</script>", "shoe\"'&", long, "shöe", "shoe\u202esize"} {
		for _, r := range []testserver.Response{
			s.Do(t, "GET", "/Users?filter="+url.QueryEscape(name+` eq "x"`), ""),
			s.Do(t, "GET", "/Users?filter="+url.QueryEscape(`emails[`+name+` eq "x"]`), ""),
			s.Do(t, "PATCH", "/Users/"+id, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"add","path":`+quoted(name)+`,"value":"x"}]}`),
			s.Do(t, "PATCH", "/Users/"+id, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"add","path":`+quoted("emails["+name+` eq "x"]`)+`,"value":"x"}]}`),
			s.Do(t, "GET", "/Users?sortBy="+url.QueryEscape(name), ""),
		} {
			if r.Status != 400 || strings.ContainsAny(r.Body, "<>&'\u202eö") || strings.Contains(r.Body, "alert(") || len(r.Body) > 500 {
				t.Errorf("%.40q: %d %s", name, r.Status, r.Body)
			}
		}
	}
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestNothingPersonalInLogs plays what people and their secrets are made of
// through the server, with and without success, and looks for it in everything
// that was logged at the lowest level and in everything that is counted.
func TestNothingPersonalInLogs(t *testing.T) {
	t.Parallel()
	var log testserver.Log
	s := testserver.Start(t, testserver.Options{Log: log.Logger()})
	id := s.Users(t, 1)[0]
	const mark = "zqxcanary"
	password := mark + "-pass word/é"
	body := `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"` + mark + `@example.com","displayName":"` + mark + `","password":"` + password + `",
		"emails":[{"value":"` + mark + `@home.example"}],"phoneNumbers":[{"value":"` + mark + `"}],"addresses":[{"streetAddress":"` + mark + `"}],"name":{"familyName":"` + mark + `"}}`
	r := s.Do(t, "POST", "/Users", body)
	var u struct{ ID string }
	if err := json.Unmarshal([]byte(r.Body), &u); err != nil || r.Status != 201 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	s.Do(t, "PUT", "/Users/"+u.ID, body)
	s.Do(t, "GET", "/Users/"+u.ID+"?attributes=userName", "")
	s.Do(t, "GET", "/Users?filter="+url.QueryEscape(`emails.value eq "`+mark+`@home.example"`), "")
	s.Do(t, "POST", "/Users", body)
	s.Do(t, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"`+mark+`","members":[{"value":"`+u.ID+`","display":"`+mark+`"}]}`)
	for _, p := range probes(mark, id) {
		s.Do(t, p.method, p.path, p.body, p.header...)
	}
	s.Do(t, "DELETE", "/Users/"+u.ID, "")
	metrics := s.Metrics(t)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	secrets := map[string]string{
		"the mark": mark, "the password": password, "the token": s.Token, "the secret of the token": strings.Split(s.Token, "_")[2],
		"a query": "emails.value", "the Authorization header": "Bearer " + s.Token[:8],
	}
	for place, text := range map[string]string{"the log": log.String(), "the metrics": metrics} {
		if len(text) < 1000 {
			t.Fatalf("%s is nearly empty: %q", place, text)
		}
		for name, secret := range secrets {
			for form, s := range map[string]string{
				"as it is": secret, "in base64": base64.StdEncoding.EncodeToString([]byte(secret)), "in base64url": base64.RawURLEncoding.EncodeToString([]byte(secret)),
				"in hex": hex.EncodeToString([]byte(secret)), "in a URL": url.QueryEscape(secret), "in a path": url.PathEscape(secret), "in JSON": strings.Trim(quoted(secret), `"`),
			} {
				if i := strings.Index(strings.ToLower(text), strings.ToLower(s)); i >= 0 {
					t.Errorf("%s is in %s %s: …%s", name, place, form, text[max(0, i-200):min(len(text), i+100)])
				}
			}
		}
	}
}

// TestOneLineForEachRequest: who, what, how it ended and how long it took, in one
// line that is JSON whatever a client sends.
func TestOneLineForEachRequest(t *testing.T) {
	t.Parallel()
	var log testserver.Log
	s := testserver.Start(t, testserver.Options{Log: log.Logger()})
	id := s.Users(t, 1)[0]
	requests := []struct {
		method, path, body string
		header             []string
		want               map[string]any
	}{
		{"GET", "/Users/" + id, "", []string{"X-Request-Id", "r-1"}, map[string]any{"level": "INFO", "request_id": "r-1", "method": "GET", "route": "/scim/v2/Users/{id}", "status": "200"}},
		{"GET", "/Users?filter=x", "", []string{"X-Request-Id", "r-2"}, map[string]any{"request_id": "r-2", "route": "/scim/v2/Users", "status": "400", "error_type": "invalidFilter"}},
		{"GET", "/nowhere/at/%0aall", "", []string{"X-Request-Id", "r-3"}, map[string]any{"request_id": "r-3", "route": "none", "status": "404", "actor": "nobody"}},
		{"BREW", "/Users", "", []string{"X-Request-Id", "r-4"}, map[string]any{"request_id": "r-4", "method": "other", "status": "405"}},
		{"GET", "/Users", "", []string{"X-Request-Id", "r-5", "Authorization", "Bearer x"}, map[string]any{"request_id": "r-5", "status": "401", "actor": "nobody"}},
	}
	for _, q := range requests {
		s.Do(t, q.method, q.path, q.body, q.header...)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	lines := map[string]map[string]any{}
	for text := range strings.Lines(log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("no JSON: %q", text)
		}
		if line["msg"] != "request" {
			continue
		}
		rid := fmt.Sprint(line["request_id"])
		if lines[rid] != nil {
			t.Errorf("two lines for %s", rid)
		}
		lines[rid] = line
	}
	if len(lines) != len(requests) {
		t.Errorf("%d lines for %d requests", len(lines), len(requests))
	}
	for _, q := range requests {
		line := lines[q.header[1]]
		for name, want := range q.want {
			if line[name] != want {
				t.Errorf("%s %s: %s is %v, want %v", q.method, q.path, name, line[name], want)
			}
		}
		for _, name := range []string{"bytes", "ms"} {
			if _, ok := line[name].(float64); !ok {
				t.Errorf("%s %s: no %s", q.method, q.path, name)
			}
		}
	}
}

// TestMetricsDoNotGrow: 2,000 requests with names, paths, methods, filters and
// tokens that nobody has seen before add no series to those of the first few.
func TestMetricsDoNotGrow(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	id := s.Users(t, 1)[0]
	send := func(mark string, n int) error {
		p := probes(mark, id)[n]
		_, err := s.Try(t.Context(), p.method, p.path, p.body, p.header...)
		return err
	}
	series := func() map[string]bool {
		t.Helper()
		families, err := s.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]bool{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				all[f.GetName()+fmt.Sprint(m.GetLabel())] = true
			}
		}
		return all
	}
	var cheap []int // those that end before the store's writer
	for n, p := range probes("", "") {
		for range 2 {
			if err := send("first", n); err != nil {
				t.Fatal(err)
			}
		}
		if p.name != "an unknown attribute" && p.name != "a name that is taken" {
			cheap = append(cheap, n)
		}
	}
	before := series()
	var g errgroup.Group
	g.SetLimit(8)
	for n := range 2000 {
		g.Go(func() error { return send(fmt.Sprintf("m%dx", n), cheap[n%len(cheap)]) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for name := range series() {
		if !before[name] {
			t.Errorf("a new series: %s", name)
		}
	}
	if n := len(before); n < 20 || n > 500 {
		t.Errorf("there are %d series", n)
	}
}

// TestRequestIDs: one that is harmless is kept, so that a proxy's log and this one
// can be read together; anything else gets a new one, each its own.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for _, given := range []string{"a", "0198c0de-1.B_2", strings.Repeat("x", 64)} {
		if got := s.Do(t, "GET", "/Users", "", "X-Request-Id", given).Header.Get("X-Request-Id"); got != given {
			t.Errorf("given %q, got %q", given, got)
		}
	}
	seen := map[string]bool{}
	for _, given := range []string{"", strings.Repeat("x", 65), "a b", "<script>", "å", "a,b", `"`, "a/b", "", ""} {
		got := s.Do(t, "GET", "/Users", "", "X-Request-Id", given).Header.Get("X-Request-Id")
		if got == "" || got == given || len(got) != 16 || seen[got] {
			t.Errorf("given %q, got %q", given, got)
		}
		seen[got] = true
	}
}

// TestStoreMetrics: what a store writes is counted.
func TestStoreMetrics(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	m := server.NewStoreMetrics(r, "sqlite")
	m.Committed(3, 0)
	m.Committed(5, 0)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if h := f.GetMetric()[0].GetHistogram(); h != nil {
			got[f.GetName()] = h.GetSampleSum()
		} else {
			got[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if got["roster_store_commits_total"] != 2 || got["roster_store_commit_writes"] != 8 {
		t.Errorf("got %v", got)
	}
}

// drain reads a response to its end.
func drain(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
