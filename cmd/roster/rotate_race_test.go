package main

import (
	"io"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// TestParallelRotation: however many give a client a new token at the same time,
// it has two valid ones at most.
func TestParallelRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r.db")
	var stores [2]storage.Store // the second is beside the first, as another process would be
	for i := range stores {
		s, err := openBeside(t.Context(), place{kind: embedded, location: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		stores[i] = s
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	session := func(i int) *clientSession {
		return &clientSession{
			ctx: t.Context(), store: stores[i%len(stores)], now: now, say: io.Discard,
			by: auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant},
		}
	}
	if _, err := session(0).create(storage.Client{Name: "okta", Scopes: []string{"users"}}, 90*day); err != nil {
		t.Fatal(err)
	}
	const rotations = 12
	var g errgroup.Group
	for i := range rotations {
		g.Go(func() error { _, err := session(i).rotate("okta", day, 90*day); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	c, err := session(0).find("okta")
	if err != nil {
		t.Fatal(err)
	}
	valid := 0
	for _, k := range c.Tokens {
		if now.Before(k.Expires) {
			valid++
		}
	}
	if valid != 2 || len(c.Tokens) != rotations+1 {
		t.Errorf("%d of %d tokens are valid, want 2 of %d", valid, len(c.Tokens), rotations+1)
	}
}
