package mongo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// startProxy returns a proxy and the URL of a database behind it.
func startProxy(t *testing.T) (*mongotest.Proxy, string) {
	t.Helper()
	p := mongotest.StartProxy(t, &mongotest.StartDouble(t, mongotest.Config{}).Server)
	return p, p.URI("roster")
}

// times returns a cut that loses the answers to the first n requests of a kind.
func times(n int, command string) func([]byte) bool {
	return func(request []byte) bool {
		if n == 0 || !bytes.Contains(request, []byte(command)) {
			return false
		}
		n--
		return true
	}
}

var set = func() *schemas.Set {
	set, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	return set
}()

var userType = set.Type("User")

// newUser makes a user with a number for an id.
func newUser(s *Store, n int, name string) *storage.Resource {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := &storage.Resource{Type: "User", ID: fmt.Sprintf("01a20000-0000-7000-8000-%012d", n), Version: 1, Created: at, LastModified: at, Name: name}
	attrs := map[string]any{"id": r.ID, "userName": name}
	r.Doc, r.Index = userType.Document(attrs), s.NewIndex(storage.DefaultTenant, userType, attrs)
	return r
}

func create(ctx context.Context, s *Store, r *storage.Resource) error {
	return s.Write(ctx, storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(tx.Create(r), tx.Audit(storage.AuditEntry{At: r.Created, Actor: "operator", Action: "test", Type: r.Type, ID: r.ID, Version: 1}))
	})
}

// driverTime is how long the driver looks for a server, or waits for a connection, unless
// it is told otherwise.
const driverTime = 30 * time.Second

// heartbeat is when the driver notices by itself that a server says nothing.
const heartbeat = 10 * time.Second

// commits counts those that were sent.
type commits struct{ atomic.Int64 }

func (c *commits) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName == "commitTransaction" {
			c.Add(1)
		}
	}}
}

// cutOff runs a write whose time is over when it commits: a busy machine may need more of
// it to get there.
func (c *commits) cutOff(t *testing.T, write func(context.Context) error) error {
	t.Helper()
	c.Store(0)
	for d := commitTime; ; d *= 2 {
		if err := write(timeout(t, d)); c.Load() > 0 || d > time.Minute {
			return err
		}
	}
}

// TestLostAnswers: a command whose answer is lost is repeated in a way that does
// nothing twice.
func TestLostAnswers(t *testing.T) {
	p, uri := startProxy(t)
	s := open(t, uri, Options{})
	for i, command := range []string{"commitTransaction", "insert", "find", "update"} {
		r := newUser(s, i, "user of "+command)
		p.Cut(times(1, command))
		if err := create(t.Context(), s, r); err != nil {
			t.Errorf("Create with a lost answer to %s: %v", command, err)
		}
		if _, err := s.Get(t.Context(), storage.DefaultTenant, "User", r.ID); err != nil {
			t.Errorf("Get with a lost answer to %s: %v", command, err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("Ping with a lost answer to %s: %v", command, err)
		}
	}
	p.Cut(nil)
	list, err := s.AuditEntries(t.Context(), storage.DefaultTenant, 0, 100)
	if err != nil || len(list) != 4 {
		t.Errorf("got %d entries, %v, want one for each user", len(list), err)
	}
}

// TestUnknownOutcome: when nobody can tell whether a commit happened, the write
// says so, and trying again finds out.
func TestUnknownOutcome(t *testing.T) {
	p, uri := startProxy(t)
	var c commits
	s := open(t, uri, Options{Monitor: c.monitor()})
	r := newUser(s, 1, "ana")
	p.Cut(times(-1, "commitTransaction"))
	err := c.cutOff(t, func(ctx context.Context) error { return create(ctx, s, r) })
	if !errors.Is(err, storage.ErrOutcomeUnknown) || !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %v, want ErrOutcomeUnknown", err)
	}
	p.Cut(nil)
	again := create(t.Context(), s, newUser(s, 2, "ANA"))
	if e, ok := errors.AsType[*storage.UniqueError](again); !ok || e.Attr != "userName" {
		t.Errorf("again: got %v, want a UniqueError, because the first was stored", again)
	}
}

// TestOutage: without the server every call is ErrUnavailable when its time is over, and
// nothing else; with it all is well again.
func TestOutage(t *testing.T) {
	p, uri := startProxy(t)
	s := open(t, uri, Options{})
	ana := newUser(s, 1, "ana")
	if err := create(t.Context(), s, ana); err != nil {
		t.Fatal(err)
	}
	p.Down(true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for what, fn := range map[string]func() error{
		"Ping":  func() error { return s.Ping(ctx) },
		"Get":   func() error { _, err := s.Get(ctx, storage.DefaultTenant, "User", ana.ID); return err },
		"Token": func() error { _, _, err := s.Token(ctx, "x"); return err },
		"Query": func() error {
			_, err := s.Query(ctx, storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 10})
			return err
		},
		"Groups": func() error { _, err := s.Groups(ctx, storage.DefaultTenant, ana.ID); return err },
		"Write":  func() error { return create(ctx, s, newUser(s, 2, "bob")) },
		"Events": func() error { _, err := s.Events(ctx, storage.DefaultTenant, 0, 10); return err },
	} {
		wg.Go(func() {
			if err := fn(); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s: got %v, want ErrUnavailable", what, err)
			}
		})
	}
	wg.Wait()
	p.Down(false)
	for end := time.Now().Add(time.Minute); ; {
		err := s.Ping(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("Ping still fails: %v", err)
		}
	}
	if err := create(t.Context(), s, newUser(s, 3, "carl")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := s.Get(t.Context(), storage.DefaultTenant, "User", ana.ID); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestSilence: a connection that was being made when everything fell silent never
// comes about, and the driver makes the next one only when it has given that up.
func TestSilence(t *testing.T) {
	p, uri := startProxy(t)
	s := open(t, uri, Options{})
	p.Silence(true)
	p.Drop()
	// Long enough for the driver to notice, and to begin another connection.
	if err := s.Ping(timeout(t, 1500*time.Millisecond)); !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("Ping: got %v, want ErrUnavailable", err)
	}
	p.Silence(false)
	start := time.Now()
	for s.Ping(timeout(t, time.Second)) != nil {
		if time.Since(start) > 2*driverTime {
			t.Fatal("Ping still fails a minute after the silence")
		}
	}
	took := time.Since(start)
	t.Logf("it took %s", took)
	if took >= driverTime {
		t.Errorf("Ping failed for %s after the silence", took)
	}
}

// TestSilenceInQuery: a query that is half read when everything falls silent ends when
// its time is over, although it has a cursor to close.
func TestSilenceInQuery(t *testing.T) {
	p, uri := startProxy(t)
	silence := &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName == "getMore" {
			p.Silence(true)
		}
	}}
	s := open(t, uri, Options{Monitor: silence})
	err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		for i := range 10*scanAtOnce + 1 {
			if err := tx.Create(newUser(s, i, fmt.Sprint("u", i))); err != nil {
				return err
			}
		}
		return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"})
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = s.Query(timeout(t, time.Second), storage.DefaultTenant, storage.Query{Type: "User", SortBy: userType.Lookup("meta.version"), StartIndex: 1, Count: 10})
	if took := time.Since(start); !errors.Is(err, storage.ErrUnavailable) || took >= heartbeat {
		t.Errorf("after %s: %v, want ErrUnavailable after a second", took, err)
	}
	p.Silence(false)
	p.Drop()
}

// timeout is a context with a deadline.
func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestTooExpensive: a query that takes too long is stopped as one, and not when
// its request is over.
func TestTooExpensive(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{})
	s := open(t, server.URI("roster"), Options{})
	q := storage.Query{Type: "User", SortBy: userType.Lookup("title"), StartIndex: 1, Count: 10}
	server.Fail(mongotest.Failure{Command: "find", Times: 1, Code: codeMaxTimeMSExpired})
	if _, err := s.Query(t.Context(), storage.DefaultTenant, q); !errors.Is(err, storage.ErrTooExpensive) {
		t.Errorf("got %v, want ErrTooExpensive", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Query(over, storage.DefaultTenant, q); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a request that is over: got %v, want ErrUnavailable", err)
	}
}

// TestQueriesWithoutAServer: a query that nobody answers is not too expensive, or
// a client would be told that its filter is at fault.
func TestQueriesWithoutAServer(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{})
	s := open(t, server.URI("roster"), Options{QueryTimeout: 200 * time.Millisecond})
	server.Stop()
	ana, err := filter.Parse(`userName eq "ana"`, userType, filter.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []storage.Query{
		{Type: "User", Filter: ana, StartIndex: 1, Count: 10},
		{Type: "User", SortBy: userType.Lookup("title"), StartIndex: 1, Count: 10},
	} {
		if _, err := s.Query(t.Context(), storage.DefaultTenant, q); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%+v: got %v, want ErrUnavailable", q, err)
		}
	}
}

// TestCommitWithoutAClearAnswer: a commit that took effect and was answered with
// any error is never called undone.
func TestCommitWithoutAClearAnswer(t *testing.T) {
	for _, code := range []int32{100, 64, 79, 11601, 8} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			server := mongotest.StartDouble(t, mongotest.Config{})
			var c commits
			s := open(t, server.URI("roster"), Options{Monitor: c.monitor()})
			server.Fail(mongotest.Failure{Command: "commitTransaction", Times: 1000, After: true, Code: code})
			err := c.cutOff(t, func(ctx context.Context) error { return create(ctx, s, newUser(s, 1, "ana")) })
			if !errors.Is(err, storage.ErrOutcomeUnknown) {
				t.Errorf("got %v, want ErrOutcomeUnknown", err)
			}
		})
	}
}

// lost leaves a transaction open that has changed ana, by losing the server in the middle
// of it. It takes the more time for that the busier the machine is.
func lost(t *testing.T, s *Store, ana *storage.Resource, lose func()) {
	t.Helper()
	gone := false
	for d := 300 * time.Millisecond; !gone; d *= 2 {
		err := s.Write(timeout(t, d), storage.DefaultTenant, func(tx storage.Tx) error {
			if err := update(tx, s, ana, "anna"); err != nil {
				return err
			}
			if _, err := tx.Get("User", ana.ID); err != nil { // so that the update is sent
				return err
			}
			gone = true
			lose()
			return nil
		})
		if !errors.Is(err, storage.ErrUnavailable) || d > time.Minute {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
	}
}

// TestLostTransaction: a transaction that was open when all connections were lost
// holds up nobody once the server is back.
func TestLostTransaction(t *testing.T) {
	// It ends none by itself in time.
	p := mongotest.StartProxy(t, &mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Hour}).Server)
	s := open(t, p.URI("roster"), Options{})
	ana := newUser(s, 1, "ana")
	if err := create(t.Context(), s, ana); err != nil {
		t.Fatal(err)
	}
	lost(t, s, ana, func() { p.Down(true) })
	time.Sleep(2500 * time.Millisecond) // an outage longer than the driver tries to abort
	p.Down(false)
	if err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error { return update(tx, s, ana, "anne") }); err != nil {
		t.Errorf("the next write of the resource: %v", err)
	}
}

// TestCloseWithLostTransactions: Close does not wait for the server to come back.
func TestCloseWithLostTransactions(t *testing.T) {
	p, uri := startProxy(t)
	s := open(t, uri, Options{})
	ana := newUser(s, 1, "ana")
	if err := create(t.Context(), s, ana); err != nil {
		t.Fatal(err)
	}
	lost(t, s, ana, func() { p.Silence(true) })
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(start); took >= orphanTime {
		t.Errorf("Close took %s", took)
	}
}
