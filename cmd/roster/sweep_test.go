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
		s := &sweeper{store: store, log: slog.New(slog.NewTextHandler(store, nil))}
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
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
