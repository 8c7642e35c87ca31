package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// task is a kind of request that is measured, or a few kinds that only make
// sense together, such as adding a member and removing it again.
type task struct {
	rows  []*Row // by the kind of its requests
	on    *Server
	conns int
	// step sends one request of each kind and checks the answers.
	step func(w *worker) error
	// after undoes what the steps did to the population; it may be nil. made are
	// the ids of the resources that they created.
	after func(ctx context.Context, made []string) error
}

// worker is one connection and what its steps need.
type worker struct {
	*conn
	id   int
	rand *rand.Rand
	json []byte // for request bodies
	turn int    // counts the steps
	made []string

	end   time.Time
	count [kinds]counter
}

// kinds is how many kinds of requests a task has at most.
const kinds = 2

type counter struct {
	latency *hdrhistogram.Histogram // in microseconds
	all     int64
	inTime  int64 // answered before the end of the measurement
	total   time.Duration
}

// send sends a request for w.path and notes how long the answer took.
func (w *worker) send(kind int, method string, body []byte) error {
	if err := w.do(method, body); err != nil {
		return err
	}
	c := &w.count[kind]
	c.all++
	c.total += w.took
	if !w.done.After(w.end) {
		c.inTime++
	}
	return c.latency.RecordValue(min(w.took.Microseconds(), longest.Microseconds()))
}

// longest is the longest latency a histogram can tell.
const longest = answerWithin

func (w *worker) reset() {
	for i := range w.count {
		h := w.count[i].latency
		if h == nil {
			h = hdrhistogram.New(1, longest.Microseconds(), 3)
		}
		h.Reset()
		w.count[i] = counter{latency: h}
	}
}

// sample is what one round found out about a row.
type sample struct {
	requests       int64
	ops            float64 // per second
	p50, p95, p99  float64 // microseconds
	allocs, octets *float64
}

// run measures one round of a task and adds it to the task's rows.
func (t *task) run(ctx context.Context, seed uint64, warm, d time.Duration) (err error) {
	workers := make([]*worker, t.conns)
	defer func() {
		var made []string
		for _, w := range workers {
			if w != nil {
				w.Close() // nothing was left to be said
				made = append(made, w.made...)
			}
		}
		if t.after != nil && len(made) > 0 {
			// What was created goes even if the run was stopped.
			err = errors.Join(err, t.after(context.WithoutCancel(ctx), made))
		}
	}()
	for i := range workers {
		c, err := dial(ctx, t.on)
		if err != nil {
			return err
		}
		workers[i] = &worker{conn: c, id: i, rand: rand.New(rand.NewPCG(seed, uint64(i)))}
	}
	// Connections, caches and the collector's pace settle first. The workers
	// rest in between, so that counting allocations meets no request half done.
	if _, err := t.drive(ctx, workers, warm); err != nil {
		return err
	}
	before, err := t.on.counts(ctx)
	if err != nil {
		return err
	}
	took, err := t.drive(ctx, workers, d)
	if err != nil {
		return err
	}
	used, err := t.on.since(ctx, before)
	if err != nil {
		return err
	}
	t.collect(workers, d, took, used)
	return nil
}

// drive lets all workers do steps for a time. Each does at least one, and what
// it began it ends.
func (t *task) drive(ctx context.Context, workers []*worker, d time.Duration) (time.Duration, error) {
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for _, w := range workers {
		w.reset()
		w.end = start.Add(d)
		g.Go(func() error {
			for {
				err := t.step(w)
				if err != nil || ctx.Err() != nil {
					return err
				}
				if w.turn++; w.done.After(w.end) {
					return nil
				}
			}
		})
	}
	err := g.Wait()
	return time.Since(start), err
}

// collect turns what the workers counted into a sample for each row.
func (t *task) collect(workers []*worker, d, took time.Duration, used *usage) {
	var requests int64
	for _, w := range workers {
		for _, c := range w.count {
			requests += c.all
		}
	}
	for kind, row := range t.rows {
		var sum counter
		sum.latency = hdrhistogram.New(1, longest.Microseconds(), 3)
		for _, w := range workers {
			c := w.count[kind]
			sum.latency.Merge(c.latency)
			sum.all += c.all
			sum.inTime += c.inTime
			sum.total += c.total
		}
		s := sample{
			requests: sum.all,
			p50:      float64(sum.latency.ValueAtQuantile(50)),
			p95:      float64(sum.latency.ValueAtQuantile(95)),
			p99:      float64(sum.latency.ValueAtQuantile(99)),
		}
		switch {
		case len(t.rows) > 1:
			// Kinds share the connections: a kind's rate is what they would do if
			// nothing else went on between its requests.
			s.ops = float64(len(workers)) * float64(sum.all) / sum.total.Seconds()
		case sum.inTime > 0:
			s.ops = float64(sum.inTime) / d.Seconds()
		default: // nothing was answered in so short a time
			s.ops = float64(sum.all) / took.Seconds()
		}
		if used != nil {
			allocs, octets := used.allocs/float64(requests), used.bytes/float64(requests)
			s.allocs, s.octets = &allocs, &octets
		}
		row.add(s)
	}
}

// turns measures tasks that are compared, by turns: A B A B. What disturbs the
// machine then disturbs all of them alike.
func (r *run) turns(ctx context.Context, tasks ...*task) error {
	tasks = slices.DeleteFunc(tasks, func(t *task) bool { return t == nil })
	for round := range r.cfg.Rounds {
		for _, t := range tasks {
			r.seed = mix(r.seed)
			if err := t.run(ctx, r.seed, warmUp(r.cfg.Duration), r.cfg.Duration); err != nil {
				return fmt.Errorf("%s: %w", t.rows[0].title(), err)
			}
			for _, row := range t.rows {
				r.sayf("round %d of %d  %-42s %10s/s\n", round+1, r.cfg.Rounds, row.title(), grouped(row.Rounds[round]))
			}
		}
	}
	return nil
}

func warmUp(d time.Duration) time.Duration { return min(d/5, time.Second) }
