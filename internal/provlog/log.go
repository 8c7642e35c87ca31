package provlog

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

const (
	queueLength = 1024
	batchLength = 64
	writeEvery  = time.Second
	writeTime   = 10 * time.Second
)

// How much of what a client sends is kept. A client that is set up, or one at work
// whose requests come one by one, is kept whole; a full synchronisation is sampled, so
// that the log costs the same however fast it goes, and is not a log of its last second.
var (
	keptAccepted = rate{burst: 20, each: time.Second}
	keptRefused  = rate{burst: 200, each: 100 * time.Millisecond}
)

// Options are what a Log consists of.
type Options struct {
	Store    storage.Store
	Keep     time.Duration // for how long an entry is kept
	Size     int           // how many of each client, about
	Now      func() time.Time
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Log takes what is to be written down. Make one with New. It is safe for concurrent
// use.
type Log struct {
	opt     Options
	queue   chan entryOf
	full    chan struct{} // a batch waits
	dropped *prometheus.CounterVec

	mu      sync.Mutex
	clients map[clientOf]*traffic

	writing sync.Mutex
	grown   map[clientOf]int // entries since the client's were counted
}

type clientOf struct {
	tenant storage.TenantID
	id     string
}

type entryOf struct {
	clientOf
	*Entry
}

// Why an entry was lost.
const (
	droppedQueue = "queue" // there was no room
	droppedStore = "store" // it could not be written
)

// New returns a log. Nothing is written before Run or Flush.
func New(o Options) *Log {
	l := &Log{
		opt: o, queue: make(chan entryOf, queueLength), full: make(chan struct{}, 1), clients: map[clientOf]*traffic{}, grown: map[clientOf]int{},
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_provisioning_log_dropped_total", Help: "Entries of the provisioning log that were lost, by cause: queue (it was full) or store (they could not be written).",
		}, []string{"cause"}),
	}
	for _, cause := range []string{droppedQueue, droppedStore} { // there from the start, so that alerts see the first one
		l.dropped.WithLabelValues(cause)
	}
	o.Registry.MustRegister(l.dropped)
	return l
}

// Tell notes a request. It waits for nothing.
func (l *Log) Tell(x *scim.Exchange) {
	c := clientOf{x.By.Tenant, x.By.ID}
	omitted, keep := l.admit(c, refused(x))
	if !keep {
		return
	}
	e := newEntry(x)
	e.Omitted = omitted
	select {
	case l.queue <- entryOf{c, e}:
		if len(l.queue) >= batchLength {
			select {
			case l.full <- struct{}{}:
			default:
			}
		}
	default:
		l.dropped.WithLabelValues(droppedQueue).Inc()
	}
}

// traffic is what is kept of a client's.
type traffic struct{ accepted, refused bucket }

// admit reports whether a request is kept, and how many were not before it.
func (l *Log) admit(c clientOf, refused bool) (omitted int, keep bool) {
	now := l.opt.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.clients[c]
	if t == nil {
		t = &traffic{}
		l.clients[c] = t
	}
	if refused {
		return t.refused.admit(now, keptRefused)
	}
	return t.accepted.admit(now, keptAccepted)
}

// rate lets through as many as burst, and then one each so often.
type rate struct {
	burst int
	each  time.Duration
}

type bucket struct {
	until   time.Time // by when it is empty again
	omitted int
}

func (b *bucket) admit(now time.Time, r rate) (omitted int, ok bool) {
	next := b.until
	if next.Before(now) {
		next = now
	}
	if next = next.Add(r.each); next.Sub(now) > time.Duration(r.burst)*r.each {
		b.omitted++
		return 0, false
	}
	omitted, b.until, b.omitted = b.omitted, next, 0
	return omitted, true
}

// Run writes until ctx ends, and then what is left. What is being written at that moment
// is not cut off: it would be lost.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		over := false
		select {
		case <-tick.C:
		case <-l.full:
		case <-ctx.Done():
			over = true
		}
		if l.Flush(context.WithoutCancel(ctx)); over {
			return nil
		}
	}
}

// Flush writes what waits.
func (l *Log) Flush(ctx context.Context) {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		batch := l.take()
		if len(batch) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, writeTime)
		for tenant, entries := range batch {
			l.write(ctx, tenant, entries)
		}
		cancel()
	}
}

// take returns up to a batch of what waits.
func (l *Log) take() map[storage.TenantID][]entryOf {
	batch := map[storage.TenantID][]entryOf{}
	for range batchLength {
		select {
		case e := <-l.queue:
			batch[e.tenant] = append(batch[e.tenant], e)
		default:
			return batch
		}
	}
	return batch
}

func (l *Log) write(ctx context.Context, tenant storage.TenantID, entries []entryOf) {
	expires := storage.Milli(l.opt.Now().Add(l.opt.Keep))
	var items []*storage.Item
	for _, e := range entries {
		i, err := e.item(expires)
		if err != nil {
			l.dropped.WithLabelValues(droppedStore).Inc()
			continue
		}
		items = append(items, i)
	}
	if err := l.opt.Store.NoteItems(ctx, tenant, items); err != nil {
		l.dropped.WithLabelValues(droppedStore).Add(float64(len(items)))
		l.opt.Log.Warn("entries of the provisioning log could not be written, and are lost", "entries", len(items), "error", err)
		return
	}
	for _, e := range entries {
		n, counted := l.grown[e.clientOf]
		if l.grown[e.clientOf] = n + 1; counted && n+1 < l.slack() {
			continue
		}
		l.grown[e.clientOf] = 0
		if err := l.trim(ctx, e.clientOf); err != nil {
			l.opt.Log.Warn("the provisioning log could not be shortened; the next time will do it", "error", err)
		}
	}
}

// slack is how many entries more than Size a client may have, of each process.
func (l *Log) slack() int { return max(1, l.opt.Size/4) }

// trim removes the oldest entries of a client that has too many.
func (l *Log) trim(ctx context.Context, c clientOf) error {
	items, err := l.opt.Store.Items(ctx, c.tenant, kind, ofClient(c.id))
	if err != nil || len(items) <= l.opt.Size {
		return err
	}
	var old []string
	for _, i := range items[:len(items)-l.opt.Size] {
		old = append(old, i.ID)
	}
	for ids := range slices.Chunk(old, batchLength) {
		if err := l.opt.Store.ForgetItems(ctx, c.tenant, kind, ids...); err != nil {
			return err
		}
	}
	return nil
}
