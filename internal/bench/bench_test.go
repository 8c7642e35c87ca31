package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// inProcess starts servers made of the same parts as the real ones, but inside
// the test.
type inProcess struct {
	t       *testing.T
	running atomic.Int64
}

func (p *inProcess) Empty(ctx context.Context) (*Server, error) { return p.Roster(ctx) }

func (p *inProcess) Roster(ctx context.Context) (*Server, error) {
	began := time.Now()
	store, err := sqlite.Open(ctx, filepath.Join(p.t.TempDir(), "roster.db"), sqlite.Options{})
	if err != nil {
		return nil, err
	}
	secret, token, err := auth.NewToken(rand.Reader, "bench", time.Now(), time.Hour)
	if err != nil {
		return nil, err
	}
	err = store.Write(ctx, storage.DefaultTenant, func(tx storage.Tx) error {
		if err := tx.CreateClient(&storage.Client{ID: "bench", Name: "bench", Scopes: []string{"users", "groups"}, Created: time.Now()}); err != nil {
			return err
		}
		if err := tx.CreateToken(token); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "client.create", Type: "Client", ID: "bench"})
	})
	if err != nil {
		return nil, err
	}
	set, err := schemas.Load()
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	provider := &scim.Provider{Store: store, Schemas: set, Hasher: auth.NewHasher(), Now: time.Now}
	var srv *server.Server
	handler := scim.NewHandler(provider, func(r *http.Request) string { return srv.BaseURL(r) + "/scim/v2" })
	srv, err = server.New(server.Options{
		Mounts:   []server.Mount{{Prefix: "/scim/v2", Routes: handler.Routes()}},
		Verifier: auth.NewVerifier(store, time.Now), Log: slog.New(slog.DiscardHandler), Registry: registry,
		Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
	})
	if err != nil {
		return nil, err
	}
	stop := p.run(func(ctx context.Context) error { return errors.Join(srv.Run(ctx, ctx), store.Close()) })
	return &Server{
		URL: withBasePath("http://" + srv.Addr().String()), Ops: "http://" + srv.OpsAddr().String(), Token: secret.Reveal(),
		Took: time.Since(began), Stop: stop,
	}, nil
}

func (p *inProcess) Baseline(ctx context.Context, user, page []byte, rows int) (*Server, error) {
	s := &Server{}
	ready, ended := make(chan struct{}), make(chan error, 1)
	s.Stop = p.run(func(ctx context.Context) error {
		err := ServeBaseline(ctx, BaselineOptions{
			Store: filepath.Join(p.t.TempDir(), "baseline.db"), Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
			User: user, Page: page, Rows: rows, Log: slog.New(slog.DiscardHandler),
		}, func(base, ops string) {
			s.URL, s.Ops = base, ops
			close(ready)
		})
		ended <- err
		return err
	})
	select {
	case <-ready:
		return s, nil
	case err := <-ended:
		return nil, errors.Join(err, s.Stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.Stop())
	}
}

// run runs a server until the function it returns is called.
func (p *inProcess) run(serve func(context.Context) error) (stop func() error) {
	p.running.Add(1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	return func() error {
		cancel()
		p.running.Add(-1)
		return <-done
	}
}

// tiny is a run that shows everything and takes seconds.
func tiny() Config {
	return Config{Users: 200, Small: 50, Connections: 4, Duration: 50 * time.Millisecond, Rounds: 2, Seed: 7, Version: "v0"}
}

func TestRun(t *testing.T) {
	p := &inProcess{t: t}
	var progress bytes.Buffer
	cfg := tiny()
	cfg.Progress = &progress
	rep, err := Run(t.Context(), cfg, p)
	if err != nil {
		t.Fatalf("Run: %v\n%s", err, &progress)
	}
	if n := p.running.Load(); n != 0 {
		t.Errorf("%d servers are still running", n)
	}

	var titles []string
	for _, row := range rep.Rows {
		titles = append(titles, row.title())
		if row.Requests == 0 || row.PerSecond <= 0 || len(row.Rounds) != cfg.Rounds || row.P50 <= 0 || row.P50 > row.P95 || row.P95 > row.P99 {
			t.Errorf("%s: the figures cannot be: %+v", row.title(), row)
		}
		// The servers share the test's heap and do little, so the figure need not
		// be right, but there is one.
		if row.Allocs == nil || row.AllocBytes == nil {
			t.Errorf("%s: no allocations were counted", row.title())
		}
	}
	want := []string{
		"baseline: a fixed user", "baseline: one row read",
		"get by id, 200 users", "get by id, 50 users", "filter by userName, 200 users", "filter by userName, 50 users",
		"baseline: a ready-made page", "page of 100, 200 users", "page of 100, 50 users", "page of 100 at 90 %, 200 users",
		"baseline: one row written", "create, 200 users", "create, 50 users", "patch a scalar, 200 users", "patch a scalar, 50 users",
		"add a member, group of 0", "remove a member, group of 0",
		"add a member, group of 200 (instead of 1,000)", "remove a member, group of 200 (instead of 1,000)",
	}
	if d := cmp.Diff(want, titles); d != "" {
		t.Errorf("rows (-want +got):\n%s", d)
	}
	var targets []string
	for _, target := range rep.Targets {
		targets = append(targets, target.Name)
		if target.Value == nil {
			t.Errorf("target %s has no value", target.Name)
		}
	}
	want = []string{
		"get-share", "filter-share", "create-share", "page-share",
		"get-population", "filter-population", "create-population", "page-population", "patch-population", "page-far",
		"member-add-0", "member-remove-0", "start", "memory-idle", "memory-loaded", "memory-listing",
	}
	if d := cmp.Diff(want, targets); d != "" {
		t.Errorf("targets (-want +got):\n%s", d)
	}
	if s := rep.Settings; s.UserBytes < 800 || s.UserBytes > 1500 || s.PageBytes < 100*800 {
		t.Errorf("a user has %d bytes and a page %d, expected about 1 KB and a hundred times that", s.UserBytes, s.PageBytes)
	}
	checkShape(t, rep)
	checkTable(t, rep)
}

// checkShape holds the names in the JSON against a list: others read them.
func checkShape(t *testing.T, rep *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := rep.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(b.Bytes(), &top); err != nil {
		t.Fatalf("the JSON is none: %v\n%s", err, &b)
	}
	rows, targets, loads := top["rows"].([]any), top["targets"].([]any), top["loads"].([]any)
	for _, c := range []struct {
		of   string
		got  any
		want string
	}{
		{"report", top, "format loads machine memory notes pass rows settings start started targets version"},
		{"machine", top["machine"], "arch cores go os"},
		{"settings", top["settings"], "connections page_bytes rounds seconds seed user_bytes users"},
		{"load", loads[0], "connections seconds users users_per_second"},
		{
			"row", rows[0], "alloc_bytes_per_request allocs_per_request connections label name ops_per_second p50_us p95_us p99_us" +
				" population ratios requests rounds_ops_per_second",
		},
		{
			"group row", rows[len(rows)-1], "alloc_bytes_per_request allocs_per_request connections group_size label name ops_per_second" +
				" p50_us p95_us p99_us population ratios requests result rounds_ops_per_second",
		},
		{"ratio", rows[2].(map[string]any)["ratios"].([]any)[0], "to value"},
		{"target", targets[0], "limit name relation result text value"},
		{"target with a unit", targets[len(targets)-1], "limit name relation result text unit value"},
		{"start", top["start"], "median_ms samples_ms"},
		{
			"memory", top["memory"], "first_walk_growth_bytes idle_bytes load_peak_bytes loaded_bytes own_server walk_growth_bytes" +
				" walk_peak_bytes",
		},
	} {
		var keys []string
		for k := range c.got.(map[string]any) {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if d := cmp.Diff(strings.Fields(c.want), keys); d != "" {
			t.Errorf("names in a %s (-want +got):\n%s", c.of, d)
		}
	}
}

func checkTable(t *testing.T, rep *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := rep.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		fmt.Sprintf("%d cores", rep.Machine.Cores), rep.Machine.Go, "4 connections", "200 users", "2 × 0.05s per row",
		"loaded 200 users in", "allocs/op", "start with an empty store:", "resident memory:",
	} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("the table does not say %q:\n%s", part, &b)
		}
	}
	for _, row := range rep.Rows {
		if !strings.Contains(b.String(), row.Label) {
			t.Errorf("the table has no row %q:\n%s", row.Label, &b)
		}
	}
	for _, target := range rep.Targets {
		if !strings.Contains(b.String(), target.Text) {
			t.Errorf("the table has no target %q:\n%s", target.Text, &b)
		}
	}
}

// A server that is not ours is left as it was found.
func TestRunOnRunningServer(t *testing.T) {
	p := &inProcess{t: t}
	s, err := p.Roster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	for _, keep := range []bool{false, true} {
		cfg := tiny()
		cfg.Rounds, cfg.Keep = 1, keep
		cfg.Server = &Server{URL: s.URL, Ops: s.Ops, Token: s.Token}
		cfg.Only = []string{Create, MemberAdd}
		rep, err := Run(t.Context(), cfg, p)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, row := range rep.Rows {
			names = append(names, row.Name)
		}
		want := []string{BaselineWrite, Create, MemberAdd, MemberRemove, MemberAdd, MemberRemove}
		if d := cmp.Diff(want, names); d != "" {
			t.Errorf("rows (-want +got):\n%s", d)
		}
		if n := p.running.Load(); n != 1 {
			t.Errorf("%d servers are running, expected the one there was", n)
		}
		users, groups := 0, 0
		if keep {
			users, groups = cfg.Users+cfg.Connections*joiners, 2
		}
		if got := total(t, s, "/Users"); got != users {
			t.Errorf("keep %t: %d users were left, expected %d", keep, got, users)
		}
		if got := total(t, s, "/Groups"); got != groups {
			t.Errorf("keep %t: %d groups were left, expected %d", keep, got, groups)
		}
	}
}

// total asks how many resources there are.
func total(t *testing.T, s *Server, endpoint string) int {
	t.Helper()
	c, err := dial(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.path = []byte(endpoint + "?count=0")
	err = c.do("GET", nil)
	if err == nil {
		err = c.expect(200)
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.number("totalResults")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRunStart(t *testing.T) {
	cfg := tiny()
	cfg.Only = []string{Start}
	rep, err := Run(t.Context(), cfg, &inProcess{t: t})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Start == nil || len(rep.Start.Samples) != cfg.Rounds+2 || len(rep.Rows) != 0 || len(rep.Loads) != 0 || len(rep.Targets) != 1 {
		t.Errorf("Run(only start) = %+v", rep)
	}
}

func TestRunEndsEarly(t *testing.T) {
	p := &inProcess{t: t}
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg := tiny()
	cfg.Only = []string{Get}
	// The first round of the first row is the signal: everything runs by then.
	cfg.Progress = writerFunc(func(b []byte) (int, error) {
		if bytes.Contains(b, []byte("round 1")) {
			cancel(errors.New("enough"))
		}
		return len(b), nil
	})
	_, err := Run(ctx, cfg, p)
	if err == nil || err.Error() != "stopped early: enough" {
		t.Errorf("Run = %v, want stopped early: enough", err)
	}
	if n := p.running.Load(); n != 0 {
		t.Errorf("%d servers are still running", n)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// A server that is fast with the wrong user fails the run.
func TestRunWrongAnswer(t *testing.T) {
	const wrong = `{"id":"00000000-0000-7000-8000-000000000000"}`
	made := atomic.Int64{}
	for _, c := range []struct {
		name string
		get  string // answer to GET
		post string // Location in the answer to POST
		want string
	}{
		{"another user", wrong, "/Users/u%d", "expected u"},
		{"no location", wrong, "", "expected a Location"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodPost:
					body, _ := io.ReadAll(r.Body)
					if c.post != "" {
						w.Header().Set("Location", fmt.Sprintf(c.post, made.Add(1)))
					}
					w.WriteHeader(201)
					_, _ = w.Write(body)
				case http.MethodDelete:
					w.WriteHeader(204)
				default:
					_, _ = io.WriteString(w, c.get)
				}
			}))
			defer srv.Close()
			cfg := tiny()
			cfg.Server = &Server{URL: srv.URL}
			cfg.Only = []string{Get}
			_, err := Run(t.Context(), cfg, &inProcess{t: t})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run = %v, want an error with %q", err, c.want)
			}
		})
	}
}

// What was not made is not deleted afterwards.
func TestCreateFails(t *testing.T) {
	s := serveRaw(t, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", false)
	c, err := dial(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &worker{conn: c}
	w.reset()
	r := &run{cfg: tiny(), wanted: map[string]bool{Create: true}, report: newReport(tiny())}
	if err := r.creates(&population{on: s}).step(w); err == nil || len(w.made) != 0 {
		t.Errorf("step = %v, and %q were made; want an error and nothing", err, w.made)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"as it should be", func(*Config) {}, ""},
		{"no users", func(c *Config) { c.Users = 0 }, "users: expected at least 1"},
		{"no rounds, no connections", func(c *Config) { c.Rounds, c.Connections = 0, -1 }, "connections: expected at least 1\nrounds: expected at least 1"},
		{"no time", func(c *Config) { c.Duration = 0 }, "duration: expected more than 0"},
		{"unknown row", func(c *Config) { c.Only = []string{Get, "put"} }, `only: there is no row "put"; there are ` + strings.Join(Names(), ", ")},
		{
			"start of a running server", func(c *Config) { c.Only, c.Server = []string{Start}, &Server{} },
			"only: the start of a server that runs already cannot be measured",
		},
	} {
		cfg := tiny()
		c.change(&cfg)
		got := ""
		if err := cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: Validate() = %q, want %q", c.name, got, c.want)
		}
	}
}

// What a row is compared with is measured along with it.
func TestWant(t *testing.T) {
	for _, c := range []struct {
		only string
		want []string
	}{
		{BaselineFixed, []string{BaselineFixed}},
		{Filter, []string{BaselineRead, Filter, Get}},
		{PageFar, []string{BaselinePage, Page, PageFar}},
		{MemberAdd, []string{MemberAdd, MemberRemove}},
	} {
		r := &run{wanted: map[string]bool{}}
		r.want([]string{c.only})
		var got []string
		for name := range r.wanted {
			got = append(got, name)
		}
		slices.Sort(got)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("want(%s) (-want +got):\n%s", c.only, d)
		}
	}
}

func TestRemote(t *testing.T) {
	for _, c := range []struct {
		url  string
		want bool
	}{
		{"http://127.0.0.1:8080/scim/v2", false}, {"http://localhost:8080", false}, {"http://[::1]:80", false},
		{"https://roster.example/scim/v2", true}, {"http://192.0.2.7", true},
	} {
		if _, got := remote(c.url); got != c.want {
			t.Errorf("remote(%s) = %t, want %t", c.url, got, c.want)
		}
	}
}

// A server that cannot be started leaves nothing behind.
func TestProcessesFail(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	p := Processes{Executable: filepath.Join(dir, "nothing")}
	if _, err := p.Empty(t.Context()); err == nil {
		t.Error("Empty: expected an error")
	}
	if _, err := p.Baseline(t.Context(), nil, nil, 0); err == nil {
		t.Error("Baseline: expected an error")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
