package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// nobody is the id of no resource, in the form that ids have.
const nobody = "00000000-0000-7000-8000-000000000000"

// counting counts what the gate and the routes ask of the store.
type counting struct {
	storage.Store
	tokens, resources atomic.Int64
}

func (c *counting) Token(ctx context.Context, id string) (*storage.Token, *storage.Client, error) {
	c.tokens.Add(1)
	return c.Store.Token(ctx, id)
}

func (c *counting) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	c.resources.Add(1)
	return c.Store.Get(ctx, tenant, typ, id)
}

func (c *counting) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	c.resources.Add(1)
	return c.Store.Query(ctx, tenant, q)
}

func (c *counting) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	c.resources.Add(1)
	return c.Store.Write(ctx, tenant, fn)
}

// watched starts a server whose use of the store is counted.
func watched(t *testing.T, opt testserver.Options) (*testserver.Server, *counting) {
	t.Helper()
	c := &counting{}
	opt.Store = func(inner storage.Store) storage.Store {
		c.Store = inner
		return c
	}
	return testserver.Start(t, opt), c
}

// routes returns every route that the server has, with its path as a client
// writes it.
func routes(s *testserver.Server) []scim.Route {
	list := scim.NewHandler(s.Provider, func(*http.Request) string { return "" }).Routes()
	for i := range list {
		id := nobody
		if strings.HasPrefix(list[i].Path, "/ResourceTypes") {
			id = "User"
		}
		list[i].Path = strings.NewReplacer("{id}", id, "{type}", "Gadgets").Replace(list[i].Path)
	}
	return list
}

// refused says how a response differs from a refusal of credentials.
func refused(r testserver.Response, status int, challenge string) error {
	var e struct {
		Schemas []string
		Status  string
		Detail  string
	}
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
		return fmt.Errorf("%d, and the body is no JSON: %q", r.Status, r.Body)
	}
	switch {
	case r.Status != status:
		return fmt.Errorf("got %d %s, want %d", r.Status, r.Body, status)
	case r.Header.Get("Content-Type") != "application/scim+json" || !slices.Equal(e.Schemas, []string{scim.ErrorURI}) || e.Status != fmt.Sprint(status) || e.Detail == "":
		return fmt.Errorf("not an error in SCIM's form: %s %s", r.Header.Get("Content-Type"), r.Body)
	case r.Header.Get("WWW-Authenticate") != challenge:
		return fmt.Errorf("the challenge is %q, want %q", r.Header.Get("WWW-Authenticate"), challenge)
	case r.Header.Get("X-Request-Id") == "":
		return fmt.Errorf("without a request id")
	}
	return nil
}

const (
	challengeNone    = `Bearer realm="roster"`
	challengeInvalid = `Bearer realm="roster", error="invalid_token"`
	challengeRequest = `Bearer realm="roster", error="invalid_request"`
	challengeScope   = `Bearer realm="roster", error="insufficient_scope"`
)

// TestNoRouteWithoutCredentials walks every route with everything that is not a
// good token. None of it is ever answered with success, none of it reads a
// resource, and what is not even whole does not reach the store.
func TestNoRouteWithoutCredentials(t *testing.T) {
	t.Parallel()
	s, store := watched(t, testserver.Options{})
	good := s.Token
	foreign := testserver.Start(t, testserver.Options{}).Token // whole, but of another server
	id := strings.Split(good, "_")[1]
	credentials := []struct {
		name, header, query string
		status              int
		challenge           string
		asks                bool // the store may be asked for the token
	}{
		{"none", "", "", 401, challengeNone, false},
		{"the scheme alone", "Bearer", "", 401, challengeInvalid, false},
		{"the token alone", good, "", 401, challengeInvalid, false},
		{"another scheme", "Basic " + good, "", 401, challengeNone, false},
		{"a scheme like it", "Bearerx " + good, "", 401, challengeNone, false},
		{"two spaces and garbage", "Bearer  garbage", "", 401, challengeInvalid, false},
		{"a tab", "Bearer\t" + good, "", 401, challengeInvalid, false},
		{"garbage", "Bearer garbage", "", 401, challengeInvalid, false},
		{"8 kB of garbage", "Bearer " + strings.Repeat("x", 8<<10), "", 401, challengeInvalid, false},
		{"the public id", "Bearer " + id, "", 401, challengeInvalid, false},
		{"truncated", "Bearer " + good[:len(good)-1], "", 401, challengeInvalid, false},
		{"extended", "Bearer " + good + "0", "", 401, challengeInvalid, false},
		{"padded", "Bearer " + good + "=", "", 401, challengeInvalid, false},
		{"a wrong checksum", "Bearer " + good[:len(good)-1] + other(good[len(good)-1]), "", 401, challengeInvalid, false},
		{"a list", "Bearer " + good + ", Bearer " + good, "", 401, challengeInvalid, false},
		{"quoted", `Bearer "` + good + `"`, "", 401, challengeInvalid, false},
		{"of another server", "Bearer " + foreign, "", 401, challengeInvalid, true},
		{"in the query", "", "access_token=" + good, 400, challengeRequest, false},
		{"in the query, too", "Bearer " + good, "access_token=" + good, 400, challengeRequest, false},
		{"in the query, hidden", "", "Access%5FToken=" + good, 400, challengeRequest, false},
	}
	for _, route := range routes(s) {
		if route.Needs.Public() {
			t.Errorf("%s %s is public; the protocol has no such route", route.Method, route.Path)
		}
		for _, c := range credentials {
			tokens, resources := store.tokens.Load(), store.resources.Load()
			path := route.Path
			if c.query != "" {
				path += "?" + c.query
			}
			body := ""
			if route.Method == "POST" || route.Method == "PUT" || route.Method == "PATCH" {
				body = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"x","displayName":"x"}`
			}
			r := s.Do(t, route.Method, path, body, "Authorization", c.header)
			if err := refused(r, c.status, c.challenge); err != nil {
				t.Errorf("%s %s with credentials %s: %v", route.Method, route.Path, c.name, err)
			}
			if n := store.resources.Load() - resources; n != 0 {
				t.Errorf("%s %s with credentials %s: %d uses of the store", route.Method, route.Path, c.name, n)
			}
			if n := store.tokens.Load() - tokens; n != 0 && !c.asks {
				t.Errorf("%s %s with credentials %s: the store was asked for a token", route.Method, route.Path, c.name)
			}
			if strings.Contains(r.Body, good) || strings.Contains(r.Body, "garbage") {
				t.Errorf("%s %s with credentials %s: repeated in the answer: %s", route.Method, route.Path, c.name, r.Body)
			}
		}
		// The scheme's case does not matter, nor do parameters of that name elsewhere.
		if r := s.Do(t, route.Method, route.Path+"?x=access_token", "{}", "Authorization", "bEARER "+good); r.Status == 401 || r.Status == 403 {
			t.Errorf("%s %s with a good token: %d", route.Method, route.Path, r.Status)
		}
	}
}

// other returns another digit.
func other(c byte) string {
	if c == '0' {
		return "1"
	}
	return "0"
}

// TestNoPartOfAToken tries on one route everything that is nearly the token.
func TestNoPartOfAToken(t *testing.T) {
	t.Parallel()
	s, store := watched(t, testserver.Options{})
	good := s.Token
	var tries []string
	for i := range len(good) {
		tries = append(tries, good[:i], good[i+1:], good[:i]+good[i+1:], good[:i]+other(good[i])+good[i+1:], good[:i]+"0"+good[i:])
		if c := good[i : i+1]; strings.ToUpper(c) != c {
			tries = append(tries, good[:i]+strings.ToUpper(c)+good[i+1:])
		} else if strings.ToLower(c) != c {
			tries = append(tries, good[:i]+strings.ToLower(c)+good[i+1:])
		}
	}
	tries = append(tries, strings.ToUpper(good), strings.ToLower(good), good+good, strings.Repeat("0", len(good)))
	before := store.tokens.Load()
	for _, token := range tries {
		if token == good {
			t.Fatal("the test tries the token itself")
		}
		if r := s.Do(t, "GET", "/Users", "", "Authorization", "Bearer "+token); r.Status != 401 {
			t.Errorf("with %d of %d characters of the token, changed: %d", len(token), len(good), r.Status)
		}
	}
	if n := store.tokens.Load() - before; n != 0 || store.resources.Load() != 0 {
		t.Errorf("the store was asked for %d tokens and %d resources", n, store.resources.Load())
	}
	if r := s.Do(t, "GET", "/Users", ""); r.Status != 200 {
		t.Errorf("with the token: %d", r.Status)
	}
}

// TestTwoAuthorizationHeaders: which of two counts is not to be guessed. An empty
// one is none.
func TestTwoAuthorizationHeaders(t *testing.T) {
	t.Parallel()
	s, store := watched(t, testserver.Options{})
	for _, values := range [][]string{
		{"Bearer " + s.Token, "Bearer " + s.Token}, {"Bearer " + s.Token, ""}, {"Basic x", "Bearer " + s.Token}, {"", ""}, {""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/Users", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Authorization"] = values
		resp, err := s.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("with %d headers: %d", len(values), resp.StatusCode)
		}
	}
	if store.tokens.Load() != 0 {
		t.Errorf("the store was asked for %d tokens", store.tokens.Load())
	}
}

// TestTokenInBody: RFC 6750 §2.2 allows a token in a form; this server does not
// look for one.
func TestTokenInBody(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	r := s.Do(t, "POST", "/Users", "access_token="+s.Token, "Authorization", "", "Content-Type", "application/x-www-form-urlencoded")
	if err := refused(r, 401, challengeNone); err != nil {
		t.Error(err)
	}
}

// scopeTable says for each route which scope it takes, and is not made from the
// route table: both must change together.
var scopeTable = map[string]string{
	"GET /ServiceProviderConfig": "", "GET /ResourceTypes": "", "GET /ResourceTypes/User": "", "GET /Schemas": "", "GET /Schemas/" + nobody: "",
	"GET ": "", "POST /.search": "", "POST /Bulk": "", "GET /Bulk/" + nobody: "", "GET /Me": "", "PUT /Me": "", "PATCH /Me": "", "DELETE /Me": "users:write",
	"POST /Users/.search": "users:read", "POST /Groups/.search": "groups:read", "POST /Roles/.search": "roles:read", "POST /RoleAssignments/.search": "roles:read",
	"GET /Users/.deltaToken": "users:read", "POST /Users/.delta": "users:read", "GET /Groups/.deltaToken": "groups:read", "POST /Groups/.delta": "groups:read",
	"GET /Users": "users:read", "POST /Users": "users:write",
	"GET /Users/" + nobody: "users:read", "PUT /Users/" + nobody: "users:write", "PATCH /Users/" + nobody: "users:write", "DELETE /Users/" + nobody: "users:write",
	"GET /Groups": "groups:read", "POST /Groups": "groups:write",
	"GET /Groups/" + nobody: "groups:read", "PUT /Groups/" + nobody: "groups:write", "PATCH /Groups/" + nobody: "groups:write", "DELETE /Groups/" + nobody: "groups:write",
	"GET /GroupMemberships": "memberships:read", "POST /GroupMemberships": "memberships:write", "POST /GroupMemberships/.search": "memberships:read",
	"GET /GroupMemberships/" + nobody: "memberships:read", "DELETE /GroupMemberships/" + nobody: "memberships:write",
	"GET /GroupMembers": "memberships:read", "POST /GroupMembers": "memberships:write", "POST /GroupMembers/.search": "memberships:read",
	"GET /GroupMembers/" + nobody: "memberships:read", "DELETE /GroupMembers/" + nobody: "memberships:write",
	"GET /Roles": "roles:read", "POST /Roles": "roles:write",
	"GET /Roles/" + nobody: "roles:read", "PUT /Roles/" + nobody: "roles:write", "PATCH /Roles/" + nobody: "roles:write", "DELETE /Roles/" + nobody: "roles:write",
	"POST /Invitations/.search": "invitations:read", "GET /Invitations": "invitations:read", "POST /Invitations": "invitations:write",
	"GET /Invitations/" + nobody: "invitations:read", "PUT /Invitations/" + nobody: "invitations:write",
	"PATCH /Invitations/" + nobody: "invitations:write", "DELETE /Invitations/" + nobody: "invitations:write",
	"GET /Entitlements": "entitlements:read", "POST /Entitlements": "entitlements:write", "POST /Entitlements/.search": "entitlements:read", "GET /Entitlements/" + nobody: "entitlements:read",
	"PUT /Entitlements/" + nobody: "entitlements:write", "PATCH /Entitlements/" + nobody: "entitlements:write", "DELETE /Entitlements/" + nobody: "entitlements:write",
	"GET /Gadgets": "resources:read", "POST /Gadgets": "resources:write", "POST /Gadgets/.search": "resources:read", "GET /Gadgets/" + nobody: "resources:read",
	"PUT /Gadgets/" + nobody: "resources:write", "PATCH /Gadgets/" + nobody: "resources:write", "DELETE /Gadgets/" + nobody: "resources:write",
	"GET /RoleAssignments": "roles:read", "POST /RoleAssignments": "roles:write", "GET /RoleAssignments/" + nobody: "roles:read",
	"PUT /RoleAssignments/" + nobody: "roles:write", "PATCH /RoleAssignments/" + nobody: "roles:write", "DELETE /RoleAssignments/" + nobody: "roles:write",
}

// TestScopes tries every route with every scope, alone and together: 403 exactly
// where the scope that the route takes is missing, and then nothing is read.
func TestScopes(t *testing.T) {
	t.Parallel()
	s, store := watched(t, testserver.Options{})
	operator := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	err := s.Provider.Define(t.Context(), operator, schemas.CustomSchema{
		ResourceType: &schemas.TypeDefinition{Name: "Gadget", Endpoint: "/Gadgets"},
		Schema:       schemas.SchemaDefinition{ID: "urn:example:gadget", Attributes: []schemas.AttributeDefinition{{Name: "serial"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	grants := map[string][]string{ // what a scope stands for
		"users:read": {"users:read"}, "users:write": {"users:read", "users:write"}, "users": {"users:read", "users:write"},
		"groups:read": {"groups:read"}, "groups:write": {"groups:read", "groups:write"}, "groups": {"groups:read", "groups:write"},
		"memberships:read": {"memberships:read"}, "memberships": {"memberships:read", "memberships:write"}, "roles:read": {"roles:read"}, "roles": {"roles:read", "roles:write"}, "roles:assign:sales": nil,
		"entitlements:read": {"entitlements:read"}, "entitlements": {"entitlements:read", "entitlements:write"}, "resources:read": {"resources:read"}, "resources": {"resources:read", "resources:write"},
		"users:read,groups:write": {"users:read", "groups:read", "groups:write"}, "no such scope": nil,
	}
	list := routes(s)
	declared := map[string]bool{}
	for _, route := range list {
		declared[route.Method+" "+route.Path] = true
	}
	for name := range maps.Keys(declared) {
		if _, ok := scopeTable[name]; !ok {
			t.Errorf("%s is a route and not in the table of scopes", name)
		}
	}
	for name := range scopeTable {
		if !declared[name] {
			t.Errorf("%s is in the table of scopes and no route", name)
		}
	}
	for scopes, may := range grants {
		token := s.Client(t, scopes, "", strings.Split(scopes, ",")...)
		for _, route := range list {
			needs := scopeTable[route.Method+" "+route.Path]
			before := store.resources.Load()
			r := s.Do(t, route.Method, route.Path, "", "Authorization", "Bearer "+token)
			if needs == "" || slices.Contains(may, needs) {
				if r.Status == 401 || r.Status == 403 {
					t.Errorf("%s %s with %s: %d", route.Method, route.Path, scopes, r.Status)
				}
				continue
			}
			if err := refused(r, 403, challengeScope); err != nil {
				t.Errorf("%s %s with %s: %v", route.Method, route.Path, scopes, err)
			}
			if store.resources.Load() != before {
				t.Errorf("%s %s with %s: the store was used", route.Method, route.Path, scopes)
			}
		}
	}
}

// TestNoSuchEndpoint: what is no endpoint is 404 for every client, whatever its scopes.
func TestNoSuchEndpoint(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for _, scopes := range [][]string{{"users"}, {"users", "groups", "resources"}} {
		token := s.Client(t, scopes[len(scopes)-1], "", scopes...)
		for _, request := range []string{"GET /Gadgets", "POST /Gadgets", "GET /Gadgets/" + nobody, "DELETE /Gadgets/" + nobody, "GET /users"} {
			method, path, _ := strings.Cut(request, " ")
			if r := s.Do(t, method, path, "", "Authorization", "Bearer "+token); r.Status != 404 {
				t.Errorf("%s with %v: %d %s; want 404", request, scopes, r.Status, r.Body)
			}
		}
	}
}

// TestWrongAddress: who looks for an endpoint outside all base paths, as a client does whose
// address lacks /scim/v2, is told of these; below one, the answer is as before.
func TestWrongAddress(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for path, told := range map[string]bool{"/Users": true, "/": true, "/scim/Users": true, "/scim/v20/Users": true, testserver.Base + "/Gadgets/1/2": false} {
		r, err := s.Page(t.Context(), "GET", path, "", "Authorization", "Bearer "+s.Token)
		if err != nil || r.Status != 404 || strings.Contains(r.Body, `"no such endpoint: endpoints are below `+testserver.Base) != told {
			t.Errorf("GET %s: %d %s %v; want 404, and the base paths: %v", path, r.Status, r.Body, err, told)
		}
	}
}

// TestDiscoveryOfRolesAndEntitlements: who can read neither roles nor entitlements is not told
// of them, for there are clients that refuse a configuration with attributes unknown to them.
func TestDiscoveryOfRolesAndEntitlements(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for scope, want := range map[string]bool{"users": false, "roles": true, "entitlements:read": true} {
		token := s.Client(t, scope, "", scope)
		r := s.Do(t, "GET", "/ServiceProviderConfig", "", "Authorization", "Bearer "+token)
		if got := strings.Contains(r.Body, `"RolesAndEntitlements"`); r.Status != 200 || got != want {
			t.Errorf("with %s: %d, told: %t, want %t", scope, r.Status, got, want)
		}
	}
}

// TestRevoked: a token of a client that was revoked, or that has run out, is as
// good as none.
func TestRevoked(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	c := &storage.Client{Tenant: storage.DefaultTenant, Name: "short-lived", Scopes: []string{"users"}}
	token := s.Issue(t, c)
	err := s.Store.Write(t.Context(), c.Tenant, func(tx storage.Tx) error {
		if err := tx.RevokeClient(c.ID, c.Created); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: c.Created, Actor: "operator", Action: "client.revoke", Type: "Client", ID: c.ID})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := refused(s.Do(t, "GET", "/Users", "", "Authorization", "Bearer "+token), 401, challengeInvalid); err != nil {
		t.Error(err)
	}
}

// TestStoreDownIsNoRefusal: when nobody can be asked about a token, nobody is let
// in, and nobody is told that the token is wrong.
func TestStoreDownIsNoRefusal(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store { return noTokens{inner} }})
	r := s.Do(t, "GET", "/Users", "")
	if r.Status != 503 || r.Header.Get("WWW-Authenticate") != "" || r.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v %s, want 503 and when to try again", r.Status, r.Header, r.Body)
	}
}

type noTokens struct{ storage.Store }

func (noTokens) Token(context.Context, string) (*storage.Token, *storage.Client, error) {
	return nil, nil, fmt.Errorf("%w: secretive", storage.ErrUnavailable)
}

// TestTablesThatAreRefused: a server with a route that does not say what it needs
// does not start, nor one whose table contradicts itself.
func TestTablesThatAreRefused(t *testing.T) {
	t.Parallel()
	serve := func(http.ResponseWriter, *http.Request, auth.Principal) error { return nil }
	for name, test := range map[string]struct {
		routes []scim.Route
		want   string
	}{
		"undeclared": {[]scim.Route{{Method: "GET", Path: "/a", Needs: auth.Public(), Serve: serve}, {Method: "PUT", Path: "/a", Serve: serve}},
			"route PUT /x/a does not declare what it needs"},
		"nobody to verify": {[]scim.Route{{Method: "GET", Path: "/a", Needs: auth.Token(), Serve: serve}},
			"route GET /x/a needs credentials and there is nothing to verify them"},
		"twice": {[]scim.Route{{Method: "GET", Path: "/a", Needs: auth.Public(), Serve: serve}, {Method: "GET", Path: "/a", Needs: auth.Public(), Serve: serve}},
			"route GET /x/a is declared twice"},
	} {
		srv, err := server.New(server.Options{Mounts: []server.Mount{{Prefix: "/x", Routes: test.routes}}, Registry: prometheus.NewRegistry(), Listen: "127.0.0.1:0"})
		if err == nil || srv != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: New returned %v, want an error: %s", name, err, test.want)
		}
	}
}
