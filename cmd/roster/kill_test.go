package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// TestKill kills the server in the middle of a load, starts it again on what is
// left, and looks for what should not have been lost; eight times, or as often
// as ROSTER_TEST_KILLS says. It prints a seed; with ROSTER_TEST_SEED the same
// lots are drawn again, though the moments differ.
//
// Each worker has users of its own and one change in hand at a time, so somebody
// knows how each user must be: as the last acknowledged change left it. A change
// whose answer was not read to its end is in flight, and happened or did not.
// The audit trail must know which: each request goes out under an id that its
// entry bears. When that has been decided, the directory must be exactly what
// the workers know. This leaves no room for a lost change, for half a change, nor
// for a change without its entry or an entry without its change.
func TestKill(t *testing.T) {
	cycles, seed := numberFrom(t, "ROSTER_TEST_KILLS", 8), numberFrom(t, "ROSTER_TEST_SEED", rand.Uint64())
	t.Logf("seed %d", seed)
	k := newKillTest(t, seed)
	for cycle := uint64(1); cycle <= cycles && !t.Failed(); cycle++ {
		k.load(cycle)
		k.autopsy()
		k.restart(cycle)
		k.compare()
	}
	k.finish()
	t.Log(k.summary())
}

func numberFrom(t *testing.T, variable string, otherwise uint64) uint64 {
	s := os.Getenv(variable)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s is %q; want a number", variable, s)
	}
	return n
}

// killTest is a server with what should be in its directory.
type killTest struct {
	t       *testing.T
	seed    uint64
	rand    *rand.Rand
	bin     string
	dir     string // the store
	token   string
	server  *process
	workers []*worker
	groups  []*group

	done    map[string]*change // what must have happened, by request id
	suspect map[string]bool    // the resources that changes were in flight to

	kills, acked, refused, inFlight, landed int
	lost, half, unaudited                   int
	ready                                   []time.Duration // from a start to readiness
}

func newKillTest(t *testing.T, seed uint64) *killTest {
	k := &killTest{
		t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), bin: shipped(t), dir: t.TempDir(),
		done: map[string]*change{},
	}
	create := exec.Command(k.bin, "client", "create", "--store", k.dir, "--name", "load", "--scopes", "users,groups")
	create.Env = cleanEnv()
	out, err := create.Output()
	if err != nil {
		t.Fatal(err)
	}
	k.token = strings.TrimSpace(string(out))
	k.start()
	t.Cleanup(func() { k.server.kill() })
	for n := range sharedGroups + workers {
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
	for n := range workers {
		k.workers = append(k.workers, &worker{
			k: k, n: n, rand: rand.New(rand.NewPCG(seed, uint64(n)+1)), shared: k.groups[:sharedGroups], own: k.groups[sharedGroups+n],
		})
	}
	return k
}

func (k *killTest) launch() launch {
	return launch{
		bin: k.bin, dir: k.t.TempDir(), env: cleanEnv(),
		args: []string{"--store", k.dir, "--log-level", "warn", "--shutdown-delay", "0s"},
	}
}

func (k *killTest) start() {
	s, err := k.launch().start()
	if err != nil {
		k.t.Fatal(err)
	}
	k.server = s
}

// load lets the workers work until the server is killed under them.
func (k *killTest) load(cycle uint64) {
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
	if log := k.server.printed(k.server.stderr); log != "" {
		k.t.Errorf("the server had a reason to complain:\n%s", log)
	}

	k.kills++
	k.suspect = map[string]bool{}
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

// autopsy reads what is on disk while nobody else does: whether the file is
// sound, and what the audit trail says. That is done on a copy, so that the
// server has to recover by itself.
func (k *killTest) autopsy() {
	copied := filepath.Join(k.t.TempDir(), "roster.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(filepath.Join(k.dir, "roster.db"+suffix))
		if errors.Is(err, os.ErrNotExist) && suffix != "" {
			continue
		}
		if err == nil {
			err = os.WriteFile(copied+suffix, b, 0o600)
		}
		if err != nil {
			k.t.Fatal(err)
		}
	}
	entries, events := k.history(copied)
	k.decide(entries)
	k.compareEvents(entries, events)
	k.compareVersions(copied, entries)
	cmd := exec.Command(k.bin, "verify", "--store", copied, "--key-file", filepath.Join(k.dir, "roster.keys"))
	cmd.Env = cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Errorf("roster verify: %v\n%s", err, out)
	}
}

// history returns the changes of resources, as the audit trail and as the outbox
// tell them.
func (k *killTest) history(path string) (entries, events []storage.AuditEntry) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	const portion = 1000
	for after, more := int64(0), true; more; {
		list, err := s.AuditEntries(ctx, storage.DefaultTenant, after, portion)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, e := range list {
			after = e.Seq
			if e.Type != "Client" && e.Action != "audit.checkpoint" { // which no worker asks for
				entries = append(entries, e)
			}
		}
		more = len(list) == portion
	}
	for after, more := int64(0), true; more; {
		list, err := s.Events(ctx, storage.DefaultTenant, after, portion)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, e := range list {
			after = e.Seq
		}
		events = append(events, list...)
		more = len(list) == portion
	}
	if err := s.Close(); err != nil {
		k.t.Error(err)
	}
	return entries, events
}

// decide holds the audit trail against what was acknowledged, and lets it say
// which of the changes in flight happened.
func (k *killTest) decide(entries []storage.AuditEntry) {
	trail := map[string]storage.AuditEntry{}
	for _, e := range entries {
		if first, twice := trail[e.RequestID]; twice {
			if first.Action == "user.delete" && e.Action == "group.patch" {
				continue // a group that lost somebody who was deleted
			}
			k.t.Errorf("request %s has two audit entries", e.RequestID)
		}
		trail[e.RequestID] = e
	}
	for _, w := range k.workers {
		c := w.pending
		if c == nil {
			continue
		}
		w.pending = nil
		e, happened := trail[c.request]
		if !happened {
			k.suspect[c.id] = true
			c.undone()
			continue
		}
		k.landed++
		if c.id == "" {
			c.id = e.ID
		}
		k.suspect[c.id] = true
		k.done[c.request] = c
		c.did(c)
	}
	for _, c := range k.done {
		e, ok := trail[c.request]
		switch {
		case !ok:
			k.unaudited++
			k.t.Errorf("%s of %s (request %s) was acknowledged and has no audit entry", c.action, c.id, c.request)
		case e.Action != c.action || e.ID != c.id:
			k.unaudited++
			k.t.Errorf("%s of %s (request %s) was audited as %s of %s", c.action, c.id, c.request, e.Action, e.ID)
		}
	}
	for request, e := range trail {
		if k.done[request] == nil {
			k.unaudited++
			k.t.Errorf("there is an audit entry of %s of %s (request %s), which was refused or never asked for", e.Action, e.ID, request)
		}
	}
}

// compareEvents: each audit entry has its event, in the same order.
func (k *killTest) compareEvents(entries, events []storage.AuditEntry) {
	if len(entries) != len(events) {
		k.unaudited++
		k.t.Errorf("there are %d audit entries and %d events", len(entries), len(events))
		return
	}
	for i, a := range entries {
		if a.Seq != events[i].Seq || a.Version == 0 {
			k.unaudited++
			k.t.Errorf("audit entry %+v has the event %+v", a, events[i])
			return
		}
	}
}

// compareVersions: the file is sound, and a resource has as many audit entries as
// it had changes.
func (k *killTest) compareVersions(path string, entries []storage.AuditEntry) {
	c, err := zombiezen.OpenConn(path, zombiezen.OpenReadOnly)
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	err = sqlitex.ExecuteTransient(c, `PRAGMA integrity_check`, &sqlitex.ExecOptions{ResultFunc: func(st *zombiezen.Stmt) error {
		if s := st.ColumnText(0); s != "ok" {
			k.t.Errorf("integrity_check: %s", s)
		}
		return nil
	}})
	if err != nil {
		k.t.Fatal(err)
	}
	count := map[string]int64{}
	for _, e := range entries {
		count[e.ID]++
	}
	err = sqlitex.ExecuteTransient(c, `SELECT id, type, version, deleted IS NOT NULL FROM resource`, &sqlitex.ExecOptions{ResultFunc: func(st *zombiezen.Stmt) error {
		id, want := st.ColumnText(0), st.ColumnInt64(2)
		if st.ColumnBool(3) {
			want++ // the deletion, which has no version of its own
		}
		if count[id] != want {
			k.unaudited++
			k.t.Errorf("%s %s has %d changes and %d audit entries", st.ColumnText(1), id, want, count[id])
		}
		delete(count, id)
		return nil
	}})
	if err != nil {
		k.t.Fatal(err)
	}
	for id, n := range count {
		k.unaudited++
		k.t.Errorf("%s has %d audit entries and is not there", id, n)
	}
}

// restart starts the server again. Now and then it dies once more while it is
// still recovering.
func (k *killTest) restart(cycle uint64) {
	if cycle%4 == 0 {
		s, err := k.launch().begin()
		if err != nil {
			k.t.Fatal(err)
		}
		time.Sleep(time.Duration(k.rand.Int64N(int64(30 * time.Millisecond))))
		s.kill()
	}
	k.start()
	k.ready = append(k.ready, k.server.ready)
}

// compare holds the directory against what the workers know.
func (k *killTest) compare() {
	users, names := map[string]*user{}, map[string]*user{}
	for _, w := range k.workers {
		for _, u := range w.users {
			users[u.id], names[u.name] = u, u
		}
	}
	listed := k.walk("/Users")
	for id, u := range users {
		r, ok := listed[id]
		if !ok {
			k.wrong(id, "%s is not in the list", u.name)
			continue
		}
		k.compareUser(u, r)
		if status, r := k.get("/Users/" + id); status != http.StatusOK {
			k.wrong(id, "GET of %s answered %d", u.name, status)
		} else {
			k.compareUser(u, r)
		}
		k.find("userName", u.name, id)
		k.find("externalId", u.mark, id)
	}
	for id, r := range listed {
		if users[id] == nil {
			k.wrong(id, "%s is in the list: its creation was not acknowledged, or its deletion was", r.UserName)
		}
	}
	for _, w := range k.workers {
		k.absent(w.gone, w.left, names)
		w.allGone, w.allLeft = append(w.allGone, w.gone...), append(w.allLeft, w.left...)
		w.gone, w.left = nil, nil
	}
	k.compareGroups()
}

func (k *killTest) compareUser(u *user, r resource) {
	marks := r.marks()
	groups := map[string]bool{}
	for _, g := range r.Groups {
		groups[g.Value] = true
	}
	want := map[string]bool{}
	for g := range u.groups {
		want[g.id] = true
	}
	switch {
	case slices.Min(marks) != slices.Max(marks):
		k.half++
		k.t.Errorf("user %s is half changed: %q", u.id, marks)
	case marks[0] != u.mark || r.UserName != u.name || r.version() != u.version:
		k.wrong(u.id, "the user is %s, %s, version %d; want %s, %s, version %d", r.UserName, marks[0], r.version(), u.name, u.mark, u.version)
	case !maps.Equal(groups, want):
		k.wrong(u.id, "the user is in the groups %v; want %v", groups, want)
	}
}

// absent looks for users that are deleted and for names that nobody has.
func (k *killTest) absent(gone []*user, left []string, names map[string]*user) {
	for _, u := range gone {
		if status, _ := k.get("/Users/" + u.id); status != http.StatusNotFound {
			k.wrong(u.id, "GET of a deleted user answered %d", status)
		}
	}
	for _, name := range left {
		if names[name] == nil { // nobody has taken it again
			k.find("userName", name)
		}
	}
}

func (k *killTest) compareGroups() {
	want := map[string]map[string]bool{}
	for _, g := range k.groups {
		want[g.id] = map[string]bool{}
	}
	for _, w := range k.workers {
		for _, u := range w.users {
			for g := range u.groups {
				want[g.id][u.id] = true
			}
		}
	}
	listed := k.walk("/Groups")
	if len(listed) != len(k.groups) {
		k.t.Errorf("there are %d groups; want %d", len(listed), len(k.groups))
	}
	for _, g := range k.groups {
		status, r := k.get("/Groups/" + g.id)
		if status != http.StatusOK {
			k.wrong(g.id, "GET of a group answered %d", status)
			continue
		}
		for _, r := range []resource{r, listed[g.id]} {
			got := map[string]bool{}
			for _, m := range r.Members {
				got[m.Value] = true
			}
			switch {
			case r.DisplayName != r.ExternalID:
				k.half++
				k.t.Errorf("group %s is half changed: %s, %s", g.id, r.DisplayName, r.ExternalID)
			case r.DisplayName != g.mark:
				k.wrong(g.id, "the group is %s; want %s", r.DisplayName, g.mark)
			case len(got) != len(r.Members) || !maps.Equal(got, want[g.id]):
				k.wrong(g.id, "the group has the members %v; want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want[g.id])))
			}
		}
	}
}

// wrong counts a resource that is not as it should be. If a change to it was in
// flight, it is neither as before nor as after.
func (k *killTest) wrong(id, format string, args ...any) {
	k.t.Helper()
	if k.suspect[id] {
		k.half++
	} else {
		k.lost++
	}
	k.t.Errorf(id+": "+format, args...)
}

// finish looks once more for everything that was ever deleted, lets the server
// stop by itself, and reads its file.
func (k *killTest) finish() {
	names := map[string]*user{}
	for _, w := range k.workers {
		for _, u := range w.users {
			names[u.name] = u
		}
	}
	for _, w := range k.workers {
		if !k.t.Failed() { // else it has been told
			k.absent(w.allGone, w.allLeft, names)
		}
	}
	if err := k.server.end(syscall.SIGTERM); err != nil {
		k.t.Error(err)
	}
	k.autopsy()
}

func (k *killTest) summary() string {
	slices.Sort(k.ready)
	p99, most := time.Duration(0), time.Duration(0)
	if n := len(k.ready); n > 0 {
		p99, most = k.ready[(n*99+99)/100-1], k.ready[n-1]
	}
	return fmt.Sprintf("%d kills, %d operations: %d acknowledged, %d refused, %d in flight of which %d were done; "+
		"%d lost, %d half done, %d at odds with the audit trail; ready again after %v at most (p99 %v); seed %d",
		k.kills, k.acked+k.refused+k.inFlight, k.acked, k.refused, k.inFlight, k.landed,
		k.lost, k.half, k.unaudited, most.Round(time.Millisecond), p99.Round(time.Millisecond), k.seed)
}

// get reads a resource.
func (k *killTest) get(path string) (status int, r resource) {
	k.t.Helper()
	res, body, err := k.server.do("GET", path, k.token, "")
	if err == nil && res.StatusCode == http.StatusOK {
		err = json.Unmarshal([]byte(body), &r)
	}
	if err != nil {
		k.t.Fatalf("GET %s: %v", path, err)
	}
	return res.StatusCode, r
}

// list is a ListResponse.
type list struct {
	TotalResults int
	Resources    []resource
}

func (k *killTest) list(path string) (l list) {
	k.t.Helper()
	res, body, err := k.server.do("GET", path, k.token, "")
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &l)
	}
	if err != nil {
		k.t.Fatalf("GET %s: %v", path, err)
	}
	return l
}

// walk reads all resources of a type, a page at a time.
func (k *killTest) walk(path string) map[string]resource {
	k.t.Helper()
	const count = 37
	all := map[string]resource{}
	for start := 1; ; start += count {
		l := k.list(fmt.Sprintf("%s?startIndex=%d&count=%d", path, start, count))
		for _, r := range l.Resources {
			all[r.ID] = r
		}
		if len(l.Resources) < count {
			if l.TotalResults != len(all) {
				k.lost++
				k.t.Errorf("%s has %d resources in total, and %d on its pages", path, l.TotalResults, len(all))
			}
			return all
		}
	}
}

// find expects that a filter finds exactly the given ids.
func (k *killTest) find(attribute, value string, ids ...string) {
	k.t.Helper()
	l := k.list("/Users?attributes=userName&filter=" + url.QueryEscape(fmt.Sprintf("%s eq %q", attribute, value)))
	var got []string
	for _, r := range l.Resources {
		got = append(got, r.ID)
	}
	if !slices.Equal(got, ids) || l.TotalResults != len(ids) {
		k.wrong(strings.Join(append(ids, got...), " "), "%s eq %q finds %v; want %v", attribute, value, got, ids)
	}
}
