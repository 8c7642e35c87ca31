package provlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// shelf is a store as far as a Log needs one.
type shelf struct {
	storage.Store
	mu    sync.Mutex
	items []*storage.Item
	err   error
	noted func() // called before something is written
}

func (s *shelf) NoteItems(ctx context.Context, _ storage.TenantID, notes []*storage.Item) error {
	if s.noted != nil {
		s.noted()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.err == nil {
		s.items = append(s.items, notes...)
	}
	return s.err
}

func (s *shelf) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)
}

func (s *shelf) Items(_ context.Context, _ storage.TenantID, _, key string) (list []*storage.Item, err error) {
	for _, i := range s.items {
		if slices.Contains(i.Keys, key) {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *storage.Item) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

func (s *shelf) ForgetItems(_ context.Context, _ storage.TenantID, _ string, ids ...string) error {
	s.items = slices.DeleteFunc(s.items, func(i *storage.Item) bool { return slices.Contains(ids, i.ID) })
	return nil
}

func (s *shelf) entries(t *testing.T) (list []*Entry) {
	t.Helper()
	for _, i := range s.items {
		e, err := readEntry(i)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

func newLog(s storage.Store, size int) *Log {
	return New(Options{Store: s, Keep: time.Hour, Size: size, Now: time.Now, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
}

func from(client string, status int) *scim.Exchange {
	return &scim.Exchange{RequestID: "r", By: auth.Principal{Kind: auth.Client, ID: client, Tenant: "default"}, Method: "POST", Route: "/Users", Status: status, Began: time.Now()}
}

// TestSampling: refusals are kept, and of what goes well as much as does not matter.
func TestSampling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		l := newLog(s, 10_000)
		count := func() (n map[string]int, omitted int) {
			l.Flush(t.Context())
			n = map[string]int{}
			for _, e := range s.entries(t) {
				n[fmt.Sprint(e.Client, " ", e.Status)]++
				omitted += e.Omitted
			}
			s.items = nil
			return n, omitted
		}
		for range 1000 {
			l.Tell(from("a", 201))
			l.Tell(from("a", 409))
		}
		l.Tell(from("b", 201))
		n, omitted := count()
		if diff := cmp.Diff(map[string]int{"a 201": 20, "a 409": 200, "b 201": 1}, n); diff != "" || omitted != 0 {
			t.Errorf("%d omitted (-want +got):\n%s", omitted, diff)
		}
		time.Sleep(2 * time.Second)
		for range 1000 {
			l.Tell(from("a", 201))
			l.Tell(from("a", 409))
		}
		n, omitted = count()
		if diff := cmp.Diff(map[string]int{"a 201": 2, "a 409": 20}, n); diff != "" || omitted != 980+800 {
			t.Errorf("%d omitted (-want +got):\n%s", omitted, diff)
		}
		time.Sleep(time.Hour)
		for range 100 {
			l.Tell(from("a", 201))
		}
		if n, _ = count(); n["a 201"] != 20 {
			t.Errorf("after an hour: %v", n)
		}
	})
}

// TestLoss: what is lost is counted, nobody waits, and what comes later is written.
func TestLoss(t *testing.T) {
	t.Parallel()
	s := &shelf{err: errors.New("no room on the disk")}
	l := newLog(s, 1000)
	for i := range queueLength + 10 {
		l.Tell(from(fmt.Sprint(i), 409))
	}
	lost := func(cause string) float64 {
		families, err := l.opt.Registry.(*prometheus.Registry).Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		for _, m := range families[0].GetMetric() {
			if m.GetLabel()[0].GetValue() == cause {
				return m.GetCounter().GetValue()
			}
		}
		return -1
	}
	if lost(droppedQueue) != 10 || lost(droppedStore) != 0 {
		t.Errorf("lost are %v and %v", lost(droppedQueue), lost(droppedStore))
	}
	l.Flush(t.Context())
	if lost(droppedStore) != queueLength {
		t.Errorf("lost are %v", lost(droppedStore))
	}
	s.err = nil
	l.Tell(from("a", 409))
	l.Flush(t.Context())
	if len(s.items) != 1 {
		t.Errorf("%d items", len(s.items))
	}
}

// TestRun: entries are written within a second, a batch at once, and what is left at the end.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		l := newLog(s, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		l.Tell(from("a", 409))
		synctest.Wait()
		if s.len() != 0 {
			t.Errorf("%d items at once", s.len())
		}
		time.Sleep(writeEvery)
		synctest.Wait()
		if s.len() != 1 {
			t.Errorf("%d items after a while", s.len())
		}
		for range batchLength {
			l.Tell(from("a", 409))
		}
		synctest.Wait()
		if s.len() != 1+batchLength {
			t.Errorf("%d items after a batch", s.len())
		}
		l.Tell(from("a", 409))
		cancel()
		if err := <-done; err != nil || s.len() != 2+batchLength {
			t.Errorf("%d items at the end, %v", s.len(), err)
		}
	})
}

// TestEndWhileItWrites: what is being written when the process is told to end is written.
func TestEndWhileItWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &shelf{noted: cancel}
		l := newLog(s, 1000)
		l.Tell(from("a", 409))
		if err := l.Run(ctx); err != nil || s.len() != 1 {
			t.Errorf("%d items at the end, %v", s.len(), err)
		}
	})
}

// TestTrim: the oldest go, and what other processes wrote counts when a client is first met.
func TestTrim(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	for range 3 {
		l := newLog(s, 40)
		for i := range 100 {
			x := from("a", 409)
			x.RequestID = fmt.Sprint(i)
			l.Tell(x)
			l.Flush(t.Context())
			if i > 50 && (len(s.items) < 40 || len(s.items) > 50) {
				t.Fatalf("%d items after %d", len(s.items), i)
			}
		}
	}
	list := s.entries(t)
	if last := list[len(list)-1]; last.RequestID != "99" {
		t.Errorf("the last one is %s", last.RequestID)
	}
}

// TestLargeEntry: an entry has its bounds, and is kept without bodies beyond.
func TestLargeEntry(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	l := newLog(s, 10)
	x := from("a", 409)
	x.Body = []byte(`"` + strings.Repeat("x", maxEntry) + `"`)
	x.Failures = []scim.Failure{{Status: 409, Type: scim.Uniqueness, Body: x.Body}}
	l.Tell(x)
	l.Flush(t.Context())
	if e := s.entries(t)[0]; e.Body != nil || len(e.Failures) != 1 || e.Failures[0].Body != nil || e.Failures[0].Type != scim.Uniqueness || len(s.items[0].Data) > 1000 {
		t.Errorf("kept is %s", s.items[0].Data)
	}
}

// TestTolerated: what a strict client is pointed to is a row of the page, and says so.
func TestTolerated(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	strict := map[string]string{}
	for line := range bytes.Lines(page) {
		if cells := strings.Split(string(line), " | "); len(cells) == 4 {
			strict[strings.TrimPrefix(cells[0], "| ")] = cells[3]
		}
	}
	for typ, rows := range tolerated {
		for _, row := range rows {
			if !strings.Contains(strict[row], "`"+string(typ)+"`") {
				t.Errorf("%s: %q: the page has %q", typ, row, strict[row])
			}
		}
	}
	told := 0
	for _, cell := range strict {
		told += strings.Count(cell, "`invalid") + strings.Count(cell, "`noTarget`") + strings.Count(cell, "`mutability`")
	}
	ours := 0
	for _, rows := range tolerated {
		ours += len(rows)
	}
	if ours != told {
		t.Errorf("%d rows are pointed to, the page has %d", ours, told)
	}
}
