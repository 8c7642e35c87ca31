package server_test

import (
	"context"
	"encoding/base32"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// people knows sessions by their texts.
type people map[string]auth.Principal

func (p people) VerifySession(_ context.Context, text string, _ netip.Addr) (auth.Principal, error) {
	if by, ok := p[text]; ok {
		return by, nil
	}
	return auth.Principal{}, &auth.RefusedError{Reason: auth.Unknown}
}

// person is somebody with a session of a level.
func person(level auth.Level) auth.Principal {
	return auth.Principal{
		Kind: auth.User, Tenant: storage.DefaultTenant, ID: "p", Session: "s-" + level.String(), Level: level, PasscodeAt: time.Now(),
	}
}

// token returns the whole token of a session with a name.
func token(name string) string {
	text := "rostersession_" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte("t"))) + "_" + name + strings.Repeat("0", 43-len(name))
	sum, n := "", crc32.ChecksumIEEE([]byte(text))
	for range 6 {
		sum = string("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[n%62]) + sum
		n /= 62
	}
	return text + "_" + sum
}

var fullSession = token("full")

// browsed starts a server with a mount for people beside the protocol, whose
// routes count what gets through to them.
func browsed(t *testing.T, change func(*server.Options)) (*testserver.Server, *atomic.Int64, *atomic.Value) {
	t.Helper()
	var passed atomic.Int64
	var from atomic.Value
	serve := func(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
		passed.Add(1)
		from.Store(by)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		o.Sessions = people{
			fullSession:       person(auth.MFA),
			token("limited"):  person(auth.Limited),
			token("password"): person(auth.Password),
		}
		var routes []scim.Route
		for path, need := range map[string]auth.Need{"/public": auth.Public(), "/any": auth.AnySession(), "/password": auth.AtLevel(auth.Password), "/mfa": auth.AtLevel(auth.MFA)} {
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
				routes = append(routes, scim.Route{Method: method, Path: path, Needs: need, Serve: serve})
			}
		}
		routes = append(routes, scim.Route{Method: "GET", Path: "/panic", Needs: auth.Public(), Serve: func(http.ResponseWriter, *http.Request, auth.Principal) error {
			panic("at the disco")
		}})
		o.Mounts = append(o.Mounts, server.Mount{Prefix: "/people", Routes: routes, WriteError: func(w http.ResponseWriter, _ *http.Request, err error) (string, string) {
			e := scim.ErrorFor(err)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(e.Status)
			fmt.Fprintf(w, `{"status":%d}`, e.Status)
			return "of people", e.Detail
		}})
		if change != nil {
			change(o)
		}
	}})
	return s, &passed, &from
}

// TestCrossSite: a write that a cookie authenticates gets through only when a
// browser says that it comes from this server's own pages, and when its body is
// one that no form can make.
func TestCrossSite(t *testing.T) {
	t.Parallel()
	s, passed, _ := browsed(t, nil)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, site := range []string{"", "none", "same-origin", "same-site", "cross-site", "nonsense"} {
			for _, origin := range []string{"", "null", s.Root, "https://evil.example", s.Root + ".evil.example"} {
				for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json", "application/json; charset=utf-8", "text/json", "application/jsonp"} {
					want := http.StatusForbidden
					if site == "same-origin" || site == "" && origin == s.Root {
						want = http.StatusUnsupportedMediaType
						if strings.HasPrefix(media, "application/json") && media != "application/jsonp" {
							want = http.StatusNoContent
						}
					}
					before := passed.Load()
					got := page(t, s, method, "/people/any", "{}", "Sec-Fetch-Site", site, "Origin", origin, "Content-Type", media, "Cookie", auth.CookieName+"="+fullSession)
					if got.Status != want || (passed.Load() != before) != (want == http.StatusNoContent) {
						t.Errorf("%s with Sec-Fetch-Site %q, Origin %q, Content-Type %q: %d %s, want %d", method, site, origin, media, got.Status, got.Body, want)
					}
				}
			}
		}
	}
	for _, test := range []struct {
		name   string
		header []string
		want   int
	}{
		{"without a body", []string{"Sec-Fetch-Site", "same-origin", "Cookie", auth.CookieName + "=" + fullSession}, 204},
		{"without a body, from elsewhere", []string{"Sec-Fetch-Site", "cross-site", "Cookie", auth.CookieName + "=" + fullSession}, 403},
		{"a program", []string{"Authorization", "Bearer " + fullSession}, 204},
		{"a program of another page", []string{"Authorization", "Bearer " + fullSession, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 204},
		{"a program and a cookie", []string{"Authorization", "Bearer " + fullSession, "Cookie", auth.CookieName + "=" + fullSession}, 204},
		{"a bad token and a cookie", []string{"Authorization", "Bearer x", "Cookie", auth.CookieName + "=" + fullSession, "Sec-Fetch-Site", "same-origin"}, 401},
		{"an empty header and a cookie", []string{"Authorization", "Basic", "Cookie", auth.CookieName + "=" + fullSession, "Sec-Fetch-Site", "same-origin"}, 401},
		{"two cookies", []string{"Cookie", auth.CookieName + "=" + fullSession + "; " + auth.CookieName + "=" + fullSession, "Sec-Fetch-Site", "same-origin"}, 401},
		{"an empty cookie", []string{"Cookie", auth.CookieName + "=", "Sec-Fetch-Site", "same-origin"}, 401},
		{"another cookie", []string{"Cookie", "roster=" + fullSession, "Sec-Fetch-Site", "same-origin"}, 401},
		{"a client's token as a cookie", []string{"Cookie", auth.CookieName + "=" + s.Token, "Sec-Fetch-Site", "same-origin"}, 401},
	} {
		if got := page(t, s, "POST", "/people/any", "", test.header...); got.Status != test.want {
			t.Errorf("%s: %d %s, want %d", test.name, got.Status, got.Body, test.want)
		}
	}
	// What is public can be a target too: somebody else's page must not sign its
	// visitors in.
	for site, want := range map[string]int{"": 204, "same-origin": 204, "none": 204, "same-site": 403, "cross-site": 403} {
		if got := page(t, s, "POST", "/people/public", "", "Sec-Fetch-Site", site); got.Status != want {
			t.Errorf("public, Sec-Fetch-Site %q: %d, want %d", site, got.Status, want)
		}
	}
	// Reading needs nothing of the kind; a page elsewhere cannot see the answer.
	if got := page(t, s, "GET", "/people/any", "", "Sec-Fetch-Site", "none", "Cookie", auth.CookieName+"="+fullSession); got.Status != 204 {
		t.Errorf("GET: %d", got.Status)
	}
	// The protocol is guarded by the same door.
	user := `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"x"}`
	if got := page(t, s, "POST", "/scim/v2/Users", user, "Content-Type", "application/scim+json", "Sec-Fetch-Site", "cross-site", "Cookie", auth.CookieName+"="+fullSession); got.Status != 403 {
		t.Errorf("POST /Users from elsewhere: %d", got.Status)
	}
}

// TestPublicOrigin: behind a proxy that puts its own name into Host, the origin of
// the server's pages is that of the public URL.
func TestPublicOrigin(t *testing.T) {
	t.Parallel()
	s, _, _ := browsed(t, func(o *server.Options) { o.PublicURL = "https://roster.example" })
	for origin, want := range map[string]int{"https://roster.example": 204, "http://roster.example": 403, "https://roster.example.evil": 403} {
		got := page(t, s, "POST", "/people/any", "{}", "Origin", origin, "Content-Type", "application/json", "Cookie", auth.CookieName+"="+fullSession)
		if got.Status != want {
			t.Errorf("Origin %s: %d, want %d", origin, got.Status, want)
		}
	}
}

// TestLevels: what a session is not enough for says what would be.
func TestLevels(t *testing.T) {
	t.Parallel()
	s, _, by := browsed(t, nil)
	const level = `Bearer realm="roster", error="insufficient_user_authentication", acr_values="mfa"`
	for _, test := range []struct {
		path, session string
		want          int
		challenge     string
	}{
		{"/any", "limited", 204, ""}, {"/any", "password", 204, ""}, {"/any", "full", 204, ""},
		{"/password", "limited", 403, challengeScope}, {"/password", "password", 204, ""}, {"/password", "full", 204, ""},
		{"/mfa", "limited", 403, challengeScope}, {"/mfa", "password", 401, level}, {"/mfa", "full", 204, ""},
		{"/mfa", "nobodys", 401, challengeInvalid},
	} {
		got := page(t, s, "GET", "/people"+test.path, "", "Authorization", "Bearer "+token(test.session))
		if got.Status != test.want || got.Header.Get("WWW-Authenticate") != test.challenge {
			t.Errorf("%s with %s: %d %s, want %d %s", test.path, test.session, got.Status, got.Header.Get("WWW-Authenticate"), test.want, test.challenge)
		}
	}
	if got := page(t, s, "GET", "/people/any", "", "Authorization", "Bearer "+s.Token); got.Status != 403 {
		t.Errorf("a client where people go: %d", got.Status)
	}
	// Routes are told where the request comes from, signed in or not.
	for _, path := range []string{"/people/public", "/people/any"} {
		page(t, s, "GET", path, "", "Authorization", "Bearer "+fullSession)
		if from := by.Load().(auth.Principal).From; from != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("%s: the request comes from %v", path, from)
		}
	}
}

// TestHeadersEverywhere: whatever the answer is, browsers are told to do nothing
// with it.
func TestHeadersEverywhere(t *testing.T) {
	t.Parallel()
	s, _, _ := browsed(t, nil)
	public, _, _ := browsed(t, func(o *server.Options) { o.PublicURL = "https://roster.example" })
	id := s.Users(t, 1)[0]
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "",
	}
	seen := map[int]bool{}
	for _, test := range []struct {
		method, path, body string
		header             []string
	}{
		{"GET", "/scim/v2/Users", "", []string{"Authorization", "Bearer " + s.Token}},
		{"GET", "/scim/v2/Users/" + id, "", []string{"Authorization", "Bearer " + s.Token}},
		{"GET", "/scim/v2/Users/" + nobody, "", []string{"Authorization", "Bearer " + s.Token}},
		{"HEAD", "/scim/v2/Users", "", []string{"Authorization", "Bearer " + s.Token}},
		{"POST", "/scim/v2/Users", "{", []string{"Authorization", "Bearer " + s.Token}},
		{"POST", "/scim/v2/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"x"}`, []string{"Authorization", "Bearer " + s.Token}},
		{"POST", "/scim/v2/Users", `x`, []string{"Authorization", "Bearer " + s.Token, "Content-Type", "text/html"}},
		{"DELETE", "/scim/v2/Users/" + id, "", []string{"Authorization", "Bearer " + s.Token}},
		{"PUT", "/scim/v2/Users", "", nil},
		{"TRACE", "/scim/v2/Users", "", nil},
		{"GET", "/scim/v2/Users", "", nil},
		{"GET", "/scim/v2/x", "", nil},
		{"GET", "/", "", nil},
		{"GET", "/x//y", "", nil},
		{"GET", "/x?" + strings.Repeat("x", 9000), "", nil},
		{"GET", "/people/any", "", nil},
		{"GET", "/people/mfa", "", []string{"Authorization", "Bearer " + token("limited")}},
		{"GET", "/people/public", "", nil},
		{"GET", "/people/panic", "", nil},
		{"GET", "/people/x", "", nil},
		{"POST", "/people/public", "", []string{"Sec-Fetch-Site", "cross-site"}},
	} {
		got := page(t, s, test.method, test.path, test.body, test.header...)
		seen[got.Status] = true
		for name, value := range want {
			if g := strings.Join(got.Header.Values(name), "|"); g != value {
				t.Errorf("%s %.40s: %d with %s: %s, want %s", test.method, test.path, got.Status, name, g, value)
			}
		}
		if got.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %.40s: %d without a request id", test.method, test.path, got.Status)
		}
		if strings.HasPrefix(test.path, "/people/") && got.Status >= 400 && got.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d as %s", test.method, test.path, got.Status, got.Header.Get("Content-Type"))
		}
		got = page(t, public, test.method, test.path, "")
		if h := got.Header.Get("Strict-Transport-Security"); h != "max-age=31536000" {
			t.Errorf("%s %.40s over TLS: Strict-Transport-Security: %s", test.method, test.path, h)
		}
	}
	for _, status := range []int{200, 201, 204, 400, 401, 403, 404, 405, 414, 415, 500} {
		if !seen[status] {
			t.Errorf("no response was %d", status)
		}
	}
}

// page sends a request to a path from the root, without the client's token.
func page(t *testing.T, s *testserver.Server, method, path, body string, header ...string) testserver.Response {
	t.Helper()
	got, err := s.Page(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
