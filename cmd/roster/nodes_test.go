package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// nodes are processes that share a MongoDB database.
type nodes struct {
	t      *testing.T
	server *mongotest.Server
	// proxy stands between all processes and the server. There is none before a
	// server of several members, whose drivers find their own way.
	proxy *mongotest.Proxy
	uri   string // as the processes have it
	past  string // past the proxy
	token string

	mu   sync.RWMutex
	list []*process // nil for one that is gone
}

func startNodes(t *testing.T, server *mongotest.Server, count int) *nodes {
	t.Helper()
	n := &nodes{t: t, server: server, past: server.URI(server.NewDatabase(t)), list: make([]*process, count)}
	n.uri = n.past
	if server.Kind != mongotest.KindURI {
		n.proxy = mongotest.StartProxy(t, server)
		u, err := url.Parse(n.past)
		if err != nil {
			t.Fatal(err)
		}
		n.uri = n.proxy.URI(u.Path[1:])
	}
	n.token = rosterToken(t, "client", "create", "--store", n.uri, "--name", "load", "--scopes", "users,groups")
	t.Cleanup(func() {
		for _, s := range n.list {
			if s != nil {
				s.kill()
			}
		}
	})
	var g errgroup.Group
	for i := range count {
		g.Go(func() error { return n.start(i) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *nodes) start(i int) error {
	s, err := launch{dir: n.t.TempDir(), env: cleanEnv(), args: []string{"--store", n.uri, "--shutdown-delay", "0s", "--log-level", "warn"}}.start()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list[i] = s
	return nil
}

// pick draws one of the processes that are there.
func (n *nodes) pick(r *rand.Rand) *process {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for {
		if s := n.list[r.IntN(len(n.list))]; s != nil {
			return s
		}
	}
}

// replace kills a process and starts another in its place.
func (n *nodes) replace(i int) error {
	n.mu.Lock()
	s := n.list[i]
	n.list[i] = nil
	n.mu.Unlock()
	if err := s.end(syscall.SIGKILL); err != nil {
		return err
	}
	return n.start(i)
}

// TestNodes starts three servers on one database and sets clients on them who ask
// whichever they like: for names, for the members of one group, for a counter
// under If-Match. Each client does what ROSTER_TEST_NODES says; the time that takes
// does not matter. Meanwhile connections to the database are cut, answers of
// commits are lost, and one of the servers is killed and replaced. Afterwards
// everything has to be as if there had been one server and nothing had failed.
func TestNodes(t *testing.T) {
	t.Parallel()
	size := int(numberFrom(t, "ROSTER_TEST_NODES", 24))
	n := startNodes(t, mongotest.Start(t), 3)
	n.load(size, []func() error{
		n.dropConnections,
		n.loseCommits,
		func() error { return n.replace(2) },
		n.dropConnections,
	})
	t.Run("seen at once", n.seenAtOnce)
	t.Run("revoked", n.revoked)
}

// TestElection is the load of TestNodes while the primary steps down.
func TestElection(t *testing.T) {
	t.Parallel()
	server := mongotest.Start(t)
	if server.Kind != mongotest.KindURI {
		t.Skipf("NOT RUN: elections take a replica set of several members, named by %s", mongotest.EnvURI)
	}
	n := startNodes(t, server, 3)
	stepDown := func() error {
		c, err := driver.Connect(options.Client().ApplyURI(n.past))
		if err != nil {
			return err
		}
		defer func() { _ = c.Disconnect(context.Background()) }()
		return c.Database("admin").RunCommand(t.Context(), bson.D{{Key: "replSetStepDown", Value: 10}}).Err()
	}
	n.load(int(numberFrom(t, "ROSTER_TEST_NODES", 24)), []func() error{stepDown, stepDown})
}

func (n *nodes) dropConnections() error {
	if n.proxy != nil {
		n.proxy.Drop()
	}
	return nil
}

// loseCommits loses the answers to the next commits.
func (n *nodes) loseCommits() error {
	if n.proxy != nil {
		left := 5
		n.proxy.Cut(func(request []byte) bool {
			if left == 0 || !bytes.Contains(request, []byte("commitTransaction")) {
				return false
			}
			left--
			return true
		})
	}
	return nil
}

// load runs the load, with the disturbances spread over it, and checks what came
// of it.
func (n *nodes) load(size int, disturbances []func() error) {
	t := n.t
	book := newLedger()
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	members, counter := n.newMembers(r, book), n.newCounter(r, book)
	names := &nameLoad{histories: newHistories(), prefix: "names", token: n.token, ledger: book, errorf: t.Errorf, pick: n.pick}

	// Three quarters or so of what names do are changes.
	total := int64(nameClients*size*3/4 + memberClients*size + counterClients*size/4)
	var changes atomic.Int64
	step := func() { changes.Add(1) }
	names.step, members.step, counter.step = step, step, step

	over := make(chan struct{})
	var disturbed sync.WaitGroup
	disturbed.Go(func() {
		for i, disturb := range disturbances {
			for changes.Load() < total*int64(i+1)/int64(len(disturbances)+2) {
				select {
				case <-over:
					t.Errorf("the load was over before disturbance %d", i)
					return
				case <-time.After(time.Millisecond):
				}
			}
			if err := disturb(); err != nil {
				t.Error(err)
			}
		}
	})
	trails := n.follow(over)

	began := time.Now()
	var load sync.WaitGroup
	load.Go(func() { names.run(size) })
	load.Go(func() { members.run(size) })
	load.Go(func() { counter.run(max(size/4, 1)) })
	load.Wait()
	took := time.Since(began)
	close(over)
	disturbed.Wait()

	happened := checkTrail(t, trails(), book)
	illegal, err := names.check()
	if err != nil {
		t.Error(err)
	}
	for _, name := range illegal {
		t.Errorf("no order of events explains the history of %s:\n%s", name, names.explain(name))
	}
	members.check(happened)
	counter.check(happened)
	landed := 0
	for request := range book.open {
		if happened[request] {
			landed++
		}
	}
	t.Logf("%d changes acknowledged, %d refused, %d without an answer that says, of which %d were done; "+
		"%d names and no history without an explanation; %d changes under If-Match of which %d were stale; in %s",
		len(book.acked), book.refused, len(book.open), landed, len(names.names)-len(illegal), counter.tried.Load(), counter.stale.Load(), took.Round(time.Millisecond))
}

// send sends a change to any of the processes and notes what is known of it.
// Status 0 is no answer, or 503.
func (n *nodes) send(r *rand.Rand, book *ledger, method, path, body, request, action string, expected []int, header ...string) int {
	res, answer, err := n.pick(r).do(method, path, n.token, body, append(header, "X-Request-Id", request)...)
	switch {
	case err != nil:
	case res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "":
	case !slices.Contains(expected, res.StatusCode):
		n.t.Errorf("%s %s %s answered %s %s; want one of %d", method, path, body, res.Status, answer, expected)
	case res.StatusCode < 300:
		book.note(request, action, done)
		return res.StatusCode
	default:
		book.note(request, action, refused)
		return res.StatusCode
	}
	book.note(request, action, unknown)
	return 0
}

// create makes a resource and returns its id. Nothing is wrong yet when it is used.
func (n *nodes) create(r *rand.Rand, book *ledger, path, action, body string) string {
	n.t.Helper()
	request := fmt.Sprintf("setup-%d", len(book.acked))
	res, answer, err := n.pick(r).do("POST", path, n.token, body, "X-Request-Id", request)
	if err != nil || res.StatusCode != http.StatusCreated {
		n.t.Fatalf("POST %s: %v %s", path, err, answer)
	}
	book.note(request, action, done)
	var created resource
	if err := json.Unmarshal([]byte(answer), &created); err != nil {
		n.t.Fatal(err)
	}
	return created.ID
}

// read reads a resource from any process.
func (n *nodes) read(r *rand.Rand, path string) (got resource, ok bool) {
	res, answer, err := n.pick(r).do("GET", path, n.token, "")
	if err != nil || res.StatusCode == http.StatusServiceUnavailable {
		return got, false
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil || res.StatusCode != http.StatusOK {
		n.t.Errorf("GET %s answered %s %s", path, res.Status, answer)
		return got, false
	}
	return got, true
}

const (
	memberClients  = 16
	usersOfEach    = 3
	counterClients = 32
)

// memberLoad is clients that put users of their own into one group, and take them
// out.
type memberLoad struct {
	n     *nodes
	book  *ledger
	group string
	users [memberClients][usersOfEach]string
	step  func()

	mu    sync.Mutex
	moves []move
}

// move is a change of one membership. Those of one user are in order.
type move struct {
	request, user string
	in            bool
}

func (n *nodes) newMembers(r *rand.Rand, book *ledger) *memberLoad {
	n.t.Helper()
	m := &memberLoad{n: n, book: book}
	m.group = n.create(r, book, "/Groups", "group.create", groupBody("crew"))
	for i := range m.users {
		for j := range m.users[i] {
			name := fmt.Sprintf("member-%d-%d", i, j)
			m.users[i][j] = n.create(r, book, "/Users", "user.create", userBody(name, name))
		}
	}
	return m
}

func (m *memberLoad) run(each int) {
	var wg sync.WaitGroup
	for c := range m.users {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), uint64(c)))
			users, in := m.users[c][:], map[string]bool{}
			for i := range each {
				if len(users) == 0 {
					return
				}
				u := users[r.IntN(len(users))]
				body := patchBody(adding([]*user{{id: u}}))
				if in[u] {
					body = patchBody(removing([]*user{{id: u}})...)
				}
				request := fmt.Sprintf("members-%d-%d", c, i)
				m.step()
				m.note(move{request, u, !in[u]})
				if m.n.send(r, m.book, "PATCH", "/Groups/"+m.group, body, request, "group.patch", []int{200, 204}) == 0 {
					// Whether it is a member only the audit trail knows. A change that
					// changes nothing is not in there, so this one is left alone.
					users = slices.DeleteFunc(slices.Clone(users), func(id string) bool { return id == u })
					continue
				}
				in[u] = !in[u]
			}
		})
	}
	wg.Wait()
}

func (m *memberLoad) note(v move) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moves = append(m.moves, v)
}

// check: the members are those of the changes that happened, whichever process is
// asked.
func (m *memberLoad) check(happened map[string]bool) {
	want := map[string]bool{}
	for _, v := range m.moves {
		if happened[v.request] && v.in {
			want[v.user] = true
		} else if happened[v.request] {
			delete(want, v.user)
		}
	}
	for i, s := range m.n.list {
		var g resource
		res, answer, err := s.do("GET", "/Groups/"+m.group, m.n.token, "")
		if err == nil {
			err = json.Unmarshal([]byte(answer), &g)
		}
		if err != nil || res.StatusCode != http.StatusOK {
			m.n.t.Errorf("GET of the group: %v %s", err, answer)
			continue
		}
		got := map[string]bool{}
		for _, v := range g.Members {
			got[v.Value] = true
		}
		if len(got) != len(g.Members) || !maps.Equal(got, want) {
			m.n.t.Errorf("process %d: the group has %d members, %v; want %d, %v", i, len(g.Members), got, len(want), want)
		}
	}
}

// counterLoad is clients that read a number and write it back one higher, if it
// still is what they read.
type counterLoad struct {
	n            *nodes
	book         *ledger
	user         string
	step         func()
	tried, stale atomic.Int64
}

func (n *nodes) newCounter(r *rand.Rand, book *ledger) *counterLoad {
	n.t.Helper()
	return &counterLoad{n: n, book: book, user: n.create(r, book, "/Users", "user.create", userBody("counter", "0"))}
}

func (c *counterLoad) run(each int) {
	var wg sync.WaitGroup
	for i := range counterClients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), uint64(i)))
			for j := range each {
				u, ok := c.n.read(r, "/Users/"+c.user)
				if !ok {
					continue
				}
				count, err := strconv.Atoi(u.Title)
				if err != nil {
					c.n.t.Error(err)
					return
				}
				c.step()
				c.tried.Add(1)
				body := patchBody(object{"op": "replace", "path": "title", "value": strconv.Itoa(count + 1)})
				status := c.n.send(r, c.book, "PATCH", "/Users/"+c.user, body, fmt.Sprintf("counter-%d-%d", i, j), "user.patch", []int{200, 412}, "If-Match", u.Meta.Version)
				if status == 412 {
					c.stale.Add(1)
				}
			}
		})
	}
	wg.Wait()
}

// check: the counter counts exactly the changes that happened.
func (c *counterLoad) check(happened map[string]bool) {
	want := 0
	for i := range counterClients {
		for j := range int(c.tried.Load()) {
			if happened[fmt.Sprintf("counter-%d-%d", i, j)] {
				want++
			}
		}
	}
	u, ok := c.n.read(rand.New(rand.NewPCG(0, 0)), "/Users/"+c.user)
	if !ok || u.Title != strconv.Itoa(want) || u.version() != int64(want)+1 {
		c.n.t.Errorf("the counter is %s in version %d after %d changes", u.Title, u.version(), want)
	}
	if want == 0 {
		c.n.t.Error("nobody ever counted")
	}
}

// follow reads the audit trail with two readers while it is written, and with one
// more when over, and returns a function that waits for what each of them saw.
// The readers are not behind the proxy: the disturbances are not for them.
func (n *nodes) follow(over <-chan struct{}) func() [][]storage.AuditEntry {
	n.t.Helper()
	var trails [3][]storage.AuditEntry
	var wg sync.WaitGroup
	for i := range trails {
		s, err := mongo.Open(n.t.Context(), n.past, mongo.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			n.t.Fatal(err)
		}
		wg.Go(func() {
			defer s.Close()
			last := int64(0)
			for ended := false; ; {
				if i == len(trails)-1 {
					<-over
				}
				select {
				case <-over:
					ended = true
				case <-time.After(10 * time.Millisecond):
				}
				list, err := s.AuditEntries(n.t.Context(), storage.DefaultTenant, last, 100)
				if err != nil {
					n.t.Errorf("reading the audit trail: %v", err)
					return
				}
				if len(list) == 0 && ended {
					return
				}
				if len(list) > 0 {
					last = list[len(list)-1].Seq
				}
				trails[i] = append(trails[i], list...)
			}
		})
	}
	return func() [][]storage.AuditEntry {
		wg.Wait()
		return trails[:]
	}
}

// checkTrail holds what readers saw of the audit trail against each other and
// against what the clients know, and returns the requests that happened.
func checkTrail(t *testing.T, trails [][]storage.AuditEntry, book *ledger) map[string]bool {
	t.Helper()
	trail := trails[0]
	for i, other := range trails[1:] {
		if !slices.EqualFunc(trail, other, func(a, b storage.AuditEntry) bool {
			return a.Seq == b.Seq && a.RequestID == b.RequestID && a.ID == b.ID
		}) {
			t.Errorf("reader %d saw another audit trail than reader 0: %s", i+1, cmp.Diff(trail, other))
		}
	}
	happened, versions := map[string]bool{}, map[string]int64{}
	for i, e := range trail {
		if e.Seq != int64(i)+1 {
			t.Errorf("the audit trail has the number %d in place %d", e.Seq, i+1)
		}
		if e.Type == "Client" {
			continue
		}
		want := versions[e.ID] + 1
		if e.Action == "user.delete" {
			want-- // it deletes that version and makes none
		}
		if e.Version != want {
			t.Errorf("%s of %s has version %d after version %d", e.Action, e.ID, e.Version, versions[e.ID])
		}
		versions[e.ID] = e.Version
		if happened[e.RequestID] {
			t.Errorf("request %s has two audit entries", e.RequestID)
		}
		happened[e.RequestID] = true
		switch e.Action {
		case book.acked[e.RequestID], book.open[e.RequestID]:
		default:
			t.Errorf("there is an audit entry of %s (request %s), which was refused or never asked for", e.Action, e.RequestID)
		}
	}
	for request, action := range book.acked {
		if !happened[request] {
			t.Errorf("%s (request %s) was acknowledged and has no audit entry", action, request)
		}
	}
	return happened
}

// seenAtOnce: what one process has acknowledged the others know.
func (n *nodes) seenAtOnce(t *testing.T) {
	for round := range 6 {
		at := func(i int) *process { return n.list[(round+i)%len(n.list)] }
		name := fmt.Sprintf("leaver-%d@example.com", round)
		res, answer, err := at(0).do("POST", "/Users", n.token, userBody(name, name))
		var u resource
		if err == nil {
			err = json.Unmarshal([]byte(answer), &u)
		}
		if err != nil || res.StatusCode != http.StatusCreated {
			t.Fatalf("POST: %v %s", err, answer)
		}
		find := func(i int) (found struct {
			TotalResults int
			Resources    []struct{ Active bool }
		}) {
			res, answer, err := at(i).do("GET", "/Users?filter="+url.QueryEscape(fmt.Sprintf("userName eq %q", name)), n.token, "")
			if err == nil {
				err = json.Unmarshal([]byte(answer), &found)
			}
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("GET: %v %s", err, answer)
			}
			return found
		}
		for _, active := range []bool{true, false} {
			if err := at(1).expect(http.StatusOK, "PATCH", "/Users/"+u.ID, n.token, patchBody(object{"op": "replace", "path": "active", "value": active})); err != nil {
				t.Fatal(err)
			}
			for i := range n.list {
				if found := find(i); found.TotalResults != 1 || found.Resources[0].Active != active {
					t.Errorf("active was set to %t by one process, and another finds %+v", active, found)
				}
			}
		}
		if err := at(2).expect(http.StatusNoContent, "DELETE", "/Users/"+u.ID, n.token, ""); err != nil {
			t.Fatal(err)
		}
		for i := range n.list {
			if found := find(i); found.TotalResults != 0 {
				t.Errorf("a user deleted by one process is found by another: %+v", found)
			}
			if err := at(i).expect(http.StatusNotFound, "GET", "/Users/"+u.ID, n.token, ""); err != nil {
				t.Error(err)
			}
		}
	}
}

// revoked: no process lets a token in that was revoked a second ago. The time of
// a request is when it was sent, so a slow machine makes the test no harder.
func (n *nodes) revoked(t *testing.T) {
	for round := range 3 {
		name := fmt.Sprintf("doomed-%d", round)
		token := rosterToken(t, "client", "create", "--store", n.uri, "--name", name, "--scopes", "users")
		var at atomic.Int64 // when it was revoked
		var wg sync.WaitGroup
		var last, warm [3]atomic.Int64 // what was let in: the last of it, and how much
		began := time.Now()
		for i, s := range n.list {
			wg.Go(func() {
				for {
					sent, known := time.Since(began), at.Load()
					res, _, err := s.do("GET", "/Users/"+name, token, "")
					switch {
					case err != nil:
						t.Error(err)
						return
					case res.StatusCode == http.StatusNotFound:
						warm[i].Add(1)
						last[i].Store(int64(sent))
						if known != 0 && sent-time.Duration(known) > time.Second {
							t.Errorf("process %d let a token in %s after it was revoked", i, sent-time.Duration(known))
							return
						}
					case res.StatusCode == http.StatusUnauthorized && known != 0:
						return
					case res.StatusCode == http.StatusUnauthorized && at.Load() == 0 && warm[i].Load() == 0:
						t.Errorf("process %d did not let a new token in", i)
						return
					}
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
		for i := range warm {
			if err := eventually(func() error {
				if warm[i].Load() < 3 && !t.Failed() {
					return fmt.Errorf("process %d lets nobody in", i)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
		roster(t, "client", "revoke", "--store", n.uri, name)
		at.Store(int64(time.Since(began)))
		wg.Wait()
		for i := range last {
			t.Logf("process %d let the token in until %s after the command", i, max(0, time.Duration(last[i].Load()-at.Load())).Round(time.Millisecond))
		}
	}
}
