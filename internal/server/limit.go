package server

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/roster-id/roster/auth"
)

// tellingListener logs what keeps connections from being accepted, such as that no more
// files may be opened. net/http waits up to a second before it tries again, and tells
// only its own log, which is for what clients do to connections.
type tellingListener struct {
	net.Listener
	log *slog.Logger
}

func (l *tellingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Error("a connection could not be accepted", "error", err)
	}
	return c, err
}

// perIPListener closes connections beyond max from one address at once, so that
// one client cannot take all of them. In IPv6 that is a /64: whoever has one address
// has all of those.
type perIPListener struct {
	net.Listener
	max   int
	mu    sync.Mutex
	count map[netip.Prefix]int
}

func (l *perIPListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		// An address that is not TCP's is counted as the zero Prefix.
		ap, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		from := auth.Site(ap.Addr())
		l.mu.Lock()
		full := l.count[from] >= l.max
		if !full {
			l.count[from]++
		}
		l.mu.Unlock()
		if full {
			c.Close()
			continue
		}
		return &countedConn{Conn: c, release: func() { l.release(from) }}, nil
	}
}

func (l *perIPListener) release(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[from]--; l.count[from] <= 0 {
		delete(l.count, from)
	}
}

type countedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *countedConn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}
