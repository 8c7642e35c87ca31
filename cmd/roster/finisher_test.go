package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/storage"
)

type finished struct {
	swept
	tenants []storage.TenantID
}

func (f *finished) ListTenants(context.Context) ([]*storage.Tenant, error) {
	return []*storage.Tenant{{ID: "a"}, {ID: "b"}}, nil
}

func (f *finished) FinishDefinitions(_ context.Context, tenant storage.TenantID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tenants = append(f.tenants, tenant)
	if tenant == "a" {
		return errors.New("something of a cannot be derived")
	}
	return nil
}

func (f *finished) seen() []storage.TenantID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tenants)
}

// ending is a store that is asked when the server is told to end.
type ending struct {
	finished
	end context.CancelFunc
}

func (e *ending) SweepItems(ctx context.Context, _ time.Time) (int, error) {
	e.end()
	return 0, ctx.Err()
}

func (e *ending) Sweep(ctx context.Context, _ storage.TenantID) (int, error) {
	e.end()
	return 0, ctx.Err()
}

func (e *ending) FinishDefinitions(ctx context.Context, _ storage.TenantID) error {
	e.end()
	return ctx.Err()
}

// TestEndOfChores: what is left to the next start by a server that is told to end is
// nothing to warn of.
func TestEndOfChores(t *testing.T) {
	var log strings.Builder
	for name, run := range map[string]func(context.Context, *ending, *slog.Logger) error{
		"sweeper": func(ctx context.Context, e *ending, l *slog.Logger) error { return (&sweeper{e, e.done, l}).sweep(ctx) },
		"purger": func(ctx context.Context, e *ending, l *slog.Logger) error {
			return (&purger{e, e, e.done, l}).purge(ctx)
		},
		"finisher": func(ctx context.Context, e *ending, l *slog.Logger) error {
			return (&finisher{e, e, e.done, l}).finish(ctx)
		},
	} {
		ctx, end := context.WithCancel(t.Context())
		if err := run(ctx, &ending{end: end}, slog.New(slog.NewTextHandler(&log, nil))); err == nil || log.Len() > 0 {
			t.Errorf("%s: %v, and the log has %s", name, err, &log)
		}
	}
}

// TestFinisher: every tenant, at the start and then every minute, more or less; one that
// fails holds up no other.
func TestFinisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &finished{}
		f := &finisher{tenants: store, provider: store, done: store.done, log: slog.New(slog.NewTextHandler(&store.swept, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		synctest.Wait()
		_, log := store.soFar()
		if seen := store.seen(); len(seen) != 2 || seen[1] != "b" || !strings.Contains(log, "could not be completed") {
			t.Errorf("at the start: %v, and the log has %s", seen, log)
		}
		time.Sleep(10 * finishEvery)
		synctest.Wait()
		if n := len(store.seen()); n < 2*6 || n > 2*21 {
			t.Errorf("%d looks in ten minutes", n)
		} else if store.ok > 0 || store.failed != n/2 {
			t.Errorf("%d and %d were told of", store.ok, store.failed)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
