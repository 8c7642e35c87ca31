package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// sweepEvery is how often expired items are removed, more or less: processes
	// that were started together are not to sweep together.
	sweepEvery = time.Minute
	// sweepAfter is for how long an item has expired by then, so that clocks that
	// differ do not matter.
	sweepAfter = time.Minute
	sweepTime  = 30 * time.Second
)

// sweeper removes items that have expired.
type sweeper struct {
	store interface {
		SweepItems(ctx context.Context, before time.Time) (int, error)
	}
	log *slog.Logger
}

// Run sweeps until ctx ends. What one sweep does not get done is left to the next.
func (s *sweeper) Run(ctx context.Context) error {
	for {
		select {
		case <-time.After(sweepEvery/2 + rand.N(sweepEvery)):
		case <-ctx.Done():
			return nil
		}
		s.sweep(ctx)
	}
}

func (s *sweeper) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	if n, err := s.store.SweepItems(ctx, time.Now().Add(-sweepAfter)); err != nil {
		s.log.Warn("expired items could not be removed; the next time will do it", "error", err)
	} else if n > 0 {
		s.log.Debug("expired items were removed", "items", n)
	}
}
