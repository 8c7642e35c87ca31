package scim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestLargeGroup: all members of a large group come, each once, alone and in a
// list. The answer to a change of one is not a list of all, and those who ask for
// the group and do not read the answer hold up nobody.
func TestLargeGroup(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	users := s.Users(t, 20_000) // more than any portion in which they are read
	t.Run("read", func(t *testing.T) { readLargeGroup(t, s, users) })
	t.Run("stop reading", func(t *testing.T) { stopReading(t, s, users) })
}

func readLargeGroup(t *testing.T, s *testserver.Server, users []string) {
	group := s.Group(t, "Everyone", "", users[1:])
	check := func(path, body string, want []string) {
		t.Helper()
		var g struct {
			Members   []struct{ Value, Type string }
			Resources []json.RawMessage
		}
		err := json.Unmarshal([]byte(body), &g)
		if err == nil && len(g.Resources) == 1 {
			err = json.Unmarshal(g.Resources[0], &g)
		}
		if err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		ids := make([]string, len(g.Members))
		for i, m := range g.Members {
			if ids[i] = m.Value; m.Type != "User" {
				t.Fatalf("GET %s: a member of the type %q", path, m.Type)
			}
		}
		slices.Sort(ids)
		if !slices.Equal(ids, slices.Sorted(slices.Values(want))) {
			t.Errorf("GET %s: %d members, want the %d there are", path, len(ids), len(want))
		}
	}
	for _, path := range []string{"/Groups/" + group, "/Groups?count=1", "/Groups?filter=displayName%20eq%20%22everyone%22"} {
		check(path, s.Do(t, "GET", path, "").Body, users[1:])
	}
	r := s.Do(t, "PATCH", "/Groups/"+group, patchOp(`{"op":"add","path":"members","value":[{"value":%q}]}`, users[0]))
	if r.Status != 204 || r.Body != "" || r.Header.Get("ETag") != `W/"2"` {
		t.Errorf("adding one more: %d with %d bytes and ETag %s, want 204 and a new ETag", r.Status, len(r.Body), r.Header.Get("ETag"))
	}
	check("/Groups/"+group, s.Do(t, "GET", "/Groups/"+group, "").Body, users)
	if r := s.Do(t, "GET", "/Groups/"+group+"?excludedAttributes=members", ""); len(r.Body) > 1000 {
		t.Errorf("without members the group has %d bytes", len(r.Body))
	}
	if r := s.Do(t, "PATCH", "/Groups/"+group, patchOp(`{"op":"replace","path":"members","value":[]}`)); r.Status != 200 || strings.Contains(r.Body, "members") {
		t.Errorf("emptying: %d, and %d bytes", r.Status, len(r.Body))
	}
}

// patchOp returns a PATCH request with these operations.
func patchOp(format string, args ...any) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + fmt.Sprintf(format, args...) + `]}`
}

func stopReading(t *testing.T, s *testserver.Server, users []string) {
	group := s.Group(t, "Long names", strings.Repeat("x", 10<<20/len(users)), users) // more than sockets hold
	finished := func() float64 {
		return requests(t, s, "/scim/v2/Groups/{id}")
	}
	before := finished()
	for range 12 { // more than the store has readers
		c, err := net.Dial("tcp", strings.TrimPrefix(s.Root, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s/Groups/%s HTTP/1.1\r\nHost: roster.test\r\nAuthorization: Bearer %s\r\n\r\n", testserver.Base, group, s.Token)
		if _, err := io.ReadFull(c, make([]byte, 12)); err != nil { // it is on its way
			t.Fatal(err)
		}
	}
	if r := s.Do(t, "GET", "/Users/"+users[0], ""); r.Status != 200 {
		t.Errorf("reading meanwhile: %d", r.Status)
	}
	if n := finished() - before; n != 0 {
		t.Errorf("%v of the answers have gone out although nobody reads them: the test tests nothing", n)
	}
	if r := s.Do(t, "PATCH", "/Groups/"+group, patchOp(`{"op":"remove","path":"members[value eq \"%s\"]"}`, users[0])); r.Status != 204 {
		t.Errorf("writing meanwhile: %d %s", r.Status, r.Body)
	}
	if r := s.Do(t, "GET", "/Groups/"+group, ""); strings.Count(r.Body, `"value"`) != len(users)-1 {
		t.Errorf("reading the same group meanwhile: %d members, want %d", strings.Count(r.Body, `"value"`), len(users)-1)
	}
}

// faultyStore fails to read members after some of them.
type faultyStore struct {
	storage.Store
	after int
}

func (f *faultyStore) Members(ctx context.Context, tenant storage.TenantID, group, after string) iter.Seq2[storage.Member, error] {
	return func(yield func(storage.Member, error) bool) {
		n := 0
		for m, err := range f.Store.Members(ctx, tenant, group, after) {
			if n++; n > f.after {
				m, err = storage.Member{}, fmt.Errorf("%w: the disk is gone", storage.ErrUnavailable)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// TestBrokenStream: when the store fails in the middle of an answer, what was
// sent must not look complete, and operators are told why. When nothing was sent
// yet, the answer is an error.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	faults := &faultyStore{after: 1}
	var log testserver.Log
	s := testserver.Start(t, testserver.Options{
		Log: log.Logger(),
		Store: func(inner storage.Store) storage.Store {
			faults.Store = inner
			return faults
		},
	})
	group := s.Group(t, "Everyone", strings.Repeat("x", 200), s.Users(t, 2000))
	for i, path := range []string{"/Groups/" + group, "/Groups"} {
		faults.after = 1
		r := s.Do(t, "GET", path, "")
		if r.Status != 503 || r.Header.Get("ETag") != "" || r.Header.Get("Location") != "" || r.Header.Get("Content-Location") != "" || !strings.Contains(r.Body, scim.ErrorURI) {
			t.Errorf("GET %s, failing at once: %d %v %s", path, r.Status, r.Header, r.Body)
		}
		faults.after = 1900
		id := fmt.Sprint("half-", i)
		if r, err := s.Try(t.Context(), "GET", path, "", "X-Request-Id", id); err == nil {
			t.Errorf("GET %s, failing at the end: %d and %d bytes that look complete", path, r.Status, len(r.Body))
		}
		line := logged(t, &log, id)
		if text, _ := line["error"].(string); line["level"] != "ERROR" || line["status"] != "aborted" || line["cut_by"] != "error" || !strings.Contains(text, "the disk is gone") {
			t.Errorf("GET %s, failing at the end, is logged as %v", path, line)
		}
		if want := fmt.Sprintf(`roster_http_responses_cut_total{cause="error"} %d`, i+1); !strings.Contains(s.Metrics(t), want) {
			t.Errorf("GET %s, failing at the end: the metrics lack %s", path, want)
		}
	}
	if r := s.Do(t, "GET", "/Groups/"+group+"?excludedAttributes=members", ""); r.Status != 200 {
		t.Errorf("without members: %d", r.Status)
	}
}

// logged waits for the log line of a request, which is written when its connection
// is cut or just after.
func logged(t *testing.T, log *testserver.Log, requestID string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for s := range strings.Lines(log.String()) {
			var line map[string]any
			if err := json.Unmarshal([]byte(s), &line); err == nil && line["request_id"] == requestID {
				return line
			}
		}
	}
	t.Fatalf("nothing was logged about request %s", requestID)
	return nil
}

// TestGoneClient: writing to a client that is gone ends the answer with an error,
// and nothing else.
func TestGoneClient(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	group := s.Group(t, "Everyone", strings.Repeat("x", 200), s.Users(t, 2000))
	h := scim.NewHandler(s.Provider, func(*http.Request) string { return "" })
	by := operator()
	for _, r := range h.Routes() {
		if r.Method != "GET" || r.Path != "/Groups" {
			continue
		}
		w := &goneWriter{ResponseRecorder: httptest.NewRecorder()}
		err := r.Serve(w, httptest.NewRequestWithContext(t.Context(), "GET", "/Groups?filter=id%20eq%20%22"+group+"%22", nil), by)
		if !errors.Is(err, io.ErrClosedPipe) || w.writes != 2 {
			t.Errorf("got the error %v after %d writes, want that of the second", err, w.writes)
		}
	}
	if _, err := s.Provider.Get(t.Context(), by, s.Provider.Schemas.Type("Group"), group); err != nil {
		t.Error(err)
	}
}

// goneWriter takes the first portion and then no more.
type goneWriter struct {
	*httptest.ResponseRecorder
	writes int
}

func (w *goneWriter) Write(b []byte) (int, error) {
	if w.writes++; w.writes > 1 {
		return 0, io.ErrClosedPipe
	}
	return w.ResponseRecorder.Write(b)
}

// requests returns how many requests to a route have ended.
func requests(t *testing.T, s *testserver.Server, route string) (n float64) {
	t.Helper()
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "roster_http_requests_total" && l.GetName() == "route" && l.GetValue() == route {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}
