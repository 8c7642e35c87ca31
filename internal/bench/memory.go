package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// starts measures how long an empty server takes until it is ready.
func (r *run) starts(ctx context.Context) error {
	res := &StartResult{}
	// The first start may find the program on disk only; the median does not
	// mind.
	for range r.cfg.Rounds + 2 {
		s, err := r.spawn.Empty(ctx)
		if err != nil {
			return err
		}
		res.Samples = append(res.Samples, float64(s.Took.Microseconds())/1e3)
		if err := s.Stop(); err != nil {
			return err
		}
	}
	res.Median = median(res.Samples)
	r.report.Start = res
	r.sayf("ready after %.1f ms\n", res.Median)
	return nil
}

// walkSize is how many users are asked for at a time when all are listed: the
// most a server gives.
const walkSize = 500

// memory loads the population and watches how much memory the server holds:
// before, after, and while all users are listed.
func (r *run) memory(ctx context.Context, own bool) error {
	m := &MemoryResult{}
	s := r.big.on
	if own {
		// What a server needs to start is not what it holds when idle.
		if err := sleep(ctx, min(time.Second, r.cfg.Duration)); err != nil {
			return err
		}
		var err error
		if m.Idle, err = s.resident(ctx); err != nil {
			return err
		}
	}
	load, err := watch(ctx, s, func() error { return r.load(ctx, r.big, r.cfg.Users) })
	if err != nil {
		return err
	}
	m.Loaded, m.LoadPeak = load.last, load.max
	// The first walk fills the caches of the store's readers, which are bounded;
	// it is the second that shows whether memory grows with what is listed.
	for _, growth := range []*int64{&m.FirstWalkGrowth, &m.WalkGrowth} {
		walk, err := watch(ctx, s, func() error { return r.walk(ctx) })
		if err != nil {
			return err
		}
		*growth = walk.growth()
		m.WalkPeak = max(m.WalkPeak, walk.max)
	}
	if load.last == 0 {
		r.report.note("the memory of the server could not be read")
		return nil
	}
	m.OwnServer = own
	r.report.Memory = m
	r.sayf("memory: %s idle, %s loaded, %s more while listing\n", megabytes(m.Idle), megabytes(m.Loaded), megabytes(m.WalkGrowth))
	return nil
}

// walk lists all users, page after page.
func (r *run) walk(ctx context.Context) error {
	return each(ctx, r.big.on, 1, 1, func(w *worker, _ int) error {
		seen, total := 0, 1
		for seen < total {
			w.path = fmt.Appendf(w.path[:0], "/Users?startIndex=%d&count=%d", seen+1, walkSize)
			if err := w.do("GET", nil); err != nil {
				return err
			}
			if err := w.expect(200); err != nil {
				return err
			}
			n, err := w.number("itemsPerPage")
			if err != nil {
				return err
			}
			// The total stands before the resources, so the last one is ours, too:
			// no attribute has that name.
			if total, err = w.number("totalResults"); err != nil {
				return err
			}
			if n == 0 {
				return w.wrong("expected more than the %d users so far, of %d", seen, total)
			}
			seen += n
		}
		if seen < len(r.big.ids) {
			return w.wrong("expected at least %d users and not %d", len(r.big.ids), seen)
		}
		return nil
	})
}

// trace is what became of a server's memory.
type trace struct {
	last, max int64
	values    []int64
}

func (t *trace) add(v int64) {
	t.last = v
	t.max = max(t.max, v)
	t.values = append(t.values, v)
}

// growth is how much more the server held at most in the second half than in the first.
// Heaps and caches go up and down by tens of megabytes all the time, as garbage
// is collected and a database empties its caches and fills them again; what
// grows with the work that is done goes beyond where it was.
func (t *trace) growth() int64 {
	if len(t.values) < 2 {
		return 0
	}
	half := len(t.values) / 2
	return max(0, slices.Max(t.values[half:])-slices.Max(t.values[:half]))
}

// watch follows a server's memory while fn runs, and once more at its end.
func watch(ctx context.Context, s *Server, fn func() error) (*trace, error) {
	every := 10 * time.Millisecond
	if s.PID == 0 {
		every = 200 * time.Millisecond // asking is work for the server
	}
	t := &trace{}
	done := make(chan error, 1)
	go func() { done <- fn() }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var problem error
	for {
		v, err := s.resident(ctx)
		if err != nil {
			problem = err
		} else if v > 0 {
			t.add(v)
		}
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
			if v, err = s.resident(ctx); err == nil && v > 0 {
				t.add(v)
			}
			return t, errors.Join(problem, err)
		case <-tick.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
