package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestNothingSentComesBack puts a mark wherever a request to a route for people has
// room for one. It is in no error (V22), no log line (V24) and no metric, and marks
// that nobody has seen before add no series (V35).
func TestNothingSentComesBack(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	var log testserver.Log
	w := begin(t, testserver.Options{Server: trusting, Log: log.Logger()})
	in := w.mfa(t, w.person(t, "zqy-admin", auth.GlobalAdministrator))
	members := []string{"tenant", "name", "userName", "password", "passcode", "recoveryCode", "code", "link", "current", "new", "cookie", "scopes",
		"profile", "references", "networks", "rate", "burst", "expires", "overlapSeconds", "state", "when", "then", "assignment", "durationSeconds", "reason", "emergency", "id", "from", "to", "emails"}
	sent := 0
	play := func(mark string, every int) {
		t.Helper()
		for _, m := range w.Mounts {
			if m.Prefix != "/auth/v1" && m.Prefix != "/admin/v1" {
				continue
			}
			for _, route := range m.Routes {
				path := m.Prefix + strings.ReplaceAll(route.Path, "{id}", mark) + "?limit=" + mark + "&after=" + mark + "&" + mark + "=" + mark
				// The name of a member is told to whoever sent it, and to nobody else.
				named := fmt.Sprintf(`{%q:1}`, mark)
				bodies := []string{""}
				if route.Method != "GET" {
					bodies = []string{named, mark, `{"x":` + mark, `["` + mark + `"]`, `{"name":"` + mark + `","NAME":"` + mark + `"}`}
					for i := 0; i < len(members); i += every {
						name := members[i]
						bodies = append(bodies, fmt.Sprintf(`{%q:{"value":%q},"extra":1}`, name, mark), fmt.Sprintf(`{%q:[[%q]]}`, name, mark), fmt.Sprintf(`{%q:%q}`, name, mark))
					}
				}
				for _, body := range bodies {
					sent++
					from := fmt.Sprintf("10.%d.%d.%d", sent>>16&255, sent>>8&255, sent&255) // with attempts of its own
					authorization := "Bearer " + in.Token
					if route.Needs.Public() {
						authorization = ""
					}
					r := w.send(t, route.Method, path, body, "Authorization", authorization, "Content-Type", "application/json", "User-Agent", mark,
						"X-Request-Id", mark+"<>", "Referer", "https://"+mark, "Accept-Language", mark, "X-Forwarded-For", from)
					if r.Status >= 500 || r.Status < 400 && route.Method != "GET" {
						t.Fatalf("%s %s with %s: %d %s", route.Method, path, body, r.Status, r.Body)
					}
					if r.Status >= 400 && body != named && strings.Contains(r.Body, mark) {
						t.Errorf("%s %s with %s repeats it: %d %s", route.Method, path, body, r.Status, r.Body)
					}
					for name, values := range r.Header {
						if strings.Contains(strings.Join(values, " "), mark) {
							t.Errorf("%s %s repeats it in %s: %s", route.Method, path, name, values)
						}
					}
				}
			}
			w.send(t, "GET", m.Prefix+"/"+mark, "", "Authorization", "Bearer "+mark)
			w.send(t, "X"+strings.ToUpper(mark), m.Prefix+"/session", "", "Cookie", auth.CookieName+"="+mark)
		}
	}
	series := func() map[string]bool {
		t.Helper()
		families, err := w.Registry.Gather()
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
	play("zqxfirst", 1)
	before := series()
	for n := range 3 {
		play(fmt.Sprintf("zqx%dx", n), 5)
	}
	for name := range series() {
		if !before[name] {
			t.Errorf("a new series: %s", name)
		}
	}
	if strings.Contains(strings.ToLower(w.Metrics(t)), "zqx") {
		t.Error("a mark stands in the metrics")
	}
	if r := w.get(t, "/auth/v1/session", in.Token); r.Status != 200 {
		t.Errorf("the session has ended, so not everything was tried: %d", r.Status)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(strings.ToLower(line), "zqx") {
			t.Errorf("a mark stands in the log: %s", line)
		}
		if strings.Contains(line, "zqy-admin") {
			t.Errorf("the name of who asked stands in the log: %s", line)
		}
	}
	if !strings.Contains(log.String(), `"route":"/auth/v1/sign-in"`) {
		t.Error("the log has no request")
	}
	t.Logf("%d requests, %d series", sent, len(before))
}
