package mongotest

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

// Config shapes a double. The zero value is a member of a one-node replica set
// that lets everybody in.
type Config struct {
	// Addr is where to listen; by default a free port of the loopback interface.
	Addr string
	// Standalone makes the double a server that belongs to no replica set, and
	// so knows neither transactions nor retryable writes.
	Standalone bool
	// Router makes the double say that it is a mongos, the router of a sharded
	// cluster. It has no shards: it does all that a replica set of one does.
	Router bool
	// Username and Password are what clients have to authenticate with
	// (SCRAM-SHA-256, against the admin database) when they are set.
	Username, Password string
	// DefaultWriteConcern is the w that the cluster's default write concern is
	// said to have: a number or a string. Nil is "majority".
	DefaultWriteConcern any
	// Unjournaled makes the default write concern one with j: false.
	Unjournaled bool
	// DefaultReadConcern is the level of the cluster's default read concern; by
	// default "local".
	DefaultReadConcern string
	// Version is the server version that is reported; by default 7.0.0. The wire
	// version follows from it.
	Version string
	// TransactionIdle is how long a transaction may go without a command before
	// it is aborted; by default 20 seconds, for a busy machine may take long
	// between two commands. MongoDB waits for 60.
	TransactionIdle time.Duration
	// LockWait is how long a write outside a transaction waits for a transaction
	// in its way before it fails with a WriteConflict; by default twice
	// TransactionIdle.
	LockWait time.Duration
}

// Double is the test double: a MongoDB server in this process.
type Double struct {
	Server
	config  Config
	engine  *engine
	scram   *scram.Server // nil when everybody may come in
	address string        // where it listens, also after it stopped

	sessions sessions
	cursors  cursors

	mu       sync.Mutex
	ctx      context.Context // of all commands; done when the server stops
	stop     context.CancelCauseFunc
	listener net.Listener
	conns    map[*connection]bool
	failures []*Failure
	running  sync.WaitGroup
	free     func() // gives the port up that is kept while it is stopped
}

// StartDouble starts a double that is stopped when the test ends.
func StartDouble(tb testing.TB, c Config) *Double {
	tb.Helper()
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Version == "" {
		c.Version = "7.0.0"
	}
	if c.TransactionIdle == 0 {
		c.TransactionIdle = 20 * time.Second
	}
	if c.LockWait == 0 {
		c.LockWait = 2 * c.TransactionIdle
	}
	d := &Double{config: c, engine: newEngine(c.LockWait), address: c.Addr, free: func() {}}
	if c.Username != "" {
		d.scram = newScram(tb, c.Username, c.Password)
	}
	d.Restart(tb)
	tb.Cleanup(func() {
		d.Stop()
		d.free()
	})
	d.Server = Server{Kind: KindDouble, Version: c.Version, address: address{before: "mongodb://" + d.address}}
	options := url.Values{}
	if !c.Standalone && !c.Router {
		options.Set("replicaSet", replicaSet)
	}
	if c.Username != "" {
		d.Server.address.before = "mongodb://" + url.UserPassword(c.Username, c.Password).String() + "@" + d.address
		options.Set("authSource", "admin")
	}
	d.Server.address.options = options.Encode()
	return d
}

// Addr is where the double listens: host and port.
func (d *Double) Addr() string { return d.address }

// Stop ends all connections and stops listening. Committed data stays, as do
// sessions with what their retryable writes came to; open transactions and
// cursors are gone.
func (d *Double) Stop() {
	d.mu.Lock()
	listener := d.listener
	if listener == nil {
		d.mu.Unlock()
		return
	}
	d.listener = nil
	d.stop(errorf(interruptedAtShutdown, "interrupted at shutdown"))
	_ = listener.Close()
	d.free = keep(d.address)
	for c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.running.Wait()
	for _, s := range d.sessions.all() {
		s.end(d.engine)
	}
	d.cursors.clear()
}

// keep keeps the port of a listener that was closed until free is called, or the system
// may give it to somebody else, or to a connection. Nobody listens there meanwhile.
func keep(address string) (free func()) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Is4() {
		return func() {}
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return func() {}
	}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil { // as the listener has it
		_ = syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}) // it is taken already, or it is not
	}
	return func() { _ = syscall.Close(fd) }
}

// Restart listens again, where it did before, after a Stop.
func (d *Double) Restart(tb testing.TB) {
	tb.Helper()
	listener, err := net.Listen("tcp", d.address)
	if err != nil {
		tb.Fatalf("mongotest: the double cannot listen: %v", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free()
	d.free = func() {}
	d.address = listener.Addr().String()
	d.listener = listener
	d.conns = map[*connection]bool{}
	d.ctx, d.stop = context.WithCancelCause(context.Background())
	d.running.Add(2)
	go d.accept(listener)
	go d.expireDocuments(d.ctx)
}

// Disconnect ends all connections, as a network failure would. Clients may
// connect again at once; sessions and their transactions are not affected.
func (d *Double) Disconnect() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.Close()
	}
}

func (d *Double) accept(listener net.Listener) {
	defer d.running.Done()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		if d.listener != listener {
			d.mu.Unlock()
			_ = conn.Close()
			return
		}
		c := &connection{Conn: conn, double: d, ctx: d.ctx}
		d.conns[c] = true
		d.running.Add(1)
		d.mu.Unlock()
		go c.serve()
	}
}

// connection is a client's connection.
type connection struct {
	net.Conn
	double       *Double
	ctx          context.Context
	conversation *scram.ServerConversation
	user         string // who authenticated
}

func (c *connection) serve() {
	d := c.double
	defer func() {
		_ = c.Close()
		d.mu.Lock()
		delete(d.conns, c)
		d.mu.Unlock()
		d.running.Done()
	}()
	in := bufio.NewReader(c)
	for {
		m, err := readMessage(in)
		if err != nil {
			return
		}
		reply := c.answer(m.body, m.sequences)
		if reply == nil {
			return
		}
		if m.silent {
			continue
		}
		b, err := m.encodeReply(reply)
		if err != nil {
			b, err = m.encodeReply(asCommandError(err).reply())
		}
		if err != nil {
			return
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}
