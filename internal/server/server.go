package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/tracing"
	"github.com/roster-id/roster/scim"
)

// Limits of the HTTP server; see docs/configuration.md.
const (
	maxURL           = 8 << 10
	maxHeaderBytes   = 16 << 10
	readHeaderTime   = 5 * time.Second
	readTime         = 30 * time.Second
	writeTime        = 60 * time.Second
	idleTime         = 120 * time.Second
	handlerTime      = 30 * time.Second
	drainTime        = 30 * time.Second
	readyTime        = 2 * time.Second
	streamsPerClient = 100
)

// Mount is a route table below a path.
type Mount struct {
	Prefix string
	Routes []scim.Route
	// WriteError answers with an error below the path, nothing being sent yet, and
	// returns what the client was told, for the log: a type from a small vocabulary,
	// and a detail if it contains nothing that the client sent. Nil is the form of
	// SCIM. Beside what the routes return it is given *scim.Error, and the errors of
	// auth.Need and auth.Verifier.
	WriteError func(w http.ResponseWriter, r *http.Request, err error) (typ, detail string)
	// Tell, if set, is told of each request to a route by a client that is known when it
	// has ended, also if the client may not do that. It must not wait.
	Tell func(*scim.Exchange)
	// People says that the routes are for people who sign in, for whom places are
	// reserved; see Admission.
	People bool
}

// Sessions finds out who signed in.
type Sessions interface {
	// VerifySession returns whose session a text belongs to. from is where the
	// request comes from. The errors are those of auth.Verifier.VerifyToken.
	VerifySession(ctx context.Context, text string, from netip.Addr) (auth.Principal, error)
}

// Options are the parts a Server is made of.
type Options struct {
	Mounts   []Mount
	Verifier *auth.Verifier // may be nil when every route is public
	Sessions Sessions       // nil where nobody signs in
	Log      *slog.Logger
	Registry *prometheus.Registry
	Tracer   *tracing.Tracer  // nil where nobody collects traces
	Now      func() time.Time // nil for time.Now

	Listen    string // address of the protocol
	OpsListen string // address of metrics and health; "" for none
	// PublicURL is how clients reach the server ("https://roster.example"), or
	// "" to take it from each request.
	PublicURL      string
	TrustedProxies []netip.Prefix // whose X-Forwarded headers count
	TLSCert        string         // files; both or none
	TLSKey         string
	MaxConns       int // 0 for no limit
	MaxConnsPerIP  int
	Admission      Admission
	ClientRate     int           // requests of a client in a second, unless it has a rate of its own; 0 for no limit
	ClientBurst    int           // 0 for as many as ClientRate
	ShutdownDelay  time.Duration // between not ready and closing the listeners
	Pprof          bool
	Ready          func(context.Context) error
}

// Server is the two listeners. Make one with New.
type Server struct {
	opt       Options
	metrics   *metrics
	admission *admission
	rates     rates
	handler   http.Handler
	origins   *http.CrossOriginProtection
	cert      *tls.Certificate // nil without TLS
	main      net.Listener
	ops       net.Listener
	draining  atomic.Bool
}

// New builds the server and opens its listeners, so that their addresses are
// known. It fails when a route does not declare what it needs.
func New(opt Options) (*Server, error) {
	s := &Server{opt: opt, metrics: newMetrics(opt.Registry), origins: http.NewCrossOriginProtection()}
	s.admission = newAdmission(opt.Admission, s.metrics)
	if opt.Now == nil {
		s.opt.Now = time.Now
	}
	if opt.PublicURL != "" {
		// A proxy may have put another name into Host.
		u, err := url.Parse(opt.PublicURL)
		if err != nil {
			return nil, errors.New("public-url: not a URL") // what it is may be secret
		}
		if err := s.origins.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("public-url: %w", err)
		}
	}
	if opt.Verifier != nil {
		opt.Verifier.Refused = func(reason auth.Reason) { s.metrics.refused.WithLabelValues(string(reason)).Inc() }
	}
	h, err := s.routes()
	if err != nil {
		return nil, err
	}
	if opt.TLSCert != "" {
		if err := Private(opt.TLSKey); err != nil {
			return nil, fmt.Errorf("tls-key: %w", err)
		}
		cert, err := tls.LoadX509KeyPair(opt.TLSCert, opt.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("tls-cert and tls-key: %w", err)
		}
		s.cert = &cert
	}
	s.handler = h
	if s.main, err = listen(opt.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if opt.OpsListen != "" {
		if s.ops, err = listen(opt.OpsListen); err != nil {
			return nil, errors.Join(fmt.Errorf("ops-listen: %w", err), s.main.Close())
		}
	}
	return s, nil
}

// listen is net.Listen that says what to do where it cannot.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = fmt.Errorf("another program listens on %s: end it, or choose another address (%w)", address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = fmt.Errorf("this machine does not have the address %s: choose one that it has (%w)", address, err)
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("this user may not listen on %s: choose a port from 1024 on (%w)", address, err)
	}
	return l, err
}

// Private refuses a file that everybody on the machine may read or write. A group
// may: that is how many systems hand out keys.
func Private(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := fi.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("%s may be read by everybody (mode %o): run chmod o-rwx on it", path, mode)
	}
	return nil
}

// Addr returns the address of the protocol's listener.
func (s *Server) Addr() net.Addr { return s.main.Addr() }

// OpsAddr returns the address of the operators' listener, or nil.
func (s *Server) OpsAddr() net.Addr {
	if s.ops == nil {
		return nil
	}
	return s.ops.Addr()
}

// Scheme returns "https" when the server speaks TLS itself, else "http".
func (s *Server) Scheme() string {
	if s.cert != nil {
		return "https"
	}
	return "http"
}

// Run serves until ctx ends, then says it is not ready, waits for the load
// balancers to notice, and lets the requests under way finish. It returns nil
// after a clean shutdown. Ending hurry as well cuts the waiting short.
func (s *Server) Run(ctx, hurry context.Context) error {
	quiet := slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug) // what clients do to connections is no operator's business
	main, ops := s.servers(quiet)
	var l net.Listener = &tellingListener{s.main, s.opt.Log}
	if s.opt.MaxConnsPerIP > 0 {
		l = &perIPListener{Listener: l, max: s.opt.MaxConnsPerIP, count: map[netip.Prefix]int{}}
	}
	if s.opt.MaxConns > 0 {
		l = netutil.LimitListener(l, s.opt.MaxConns)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if s.cert != nil {
			main.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*s.cert}}
			return served(main.ServeTLS(l, "", ""))
		}
		return served(main.Serve(l))
	})
	if s.ops != nil {
		g.Go(func() error { return served(ops.Serve(s.ops)) })
	}
	g.Go(func() error {
		<-gctx.Done()
		s.draining.Store(true)
		if ctx.Err() != nil { // not because a listener failed
			select {
			case <-time.After(s.opt.ShutdownDelay):
			case <-hurry.Done():
			}
		}
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err := main.Shutdown(end)
		return errors.Join(err, ops.Shutdown(end))
	})
	return g.Wait()
}

// servers are those of the two listeners, with what bounds a connection.
func (s *Server) servers(quiet *log.Logger) (main, ops *http.Server) {
	main = &http.Server{
		Handler: s.handler, ErrorLog: quiet, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: streamsPerClient},
		DisableGeneralOptionsHandler: true, // "OPTIONS *" gets what every request gets
	}
	ops = &http.Server{
		Handler: s.opsHandler(), ErrorLog: quiet, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTime, ReadTimeout: readTime, WriteTimeout: s.opsWriteTime(), IdleTimeout: idleTime,
	}
	return main, ops
}

// opsWriteTime bounds an answer to an operator. A profile takes as long as was
// asked for, and net/http/pprof refuses what the server would cut off.
func (s *Server) opsWriteTime() time.Duration {
	if s.opt.Pprof {
		return 0
	}
	return writeTime
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// opsHandler is for operators only: it needs no credentials and is bound to
// loopback unless told otherwise.
func (s *Server) opsHandler() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /metrics", promhttp.HandlerFor(s.opt.Registry, promhttp.HandlerOpts{}))
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTime)
		defer cancel()
		switch err := s.ready(ctx); {
		case s.draining.Load():
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
		case err != nil:
			s.opt.Log.Warn("not ready", "error", err)
			http.Error(w, "the store does not answer", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	if s.opt.Pprof {
		// Not cmdline, which may hold the password of a store or a mail server.
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return m
}

func (s *Server) ready(ctx context.Context) error {
	if s.opt.Ready == nil {
		return nil
	}
	return s.opt.Ready(ctx)
}

// endpoint is the routes of one path.
type endpoint struct {
	mount   *Mount
	path    string // the template, also the label in metrics and logs
	methods map[string]scim.Route
	allow   string                                    // of a 405
	exists  func(*http.Request, auth.Principal) error // see scim.Route
}

func (e *endpoint) notAllowed(w http.ResponseWriter) error {
	w.Header().Set("Allow", e.allow)
	return &scim.Error{Status: http.StatusMethodNotAllowed, Detail: "this endpoint allows " + e.allow}
}

// routes builds the mux from the route tables.
func (s *Server) routes() (http.Handler, error) {
	router := mux.NewRouter().UseEncodedPath().SkipClean(true)
	var endpoints []*endpoint
	byPath := map[string]*endpoint{}
	for i := range s.opt.Mounts {
		m := &s.opt.Mounts[i]
		for _, r := range m.Routes {
			path := m.Prefix + r.Path
			if !r.Needs.Declared() {
				return nil, fmt.Errorf("route %s %s does not declare what it needs", r.Method, path)
			}
			if !r.Needs.Public() && s.opt.Verifier == nil {
				return nil, fmt.Errorf("route %s %s needs credentials and there is nothing to verify them", r.Method, path)
			}
			e := byPath[path]
			if e == nil {
				e = &endpoint{mount: m, path: path, methods: map[string]scim.Route{}}
				byPath[path] = e
				endpoints = append(endpoints, e)
			}
			if _, twice := e.methods[r.Method]; twice {
				return nil, fmt.Errorf("route %s %s is declared twice", r.Method, path)
			}
			e.methods[r.Method], e.exists = r, r.Exists
			if r.Method == http.MethodGet {
				e.methods[http.MethodHead] = r
			}
		}
	}
	// mux tries routes in order, so those of resources come before discovery, and those
	// of types that tenants define behind all others.
	open := func(e *endpoint) bool { return strings.Contains(e.path, "{type}") }
	slices.SortStableFunc(endpoints, func(a, b *endpoint) int {
		switch {
		case open(a) == open(b):
			return len(b.methods) - len(a.methods)
		case open(a):
			return 1
		}
		return -1
	})
	for _, e := range endpoints {
		var allowed []string
		for method := range e.methods {
			allowed = append(allowed, method)
		}
		slices.Sort(allowed)
		e.allow = strings.Join(allowed, ", ")
		h := s.wrap(e.path, e.mount, s.serve(e))
		// What begins with a dot (RFC 7644 §3.4.3: .search) is no id.
		pattern := strings.ReplaceAll(e.path, "{id}", "{id:[^/.][^/]*}")
		pattern = strings.ReplaceAll(pattern, "{type}", "{type:[A-Za-z][A-Za-z0-9]*}")
		router.Path(pattern).Handler(h)
		router.Path(pattern + "/").Handler(h)
	}
	var prefixes []string
	for _, m := range s.opt.Mounts {
		if m.Prefix != "" {
			prefixes = append(prefixes, m.Prefix)
		}
	}
	elsewhere := "no such endpoint: endpoints are below " + strings.Join(prefixes, ", ")
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := s.mountOf(r)
		detail := "no such endpoint"
		if m == nil || m.Prefix == "" { // a client's address often lacks /scim/v2
			detail = elsewhere
		}
		s.wrap("none", m, func(*call) error { return &scim.Error{Status: http.StatusNotFound, Detail: detail} }).ServeHTTP(w, r)
	})
	return router, nil
}

// mountOf returns the mount below whose path a request without a route looked, or
// nil.
func (s *Server) mountOf(r *http.Request) *Mount {
	for i, m := range s.opt.Mounts {
		if strings.HasPrefix(r.URL.Path, m.Prefix+"/") {
			return &s.opt.Mounts[i]
		}
	}
	return nil
}

// serve passes a request through the gate to the route of its method.
func (s *Server) serve(e *endpoint) func(*call) error {
	return func(c *call) error {
		r, ok := e.methods[c.r.Method]
		switch {
		case ok:
		case e.exists == nil:
			return e.notAllowed(c.w)
		default: // what it allows is said of an endpoint that there is
			r = scim.Route{Needs: auth.Token(), Serve: func(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
				if err := e.exists(r, by); err != nil {
					return err
				}
				return e.notAllowed(w)
			}}
		}
		lane, err := s.admit(c, r)
		if err != nil {
			return err
		}
		if lane != nil {
			c.place.lane, c.place.readers, c.place.held = lane, s.admission.readers, true
			defer c.place.leave()
			c.lend()
			if r.Waits {
				c.r = c.r.WithContext(scim.WithPlace(c.r.Context(), c.place.leave))
			}
		}
		if err := s.enter(c, r); err != nil {
			return err
		}
		err = r.Serve(c.w, c.r, c.by)
		if _, ok := errors.AsType[*auth.LevelError](err); ok {
			c.challenge(err) // what it would do asks for more than the route does
		}
		return err
	}
}

// Handler returns what the protocol's listener serves.
func (s *Server) Handler() http.Handler { return s.handler }
