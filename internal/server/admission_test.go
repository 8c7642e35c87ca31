package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// held is a store whose answers to queries for one resource wait.
type held struct {
	storage.Store
	arrived chan struct{}
	open    chan struct{}
}

func (h *held) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	if q.Count != 1 {
		return h.Store.Query(ctx, tenant, q)
	}
	h.arrived <- struct{}{}
	select {
	case <-h.open:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.Store.Query(ctx, tenant, q)
}

// crowd is a server with a few places, of which those for all requests are taken.
type crowd struct {
	*testserver.Server
	store *held
	ids   []string
	done  chan testserver.Response // what the requests that were held got
}

const (
	places = 8 // and two each for deprovisioning and for people
	queued = 2
)

// crowded starts a server and takes all common places, and those in the queue too if that is to be full.
func crowded(t *testing.T, full bool, opt testserver.Options) *crowd {
	t.Helper()
	c := &crowd{store: &held{arrived: make(chan struct{}, 100), open: make(chan struct{})}, done: make(chan testserver.Response, 100)}
	opt.Store = func(inner storage.Store) storage.Store {
		c.store.Store = inner
		return c.store
	}
	more := opt.Server
	opt.Server = func(o *server.Options) {
		o.Admission = server.Admission{Requests: places, Queue: queued, Wait: time.Hour}
		if more != nil {
			more(o)
		}
	}
	c.Server = testserver.Start(t, opt)
	c.ids = c.Users(t, 8)
	for range places {
		go c.list(t)
	}
	for range places {
		<-c.store.arrived
	}
	if full {
		for range queued {
			go c.list(t)
		}
		c.until(t, "roster_requests_waiting", "common", queued)
	}
	return c
}

func (c *crowd) list(t *testing.T) {
	r, err := c.Try(t.Context(), "GET", "/Users?count=1", "")
	if err != nil {
		r = testserver.Response{Body: err.Error()}
	}
	c.done <- r
}

// let lets all go that are held, and fails the test unless all are answered with 200.
func (c *crowd) let(t *testing.T, n int) {
	t.Helper()
	close(c.store.open)
	for range n {
		if r := <-c.done; r.Status != 200 {
			t.Errorf("a request that had a place or waited for one: %d %s", r.Status, r.Body)
		}
	}
	for _, lane := range []string{"common", "deprovisioning", "people"} {
		c.until(t, "roster_requests_in_work", lane, 0)
		c.until(t, "roster_requests_waiting", lane, 0)
	}
}

// gauge returns a metric of a lane, of all reasons together.
func (c *crowd) gauge(t *testing.T, name, lane string) (sum float64) {
	t.Helper()
	families, err := c.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "lane" && l.GetValue() == lane {
					sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// until waits until a metric has a value.
func (c *crowd) until(t *testing.T, name, lane string, want float64) {
	t.Helper()
	for range 30_000 {
		if c.gauge(t, name, lane) == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s of %s stays %v, want %v", name, lane, c.gauge(t, name, lane), want)
}

// overloaded fails the test unless an answer says that there is too much to do.
func overloaded(t *testing.T, what string, r testserver.Response, mediaType string) {
	t.Helper()
	if after, err := strconv.Atoi(r.Header.Get("Retry-After")); r.Status != 503 || err != nil || after < 1 || r.Header.Get("Content-Type") != mediaType {
		t.Errorf("%s: %d %v %s, want 503 with Retry-After as %s", what, r.Status, r.Header, r.Body, mediaType)
	}
}

func deactivation(value string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"active","value":` + value + `}]}`
}

// TestReservedLanes: where every place and the queue are full, users are still deleted and
// deactivated, administrators get in, and the server says that it lives and is ready. All else is
// refused, in the form of its surface, before its body is read or its token looked at.
func TestReservedLanes(t *testing.T) {
	t.Parallel()
	c := crowded(t, true, testserver.Options{})
	replaced := func(active bool) string {
		return fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"somebody-%t@example.com","active":%[1]t}`, active)
	}
	for _, test := range []struct{ what, method, path, body string }{
		{"a read", "GET", "/Users/" + c.ids[0], ""},
		{"discovery", "GET", "/ServiceProviderConfig", ""},
		{"a create", "POST", "/Users", replaced(true)},
		{"a create of somebody who is not active", "POST", "/Users", replaced(false)},
		{"bulk", "POST", "/Bulk", `{}`},
		{"a change of a title", "PATCH", "/Users/" + c.ids[0], strings.Replace(deactivation("false"), "active", "title", 1)},
		{"an activation", "PATCH", "/Users/" + c.ids[0], deactivation("true")},
		{"a replacement", "PUT", "/Users/" + c.ids[0], replaced(true)},
		{"a change that is no JSON", "PATCH", "/Users/" + c.ids[0], `{"active":false`},
		{"a large change", "PATCH", "/Users/" + c.ids[0], strings.Repeat(" ", 64<<10) + deactivation("false")},
		{"a group", "DELETE", "/Groups/" + nobody, ""},
	} {
		overloaded(t, test.what, c.Do(t, test.method, test.path, test.body), "application/scim+json")
	}
	overloaded(t, "who cannot be known", c.Do(t, "GET", "/Users", "", "Authorization", "Bearer x"), "application/scim+json")
	for _, test := range []struct {
		what, method, path, body string
		want                     int
	}{
		{"a deletion", "DELETE", "/Users/" + c.ids[1], "", 204},
		{"a deactivation", "PATCH", "/Users/" + c.ids[2], deactivation("false"), 200},
		{"a deactivation by Entra", "PATCH", "/Users/" + c.ids[3], deactivation(`"False"`), 200},
		{"a replacement by somebody not active", "PUT", "/Users/" + c.ids[4], replaced(false), 200},
	} {
		if r := c.Do(t, test.method, test.path, test.body); r.Status != test.want || test.want == 200 && !strings.Contains(r.Body, `"active":false`) {
			t.Errorf("%s: %d %s, want %d", test.what, r.Status, r.Body, test.want)
		}
	}
	// Who may not deactivate is told so: the body of a stranger is not read.
	if r := c.Do(t, "PATCH", "/Users/"+c.ids[2], deactivation("false"), "Authorization", "Bearer x"); r.Status != 401 {
		t.Errorf("a deactivation by a stranger: %d %s, want 401", r.Status, r.Body)
	}
	for path, want := range map[string]int{"/admin/v1/clients": 401, "/auth/v1/session": 401} {
		r, err := c.Page(t.Context(), "GET", path, "")
		if err != nil || r.Status != want {
			t.Errorf("%s: %d %s %v, want %d", path, r.Status, r.Body, err, want)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		resp, err := http.Get(c.Ops + path)
		if err != nil {
			t.Fatal(err)
		}
		if body := drain(t, resp); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if refused := c.gauge(t, "roster_requests_overload_total", "common"); refused != 12 {
		t.Errorf("%v counted as refused, want 12", refused)
	}
	c.let(t, places+queued)
}

// TestLanesOfPeople: places for people run out by themselves, and are refused in the form of
// their API; they take none of the others.
func TestLanesOfPeople(t *testing.T) {
	t.Parallel()
	arrived, open := make(chan struct{}), make(chan struct{})
	held := scim.Route{Method: "GET", Path: "/held", Needs: auth.Public(), Serve: func(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
		arrived <- struct{}{}
		<-open
		w.WriteHeader(204)
		return nil
	}}
	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		o.Admission = server.Admission{Requests: 4, Queue: 0, Wait: time.Hour}
		with(held)(o)
		o.Mounts[len(o.Mounts)-1].People = true
	}})
	status := make(chan int)
	go func() {
		r, _ := s.Page(context.WithoutCancel(t.Context()), "GET", "/test/held", "")
		status <- r.Status
	}()
	<-arrived
	r, err := s.Page(t.Context(), "GET", "/admin/v1/clients", "")
	if err != nil {
		t.Fatal(err)
	}
	overloaded(t, "an administrator", r, "application/problem+json")
	if r := s.Do(t, "GET", "/Users", ""); r.Status != 200 {
		t.Errorf("a client: %d %s", r.Status, r.Body)
	}
	close(open)
	if got := <-status; got != 204 {
		t.Errorf("the request that was held: %d", got)
	}
}

// TestPlaceOfWhoLeft: a client that goes away leaves its place to another, in the queue and in
// work.
func TestPlaceOfWhoLeft(t *testing.T) {
	t.Parallel()
	c := crowded(t, false, testserver.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := c.Try(ctx, "GET", "/Users?count=1", "")
		gone <- err
	}()
	c.until(t, "roster_requests_waiting", "common", 1)
	cancel()
	if err := <-gone; err == nil {
		t.Error("a request that was given up has an answer")
	}
	c.until(t, "roster_requests_waiting", "common", 0)
	c.until(t, "roster_requests_in_work", "common", places)
	c.let(t, places)
}

// TestPlaceOfPanic: a request that panics leaves its place to another.
func TestPlaceOfPanic(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		o.Admission = server.Admission{Requests: 1, Queue: 0, Wait: time.Hour}
		with(scim.Route{Method: "GET", Path: "/panic", Needs: auth.Public(), Serve: func(http.ResponseWriter, *http.Request, auth.Principal) error { panic("x") }})(o)
	}})
	for range 3 {
		resp, err := get(t, s, "/test/panic")
		if err != nil {
			t.Fatal(err)
		}
		if body := drain(t, resp); resp.StatusCode != 500 {
			t.Errorf("%d %s, want 500: a panic keeps no place", resp.StatusCode, body)
		}
	}
}

// TestOverloadIsNoError: thousands of refusals do not fill the log with errors.
func TestOverloadIsNoError(t *testing.T) {
	t.Parallel()
	var log testserver.Log
	c := crowded(t, true, testserver.Options{Log: log.Logger()})
	overloaded(t, "a read", c.Do(t, "GET", "/Users/"+c.ids[0], ""), "application/scim+json")
	c.let(t, places+queued)
	if text := log.String(); strings.Contains(text, `"level":"ERROR"`) || !strings.Contains(text, `"status":"503"`) {
		t.Errorf("the log: %s", text)
	}
}

// TestSlowBodies: bodies that take their time keep nobody from being served; when they are there the
// request waits for a place as others do.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	s := &crowd{Server: testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		// There is room for all that may come before one has lent its place.
		o.Admission = server.Admission{Requests: 2, Queue: 5, Wait: time.Hour}
	}})}
	status := make(chan int, 10)
	var bodies []*io.PipeWriter
	for i := range 5 {
		r, w := io.Pipe()
		bodies = append(bodies, w)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/Users", r)
			req.Header.Set("Authorization", "Bearer "+s.Token)
			resp, err := s.HTTP.Do(req)
			if err != nil {
				status <- 0
				return
			}
			resp.Body.Close()
			status <- resp.StatusCode
		}()
		if _, err := fmt.Fprintf(w, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"slow-%d@example.com"`, i); err != nil {
			t.Fatal(err)
		}
		s.until(t, "roster_requests_in_work", "common", 0)
	}
	if r := s.Do(t, "GET", "/Users?count=1", ""); r.Status != 200 {
		t.Errorf("a request beside five whose bodies are slow: %d %s", r.Status, r.Body)
	}
	for _, w := range bodies {
		if _, err := io.WriteString(w, "}"); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if got := <-status; got != 201 {
			t.Errorf("a request with a slow body: %d, want 201", got)
		}
	}
	s.until(t, "roster_requests_in_work", "common", 0)
}

// TestSlowReaders: answers that are not read keep nobody from being served, as long as there are no
// more of them than places; over HTTP/2 one connection has a hundred.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	const many = 2
	s := &crowd{Server: testserver.Start(t, testserver.Options{Server: func(o *server.Options) {
		o.Admission = server.Admission{Requests: many, Queue: 0, Wait: time.Hour}
		with(scim.Route{Method: "GET", Path: "/long", Needs: auth.Public(), Serve: func(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
			portion := make([]byte, 64<<10)
			for range 1 << 10 { // more than any system takes for who does not read
				if _, err := w.Write(portion); err != nil {
					return err
				}
			}
			return nil
		}})(o)
	}})}
	for range 2 { // the second time with what the first ones gave back
		var readers []net.Conn
		for range many {
			c := dial(t, s.Server)
			if _, err := io.WriteString(c, "GET /test/long HTTP/1.1\r\nHost: roster.test\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			readers = append(readers, c)
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			s.until(t, "roster_requests_in_work", "common", 0)
		}
		if r := s.Do(t, "GET", "/Users?count=1", ""); r.Status != 200 {
			t.Errorf("a request beside answers that nobody reads: %d %s", r.Status, r.Body)
		}
		for range many { // beyond that they keep their places
			c := dial(t, s.Server)
			if _, err := io.WriteString(c, "GET /test/long HTTP/1.1\r\nHost: roster.test\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			readers = append(readers, c)
		}
		s.until(t, "roster_requests_in_work", "common", many)
		for _, c := range readers {
			c.Close()
		}
		s.until(t, "roster_requests_in_work", "common", 0)
	}
}
