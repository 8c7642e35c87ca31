package storage_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

type others interface{ storage.Items }

// asked counts how often a catalogue asks its store.
type asked struct {
	others
	n    int
	list []*storage.Item
}

func (a *asked) Items(context.Context, storage.TenantID, string, string) ([]*storage.Item, error) {
	a.n++
	return a.list, nil
}

func newCatalogue(tb testing.TB, now func() time.Time) (*storage.Catalogue, *asked, *schemas.Set) {
	tb.Helper()
	set, err := schemas.Load()
	if err != nil {
		tb.Fatal(err)
	}
	a := &asked{}
	return storage.NewCatalogue(set, a, now), a, set
}

// TestCatalogue: the store is asked once in half a second, and types stay what they are
// while nothing changes.
func TestCatalogue(t *testing.T) {
	now := time.Now()
	c, a, set := newCatalogue(t, func() time.Time { return now })
	of := func() *schemas.Set {
		t.Helper()
		e, err := c.Of(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		return e.Set
	}
	for range 10 {
		if of() != set {
			t.Fatal("without definitions the types are not those that are built in")
		}
	}
	now = now.Add(499 * time.Millisecond)
	if of(); a.n != 1 {
		t.Errorf("asked %d times within half a second", a.n)
	}
	if allocs := testing.AllocsPerRun(100, func() { of() }); allocs > 0 {
		t.Errorf("a look costs %v allocations", allocs)
	}
	d := storage.Definition{CustomSchema: schemas.CustomSchema{Extends: []string{"User"}, Schema: schemas.SchemaDefinition{ID: "urn:example:x", Attributes: []schemas.AttributeDefinition{{Name: "a"}}}}}
	item, err := d.Item()
	if err != nil {
		t.Fatal(err)
	}
	a.list = []*storage.Item{item}
	now = now.Add(401 * time.Millisecond)
	with := of()
	if a.n != 2 || with == set || with.Type("Group") != set.Type("Group") || with.Type("User").Top("urn:example:x") == nil {
		t.Errorf("asked %d times; the extension is there: %t", a.n, with != set)
	}
	now = now.Add(time.Second)
	if of() != with || a.n != 3 {
		t.Errorf("asked %d times; what has not changed is other than it was: %t", a.n, of() != with)
	}
	c.Forget("x")
	if of(); a.n != 4 {
		t.Errorf("asked %d times after being told to forget", a.n)
	}
	now = now.Add(-time.Minute) // a clock that was put back
	if of(); a.n != 5 {
		t.Errorf("asked %d times with a clock that went back", a.n)
	}
}

// silent is a store that does not answer.
type silent struct{ others }

func (silent) Items(ctx context.Context, _ storage.TenantID, _, _ string) ([]*storage.Item, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestCatalogueOfASilentStore: who asks together fails together, and nobody waits longer
// than the own request does, or is given up with somebody else's.
func TestCatalogueOfASilentStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, err := schemas.Load()
		if err != nil {
			t.Fatal(err)
		}
		c := storage.NewCatalogue(set, silent{}, time.Now)
		begun := time.Now()
		waited := make([]time.Duration, 10)
		var all sync.WaitGroup
		for i := range waited {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // the first one is the one who asks
				ctx := t.Context()
				if i < 2 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				}
				if _, err := c.Of(ctx, "x"); err == nil {
					t.Error("an edition out of nothing")
				}
				waited[i] = time.Since(begun).Round(time.Second)
			})
		}
		all.Wait()
		want := []time.Duration{1e9, 1e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9, 5e9}
		if !slices.Equal(waited, want) {
			t.Errorf("waited %v, want %v", waited, want)
		}
	})
}

func BenchmarkCatalogue(b *testing.B) {
	c, _, _ := newCatalogue(b, time.Now)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Of(b.Context(), "x"); err != nil {
			b.Fatal(err)
		}
	}
}
