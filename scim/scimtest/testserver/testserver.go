package testserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/access"
	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/internal/console"
	"github.com/roster-id/roster/internal/domains"
	"github.com/roster-id/roster/internal/events"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/internal/provlog"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// Base is where the protocol is served.
const Base = "/scim/v2"

// Options change what Start starts. The zero value is a server with one client
// that may do everything.
type Options struct {
	Scopes  []string // of the client; nil for all
	Profile string   // of the client
	Log     *slog.Logger
	// Open, if set, opens a new and empty store to use in place of an embedded one.
	// Start closes it.
	Open func(testing.TB) storage.Store
	// Store, if set, puts something between the server and its store.
	Store func(storage.Store) storage.Store
	// Now, if set, is the clock of all parts.
	Now func() time.Time
	// Resolver, if set, is asked for the proofs of domains.
	Resolver domains.Resolver
	// Access, if set, changes how requests and reviews are set up.
	Access func(*access.Desk)
	// Sender, if set, takes mail in place of Server.Outbox.
	Sender mail.Sender
	NoMail bool // the server sends none
	// ByHand leaves asynchronous requests to Server.Async.Round, and events to
	// Server.Feeds.Step.
	ByHand bool
	// Hasher, if set, hashes passwords, which costs little otherwise.
	Hasher *auth.Hasher
	// Policy, if set, is that for passwords.
	Policy *auth.Policy
	// KeyFile, if set, is that of a store that Open opens with something in it, and
	// ClientName what its new client is called there.
	KeyFile    string
	ClientName string
	LogSize    int // of the provisioning log, which is written by Server.Requests.Flush only
	// Server, if set, changes how the server is set up.
	Server func(*server.Options)
	// Provider, if set, changes how the provider is set up.
	Provider func(*scim.Provider)
}

// Server is a server that is running.
type Server struct {
	Root  string // "http://127.0.0.1:49152"
	URL   string // Root and Base
	Ops   string // address of metrics and health
	Token string // of the client

	KeyFile string

	Store    storage.Store // without what Options.Store put before it
	Provider *scim.Provider
	People   *auth.Authenticator
	Domains  *domains.Keeper // which moves no user names by itself: see its Step
	Access   *access.Desk
	Mounts   []server.Mount
	Mail     *mail.Queue
	Feeds    *events.Feeds // which may send to this machine
	Requests *provlog.Log
	Async    *scim.Async
	Outbox   mail.Outbox // where mail goes, unless Options say otherwise
	Registry *prometheus.Registry
	HTTP     *http.Client // with connections of its own
	Handler  http.Handler // what answers on Root, for tests that need no network

	now  func() time.Time
	stop func() error
}

// Start starts a server. It is stopped when the test ends.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Open == nil {
		opt.Open = func(t testing.TB) storage.Store { return embedded(t, opt.Log) }
	}
	store := opt.Open(t)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &Server{
		Store: store, Registry: prometheus.NewRegistry(), now: opt.Now,
		HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	t.Cleanup(s.HTTP.CloseIdleConnections)
	s.Token = s.Client(t, cmp.Or(opt.ClientName, "test"), opt.Profile, opt.Scopes...)
	s.run(t, opt)
	return s
}

func embedded(t testing.TB, log *slog.Logger) storage.Store {
	t.Helper()
	// No query of a test is too expensive because the machine is busy.
	store, err := sqlite.Open(t.Context(), t.TempDir(), sqlite.Options{QueryTimeout: time.Minute, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// run starts everything as cmd/roster does.
func (s *Server) run(t testing.TB, opt Options) {
	t.Helper()
	served := s.Store
	if opt.Store != nil {
		served = opt.Store(s.Store)
	}
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	if s.KeyFile = opt.KeyFile; s.KeyFile == "" {
		s.KeyFile = filepath.Join(t.TempDir(), "roster.keys")
		if err := auth.CreateKeyFile(s.KeyFile); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := auth.LoadKeyRing(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	verifier := auth.NewVerifier(served, opt.Now)
	verifier.Log = opt.Log
	hasher := opt.Hasher
	if hasher == nil {
		hasher = auth.NewWeakHasher()
	}
	s.Provider = &scim.Provider{
		Store: served, Schemas: set, Hasher: hasher, Now: opt.Now, Observe: server.Operations(s.Registry),
	}
	s.Provider.Custom, s.Provider.Settle = storage.NewCatalogue(set, served, opt.Now), time.Millisecond
	if opt.Provider != nil {
		opt.Provider(s.Provider)
	}
	s.People = &auth.Authenticator{
		Store: served, Schemas: set, Hasher: hasher, Keys: keys, Now: opt.Now, Policy: *cmp.Or(opt.Policy, new(auth.DefaultPolicy())),
		Observe: server.SignIns(s.Registry), Log: opt.Log,
	}
	s.Domains = domains.New(served, s.Provider, opt.Now, opt.Log)
	if opt.Resolver != nil {
		s.Domains.Resolver = opt.Resolver
	}
	var sender mail.Sender = &s.Outbox
	if opt.Sender != nil {
		sender = opt.Sender
	}
	if opt.NoMail {
		sender = nil
	}
	s.Mail = mail.New(mail.Options{Store: served, Keys: keys, Sender: sender, Now: opt.Now, Log: opt.Log, Registry: s.Registry})
	var srv *server.Server
	s.Access = &access.Desk{Store: served, Provider: s.Provider, Schemas: set, Now: opt.Now, Log: opt.Log}
	if opt.Access != nil {
		opt.Access(s.Access)
	}
	surface := &api.API{
		Store: served, Auth: s.People, Now: opt.Now, Directory: s.Provider, Domains: s.Domains, Invitations: s.Provider, Schemas: set, Definitions: s.Provider,
		InvitationLink: func(r *http.Request, secret auth.Secret) string {
			return srv.BaseURL(r) + console.InvitationPath + "#" + secret.Reveal()
		},
		Clients: &auth.ClientManager{Store: served, Now: opt.Now, Ended: verifier, Roles: s.Provider}, Mail: s.Mail,
		Access: s.Access,
	}
	if s.Provider.SendInvitation == nil {
		s.Provider.SendInvitation = api.SendInvitations(s.Mail, func() string { return s.Root })
	}
	handler := scim.NewHandler(s.Provider, func(r *http.Request) string { return srv.BaseURL(r) + Base })
	s.Requests = provlog.New(provlog.Options{
		Store: served, Keep: 7 * 24 * time.Hour, Size: cmp.Or(opt.LogSize, 1000), Now: opt.Now, Log: opt.Log, Registry: s.Registry,
	})
	s.Async = &scim.Async{Provider: s.Provider, Keys: keys, Log: opt.Log}
	handler.Async, handler.EventURIs = s.Async, events.URIs()
	s.Feeds = events.New(events.Options{
		Store: served, Keys: keys, Directory: handler, Issuer: func() string { return s.Root }, Base: Base,
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Now: opt.Now, Log: opt.Log, Registry: s.Registry,
	})
	surface.Feeds, surface.Clients.Feeds, s.Async.Tells = s.Feeds, s.Feeds, s.Feeds.TellsOfAsync
	o := server.Options{
		Mounts: []server.Mount{
			{Prefix: Base, Routes: handler.Routes(), Tell: s.Requests.Tell},
			{Prefix: api.AuthBase, Routes: surface.AuthRoutes(), WriteError: api.WriteError, People: true},
			{Prefix: api.AdminBase, Routes: surface.AdminRoutes(), WriteError: api.WriteError, People: true},
			{Prefix: api.EventsBase, Routes: surface.EventRoutes(), WriteError: api.WriteError},
		},
		Verifier: verifier, Sessions: s.People, Log: opt.Log, Registry: s.Registry, Now: opt.Now,
		Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", Ready: served.Ping,
	}
	if opt.Server != nil {
		opt.Server(&o)
	}
	s.Mounts = o.Mounts
	if srv, err = server.New(o); err != nil {
		t.Fatal(err)
	}
	s.Handler = srv.Handler()
	s.Root = srv.Scheme() + "://" + srv.Addr().String()
	s.URL = s.Root + Base
	s.Ops = "http://" + srv.OpsAddr().String()

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(gctx, gctx) })
	g.Go(func() error { return verifier.Run(gctx) })
	g.Go(func() error { return s.Mail.Run(gctx) })
	if !opt.ByHand {
		g.Go(func() error { return s.Async.Run(gctx) })
		g.Go(func() error { return s.Feeds.Run(gctx) })
	}
	stopped := false
	s.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		s.HTTP.CloseIdleConnections()
		cancel()
		return g.Wait()
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Stop stops the server as a signal would and returns what its Run returned. The
// store stays open.
func (s *Server) Stop() error { return s.stop() }

// Client makes a client in the default tenant and returns its token. Without
// scopes it gets all of them.
func (s *Server) Client(t testing.TB, name, profile string, scopes ...string) string {
	t.Helper()
	if scopes == nil {
		scopes = []string{"users", "groups", "roles", "memberships", "invitations", "entitlements", "resources", "events"}
	}
	return s.Issue(t, &storage.Client{Tenant: storage.DefaultTenant, Name: name, Scopes: scopes, Profile: profile})
}

// Issue stores a client, with an id of its own, and returns a token for it.
func (s *Server) Issue(t testing.TB, c *storage.Client) string {
	t.Helper()
	now := storage.Milli(s.now())
	c.ID, c.Created = storage.NewID(), now
	text, token, err := auth.NewToken(rand.Reader, c.ID, now, auth.DefaultTokenLifetime)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Store.Write(t.Context(), c.Tenant, func(tx storage.Tx) error {
		if err := tx.CreateClient(c); err != nil {
			return err
		}
		if err := tx.CreateToken(token); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: now, Actor: "operator", Action: "client.create", Type: "Client", ID: c.ID})
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.Reveal()
}

// Runner returns a runner of scripts as the client. The scripts find tokens of
// further clients in {strict}, {entra} and {okta}, named for their profiles, in {late},
// whose order of arrival is not guaranteed, and in {users} and {groups}, which may only read these; {hr} may do everything that a
// client can, and give the role with the value "deckhand".
func (s *Server) Runner(t testing.TB) *scimtest.Runner {
	t.Helper()
	return &scimtest.Runner{URL: s.URL, Token: s.Token, Client: s.HTTP, Vars: map[string]string{
		"strict": s.Client(t, "strict", auth.ProfileStrict),
		"entra":  s.Client(t, "entra", auth.ProfileEntra),
		"okta":   s.Client(t, "okta", auth.ProfileOkta),
		"late":   s.Issue(t, &storage.Client{Tenant: storage.DefaultTenant, Name: "late", Scopes: []string{"users", "groups", "memberships"}, References: auth.ReferencesLate}),
		"users":  s.Client(t, "users", "", "users:read"),
		"groups": s.Client(t, "groups", "", "groups:read"),
		"hr":     s.Client(t, "hr", "", "users", "groups", "roles", "invitations", "roles:assign:deckhand"),
	}}
}

// Users fills the store with users named u0, u1 and so on, in one write and past
// the protocol, for tests that need many. It returns their ids.
func (s *Server) Users(t testing.TB, n int) []string {
	t.Helper()
	user := s.Provider.Schemas.Type("User")
	now := storage.Milli(time.Now())
	ids := make([]string, n)
	resources := make([]*storage.Resource, n)
	for i := range n {
		ids[i] = storage.NewID()
		attrs := map[string]any{"schemas": []any{schemas.UserURI}, "id": ids[i], "userName": fmt.Sprint("u", i), "active": true}
		resources[i] = &storage.Resource{
			Type: user.Name, ID: ids[i], Version: 1, Created: now, LastModified: now, Name: fmt.Sprint("u", i),
			Doc: user.Document(attrs), Index: s.Store.NewIndex(storage.DefaultTenant, user, attrs),
		}
	}
	err := s.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		for _, r := range resources {
			if err := tx.Create(r); err != nil {
				return err
			}
		}
		return tx.Audit(storage.AuditEntry{At: now, Actor: "operator", Action: "user.import", Type: user.Name})
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// Group is Users for one group with the given members, each of which is shown as
// display. It returns its id.
func (s *Server) Group(t testing.TB, name, display string, members []string) string {
	t.Helper()
	group := s.Provider.Schemas.Type("Group")
	id, now := storage.NewID(), storage.Milli(time.Now())
	attrs := map[string]any{"schemas": []any{schemas.GroupURI}, "id": id, "displayName": name}
	r := &storage.Resource{
		Type: group.Name, ID: id, Version: 1, Created: now, LastModified: now, Name: name,
		Doc: group.Document(attrs), Index: s.Store.NewIndex(storage.DefaultTenant, group, attrs),
	}
	rows := make([]storage.Member, len(members))
	for i, m := range members {
		rows[i] = storage.Member{Value: m, Display: display}
	}
	err := s.Store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		if err := tx.Create(r); err != nil {
			return err
		}
		if _, err := tx.AddMembers(r, rows); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: now, Actor: "operator", Action: "group.import", Type: group.Name, ID: r.ID})
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// Response is what Do got.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Do sends a request with the client's token to a path below the base and reads
// the whole answer. Headers are given as names and values in turn; an empty value
// takes one away.
func (s *Server) Do(t testing.TB, method, path, body string, header ...string) Response {
	t.Helper()
	r, err := s.Try(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Try is Do for goroutines other than the test's own.
func (s *Server) Try(ctx context.Context, method, path, body string, header ...string) (Response, error) {
	return s.Page(ctx, method, Base+path, body, append([]string{"Authorization", "Bearer " + s.Token}, header...)...)
}

// Page is Try for a path from the root, without the client's token.
func (s *Server) Page(ctx context.Context, method, path, body string, header ...string) (Response, error) {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.Root+path, reader)
	if err != nil {
		return Response{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, resp.Header, string(b)}, err
}

// Metrics returns what the operators' listener says under /metrics.
func (s *Server) Metrics(t testing.TB) string {
	t.Helper()
	status, body := s.Operate(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("GET /metrics: %d", status)
	}
	return body
}

// Operate asks the operators' listener.
func (s *Server) Operate(t testing.TB, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Ops+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
