package server

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

// from is a connection from an address.
type from struct {
	net.Conn
	addr   string
	closed bool
}

func (c *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr)) }

func (c *from) Close() error {
	c.closed = true
	return nil
}

// given accepts connections that are there.
type given struct {
	net.Listener
	conns []*from
}

func (g *given) Accept() (net.Conn, error) {
	if len(g.conns) == 0 {
		return nil, io.EOF
	}
	c := g.conns[0]
	g.conns = g.conns[1:]
	return c, nil
}

// TestConnectionsPerSite: in IPv6 the addresses of a /64 are one, since whoever has one of
// them has all; in IPv4 each is its own, also when it is written as IPv6.
func TestConnectionsPerSite(t *testing.T) {
	t.Parallel()
	conns := []*from{
		{addr: "[2001:db8::1]:1000"}, {addr: "[2001:db8::2]:1000"}, {addr: "[2001:db8::ffff:1]:1000"}, {addr: "[2001:db8:0:1::1]:1000"},
		{addr: "192.0.2.1:1000"}, {addr: "[::ffff:192.0.2.1]:1001"}, {addr: "192.0.2.1:1002"}, {addr: "192.0.2.2:1000"},
		{addr: "[fe80::1%eth0]:1000"}, {addr: "[fe80::1%eth1]:1000"}, {addr: "[fe80::2%eth0]:1000"},
	}
	closed := map[int]bool{2: true, 6: true, 10: true}
	l := &perIPListener{Listener: &given{conns: conns}, max: 2, count: map[netip.Prefix]int{}}
	var accepted []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		accepted = append(accepted, c)
	}
	for i, c := range conns {
		if c.closed != closed[i] {
			t.Errorf("the connection from %s: closed %v, want %v", c.addr, c.closed, closed[i])
		}
	}
	for _, c := range accepted {
		c.Close()
		c.Close()
	}
	if len(l.count) > 0 {
		t.Errorf("with no connection left these are counted: %v", l.count)
	}
}
