package events

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// TestWaitingPolls: polls that wait are bounded, of a feed and of all.
func TestWaitingPolls(t *testing.T) {
	t.Parallel()
	s := &Feeds{polls: map[string]int{}}
	n := 0
	for feed := range 3 * maxWaiting {
		id := string(rune('a' + feed))
		for i := range maxPolls + 1 {
			ok := s.mayWait(id)
			if ok {
				n++
			}
			if i == maxPolls && ok {
				t.Errorf("feed %d has %d polls that wait", feed, i+1)
			}
		}
	}
	if n != maxWaiting {
		t.Errorf("%d polls wait, want %d", n, maxWaiting)
	}
	for range maxPolls {
		s.waited("a")
	}
	if !s.mayWait("a") || len(s.polls) == 0 {
		t.Error("nobody waits in the place of those that have ended")
	}
}

// openPolled returns the feeds of a new store: sp, which c polls.
func openPolled(t *testing.T, keys *auth.KeyRing, path string) *Feeds {
	t.Helper()
	s := open(t, keys, path)
	if err := s.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return s.begin(tx, &Feed{ID: "sp", Delivery: Poll, Client: "c"})
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPollStopping: a process that is to end does not wait for polls that find nothing.
func TestPollStopping(t *testing.T) {
	keys, path := ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db")
	synctest.Test(t, func(t *testing.T) {
		s := openPolled(t, keys, path)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.AfterFunc(MaxWait/4, stop)
		for _, want := range []time.Duration{MaxWait / 4, 0} { // one that waits, and one that comes then
			began := time.Now()
			out, err := s.Poll(t.Context(), auth.Principal{Tenant: storage.DefaultTenant, Kind: auth.Client, ID: "c"}, "sp", PollRequest{})
			if took := time.Since(began); err != nil || len(out.Sets) != 0 || took != want {
				t.Errorf("after %v: %+v, %v; want it after %v", took, out, err, want)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPollImpatient: a client that waits for less long than a poll does is answered, not
// failed.
func TestPollImpatient(t *testing.T) {
	keys, path := ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db")
	synctest.Test(t, func(t *testing.T) {
		s := openPolled(t, keys, path)
		ctx, cancel := context.WithTimeout(t.Context(), MaxWait/2+lookEvery/2)
		defer cancel()
		began := time.Now()
		out, err := s.Poll(ctx, auth.Principal{Tenant: storage.DefaultTenant, Kind: auth.Client, ID: "c"}, "sp", PollRequest{})
		if err != nil || len(out.Sets) != 0 || time.Since(began) < MaxWait/2 {
			t.Errorf("after %v: %+v, %v", time.Since(began), out, err)
		}
	})
}
