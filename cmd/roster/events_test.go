package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// administrate makes the first administrator of a server, with a fresh passcode.
func administrate(t *testing.T, s *process, args ...string) *people {
	t.Helper()
	return enter(t, s, roster(t, append([]string{"setup"}, args...)...), `"userName":"root","password":"correct horse battery staple"`)
}

// enter uses a link that was printed, with these members beside it, and enrols a passcode app.
func enter(t *testing.T, s *process, link, members string) *people {
	t.Helper()
	p := &people{process: s, t: t}
	_, link, ok := strings.Cut(strings.TrimSpace(link), "#")
	if !ok {
		t.Fatal("the link has no fragment")
	}
	var in struct{ Token, Secret string }
	p.ask(200, "POST", "/auth/v1/setup", `{"link":`+quote(link)+`,`+members+`}`, &in)
	p.token = in.Token
	p.ask(200, "POST", "/auth/v1/totp", `{}`, &in)
	code, err := totp.GenerateCode(in.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.ask(200, "POST", "/auth/v1/totp/confirm", `{"code":"`+code+`"}`, &in)
	p.token = in.Token
	return p
}

// half is a receiver that fails half the time: before it takes an event, or when it has.
type half struct {
	t  *testing.T
	mu sync.Mutex
	// acked are the versions whose events this has acknowledged, by path and resource.
	acked map[string]map[int64]bool
	wrong int

	requests, failed int
	inARow           map[string]int // failures of an event
}

// mostInARow is how often an event fails one time after the other: what waits longer
// each time would make the test long.
const mostInARow = 3

func (h *half) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the server was killed
	}
	if r.Header.Get("Content-Type") == "application/secevent+jwt" {
		if body, err = base64.RawURLEncoding.DecodeString(strings.Split(string(body), ".")[1]); err != nil {
			h.t.Error(err)
			return
		}
	}
	var e struct {
		SubID  struct{ ID string } `json:"sub_id"`
		Events map[string]struct{ Version string }
	}
	if err := json.Unmarshal(body, &e); err != nil {
		h.t.Errorf("%s: %v", body, err)
		return
	}
	var version int64
	for _, p := range e.Events {
		version, err = strconv.ParseInt(strings.Trim(strings.TrimPrefix(p.Version, "W/"), `"`), 10, 64)
		if err != nil {
			h.t.Errorf("%s: %v", body, err)
			return
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	key := r.URL.Path + " " + e.SubID.ID
	if h.acked[key] == nil {
		h.acked[key] = map[int64]bool{}
	}
	// Each version that exists before this one was acknowledged: they are counted from 1
	// without a gap.
	for v := int64(1); v < version; v++ {
		if !h.acked[key][v] {
			if h.wrong++; h.wrong < 10 {
				h.t.Errorf("%s: version %d was sent before %d was acknowledged", key, version, v)
			}
		}
	}
	event := fmt.Sprint(key, " ", version)
	if lot := rand.IntN(6); lot < 3 && h.inARow[event] < mostInARow {
		h.failed++
		h.inARow[event]++
		switch lot {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			w.WriteHeader(http.StatusTooManyRequests)
		case 2: // it took the event, and nobody learns of it
			panic(http.ErrAbortHandler)
		}
		return
	}
	h.inARow[event] = 0
	h.acked[key][version] = true
	w.WriteHeader(http.StatusAccepted)
}

func (h *half) has(path string, e storage.AuditEntry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked[path+" "+e.ID][e.Version]
}

// TestEventsKilled: with a receiver that fails half the time and a server that is killed,
// every change of every resource is told at least once, and in order; of two processes on
// one database, one at a time is killed.
func TestEventsKilled(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		eventsKilled(t, 1, "--store", dir)
	})
	t.Run("MongoDB", func(t *testing.T) {
		t.Parallel()
		// What a process that was killed leaves open ends soon; see docs/scale.md.
		double := mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Second})
		keys := filepath.Join(t.TempDir(), "roster.keys")
		roster(t, "keys", "create", "--key-file", keys)
		eventsKilled(t, 2, "--store", double.URI("roster"), "--key-file", keys)
	})
}

func eventsKilled(t *testing.T, processes int, where ...string) {
	h := &half{t: t, acked: map[string]map[int64]bool{}, inARow: map[string]int{}}
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	token := rosterToken(t, "client", "create", "--store", where[1], "--name", "load", "--scopes", "users,groups")
	servers := make([]atomic.Pointer[process], processes)
	start := func(i int) {
		t.Helper()
		s, err := launch{bin: shipped(t), dir: t.TempDir(), env: cleanEnv(), args: append([]string{"--shutdown-delay", "0s", "--event-networks", "127.0.0.0/8", "--log-level", "error"}, where...)}.start()
		if err != nil {
			t.Fatal(err)
		}
		servers[i].Store(s)
	}
	for i := range servers {
		start(i)
		t.Cleanup(func() { servers[i].Load().kill() })
	}
	admin := administrate(t, servers[0].Load(), where[:2]...)
	for _, d := range []string{"webhook", "push"} {
		admin.ask(201, "POST", "/admin/v1/feeds", `{"name":"`+d+`","delivery":"`+d+`","url":"`+receiver.URL+`/`+d+`"}`, nil)
	}
	var created struct{ ID string }
	const most = 12 // users of a worker
	work := func(over *atomic.Bool, worker, cycle int) {
		var ids []string
		for i := 0; !over.Load() && i < 40; i++ {
			method, path, body := "POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":"u-%d-%d-%d"}`, schemas.UserURI, worker, cycle, i)
			if len(ids) == most || len(ids) > 0 && i%3 > 0 {
				method, path = "PATCH", "/Users/"+ids[rand.IntN(len(ids))]
				body = fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"title","value":"t%d"}]}`, i)
			}
			res, text, err := servers[rand.IntN(processes)].Load().do(method, path, token, body)
			if err != nil {
				return // killed
			}
			if res.StatusCode/100 != 2 {
				t.Errorf("%s: %s %s", method, res.Status, text)
				return
			}
			c := created
			if method == "POST" && json.Unmarshal([]byte(text), &c) == nil {
				ids = append(ids, c.ID)
			}
		}
	}
	const kills = 2
	for cycle := range kills + 1 {
		var over atomic.Bool
		var wg sync.WaitGroup
		for worker := range 3 {
			wg.Go(func() { work(&over, worker, cycle) })
		}
		if cycle < kills {
			before := h.count()
			// In the middle of a round: when something was sent since, and more is.
			if err := eventually(func() error {
				if h.count() < before+10+rand.IntN(20) {
					return errors.New("nothing is sent")
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := servers[cycle%processes].Load().end(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			over.Store(true)
		}
		wg.Wait()
		if cycle < kills {
			start(cycle % processes)
		}
	}

	p, err := findPlace(where[1], false)
	if err != nil {
		t.Fatal(err)
	}
	store, err := openBeside(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	all, err := store.Events(context.Background(), storage.DefaultTenant, 0, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(e storage.AuditEntry) bool {
		return e.Type != "User" || e.RequestID == "" || !strings.HasPrefix(e.Actor, "client:")
	})
	if len(all) < 100 {
		t.Errorf("%d events only, so this has shown little", len(all))
	}
	var missing int
	for deadline := time.Now().Add(4 * patience); ; time.Sleep(100 * time.Millisecond) {
		missing = 0
		for _, e := range all {
			for _, path := range []string{"/webhook", "/push"} {
				if !h.has(path, e) {
					missing++
				}
			}
		}
		if missing == 0 || time.Now().After(deadline) {
			break
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("%d events to two feeds, %d requests of which %d failed, %d kills of %d processes; %d were sent out of order, %d never arrived", len(all), h.requests, h.failed, kills, processes, h.wrong, missing)
	if missing > 0 {
		t.Errorf("%d events were not told", missing)
	}
}

func (h *half) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.requests
}
