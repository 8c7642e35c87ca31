package events

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/roster-id/roster/auth"
)

// forbiddenAddresses are addresses that no event is sent to, by why.
var forbiddenAddresses = map[string][]string{
	"loopback":      {"127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"},
	"private":       {"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"},
	"link-local":    {"169.254.0.1", "169.254.169.254", "fe80::1", "fe80::1%lo", "febf::1"},
	"CGNAT":         {"100.64.0.1", "100.127.255.255"},
	"ULA":           {"fc00::1", "fd00:ec2::254", "fdff::1"},
	"multicast":     {"224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"},
	"unspecified":   {"0.0.0.0", "0.1.2.3", "::"},
	"mapped":        {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:100.64.0.1"},
	"compatible":    {"::127.0.0.1", "::10.0.0.1"},
	"translated":    {"::ffff:0:127.0.0.1"},
	"NAT64":         {"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"},
	"6to4, Teredo":  {"2002:7f00:1::1", "2002:a00:1::", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"},
	"documentation": {"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"},
	"benchmark":     {"198.18.0.1", "198.19.255.255", "2001:2::1"},
	"reserved":      {"240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.0.170", "192.88.99.1", "100::1", "fec0::1", "5f00::1", "4000::1", "e000::1"},
}

// TestForbiddenAddresses is the corpus of V37: nothing is connected to, at the name or
// at the address.
func TestForbiddenAddresses(t *testing.T) {
	t.Parallel()
	n := 0
	for why, list := range forbiddenAddresses {
		for _, text := range list {
			n++
			ip := netip.MustParseAddr(text)
			if public(ip) {
				t.Errorf("%s (%s) is taken for public", text, why)
			}
			for _, scheme := range []string{"http://", "https://"} {
				if u := scheme + net.JoinHostPort(strings.ReplaceAll(text, "%", "%25"), "443") + "/hook"; checkURL(u, nil) {
					t.Errorf("%s is taken for the address of a receiver", u)
				}
			}
		}
	}
	for _, text := range []string{"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"} {
		if !public(netip.MustParseAddr(text)) {
			t.Errorf("%s is not taken for public", text)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is taken for public")
	}
	if n < 40 {
		t.Errorf("%d cases", n)
	}
	for _, u := range []string{"", "https://", "https://:443/", "ftp://example.com", "http://example.com", "//example.com", "https:example.com", "https://ana:secret@example.com", "https://example.com/#a", "file:///etc/passwd", "gopher://example.com", "HTTPS//x", "https://example.com/" + strings.Repeat("x", 2048)} {
		if checkURL(u, nil) {
			t.Errorf("%q is taken for the address of a receiver", u)
		}
	}
	if !checkURL("https://example.com/hook?x=1", nil) || !checkURL("https://[2606:4700::1111]:8443/", nil) {
		t.Error("receivers are refused")
	}
}

// listen starts a receiver that must not be connected to.
func listen(t *testing.T) (port string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	connections = &atomic.Int64{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, connections
}

// rebinding is a resolver whose every answer is another one of these.
func rebinding(t *testing.T, answers ...string) *net.Resolver {
	t.Helper()
	var asked atomic.Int64
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		for _, one := range strings.Split(answers[int(asked.Add(1)-1)%len(answers)], ",") {
			ip := netip.MustParseAddr(one)
			switch {
			case ip.Is4() && q.Question[0].Qtype == dns.TypeA:
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: ip.AsSlice()})
			case ip.Is6() && q.Question[0].Qtype == dns.TypeAAAA:
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET}, AAAA: ip.AsSlice()})
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// TestRebinding: whatever a name points to when it is looked up, first or later, alone or
// among others, nothing inside is connected to.
func TestRebinding(t *testing.T) {
	t.Parallel()
	port, connections := listen(t)
	for _, answers := range [][]string{
		{"127.0.0.1"}, {"::ffff:127.0.0.1"}, {"0.0.0.0"}, {"127.0.0.1,127.0.0.2"}, {"::1,127.0.0.1"}, {"::,0.0.0.0"}, {"10.255.255.1,127.0.0.1"},
	} {
		client := newClient(nil, rebinding(t, answers...))
		for range 4 {
			for _, scheme := range []string{"https", "http"} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://rebind.example:"+port+"/", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				res, err := client.Do(r)
				if err == nil {
					_ = res.Body.Close()
				}
				if !errors.Is(err, errForbidden) {
					t.Errorf("%s with %q: %v", scheme, answers, err)
				}
			}
		}
		client.CloseIdleConnections()
	}
	// A name that was good, in a network that an operator named, and then is not.
	good := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })}
	l, err := net.Listen("tcp", "127.0.0.9:"+port)
	if err != nil {
		t.Skip("NOT RUN: a name that moves: this machine has one loopback address: ", err)
	}
	go func() { _ = good.Serve(l) }()
	defer good.Close()
	s := &Feeds{now: time.Now, client: newClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.8/29")}, rebinding(t, "127.0.0.9", "127.0.0.1"))}
	f := &Feed{Delivery: Webhook, URL: "http://rebind.example:" + port, secrets: secrets{Key: newSecret()}}
	met := map[Reason]int{}
	for range 8 {
		if fail := s.attempt(t.Context(), f, &claims{ID: "x"}); fail != nil {
			met[fail.reason]++
		} else {
			met[""]++
		}
	}
	if met[""] == 0 || met[ReasonForbidden] == 0 || met[""]+met[ReasonForbidden] != 8 {
		t.Errorf("a name that is rebound: %v", met)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections to a forbidden listener", n)
	}
}

// TestNoProxyNoRedirect: the environment's proxies are not used, redirects not followed,
// a network that an operator names is reached, and without TLS no other.
func TestNoProxyNoRedirect(t *testing.T) {
	t.Parallel()
	// net/http reads the environment once, and asks no proxy about loopback: what is set
	// here would show nothing.
	for scheme, transport := range map[string]*http.Transport{"https": newClient(nil, nil).Transport.(schemesOf).secure, "http": newClient(nil, nil).Transport.(schemesOf).plain} {
		if transport.Proxy != nil {
			t.Errorf("%s: a proxy is asked for", scheme)
		}
	}
	var reached atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer elsewhere.Close()
	from := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer from.Close()
	s := &Feeds{client: newClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil), now: time.Now}
	f := &Feed{Delivery: Webhook, URL: from.URL, secrets: secrets{Key: newSecret()}}
	fail := s.attempt(t.Context(), f, &claims{ID: "x"})
	if fail == nil || fail.reason != ReasonRedirect || fail.code != 307 {
		t.Errorf("a redirect: %+v", fail)
	}
	f.URL = elsewhere.URL
	if fail := s.attempt(t.Context(), f, &claims{ID: "x"}); fail != nil {
		t.Errorf("a receiver inside that is allowed: %+v", fail)
	}
	if reached.Load() != 1 {
		t.Errorf("the target was reached %d times", reached.Load())
	}
	// Another network than the one that is allowed.
	s.client = newClient([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil)
	if fail := s.attempt(t.Context(), f, &claims{ID: "x"}); fail == nil || fail.reason != ReasonForbidden || reached.Load() != 1 {
		t.Errorf("a receiver inside that is not allowed: %+v", fail)
	}
	f.URL = "http://8.8.8.8/" // of a feed from when its network was allowed
	if fail := s.attempt(t.Context(), f, &claims{ID: "x"}); fail == nil || fail.reason != ReasonForbidden {
		t.Errorf("a receiver outside, without TLS: %+v", fail)
	}
}

// counted answers without end, and counts what is read of it.
type counted struct {
	bytes  int
	closed bool
}

func (c *counted) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: c}, nil
}

func (c *counted) Read(p []byte) (int, error) {
	if c.bytes += len(p); c.bytes > 16<<20 {
		return 0, errors.New("too much")
	}
	return len(p), nil
}

func (c *counted) Close() error { c.closed = true; return nil }

// TestToldErrors: of what a receiver says of an error nothing is kept but what RFC 8935 has
// a word for.
func TestToldErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	if err := auth.CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.LoadKeyRing(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		delivery Delivery
		status   int
		err      string
		want     Reason
	}{
		{Push, 400, "invalid_key", "invalid_key"}, {Push, 400, "access_denied", "access_denied"},
		{Push, 400, "canary", ReasonRefused}, {Push, 400, "", ReasonRefused}, {Push, 403, "invalid_key", ReasonRefused}, {Webhook, 400, "invalid_key", ReasonRefused},
	} {
		answer := told{test.status, `{"err":"` + test.err + `","description":"canary"}`}
		s := &Feeds{client: &http.Client{Transport: answer}, keys: keys, now: time.Now}
		f := &Feed{Delivery: test.delivery, URL: "https://example.com/", secrets: secrets{Key: newSecret()}}
		if fail := s.attempt(t.Context(), f, &claims{ID: "x"}); fail == nil || fail.reason != test.want || fail.code != test.status {
			t.Errorf("%s, %d with %q: %+v, want %s", test.delivery, test.status, test.err, fail, test.want)
		}
	}
}

// told is an answer.
type told struct {
	status int
	body   string
}

func (a told) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

// TestAnswers: what a receiver answers is read up to a bound, and not waited for long.
func TestAnswers(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		for part := make([]byte, 1<<10); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	}))
	defer long.Close()
	never := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-never }))
	defer silent.Close()
	defer close(never)
	s := &Feeds{client: newClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil), now: time.Now}
	f := &Feed{Delivery: Webhook, URL: long.URL, secrets: secrets{Key: newSecret()}}
	if fail := s.attempt(t.Context(), f, &claims{ID: "x"}); fail != nil {
		t.Errorf("an answer without end: %+v", fail)
	}
	<-ended // the connection was closed, or this waits for ever
	read := &counted{}
	bounded := &Feeds{client: &http.Client{Transport: read}, now: time.Now}
	if fail := bounded.attempt(t.Context(), f, &claims{ID: "x"}); fail != nil || read.bytes > maxAnswer || !read.closed {
		t.Errorf("%+v; %d bytes were read, want %d at most; closed %t", fail, read.bytes, maxAnswer, read.closed)
	}
	f.URL = silent.URL
	if fail := s.attempt(t.Context(), f, &claims{ID: "x"}); fail == nil || fail.reason != ReasonUnreachable {
		t.Errorf("a receiver that says nothing: %+v", fail)
	}
}
