package console_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/api"
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
