package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is a server that is measured.
type Server struct {
	URL   string        // below which the protocol's paths are: "http://127.0.0.1:8080/scim/v2"
	Ops   string        // of the operators' listener; "" if not known
	Token string        // bearer token; "" for none
	PID   int           // 0 if it is not a process of ours
	Took  time.Duration // from its start until it was ready
	Stop  func() error  // nil if it is not ours to stop
}

// Running describes a server that runs already.
func Running(address, ops, token string) (*Server, error) {
	for _, a := range []string{address, ops} {
		if u, err := url.Parse(a); err != nil || a != "" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return nil, errors.New("expected a URL like https://roster.example/scim/v2")
		}
	}
	return &Server{URL: withBasePath(address), Ops: strings.TrimSuffix(ops, "/"), Token: token}, nil
}

// Spawner starts servers. Each one it returns has a Stop, which also removes
// what the server stored.
type Spawner interface {
	// Empty starts a SCIM server with an empty store, without a token.
	Empty(ctx context.Context) (*Server, error)
	// Roster starts a SCIM server with an empty store and a token for everything.
	Roster(ctx context.Context) (*Server, error)
	// Baseline starts a baseline server; see BaselineOptions.
	Baseline(ctx context.Context, user, page []byte, rows int) (*Server, error)
}

// Processes starts servers as processes of their own, each in a temporary
// folder.
type Processes struct {
	Executable string // of roster
}

const (
	// readyTime bounds a start. A baseline first fills its store.
	readyTime = 10 * time.Minute
	// shutdownTime is how long a server gets to end by itself.
	shutdownTime = 15 * time.Second
)

// Empty implements Spawner.
func (p Processes) Empty(ctx context.Context) (*Server, error) {
	return p.start(ctx, func(string) ([]string, error) { return []string{"serve", "--log-level", "error"}, nil })
}

// Roster implements Spawner.
func (p Processes) Roster(ctx context.Context) (*Server, error) {
	store := ""
	s, err := p.start(ctx, func(dir string) ([]string, error) {
		store = storeIn(dir)
		return []string{"serve", "--log-level", "error"}, nil
	})
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, p.Executable, "client", "create", "--store", store, "--name", "bench", "--scopes", "users,groups")
	cmd.Env, cmd.Stderr = plainEnviron(), &said
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create a client: %w: %s", err, bytes.TrimSpace(said.Bytes())), s.Stop())
	}
	s.Token = strings.TrimSpace(string(out))
	return s, nil
}

// Baseline implements Spawner.
func (p Processes) Baseline(ctx context.Context, user, page []byte, rows int) (*Server, error) {
	return p.start(ctx, func(dir string) ([]string, error) {
		args := []string{"bench", "baseline", "--rows", strconv.Itoa(rows)}
		for name, content := range map[string][]byte{"user": user, "page": page} {
			path := filepath.Join(dir, name+".json")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				return nil, err
			}
			args = append(args, "--"+name, path)
		}
		return args, nil
	})
}

func storeIn(dir string) string { return filepath.Join(dir, "roster.db") }

// start runs roster with the arguments that args gives for a folder, and waits
// until it says where it listens.
func (p Processes) start(ctx context.Context, args func(dir string) ([]string, error)) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "roster-bench-")
	if err != nil {
		return nil, err
	}
	given, err := args(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	given = append(given, "--store", storeIn(dir), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
	running, end := context.WithCancel(ctx)
	cmd := exec.CommandContext(running, p.Executable, given...)
	out, said := &readyWriter{ready: make(chan [2]string, 1)}, &tail{}
	cmd.Stdout, cmd.Stderr, cmd.Env = out, said, plainEnviron()
	cmd.Cancel = func() error {
		if cmd.Process.Signal(os.Interrupt) != nil { // not every system can
			return cmd.Process.Kill()
		}
		return nil
	}
	cmd.WaitDelay = shutdownTime
	began := time.Now()
	if err := cmd.Start(); err != nil {
		end()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := sync.OnceValue(func() error {
		defer end()
		var err error
		select {
		case why := <-ended:
			if ctx.Err() == nil { // an interrupt from a terminal reaches servers, too
				err = fmt.Errorf("roster %s ended by itself: %w: %s", given[0], why, said)
			}
		default:
			end()
			<-ended //nolint:errcheck // how it ends when told to does not matter any more
		}
		return errors.Join(err, os.RemoveAll(dir))
	})
	select {
	case where := <-out.ready:
		return &Server{URL: where[0], Ops: where[1], PID: cmd.Process.Pid, Took: out.at.Sub(began), Stop: stop}, nil
	case why := <-ended:
		ended <- why // stop says it
	case <-time.After(readyTime):
		err = fmt.Errorf("roster %s was not ready in %s: %s", given[0], readyTime, said)
	case <-ctx.Done():
	}
	return nil, errors.Join(err, ctx.Err(), stop())
}

// plainEnviron is the environment without Roster's settings: a server under
// measurement runs with the defaults. It need not wait for load balancers.
func plainEnviron() []string {
	var list []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ROSTER_") {
			list = append(list, v)
		}
	}
	return append(list, "ROSTER_SHUTDOWN_DELAY=0s")
}

// readyWriter waits for the line in which a server says where it listens.
type readyWriter struct {
	ready chan [2]string
	at    time.Time
	line  []byte
	found bool
}

func (w *readyWriter) Write(b []byte) (int, error) {
	for rest := b; !w.found && len(rest) > 0; {
		line, next, whole := bytes.Cut(rest, []byte("\n"))
		w.line = append(w.line, line...)
		if !whole {
			break
		}
		if base, ops, ok := parseReady(string(w.line)); ok {
			w.found, w.at = true, time.Now()
			w.ready <- [2]string{base, ops}
		}
		w.line, rest = w.line[:0], next
	}
	return len(b), nil
}

var listening = regexp.MustCompile(`^listening (scim|baseline)=(https?://\S+)(?: ops=(https?://\S+))?`)

// parseReady reads "listening scim=http://… ops=http://…".
func parseReady(line string) (base, ops string, ok bool) {
	m := listening.FindStringSubmatch(line)
	if m == nil {
		return "", "", false
	}
	if base = strings.TrimSuffix(m[2], "/"); m[1] == "scim" {
		base = withBasePath(base)
	}
	return base, strings.TrimSuffix(m[3], "/"), true
}

// withBasePath adds the usual base path to an address without any path.
func withBasePath(address string) string {
	address = strings.TrimSuffix(address, "/")
	if _, rest, ok := strings.Cut(address, "://"); ok && !strings.Contains(rest, "/") {
		return address + "/scim/v2"
	}
	return address
}

// tail keeps the end of what a server wrote to its log, for error messages.
type tail struct {
	mu  sync.Mutex
	end []byte
}

const tailSize = 2000

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if n := len(t.end) - tailSize; n > 0 {
		t.end = append(t.end[:0], t.end[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}

// counts is what a server's metrics say it allocated so far.
type counts struct {
	allocs, bytes float64
	// scrape is what asking costs the server, since that counts, too.
	scrape usage
}

// usage is what a server allocated between two moments.
type usage struct{ allocs, bytes float64 }

const (
	metricAllocs = "go_memstats_mallocs_total"
	metricBytes  = "go_memstats_alloc_bytes_total"
	metricRSS    = "process_resident_memory_bytes"
)

// counts asks a few times, so that the least difference is the cost of asking:
// the first time may open a connection. It is nil when the server does not tell.
func (s *Server) counts(ctx context.Context) (*counts, error) {
	if s.Ops == "" {
		return nil, nil
	}
	var c *counts
	for range 3 {
		m, err := s.metrics(ctx)
		if err != nil {
			return nil, err
		}
		allocs, ok := m[metricAllocs]
		octets, ok2 := m[metricBytes]
		if !ok || !ok2 {
			return nil, nil
		}
		next := &counts{allocs, octets, usage{math.Inf(1), math.Inf(1)}}
		if c != nil {
			next.scrape = usage{min(c.scrape.allocs, allocs-c.allocs), min(c.scrape.bytes, octets-c.bytes)}
		}
		c = next
	}
	return c, nil
}

// since returns what the server allocated since before, apart from what the
// asking did.
func (s *Server) since(ctx context.Context, before *counts) (*usage, error) {
	if before == nil {
		return nil, nil
	}
	now, err := s.metrics(ctx)
	if err != nil {
		return nil, err
	}
	return &usage{
		max(0, now[metricAllocs]-before.allocs-before.scrape.allocs),
		max(0, now[metricBytes]-before.bytes-before.scrape.bytes),
	}, nil
}

// metrics reads those of a server's metrics that matter here and have no
// labels.
func (s *Server) metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Ops+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", req.URL, resp.Status)
	}
	return parseMetrics(resp.Body)
}

func parseMetrics(r io.Reader) (map[string]float64, error) {
	found := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case metricAllocs, metricBytes, metricRSS:
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("metric %s: %w", name, err)
			}
			found[name] = v
		}
	}
	return found, lines.Err()
}

// resident returns the memory a server holds, or 0 if nobody can tell.
func (s *Server) resident(ctx context.Context) (int64, error) {
	if s.PID > 0 {
		// Linux says it without bothering the server.
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID)); err == nil {
			return parseVMRSS(status), nil
		}
	}
	if s.Ops == "" {
		return 0, nil
	}
	m, err := s.metrics(ctx)
	return int64(m[metricRSS]), err
}

var vmRSS = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

func parseVMRSS(status []byte) int64 {
	m := vmRSS.FindSubmatch(status)
	if m == nil {
		return 0
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}
