package mail

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	randv2 "math/rand/v2"
	"slices"
	"time"

	"github.com/roster-id/roster/storage"
)

const (
	// lookEvery is how often a process looks for what is due, more or less. What it
	// queued itself does not wait for that.
	lookEvery = 30 * time.Second
	// lease is for how long nobody else tries to send a message; longer than one
	// attempt can take.
	lease = 5 * time.Minute
	// grace is how long an attempt may go on when the process is to end.
	grace = 10 * time.Second
)

// delays are those after the first attempt, the second one and so on: about a day in
// all. After the last one there is one more attempt.
var delays = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 6 * time.Hour, 6 * time.Hour,
}

// looks are how long after Put a process looks for a message: what puts it may take a
// while to become durable, or never do.
var looks = []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond, time.Second, 3 * time.Second}

// fresh is a message that this process has put.
type fresh struct {
	tenant storage.TenantID
	id     string
	looks  int
}

// place says where a message is.
type place struct {
	tenant storage.TenantID
	id     string
}

// Run sends what is in the queue until ctx ends. Several processes can do so on one
// store.
func (q *Queue) Run(ctx context.Context) error {
	if !q.Enabled() {
		return nil
	}
	look := time.NewTimer(0)
	defer look.Stop()
	again := make(chan fresh)
	// down: the server that takes mail could not be reached when it was last tried.
	// Then what is fresh waits with the rest, or every message would wait for a
	// connection.
	down := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			down = !q.round(ctx)
			look.Reset(lookEvery/2 + randv2.N(lookEvery))
		case f := <-q.fresh:
			down = down || !q.tryFresh(ctx, f, again)
		case f := <-again:
			down = down || !q.tryFresh(ctx, f, again)
		}
	}
}

// tryFresh sends a message that was put a moment ago, or comes back to it. Its result
// is that of deliver.
func (q *Queue) tryFresh(ctx context.Context, f fresh, again chan<- fresh) bool {
	_, err := q.store.Item(ctx, f.tenant, kind, f.id)
	if err == nil {
		return q.deliver(ctx, place{f.tenant, f.id})
	}
	if f.looks++; !errors.Is(err, storage.ErrNotFound) || f.looks >= len(looks) {
		return true // what is there is found by the next round
	}
	time.AfterFunc(looks[f.looks]-looks[f.looks-1], func() {
		select {
		case again <- f:
		case <-ctx.Done():
		}
	})
	return true
}

// round sends what is due. It ends early when the server that takes mail cannot be
// reached, and returns false then: the rest would only wait for the same.
func (q *Queue) round(ctx context.Context) bool {
	due, n, err := q.due(ctx)
	if err != nil {
		if ctx.Err() == nil {
			q.log.Warn("mail that waits could not be looked for; the next time will do it", "error", err)
		}
		return true
	}
	q.metrics.length.Set(float64(n))
	for _, p := range due {
		if ctx.Err() != nil || !q.deliver(ctx, p) {
			return false
		}
	}
	return true
}

// due returns what is to be sent now, that which has waited longest first, and how
// much waits altogether.
func (q *Queue) due(ctx context.Context) (due []place, n int, err error) {
	tenants, err := q.store.ListTenants(ctx)
	if err != nil {
		return nil, 0, err
	}
	since := map[place]time.Time{}
	for _, t := range tenants {
		items, err := q.store.Items(ctx, t.ID, kind, waiting)
		if err != nil {
			return nil, 0, err
		}
		n += len(items)
		for _, i := range items {
			r, err := readRecord(i)
			if err != nil {
				q.log.Error("mail cannot be read", "message", i.ID)
				continue
			}
			if r.due(q.now()) {
				p := place{t.ID, i.ID}
				due, since[p] = append(due, p), r.Due
			}
		}
	}
	slices.SortFunc(due, func(a, b place) int { return cmp.Or(since[a].Compare(since[b]), cmp.Compare(a.id, b.id)) })
	return due, n, nil
}

// deliver tries to send one message, if it is due and nobody else does. It returns
// false if others would fail for the same reason.
func (q *Queue) deliver(ctx context.Context, p place) bool {
	r, err := q.claim(ctx, p)
	if err != nil {
		if !errors.Is(err, storage.ErrConflict) && ctx.Err() == nil {
			q.log.Warn("mail could not be taken from the queue; a later attempt will do it", "message", p.id, "error", err)
		}
		return true
	}
	if r == nil {
		return true
	}
	result, ended := q.send(ctx, p, *r)
	if !ended {
		return false
	}
	if err := q.finish(ctx, p, r.Lease, result); err != nil {
		q.log.Warn("what became of mail could not be noted; it may be sent again", "message", p.id, "error", err)
	}
	return result == nil || !result.Relay
}

// claim takes a lease on a message and counts the attempt. It returns nil if there
// is nothing to send.
func (q *Queue) claim(ctx context.Context, p place) (claimed *record, err error) {
	var buried *record
	err = q.store.Write(ctx, p.tenant, func(tx storage.Tx) error {
		claimed, buried = nil, nil
		i, err := tx.Item(kind, p.id)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		r, err := readRecord(i)
		if err != nil {
			return err
		}
		now := storage.Milli(q.now())
		switch {
		case !r.Dead.IsZero() || !r.due(now):
			return nil
		case !r.Until.IsZero() && !now.Before(r.Until):
			buried = &r
			return q.bury(tx, i, r, &SendError{Reason: ReasonExpired}, now)
		case r.Attempts > len(delays): // whoever made the last one is gone
			buried = &r
			return q.bury(tx, i, r, &SendError{Reason: ReasonFailed}, now)
		}
		r.Attempts, r.Lease, r.Due = r.Attempts+1, rand.Text(), now.Add(lease)
		claimed = &r
		if err := q.save(tx, i, p.id, r); err != nil {
			return err
		}
		return tx.Audit(entry(now, "mail.attempt", p.id))
	})
	if err != nil {
		return nil, err
	}
	if buried != nil {
		q.count(p, *buried, outcomeDead, nil)
	}
	return claimed, nil
}

// send makes one attempt. It returns false if the attempt has not ended when the
// process had to.
func (q *Queue) send(ctx context.Context, p place, r record) (*SendError, bool) {
	m, err := q.message(p.tenant, p.id, r)
	if err != nil {
		return &SendError{Reason: ReasonSealed, Detail: err.Error()}, true
	}
	l, err := m.render(q.language)
	if err != nil {
		return &SendError{Reason: ReasonFailed, Detail: err.Error()}, true
	}
	l.ID, l.Date = p.id, r.Queued
	result := make(chan error, 1)
	go func() { result <- q.sender.Send(context.WithoutCancel(ctx), l) }()
	var ending <-chan time.Time
	stopping := ctx.Done()
	for {
		select {
		case err := <-result:
			return asSendError(err), true
		case <-stopping:
			ending, stopping = time.After(grace), nil
		case <-ending:
			return nil, false
		}
	}
}

func asSendError(err error) *SendError {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*SendError](err); ok {
		return e
	}
	return &SendError{Reason: ReasonFailed, Relay: true, Detail: err.Error()}
}

// finish notes what became of an attempt, unless the lease has run out and somebody
// else has taken the message.
func (q *Queue) finish(ctx context.Context, p place, lease string, result *SendError) (err error) {
	// It has to be noted even if the process is about to end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var r record
	var outcome string
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		err = q.store.Write(ctx, p.tenant, func(tx storage.Tx) error {
			outcome = ""
			i, err := tx.Item(kind, p.id)
			if errors.Is(err, storage.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if r, err = readRecord(i); err != nil {
				return err
			}
			if r.Lease != lease {
				return nil
			}
			now := storage.Milli(q.now())
			switch {
			case result == nil:
				outcome = outcomeSent
				return errors.Join(tx.DeleteItem(i), tx.Audit(entry(now, "mail.sent", p.id)))
			case result.Permanent || r.Attempts > len(delays):
				outcome = outcomeDead
				return q.bury(tx, i, r, result, now)
			}
			outcome = outcomeFailed
			r.Lease, r.Due = "", now.Add(delays[r.Attempts-1])
			r.Reason, r.Code = result.Reason, result.Code
			if err := q.save(tx, i, p.id, r); err != nil {
				return err
			}
			return tx.Audit(entry(now, "mail.postpone", p.id))
		})
		if err == nil {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
	if outcome != "" {
		q.count(p, r, outcome, result)
	}
	return nil
}

// bury makes a dead letter of a message. What can make no sense any more loses what
// it said.
func (q *Queue) bury(tx storage.Tx, i *storage.Item, r record, why *SendError, now time.Time) error {
	r.Dead, r.Lease = now, ""
	if why.Reason != ReasonFailed || r.Reason == "" {
		r.Reason, r.Code = why.Reason, why.Code
	}
	if why.Reason == ReasonExpired {
		r.Sealed = nil
	}
	if err := q.save(tx, i, i.ID, r); err != nil {
		return err
	}
	return tx.Audit(entry(now, "mail.dead", i.ID))
}

func (q *Queue) count(p place, r record, outcome string, result *SendError) {
	q.metrics.attempts.WithLabelValues(string(r.Kind), outcome).Inc()
	log := q.log.With("message", p.id, "kind", string(r.Kind), "attempts", r.Attempts)
	if result != nil {
		log = log.With("reason", string(result.Reason), "code", result.Code)
	}
	switch outcome {
	case outcomeSent:
		log.Info("mail was sent")
	case outcomeFailed:
		log.Warn("mail was not sent; it is tried again")
	case outcomeDead:
		log.Error("mail was given up; an administrator can have it tried again or discard it")
	}
}

func entry(at time.Time, action, id string) storage.AuditEntry {
	return storage.AuditEntry{At: at, Actor: storage.SystemActor, Action: action, Type: "Mail", ID: id}
}
