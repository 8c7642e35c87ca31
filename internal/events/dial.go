package events

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

const (
	// sendWithin is how long a receiver has to answer, from the look-up of its name to
	// the end of its answer.
	sendWithin = 5 * time.Second
	// maxAnswer is how much of an answer is read.
	maxAnswer = 64 << 10
)

// errForbidden: the address is none that events are sent to.
var errForbidden = errors.New("the receiver is at an address that events are not sent to")

// public reports whether an address is one of the public internet. It is asked about
// what a connection is made to, after names were resolved, so that no name can point
// elsewhere in between.
func public(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	list := notPublic4
	if ip = ip.Unmap(); ip.Is6() {
		if !global6.Contains(ip) { // loopback, mapped, NAT64, local, private, multicast
			return false
		}
		list = notPublic6
	}
	return !within(list, ip)
}

func within(list []netip.Prefix, ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// The special-purpose addresses of the IANA registries.
var (
	notPublic4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
	global6    = netip.MustParsePrefix("2000::/3")
	notPublic6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// newClient returns what events are sent with. networks are those that an operator
// allows besides the public internet; without TLS no others are.
func newClient(networks []netip.Prefix, resolver *net.Resolver) *http.Client {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	transport := func(allowed func(netip.Addr) bool) *http.Transport {
		dialer := &net.Dialer{Timeout: sendWithin, Resolver: resolver, Control: func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil || !allowed(a.Addr()) {
				return errForbidden
			}
			return nil
		}}
		return &http.Transport{
			// Proxy is nil: what the environment says of proxies is for other programs.
			DialContext: dialer.DialContext, TLSClientConfig: tlsConfig, TLSHandshakeTimeout: sendWithin,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, MaxIdleConnsPerHost: atOnce, IdleConnTimeout: 30 * time.Second,
			ForceAttemptHTTP2: true,
		}
	}
	return &http.Client{
		Timeout: sendWithin,
		Transport: schemesOf{
			secure: transport(func(ip netip.Addr) bool { return public(ip) || within(networks, ip) }),
			plain:  transport(func(ip netip.Addr) bool { return within(networks, ip) }),
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type schemesOf struct{ secure, plain *http.Transport }

func (s schemesOf) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		return s.secure.RoundTrip(r)
	}
	return s.plain.RoundTrip(r)
}

// CloseIdleConnections is called by that of http.Client.
func (s schemesOf) CloseIdleConnections() {
	s.secure.CloseIdleConnections()
	s.plain.CloseIdleConnections()
}

// checkURL reports whether a receiver may be named so. What is behind the name is seen
// when a connection is made.
func checkURL(text string, networks []netip.Prefix) bool {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURLLength || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !within(networks, ip) && (u.Scheme != "https" || !public(ip)) {
		return false
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && len(networks) > 0
}
