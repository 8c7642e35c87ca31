package main

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/roster-id/roster/storage"
)

const (
	// sweepEvery is how often expired items are removed, more or less: processes
	// that were started together are not to sweep together.
	sweepEvery = time.Minute
	// sweepAfter is for how long an item has expired by then, so that clocks that
	// differ do not matter.
	sweepAfter = time.Minute
	sweepTime  = 30 * time.Second

	// purgeEvery is how often what was deleted for long enough is purged, more or less,
	// and purgeFirst when that is done first.
	purgeEvery = time.Hour
	purgeFirst = 5 * time.Minute
	purgeTime  = 10 * time.Minute

	// finishEvery is how often it is looked for changes of schemas that came to a sudden
	// end, more or less.
	finishEvery = time.Minute
	finishTime  = 10 * time.Minute
)

// What these do, as metrics name it.
const (
	sweeping  = "sweep"
	purging   = "purge"
	finishing = "finish"
)

// sweeper removes items that have expired.
type sweeper struct {
	store interface {
		SweepItems(ctx context.Context, before time.Time) (int, error)
	}
	done func(chore string, err error) // is told of each time
	log  *slog.Logger
}

// Run sweeps until ctx ends. What one sweep does not get done is left to the next.
func (s *sweeper) Run(ctx context.Context) error {
	for await(ctx, sweepEvery) {
		s.done(sweeping, s.sweep(ctx))
	}
	return nil
}

// await waits for a time, more or less, or until ctx ends, and then returns false.
func await(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d/2 + rand.N(d)):
		return true
	case <-ctx.Done():
		return false
	}
}

// complain logs what has failed, unless that is because the server is to end.
func complain(ctx context.Context, log *slog.Logger, what string, args ...any) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		log.Warn(what, args...)
	}
}

func (s *sweeper) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	n, err := s.store.SweepItems(ctx, time.Now().Add(-sweepAfter))
	if err != nil {
		complain(ctx, s.log, "expired items could not be removed; the next time will do it", "error", err)
	} else if n > 0 {
		s.log.Debug("expired items were removed", "items", n)
	}
	return err
}

// purger purges what was deleted for as long as its tenant keeps it.
type purger struct {
	tenants  storage.Tenants
	provider interface {
		Sweep(ctx context.Context, tenant storage.TenantID) (int, error)
	}
	done func(chore string, err error)
	log  *slog.Logger
}

// Run purges until ctx ends. What is not done in time is left to the next.
func (p *purger) Run(ctx context.Context) error {
	for wait := purgeFirst; await(ctx, wait); wait = purgeEvery {
		p.done(purging, p.purge(ctx))
	}
	return nil
}

func (p *purger) purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, purgeTime)
	defer cancel()
	list, err := p.tenants.ListTenants(ctx)
	if err != nil {
		complain(ctx, p.log, "deleted resources could not be purged; the next time will do it", "error", err)
		return err
	}
	var failed error
	for _, tenant := range list {
		n, err := p.provider.Sweep(ctx, tenant.ID)
		if err != nil {
			complain(ctx, p.log, "deleted resources could not all be purged; the next time will do it", "tenant", tenant.ID, "purged", n, "error", err)
			failed = err
		} else if n > 0 {
			p.log.Info("resources were purged that had been deleted for long enough", "tenant", tenant.ID, "purged", n)
		}
	}
	return failed
}

// finisher goes on with changes of schemas that came to a sudden end.
type finisher struct {
	tenants  storage.Tenants
	provider interface {
		FinishDefinitions(ctx context.Context, tenant storage.TenantID) error
	}
	done func(chore string, err error)
	log  *slog.Logger
}

// Run looks at once, and again and again until ctx ends.
func (f *finisher) Run(ctx context.Context) error {
	f.done(finishing, f.finish(ctx))
	for await(ctx, finishEvery) {
		f.done(finishing, f.finish(ctx))
	}
	return nil
}

func (f *finisher) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finishTime)
	defer cancel()
	list, err := f.tenants.ListTenants(ctx)
	if err != nil {
		complain(ctx, f.log, "changes of schemas could not be looked for; the next time will do it", "error", err)
		return err
	}
	var failed error
	for _, tenant := range list {
		if err := f.provider.FinishDefinitions(ctx, tenant.ID); err != nil {
			complain(ctx, f.log, "a change of a schema could not be completed; the next time will do it", "tenant", tenant.ID, "error", err)
			failed = err
		}
	}
	return failed
}
