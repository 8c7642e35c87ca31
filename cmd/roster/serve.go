package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/access"
	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/internal/config"
	"github.com/roster-id/roster/internal/console"
	"github.com/roster-id/roster/internal/domains"
	"github.com/roster-id/roster/internal/events"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/internal/provlog"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/internal/tracing"
	"github.com/roster-id/roster/internal/tracing/export"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// basePath is where the protocol is served.
const basePath = "/scim/v2"

func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Run the server until SIGINT, SIGTERM or SIGHUP. Settings come from flags, the environment\n" +
			"(ROSTER_…) and a YAML file, in that order; docs/configuration.md lists them.",
		Args: cobra.NoArgs,
	}
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(cmd.Flags(), os.Getenv)
		if err != nil {
			return fmt.Errorf("the configuration is not valid:\n%w", err)
		}
		// A log that nobody reads any more is no reason to end, least of all at once, and
		// systemd takes this signal for an end in order that needs no new start.
		signal.Ignore(syscall.SIGPIPE)
		warn(newLogger(c, cmd.ErrOrStderr()), c, os.Environ())
		return serve(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// serve opens the store, fills the parts' fields, starts them and waits until ctx
// ends, which it does at a signal. Nothing registers itself elsewhere: what runs
// is what stands here.
func serve(ctx context.Context, c config.Config, out, errOut io.Writer) error {
	hurry, stop := hurried(ctx)
	defer stop()
	log := newLogger(c, errOut)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	p, err := findPlace(c.Store.Reveal(), c.AllowStandalone)
	if err != nil {
		return err
	}
	set, err := schemas.Load()
	if err != nil {
		return err
	}
	indexed, err := storage.ChooseIndexed(set, c.IndexAttributes)
	if err != nil {
		return err // the configuration was valid
	}
	store, err := openStore(ctx, p, log, indexed, server.NewStoreMetrics(registry, p.kind).Committed)
	if err != nil {
		return fmt.Errorf("open the store %s: %w", c.Store, err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Error("closing the store failed", "error", err)
		}
	}()
	var tracer *tracing.Tracer
	if export.Wanted(os.Getenv) {
		var flush func()
		if tracer, flush, err = export.Open(ctx, versionText(), log); err != nil {
			return err
		}
		defer flush()
		store = tracing.Store(store)
	}
	if mark, err := store.LoadMark(ctx, storage.DefaultTenant); err != nil {
		return err
	} else if mark != nil {
		log.Warn("a dump has been loaded in part; no token is accepted before `roster load` has completed it", "tenant", storage.DefaultTenant, "records", mark.Records)
	}
	verifier := auth.NewVerifier(store, time.Now)
	verifier.Log = log
	hasher := auth.NewHasher()
	provider := &scim.Provider{
		Store: store, Schemas: set, Hasher: hasher, Now: time.Now, Observe: server.Operations(registry),
		InvitationLifetime: c.InvitationLifetime, Custom: storage.NewCatalogue(set, store, time.Now),
	}
	var srv *server.Server
	handler := scim.NewHandler(provider, func(r *http.Request) string { return srv.BaseURL(r) + basePath })
	options := server.Options{
		Mounts:   []server.Mount{{Prefix: basePath, Routes: handler.Routes()}},
		Verifier: verifier, Log: log, Registry: registry, Tracer: tracer,
		Listen: c.Listen, OpsListen: c.OpsListen, PublicURL: c.PublicURL, TrustedProxies: c.TrustedProxies,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, MaxConns: c.MaxConnections, MaxConnsPerIP: c.MaxConnectionsPerIP,
		Admission: admission(c), ClientRate: c.ClientRate, ClientBurst: c.ClientBurst,
		ShutdownDelay: c.ShutdownDelay, Pprof: c.Pprof, Ready: store.Ping,
	}
	var requests *provlog.Log
	if c.ProvisioningLogKeep > 0 {
		requests = provlog.New(provlog.Options{Store: store, Keep: c.ProvisioningLogKeep, Size: c.ProvisioningLogSize, Now: time.Now, Log: log, Registry: registry})
		options.Mounts[0].Tell = requests.Tell
	}
	keys, err := openKeys(ctx, p, c.KeyFile, store, log)
	if err != nil {
		return err
	}
	sender, err := newMailSender(c.Mail, out)
	switch {
	case err != nil:
		return err
	case sender != nil && keys == nil:
		return errors.New("mail-from: there is no key to seal mail with while it waits: set key-file")
	}
	done := server.Chores(registry, sweeping, purging, finishing)
	runs := []func(context.Context) error{
		verifier.Run,
		(&sweeper{store: store, done: done, log: log}).Run,
		(&purger{tenants: store, provider: provider, done: done, log: log}).Run,
		(&finisher{tenants: store, provider: provider, done: done, log: log}).Run,
	}
	var people *auth.Authenticator
	address := func() string { return cmp.Or(c.PublicURL, srv.Scheme()+"://"+srv.Addr().String()) }
	if keys != nil {
		handler.Async = &scim.Async{Provider: provider, Keys: keys, Log: log, Lifetime: c.BulkResultLifetime}
		handler.Async.Pending, handler.Async.Done = server.AsyncRequests(registry)
		queue := mail.New(mail.Options{Store: store, Keys: keys, Sender: sender, Language: c.Mail.Language, Now: time.Now, Log: log, Registry: registry})
		policy := auth.DefaultPolicy()
		policy.TemporaryFor = c.TemporaryPasswordLifetime
		people = &auth.Authenticator{
			Store: store, Schemas: set, Hasher: hasher, Keys: keys, Now: time.Now, Policy: policy,
			Observe: server.SignIns(registry), Log: log,
		}
		keeper := domains.New(store, provider, time.Now, log)
		desk := &access.Desk{
			Store: store, Provider: provider, Schemas: set, Now: time.Now, Log: log, Overdue: server.OverdueReviews(registry),
			Tell: access.Post(queue, c.PublicURL, log),
		}
		handler.EventURIs = events.URIs()
		feeds := events.New(events.Options{
			Store: store, Keys: keys, Directory: handler, Issuer: address, Base: basePath, Networks: c.EventNetworks, Now: time.Now, Log: log, Registry: registry,
		})
		handler.Async.Tells = feeds.TellsOfAsync
		surface := &api.API{
			Store: store, Auth: people, Now: time.Now, Directory: provider, Domains: keeper, Invitations: provider, Schemas: set, Definitions: provider,
			InvitationLink: func(r *http.Request, secret auth.Secret) string {
				return srv.BaseURL(r) + console.InvitationPath + "#" + secret.Reveal()
			},
			Clients: &auth.ClientManager{Store: store, Now: time.Now, Ended: verifier, Feeds: feeds, Roles: provider}, Mail: queue, Feeds: feeds,
			Access: desk,
		}
		provider.SendInvitation = api.SendInvitations(queue, address)
		options.Sessions = people
		options.Mounts = append(options.Mounts,
			server.Mount{Prefix: api.AuthBase, Routes: surface.AuthRoutes(), WriteError: api.WriteError, People: true},
			server.Mount{Prefix: api.AdminBase, Routes: surface.AdminRoutes(), WriteError: api.WriteError, People: true},
			server.Mount{Prefix: api.EventsBase, Routes: surface.EventRoutes(), WriteError: api.WriteError},
			server.Mount{Routes: console.Routes(), WriteError: api.WriteError, People: true})
		runs = append(runs, handler.Async.Run, queue.Run, keeper.Run, desk.Run, feeds.Run)
	}
	if srv, err = server.New(options); err != nil {
		return err
	}
	var signer audit.Signer
	if keys != nil {
		signer = keys
	}
	checkpointer, err := newCheckpointer(c, store, signer, log)
	if err != nil {
		return err
	}
	if checkpointer != nil {
		runs = append(runs, checkpointer.Run)
	}
	if err := greet(ctx, c, store, people, srv, out, log); err != nil {
		return err
	}

	g, gctx := errgroup.WithContext(ctx)
	served, end := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer end()
		return srv.Run(gctx, hurry)
	})
	if requests != nil {
		g.Go(func() error { return requests.Run(served) }) // until the last request has ended
	}
	for _, run := range runs {
		g.Go(func() error { return run(gctx) })
	}
	err = g.Wait()
	log.Info("stopped")
	return err
}

// admission is what the settings say of how many requests are in work, and for the rest
// what suits this machine.
func admission(c config.Config) server.Admission {
	a := server.AdmissionFor(c.MaxConnectionsPerIP, c.MaxQueueWait)
	if c.MaxRequests != config.Auto {
		a = server.AdmissionOf(c.MaxRequests, c.MaxConnectionsPerIP, c.MaxQueueWait)
	}
	if c.MaxQueuedRequests != config.Auto {
		a.Queue = c.MaxQueuedRequests
	}
	return a
}

// newCheckpointer makes what signs the audit trail, with the key that is given. There
// is none without a key.
func newCheckpointer(c config.Config, store storage.Store, key audit.Signer, log *slog.Logger) (*audit.Checkpointer, error) {
	if key == nil {
		if c.AuditCheckpoints != "" {
			return nil, errors.New("audit-checkpoints: there is no key to sign checkpoints with")
		}
		return nil, nil
	}
	log.Info("checkpoints of the audit trail are signed", "public-key", audit.KeyText(key.Signer().Public().(ed25519.PublicKey)))
	return &audit.Checkpointer{Store: store, Signer: key, Now: time.Now, Log: log, File: c.AuditCheckpoints}, nil
}

// warn logs what is allowed and probably a mistake. Variables that nobody knows are
// not refused: Kubernetes sets ROSTER_PORT and others for a service called roster.
func warn(log *slog.Logger, c config.Config, environ []string) {
	if !config.Loopback(c.OpsListen) {
		log.Warn("ops-listen can be reached from other machines, and asks nobody who calls: keep it in a private network", "ops-listen", c.OpsListen)
	}
	for _, name := range config.UnknownVariables(environ) {
		log.Warn("there is no such setting: the variable is ignored", "variable", name)
	}
}

// hurried returns a context that ends when there is no reason to wait for load
// balancers: at a second signal, or when the first was an interrupt from a
// terminal.
func hurried(ctx context.Context) (hurry context.Context, stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	hurry, end := context.WithCancel(context.WithoutCancel(ctx))
	next := func() (s os.Signal) {
		select {
		case s = <-signals:
		case <-hurry.Done():
		}
		return s
	}
	go func() {
		if next() != os.Interrupt {
			next()
		}
		end()
	}()
	return hurry, func() { signal.Stop(signals); end() }
}

// greet prints where the server listens, in one line that programs read, and
// what to do first. That nobody can be told is no reason not to serve, and a signal
// meanwhile is none to fail: it ends the server in order, as it does a moment later.
func greet(ctx context.Context, c config.Config, store storage.Store, people *auth.Authenticator, srv *server.Server, out io.Writer, log *slog.Logger) error {
	ctx = context.WithoutCancel(ctx)
	lost := false
	say := func(format string, args ...any) {
		if _, err := fmt.Fprintf(out, format, args...); err != nil && !lost {
			lost = true
			log.Warn("standard output cannot be written: what to do first is not shown", "error", err)
		}
	}
	address := srv.Scheme() + "://" + srv.Addr().String()
	say("listening scim=%s ops=http://%s\n", address, srv.OpsAddr())
	if c.Demo {
		token, err := demoToken(ctx, store)
		if err != nil {
			return fmt.Errorf("make the demo client: %w", err)
		}
		say(`
A demo client that may read and write users and groups is ready; its token is good for a day, or until the next start. Try:

  curl -s -H 'Authorization: Bearer %s' \
       -H 'Content-Type: application/scim+json' \
       -d '{"schemas":["%s"],"userName":"ana@example.com","active":true}' \
       %s/Users

`, token.Reveal(), schemas.UserURI, address+basePath)
		if people == nil {
			return nil
		}
		link, err := people.NewFirstSetup(ctx, auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant})
		switch {
		case errors.Is(err, auth.ErrAdministered):
			return nil
		case err != nil:
			return fmt.Errorf("make a link for the first administrator: %w", err)
		}
		say("To become its first administrator, open:\n\n  %s\n\n", setupLink(cmp.Or(c.PublicURL, address), link))
		return nil
	}
	clients, err := store.ListClients(ctx, storage.DefaultTenant)
	if err != nil {
		return err
	}
	if len(clients) == 0 {
		say("no clients yet; make the first token with:\n  roster client create --store %s --name my-idp --scopes users,groups\n", c.Store)
	}
	if people == nil {
		return nil
	}
	administered, err := people.Administered(ctx, storage.DefaultTenant)
	if err == nil && !administered {
		say("no administrator yet; print a one-time link for the first one with:\n  roster setup --store %s --public-url %s\n", c.Store, cmp.Or(c.PublicURL, address))
	}
	return err
}

func newLogger(c config.Config, w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, opt))
	}
	return slog.New(slog.NewJSONHandler(w, opt))
}
