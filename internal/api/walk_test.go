package api_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// nobody is the id of nothing.
const nobody = "00000000-0000-7000-8000-fffffffffffe"

// allRoutes returns every route of the server with its path from the root.
func allRoutes(s *testserver.Server) []scim.Route {
	var all []scim.Route
	for _, m := range s.Mounts {
		for _, r := range m.Routes {
			r.Path = m.Prefix + strings.NewReplacer("{id}", nobody, "{type}", "Gadgets").Replace(r.Path)
			all = append(all, r)
		}
	}
	return all
}

// TestNeeds: what each route asks for is what testdata/needs.list says. TestEveryRoute holds
// the gate to what routes declare; this holds what they declare to one place where a
// change of it is seen (S21, S22, S45).
func TestNeeds(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	want, err := os.ReadFile("testdata/needs.list")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range w.Mounts {
		for _, r := range m.Routes {
			got = append(got, fmt.Sprintf("%s%s %s %s", m.Prefix, r.Path, r.Method, r.Needs))
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), got); diff != "" {
		t.Errorf("(-testdata/needs.list +routes):\n%s", diff)
	}
}

// What a request met at the gate.
const (
	passed  = "passed"
	unknown = "401"
	tooLow  = "401, a passcode"
	stale   = "401, a fresh passcode"
	refused = "403"
)

func met(r testserver.Response) string {
	challenge := r.Header.Get("WWW-Authenticate")
	switch {
	case r.Status == 401 && strings.Contains(challenge, `error="insufficient_user_authentication"`):
		if strings.HasSuffix(challenge, `acr_values="mfa", max_age="300"`) {
			return stale
		}
		return tooLow
	case r.Status == 401 && challenge != "":
		return unknown
	case r.Status == 403:
		return refused
	case r.Status == 401:
		return "401 without a challenge"
	case r.Status >= 500:
		return fmt.Sprint(r.Status)
	}
	return passed
}

// bearer is somebody at the gate: what they bring, and what a need makes of it. The
// latter is written down apart from auth.Need: for each kind of need, in the order
// of needKinds.
type bearer struct {
	name, token string
	want        string
	// may says which permissions and scopes, by their names in a need, they have.
	may func(string) bool
}

// needKinds are the kinds of needs, as auth.Need.String begins. For each a bearer
// has a letter: + passes, 1 is unknown, - may not, m needs a passcode, s a fresh one,
// and ? passes with the permission or scope and may not without.
var needKinds = []string{"public", "token", "scope(", "session(password)", "session(mfa)", "session", "mfa(", "step-up(", "step-up"}

func (b bearer) expects(need string) string {
	for i, kind := range needKinds {
		if !strings.HasPrefix(need, kind) {
			continue
		}
		letter := b.want[i]
		_, what, _ := strings.Cut(strings.TrimSuffix(need, ")"), "(")
		switch letter {
		case 'S': // with the permission it must be fresh
			if letter = '-'; b.may(what) {
				letter = 's'
			}
		case '?':
			if letter = '-'; b.may(what) {
				letter = '+'
			}
		}
		return map[byte]string{'+': passed, '1': unknown, '-': refused, 'm': tooLow, 's': stale}[letter]
	}
	return "a need of an unknown kind: " + need
}

// inCookie is what the names of those end with whose token a browser brings.
const inCookie = ", in a cookie"

// TestEveryRoute walks every route with every kind of credential and compares what
// happens with what the route declares. It counts, too: no route that is for
// administrators lets in a session after the password alone.
func TestEveryRoute(t *testing.T) {
	raced.Skip(t)
	onStores(t, testEveryRoute)
}

func testEveryRoute(t *testing.T, w *world) {
	all := func(string) bool { return true }
	everybody := func(what string) bool { return what != "Event:read" } // that is for clients
	none := func(string) bool { return false }
	only := func(list ...string) func(string) bool {
		return func(what string) bool { return slices.Contains(list, what) }
	}

	w.gadgets(t)
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	w.signIn(t, admin) // has no passcode app yet
	ended := w.enrol(t, admin)
	if r := w.post(t, "/auth/v1/sign-out", ended.Token, nil); r.Status != 204 {
		t.Fatalf("sign-out: %d %s", r.Status, r.Body)
	}
	expired := w.mfa(t, admin)
	w.advance(24 * time.Hour)
	plain := w.person(t, "plain")
	withApp := w.person(t, "with an app")
	helper := w.person(t, "helper", auth.HelpdeskAdministrator)
	auditor := w.person(t, "auditor", auth.Auditor)
	limited := w.signIn(t, w.person(t, "new admin", auth.GlobalAdministrator))
	noPermission := w.mfa(t, withApp)
	helping := w.mfa(t, helper)
	auditing := w.mfa(t, auditor)
	old := w.mfa(t, admin)
	password := w.signIn(t, admin) // of an administrator, without the passcode
	plainly := w.signIn(t, plain)
	w.advance(auth.StepUpAge)
	fresh := w.mfa(t, admin)
	wrongScope := w.Client(t, "reader", "", "groups:read")

	helpdesk := only("users.password.reset", "users.sessions.read", "users.sessions.end", "User:read", "Group:read", "GroupMembership:read", "Invitation:read")
	reading := only("User:read", "Group:read", "GroupMembership:read", "Invitation:read", "Role:read", "RoleAssignment:read", "Entitlement:read", "users.sessions.read", "clients.read", "audit.read", "audit.export",
		"reports.read", "roles.read", "policies.read", "mail.read", "tenants.read", "schemas.read", "Resource:read", "provisioning.read", "feeds.read")
	bearers := []bearer{
		{"nothing", "", "+11111111", none},
		{"an empty token", " ", "+11111111", none},
		{"garbage", "garbage", "+11111111", none},
		{"a truncated session", fresh.Token[:len(fresh.Token)-1], "+11111111", none},
		{"a session with more", fresh.Token + "0", "+11111111", none},
		{"a session in upper case", strings.ToUpper(fresh.Token), "+11111111", none},
		{"the public id of a session", fresh.Session, "+11111111", none},
		{"a truncated client token", w.Token[:len(w.Token)-1], "+11111111", none},
		{"a session that ended", ended.Token, "+11111111", none},
		{"a session that expired", expired.Token, "+11111111", none},
		{"a client with all scopes", w.Token, "++?------", all},
		{"a client with other scopes", wrongScope, "++?------", only("Group:read")},
		{"a limited session", limited.Token, "+----+---", none},
		{"an administrator after the password", password.Token, "++m+m+mmm", everybody},
		{"a person after the password", plainly.Token, "++m+m+mmm", none},
		{"a person with a passcode", noPermission.Token, "++?+++?Ss", none},
		{"a helper", helping.Token, "++?+++?Ss", helpdesk},
		{"an auditor", auditing.Token, "++?+++?Ss", reading},
		{"an administrator with an old passcode", old.Token, "++?+++?Ss", everybody},
		{"an administrator with a fresh passcode", fresh.Token, "++?+++?++", everybody},
	}
	bearers = append(bearers, bearer{"a client's token" + inCookie, w.Token, "+11111111", none})
	for _, b := range bearers {
		if auth.IsSession(b.token) || strings.Contains(b.name, "session") { // whatever a browser could bring, it brings in a cookie
			b.name += inCookie
			bearers = append(bearers, b)
		}
	}
	w.advance(0)
	low := 0
	for _, route := range allRoutes(w.Server) {
		need := route.Needs.String()
		if route.Method == "DELETE" && strings.HasSuffix(route.Path, "/Me") {
			continue // it has no body at which it could fail, and would delete who asks: TestMe
		}
		for _, b := range bearers {
			header := []string{}
			switch {
			case strings.HasSuffix(b.name, inCookie):
				header = []string{"Cookie", auth.CookieName + "=" + b.token, "Sec-Fetch-Site", "same-origin", "Content-Type", "application/json"}
			case b.token != "":
				header = []string{"Authorization", "Bearer " + b.token}
			}
			// Whatever passes fails at the body, so that nothing happens.
			body := ""
			if route.Method != "GET" {
				body = "no JSON"
			}
			r := w.send(t, route.Method, route.Path, body, header...)
			got, want := met(r), b.expects(need)
			if got != want {
				t.Errorf("%s %s (%s) with %s: %s, want %s: %d %s", route.Method, route.Path, need, b.name, got, want, r.Status, r.Body)
			}
			if b.name == "an administrator after the password" && strings.HasPrefix(route.Path, "/admin/") && got != passed {
				low++
			}
			if strings.HasSuffix(b.name, inCookie) && want != unknown && !route.Needs.Public() && route.Method != "GET" {
				header[3] = "same-site"
				if r := w.send(t, route.Method, route.Path, body, header...); r.Status != 403 {
					t.Errorf("%s %s with %s, from somebody else's page: %d %s", route.Method, route.Path, b.name, r.Status, r.Body)
				}
			}
			if strings.Contains(r.Body, b.token) && strings.TrimSpace(b.token) != "" {
				t.Errorf("%s %s repeats the token of %s", route.Method, route.Path, b.name)
			}
		}
	}
	admins := 0
	for _, route := range allRoutes(w.Server) {
		if strings.HasPrefix(route.Path, "/admin/") {
			admins++
		}
	}
	if low != admins || admins < 10 {
		t.Errorf("%d of %d routes for administrators refuse a session after the password", low, admins)
	}
	t.Logf("%d routes with %d kinds of credentials", len(allRoutes(w.Server)), len(bearers))
}
