package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage/sqlite"
)

// TestRevokedTokenDiesWithinASecond runs the commands beside a server that has
// just let the tokens in, so that it has every reason to remember them.
func TestRevokedTokenDiesWithinASecond(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "roster.db")
	s := serveStore(t, store)

	for _, test := range []struct {
		name string
		end  []string      // the command that ends the old token
		rest time.Duration // the old token's from then on
		next int           // what the token that the command makes is answered
	}{
		{"revoke", []string{"revoke"}, 0, 0},
		{"rotate without overlap", []string{"rotate", "--overlap", "0s"}, 0, http.StatusOK},
		{"rotate with overlap", []string{"rotate", "--overlap", "1s"}, time.Second, http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := strings.ReplaceAll(test.name, " ", "-")
			old := rosterToken(t, "client", "create", "--store", store, "--name", name, "--scopes", "users")
			if err := s.expect(http.StatusOK, "GET", "/Users", old, ""); err != nil {
				t.Fatal(err)
			}

			args := append([]string{"client"}, test.end...)
			args = append(args, "--store", store, name)
			next := ""
			if test.next != 0 {
				next = rosterToken(t, args...)
			} else {
				roster(t, args...)
			}
			returned := time.Now()

			if test.next != 0 {
				if err := s.expect(test.next, "GET", "/Users", next, ""); err != nil {
					t.Error(err)
				}
			}
			// Asking all the time keeps the token in the server's memory.
			bound := returned.Add(test.rest + time.Second)
			died := time.Time{}
			for time.Now().Before(bound) {
				res, _, err := s.do("GET", "/Users", old, "")
				switch {
				case err != nil:
					t.Fatal(err)
				case res.StatusCode == http.StatusUnauthorized && died.IsZero():
					died = time.Now()
				case res.StatusCode == http.StatusOK && !died.IsZero():
					t.Fatal("the token came back to life")
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := s.expect(http.StatusUnauthorized, "GET", "/Users", old, ""); err != nil {
				t.Errorf("a second after the end of the token: %v", err)
			}
			if !died.IsZero() {
				t.Logf("refused %v after the command", died.Sub(returned).Round(time.Millisecond))
			}
			if next != "" {
				if err := s.expect(test.next, "GET", "/Users", next, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// serveWithRequest starts a server that would wait an hour before it ends, with a request
// under way that makes ana@example.com.
func serveWithRequest(t *testing.T) (s *process, store, token string, request *halfRequest) {
	t.Helper()
	store = filepath.Join(t.TempDir(), "roster.db")
	token = rosterToken(t, "client", "create", "--store", store, "--name", "okta", "--scopes", "users")
	s = serveStore(t, store, "--shutdown-delay", "1h")
	return s, store, token, beginRequest(t, s, token, fmt.Sprintf(`{"schemas":[%q],"userName":"ana@example.com"}`, schemas.UserURI))
}

// wantOrderlyEnd checks that the request is answered, and then the server ends.
func wantOrderlyEnd(t *testing.T, s *process, request *halfRequest) {
	t.Helper()
	if res, err := request.finish(); err != nil || res.StatusCode != http.StatusCreated {
		t.Errorf("the request under way ended with %v, %v; want 201", res, err)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// TestShutdown: on SIGTERM the server says at once that it is not ready, but
// goes on serving until load balancers have noticed, and a request that is
// under way is finished before the process ends.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s, store, token, request := serveWithRequest(t)
	if err := s.signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := eventually(func() error { return s.expect(http.StatusServiceUnavailable, "GET", s.ops+"/readyz", "", "") })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.expect(http.StatusOK, "GET", s.ops+"/healthz", "", ""); err != nil {
		t.Errorf("shutting down is no reason to be restarted: %v", err)
	}
	if err := s.expect(http.StatusOK, "GET", "/Users", token, ""); err != nil {
		t.Errorf("a request of somebody who has not noticed yet: %v", err)
	}

	// A second signal cuts the waiting short, not the request.
	if err := s.signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.client.CloseIdleConnections()
	err = eventually(func() error {
		c, err := net.Dial("tcp", hostOf(s.scim))
		if err == nil {
			return errors.Join(errors.New("the server still accepts connections"), c.Close())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.over() {
		t.Fatalf("the server ended with a request under way: %s", s.cmd.ProcessState)
	}
	wantOrderlyEnd(t, s, request)
	if fi, err := os.Stat(store + "-wal"); err == nil && fi.Size() > 0 {
		t.Errorf("the write-ahead log was left with %d bytes", fi.Size())
	}

	s = serveStore(t, store)
	if _, got, err := s.do("GET", "/Users", token, ""); err != nil || !strings.Contains(got, "ana@example.com") {
		t.Errorf("after the restart the directory is %s, %v", got, err)
	}
}

// TestInterrupt: nobody at a terminal wants to wait for load balancers.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	s, _, _, request := serveWithRequest(t)
	if err := s.signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	wantOrderlyEnd(t, s, request)
}

// TestHangup: SIGHUP ends the server like SIGTERM, with a request under way, unless
// it was started with the signal ignored, as by nohup.
func TestHangup(t *testing.T) {
	t.Parallel()
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("the tests ignore the signal themselves, and so do their servers")
	}
	s, store, _, request := serveWithRequest(t)
	if err := s.signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	err := eventually(func() error { return s.expect(http.StatusServiceUnavailable, "GET", s.ops+"/readyz", "", "") })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.signal(syscall.SIGTERM); err != nil { // in place of an hour
		t.Fatal(err)
	}
	wantOrderlyEnd(t, s, request)

	nohup, err := exec.LookPath("nohup")
	if err != nil {
		t.Skip("there is no nohup")
	}
	roster, err := exec.LookPath("roster")
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(filepath.Dir(store), "ignoring")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %s %s \"$@\"\n", nohup, roster), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err = launch{bin: script, dir: filepath.Dir(store), env: cleanEnv(), args: []string{"--store", store, "--shutdown-delay", "1h"}}.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	if err := s.signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // longer than a signal takes to arrive
	if err := s.expect(http.StatusOK, "GET", s.ops+"/readyz", "", ""); err != nil {
		t.Errorf("after a SIGHUP that it was told to ignore: %v", err)
	}
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}
}

// TestHurriedEnds: who does not want to know of signals any more leaves nobody who waits
// for them.
func TestHurriedEnds(t *testing.T) {
	hurry, stop := hurried(context.WithoutCancel(t.Context()))
	stop()
	if hurry.Err() == nil {
		t.Error("there is reason to wait")
	}
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(patience); strings.Contains(string(buf[:runtime.Stack(buf, true)]), ".hurried.func"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("somebody waits still")
		}
	}
}

// TestLogWithoutReader: what the log is piped to may end, or be started anew. The server
// goes on without it.
func TestLogWithoutReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, script, store := filepath.Join(dir, "log"), filepath.Join(dir, "piped"), filepath.Join(dir, "roster.db")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec roster \"$@\" 2>%s\n", pipe), 0o700); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0) // or it would wait for the server
	if err != nil {
		t.Fatal(err)
	}
	token := rosterToken(t, "client", "create", "--store", store, "--name", "okta", "--scopes", "users")
	s := serveStoreWith(t, script, store, "--shutdown-delay", "0s")
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first one's line is the first that nobody reads
		if err := s.expect(http.StatusOK, "GET", "/Users", token, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// TestNobodyToTell: what is printed at the start is for people who watch. A server that
// cannot print it serves all the same.
func TestNobodyToTell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "untold")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec roster \"$@\" >/dev/full\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := launch{bin: script, dir: dir, env: cleanEnv(), args: []string{"--store", "roster.db", "--shutdown-delay", "0s"}}.begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	if err := eventually(func() error {
		if !s.over() && !strings.Contains(s.printed(s.stderr), "standard output cannot be written") {
			return errors.New("the log does not say that nobody could be told")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, s.printed(s.stderr))
	}
}

// TestEndedWhileItGreets: a server that is told to end before it has said everything ends
// in order.
func TestEndedWhileItGreets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, demo := range []string{"--demo=false", "--demo"} {
		for range 3 { // what is asked of the store then does not fail each time
			ctx, cancel := context.WithCancel(t.Context())
			cmd := newServeCommand()
			cmd.SetOut(onWrite(cancel))
			cmd.SetErr(io.Discard)
			cmd.SetArgs([]string{"--store", filepath.Join(dir, "roster.db"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--shutdown-delay", "0s", demo})
			if err := cmd.ExecuteContext(ctx); err != nil {
				t.Errorf("%s: %v", demo, err)
			}
			cancel()
		}
	}
}

// onWrite is a writer that tells when it is written to.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// TestSecondSignal: a command that waits for a pipe does not see the first signal, and
// ends at the second.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "roster.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := launch{dir: dir, env: cleanEnv(), args: []string{"--store", "roster.db", "--config", pipe}}.begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	var silent *os.File
	if err := eventually(func() (err error) {
		silent, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // succeeds once somebody reads
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := eventually(func() error {
		if s.over() {
			return nil
		}
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may end at this moment
		return errors.New("the command does not end")
	}); err != nil {
		t.Error(err)
	}
}

// TestFilesRunOut: a server that may open no more files, and so accepts no connection,
// says so in its log, and serves again when clients have left.
func TestFilesRunOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "limited")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nulimit -n 100\nexec roster \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := serveStoreWith(t, script, filepath.Join(dir, "roster.db"), "--shutdown-delay", "0s")
	var open []net.Conn
	for range 150 {
		c, err := net.Dial("tcp", hostOf(s.scim))
		if err != nil {
			break // so many wait to be accepted
		}
		open = append(open, c)
	}
	if err := eventually(func() error {
		if !strings.Contains(s.printed(s.stderr), "too many open files") {
			return fmt.Errorf("the log of a server with %d connections does not say that it accepts no more", len(open))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, c := range open {
		c.Close()
	}
	if err := eventually(func() error { return s.expect(http.StatusUnauthorized, "GET", "/Users", "nobody's", "") }); err != nil {
		t.Error(err)
	}
}

// TestSignalAtStart: a server that is told to stop while it is still starting
// must not overhear it, whatever it is doing at the moment.
func TestSignalAtStart(t *testing.T) {
	t.Parallel()
	s := serveStore(t, filepath.Join(t.TempDir(), "roster.db"))
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	for i := range 8 {
		dir := t.TempDir()
		p, err := launch{dir: dir, env: cleanEnv(), args: []string{"--store", "roster.db", "--shutdown-delay", "0s"}}.begin()
		if err != nil {
			t.Fatal(err)
		}
		// Every other time the moment is when it says that it listens.
		for wait := time.Now().Add(rand.N(s.ready)); i%2 == 0 || time.Now().Before(wait); time.Sleep(100 * time.Microsecond) {
			if p.over() || listening.MatchString(p.printed(p.stdout)) {
				break
			}
		}
		if err := p.signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		select {
		case <-p.ended:
		case <-time.After(patience):
			t.Errorf("the server goes on; it has printed %q, %q", p.printed(p.stdout), p.printed(p.stderr))
		}
		p.kill()
	}
}

// TestServeAfterCommand: a command that has the store in hand when the server
// starts is waited for, and one that keeps it is not.
func TestServeAfterCommand(t *testing.T) {
	t.Parallel()
	p := place{kind: embedded, location: filepath.Join(t.TempDir(), "roster.db")}
	for wait, want := range map[time.Duration]error{commandTime / 2: nil, 2 * commandTime: sqlite.ErrInUse} {
		synctest.Test(t, func(t *testing.T) {
			command, err := openBeside(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			closed := make(chan error)
			go func() {
				time.Sleep(wait)
				closed <- command.Close()
			}()
			server, err := openStore(t.Context(), p, slog.New(slog.DiscardHandler), nil, nil)
			if !errors.Is(err, want) {
				t.Errorf("the store is in use for %s: %v, want %v", wait, err, want)
			}
			if err == nil {
				defer server.Close()
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
}

// halfRequest is a POST of a user whose body is not complete, so that the
// server is in the middle of it.
type halfRequest struct {
	conn net.Conn
	in   *bufio.Reader
	rest string
}

// beginRequest sends the first half and returns when the server reads the body.
func beginRequest(t *testing.T, s *process, token, body string) *halfRequest {
	t.Helper()
	conn, err := net.Dial("tcp", hostOf(s.scim))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	h := &halfRequest{conn: conn, in: bufio.NewReader(conn), rest: body[len(body)/2:]}
	fmt.Fprintf(conn, "POST %s/Users HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/scim+json\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", basePath, hostOf(s.scim), token, len(body))
	// The server asks for the body when the handler wants it.
	if line, err := h.in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the server answered %q, %v; want it to ask for the body", line, err)
	}
	if _, err := h.in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *halfRequest) finish() (*http.Response, error) {
	if _, err := io.WriteString(h.conn, h.rest); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(h.in, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res, err
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // it was taken from the server's own line
	}
	return u.Host
}

// TestTLS serves with a certificate, on an address where that is required.
func TestTLS(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "roster.db")
	token := rosterToken(t, "client", "create", "--store", store, "--name", "okta", "--scopes", "users")
	s := serveTLS(t, store, "--listen", "0.0.0.0:0")
	s.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	res, got, err := s.do("GET", "/Users", token, "")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("over TLS the answer is %v, %s, %v", res, got, err)
	}
	if res.ProtoMajor != 2 {
		t.Errorf("the protocol is %s; want HTTP/2", res.Proto)
	}
	plain := strings.Replace(s.scim, "https:", "http:", 1) + "/Users"
	if err := s.expect(http.StatusBadRequest, "GET", plain, token, ""); err != nil {
		t.Errorf("without TLS: %v", err)
	}
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}
}

// serveTLS is serveStore with a certificate that the server's client trusts.
func serveTLS(t *testing.T, store string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := x509.NewCertPool()
	roots.AddCert(writeCertificate(t, cert, key))
	s := serveStore(t, store, append(args, "--tls-cert", cert, "--tls-key", key)...)
	_, port, err := net.SplitHostPort(hostOf(s.scim))
	if err != nil || !strings.HasPrefix(s.scim, "https://") {
		t.Fatalf("the server says that it listens on %s, %v", s.scim, err)
	}
	s.scim = "https://127.0.0.1:" + port + basePath
	s.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ExpectContinueTimeout: patience}
	return s
}

// writeCertificate makes a certificate for 127.0.0.1 that signs itself.
func writeCertificate(t *testing.T, cert, key string) *x509.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
