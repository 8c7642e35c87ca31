package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/roster-id/roster/storage/mongo/mongotest"
)

const (
	// promised is how long it may take until readiness follows the database, where that is
	// measured: with ROSTER_TEST_NODES.
	promised = 5 * time.Second
	// requestTime is the deadline of a request.
	requestTime = 30 * time.Second
	// cacheTime is for how long a token that was found good may be let in unseen.
	cacheTime = 500 * time.Millisecond

	outageClients = 8
	// warmRequests is how many requests there are at once before the outages, more than ever
	// afterwards.
	warmRequests = 64
)

// outageTest is a server whose database comes and goes.
type outageTest struct {
	*nodes
	double  *mongotest.Double
	process *process
	book    *ledger
	over    atomic.Bool

	mu      sync.Mutex
	running map[*probe]bool // requests without an answer
	figures figures         // of the present outage
	// fault and healed are when the present outage began and ended.
	fault, healed time.Time
	total         bool // nothing can be known while it lasts
}

// probe is a request.
type probe struct{ sent time.Time }

type figures struct {
	ok, unavailable, unknown int
	slowest                  time.Duration
}

// TestOutages lets clients work while the connections to the database are cut,
// answers are lost, and the server stops, is slow, and is silent, and looks at
// all that a server says meanwhile: whatever is not 503 has to be true, also
// about what an earlier 503 left open.
//
// It runs on the double, because it has to stop the server and to stand between
// it and the driver.
func TestOutages(t *testing.T) {
	t.Parallel()
	double := mongotest.StartDouble(t, mongotest.Config{})
	o := &outageTest{nodes: startNodes(t, &double.Server, 1), double: double, book: newLedger(), running: map[*probe]bool{}}
	o.process = o.list[0]
	o.process.client.Timeout = requestTime + patience

	o.warmUp()
	goroutines, connections := o.level()
	var wg sync.WaitGroup
	for n := range outageClients {
		wg.Go(func() { o.work(n) })
	}
	wg.Go(o.live)
	wg.Go(o.knock)

	o.outage("connections are cut", 2*time.Second, false, func() func() {
		stop := make(chan struct{})
		go func() {
			for {
				o.proxy.Drop()
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		}()
		return func() { close(stop) }
	})
	o.outage("one answer in five is lost", 2*time.Second, false, func() func() {
		o.proxy.Cut(func(request []byte) bool {
			return rand.IntN(5) == 0 && slices.ContainsFunc([]string{"commitTransaction", "insert", "update", "find"}, func(c string) bool {
				return bytes.Contains(request, []byte(c))
			})
		})
		return func() { o.proxy.Cut(nil) }
	})
	o.outage("the server is stopped", 6*time.Second, true, func() func() {
		double.Stop()
		return func() { double.Restart(t) }
	})
	o.outage("answers take 2.5 s", 3*time.Second, false, func() func() {
		o.proxy.Delay(2500 * time.Millisecond)
		return func() { o.proxy.Delay(0) }
	})
	o.outage("silence", 5*time.Second, true, func() func() {
		o.proxy.Silence(true)
		return func() { o.proxy.Silence(false) }
	})

	o.over.Store(true)
	wg.Wait()
	over := make(chan struct{})
	trails := o.follow(over)
	close(over)
	happened := checkTrail(t, trails(), o.book)
	landed := 0
	for request := range o.book.open {
		if happened[request] {
			landed++
		}
	}
	t.Logf("%d changes acknowledged, %d of unknown outcome, of which %d were done", len(o.book.acked), len(o.book.open), landed)
	err := eventually(func() error {
		g, c := o.level()
		if g > goroutines+goroutines/20+2 || c > max(connections, warmRequests) { // fewer were needed at once where the server is slow
			return fmt.Errorf("there are %d goroutines and %d connections to the database; before there were %d and %d", g, c, goroutines, connections)
		}
		t.Logf("%d goroutines and %d connections to the database, after %d and %d before the outages", g, c, goroutines, connections)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// warmUp makes as many connections to the database as the load may ever use at
// once.
func (o *outageTest) warmUp() {
	o.proxy.Delay(20 * time.Millisecond)
	defer o.proxy.Delay(0)
	var wg sync.WaitGroup
	for range warmRequests {
		wg.Go(func() {
			for range 4 {
				if err := o.process.expect(http.StatusNotFound, "GET", "/Users/nobody", o.token, ""); err != nil {
					o.t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

var goroutinesMetric = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

// level is what the server holds while nobody asks for anything.
func (o *outageTest) level() (goroutines, connections int) {
	o.t.Helper()
	o.process.client.CloseIdleConnections()
	time.Sleep(50 * time.Millisecond)
	_, metrics, err := o.process.do("GET", o.process.ops+"/metrics", "", "")
	m := goroutinesMetric.FindStringSubmatch(metrics)
	if err != nil || m == nil {
		o.t.Fatalf("GET /metrics: %v %s", err, metrics)
	}
	goroutines, _ = strconv.Atoi(m[1])
	return goroutines, o.proxy.Connections()
}

// outage lets something go wrong for a while and says how the server took it.
func (o *outageTest) outage(what string, lasts time.Duration, total bool, begin func() (end func())) {
	o.t.Helper()
	if o.t.Failed() {
		return
	}
	o.mu.Lock()
	o.healed, o.total, o.figures = time.Time{}, false, figures{}
	o.mu.Unlock()
	end := begin()
	o.mu.Lock()
	o.fault, o.total = time.Now(), total // it has begun
	fault := o.fault
	o.mu.Unlock()
	unready := time.Duration(0)
	for time.Since(fault) < lasts || total && unready == 0 {
		if res, _, err := o.process.do("GET", o.process.ops+"/readyz", "", ""); err != nil {
			o.t.Errorf("%s: GET /readyz: %v", what, err)
		} else if res.StatusCode == http.StatusServiceUnavailable && unready == 0 {
			unready = time.Since(fault)
		}
		if time.Since(fault) > patience {
			o.t.Errorf("%s: the server is ready all the same", what)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	o.mu.Lock()
	o.healed = time.Now() // before its end, of which a client may know first
	healed := o.healed
	o.mu.Unlock()
	end()
	err := eventually(func() error { return o.process.expect(http.StatusOK, "GET", o.process.ops+"/readyz", "", "") })
	ready := time.Since(healed)
	if err != nil {
		o.t.Errorf("%s: afterwards the server was not ready: %v", what, err)
	}
	err = eventually(func() error {
		return o.process.expect(http.StatusNotFound, "GET", "/Users/nobody", o.token, "")
	})
	serves := time.Since(healed)
	if err != nil {
		o.t.Errorf("%s: afterwards the server did not serve: %v", what, err)
	}
	if late := max(unready, ready, serves); late > promised && os.Getenv("ROSTER_TEST_NODES") != "" {
		o.t.Errorf("%s: readiness followed after %s", what, late)
	}
	// What was sent before is answered, one way or another.
	for time.Since(healed) < requestTime+patience && o.oldest().Before(healed) {
		time.Sleep(20 * time.Millisecond)
	}
	settled := time.Since(healed)
	o.mu.Lock()
	f := o.figures
	o.mu.Unlock()
	said := "never"
	if unready > 0 {
		said = "after " + unready.Round(time.Millisecond).String()
	}
	o.t.Logf("%s, for %s: not ready %s; ready again after %s and serving after %s; the last old request was answered after %s; "+
		"%d good answers, %d 503, of which %d left the outcome open; the slowest answer took %s",
		what, lasts, said, ready.Round(time.Millisecond), serves.Round(time.Millisecond), settled.Round(time.Millisecond),
		f.ok, f.unavailable, f.unknown, f.slowest.Round(time.Millisecond))
}

// oldest is when the oldest request without an answer was sent.
func (o *outageTest) oldest() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	oldest := time.Now()
	for p := range o.running {
		if p.sent.Before(oldest) {
			oldest = p.sent
		}
	}
	return oldest
}

// live: whatever the database does, the process lives.
func (o *outageTest) live() {
	for !o.over.Load() {
		if err := o.process.expect(http.StatusOK, "GET", o.process.ops+"/healthz", "", ""); err != nil {
			o.t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// knock asks for what needs a token and no database.
func (o *outageTest) knock() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for !o.over.Load() {
		wg.Go(func() { o.ask("GET", "/ServiceProviderConfig", "", "", 200) })
		time.Sleep(200 * time.Millisecond)
	}
}

// ask sends a request and checks all that must hold of any answer: it comes, and
// it is the expected one or 503. Status 0 is 503; then changed reports
// whether the answer leaves open that something was changed.
func (o *outageTest) ask(method, path, body, request string, expected ...int) (status int, answer string, changed bool) {
	p := &probe{time.Now()}
	o.mu.Lock()
	o.running[p] = true
	o.mu.Unlock()
	res, answer, err := o.process.do(method, path, o.token, body, "X-Request-Id", request)
	answered := time.Now()
	took := answered.Sub(p.sent)

	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.running, p)
	o.figures.slowest = max(o.figures.slowest, took)
	switch {
	case err != nil:
		o.t.Errorf("%s %s: %v", method, path, err)
		return 0, "", false
	case res.StatusCode == http.StatusServiceUnavailable:
		o.figures.unavailable++
		if res.Header.Get("Retry-After") == "" {
			o.t.Errorf("%s %s: 503 without Retry-After", method, path)
		}
		changed = !strings.Contains(answer, "nothing was changed")
		if changed {
			o.figures.unknown++
		}
		return 0, answer, changed
	case !slices.Contains(expected, res.StatusCode):
		o.t.Errorf("%s %s %s (request %s) answered %s %s; want one of %d, or 503", method, path, body, request, res.Status, answer, expected)
	case o.total && p.sent.Sub(o.fault) > cacheTime && (o.healed.IsZero() || answered.Before(o.healed)):
		o.t.Errorf("%s %s was answered %s, %s after the database was lost", method, path, res.Status, p.sent.Sub(o.fault))
	default:
		o.figures.ok++
	}
	return res.StatusCode, answer, false
}

// outageClient is a client with users of its own.
type outageClient struct {
	*outageTest
	n, requests int
	rand        *rand.Rand
	users       map[string]*user // by id
}

// work does one thing after another.
func (o *outageTest) work(n int) {
	c := &outageClient{outageTest: o, n: n, rand: rand.New(rand.NewPCG(rand.Uint64(), uint64(n))), users: map[string]*user{}}
	for i := 0; !o.over.Load() && !o.t.Failed(); i++ {
		ids := slices.Collect(maps.Keys(c.users))
		switch lot := c.rand.IntN(100); {
		case len(ids) < 3 || lot < 20 && len(ids) < 12:
			c.create(fmt.Sprintf("user-%d-%d", n, i))
		case lot < 45:
			c.read(c.users[ids[c.rand.IntN(len(ids))]])
		case lot < 55:
			c.ask("GET", "/Users/"+uuid.NewString(), "", "", 404)
		case lot < 65:
			c.ask("POST", "/Users", userBody(c.users[ids[0]].name, "x"), c.request(), 409)
		case lot < 85:
			c.patch(c.users[ids[c.rand.IntN(len(ids))]], fmt.Sprintf("mark-%d", i))
		default:
			c.delete(c.users[ids[0]])
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, u := range c.users {
		c.read(u)
	}
}

func (c *outageClient) request() string {
	c.requests++
	return fmt.Sprintf("outage-%d-%d", c.n, c.requests)
}

// change asks for a change until it is known to have been made. Once an answer has
// left open whether it was, the answers to one made before are expected too.
func (c *outageClient) change(method, path, body, action string, expected int, before ...int) (status int, answer string) {
	want := []int{expected}
	open := false
	for {
		request := c.request()
		status, answer, changed := c.ask(method, path, body, request, want...)
		switch {
		case status == expected && open && method == http.MethodPatch:
			// If the one before was made after all, this one had nothing left to change,
			// and no change has no entry in the audit trail.
			c.book.note(request, action, unknown)
			return status, answer
		case status == expected:
			c.book.note(request, action, done)
			return status, answer
		case status != 0 || c.t.Failed():
			return status, answer
		case changed:
			c.book.note(request, action, unknown)
			open = true
			want = append([]int{expected}, before...)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *outageClient) create(name string) {
	u := &user{name: name, mark: name}
	status, answer := c.change("POST", "/Users", userBody(name, name), "user.create", 201, 409)
	var r resource
	switch status {
	case 201:
		if err := json.Unmarshal([]byte(answer), &r); err != nil {
			c.t.Errorf("POST answered %q: %v", answer, err)
		}
	case 409: // it was made by a request whose answer did not say so
		r = c.find(name)
	}
	if r.ID != "" {
		u.id = r.ID
		c.users[u.id] = u
	}
}

// find returns the one user of a name.
func (c *outageClient) find(name string) (r resource) {
	for !c.t.Failed() {
		status, answer, _ := c.ask("GET", "/Users?filter="+url.QueryEscape(fmt.Sprintf("userName eq %q", name)), "", "", 200)
		if status != 200 {
			continue
		}
		var l list
		if err := json.Unmarshal([]byte(answer), &l); err != nil || len(l.Resources) != 1 {
			c.t.Errorf("there are %d users called %s: %v", len(l.Resources), name, err)
			return r
		}
		return l.Resources[0]
	}
	return r
}

func (c *outageClient) read(u *user) {
	status, answer, _ := c.ask("GET", "/Users/"+u.id, "", "", 200)
	if status != 200 {
		return
	}
	var r resource
	if err := json.Unmarshal([]byte(answer), &r); err != nil || r.Title != u.mark || r.UserName != u.name {
		c.t.Errorf("the user %s is %s with the title %s, want %s: %v", u.name, r.UserName, r.Title, u.mark, err)
	}
}

func (c *outageClient) patch(u *user, mark string) {
	if status, _ := c.change("PATCH", "/Users/"+u.id, patchBody(object{"op": "replace", "path": "title", "value": mark}), "user.patch", 200); status == 200 {
		u.mark = mark
	}
}

func (c *outageClient) delete(u *user) {
	if status, _ := c.change("DELETE", "/Users/"+u.id, "", "user.delete", 204, 404); status == 0 {
		return
	}
	delete(c.users, u.id)
	c.ask("GET", "/Users/"+u.id, "", "", 404)
}

// TestUnknownOutcome: the answers to commits are lost for as long as requests
// last. Nobody can know then, and nobody claims to; trying again finds out.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	double := mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Minute, LockWait: time.Second})
	n := startNodes(t, &double.Server, 1)
	s, r, book := n.list[0], rand.New(rand.NewPCG(0, 0)), newLedger()
	s.client.Timeout = requestTime + patience
	type change struct {
		method, path, body, action string
		first, again               int // the answers when it is made, and when it has been
	}
	group := n.create(r, book, "/Groups", "group.create", groupBody("crew"))
	ana := n.create(r, book, "/Users", "user.create", userBody("ana", "ana"))
	bob := n.create(r, book, "/Users", "user.create", userBody("bob", "bob"))
	changes := []change{
		{"PATCH", "/Groups/" + group, patchBody(adding([]*user{{id: ana}})), "group.patch", 200, 200},
		{"DELETE", "/Users/" + bob, "", "user.delete", 204, 404},
	}
	for i := range 8 { // so many that they empty the pool of connections under each other
		name := fmt.Sprint("dora-", i)
		changes = append(changes, change{"POST", "/Users", userBody(name, name), "user.create", 201, 409})
	}
	n.proxy.Cut(func(request []byte) bool { return bytes.Contains(request, []byte("commitTransaction")) })
	began := time.Now()
	var open atomic.Int64
	var wg sync.WaitGroup
	for i, c := range changes {
		wg.Go(func() {
			request := fmt.Sprintf("lost-%d", i)
			res, answer, err := s.do(c.method, c.path, n.token, c.body, "X-Request-Id", request)
			if err != nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
				t.Errorf("%s %s: %v %s; want 503", c.method, c.path, err, answer)
				return
			}
			o := refused
			if strings.Contains(answer, "is not known") {
				o = unknown
				open.Add(1)
			}
			book.note(request, c.action, o)
		})
	}
	wg.Wait()
	slowest := time.Since(began)
	n.proxy.Cut(nil)
	over := make(chan struct{})
	close(over)
	happened := checkTrail(t, n.follow(over)(), book) // not what was said to have changed nothing
	for i, c := range changes {
		want := c.first
		if happened[fmt.Sprintf("lost-%d", i)] {
			want = c.again
		}
		if err := s.expect(want, c.method, c.path, n.token, c.body); err != nil {
			t.Error(err)
		}
	}
	if open.Load() == 0 || !happened["lost-0"] && !happened["lost-1"] && !happened["lost-2"] {
		t.Error("nothing was committed without anybody knowing, so this has shown nothing")
	}
	t.Logf("%d of %d changes left the outcome open, after %s at most; all were found out by trying again",
		open.Load(), len(changes), slowest.Round(time.Millisecond))
}
