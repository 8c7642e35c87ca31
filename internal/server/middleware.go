package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/tracing"
	"github.com/roster-id/roster/scim"
)

// call is one request on its way through the server.
type call struct {
	mount  *Mount // nil for none
	w      *response
	r      *http.Request
	remote netip.Addr // the client's address, seen through trusted proxies
	by     auth.Principal
	passed bool           // the gate
	told   *scim.Exchange // nil if nobody is told
	span   tracing.Span
	place  place
	body   lendingBody // of r, where its place may be lent
}

// response remembers what was sent.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
	failed bool // to write to the client
	place  *place
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.bytes+int64(len(b)) > unread {
		defer time.AfterFunc(readPatience, w.place.stall).Stop()
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	w.failed = w.failed || err != nil
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// wrap gives a request what every request gets: an id, a deadline, the headers
// of every response, one log line, its metrics, and an answer even when serve
// panics.
func (s *Server) wrap(route string, m *Mount, serve func(*call) error) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := requestID(r.Header.Get("X-Request-Id"))
		ctx, cancel := context.WithTimeout(auth.WithRequestID(r.Context(), id), handlerTime)
		defer cancel()
		c := &call{mount: m}
		c.w = &response{ResponseWriter: rw, place: &c.place}
		if m != nil && m.Tell != nil {
			c.told = &scim.Exchange{}
			ctx = scim.WithExchange(ctx, c.told)
		}
		ctx, c.span = s.opt.Tracer.Request(ctx, r.Header, methodLabel(r.Method), route, id)
		c.r = r.WithContext(ctx)
		h := rw.Header()
		h["X-Request-Id"] = []string{id}
		s.secure(h, r)
		if s.draining.Load() {
			// Behind this answer, in order, and not in the middle of the next request: when
			// the listener closes, connections that happen to idle are cut.
			h.Set("Connection", "close")
		}
		var err error
		aborted := true
		defer func() {
			s.finish(c, route, id, start, err, aborted)
		}()
		err = s.guard(c, serve)
		switch {
		case err != nil && c.w.status == 0:
			err = c.answer(err)
			aborted = c.givenUp(err)
			return
		case err != nil:
			// Part of a response is out. Cut the connection, or it looks whole.
			s.metrics.cut.WithLabelValues(c.cutBy(err)).Inc()
			panic(http.ErrAbortHandler)
		}
		aborted = false
	})
}

// The causes of a response that ends in its middle.
const (
	cutByClient = "client" // it left, or reads too slowly
	cutByPanic  = "panic"
	cutByError  = "error" // usually the store's
)

// cutBy names the cause of err, with which a response ended in its middle.
func (c *call) cutBy(err error) string {
	if _, ok := errors.AsType[*panicError](err); ok {
		return cutByPanic
	}
	if c.w.failed || errors.Is(c.r.Context().Err(), context.Canceled) {
		return cutByClient
	}
	return cutByError
}

// givenUp reports whether err is that nobody waits for the answer any more, which
// is neither a fault of the server nor of its store.
func (c *call) givenUp(err error) bool {
	return errors.Is(c.r.Context().Err(), context.Canceled) && (c.w.status == http.StatusServiceUnavailable || errors.Is(err, context.Canceled))
}

// answered is an error and how it was told to the client.
type answered struct {
	error
	typ, detail string
}

func (e answered) Unwrap() error { return e.error }

// answer tells the client of an error in the form of the mount.
func (c *call) answer(err error) answered {
	if c.mount != nil && c.mount.WriteError != nil {
		typ, detail := c.mount.WriteError(c.w, c.r, err)
		return answered{err, typ, detail}
	}
	told := scim.WriteError(c.w, c.r, err)
	return answered{err, string(told.Type), told.Repeatable()}
}

// guard checks what holds for all routes and turns a panic into an error.
func (s *Server) guard(c *call, serve func(*call) error) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			err = &panicError{p, debug.Stack()}
		}
	}()
	if err := acceptableURL(c.r); err != nil {
		return err
	}
	c.remote = s.remote(c.r)
	return serve(c)
}

// panicError is a panic as an error.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// acceptableURL refuses addresses that different parts of a system may read
// differently.
func acceptableURL(r *http.Request) error {
	if len(r.RequestURI) > maxURL {
		return &scim.Error{Status: http.StatusRequestURITooLong, Detail: fmt.Sprintf("the URL is longer than %d bytes", maxURL)}
	}
	p := r.URL.EscapedPath()
	if strings.Contains(p, "//") {
		return &scim.Error{Status: http.StatusBadRequest, Detail: "the path has two slashes in a row: the base URL that a client is given ends without one"}
	}
	if strings.ContainsAny(p, `\;`) || dotSegment(p) || badEscape(p) {
		return &scim.Error{Status: http.StatusBadRequest, Detail: "the path is not in its plain form"}
	}
	if r.Host != "" && !isHost(r.Host) {
		return &scim.Error{Status: http.StatusBadRequest, Detail: "the Host header is not a host"}
	}
	return nil
}

// isHost reports whether an address can be made of a host.
func isHost(h string) bool {
	if strings.ContainsFunc(h, func(c rune) bool { return !alphanumeric(c) && !strings.ContainsRune(".-:[]_", c) }) {
		return false
	}
	if name, port, _ := strings.Cut(h, ":"); !strings.ContainsAny(name, "[]") && strings.Trim(port, "0123456789") == "" {
		return true // as nearly all are, in every request
	}
	_, err := url.Parse("//" + h)
	return err == nil
}

// dotSegment reports whether a segment of the path stands for another one.
func dotSegment(p string) bool {
	for p != "" {
		var segment string
		segment, p, _ = strings.Cut(p, "/")
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// badEscape reports whether a path has something escaped that would mean more if
// it were not, or that need not be (RFC 3986 §2.3, §6.2.2.2): two spellings of
// one address.
func badEscape(p string) bool {
	for {
		i := strings.IndexByte(p, '%')
		if i < 0 || i+2 >= len(p) {
			return false
		}
		n, err := strconv.ParseUint(p[i+1:i+3], 16, 8)
		if err != nil || alphanumeric(rune(n)) || strings.IndexByte("-._~/\\;\x00", byte(n)) >= 0 {
			return true
		}
		p = p[i+3:]
	}
}

// finish leaves the log line and the metrics. Personal data is in neither: not
// the query, and of the path only the template.
func (s *Server) finish(c *call, route, id string, start time.Time, err error, aborted bool) {
	took := time.Since(start)
	status := c.w.status
	if status == 0 && !aborted {
		status = http.StatusOK
	}
	method := methodLabel(c.r.Method)
	label := strconv.Itoa(status)
	if aborted {
		label = "aborted"
	}
	s.metrics.requests.WithLabelValues(method, route, label).Inc()
	s.metrics.duration.WithLabelValues(method, route).Observe(took.Seconds())
	c.span.Responded(status)
	c.span.End(status >= 500 || aborted)
	if x := c.told; x != nil && c.by.Kind == auth.Client {
		x.RequestID, x.By, x.Method, x.Route, x.Began, x.Took, x.Status, x.Err = id, c.by, method, route, s.opt.Now().Add(-took), took, status, err
		if told, ok := errors.AsType[answered](err); ok {
			x.Err = told.error
		}
		c.mount.Tell(x)
	}

	level := slog.LevelInfo
	cause := ""
	if aborted && err != nil {
		cause = c.cutBy(err)
	}
	if _, overloaded := errors.AsType[*overloadError](err); aborted && cause != cutByClient || !aborted && status >= 500 && !overloaded {
		level = slog.LevelError
	}
	if !s.opt.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("request_id", id), slog.String("actor", c.by.Actor()), slog.String("method", method),
		slog.String("route", route), slog.String("status", label), slog.Int64("bytes", c.w.bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000))
	if c.span.On() {
		attrs = append(attrs, slog.String("trace_id", c.span.TraceID()))
	}
	if err != nil {
		told, ok := errors.AsType[answered](err)
		if !ok {
			told.error = err
		}
		if told.typ != "" {
			attrs = append(attrs, slog.String("error_type", told.typ))
		}
		if told.detail != "" {
			attrs = append(attrs, slog.String("detail", told.detail))
		}
		if cause != "" {
			attrs = append(attrs, slog.String("cut_by", cause))
		}
		if level == slog.LevelError {
			attrs = append(attrs, slog.String("error", told.Error()))
		}
	}
	s.opt.Log.LogAttrs(context.Background(), level, "request", attrs...)
}

// methodLabel keeps the label of a metric to the methods there are.
func methodLabel(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

func alphanumeric(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// requestID takes the id a proxy gave, if it is harmless, or makes one.
func requestID(given string) string {
	harmful := func(c rune) bool { return !alphanumeric(c) && c != '-' && c != '_' && c != '.' }
	if given != "" && len(given) <= 64 && !strings.ContainsFunc(given, harmful) {
		return given
	}
	const hex = "0123456789abcdef"
	var b [16]byte
	for i, n := 0, rand.Uint64(); i < len(b); i, n = i+1, n>>4 {
		b[i] = hex[n&15]
	}
	return string(b[:])
}

// remote returns the address of the client: that of the connection, or, behind
// trusted proxies, the last in X-Forwarded-For that none of them wrote.
func (s *Server) remote(r *http.Request) netip.Addr {
	addr := connAddr(r)
	if !s.trusted(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		a, ok := hop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		if addr = a.Unmap(); !s.trusted(addr) {
			break
		}
	}
	return addr
}

// hop reads an address in X-Forwarded-For. Some gateways write the port as well.
func hop(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a, true
	}
	a, err := netip.ParseAddrPort(s)
	return a.Addr(), err == nil
}

func connAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap()
}

func (s *Server) trusted(a netip.Addr) bool {
	a = a.WithZone("") // no network contains an address with one
	for _, p := range s.opt.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// BaseURL returns how the client of r reaches the server, without a slash at
// the end: the configured public URL, or else what the request (or a trusted
// proxy) says.
func (s *Server) BaseURL(r *http.Request) string {
	if s.opt.PublicURL != "" {
		return s.opt.PublicURL
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if len(s.opt.TrustedProxies) > 0 && s.trusted(connAddr(r)) {
		if p := r.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
			scheme = p
		}
		if h := r.Header.Get("X-Forwarded-Host"); h != "" && isHost(h) {
			host = h
		}
	}
	if host == "" { // RFC 9112 §3.3: where the connection arrived
		if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			host = addr.String()
		}
	}
	return scheme + "://" + host
}
