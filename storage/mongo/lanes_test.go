package mongo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// chains returns how many entries each chain of the default tenant has, after a
// look at whether they are whole.
func chains(t *testing.T, s *Store) map[string]int64 {
	t.Helper()
	r, err := audit.Verify(t.Context(), s, storage.DefaultTenant, nil)
	if err != nil || !r.OK() || r.Unchained > 0 {
		t.Errorf("Verify: %+v, %v, want no faults", r, err)
	}
	list, err := s.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int64{}
	for _, e := range list {
		n[e.Chain] = max(n[e.Chain], e.N)
	}
	return n
}

func recordEntry(ctx context.Context, s *Store, then error) error {
	return s.Write(ctx, storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"}), then)
	})
}

// TestLanes: one write after the other makes one chain; several at the same time,
// from two processes, make as many at most, and each is whole.
func TestLanes(t *testing.T) {
	server := mongotest.Start(t)
	uri := server.URI(server.NewDatabase(t))
	a, b := open(t, uri, Options{}), open(t, uri, Options{})
	errTest := errors.New("the write of this test fails")
	for i := range 6 {
		if err := recordEntry(t.Context(), a, nil); err != nil {
			t.Fatal(err)
		}
		if err := recordEntry(t.Context(), a, errTest); !errors.Is(err, errTest) {
			t.Errorf("write %d: got %v", i, err)
		}
	}
	if got := chains(t, a); len(got) != 1 {
		t.Errorf("one write after the other made the chains %v", got)
	}
	hot := newUser(a, 1, "hot")
	if err := create(t.Context(), a, hot); err != nil {
		t.Fatal(err)
	}
	const writers, each = 16, 12
	var wg sync.WaitGroup
	for w := range writers {
		s := []*Store{a, b}[w%2]
		wg.Go(func() {
			for i := range each {
				var then error
				if i%5 == 4 {
					then = errTest
				}
				err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					r, err := tx.Get("User", hot.ID)
					if err == nil && i%3 == 0 { // in each other's way
						err = tx.Update(r, &storage.Resource{Type: r.Type, ID: r.ID, Version: r.Version + 1, LastModified: hot.LastModified})
					}
					entry := storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test", ID: fmt.Sprint(w, "/", i)}
					return errors.Join(err, tx.Audit(entry), tx.Audit(entry), then)
				})
				if !errors.Is(err, then) {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	got, total := chains(t, b), int64(0)
	for _, n := range got {
		total += n
	}
	if want := int64(6 + 1 + 2*writers*(each-each/5)); len(got) > writers || total != want {
		t.Errorf("%d entries in %d chains, want %d in %d at most", total, len(got), want, writers)
	}
}

// TestLaneOfAnUnknownOutcome: a chain of which nobody knows whether it has the
// entries of a write is never continued.
func TestLaneOfAnUnknownOutcome(t *testing.T) {
	p, uri := startProxy(t)
	var c commits
	s := open(t, uri, Options{Monitor: c.monitor()})
	if err := recordEntry(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	p.Cut(times(-1, "commitTransaction"))
	if err := c.cutOff(t, func(ctx context.Context) error { return recordEntry(ctx, s, nil) }); !errors.Is(err, storage.ErrOutcomeUnknown) {
		t.Fatalf("got %v, want ErrOutcomeUnknown", err)
	}
	p.Cut(nil)
	for range 3 {
		if err := recordEntry(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	// The proxy lets the commit through and loses its answer.
	got := chains(t, s)
	if len(got) != 2 {
		t.Errorf("chains %v, want two", got)
	}
	for chain, n := range got {
		if n != 2 && n != 3 {
			t.Errorf("chain %s has %d entries", chain, n)
		}
	}
	// An answer that is lost and then known costs no chain.
	p.Cut(times(1, "commitTransaction"))
	if err := recordEntry(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	p.Cut(nil)
	if again := chains(t, s); len(again) != 2 {
		t.Errorf("after a lost answer chains %v, want two", again)
	}
}

// TestLaneWithoutTransactions: a write that fails half-way may have left its entry.
func TestLaneWithoutTransactions(t *testing.T) {
	double := mongotest.StartDouble(t, mongotest.Config{Standalone: true})
	s := open(t, double.URI("roster"), Options{AllowStandalone: true})
	fails := func(after bool) error {
		return s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			err := tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"})
			if _, getErr := tx.Get("User", "nobody"); after && !errors.Is(getErr, storage.ErrNotFound) { // this sends the entry
				return getErr
			}
			return errors.Join(err, errors.New("the write of this test fails"))
		})
	}
	for range 2 {
		if err := recordEntry(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
		if fails(true) == nil || fails(false) == nil {
			t.Fatal("a write was to fail")
		}
	}
	if err := recordEntry(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	chains(t, s)
}
