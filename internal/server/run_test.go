package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

func registry() *prometheus.Registry { return prometheus.NewRegistry() }

// with adds routes below /test to a server.
func with(routes ...scim.Route) func(*server.Options) {
	return func(o *server.Options) { o.Mounts = append(o.Mounts, server.Mount{Prefix: "/test", Routes: routes}) }
}

// get asks for a path from the root of the server, without credentials.
func get(t *testing.T, s *testserver.Server, path string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.Root+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.HTTP.Do(req)
}

// TestPanic: a route that panics is a 500 with the request's id, and no more of
// it; the process lives, and the log has what happened under that id.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log testserver.Log
	s := testserver.Start(t, testserver.Options{Log: log.Logger(), Server: with(
		scim.Route{Method: "GET", Path: "/panic", Needs: auth.Public(), Serve: func(http.ResponseWriter, *http.Request, auth.Principal) error { panic("secretive") }},
		scim.Route{Method: "GET", Path: "/half", Needs: auth.Public(), Serve: func(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
			_, _ = io.WriteString(w, `{"half":`)
			_ = http.NewResponseController(w).Flush()
			panic("midway")
		}},
		scim.Route{Method: "GET", Path: "/abort", Needs: auth.Public(), Serve: func(http.ResponseWriter, *http.Request, auth.Principal) error { panic(http.ErrAbortHandler) }},
		scim.Route{Method: "GET", Path: "/nil", Needs: auth.Public(), Serve: func(_ http.ResponseWriter, r *http.Request, _ auth.Principal) error {
			var p *auth.Principal
			_ = p.ID
			return nil
		}},
	)})
	for _, path := range []string{"/test/panic", "/test/nil"} {
		resp, err := get(t, s, path)
		if err != nil {
			t.Fatal(err)
		}
		body := drain(t, resp)
		if resp.StatusCode != 500 || resp.Header.Get("X-Request-Id") == "" || resp.Header.Get("Content-Type") != "application/scim+json" ||
			body != `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"500","detail":"internal error"}` {
			t.Errorf("GET %s: %d %v %s", path, resp.StatusCode, resp.Header, body)
		}
	}
	for _, path := range []string{"/test/half", "/test/abort"} {
		if resp, err := get(t, s, path); err == nil {
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				t.Errorf("GET %s: %d %q looks complete", path, resp.StatusCode, b)
			}
		}
	}
	if r := s.Do(t, "GET", "/Users", ""); r.Status != 200 {
		t.Errorf("afterwards: %d", r.Status)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	logged := map[string]map[string]any{}
	for text := range strings.Lines(log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if route, ok := line["route"].(string); ok {
			logged[route] = line
		}
	}
	for route, want := range map[string][3]string{
		"/test/panic": {"ERROR", "500", "secretive"}, "/test/nil": {"ERROR", "500", "nil pointer"},
		"/test/half": {"ERROR", "aborted", "midway"}, "/test/abort": {"ERROR", "aborted", ""},
	} {
		line := logged[route]
		text, _ := line["error"].(string)
		if line["level"] != want[0] || line["status"] != want[1] || !strings.Contains(text, want[2]) {
			t.Errorf("%s is logged as %v", route, line)
		}
		if want[2] != "" && !strings.Contains(text, "run_test.go") {
			t.Errorf("%s is logged without the stack: %s", route, text)
		}
	}
}

// TestDeadline: every request has one.
func TestDeadline(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Server: with(scim.Route{Method: "GET", Path: "/deadline", Needs: auth.Public(),
		Serve: func(_ http.ResponseWriter, r *http.Request, _ auth.Principal) error {
			if end, ok := r.Context().Deadline(); !ok || time.Until(end) > 30*time.Second {
				return errors.New("none, or too late")
			}
			return context.DeadlineExceeded
		}})})
	resp, err := get(t, s, "/test/deadline")
	if err != nil {
		t.Fatal(err)
	}
	if body := drain(t, resp); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s, want 503 and when to try again", resp.StatusCode, resp.Header, body)
	}
}

// TestShutdown: when a server is told to stop it says that it is not ready, still
// answers for a while, then takes no more connections, and lets the requests under
// way finish.
func TestShutdown(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	srv, err := server.New(server.Options{
		Mounts: []server.Mount{{Prefix: "/test", Routes: []scim.Route{
			{Method: "GET", Path: "/slow", Needs: auth.Public(), Serve: func(w http.ResponseWriter, r *http.Request, _ auth.Principal) error {
				close(entered)
				<-release
				if r.Context().Err() != nil {
					return r.Context().Err()
				}
				_, err := io.WriteString(w, "done")
				return err
			}},
			{Method: "GET", Path: "/quick", Needs: auth.Public(), Serve: func(http.ResponseWriter, *http.Request, auth.Principal) error { return nil }},
		}}},
		Log: slog.New(slog.DiscardHandler), Registry: registry(), Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", ShutdownDelay: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	root, ops := srv.Scheme()+"://"+srv.Addr().String(), "http://"+srv.OpsAddr().String()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(url string) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			return 0, "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	keeping := &http.Client{Transport: &http.Transport{}}
	defer keeping.CloseIdleConnections()
	closes := func() bool {
		req, err := http.NewRequestWithContext(t.Context(), "GET", root+"/test/quick", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := keeping.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body.Close() == nil && resp.Close
	}
	run, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	hurry, hurryUp := context.WithCancel(context.WithoutCancel(t.Context()))
	defer hurryUp()
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(run, hurry) }()

	if status, body, err := ask(ops + "/readyz"); err != nil || status != 200 || body != "ok\n" {
		t.Errorf("at first: %d %q %v", status, body, err)
	}
	if closes() {
		t.Error("at first a connection is closed behind an answer")
	}
	type answer struct {
		status int
		body   string
		err    error
	}
	slow := make(chan answer, 1)
	go func() {
		status, body, err := ask(root + "/test/slow")
		slow <- answer{status, body, err}
	}()
	<-entered

	stop()
	for { // draining begins when Run notices
		if status, _, err := ask(ops + "/readyz"); err != nil || status == 503 {
			if err != nil {
				t.Errorf("not ready: %v", err)
			}
			break
		}
	}
	if status, _, err := ask(root + "/test/quick"); err != nil || status != 200 {
		t.Errorf("while load balancers notice: %d %v", status, err)
	}
	if !closes() {
		t.Error("a connection that is used while load balancers notice stays open: the listener's end may cut a request on it")
	}
	if status, _, err := ask(ops + "/healthz"); err != nil || status != 200 {
		t.Errorf("alive while draining: %d %v", status, err)
	}

	hurryUp()
	for { // the listener closes when Run gets there
		if _, _, err := ask(root + "/test/quick"); err != nil {
			break
		}
	}
	if status, _, err := ask(ops + "/readyz"); err != nil || status != 503 {
		t.Errorf("while requests finish: %d %v", status, err)
	}
	select {
	case err := <-ended:
		t.Fatalf("Run returned %v with a request under way", err)
	default:
	}
	close(release)
	if a := <-slow; a.err != nil || a.status != 200 || a.body != "done" {
		t.Errorf("the request under way: %+v", a)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, _, err := ask(ops + "/healthz"); err == nil {
		t.Error("the operators' listener is still open")
	}
}

// TestMissingCertificate: what cannot be served is found before the server says
// that it listens.
func TestMissingCertificate(t *testing.T) {
	t.Parallel()
	_, err := server.New(server.Options{Log: slog.New(slog.DiscardHandler), Registry: registry(), Listen: "127.0.0.1:0", TLSCert: "nowhere.pem", TLSKey: "nowhere.pem"})
	if err == nil || !strings.Contains(err.Error(), "nowhere.pem") {
		t.Errorf("New: %v", err)
	}
}

// TestOperators: health, readiness, metrics, and profiles only when asked for.
func TestOperators(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		o.Pprof = true
		o.Ready = func(ctx context.Context) error {
			if _, ok := ctx.Deadline(); !ok {
				return errors.New("without a deadline")
			}
			if broken.Load() {
				return errors.New("secretive")
			}
			return nil
		}
	}})
	s.Do(t, "GET", "/Users", "")
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ok", "/metrics": `roster_http_requests_total{method="GET",route="/scim/v2/Users",status="200"} 1`,
		"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine", "/debug/pprof/symbol": "num_symbols",
	} {
		if status, body := s.Operate(t, path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d %.200q", path, status, body)
		}
	}
	// A flag may hold the password of a store or a mail server.
	if status, body := s.Operate(t, "/debug/pprof/cmdline"); status != 404 || strings.Contains(body, os.Args[0]) {
		t.Errorf("GET /debug/pprof/cmdline: %d %.200q, want 404", status, body)
	}
	broken.Store(true)
	if status, body := s.Operate(t, "/readyz"); status != 503 || strings.Contains(body, "secretive") {
		t.Errorf("GET /readyz with a broken store: %d %q", status, body)
	}
	if status, _ := s.Operate(t, "/healthz"); status != 200 {
		t.Errorf("GET /healthz with a broken store: %d", status)
	}

	plain := testserver.Start(t, testserver.Options{Server: func(o *server.Options) { o.Ready = nil }})
	for path, want := range map[string]int{"/debug/pprof/": 404, "/debug/pprof/cmdline": 404, "/readyz": 200, "/scim/v2/Users": 404, "/": 404} {
		if status, body := plain.Operate(t, path); status != want {
			t.Errorf("GET %s: %d %.200q, want %d", path, status, body, want)
		}
	}
}

// TestCut: an answer that fails in its middle is cut, and the log says by whom: a
// client that leaves is no fault of the server's.
func TestCut(t *testing.T) {
	t.Parallel()
	var log testserver.Log
	left, arrived := make(chan struct{}), make(chan struct{})
	// given is a route that its client gives up before there is an answer.
	given := func(path string, fail func(error) error) scim.Route {
		return scim.Route{Method: "GET", Path: path, Needs: auth.Public(), Serve: func(_ http.ResponseWriter, r *http.Request, _ auth.Principal) error {
			arrived <- struct{}{}
			<-r.Context().Done()
			return fail(r.Context().Err())
		}}
	}
	s := testserver.Start(t, testserver.Options{Log: log.Logger(), Server: with(
		scim.Route{Method: "GET", Path: "/fails", Needs: auth.Public(), Serve: func(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
			_, _ = io.WriteString(w, `{"half":`)
			_ = http.NewResponseController(w).Flush()
			return errors.New("the disk is gone")
		}},
		scim.Route{Method: "GET", Path: "/leaves", Needs: auth.Public(), Serve: func(w http.ResponseWriter, r *http.Request, _ auth.Principal) error {
			defer close(left)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<20)); err != nil {
					return err
				}
			}
			return r.Context().Err()
		}},
		given("/given-up", func(err error) error { return fmt.Errorf("%w: it waits for nobody: %w", storage.ErrUnavailable, err) }),
		given("/given-up-plainly", func(err error) error { return err }),
		given("/fails-anyway", func(error) error { return errors.New("the disk is gone") }),
		given("/panics-anyway", func(error) error { panic("the disk is gone") }),
	)})
	if resp, err := get(t, s, "/test/fails"); err == nil {
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("GET /test/fails: %d %q looks complete", resp.StatusCode, b)
		}
	}
	resp, err := get(t, s, "/test/leaves")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-left
	for _, path := range []string{"/given-up", "/given-up-plainly", "/fails-anyway", "/panics-anyway"} {
		c := dial(t, s)
		if _, err := io.WriteString(c, "GET /test"+path+" HTTP/1.1\r\nHost: roster.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-arrived
		c.Close()
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for route, want := range map[string][4]string{
		"/test/fails": {"ERROR", "aborted", "error", "the disk is gone"}, "/test/leaves": {"INFO", "aborted", "client", ""},
		"/test/given-up": {"INFO", "aborted", "client", ""}, "/test/given-up-plainly": {"INFO", "aborted", "client", ""},
		"/test/fails-anyway": {"ERROR", "500", "", "the disk is gone"}, "/test/panics-anyway": {"ERROR", "500", "", "panic: the disk is gone"},
	} {
		found := false
		for text := range strings.Lines(log.String()) {
			var line map[string]any
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
			if line["route"] != route {
				continue
			}
			found = true
			text, _ := line["error"].(string)
			text, _, _ = strings.Cut(text, "\n")
			cut, _ := line["cut_by"].(string)
			if line["level"] != want[0] || line["status"] != want[1] || cut != want[2] || text != want[3] {
				t.Errorf("%s is logged as %v", route, line)
			}
		}
		if !found {
			t.Errorf("%s is not logged", route)
		}
	}
}
