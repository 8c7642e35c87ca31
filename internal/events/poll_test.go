package events

import (
	"context"
	"crypto/sha256"
	"errors"
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
		hash, now := sha256.Sum256([]byte("t")), time.Now()
		return errors.Join(
			s.begin(tx, &Feed{ID: "sp", Delivery: Poll, Client: "c"}), tx.CreateClient(poller()),
			tx.CreateToken(&storage.Token{ID: "t", Client: "c", Hash: hash[:], Created: now, Expires: now.Add(time.Hour)}),
		)
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// poller is the client of openPolled.
func poller() *storage.Client {
	return &storage.Client{ID: "c", Tenant: storage.DefaultTenant, Name: "c", Scopes: []string{"events"}, Created: time.Unix(1e9, 0).UTC()}
}

// polling is who polls with its token.
func polling() auth.Principal {
	p := auth.ClientPrincipal(poller())
	p.Token = "t"
	return p
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
			out, err := s.Poll(t.Context(), polling(), "sp", PollRequest{})
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
		out, err := s.Poll(ctx, polling(), "sp", PollRequest{})
		if err != nil || len(out.Sets) != 0 || time.Since(began) < MaxWait/2 {
			t.Errorf("after %v: %+v, %v", time.Since(began), out, err)
		}
	})
}

// TestPollMeanwhile: who waits for events is given none any more once the feed is disabled,
// removed or another's, or the client, its token or its right to events has ended.
func TestPollMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(s *Feeds, tx storage.Tx, f *storage.Item) error
		want      int
	}{
		"nothing": {func(*Feeds, storage.Tx, *storage.Item) error { return nil }, 1},
		"disabled": {func(s *Feeds, tx storage.Tx, _ *storage.Item) error {
			return s.disable(tx, place{storage.DefaultTenant, "sp"})
		}, 0},
		"removed": {func(_ *Feeds, tx storage.Tx, f *storage.Item) error { return tx.DeleteItem(f) }, 0},
		"another's": {func(s *Feeds, tx storage.Tx, i *storage.Item) error {
			f, err := readFeed(s.keys, storage.DefaultTenant, i)
			if err != nil {
				return err
			}
			f.Client = "other"
			return s.put(tx, storage.DefaultTenant, i, f)
		}, 0},
		"of other types": {func(s *Feeds, tx storage.Tx, i *storage.Item) error {
			f, err := readFeed(s.keys, storage.DefaultTenant, i)
			if err != nil {
				return err
			}
			f.Types = []string{"Group"}
			return s.put(tx, storage.DefaultTenant, i, f)
		}, 0},
		"client revoked": {func(_ *Feeds, tx storage.Tx, _ *storage.Item) error { return tx.RevokeClient("c", time.Now()) }, 0},
		"token rotated":  {func(_ *Feeds, tx storage.Tx, _ *storage.Item) error { return tx.ExpireToken("t", time.Now()) }, 0},
		"without the scope": {func(_ *Feeds, tx storage.Tx, _ *storage.Item) error {
			next := poller()
			next.Scopes = []string{"users"}
			return tx.UpdateClient(poller(), next)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			keys, path := ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db")
			synctest.Test(t, func(t *testing.T) {
				s := openPolled(t, keys, path)
				time.AfterFunc(MaxWait/4, func() {
					if err := s.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
						f, err := tx.Item(feedKind, "sp")
						if err != nil {
							return err
						}
						return errors.Join(c.meanwhile(s, tx, f),
							tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "user.create", Type: "User", ID: "ana", Version: 1}))
					}); err != nil {
						t.Error(err)
					}
				})
				out, err := s.Poll(t.Context(), polling(), "sp", PollRequest{})
				if err != nil || len(out.Sets) != c.want {
					t.Errorf("%+v, %v; want %d events", out, err, c.want)
				}
			})
		})
	}
}
