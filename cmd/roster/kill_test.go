package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	sqlitedriver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

const (
	killWorkers  = 8
	killGroups   = 3  // that all workers share
	killUsers    = 24 // of one worker; beyond that it deletes
	patchOpURI   = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	killActor    = "client:"
	killPageSize = 37 // of lists: no divisor of anything
)

// TestKill kills the server in the middle of a load, restarts it on what is left,
// and looks for what should not have been lost; again and again, eight times or
// as often as ROSTER_TEST_KILLS says. It prints a seed, which ROSTER_TEST_SEED
// takes to draw the same lots again.
//
// Each worker has users of its own and one thing in hand at a time, so there is
// one who knows how a user is: as the last acknowledged change left it. A change
// whose answer was not read to its end is in flight, and may have happened or
// not. Which of the two, the audit trail must know: each request goes out under
// an id that its audit entry bears. Once what was in flight has been decided by
// that, the directory has to be exactly what the workers know, which leaves room
// neither for a change without its audit entry nor for half a change.
func TestKill(t *testing.T) {
	cycles := 8
	if s := os.Getenv("ROSTER_TEST_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("ROSTER_TEST_KILLS is %q", s)
		}
		cycles = n
	}
	seed := rand.Uint64()
	if s := os.Getenv("ROSTER_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("ROSTER_TEST_SEED is %q", s)
		}
		seed = n
	}
	t.Logf("seed %d", seed)

	k := newKillTest(t, seed)
	for cycle := 1; cycle <= cycles && !t.Failed(); cycle++ {
		k.load(cycle)
		k.autopsy()
		k.restart()
		k.compare()
	}
	k.finish()
	slices.Sort(k.readyAfter)
	t.Logf("%d kills, %d operations: %d acknowledged, %d refused, %d in flight (%d of them done); %d lost, %d half done, %d without audit entry or event; ready again after %v at most, p99 %v; seed %d",
		k.kills, k.acked+k.refused+k.inFlight, k.acked, k.refused, k.inFlight, k.landed, k.lost, k.half, k.unaudited,
		k.readyAfter[len(k.readyAfter)-1].Round(time.Millisecond), k.readyAfter[(len(k.readyAfter)*99+99)/100-1].Round(time.Millisecond), seed)
}

// killTest is the server and everything the workers know.
type killTest struct {
	t       *testing.T
	rand    *rand.Rand
	bin     string
	dir     string // the store's
	token   string
	server  *process
	workers []*worker
	groups  []*group // the shared ones, then those of the workers

	// done are all changes that must have an audit entry, by request id.
	done map[string]*change
	// taken are the names of users that were given up, to be found by nobody
	// unless somebody has taken them again.
	gone, goneNow []*user
	oldNames      []string

	kills, acked, refused, inFlight, landed int
	lost, half, unaudited                   int
	readyAfter                              []time.Duration
}

// user is one that a worker made.
type user struct {
	id, name string
	mark     string // stands in several attributes, which change together
	version  int64
	groups   map[*group]bool
}

// group is one whose members come from all workers or from one.
type group struct {
	id    string
	mark  string // as in user; never changes in a shared group
	bumps int64  // versions that came from deleted members, which has no entry of its own
}

// change is something a worker asks for.
type change struct {
	request string // its id
	action  string // as the audit trail calls it
	id      string // of the resource; learnt from the answer when it is created
	method  string
	path    string
	body    string
	refused int // the status, if it must be refused
	// did makes the workers know that it happened.
	did func(c *change)
	// check looks at the answer.
	check func(c *change, r resource) error
}

// worker does one thing after another. Only its own goroutine uses it while the
// load runs.
type worker struct {
	k       *killTest
	n       int
	rand    *rand.Rand
	own     *group
	users   []*user
	free    []string // names of deleted users, to be taken again
	marks   int
	pending *change // the change in flight when the server died

	acked   []*change
	refused int
}

func newKillTest(t *testing.T, seed uint64) *killTest {
	k := &killTest{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), bin: filepath.Join(t.TempDir(), "roster"), dir: t.TempDir(),
		done: map[string]*change{},
	}
	if out, err := exec.Command("go", "build", "-o", k.bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.Command(k.bin, "client", "create", "--store", k.dir, "--name", "load", "--scopes", "users,groups").Output()
	if err != nil {
		t.Fatal(err)
	}
	k.token = strings.TrimSpace(string(out))
	k.start()
	t.Cleanup(func() { k.server.kill() })
	for n := range killGroups + killWorkers {
		g := &group{mark: fmt.Sprintf("group-%d", n)}
		c := &change{request: g.mark, action: "group.create", method: "POST", path: "/Groups", body: groupBody(g.mark)}
		r, err := k.send(c)
		if err != nil {
			t.Fatal(err)
		}
		g.id, c.id = r.ID, r.ID
		k.done[c.request] = c
		k.groups = append(k.groups, g)
	}
	for n := range killWorkers {
		k.workers = append(k.workers, &worker{k: k, n: n, rand: rand.New(rand.NewPCG(seed, uint64(n+1))), own: k.groups[killGroups+n]})
	}
	return k
}

func (k *killTest) start() {
	k.t.Helper()
	s, err := launch{
		bin: k.bin, dir: k.t.TempDir(), env: cleanEnv(),
		args: []string{"--store", k.dir, "--log-level", "warn", "--shutdown-delay", "0s"},
	}.start()
	if err != nil {
		k.t.Fatal(err)
	}
	k.server = s
}

// load runs the workers until the server is killed under them.
func (k *killTest) load(cycle int) {
	var over atomic.Bool
	var wg sync.WaitGroup
	for _, w := range k.workers {
		wg.Go(func() { w.work(cycle, &over) })
	}
	time.Sleep(30*time.Millisecond + time.Duration(k.rand.Int64N(int64(120*time.Millisecond))))
	if err := k.server.end(syscall.SIGKILL); err != nil {
		k.t.Error(err)
	}
	over.Store(true)
	wg.Wait()
	k.kills++
	if text := k.server.printed(k.server.stderr); text != "" {
		k.t.Errorf("the server had something to say:\n%s", text)
	}
	for _, w := range k.workers {
		k.acked += len(w.acked)
		k.refused += w.refused
		for _, c := range w.acked {
			k.done[c.request] = c
		}
		w.acked, w.refused = nil, 0
		if w.pending != nil {
			k.inFlight++
		}
	}
}

func (w *worker) work(cycle int, over *atomic.Bool) {
	for i := 0; !over.Load(); i++ {
		c := w.next()
		c.request = fmt.Sprintf("kill-%d-%d-%d", cycle, w.n, i)
		r, err := w.k.send(c)
		if _, ok := err.(unexpectedError); ok {
			w.k.t.Errorf("%s %s: %v", c.method, c.path, err)
			return
		}
		switch {
		case err != nil:
			if c.refused == 0 { // what cannot happen is not in flight
				w.pending = c
			}
			return
		case c.refused != 0:
			w.refused++
			continue
		}
		if c.id == "" {
			c.id = r.ID
		}
		c.did(c)
		w.acked = append(w.acked, c)
		if c.check != nil {
			if err := c.check(c, r); err != nil {
				w.k.t.Errorf("%s %s: the answer has %v", c.method, c.path, err)
			}
		}
	}
}

// resource is a user or group as it comes over the wire.
type resource struct {
	ID          string
	UserName    string
	Title       string
	DisplayName string
	NickName    string
	ExternalID  string
	Emails      []struct{ Value string }
	Members     []struct{ Value string }
	Groups      []struct{ Value, Type string }
	Meta        struct{ Version string }
}

// version is that of the resource's own attributes.
func (r resource) version() int64 {
	n, _, _ := strings.Cut(strings.Trim(r.Meta.Version, `W/"`), ".")
	v, _ := strconv.ParseInt(n, 10, 64)
	return v
}

// unexpectedError is an answer that was read and is not the right one. Any other
// error of send leaves open what happened.
type unexpectedError string

func (e unexpectedError) Error() string { return string(e) }

// send sends a change and reads the whole answer.
func (k *killTest) send(c *change) (r resource, err error) {
	res, body, err := k.server.do(c.method, c.path, k.token, c.body, "X-Request-Id", c.request)
	if err != nil {
		return r, err
	}
	want := map[string][]int{"POST": {201}, "PUT": {200}, "PATCH": {200, 204}, "DELETE": {204}}[c.method]
	if c.refused != 0 {
		want = []int{c.refused}
	}
	if !slices.Contains(want, res.StatusCode) {
		return r, unexpectedError(fmt.Sprintf("answered %s; want %d: %s", res.Status, want, body))
	}
	if body != "" {
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return r, unexpectedError(fmt.Sprintf("answered %q: %v", body, err))
		}
	}
	return r, nil
}
