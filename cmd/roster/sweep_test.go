package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/storage"
)

// swept is a store that notes when it is swept.
type swept struct {
	mu  sync.Mutex
	at  []time.Time
	err error
	log strings.Builder

	ok, failed int // what was told of
}

func (s *swept) done(_ string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed++
	} else {
		s.ok++
	}
}

func (s *swept) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// soFar returns when it was swept and what was logged.
func (s *swept) soFar() ([]time.Time, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at), s.log.String()
}

func (s *swept) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *swept) SweepItems(ctx context.Context, before time.Time) (int, error) {
	if end, ok := ctx.Deadline(); !ok || end.After(time.Now().Add(sweepTime)) {
		return 0, errors.New("a sweep without an end")
	}
	if d := time.Since(before); d != sweepAfter {
		return 0, errors.New("a sweep of what expired " + d.String() + " ago")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Now())
	return 1, s.err
}

// TestSweeper: a sweep every minute, more or less, and one that fails is not the
// last.
func TestSweeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &swept{}
		s := &sweeper{store: store, done: store.done, log: slog.New(slog.NewTextHandler(store, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		sweeps, log := store.soFar()
		n := len(sweeps)
		if n < 40 || n > 120 {
			t.Errorf("%d sweeps in an hour", n)
		}
		last, waits := start, map[time.Duration]bool{}
		for _, at := range sweeps {
			wait := at.Sub(last)
			if waits[wait], last = true, at; wait < sweepEvery/2 || wait >= sweepEvery*3/2 {
				t.Errorf("a sweep after %s", wait)
			}
		}
		if len(waits) < 10 {
			t.Errorf("the waits are %v: those of several processes would be the same", waits)
		}
		if log != "" {
			t.Errorf("the log has %s", log)
		}
		store.fail(storage.ErrUnavailable)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		sweeps, log = store.soFar()
		if len(sweeps) < n+5 || strings.Count(log, "expired items could not be removed") != len(sweeps)-n {
			t.Errorf("%d sweeps that failed, and the log has %s", len(sweeps)-n, log)
		}
		if store.ok != n || store.failed != len(sweeps)-n {
			t.Errorf("%d and %d of them were told of, %d and %d were done", store.ok, store.failed, n, len(sweeps)-n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// purged is a directory that notes for which tenants it is swept.
type purged struct {
	swept
	tenants []storage.TenantID
}

func (p *purged) ListTenants(context.Context) ([]*storage.Tenant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []*storage.Tenant{{ID: "a"}, {ID: "b"}}, p.err
}

func (p *purged) Sweep(ctx context.Context, tenant storage.TenantID) (int, error) {
	if end, ok := ctx.Deadline(); !ok || end.After(time.Now().Add(purgeTime)) {
		return 0, errors.New("a sweep without an end")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.tenants = append(p.at, time.Now()), append(p.tenants, tenant)
	if tenant == "a" {
		return 1, errors.New("something of a cannot be purged")
	}
	return 1, nil
}

// TestPurger: every tenant, soon after the start and then every hour, more or less; one
// that fails holds up no other.
func TestPurger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &purged{}
		p := &purger{tenants: store, provider: store, done: store.done, log: slog.New(slog.NewTextHandler(&store.swept, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		sweeps, log := store.soFar()
		if len(sweeps)%2 != 0 || len(sweeps) < 2*16 || len(sweeps) > 2*49 {
			t.Fatalf("%d sweeps in a day", len(sweeps))
		}
		if wait := sweeps[0].Sub(start); wait > purgeFirst*3/2 {
			t.Errorf("the first after %s", wait)
		}
		for i := range sweeps {
			if want := []storage.TenantID{"a", "b"}[i%2]; store.tenants[i] != want {
				t.Errorf("sweep %d was of %s, want %s", i, store.tenants[i], want)
			}
			if i >= 2 && i%2 == 0 {
				if wait := sweeps[i].Sub(sweeps[i-2]); wait < purgeEvery/2 || wait >= purgeEvery*3/2 {
					t.Errorf("a sweep after %s", wait)
				}
			}
		}
		if n := len(sweeps) / 2; strings.Count(log, "could not all be purged") != n || strings.Count(log, "resources were purged") != n {
			t.Errorf("%d times, and the log has %s", n, log)
		}
		store.fail(storage.ErrUnavailable)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if later, log := store.soFar(); len(later) != len(sweeps) || !strings.Contains(log, "could not be purged") {
			t.Errorf("without a list of tenants: %d sweeps, and the log has %s", len(later)-len(sweeps), log)
		} else if store.ok > 0 || store.failed <= len(sweeps)/2 {
			t.Errorf("%d and %d were told of", store.ok, store.failed)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
