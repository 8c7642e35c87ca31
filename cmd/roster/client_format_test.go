package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// clientStore is a storage.Store in memory with nothing but clients.
type clientStore struct {
	storage.Store
	clients []*storage.Client
	audit   []storage.AuditEntry
	opened  []string // what it was opened by
	closed  int
	err     error // of the next write
}

func (s *clientStore) open(_ context.Context, p place) (storage.Store, error) {
	s.opened = append(s.opened, p.location)
	return s, nil
}

func (s *clientStore) Close() error { s.closed++; return nil }

func (s *clientStore) ListTenants(context.Context) ([]*storage.Tenant, error) {
	return []*storage.Tenant{{ID: "default"}, {ID: "other"}}, nil
}

func (s *clientStore) ListClients(_ context.Context, tenant storage.TenantID) (list []*storage.Client, err error) {
	for _, c := range s.clients {
		if c.Tenant == tenant {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *storage.Client) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *clientStore) Write(_ context.Context, _ storage.TenantID, fn func(storage.Tx) error) error {
	before := len(s.audit)
	if err := errors.Join(s.err, fn(clientTx{s: s})); err != nil {
		return err
	}
	if len(s.audit) == before {
		return storage.ErrUnaudited
	}
	return nil
}

type clientTx struct {
	storage.Tx
	s *clientStore
}

func (t clientTx) CreateClient(c *storage.Client) error {
	for _, other := range t.s.clients {
		if other.Tenant == c.Tenant && other.Name == c.Name && other.Revoked.IsZero() {
			return &storage.UniqueError{Attr: "name"}
		}
	}
	t.s.clients = append(t.s.clients, c)
	return nil
}

// UpdateClient is asked whether a client is still what it was.
func (t clientTx) UpdateClient(_, _ *storage.Client) error { return nil }

func (t clientTx) CreateToken(k *storage.Token) error {
	for _, c := range t.s.clients {
		if c.ID == k.Client {
			c.Tokens = append(c.Tokens, k)
			return nil
		}
	}
	return storage.ErrNotFound
}

func (t clientTx) Tokens(client string) ([]*storage.Token, error) {
	for _, c := range t.s.clients {
		if c.ID == client {
			return c.Tokens, nil
		}
	}
	return nil, nil
}

func (t clientTx) ExpireToken(id string, at time.Time) error {
	for _, c := range t.s.clients {
		for _, k := range c.Tokens {
			if k.ID == id && at.Before(k.Expires) {
				k.Expires = at
			}
		}
	}
	return nil
}

func (t clientTx) RevokeClient(id string, at time.Time) error {
	for _, c := range t.s.clients {
		if c.ID == id {
			c.Revoked = at
		}
	}
	return nil
}

func (t clientTx) Audit(e storage.AuditEntry) error {
	t.s.audit = append(t.s.audit, e)
	return nil
}

// roster runs `roster` with arguments on a store.
func (s *clientStore) roster(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, say bytes.Buffer
	err = s.execute(t, &out, &say, args...)
	return out.String(), say.String(), err
}

func (s *clientStore) execute(t *testing.T, out, say io.Writer, args ...string) error {
	t.Helper()
	root := &cobra.Command{Use: "roster", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(newClientCommand(s.open, s.open))
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(say)
	return root.ExecuteContext(t.Context())
}

// token checks that a command printed a token and nothing else, and returns its
// public id.
func token(t *testing.T, stdout string) string {
	t.Helper()
	line, ok := strings.CutSuffix(stdout, "\n")
	id, whole := auth.ParseToken(line)
	if !ok || !whole {
		t.Fatalf("printed %q; want a token on a line of its own", stdout)
	}
	return id
}

func TestClientLifecycle(t *testing.T) {
	s := &clientStore{}
	out, say, err := s.roster(t, "client", "create", "--name", "okta", "--scopes", "users,groups:read", "--scopes", "users:read",
		"--profile", "okta", "--network", "192.0.2.77/24", "--network", "192.0.2.1/24,2001:db8::1", "--expires", "90d", "--rate", "50", "--burst", "100")
	if err != nil {
		t.Fatal(err)
	}
	first := token(t, out)
	c := s.clients[0]
	if c.Rate != 50 || c.Burst != 100 || c.Name != "okta" || c.Profile != "okta" || c.Tenant != "default" || len(c.ID) != 36 ||
		!slices.Equal(c.Scopes, []string{"groups:read", "users"}) || !slices.Equal(c.Networks, []string{"192.0.2.0/24", "2001:db8::1/128"}) {
		t.Errorf("created %+v", c)
	}
	k := c.Tokens[0]
	if k.ID != first || k.Client != c.ID || k.Expires.Sub(k.Created) != 90*day || len(k.Hash) != 32 {
		t.Errorf("its token is %+v", k)
	}
	if !strings.Contains(say, "only time") || !strings.Contains(say, formatTime(k.Expires)) || strings.Contains(say, strings.TrimSpace(out)) {
		t.Errorf("said %q", say)
	}

	if _, _, err := s.roster(t, "client", "create", "--name", "okta", "--scopes", "users"); err == nil || !strings.Contains(err.Error(), `a client called "okta" already`) {
		t.Errorf("a second okta: %v", err)
	}

	k.LastUsed = time.Now()
	out, say, err = s.roster(t, "client", "rotate", "okta", "--overlap", "1h")
	if err != nil {
		t.Fatal(err)
	}
	if second := token(t, out); second == first || len(c.Tokens) != 2 || c.Tokens[1].ID != second {
		t.Errorf("rotated to %s: %+v", second, c.Tokens)
	}
	if left := time.Until(k.Expires); left < 59*time.Minute || left > time.Hour || !strings.Contains(say, first) {
		t.Errorf("the old token is valid for another %v; said %q", left, say)
	}

	if out, say, err = s.roster(t, "client", "revoke", "okta"); err != nil || out != "" || !strings.Contains(say, `Revoked client "okta"`) {
		t.Errorf("revoke printed %q, said %q, %v", out, say, err)
	}
	if c.Revoked.IsZero() {
		t.Error("the client is not revoked")
	}
	if _, say, err = s.roster(t, "client", "revoke", "okta"); err != nil || !strings.Contains(say, "already") {
		t.Errorf("revoking again said %q, %v", say, err)
	}
	if _, _, err = s.roster(t, "client", "rotate", "okta"); !errors.Is(err, errNoClient) || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("rotating a revoked client: %v", err)
	}
	// The name is free again, and from now on means the new client.
	if _, _, err = s.roster(t, "client", "create", "--name", "okta", "--scopes", "users"); err != nil {
		t.Fatal(err)
	}
	if out, _, err = s.roster(t, "client", "rotate", "okta"); err != nil || len(s.clients[1].Tokens) != 2 {
		t.Errorf("rotating the new okta printed %q, %v", out, err)
	}

	var actions []string
	for _, e := range s.audit {
		actions = append(actions, e.Action)
		if e.Actor != "operator" || e.Type != "Client" || e.ID == "" || e.At.IsZero() {
			t.Errorf("audit entry %+v", e)
		}
	}
	if want := []string{"client.create", "client.rotate", "client.revoke", "client.create", "client.rotate"}; !slices.Equal(actions, want) {
		t.Errorf("audited %q; want %q", actions, want)
	}
	if s.closed != len(s.opened) {
		t.Errorf("opened %d times and closed %d times", len(s.opened), s.closed)
	}
}

func TestClientErrors(t *testing.T) {
	for _, test := range []struct {
		args string // after "roster client", separated by |
		want string
	}{
		{"create", `required flag(s) "name", "scopes" not set`},
		{"create|--name|x|--scopes|users,admin", `unknown scope "admin"; valid are entitlements, entitlements:read`},
		{"create|--name|x|--scopes|", "a client needs scopes"},
		{"create|--name|x|--scopes|users|--profile|google", `unknown profile "google"`},
		{"create|--name|x|--scopes|users|--network|here", `"here" is not a network`},
		{"create|--name|x|--scopes|users|--expires|366d", "365 days at most"},
		{"create|--name|x|--scopes|users|--expires|0d", "365 days at most"},
		{"create|--name|x|--scopes|users|--expires|soon", `--expires: "soon" is not a duration`},
		{"create|--name||--scopes|users", "the name is empty"},
		{"create|--name| x|--scopes|users", "begins or ends with a space"},
		{"create|--name|x\x1b[31m|--scopes|users", "cannot be printed"},
		{"create|--name|" + strings.Repeat("é", 65) + "|--scopes|users", "longer than 64"},
		{"create|x", "unknown command"},
		{"rotate", "accepts 1 arg(s)"},
		{"rotate|nobody", `no client called "nobody"`},
		{"rotate|nobody|--overlap|-1h", "the overlap is between"},
		{"rotate|nobody|--overlap|x|--expires|y", `--overlap: "x" is not a duration`},
		{"revoke|nobody", `no client called "nobody"`},
		{"list|--tenant|nowhere", `no tenant called "nowhere"`},
	} {
		s := &clientStore{}
		out, _, err := s.roster(t, append([]string{"client"}, strings.Split(test.args, "|")...)...)
		if err == nil || !strings.Contains(err.Error(), test.want) || out != "" {
			t.Errorf("roster client %q printed %q, %v; want an error with %q", test.args, out, err, test.want)
		}
		if len(s.clients)+len(s.audit) != 0 {
			t.Errorf("roster client %q changed the store", test.args)
		}
		if strings.HasPrefix(test.args, "create") && len(s.opened) != 0 {
			t.Errorf("roster client %q opened the store", test.args)
		}
	}
	// All that is wrong is said at once.
	_, _, err := new(clientStore).roster(t, "client", "create", "--name", " ", "--scopes", "x", "--profile", "y", "--network", "z", "--expires", "w")
	if n := strings.Count(fmt.Sprint(err), "\n"); n != 4 {
		t.Errorf("five mistakes are reported as:\n%v", err)
	}
}

func TestClientStoreFailure(t *testing.T) {
	s := &clientStore{clients: []*storage.Client{{ID: "c1", Tenant: "default", Name: "okta"}}, err: storage.ErrUnavailable}
	for _, args := range [][]string{
		{"client", "create", "--name", "x", "--scopes", "users"}, {"client", "rotate", "okta"}, {"client", "revoke", "okta"},
	} {
		if out, _, err := s.roster(t, args...); !errors.Is(err, storage.ErrUnavailable) || out != "" {
			t.Errorf("%q printed %q, %v; want nothing and ErrUnavailable", args, out, err)
		}
	}
}

func TestClientStoreLocation(t *testing.T) {
	for _, test := range []struct {
		env  string
		args []string
		want string
	}{
		{"", nil, "roster-data/roster.db"},
		{"from-env.db", nil, "from-env.db"},
		{"from-env.db", []string{"--store", "from-flag.db"}, "from-flag.db"},
	} {
		t.Setenv("ROSTER_STORE", test.env)
		s := &clientStore{}
		if _, _, err := s.roster(t, append([]string{"client", "list"}, test.args...)...); err != nil || !slices.Equal(s.opened, []string{test.want}) {
			t.Errorf("%q with ROSTER_STORE=%s opened %q, %v; want %q", test.args, test.env, s.opened, err, test.want)
		}
	}
	t.Setenv("ROSTER_STORE", "mongodb://u:canary@h")
	if out, _, err := new(clientStore).roster(t, "client", "create", "--help"); err != nil || strings.Contains(out, "canary") {
		t.Errorf("the help tells a password: %s %v", out, err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestClientTokenNotPrinted: a token that nobody saw is said to exist.
func TestClientTokenNotPrinted(t *testing.T) {
	err := new(clientStore).execute(t, brokenPipe{}, io.Discard, "client", "create", "--name", "x", "--scopes", "users")
	if !errors.Is(err, io.ErrClosedPipe) || !strings.Contains(err.Error(), "rotate") {
		t.Errorf("create: %v", err)
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"180d": 180 * day, "1d": day, "0d": 0, "24h": day, "90m": 90 * time.Minute, "1h30m": 90 * time.Minute, "0s": 0, "-1h": -time.Hour, "65535d": 65535 * day,
	} {
		if got, err := parseDuration(in); err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "d", "1", "-1d", "+1d", "1.5d", "1d12h", "1D", " 1d", "1 d", "99999999999999999999d", "65536d", "1w", "1y"} {
		if got, err := parseDuration(in); err == nil {
			t.Errorf("parseDuration(%q) = %v; want an error", in, got)
		}
	}
}

// listed are clients in every state, seen on 1 May 2026.
func listed() ([]*storage.Client, time.Time) {
	at := func(month time.Month, d int) time.Time { return time.Date(2026, month, d, 9, 30, 0, 0, time.UTC) }
	now := at(time.May, 1)
	return []*storage.Client{
		{ID: "id-1", Name: "entra", Scopes: []string{"groups", "users"}, Profile: "entra", Rate: 50, Burst: 100, Created: at(1, 1), Tokens: []*storage.Token{
			{ID: "old", Created: at(1, 1), Expires: at(2, 1), LastUsed: at(1, 31)},
			{ID: "current", Created: at(2, 1), Expires: at(5, 2), LastUsed: at(5, 1)},
			{ID: "next", Created: at(5, 1), Expires: at(9, 1)},
		}},
		{ID: "id-2", Name: "late", Scopes: []string{"users"}, References: "late", Rate: 20, Created: at(1, 1), Tokens: []*storage.Token{
			{ID: "first", Created: at(1, 1), Expires: at(2, 1)}, {ID: "second", Created: at(2, 1), Expires: at(3, 1)},
		}},
		{ID: "id-3", Name: "gone", Scopes: []string{"users:read"}, Created: at(1, 1), Revoked: at(4, 1), Networks: []string{"192.0.2.0/24"},
			Tokens: []*storage.Token{{ID: "dead", Created: at(1, 1), Expires: at(9, 1)}}},
		{ID: "id-4", Name: "bare\x1b[31m", Created: at(1, 1)},
	}, now
}

func TestWriteClients(t *testing.T) {
	clients, now := listed()
	var out strings.Builder
	if err := writeClients(&out, clients, now); err != nil {
		t.Fatal(err)
	}
	want := `NAME            ID    PROFILE  REFERENCES  SCOPES        RATE        TOKEN    EXPIRES               LAST USED             STATE
entra           id-1  entra    -           groups,users  50/s (100)  current  2026-05-02 09:30 UTC  2026-05-01 09:30 UTC  active
entra           id-1  entra    -           groups,users  50/s (100)  next     2026-09-01 09:30 UTC  never                 active
late            id-2  -        late        users         20/s        second   2026-03-01 09:30 UTC  never                 expired
gone            id-3  -        -           users:read    -           dead     2026-09-01 09:30 UTC  never                 revoked
"bare\x1b[31m"  id-4  -        -           -             -           -        -                     -                     no token
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	out.Reset()
	if err := writeClients(&out, nil, now); err != nil || out.String() != "No clients.\n" {
		t.Errorf("no clients print %q, %v", out.String(), err)
	}
}

func TestWriteClientsJSON(t *testing.T) {
	clients, now := listed()
	var out bytes.Buffer
	if err := writeClientsJSON(&out, clients, now); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, c := range got {
		states = append(states, c["state"].(string))
		for _, k := range c["tokens"].([]any) {
			states = append(states, k.(map[string]any)["state"].(string))
		}
	}
	want := []string{"active", "expired", "active", "active", "expired", "expired", "expired", "revoked", "revoked", "no token"}
	if d := cmp.Diff(want, states); d != "" {
		t.Error(d)
	}
	last := map[string]any{
		"name": "gone", "id": "id-3", "scopes": []any{"users:read"}, "networks": []any{"192.0.2.0/24"}, "created": "2026-01-01T09:30:00Z",
		"revoked": "2026-04-01T09:30:00Z", "state": "revoked",
		"tokens": []any{map[string]any{"id": "dead", "created": "2026-01-01T09:30:00Z", "expires": "2026-09-01T09:30:00Z", "state": "revoked"}},
	}
	if d := cmp.Diff(last, got[2]); d != "" {
		t.Error(d)
	}
	out.Reset()
	if err := writeClientsJSON(&out, nil, now); err != nil || out.String() != "[]\n" {
		t.Errorf("no clients print %q, %v", out.String(), err)
	}
}

func TestClientListJSON(t *testing.T) {
	clients, _ := listed()
	for _, c := range clients {
		c.Tenant = "other"
	}
	s := &clientStore{clients: clients}
	out, _, err := s.roster(t, "client", "list", "--json", "--tenant", "other")
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, `"entra"`) {
		t.Errorf("list --json printed %s, %v", out, err)
	}
	if out, _, err = s.roster(t, "client", "list"); err != nil || out != "No clients.\n" {
		t.Errorf("the list of another tenant is %q, %v", out, err)
	}
}
