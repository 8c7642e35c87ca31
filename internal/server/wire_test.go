package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// dial opens a connection to the protocol's listener.
func dial(t *testing.T, s *testserver.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.Root, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// raw sends the bytes of a request that no decent client would send, and reads the
// answer.
func raw(t *testing.T, s *testserver.Server, method, text string) (*http.Response, string) {
	t.Helper()
	c := dial(t, s)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.200q: %v", text, err)
	}
	return resp, drain(t, resp)
}

// TestPathForms: a path that different parts of a system may read differently is
// no way around anything. It is refused, or it is no endpoint; never is it another
// spelling of one.
func TestPathForms(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	id := s.Users(t, 1)[0]
	groups := s.Client(t, "groups only", "", "groups")
	check := func(want int, paths ...string) {
		for _, path := range paths {
			for name, token := range map[string]string{"all scopes": s.Token, "groups only": groups, "no": ""} {
				resp, body := raw(t, s, "GET", "GET "+path+" HTTP/1.1\r\nHost: roster.test\r\nAuthorization: Bearer "+token+"\r\nConnection: close\r\n\r\n")
				// What is an odd id of a good endpoint meets the gate first.
				atGate := want == 404 && token != s.Token && (resp.StatusCode == 401 || resp.StatusCode == 403)
				if resp.StatusCode != want && !atGate {
					t.Errorf("GET %s with %s: %d %s, want %d", path, name, resp.StatusCode, body, want)
				}
				if strings.Contains(body, "userName") || strings.Contains(body, id) {
					t.Errorf("GET %s with %s: %s", path, name, body)
				}
			}
		}
	}
	check(400,
		"//scim/v2/Users", "/scim//v2/Users", "/scim/v2//Users", "/scim/v2/Users//", "/scim/v2/Users//"+id, "/scim/v2/Users/"+id+"//",
		"/./scim/v2/Users", "/scim/v2/./Users", "/scim/v2/Users/.", "/scim/v2/Users/./"+id,
		"/scim/v2/../v2/Users", "/scim/v2/Groups/../Users", "/scim/v2/Groups/../Users/"+id, "/scim/v2/Users/..", "/scim/v2/Users/../Users/"+id, "/../scim/v2/Users",
		"/scim/v2/%2e/Users", "/scim/v2/Groups/%2e%2e/Users", "/scim/v2/Groups/%2E%2E/Users/"+id, "/scim/v2/Groups/.%2e/Users",
		"/scim/v2%2fUsers", "/scim/v2/Users%2F"+id, "/scim/v2/Groups%2f..%2fUsers", "/scim/v2/Groups/..%2fUsers", "/scim/v2/Groups/%2e%2e%2fUsers/"+id,
		"/scim/v2/Users;a=b", "/scim/v2/Users;/"+id, "/scim/v2/Users/"+id+";x", "/scim/v2/Groups;/../Users", "/scim/v2/Users%3bx",
		`/scim/v2\Users`, `/scim/v2/Users\`+id, `/scim/v2/Groups/..\Users`, "/scim/v2/Groups/..%5cUsers", "/scim/v2/Users%5C"+id,
		"/scim/v2/Users%00", "/scim/v2/Users/"+id+"%00",
		"/scim/v2/%55sers", "/%73cim/v2/Users", "/scim/v2/Users/"+strings.Replace(id, "-", "%2d", 1), "/scim/v2/Users%7e", "/scim/v2/Schemas/%61",
	)
	check(404,
		"/scim/v2/Groups/%252e%252e/Users",
		"/scim/v2/.searches", "/scim/v2/Users/.searches", "/scim/v2/Users/..x", "/.well-known/x", "/scim/v2/...",
		"/scim/v2/Users/"+id+"%20", "/scim/v2/Users/"+id+"%0a", "/scim/v2/Users/%09"+id,
		"/SCIM/v2/Users", "/scim/V2/Users", "/scim/v2/users", "/scim/v2/Users/"+strings.ToUpper(id), "/scim/v2/Users.json", "/scim/v2/Users/"+id+".json",
		"/", "/metrics", "/healthz", "/debug/pprof/", "/scim/v2/Users/"+id+"/x",
	)
	// Who gave a client a base URL that ends in a slash is told.
	if resp, body := raw(t, s, "GET", "GET /scim/v2//Users HTTP/1.1\r\nHost: roster.test\r\nAuthorization: Bearer "+s.Token+"\r\nConnection: close\r\n\r\n"); resp.StatusCode != 400 || !strings.Contains(body, "base URL") {
		t.Errorf("two slashes: %d %s, want 400 and a word on the base URL", resp.StatusCode, body)
	}
	// The plain forms, for comparison.
	for path, want := range map[string]int{"/scim/v2/Users": 200, "/scim/v2/Users/": 200, "/scim/v2/Users/" + id: 200, "/scim/v2/Users/" + id + "/": 200, "/scim/v2/Users?a=../%2e%2f": 200} {
		if resp, body := raw(t, s, "GET", "GET "+path+" HTTP/1.1\r\nHost: roster.test\r\nAuthorization: Bearer "+s.Token+"\r\nConnection: close\r\n\r\n"); resp.StatusCode != want {
			t.Errorf("GET %s: %d %s, want %d", path, resp.StatusCode, body, want)
		}
	}
}

// TestMethods: what no route has is 405 with what there is; TRACE, which would
// send the credentials back, is nowhere allowed.
func TestMethods(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	id := s.Users(t, 1)[0]
	for _, method := range []string{"TRACE", "OPTIONS", "PROPFIND", "get", "GETT", "LOCK"} {
		for path, allow := range map[string]string{"/Users": "GET, HEAD, POST", "/Users/" + id: "DELETE, GET, HEAD, PATCH, PUT", "/Schemas": "GET, HEAD"} {
			resp, body := raw(t, s, method, method+" /scim/v2"+path+" HTTP/1.1\r\nHost: roster.test\r\nAuthorization: Bearer "+s.Token+"\r\nX-Secret: mark\r\nConnection: close\r\n\r\n")
			if resp.StatusCode != 405 || resp.Header.Get("Allow") != allow || strings.Contains(body, "mark") || strings.Contains(body, s.Token) {
				t.Errorf("%s %s: %d %v %s, want 405 and Allow: %s", method, path, resp.StatusCode, resp.Header, body, allow)
			}
		}
	}
	resp, body := raw(t, s, "OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: roster.test\r\nConnection: close\r\n\r\n")
	if resp.StatusCode != 404 || resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("OPTIONS *: %d %v %s, want what every request gets", resp.StatusCode, resp.Header, body)
	}
}

// TestHead: HEAD answers with the headers of GET and no body.
func TestHead(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	id := s.Users(t, 1)[0]
	for _, path := range []string{"/Users", "/Users/" + id, "/Users/" + nobody, "/Schemas", "/ServiceProviderConfig", "/Users?filter=x"} {
		get, head := s.Do(t, "GET", path, ""), s.Do(t, "HEAD", path, "")
		if head.Status != get.Status || head.Body != "" {
			t.Errorf("HEAD %s: %d %q, GET: %d", path, head.Status, head.Body, get.Status)
		}
		for _, name := range []string{"Content-Type", "Content-Length", "ETag", "Location", "Cache-Control"} {
			if g, h := get.Header.Get(name), head.Header.Get(name); g != h {
				t.Errorf("HEAD %s: %s is %q, with GET %q", path, name, h, g)
			}
		}
	}
	if r := s.Do(t, "HEAD", "/Users", "", "Authorization", ""); r.Status != 401 {
		t.Errorf("HEAD without credentials: %d", r.Status)
	}
}

// TestBadHosts: what is no host is refused, since addresses in responses are made
// from it.
func TestBadHosts(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for _, host := range []string{"a b", "a/b", `a"b`, "a<b>", "a@b", "a?b", "a#b", "a%41b", "a,b", "a;b", "å.example", "a\\b", "{a}", "a:b:c", "[::1"} {
		resp, body := raw(t, s, "GET", "GET /scim/v2/Users HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+s.Token+"\r\nConnection: close\r\n\r\n")
		if resp.StatusCode != 400 || strings.Contains(body, host) {
			t.Errorf("Host: %s: %d %s, want 400", host, resp.StatusCode, body)
		}
	}
	for _, host := range []string{"roster.example", "roster.example:8443", "[::1]:8080", "10.0.0.1", "my_host"} {
		resp, body := raw(t, s, "GET", "GET /scim/v2/ResourceTypes/User HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+s.Token+"\r\nConnection: close\r\n\r\n")
		if resp.StatusCode != 200 || resp.Header.Get("Location") != "http://"+host+"/scim/v2/ResourceTypes/User" {
			t.Errorf("Host: %s: %d %s %s", host, resp.StatusCode, resp.Header.Get("Location"), body)
		}
	}
}

// TestNoHost: where a request names no host (HTTP/1.0, or an empty Host), addresses in
// the response are of where it came in (RFC 9112 §3.3), and still addresses.
func TestNoHost(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for name, start := range map[string]string{"HTTP/1.0": " HTTP/1.0\r\n", "an empty Host": " HTTP/1.1\r\nHost:\r\n"} {
		resp, body := raw(t, s, "GET", "GET /scim/v2/ResourceTypes/User"+start+"Authorization: Bearer "+s.Token+"\r\nConnection: close\r\n\r\n")
		want := s.Root + "/scim/v2/ResourceTypes/User"
		if resp.StatusCode != 200 || resp.Header.Get("Location") != want || !strings.Contains(body, `"`+want+`"`) {
			t.Errorf("%s: %d %s %s, want %s", name, resp.StatusCode, resp.Header.Get("Location"), body, want)
		}
	}
}

// TestSmuggling: a request that says two things about its length is refused.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	head := "POST /scim/v2/Users HTTP/1.1\r\nHost: roster.test\r\nConnection: close\r\nAuthorization: Bearer " + s.Token + "\r\n"
	for name, rest := range map[string]string{
		"two lengths":              "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
		"an unknown coding":        "Transfer-Encoding: gzip\r\n\r\n",
		"a negative length":        "Content-Length: -1\r\n\r\n",
		"a length that is none":    "Content-Length: 2a\r\n\r\n{}",
		"chunks of the wrong size": "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"a space before the colon": "Content-Length : 2\r\n\r\n{}",
	} {
		resp, body := raw(t, s, "POST", head+rest)
		if resp.StatusCode != 400 && resp.StatusCode != 501 {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
}

// TestLargeHeaders: headers beyond 16 KiB (and what net/http adds) are refused.
func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	for size, want := range map[int]int{8 << 10: 200, 32 << 10: 431} {
		resp, body := raw(t, s, "GET", "GET /scim/v2/Users HTTP/1.1\r\nHost: roster.test\r\nConnection: close\r\nAuthorization: Bearer "+s.Token+"\r\nX-Large: "+strings.Repeat("x", size)+"\r\n\r\n")
		if resp.StatusCode != want {
			t.Errorf("a header of %d bytes: %d %.100s, want %d", size, resp.StatusCode, body, want)
		}
	}
}

// location returns the address that the server gives of itself.
func location(t *testing.T, s *testserver.Server, header ...string) string {
	t.Helper()
	r := s.Do(t, "GET", "/ResourceTypes/User", "", header...)
	var o struct{ Meta struct{ Location string } }
	if err := json.Unmarshal([]byte(r.Body), &o); err != nil || o.Meta.Location != r.Header.Get("Location") {
		t.Fatalf("%d %s %s", r.Status, r.Header.Get("Location"), r.Body)
	}
	base, ok := strings.CutSuffix(o.Meta.Location, "/scim/v2/ResourceTypes/User")
	if !ok {
		t.Fatalf("the address is %s", o.Meta.Location)
	}
	return base
}

// TestForwardedHeaders: X-Forwarded-… from a trusted proxy say where the client
// was and what it asked for; from anyone else they say nothing.
func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	inner := netip.MustParsePrefix("10.0.0.0/8")
	forged := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "roster.example"}
	plain := testserver.Start(t, testserver.Options{})
	if got := location(t, plain, forged...); got != plain.Root {
		t.Errorf("nobody is trusted: the address is %s", got)
	}
	elsewhere := testserver.Start(t, testserver.Options{Server: func(o *server.Options) { o.TrustedProxies = []netip.Prefix{inner} }})
	if got := location(t, elsewhere, forged...); got != elsewhere.Root {
		t.Errorf("another proxy is trusted: the address is %s", got)
	}
	public := testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		o.TrustedProxies, o.PublicURL = []netip.Prefix{loopback}, "https://public.example/roster"
	}})
	if got := location(t, public, forged...); got != "https://public.example/roster" {
		t.Errorf("the address is configured: it is %s", got)
	}

	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) { o.TrustedProxies = []netip.Prefix{loopback, inner} }})
	for _, test := range []struct {
		header []string
		want   string
	}{
		{nil, s.Root},
		{forged, "https://roster.example"},
		{[]string{"X-Forwarded-Proto", "http", "X-Forwarded-Host", "roster.example:8080"}, "http://roster.example:8080"},
		{[]string{"X-Forwarded-Proto", "javascript"}, s.Root},
		{[]string{"X-Forwarded-Host", `a"b`}, s.Root},
		{[]string{"X-Forwarded-Host", "a.example, b.example"}, s.Root},
		{[]string{"X-Forwarded-Host", "a/b"}, s.Root},
		{[]string{"X-Forwarded-Host", "a@b"}, s.Root},
		{[]string{"X-Forwarded-Host", "a?b"}, s.Root},
		{[]string{"X-Forwarded-Host", "a:b:c"}, s.Root},
		{[]string{"Forwarded", "for=1.2.3.4;host=x.example;proto=https"}, s.Root},
	} {
		if got := location(t, s, test.header...); got != test.want {
			t.Errorf("%v: the address is %s, want %s", test.header, got, test.want)
		}
	}
}

// TestClientAddress: a client that may come from some networks only is judged by
// its own address, which behind trusted proxies is the last that none of them
// wrote.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	inner := netip.MustParsePrefix("10.0.0.0/8")
	trusting := testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		o.TrustedProxies = []netip.Prefix{loopback, inner, netip.MustParsePrefix("fd00::/8")}
	}})
	plain := testserver.Start(t, testserver.Options{})
	for _, test := range []struct {
		name    string
		s       *testserver.Server
		from    string // the client's network
		forward []string
		want    int
	}{
		{"from where it may", plain, "127.0.0.0/8", nil, 200},
		{"from elsewhere", plain, "203.0.113.0/24", nil, 401},
		{"from elsewhere, and says otherwise", plain, "203.0.113.0/24", []string{"203.0.113.5"}, 401},
		{"from where it may, and says otherwise", plain, "127.0.0.0/8", []string{"203.0.113.5"}, 200},
		{"through the proxy", trusting, "203.0.113.0/24", []string{"203.0.113.5"}, 200},
		{"through two proxies", trusting, "203.0.113.0/24", []string{"203.0.113.5, 10.1.2.3"}, 200},
		{"in two headers", trusting, "203.0.113.0/24", []string{"203.0.113.5", "10.1.2.3"}, 200},
		{"through the proxy from elsewhere", trusting, "203.0.113.0/24", []string{"198.51.100.1"}, 401},
		{"with a lie before the truth", trusting, "203.0.113.0/24", []string{"203.0.113.5, 198.51.100.1"}, 401},
		{"with a lie and a proxy after it", trusting, "203.0.113.0/24", []string{"203.0.113.5, 198.51.100.1, 10.1.2.3"}, 401},
		{"with what is no address", trusting, "203.0.113.0/24", []string{"203.0.113.5, unknown"}, 401},
		{"the proxy itself", trusting, "203.0.113.0/24", nil, 401},
		{"in IPv6", trusting, "2001:db8::/32", []string{"2001:db8::17"}, 200},
		{"with its port", trusting, "203.0.113.0/24", []string{"203.0.113.5:4711"}, 200},
		{"in IPv6 with its port", trusting, "2001:db8::/32", []string{"[2001:db8::17]:4711, 10.1.2.3:80"}, 200},
		{"in IPv6 with a zone", trusting, "2001:db8::/32", []string{"2001:db8::17%eth0"}, 200},
		{"through a proxy with a zone", trusting, "2001:db8::/32", []string{"2001:db8::17, fd00::1%eth0"}, 200},
		{"from elsewhere with a port", trusting, "203.0.113.0/24", []string{"198.51.100.1:4711"}, 401},
		{"in IPv4 written as IPv6", trusting, "203.0.113.0/24", []string{"::ffff:203.0.113.5"}, 200},
	} {
		token := test.s.Issue(t, &storage.Client{Tenant: storage.DefaultTenant, Name: test.name, Scopes: []string{"users"}, Networks: []string{test.from}})
		req, err := http.NewRequestWithContext(t.Context(), "GET", test.s.URL+"/Users", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header["X-Forwarded-For"] = test.forward
		resp, err := test.s.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%s: %d, want %d", test.name, resp.StatusCode, test.want)
		}
	}
}

// TestConnectionsPerAddress: beyond the limit a connection is closed at once; when
// another ends there is room again.
func TestConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) { o.MaxConnsPerIP, o.MaxConns = 2, 100 }})
	answers := func(c net.Conn) error { return ask(c, s.Token) }
	first, second := dial(t, s), dial(t, s)
	for _, c := range []net.Conn{first, second} {
		if err := answers(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := answers(dial(t, s)); err == nil {
		t.Error("a third connection is answered")
	}
	for _, c := range []net.Conn{first, second} {
		if err := answers(c); err != nil {
			t.Errorf("one of the first two: %v", err)
		}
	}
	first.Close()
	for answers(dial(t, s)) != nil { // the server notices when it notices
		time.Sleep(time.Millisecond)
	}
}

// TestConnections: beyond the limit a connection waits until another one has ended,
// whichever address it comes from.
func TestConnections(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) { o.MaxConnsPerIP, o.MaxConns = 100, 2 }})
	first, second := dial(t, s), dial(t, s)
	for _, c := range []net.Conn{first, second} {
		if err := ask(c, s.Token); err != nil {
			t.Fatal(err)
		}
	}
	third := dial(t, s)
	if err := third.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := ask(third, s.Token); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a third connection: %v; want it to wait", err)
	}
	first.Close()
	if err := errors.Join(second.SetReadDeadline(time.Time{}), third.SetReadDeadline(time.Time{}), answered(third), ask(second, s.Token)); err != nil {
		t.Errorf("when the first has ended: %v", err)
	}
}

// ask sends a request over a connection and reads the answer.
func ask(c net.Conn, token string) error {
	if _, err := io.WriteString(c, "GET /scim/v2/Users HTTP/1.1\r\nHost: roster.test\r\nAuthorization: Bearer "+token+"\r\n\r\n"); err != nil {
		return err
	}
	return answered(c)
}

// answered reads an answer.
func answered(c net.Conn) error {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TestTLS: with a certificate the server speaks TLS 1.3, and 1.2 to those who know no newer
// one, says https of itself, and HTTP/2 to those who can.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) { o.TLSCert, o.TLSKey = cert, key }})
	if !strings.HasPrefix(s.Root, "https://") {
		t.Fatalf("the server is at %s", s.Root)
	}
	s.HTTP.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/ResourceTypes/User", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body := drain(t, resp)
	if resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("the server speaks %s", tls.VersionName(resp.TLS.Version))
	}
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || resp.Header.Get("Location") != s.URL+"/ResourceTypes/User" {
		t.Errorf("%s %d %s %s", resp.Proto, resp.StatusCode, resp.Header.Get("Location"), body)
	}
	s.HTTP.CloseIdleConnections()
	older, err := tls.Dial("tcp", strings.TrimPrefix(s.Root, "https://"), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatalf("TLS 1.2: %v", err)
	}
	older.Close()
	_, err = tls.Dial("tcp", strings.TrimPrefix(s.Root, "https://"), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}) // to be refused
	if err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

// TestKeysOthersMayRead: the private key is for the server and perhaps a group.
func TestKeysOthersMayRead(t *testing.T) {
	t.Parallel()
	cert, key, _ := certificate(t)
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: false, 0o644: true, 0o604: true, 0o602: true} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		o := server.Options{TLSCert: cert, TLSKey: key, Listen: "127.0.0.1:0", Registry: registry(), Log: slog.New(slog.DiscardHandler)}
		srv, err := server.New(o)
		if (err != nil) != refused || refused && (!strings.Contains(err.Error(), "tls-key: ") || !strings.Contains(err.Error(), "chmod")) {
			t.Errorf("mode %o: got %v, refused is %v", mode, err, refused)
		}
		if srv != nil {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := srv.Run(ended, ended); err != nil {
				t.Error(err)
			}
		}
	}
}

// certificate makes one for 127.0.0.1.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, b := range map[string][]byte{certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

// TestListenersThatFail: an address that is taken is an error of New, and does not
// leave the other listener open.
func TestListenersThatFail(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	taken := strings.TrimPrefix(s.Root, "http://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	for _, o := range []server.Options{{Listen: taken}, {Listen: free, OpsListen: taken}} {
		o.Registry = registry()
		if _, err := server.New(o); err == nil {
			t.Errorf("New(%+v): no error", o)
		}
	}
	// Somebody else's connection may have the port for a moment.
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if l, err = net.Listen("tcp", free); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the first listener is still open: %v", err)
		}
	}
	l.Close()
}
