package console_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/internal/console"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
)

// TestProblemsInSwedish: what the server may tell whoever follows a link has Swedish words.
func TestProblemsInSwedish(t *testing.T) {
	script, err := os.ReadFile("static/setup.js")
	if err != nil {
		t.Fatal(err)
	}
	p := auth.DefaultPolicy()
	problems := []error{
		auth.ErrFactorDisabled, auth.ErrAdministered, auth.ErrPasswordTooLong, scim.ErrAccountExists,
		&schemas.ValueError{Path: "userName", Msg: "is required"},
	}
	for password, words := range map[string][]string{
		"short": nil, "password1234": nil, "abcdabcdabcd": nil, "anna.lindqvist": {"Anna Lindqvist"},
	} {
		problems = append(problems, p.Check(password, true, words...))
	}
	digits := regexp.MustCompile(`\d+`)
	seen := map[string]bool{}
	for _, problem := range problems {
		w := httptest.NewRecorder()
		api.WriteError(w, nil, problem)
		var told struct{ Title, Detail string }
		if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil {
			t.Fatal(err)
		}
		said := told.Detail
		if said == "" || told.Title == "There is an administrator" || strings.HasPrefix(told.Title, "Passcodes") {
			said = told.Title // says it all
		}
		key := digits.ReplaceAllString(said, "#")
		seen[key] = true
		if !strings.Contains(string(script), fmt.Sprintf("%q:", key)) {
			t.Errorf("no Swedish for %q", key)
		}
	}
	if len(seen) != len(problems) {
		t.Errorf("of %d problems %d differ", len(problems), len(seen))
	}
}

// TestPages: browsers load nothing for the pages but what this server has, run nothing that
// stands in a page, and make no markup of a text; and the pages are made for that.
func TestPages(t *testing.T) {
	want := []string{
		"base-uri 'none'", "connect-src 'self'", "default-src 'none'", "form-action 'self'", "frame-ancestors 'none'",
		"img-src 'self' data:", "require-trusted-types-for 'script'", "script-src 'self'", "style-src 'self'",
	}
	forbidden := map[string]*regexp.Regexp{
		"text/html":       regexp.MustCompile(`(?i)<script(?: defer)?>|<style|\son\w+=|\sstyle=|(?:src|href)="(?:https?:)?//`),
		"text/javascript": regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|https?://`),
		"text/css":        regexp.MustCompile(`(?i)@import|url\(`),
	}
	for _, route := range console.Routes() {
		w := httptest.NewRecorder()
		if err := route.Serve(w, httptest.NewRequest(route.Method, route.Path, nil), auth.Principal{}); err != nil {
			t.Fatal(err)
		}
		got := strings.Split(w.Header().Get("Content-Security-Policy"), "; ")
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: the policy is %q, want %q", route.Path, got, want)
		}
		media, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
		bad := forbidden[media]
		if bad == nil {
			t.Fatalf("%s is sent as %q", route.Path, media)
		}
		if found := bad.Find(w.Body.Bytes()); found != nil {
			t.Errorf("%s has what the policy forbids: %q", route.Path, found)
		}
	}
}
