package events

import (
	"cmp"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestFeedClockBack: a feed does not stand still until a clock that was ahead is there
// again, neither where a process had its lease nor where an event was to be tried again.
func TestFeedClockBack(t *testing.T) {
	s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
	status, tries := http.StatusInternalServerError, 0
	s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		tries++
		return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
	})}
	p := place{storage.DefaultTenant, "sp"}
	s.tell(t, p)
	right := time.Now()
	s.now = func() time.Time { return right.Add(48 * time.Hour) }
	s.Step(t.Context(), p.tenant, p.id)
	s.Step(t.Context(), p.tenant, p.id) // which is too early
	if tries != 1 {
		t.Fatalf("%d tries while the clock is ahead, want 1", tries)
	}
	if st, _, err := s.claim(t.Context(), p); err != nil || st != nil {
		t.Fatalf("claimed %v, %v before it is due", st, err)
	}
	s.now = func() time.Time { return right }
	s.Step(t.Context(), p.tenant, p.id)
	if tries != 2 {
		t.Errorf("%d tries after the clock went back, want 2", tries)
	}
	// Now of a process that had the feed and is gone.
	s.now = func() time.Time { return right.Add(48 * time.Hour) }
	if st, _, err := s.claim(t.Context(), p); err != nil || st == nil {
		t.Fatalf("claimed %v, %v", st, err)
	}
	s.now = func() time.Time { return right.Add(time.Hour) }
	status = http.StatusAccepted
	s.Step(t.Context(), p.tenant, p.id)
	if tries != 3 {
		t.Errorf("%d tries after the clock went back behind a lease, want 3", tries)
	}
}

// TestFeedClockBackAnHour: nor does it wait for as long as the longest that there is to
// wait for, unless that is what the receiver asked for.
func TestFeedClockBackAnHour(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		retryAfter string
		back       time.Duration // of the clock, after the first try
		want       int           // tries
	}{
		"at once":                   {http.StatusInternalServerError, "", time.Hour, 2},
		"asked to wait":             {http.StatusServiceUnavailable, "3600", -time.Minute, 1},
		"asked to wait for less":    {http.StatusServiceUnavailable, "60", time.Hour, 2},
		"asked for the event alone": {http.StatusInternalServerError, "3600", -2 * time.Minute, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
			tries := 0
			s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				tries++
				return &http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {cmp.Or(c.retryAfter, "0")}}, Body: http.NoBody, Request: r}, nil
			})}
			p := place{storage.DefaultTenant, "sp"}
			s.tell(t, p)
			right := time.Now()
			s.now = func() time.Time { return right }
			s.Step(t.Context(), p.tenant, p.id)
			s.now = func() time.Time { return right.Add(-c.back) }
			s.Step(t.Context(), p.tenant, p.id)
			if tries != c.want {
				t.Errorf("%d tries, want %d", tries, c.want)
			}
		})
	}
}

// TestIssuedAhead: a token is not issued later than now, which receivers refuse, though
// what it tells of has the time of a clock that was ahead, as all changes of a resource
// have until it is there again.
func TestIssuedAhead(t *testing.T) {
	s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
	now := time.Now()
	var got []int64
	s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		got = append(got, claimsIn(t, r).IssuedAt-now.Unix())
		return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: r}, nil
	})}
	p := place{storage.DefaultTenant, "sp"}
	if err := s.store.Write(t.Context(), p.tenant, func(tx storage.Tx) error {
		if err := s.begin(tx, &Feed{ID: p.id, Delivery: Push, URL: "https://sp.example.com/"}); err != nil {
			return err
		}
		for i, at := range []time.Duration{-time.Minute, 24 * time.Hour} {
			if err := tx.Audit(storage.AuditEntry{At: now.Add(at), Actor: "operator", Action: "user.patch", Type: "User", ID: "ana", Version: int64(i + 1)}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return now }
	s.Step(t.Context(), p.tenant, p.id)
	if len(got) != 2 || got[0] != -60 || got[1] != 0 {
		t.Errorf("issued %v seconds after now", got)
	}
}
