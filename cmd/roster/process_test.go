package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/roster-id/roster/auth"
)

// TestMain lets the test binary stand in for roster: run under that name, which
// it has in the PATH of scripts and tests, it is the command itself.
func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"roster": main})
}

// suite is all tests of the package.
type suite struct{ *testing.M }

// Run runs them. Most of those that run in parallel wait, for processes and outages.
func (s suite) Run() int {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))) // it is a number
	}
	defer func() {
		if shippedIn != "" {
			_ = os.RemoveAll(shippedIn) // a folder for temporary files
		}
	}()
	return s.M.Run()
}

// shippedIn is the folder of what shipped builds, once it has been built.
var shippedIn string

// shipped returns the command as it is shipped, which is not a test binary, and has no
// race detector: for tests that look for losses, and where the detector has seen the same
// elsewhere.
func shipped(t testing.TB) string {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "roster-shipped")
	if err != nil {
		return "", err
	}
	shippedIn = dir
	bin := filepath.Join(dir, "roster")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// patience bounds every wait for something that should happen soon. Nothing is
// measured by it: it only ends tests that would hang.
const patience = 2 * time.Minute

// eventually waits until fn returns no error.
func eventually(fn func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err := fn()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// cleanEnv is the environment without any setting of Roster.
func cleanEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "ROSTER_") })
	return append(env, quickExit)
}

// quickExit spares commands built with the race detector the second that they
// would wait before they end.
const quickExit = "GORACE=atexit_sleep_ms=0"

// roster runs a command to its end and returns what it printed on standard
// output. It must succeed.
func roster(t testing.TB, args ...string) string {
	t.Helper()
	var out, say bytes.Buffer
	cmd := exec.Command("roster", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = cleanEnv(), &out, &say
	if err := cmd.Run(); err != nil {
		t.Fatalf("roster %s: %v\n%s", strings.Join(args, " "), err, &say)
	}
	return out.String()
}

var oneToken = regexp.MustCompile(`\A` + auth.TokenPattern + `\n\z`)

// rosterToken is roster for commands that print a token and nothing else.
func rosterToken(t testing.TB, args ...string) string {
	t.Helper()
	out := roster(t, args...)
	if !oneToken.MatchString(out) {
		t.Fatalf("roster %s printed %q; want one line with a token", strings.Join(args, " "), out)
	}
	return strings.TrimSpace(out)
}

// process is `roster serve` in a process of its own, on ports that the system
// chose.
type process struct {
	scim, ops      string // "http://127.0.0.1:40001/scim/v2", "http://127.0.0.1:40002"
	stdout, stderr string // files with what it printed
	ready          time.Duration
	cmd            *exec.Cmd
	client         *http.Client
	ended          chan struct{}
}

// launch describes a server to be started.
type launch struct {
	bin  string // "roster" if empty
	dir  string // the working directory, where server.out and server.err go
	env  []string
	args []string
}

// begin starts the process without waiting for it to serve.
func (l launch) begin() (*process, error) {
	s := &process{
		stdout: filepath.Join(l.dir, "server.out"), stderr: filepath.Join(l.dir, "server.err"),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, ExpectContinueTimeout: patience}, Timeout: patience},
		ended:  make(chan struct{}),
	}
	out, err := os.Create(s.stdout)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	say, err := os.Create(s.stderr)
	if err != nil {
		return nil, err
	}
	defer say.Close()
	bin := l.bin
	if bin == "" {
		bin = "roster"
	}
	args := append([]string{"serve"}, l.args...)
	for _, flag := range []string{"--listen", "--ops-listen"} {
		if !slices.ContainsFunc(l.args, func(s string) bool { return s == flag || strings.HasPrefix(s, flag+"=") }) {
			args = append(args, flag+"=127.0.0.1:0")
		}
	}
	// The files are the process's own, so that whatever it has printed before
	// it answers can be read at once.
	s.cmd = exec.Command(bin, args...)
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = l.dir, l.env, out, say
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // ProcessState says how it ended
	}()
	return s, nil
}

var listening = regexp.MustCompile(`(?m)^listening scim=(https?://\S+) ops=(http://\S+)$`)

// start starts the process and waits until it is ready.
func (l launch) start() (*process, error) {
	begun := time.Now()
	s, err := l.begin()
	if err != nil {
		return nil, err
	}
	err = eventually(func() error {
		// What it printed is read after seeing that it ended, not before.
		over := s.over()
		m := listening.FindStringSubmatch(s.printed(s.stdout))
		switch {
		case m != nil:
			s.scim, s.ops = m[1]+basePath, m[2]
			return nil
		case over:
			return nil
		}
		return errors.New("the server does not say where it listens")
	})
	if err == nil && s.scim == "" {
		err = fmt.Errorf("the server ended: %s\n%s", s.cmd.ProcessState, s.printed(s.stderr))
	}
	if err == nil {
		err = eventually(func() error { return s.expect(http.StatusOK, "GET", s.ops+"/readyz", "", "") })
	}
	s.ready = time.Since(begun)
	if err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// serveStore starts a server on a store; the test ends it.
func serveStore(t testing.TB, store string, args ...string) *process {
	t.Helper()
	return serveStoreWith(t, "roster", store, args...)
}

// serveStoreWith is serveStore of a given program.
func serveStoreWith(t testing.TB, bin, store string, args ...string) *process {
	t.Helper()
	s, err := launch{bin: bin, dir: t.TempDir(), env: cleanEnv(), args: append([]string{"--store", store}, args...)}.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.printed(s.stderr))
		}
	})
	return s
}

func (s *process) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *process) printed(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// signal sends a signal to a server that is running.
func (s *process) signal(sig os.Signal) error {
	if s.over() {
		return fmt.Errorf("the server has ended before: %s", s.cmd.ProcessState)
	}
	return s.cmd.Process.Signal(sig)
}

// wait waits for the end and reports one that is not exit code 0.
func (s *process) wait() error {
	select {
	case <-s.ended:
	case <-time.After(patience):
		return errors.New("the server does not end")
	}
	s.client.CloseIdleConnections()
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("the server ended with %s\n%s", s.cmd.ProcessState, s.printed(s.stderr))
	}
	return nil
}

// end sends a signal and waits for what should come of it: exit code 0, or
// sudden death for SIGKILL.
func (s *process) end(sig syscall.Signal) error {
	if err := s.signal(sig); err != nil {
		return err
	}
	err := s.wait()
	if sig != syscall.SIGKILL {
		return err
	}
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != sig {
		return fmt.Errorf("killed, the server ended with %s", s.cmd.ProcessState)
	}
	return nil
}

// kill ends the server whatever state it is in.
func (s *process) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
	s.client.CloseIdleConnections()
}

// do sends a request and reads the whole answer. A path is one below the
// protocol's base; header is names and values in turn.
func (s *process) do(method, url, token, body string, header ...string) (*http.Response, string, error) {
	if strings.HasPrefix(url, "/") {
		url = s.scim + url
	}
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/scim+json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

// expect sends a request and reports an answer with another status.
func (s *process) expect(status int, method, url, token, body string, header ...string) error {
	res, got, err := s.do(method, url, token, body, header...)
	if err != nil {
		return err
	}
	if res.StatusCode != status {
		return fmt.Errorf("%s %s answered %s; want %d\n%s", method, res.Request.URL.Path, res.Status, status, got)
	}
	return nil
}
