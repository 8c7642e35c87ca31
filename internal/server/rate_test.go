package server_test

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestClientRate: a client has as many requests as it may send, its own or those of all clients, and
// then 429 with when to come back; nobody else is held up by it.
func TestClientRate(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	began := time.Now()
	s := testserver.Start(t, testserver.Options{
		Now:    func() time.Time { return began.Add(time.Duration(offset.Load())) },
		Server: func(o *server.Options) { o.ClientRate, o.ClientBurst = 1, 5 },
	})
	pass := func(d time.Duration) { offset.Add(int64(d)) }
	own := &storage.Client{Tenant: storage.DefaultTenant, Name: "own", Scopes: []string{"users"}, Rate: 2, Burst: 3}
	slow := &storage.Client{Tenant: storage.DefaultTenant, Name: "slow", Scopes: []string{"users"}, Rate: 1}
	ownToken, slowToken := s.Issue(t, own), s.Issue(t, slow)
	// count sends requests until one is refused, and returns how many were not.
	count := func(token, after string) int {
		t.Helper()
		for n := range 100 {
			r := s.Do(t, "GET", "/Users/"+nobody, "", "Authorization", "Bearer "+token)
			if r.Status == 404 {
				continue
			}
			var e struct{ Schemas []string }
			if err := json.Unmarshal([]byte(r.Body), &e); err != nil || r.Status != 429 || r.Header.Get("Retry-After") != after || len(e.Schemas) != 1 || e.Schemas[0] != scim.ErrorURI {
				t.Fatalf("%d %v %s, want 429 in SCIM's form and Retry-After %s", r.Status, r.Header, r.Body, after)
			}
			return n
		}
		t.Fatal("there is no limit")
		return 0
	}
	for _, step := range []struct {
		what, token, after string
		pass               time.Duration
		want               int
	}{
		{"its own burst", ownToken, "1", 0, 3},
		{"a burst as large as the rate", slowToken, "1", 0, 1},
		{"what holds for all", s.Token, "1", 0, 5},
		{"too soon", ownToken, "1", 400 * time.Millisecond, 0},
		{"its own rate", ownToken, "1", time.Second, 2},
		{"the rate of all", s.Token, "1", time.Second, 2},
		{"no more than the burst", ownToken, "1", time.Hour, 3},
	} {
		pass(step.pass)
		if got := count(step.token, step.after); got != step.want {
			t.Errorf("%s: %d requests, want %d", step.what, got, step.want)
		}
	}

	m := &auth.ClientManager{Store: s.Store, Now: time.Now}
	by := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	if _, err := m.Update(t.Context(), by, own.ID, auth.ClientChange{Rate: new(10), Burst: new(20)}); err != nil {
		t.Fatal(err)
	}
	pass(time.Second) // what is known of the client is asked anew; until then the rate was two
	if got := count(ownToken, "1"); got != 2 {
		t.Errorf("when the client was changed: %d requests, want 2", got)
	}
	pass(time.Hour)
	if got := count(ownToken, "1"); got != 20 {
		t.Errorf("after the client was changed: %d requests, want 20", got)
	}
}
