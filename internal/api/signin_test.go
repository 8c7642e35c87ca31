package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// TestSameRefusal: whatever is wrong with an attempt to sign in, the answer is the
// same to the byte, headers included.
func TestSameRefusal(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	plain := w.person(t, "plain")
	blocked := w.person(t, "blocked")
	locked := w.person(t, "locked")
	enrolled := w.person(t, "enrolled")
	none := w.person(t, "none")
	w.enrol(t, enrolled)
	patch := func(p *person, op string) {
		t.Helper()
		r := w.Do(t, "PATCH", "/Users/"+p.id, patching(op))
		if r.Status != 200 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
	}
	patch(blocked, `{"op":"replace","path":"active","value":false}`)
	patch(none, `{"op":"remove","path":"password"}`)
	gone := w.person(t, "gone")
	if r := w.Do(t, "DELETE", "/Users/"+gone.id, ""); r.Status != 204 {
		t.Fatal(r.Status)
	}
	for range 6 {
		w.advance(7 * time.Second)
		w.post(t, "/auth/v1/sign-in", "", object{"name": locked.name, "password": "wrong"})
	}
	used := w.code(t, enrolled)
	w.advance(time.Minute)
	must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", object{"name": enrolled.name, "password": goodPassword, "passcode": w.code(t, enrolled)}), 200)

	var first *testserver.Response
	for _, test := range []struct {
		name string
		body object
	}{
		{"unknown", object{"name": "nobody", "password": goodPassword}},
		{"another tenant", object{"tenant": "elsewhere", "name": plain.name, "password": goodPassword}},
		{"a wrong password", object{"name": plain.name, "password": "wrong"}},
		{"no password", object{"name": plain.name, "password": ""}},
		{"no name", object{"name": "", "password": goodPassword}},
		{"a long password", object{"name": plain.name, "password": strings.Repeat("x", 10_000)}},
		{"blocked", object{"name": blocked.name, "password": goodPassword}},
		{"deleted", object{"name": gone.name, "password": goodPassword}},
		{"without a password", object{"name": none.name, "password": goodPassword}},
		{"locked", object{"name": locked.name, "password": goodPassword}},
		{"a wrong passcode", object{"name": enrolled.name, "password": goodPassword, "passcode": "000000"}},
		{"a used passcode", object{"name": enrolled.name, "password": goodPassword, "passcode": used}},
		{"no passcode", object{"name": enrolled.name, "password": goodPassword, "passcode": "x"}},
		{"a wrong recovery code", object{"name": enrolled.name, "password": goodPassword, "recoveryCode": "x"}},
		{"a passcode of somebody without one", object{"name": plain.name, "password": goodPassword, "passcode": "000000"}},
	} {
		w.advance(20 * time.Second)
		if test.name == "locked" {
			// Right, but too early.
			w.post(t, "/auth/v1/sign-in", "", object{"name": locked.name, "password": "wrong"})
		}
		r := w.post(t, "/auth/v1/sign-in", "", test.body)
		r.Header.Del("Date")
		r.Header.Del("X-Request-Id")
		if first == nil {
			first = &r
			if r.Status != 401 || r.Header.Get("Content-Type") != "application/problem+json" || r.Header.Get("WWW-Authenticate") == "" || !strings.Contains(r.Body, `"urn:roster:problem:sign-in-failed"`) {
				t.Errorf("the refusal is %d %v %s", r.Status, r.Header, r.Body)
			}
		}
		if diff := cmp.Diff(*first, r); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// TestSignInRate: an address has ten attempts a minute, whoever it tries to be and
// whether they are right; other addresses have their own.
func TestSignInRate(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{Server: trusting})
	p := w.person(t, "plain")
	try := func(from string, p string) testserver.Response {
		body, _ := json.Marshal(object{"name": p, "password": goodPassword})
		return w.send(t, "POST", "/auth/v1/sign-in", string(body), "Content-Type", "application/json", "X-Forwarded-For", from)
	}
	for i := range 10 {
		name, want := p.name, 200
		if i%2 == 1 {
			name, want = fmt.Sprint("nobody", i), 401
		}
		if r := try("203.0.113.1", name); r.Status != want {
			t.Fatalf("attempt %d: %d %s", i, r.Status, r.Body)
		}
	}
	r := try("203.0.113.1", p.name)
	if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); r.Status != 429 || err != nil || wait < 1 || wait > 60 || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the eleventh: %d %v %s", r.Status, r.Header, r.Body)
	}
	if r := try("203.0.113.2", p.name); r.Status != 200 {
		t.Errorf("another address: %d %s", r.Status, r.Body)
	}
	// All that somebody can try who has not signed in counts as one.
	for _, path := range []string{"/auth/v1/setup/link", "/auth/v1/setup", "/auth/v1/invitations/look", "/auth/v1/invitations/accept"} {
		link := `{"link":"rostersetup_x","password":"a much better one, really"}`
		if r := w.send(t, "POST", path, link, "Content-Type", "application/json", "X-Forwarded-For", "203.0.113.1"); r.Status != 429 || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s from where too much was tried: %d %s, want 429", path, r.Status, r.Body)
		}
	}
	w.advance(time.Minute)
	if r := try("203.0.113.1", p.name); r.Status != 200 {
		t.Errorf("a minute later: %d %s", r.Status, r.Body)
	}
}

// TestCookie: a browser has its session in a cookie that nothing but this server
// gets to see, and that changes whenever the session gets to be more.
func TestCookie(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	p := w.person(t, "plain")
	browser := []string{"Sec-Fetch-Site", "same-origin", "Content-Type", "application/json"}
	cookie := func(r testserver.Response) string {
		t.Helper()
		c := (&http.Response{Header: r.Header}).Cookies()
		if len(c) != 1 {
			t.Fatalf("%d %s sets the cookies %v", r.Status, r.Body, c)
		}
		if c[0].Name != "__Host-roster" || !c[0].Secure || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode || c[0].Path != "/" || c[0].Domain != "" {
			t.Errorf("the cookie is %s", r.Header.Get("Set-Cookie"))
		}
		return c[0].Value
	}
	body := fmt.Sprintf(`{"name":%q,"password":%q,"cookie":true}`, p.name, goodPassword)
	if r := w.send(t, "POST", "/auth/v1/sign-in", body, "Content-Type", "application/json"); r.Status != 400 || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("a cookie for what is no browser: %d %s", r.Status, r.Body)
	}
	if r := w.send(t, "POST", "/auth/v1/sign-in", body, "Content-Type", "application/json", "Sec-Fetch-Site", "cross-site"); r.Status != 403 || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("somebody else's page signs in: %d %s", r.Status, r.Body)
	}
	r := w.send(t, "POST", "/auth/v1/sign-in", body, browser...)
	in := must[signedIn](t, r, 200)
	first := cookie(r)
	if in.Token != "" || strings.Contains(r.Body, first) {
		t.Errorf("the token is in the body, too: %s", r.Body)
	}
	with := func(token string) []string { return append(slices.Clone(browser), "Cookie", auth.CookieName+"="+token) }
	if r := w.send(t, "GET", "/auth/v1/session", "", with(first)...); r.Status != 200 || !strings.Contains(r.Body, in.Session) {
		t.Errorf("with the cookie: %d %s", r.Status, r.Body)
	}
	e := must[struct{ Secret string }](t, w.send(t, "POST", "/auth/v1/totp", "{}", with(first)...), 200)
	p.secret = e.Secret
	r = w.send(t, "POST", "/auth/v1/totp/confirm", fmt.Sprintf(`{"code":%q}`, w.code(t, p)), with(first)...)
	must[signedIn](t, r, 200)
	second := cookie(r)
	r = w.send(t, "POST", "/auth/v1/step-up", fmt.Sprintf(`{"code":%q}`, w.code(t, p)), with(second)...)
	must[signedIn](t, r, 200)
	third := cookie(r)
	if first == second || second == third {
		t.Error("the cookie stays when the session gets to be more")
	}
	for i, old := range []string{first, second} {
		if r := w.send(t, "GET", "/auth/v1/session", "", with(old)...); r.Status != 401 {
			t.Errorf("cookie %d still works: %d", i+1, r.Status)
		}
	}
	r = w.send(t, "POST", "/auth/v1/sign-out", "", with(third)...)
	if c := (&http.Response{Header: r.Header}).Cookies(); r.Status != 204 || len(c) != 1 || c[0].MaxAge >= 0 || c[0].Value != "" {
		t.Errorf("sign-out: %d %v", r.Status, c)
	}
	if r := w.send(t, "GET", "/auth/v1/session", "", with(third)...); r.Status != 401 {
		t.Errorf("after the sign-out: %d", r.Status)
	}
}

// TestFirstDays is the story of somebody's account: a temporary password, another
// one, a passcode app, sessions.
func TestFirstDays(t *testing.T) {
	shows(t, "B2", "B8", "D4")
	onStores(t, firstDays)
}

func firstDays(t *testing.T, w *world) {
	admin := w.person(t, "admin", auth.GlobalAdministrator)
	by := w.mfa(t, admin)
	p := w.person(t, "ana")
	before := w.signIn(t, p)

	reset := must[struct {
		Password string
		Expires  time.Time
	}](t, w.post(t, "/admin/v1/users/"+p.id+"/password-reset", by.Token, nil), 200)
	if got := reset.Expires.Sub(w.now()); got != 24*time.Hour {
		t.Errorf("a temporary password is good for %v, want a day", got)
	}
	if r := w.get(t, "/auth/v1/session", before.Token); r.Status != 401 {
		t.Errorf("a session from before the reset: %d", r.Status)
	}
	p.password = reset.Password
	in := w.signIn(t, p)
	if in.Level != "limited" || len(in.Missing) == 0 {
		t.Errorf("with the temporary password: %+v", in)
	}
	for _, route := range allRoutes(w.Server) {
		if need := route.Needs.String(); need != "public" && need != "session" {
			if r := w.send(t, route.Method, route.Path, "", "Authorization", "Bearer "+in.Token); r.Status != 403 {
				t.Errorf("%s %s with a temporary password: %d %s", route.Method, route.Path, r.Status, r.Body)
			}
		}
	}
	w.advance(time.Minute)
	if r := w.post(t, "/auth/v1/sign-in", "", object{"name": p.name, "password": p.password}); r.Status != 401 {
		t.Errorf("a second sign-in with the temporary password: %d", r.Status)
	}
	for _, bad := range []string{"short", "password1234", p.password, strings.Repeat("long ", 40)} {
		if r := w.post(t, "/auth/v1/password", in.Token, object{"current": p.password, "new": bad}); r.Status != 400 || strings.Contains(r.Body, bad) {
			t.Errorf("a bad password: %d %s", r.Status, r.Body)
		}
	}
	next := must[signedIn](t, w.post(t, "/auth/v1/password", in.Token, object{"current": p.password, "new": "a much better one, really"}), 200)
	if next.Level != "password" || next.Token == in.Token {
		t.Errorf("after the change: %+v", next)
	}
	p.password = "a much better one, really"

	full := w.enrol(t, p)
	if r := w.post(t, "/auth/v1/totp/check", full.Token, object{"code": w.code(t, p)}); r.Status != 204 {
		t.Errorf("the check: %d %s", r.Status, r.Body)
	}
	if r := w.post(t, "/auth/v1/totp/check", full.Token, object{"code": "000000"}); r.Status/100 != 4 || r.Status == 401 {
		t.Errorf("the check with a wrong code: %d %s", r.Status, r.Body)
	}
	w.advance(time.Minute)
	recovered := must[signedIn](t, w.post(t, "/auth/v1/sign-in", "", object{"name": p.name, "password": p.password, "recoveryCode": p.recovery[0]}), 200)
	if !slices.Contains([]string{"mfa", "limited"}, recovered.Level) {
		t.Errorf("with a recovery code: %+v", recovered)
	}

	other := w.mfa(t, admin)
	list := must[struct{ Sessions []struct{ ID string } }](t, w.get(t, "/admin/v1/users/"+p.id+"/sessions", other.Token), 200)
	if len(list.Sessions) == 0 {
		t.Error("the administrator sees no sessions")
	}
	if r := w.send(t, "DELETE", "/admin/v1/users/"+p.id+"/sessions", "", "Authorization", "Bearer "+other.Token); r.Status != 204 {
		t.Errorf("sign somebody out: %d %s", r.Status, r.Body)
	}
	if r := w.get(t, "/auth/v1/session", recovered.Token); r.Status != 401 {
		t.Errorf("afterwards: %d", r.Status)
	}
	if r := w.post(t, "/admin/v1/users/"+p.id+"/mfa-reset", other.Token, nil); r.Status != 204 {
		t.Errorf("reset the factors: %d %s", r.Status, r.Body)
	}
	p.secret = ""
	if in := w.signIn(t, p); in.Level != "password" {
		t.Errorf("without factors: %+v", in)
	}
	// An administrator cannot do without.
	w.advance(time.Second)
	if r := w.send(t, "DELETE", "/auth/v1/totp", "", "Authorization", "Bearer "+other.Token); r.Status != 409 && r.Status != 403 {
		t.Errorf("an administrator removes the passcode app: %d %s", r.Status, r.Body)
	}
}

// TestEndSessions: one's own sessions end one by one, or all at once.
func TestEndSessions(t *testing.T) { onStores(t, testEndSessions) }

func testEndSessions(t *testing.T, w *world) {
	p, q := w.person(t, "ana"), w.person(t, "bo")
	a, b, c := w.signIn(t, p), w.signIn(t, p), w.signIn(t, p)
	foreign := w.signIn(t, q)
	del := func(path, token string) int {
		return w.send(t, "DELETE", "/auth/v1"+path, "", "Authorization", "Bearer "+token).Status
	}
	if got := del("/sessions/"+foreign.Session, a.Token); got != 404 {
		t.Errorf("somebody else's session: %d", got)
	}
	if got := del("/sessions/"+nobody, a.Token); got != 404 {
		t.Errorf("no session: %d", got)
	}
	if got := del("/sessions/"+b.Session, a.Token); got != 204 {
		t.Errorf("one's own: %d", got)
	}
	if r := w.get(t, "/auth/v1/session", b.Token); r.Status != 401 {
		t.Errorf("it goes on: %d", r.Status)
	}
	list := must[struct {
		Sessions []struct {
			ID      string
			Current bool
		}
	}](t, w.get(t, "/auth/v1/sessions", a.Token), 200)
	if len(list.Sessions) != 2 {
		t.Errorf("%d sessions are left", len(list.Sessions))
	}
	for _, s := range list.Sessions {
		if s.Current != (s.ID == a.Session) {
			t.Errorf("session %s: current is %t", s.ID, s.Current)
		}
	}
	if got := del("/sessions", c.Token); got != 204 {
		t.Errorf("all: %d", got)
	}
	for _, token := range []string{a.Token, c.Token} {
		if r := w.get(t, "/auth/v1/session", token); r.Status != 401 {
			t.Errorf("a session goes on: %d", r.Status)
		}
	}
	if r := w.get(t, "/auth/v1/session", foreign.Token); r.Status != 200 {
		t.Errorf("somebody else's ended, too: %d", r.Status)
	}
}

// TestManagedClients: clients are made with no more than their maker has, work at
// once, and end at once.
func TestManagedClients(t *testing.T) {
	onStores(t, managedClients)
}

func managedClients(t *testing.T, w *world) {
	full := w.mfa(t, w.person(t, "admin", auth.GlobalAdministrator))
	less := w.mfa(t, w.person(t, "applications", auth.ApplicationAdministrator))
	type made struct {
		Client struct {
			ID     string
			Tokens []struct {
				ID      string
				Expires time.Time
			}
		}
		Token string
	}
	users := func(token string) int {
		return w.Do(t, "GET", "/Users", "", "Authorization", "Bearer "+token).Status
	}
	c := must[made](t, w.post(t, "/admin/v1/clients", full.Token, object{"name": "hr", "scopes": []string{"users"}, "networks": []string{"127.0.0.0/8"}}), 201)
	if users(c.Token) != 200 {
		t.Error("the token does not work")
	}
	for name, body := range map[string]object{
		"writes": {"name": "x", "scopes": []string{"users"}}, "both": {"name": "x", "scopes": []string{"groups:read", "users:write"}}, "in one": {"name": "x", "scopes": []string{"users:read,groups"}},
		"reads": {"name": "x", "scopes": []string{"users:read", "resources:read"}}, "gives": {"name": "x", "scopes": []string{"users:read", "roles:assign:deckhand"}},
	} {
		if r := w.post(t, "/admin/v1/clients", less.Token, body); r.Status != 403 || !strings.Contains(r.Body, "not-permitted") {
			t.Errorf("%s: a client that may do more than its maker: %d %s", name, r.Status, r.Body)
		}
	}
	if r := w.post(t, "/admin/v1/clients/"+c.Client.ID+"/rotate", less.Token, object{}); r.Status != 403 {
		t.Errorf("a token for what its maker may not do: %d %s", r.Status, r.Body)
	}
	must[made](t, w.post(t, "/admin/v1/clients", less.Token, object{"name": "reader", "scopes": []string{"users:read"}}), 201)

	const canary = "canary"
	for name, test := range map[string]struct {
		body   object
		status int
		want   string
	}{
		"no name":      {object{"scopes": []string{"users"}}, 400, "name: "},
		"no scope":     {object{"name": "x"}, 400, "scopes: "},
		"a scope":      {object{"name": "x", "scopes": []string{canary}}, 400, "scopes: "},
		"references":   {object{"name": "x", "scopes": []string{"users"}, "references": canary}, 400, "references: "},
		"a profile":    {object{"name": "x", "scopes": []string{"users"}, "profile": canary}, 400, "profile: "},
		"a network":    {object{"name": "x", "scopes": []string{"users"}, "networks": []string{canary}}, 400, "networks: "},
		"the past":     {object{"name": "x", "scopes": []string{"users"}, "expires": w.now()}, 400, "expires: "},
		"too long":     {object{"name": "x", "scopes": []string{"users"}, "expires": w.now().AddDate(1, 0, 1)}, 400, "expires: "},
		"a name taken": {object{"name": "hr", "scopes": []string{"users"}}, 409, "name is in use"},
		"what is none": {object{"name": "x", "scopes": []string{"users"}, "tenant": canary}, 400, `no such member: \"tenant\"`},
		"an id":        {object{"name": "x", "scopes": []string{"users"}, "id": canary}, 400, `no such member: \"id\"`},
		"all at once":  {object{"name": canary + strings.Repeat("x", 64), "scopes": []string{canary}, "profile": canary}, 400, "scopes: "},
	} {
		r := w.post(t, "/admin/v1/clients", full.Token, test.body)
		if r.Status != test.status || !strings.Contains(r.Body, test.want) || strings.Contains(r.Body, canary) {
			t.Errorf("%s: %d %s, want %d %s", name, r.Status, r.Body, test.status, test.want)
		}
	}

	if p := must[api.Problem](t, w.post(t, "/admin/v1/clients/"+c.Client.ID+"/rotate", full.Token, object{"overlapSeconds": -1}), 400); !strings.HasPrefix(p.Detail, "overlapSeconds: expected ") {
		t.Errorf("an overlap below zero is told as %q", p.Detail)
	}
	next := must[made](t, w.post(t, "/admin/v1/clients/"+c.Client.ID+"/rotate", full.Token, object{"overlapSeconds": 60}), 201)
	if users(c.Token) != 200 || users(next.Token) != 200 || len(next.Client.Tokens) != 2 {
		t.Errorf("during the overlap: %d, %d, %+v", users(c.Token), users(next.Token), next.Client)
	}
	w.advance(time.Minute)
	if users(c.Token) != 401 || users(next.Token) != 200 {
		t.Errorf("after the overlap: %d, %d", users(c.Token), users(next.Token))
	}
	if r := w.post(t, "/admin/v1/clients/"+c.Client.ID+"/revoke", full.Token, nil); r.Status != 204 {
		t.Errorf("revoke: %d %s", r.Status, r.Body)
	}
	if users(next.Token) != 401 {
		t.Error("the token of a revoked client works")
	}
	if r := w.post(t, "/admin/v1/clients/"+c.Client.ID+"/rotate", full.Token, object{}); r.Status != 409 {
		t.Errorf("rotate a revoked client: %d %s", r.Status, r.Body)
	}
	if r := w.get(t, "/admin/v1/clients", full.Token); r.Status != 200 || strings.Contains(r.Body, secretOf(next.Token)) || !strings.Contains(r.Body, `"revoked":`) {
		t.Errorf("the list: %d %s", r.Status, r.Body)
	}
	if r := w.get(t, "/admin/v1/clients/"+nobody, full.Token); r.Status != 404 {
		t.Errorf("no client: %d %s", r.Status, r.Body)
	}
	w.advance(auth.StepUpAge)
	if r := w.post(t, "/admin/v1/clients", full.Token, object{"name": "late", "scopes": []string{"users"}}); r.Status != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `max_age="300"`) {
		t.Errorf("with an old passcode: %d %s", r.Status, r.Body)
	}
}

// TestStepUpIsOfOneSession: a passcode that was given just now counts in the session in
// which it was given, whatever else its user has open, and ends with it.
func TestStepUpIsOfOneSession(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		admin := w.person(t, "admin", auth.GlobalAdministrator)
		one, other := w.mfa(t, admin), w.mfa(t, admin)
		w.advance(auth.StepUpAge)
		made := 0
		try := func(in signedIn) testserver.Response {
			made++
			return w.post(t, "/admin/v1/clients", in.Token, object{"name": fmt.Sprint("client", made), "scopes": []string{"users:read"}})
		}
		former := one
		one = w.stepUp(t, admin, one)
		must[any](t, try(one), 201)
		if r := try(other); met(r) != stale {
			t.Errorf("another session: %d %s", r.Status, r.Body)
		}
		if r := try(former); met(r) != unknown {
			t.Errorf("the token from before: %d %s", r.Status, r.Body)
		}
		must[any](t, w.post(t, "/auth/v1/sign-out", one.Token, nil), 204)
		if r := try(one); met(r) != unknown {
			t.Errorf("after signing out: %d %s", r.Status, r.Body)
		}
		if r := try(other); met(r) != stale {
			t.Errorf("another session, after that: %d %s", r.Status, r.Body)
		}
	})
}

func secretOf(token string) string { return strings.Split(token, "_")[2] }

// TestSCIMAsAPerson: an administrator reaches the protocol with a session, within
// their permissions.
func TestSCIMAsAPerson(t *testing.T) {
	t.Parallel()
	w := begin(t, testserver.Options{})
	in := w.mfa(t, w.person(t, "admin", auth.UserAdministrator))
	r := w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"made"}`, schemas.UserURI), "Authorization", "Bearer "+in.Token)
	if r.Status != 201 {
		t.Errorf("POST /Users: %d %s", r.Status, r.Body)
	}
	low := w.mfa(t, w.person(t, "helper", auth.HelpdeskAdministrator))
	r = w.Do(t, "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"made too"}`, schemas.UserURI), "Authorization", "Bearer "+low.Token)
	if r.Status != 403 {
		t.Errorf("POST /Users: %d %s", r.Status, r.Body)
	}
}
