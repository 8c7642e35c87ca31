package mongotest

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy is the network between clients and a server, for tests in which it fails.
// It knows what it carries no better than a switch does, except that Cut may look
// at a request.
type Proxy struct {
	target   string
	listener net.Listener

	mu     sync.Mutex
	cut    func(request []byte) bool
	down   bool
	silent bool
	delay  time.Duration
	wires  map[*wire]bool
}

// wire is a client's connection and the server's behind it.
type wire struct {
	client, server net.Conn
	// lost: its answers go nowhere. dead: nothing it carries arrives. Neither comes
	// back, because a stream with a hole in it is no use.
	lost, dead bool
}

// StartProxy starts a proxy before the first host of a server's address. It ends
// with the test.
func StartProxy(tb testing.TB, s *Server) *Proxy {
	tb.Helper()
	host := s.address.before[strings.LastIndexAny(s.address.before, "/@")+1:]
	host, _, _ = strings.Cut(host, ",")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("mongotest: the proxy cannot listen: %v", err)
	}
	p := &Proxy{target: host, listener: l, wires: map[*wire]bool{}}
	tb.Cleanup(func() { _ = l.Close(); p.Drop() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// URI is the connection string for a database behind the proxy. It keeps drivers
// from looking for other ways to the server.
func (p *Proxy) URI(database string) string {
	return "mongodb://" + p.listener.Addr().String() + "/" + database + "?directConnection=true"
}

// Cut loses the answer to each request of which lost reports true, and ends its
// connection. Nil loses none.
func (p *Proxy) Cut(lost func(request []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = lost
}

// Down ends all connections and, while it is set, each new one at once.
func (p *Proxy) Down(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.Drop()
	}
}

// Silence swallows everything while it is set, and says nothing about it: no
// connection ends, and new ones seem to be made. A connection that has lost
// something stays silent for good, as behind a firewall that forgot it.
func (p *Proxy) Silence(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
}

// Delay holds each answer back for a while.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Drop ends all connections. Clients may connect again at once.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.wires {
		_ = w.client.Close()
		_ = w.server.Close()
	}
}

// Connections is how many there are.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.wires)
}

func (p *Proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	w := &wire{client: client, server: server}
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.wires[w] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.wires, w)
		p.mu.Unlock()
	}()
	go func() {
		p.carry(server, client, func(request []byte) bool {
			w.dead = w.dead || p.silent
			w.lost = w.lost || p.cut != nil && p.cut(request)
			return w.dead
		})
		// A client that is gone leaves no answers to wait for.
		_ = server.Close()
	}()
	p.carry(client, server, func([]byte) bool {
		w.dead = w.dead || p.silent
		if w.lost {
			_ = client.Close()
		}
		return w.dead
	})
	p.mu.Lock()
	dead := w.dead
	p.mu.Unlock()
	if dead {
		// The end of a connection does not arrive either: wait for the client's.
		_, _ = io.Copy(io.Discard, client)
	}
}

// carry copies what it reads until either side ends, except what swallow, called
// with the lock, reports.
func (p *Proxy) carry(to, from net.Conn, swallow func([]byte) bool) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		swallowed, delay := swallow(buf[:n]), p.delay
		p.mu.Unlock()
		if swallowed {
			continue
		}
		if delay > 0 && to.LocalAddr().String() == p.listener.Addr().String() { // an answer
			time.Sleep(delay)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
