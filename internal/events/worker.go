package events

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	randv2 "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

const (
	// lookEvery is how often a process looks for events, and listEvery for feeds that
	// others have made.
	lookEvery = time.Second
	listEvery = 10 * time.Second
	// lease is for how long nobody else sends the events of a feed; longer than a round
	// takes, which begins nothing new after roundTime.
	lease     = 15 * time.Second
	roundTime = 5 * time.Second
	// atOnce is how many events of a feed are under way, each of another resource.
	atOnce = 8
	// roundSize is how many events a round tries at most.
	roundSize = 3 * atOnce
	// maxHeld bounds the events of a feed that are tried again; with so many it takes no
	// new ones.
	maxHeld = 500
	// feedsAtOnce is how many feeds a process sends at a time.
	feedsAtOnce = 16
	// grace is how long what was sent may still be noted when the process is to end.
	grace = 10 * time.Second
)

// backOff is how long to wait after so many failures: a second, two, four, up to an
// hour, and a part of it more or less, so that not all receivers are tried at once.
func backOff(failures int) time.Duration {
	d := min(time.Second<<min(max(failures-1, 0), 12), time.Hour)
	return d*3/4 + randv2.N(d/2)
}

// longestWait is the most that backOff says.
const longestWait = time.Hour * 5 / 4

// place says where a feed is.
type place struct {
	tenant storage.TenantID
	id     string
}

// Run sends events until ctx ends, once. Several processes can do so on one store.
func (s *Feeds) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	var (
		feeds  []place
		listed time.Time
		mu     sync.Mutex
		busy   = map[place]bool{}
		g      errgroup.Group
	)
	g.SetLimit(feedsAtOnce)
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			close(s.stopping)
			return g.Wait()
		case <-s.changed:
			listed = time.Time{}
		case <-look.C:
			look.Reset(lookEvery*3/4 + randv2.N(lookEvery/2))
		}
		if time.Since(listed) > listEvery {
			list, err := s.all(ctx)
			if err != nil {
				if ctx.Err() == nil {
					s.log.Warn("feeds could not be looked for; the next time will do it", "error", err)
				}
				continue
			}
			feeds, listed = list, time.Now()
			s.forget(feeds)
		}
		// Not in the same order each time, or the last ones would get no turn while the
		// first always have something to send.
		randv2.Shuffle(len(feeds), func(i, j int) { feeds[i], feeds[j] = feeds[j], feeds[i] })
		for _, p := range feeds {
			mu.Lock()
			taken := busy[p]
			busy[p] = true
			mu.Unlock()
			if taken {
				continue
			}
			idle := func() {
				mu.Lock()
				delete(busy, p)
				mu.Unlock()
			}
			// Without waiting for feeds whose receivers are slow.
			if !g.TryGo(func() error {
				defer idle()
				s.Step(ctx, p.tenant, p.id)
				return nil
			}) {
				idle()
			}
		}
	}
}

func (s *Feeds) all(ctx context.Context) (list []place, err error) {
	tenants, err := s.store.ListTenants(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range tenants {
		items, err := s.store.Items(ctx, t.ID, feedKind, "")
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			list = append(list, place{t.ID, i.ID})
		}
	}
	return list, nil
}

// forget forgets about feeds that are not among these.
func (s *Feeds) forget(feeds []place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.measured, func(p place, _ measured) bool { return !slices.Contains(feeds, p) })
	maps.DeleteFunc(s.scanned, func(p place, _ scan) bool { return !slices.Contains(feeds, p) })
	s.show()
}

// Step sends what is due of a feed, unless another process does.
func (s *Feeds) Step(ctx context.Context, tenant storage.TenantID, id string) {
	p := place{tenant, id}
	if err := s.step(ctx, p); err != nil && ctx.Err() == nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrConflict) {
		s.log.Warn("the events of a feed could not be sent; the next time will do it", "feed", id, "error", err)
	}
}

func (s *Feeds) step(ctx context.Context, p place) error {
	due, err := s.due(ctx, p)
	if err != nil || !due {
		return err
	}
	st, held, err := s.claim(ctx, p)
	if err != nil || st == nil {
		return err
	}
	began := time.Now()
	for {
		// The feed may have been changed, or be gone, since the last round.
		f, err := s.read(ctx, p)
		if err == nil && !f.Enabled {
			return s.release(ctx, p, held)
		}
		var r *round
		if err == nil {
			r, err = s.round(ctx, p.tenant, f, st)
		}
		if err != nil {
			return errors.Join(err, s.release(ctx, p, held))
		}
		if ctx.Err() != nil || time.Since(began) > roundTime { // others have their turn
			r.more = false
		}
		if st, err = s.note(ctx, p, f, held, r); err != nil || st == nil || !r.more {
			return err
		}
	}
}

// due reports whether there is something to do for a feed, and measures how far it is
// behind.
func (s *Feeds) due(ctx context.Context, p place) (bool, error) {
	f, err := s.read(ctx, p)
	if err != nil || f.Delivery == Poll {
		return false, err
	}
	_, st, err := readState(s.store.Item(ctx, p.tenant, stateKind, p.id))
	if err != nil {
		return false, err
	}
	now := s.now()
	fresh, to, _, err := s.next(ctx, p.tenant, f, st.Position, 1)
	if err != nil {
		return false, err
	}
	oldest := time.Time{}
	if len(fresh) > 0 {
		oldest = fresh[0].At
	}
	for _, h := range st.Held[:min(1, len(st.Held))] {
		if e, err := s.entry(ctx, p.tenant, h.Seq); err == nil {
			oldest = e.At
		}
	}
	s.measure(p, f, measured{oldest, len(st.Held), len(fresh) > 0})
	if !f.Enabled || !st.due(now) {
		return false, nil
	}
	ready := false // the first of a resource is
	seen := map[string]bool{}
	for _, h := range st.Held {
		ready = ready || !seen[h.Resource] && h.due(now)
		seen[h.Resource] = true
	}
	return len(fresh) > 0 && len(st.Held) < maxHeld || ready || to-st.Position > passBy, nil
}

// claim takes a lease on a feed, unless another process has one.
func (s *Feeds) claim(ctx context.Context, p place) (claimed *state, name string, err error) {
	name = rand.Text()
	err = s.store.Write(ctx, p.tenant, func(tx storage.Tx) error {
		claimed = nil
		i, st, err := readState(tx.Item(stateKind, p.id))
		if err != nil {
			return err
		}
		now := storage.Milli(s.now())
		if !st.due(now) {
			return nil
		}
		st.Lease, st.Due = name, now.Add(lease)
		claimed = st
		return s.save(ctx, tx, p, i, st, "feed.claim")
	})
	return claimed, name, err
}

func (s *Feeds) save(ctx context.Context, tx storage.Tx, p place, prev *storage.Item, st *state, action string) error {
	next, err := st.item(p.id)
	if err != nil {
		return err
	}
	if err := tx.PutItem(prev, next); err != nil {
		return err
	}
	return tx.Audit(auth.System(p.tenant).Entry(ctx, s.now(), action, "Feed", p.id))
}

// task is an event that is to be sent, or to wait.
type task struct {
	held
	entry *storage.AuditEntry // nil if it is gone

	tried   bool
	skipped bool // there is nothing to tell
	expired bool
	failure *failure // nil if it was acknowledged
}

// round is what became of some events.
type round struct {
	from, to  int64 // positions
	tasks     []*task
	waits     []held         // that were not looked at
	known     map[int64]bool // what was held before
	more      bool           // there is something to do at once
	delivered int
	failed    int
	last      *failure
	after     time.Duration // for how long the receiver asks to be left alone
}

// round sends some of what is due.
func (s *Feeds) round(ctx context.Context, tenant storage.TenantID, f *Feed, st *state) (*round, error) {
	now := s.now()
	r := &round{from: st.Position, to: st.Position, known: map[int64]bool{}}
	// Half of it is for what failed before, so that new events get their turn.
	size := roundSize
	if st.Failures >= 3 { // a few tell whether somebody is there again
		size = 2
	}
	blocked := map[string]bool{}
	byResource := map[string][]*task{}
	take := func(t *task) {
		r.tasks = append(r.tasks, t)
		byResource[t.Resource] = append(byResource[t.Resource], t)
	}
	for _, h := range st.Held {
		r.known[h.Seq] = true
		if blocked[h.Resource] || !h.due(now) || len(r.tasks) >= size/2 {
			r.more = r.more || !blocked[h.Resource] && h.due(now)
			blocked[h.Resource] = true
			r.waits = append(r.waits, h)
			continue
		}
		e, err := s.entry(ctx, tenant, h.Seq)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		take(&task{held: h, entry: e})
	}
	if room := min(size-len(r.tasks), maxHeld-len(st.Held)); room > 0 {
		list, to, more, err := s.next(ctx, tenant, f, st.Position, room)
		if err != nil {
			return nil, err
		}
		r.to, r.more = to, r.more || more
		for i := range list {
			e := &list[i]
			t := &task{held: held{Seq: e.Seq, Resource: e.Type + "/" + e.ID}, entry: e}
			if blocked[t.Resource] {
				r.waits = append(r.waits, t.held)
				continue
			}
			take(t)
		}
	}
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, tasks := range byResource {
		g.Go(func() error {
			for _, t := range tasks {
				over := ctx.Err() != nil || time.Since(began) > roundTime
				if over {
					break
				}
				if s.try(ctx, tenant, f, t); t.failure != nil {
					break // those behind it wait
				}
			}
			return nil
		})
	}
	_ = g.Wait() // it has no errors
	for _, t := range r.tasks {
		switch {
		case !t.tried, t.skipped, t.expired:
		case t.failure == nil:
			r.delivered++
		default:
			r.failed++
			r.last = t.failure
			if code := t.failure.code; code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
				r.after = max(r.after, t.failure.after)
			}
		}
	}
	if r.delivered == 0 && r.failed > 0 || r.after > 0 {
		r.more = false
	}
	return r, nil
}

// try sends one event.
func (s *Feeds) try(ctx context.Context, tenant storage.TenantID, f *Feed, t *task) {
	t.tried = true
	now := storage.Milli(s.now())
	if t.entry == nil || now.Sub(t.entry.At) > time.Duration(f.KeepHours)*time.Hour && t.Attempts == 0 {
		t.expired = true
		return
	}
	uris := f.tells(t.entry)
	if len(uris) == 0 { // any more
		t.skipped = true
		return
	}
	c, err := s.claimsOf(ctx, tenant, f, t.entry, uris)
	if err != nil && ctx.Err() != nil { // the process is to end, which is no failure
		t.tried = false
		return
	}
	if err != nil {
		s.log.Warn("an event could not be made", "feed", f.ID, "error", err)
		t.failure = &failure{reason: ReasonInternal}
	} else {
		// What has begun may end when the process is to.
		t.failure = s.attempt(context.WithoutCancel(ctx), f, c)
	}
	if t.Attempts++; t.First.IsZero() {
		t.First = now
	}
	if t.failure != nil {
		t.Reason, t.Code = t.failure.reason, t.failure.code
		t.Due, t.Wait = until(s.now(), max(backOff(t.Attempts), t.failure.after))
	}
}

// over reports whether an event that failed is given up.
func (t *task) over(f *Feed, now time.Time) bool {
	return t.failure != nil && t.failure.reason != ReasonGone && now.Sub(t.First) >= time.Duration(f.RetryHours)*time.Hour
}

// note takes down what became of a round, and goes on with the lease if there is more.
// It returns nil if somebody else has the feed.
func (s *Feeds) note(ctx context.Context, p place, f *Feed, name string, r *round) (next *state, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	gone := false
	var outcomes map[string]int
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		err = s.store.Write(ctx, p.tenant, func(tx storage.Tx) error {
			next, gone, outcomes = nil, false, map[string]int{}
			i, st, err := readState(tx.Item(stateKind, p.id))
			if err != nil {
				return err
			}
			if st.Lease != name {
				return nil
			}
			now := storage.Milli(s.now())
			if st.Position == r.from { // unless it was set for a replay meanwhile
				st.Position = r.to
			}
			// What came back from the dead letters meanwhile stays.
			st.Held = append(slices.DeleteFunc(st.Held, func(h held) bool { return r.known[h.Seq] }), r.waits...)
			for _, t := range r.tasks {
				switch {
				case t.expired:
					outcomes[outcomeExpired]++
				case t.skipped:
				case t.tried && t.failure == nil:
					outcomes[outcomeDelivered]++
				case t.over(f, now):
					outcomes[outcomeDead]++
					if err := s.bury(tx, p, f, t.held, t.entry, now); err != nil {
						return err
					}
				default:
					if t.tried {
						outcomes[outcomeFailed]++
						gone = gone || t.failure.reason == ReasonGone
					}
					st.Held = append(st.Held, t.held)
				}
			}
			slices.SortFunc(st.Held, func(a, b held) int { return cmp.Compare(a.Seq, b.Seq) })
			if r.last != nil {
				st.Reason, st.Code = r.last.reason, r.last.code
			}
			switch {
			case r.delivered > 0:
				st.Failures = 0
			case r.failed > 0:
				st.Failures++
			}
			st.Lease, st.Due, st.Wait = "", time.Time{}, 0
			switch {
			case r.more:
				st.Lease, st.Due = name, now.Add(lease)
			case st.Failures > 0 && r.failed > 0:
				// Nobody is there, it seems: one try is enough for all events.
				st.Due, st.Wait = until(now, max(min(backOff(st.Failures), time.Minute), r.after))
			case r.after > 0:
				st.Due, st.Wait = until(now, r.after)
			}
			if gone {
				if err := s.disable(tx, p); err != nil {
					return err
				}
				st.Lease, st.Due = "", time.Time{}
			}
			next = st
			return s.save(ctx, tx, p, i, st, "feed.advance")
		})
		if err == nil || errors.Is(err, storage.ErrNotFound) {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
	for outcome, n := range outcomes {
		s.metrics.events.WithLabelValues(string(f.Delivery), outcome).Add(float64(n))
	}
	if n := outcomes[outcomeDead]; n > 0 {
		s.log.Error("events were given up; an administrator can have them sent again or discard them", "feed", p.id, "events", n)
	}
	if n := outcomes[outcomeExpired]; n > 0 {
		s.log.Error("events were not sent: they are older than the feed keeps them", "feed", p.id, "events", n)
	}
	if r.last != nil {
		s.log.Warn("events were not delivered; they are tried again", "feed", p.id, "events", outcomes[outcomeFailed], "reason", string(r.last.reason), "code", r.last.code)
	}
	if gone {
		s.log.Error("the receiver is gone for good, as it says; the feed is disabled", "feed", p.id)
		return nil, err
	}
	return next, err
}

// disable turns off a feed whose receiver is gone.
func (s *Feeds) disable(tx storage.Tx, p place) error {
	i, err := tx.Item(feedKind, p.id)
	if err != nil {
		return err
	}
	prev, err := readFeed(s.keys, p.tenant, i)
	if err != nil {
		return err
	}
	next := new(*prev)
	next.Enabled, next.Gone = false, true
	if err := s.put(tx, p.tenant, i, next); err != nil {
		return err
	}
	e := auth.System(p.tenant).Entry(context.Background(), s.now(), "feed.disable", "Feed", p.id)
	e.Changes = differences(prev, next)
	return tx.Audit(e)
}

// release gives a lease back when a round could not be made.
func (s *Feeds) release(ctx context.Context, p place, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return s.store.Write(ctx, p.tenant, func(tx storage.Tx) error {
		i, st, err := readState(tx.Item(stateKind, p.id))
		if err != nil || st.Lease != name {
			return err
		}
		st.Lease = ""
		st.Due, st.Wait = until(s.now(), lookEvery)
		return s.save(ctx, tx, p, i, st, "feed.release")
	})
}

// measured is how far a feed is behind.
type measured struct {
	oldest time.Time // what was not delivered; zero if nothing
	held   int
	behind bool // there is something that was not tried
}

// measure tells the metrics how far the feeds are behind, that are sent to.
func (s *Feeds) measure(p place, f *Feed, m measured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measured[p] = m
	if !f.Enabled {
		delete(s.measured, p)
	}
	s.show()
}

// show is called with the lock.
func (s *Feeds) show() {
	var lag float64
	held, behind := 0, 0
	for _, m := range s.measured {
		if !m.oldest.IsZero() {
			lag = max(lag, s.now().Sub(m.oldest).Seconds())
		}
		if m.behind {
			behind++
		}
		held += m.held
	}
	s.metrics.lag.Set(lag)
	s.metrics.held.Set(float64(held))
	s.metrics.behind.Set(float64(behind))
}
