package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
)

// What happens to a name, as its users see it: somebody takes it, gives it up, or
// looks whose it is. Histories of that are recorded under load, one for each name,
// and checked for an order that explains all answers: one in which each request
// has its effect at one moment between being sent and being answered, and in which
// a name never has two users.

// outcome is what an answer says about a request.
type outcome int

const (
	done    outcome = iota
	refused         // because the name is somebody's
	unknown         // 503, or no answer
)

// nameCall is what is asked of one name. A user is known by its externalId, which
// the client draws, so that it is known whether or not its creation is answered.
type nameCall struct {
	kind string // "take", "leave" or "find"
	user string
}

type nameAnswer struct {
	outcome outcome
	found   []string
}

// nameModel is a name: its state is the user who has it, or "". What may have
// happened or not can have its effect at any time after it was sent, so it may
// also have it when nobody looks any more.
var nameModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		holder, call, answer := state.(string), input.(nameCall), output.(nameAnswer)
		switch {
		case call.kind == "take" && answer.outcome == done:
			return holder == "", call.user
		case call.kind == "take" && answer.outcome == refused:
			return holder != "" && holder != call.user, holder
		case call.kind == "take" && holder == "":
			return true, call.user
		case call.kind == "leave" && answer.outcome == done:
			return holder == call.user, ""
		case call.kind == "leave" && holder == call.user:
			return true, ""
		case call.kind == "find" && len(answer.found) == 0:
			return holder == "", holder
		case call.kind == "find":
			return len(answer.found) == 1 && holder == answer.found[0], holder
		}
		return true, holder // what was not answered, and came to nothing
	},
}

// histories are recorded by many clients at once.
type histories struct {
	began time.Time
	mu    sync.Mutex
	names map[string][]porcupine.Operation
}

func newHistories() *histories {
	return &histories{began: time.Now(), names: map[string][]porcupine.Operation{}}
}

// span is the time of a request.
type span struct{ call, end int64 }

func (h *histories) since() int64 { return time.Since(h.began).Nanoseconds() }

func (h *histories) add(client int, name string, at span, call nameCall, answer nameAnswer) {
	if answer.outcome == unknown {
		at.end = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names[name] = append(h.names[name], porcupine.Operation{ClientId: client, Input: call, Output: answer, Call: at.call, Return: at.end})
}

// check returns the names whose histories nothing explains. The error is that of
// a check that took too long.
func (h *histories) check() (illegal []string, err error) {
	for name, history := range h.names {
		switch porcupine.CheckOperationsTimeout(nameModel, history, time.Minute) {
		case porcupine.Illegal:
			illegal = append(illegal, name)
		case porcupine.Unknown:
			err = errors.Join(err, fmt.Errorf("the history of %s, of %d requests, was not understood within a minute", name, len(history)))
		}
	}
	return illegal, err
}

// explain writes a history down, in the order of calls.
func (h *histories) explain(name string) string {
	var b strings.Builder
	for _, o := range h.names[name] {
		fmt.Fprintf(&b, "client %d, %d to %d: %v → %v\n", o.ClientId, o.Call, o.Return, o.Input, o.Output)
	}
	return b.String()
}

// nameLoad is clients that fight over a few names.
type nameLoad struct {
	*histories
	prefix string // of request ids
	token  string
	pick   func(*rand.Rand) *process // a server
	ledger *ledger
	errorf func(format string, args ...any)
	step   func() // called before each request that changes something
}

const (
	nameClients = 16
	nameCount   = 20
)

// run lets all clients do so many things each.
func (l *nameLoad) run(each int) {
	var wg sync.WaitGroup
	for n := range nameClients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), uint64(n)))
			for i := range each {
				l.act(n, fmt.Sprintf("%s-%d-%d", l.prefix, n, i), r)
			}
		})
	}
	wg.Wait()
}

func drawName(r *rand.Rand) string { return fmt.Sprintf("name-%02d@example.com", r.IntN(nameCount)) }

// spelled is a name as one of many clients writes it.
func spelled(r *rand.Rand, name string) string {
	switch r.IntN(3) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return "N" + name[1:]
	}
	return name
}

func (l *nameLoad) act(client int, request string, r *rand.Rand) {
	name := drawName(r)
	lot := r.IntN(100)
	if lot < 30 {
		l.create(client, request, r, name)
		return
	}
	u, ok := l.find(client, r, name)
	switch {
	case !ok:
	case u.ID == "" && lot < 80:
		l.create(client, request, r, name)
	case u.ID == "":
	case lot < 55:
		l.delete(client, request, r, name, u)
	case lot < 85:
		l.rename(client, request, r, name, u)
	}
}

// ask sends a request and says when. An answer that is none of those expected is
// an error of the server's.
func (l *nameLoad) ask(r *rand.Rand, method, path, body, request string, expected []int, header ...string) (status int, answer string, at span) {
	if method != http.MethodGet {
		l.step()
		header = append(header, "X-Request-Id", request)
	}
	s := l.pick(r)
	at.call = l.since()
	res, answer, err := s.do(method, path, l.token, body, header...)
	at.end = l.since()
	if err != nil {
		return 0, "", at
	}
	if res.StatusCode == http.StatusServiceUnavailable {
		if res.Header.Get("Retry-After") == "" {
			l.errorf("%s %s: 503 without Retry-After", method, path)
		}
		return 0, "", at
	}
	for _, e := range expected {
		if e == res.StatusCode {
			return res.StatusCode, answer, at
		}
	}
	l.errorf("%s %s %s answered %s %s; want one of %d", method, path, body, res.Status, answer, expected)
	return 0, "", at
}

func (l *nameLoad) create(client int, request string, r *rand.Rand, name string) {
	user := uuid.NewString()
	status, _, at := l.ask(r, "POST", "/Users", userBody(spelled(r, name), user), request, []int{201, 409})
	o := map[int]outcome{201: done, 409: refused, 0: unknown}[status]
	l.add(client, name, at, nameCall{"take", user}, nameAnswer{outcome: o})
	l.ledger.note(request, "user.create", o)
}

// find returns the user of a name, or one without an id. Not ok is no answer.
func (l *nameLoad) find(client int, r *rand.Rand, name string) (u resource, ok bool) {
	filter := fmt.Sprintf("userName eq %q", spelled(r, name))
	status, answer, at := l.ask(r, "GET", "/Users?filter="+url.QueryEscape(filter), "", "", []int{200})
	if status == 0 {
		return u, false
	}
	var found list
	if err := json.Unmarshal([]byte(answer), &found); err != nil {
		l.errorf("%s: %v", filter, err)
		return u, false
	}
	var users []string
	for _, f := range found.Resources {
		u = f
		users = append(users, f.ExternalID)
	}
	l.add(client, name, at, nameCall{"find", ""}, nameAnswer{found: users})
	return u, true
}

// delete deletes a user who has the name, if he still is as he was found. A user
// who is not tells nothing: he may have any name by now.
func (l *nameLoad) delete(client int, request string, r *rand.Rand, name string, u resource) {
	status, _, at := l.ask(r, "DELETE", "/Users/"+u.ID, "", request, []int{204, 404, 412}, "If-Match", u.Meta.Version)
	switch status {
	case 404, 412:
		return
	}
	o := map[int]outcome{204: done, 0: unknown}[status]
	l.add(client, name, at, nameCall{"leave", u.ExternalID}, nameAnswer{outcome: o})
	l.ledger.note(request, "user.delete", o)
}

// rename gives a user another name; see delete.
func (l *nameLoad) rename(client int, request string, r *rand.Rand, name string, u resource) {
	to := drawName(r)
	if to == name {
		return
	}
	body := patchBody(object{"op": "replace", "path": "userName", "value": spelled(r, to)})
	status, _, at := l.ask(r, "PATCH", "/Users/"+u.ID, body, request, []int{200, 404, 409, 412}, "If-Match", u.Meta.Version)
	o := map[int]outcome{200: done, 409: refused, 0: unknown}[status]
	switch status {
	case 404, 412:
		return
	case 200, 0:
		l.add(client, name, at, nameCall{"leave", u.ExternalID}, nameAnswer{outcome: o})
	}
	l.add(client, to, at, nameCall{"take", u.ExternalID}, nameAnswer{outcome: o})
	l.ledger.note(request, "user.patch", o)
}

// ledger is what the clients know of their changes, by request id.
type ledger struct {
	mu      sync.Mutex
	acked   map[string]string // what the audit trail must say of it
	open    map[string]string // what it may say
	refused int
}

func newLedger() *ledger { return &ledger{acked: map[string]string{}, open: map[string]string{}} }

func (l *ledger) note(request, action string, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch o {
	case done:
		l.acked[request] = action
	case unknown:
		l.open[request] = action
	default:
		l.refused++
	}
}

// TestHistories shows that the check of histories finds a server out: of three
// toys with the same protocol, it must approve of the right one only.
func TestHistories(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		toy  *toy
		ok   bool
	}{
		{"right", &toy{}, true},
		{"looks before it takes a name, and does not look again", &toy{racy: true}, false},
		{"answers from a copy that is a little behind", &toy{behind: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.toy.users = map[string]*toyUser{}
			server := httptest.NewServer(c.toy)
			defer server.Close()
			p := &process{scim: server.URL, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: nameClients}}}
			defer p.client.CloseIdleConnections()
			l := &nameLoad{
				histories: newHistories(), prefix: "toy", ledger: newLedger(), errorf: t.Errorf,
				pick: func(*rand.Rand) *process { return p }, step: func() {},
			}
			l.run(50)
			// On a slow machine all requests overlap, and an old answer may be right. Those of
			// one client do not.
			for i := range 400 {
				l.act(0, fmt.Sprint("alone-", i), rand.New(rand.NewPCG(rand.Uint64(), 0)))
			}
			illegal, err := l.check()
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d of %d names have a history that nothing explains; %d changes acknowledged, %d refused",
				len(illegal), len(l.names), len(l.ledger.acked), l.ledger.refused)
			switch {
			case c.ok && len(illegal) > 0:
				t.Errorf("the server is right, and yet:\n%s", l.explain(illegal[0]))
			case !c.ok && len(illegal) == 0:
				t.Error("the server is not right, and nobody noticed")
			}
		})
	}
}

// toy serves as much of the protocol as nameLoad asks for.
type toy struct {
	racy, behind bool

	mu     sync.Mutex
	users  map[string]*toyUser // by id
	before []toyUser           // all, before the last change
}

type toyUser struct {
	id, external, name string
	version            int
}

func (y *toy) all() (list []toyUser) {
	for _, u := range y.users {
		list = append(list, *u)
	}
	return list
}

func named(list []toyUser, name string) (some []toyUser) {
	for _, u := range list {
		if u.name == strings.ToLower(name) {
			some = append(some, u)
		}
	}
	return some
}

// pause is when the racy one looks away.
func (y *toy) pause() {
	if y.racy {
		y.mu.Unlock()
		time.Sleep(time.Millisecond)
		y.mu.Lock()
	}
}

var inQuotes = regexp.MustCompile(`"([^"]*)"`)

func (y *toy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if r.Method == http.MethodGet {
		list := y.all()
		if y.behind {
			list = y.before
		}
		var found []object
		for _, u := range named(list, inQuotes.FindStringSubmatch(r.FormValue("filter"))[1]) {
			found = append(found, object{"id": u.id, "externalId": u.external, "meta": object{"version": fmt.Sprint(u.version)}})
		}
		fmt.Fprint(w, marshal(object{"totalResults": len(found), "Resources": found}))
		return
	}
	w.WriteHeader(y.change(r))
}

func (y *toy) change(r *http.Request) (status int) {
	before := y.all()
	defer func() {
		if status < 300 {
			y.before = before
		}
	}()
	var body struct {
		UserName, ExternalID string
		Operations           []struct{ Value string }
	}
	if r.Method != http.MethodDelete && json.NewDecoder(r.Body).Decode(&body) != nil {
		return 400
	}
	if r.Method == http.MethodPost {
		if len(named(y.all(), body.UserName)) > 0 {
			return 409
		}
		y.pause()
		u := &toyUser{uuid.NewString(), body.ExternalID, strings.ToLower(body.UserName), 1}
		y.users[u.id] = u
		return 201
	}
	u := y.users[strings.TrimPrefix(r.URL.Path, "/Users/")]
	switch {
	case u == nil:
		return 404
	case fmt.Sprint(u.version) != r.Header.Get("If-Match"):
		return 412
	case r.Method == http.MethodDelete:
		delete(y.users, u.id)
		return 204
	case len(named(y.all(), body.Operations[0].Value)) > 0:
		return 409
	}
	y.pause()
	u.name, u.version = strings.ToLower(body.Operations[0].Value), u.version+1
	return 200
}
