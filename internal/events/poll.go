package events

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

const (
	// MaxPoll is how many events a poll returns at most.
	MaxPoll = 100
	// MaxWait is for how long a poll waits for events.
	MaxWait = 20 * time.Second
	// maxPolls is how many polls of a feed wait in a process, and maxWaiting those of all
	// feeds, as each looks at the store once a second; others are answered at once.
	maxPolls   = 2
	maxWaiting = 16
	// maxDone bounds the events that were acknowledged out of turn; with so many, those
	// before them are all that is returned.
	maxDone = 1000
)

// PollRequest is what a client asks (RFC 8936 §2.4).
type PollRequest struct {
	MaxEvents         *int              `json:"maxEvents,omitempty"`
	ReturnImmediately bool              `json:"returnImmediately,omitempty"`
	Ack               []string          `json:"ack,omitempty"`
	SetErrs           map[string]SetErr `json:"setErrs,omitempty"`
}

// SetErr says why a token was not accepted.
type SetErr struct {
	Err         string `json:"err"`
	Description string `json:"description,omitempty"`
}

// PollResponse is what it gets: tokens by their ids.
type PollResponse struct {
	Sets          map[string]string `json:"sets"`
	MoreAvailable bool              `json:"moreAvailable,omitempty"`
}

// Poll notes what a client has acknowledged of its feed, and returns what is next: of
// each resource one event, as tokens in an object have no order. Whoever acknowledges it
// is given the next one.
func (s *Feeds) Poll(ctx context.Context, by auth.Principal, id string, q PollRequest) (*PollResponse, error) {
	f, err := s.polled(ctx, by, id)
	if err != nil {
		return nil, err
	}
	if q.MaxEvents != nil && *q.MaxEvents < 0 {
		return nil, invalid("maxEvents", "0 or more")
	}
	if err := s.acknowledge(ctx, by, f, q); err != nil {
		return nil, err
	}
	limit := MaxPoll
	if q.MaxEvents != nil {
		limit = min(*q.MaxEvents, MaxPoll)
	}
	out, err := s.pending(ctx, by, f, limit)
	if err != nil || limit == 0 || q.ReturnImmediately || len(out.Sets) > 0 || !s.mayWait(id) {
		return out, err
	}
	defer s.waited(id)
	scim.LeavePlace(ctx)
	end := time.NewTimer(MaxWait)
	defer end.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return out, nil // the client has a shorter patience
		case <-end.C:
			return out, nil
		case <-s.stopping:
			return out, nil
		case <-look.C:
		}
		next, err := s.look(ctx, by, id, limit)
		if err != nil && (ctx.Err() != nil || errors.Is(err, storage.ErrNotFound)) {
			return out, nil // the next request is told why
		}
		if out = next; err != nil || len(out.Sets) > 0 {
			return out, err
		}
	}
}

// polled returns a feed if the client may poll it.
func (s *Feeds) polled(ctx context.Context, by auth.Principal, id string) (*Feed, error) {
	f, err := s.read(ctx, place{by.Tenant, id})
	if err == nil && (f.Delivery != Poll || !f.Enabled || by.Kind != auth.Client || f.Client != by.ID) {
		err = storage.ErrNotFound
	}
	return f, err
}

// look returns what there is for a client that has waited. The feed may have been changed
// meanwhile, and the token may be no good any more: then the error is storage.ErrNotFound.
// That is read behind the events, so that none of them happened later.
func (s *Feeds) look(ctx context.Context, by auth.Principal, id string, limit int) (*PollResponse, error) {
	f, err := s.polled(ctx, by, id)
	if err != nil {
		return nil, err
	}
	out, err := s.pending(ctx, by, f, limit)
	if err != nil || len(out.Sets) == 0 {
		return out, err
	}
	t, c, err := s.store.Token(ctx, by.Token)
	if err != nil {
		return nil, err
	}
	if !c.Revoked.IsZero() || !s.now().Before(t.Expires) || !auth.ClientPrincipal(c).May(auth.Read, auth.EventResource) {
		return nil, storage.ErrNotFound
	}
	now, err := s.polled(ctx, by, id)
	if err == nil && !(scan{types: f.Types, events: f.Events}).tells(now) {
		out = &PollResponse{Sets: map[string]string{}} // the next look is by what it is told of now
	}
	return out, err
}

func (s *Feeds) mayWait(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polls[id] >= maxPolls || s.waits >= maxWaiting {
		return false
	}
	s.polls[id]++
	s.waits++
	return true
}

func (s *Feeds) waited(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits--
	if s.polls[id]--; s.polls[id] == 0 {
		delete(s.polls, id)
	}
}

// waiting returns up to limit events that a client may be given, each of another
// resource, and whether there are more. It takes out of st what the feed is not told of
// any more.
func (s *Feeds) waiting(ctx context.Context, tenant storage.TenantID, f *Feed, st *state, limit int) (list []storage.AuditEntry, more bool, err error) {
	blocked, untold := map[string]bool{}, map[int64]bool{}
	defer func() { st.Held = slices.DeleteFunc(st.Held, func(h held) bool { return untold[h.Seq] }) }()
	for _, h := range st.Held { // brought back from the dead letters
		if blocked[h.Resource] {
			continue
		}
		e, err := s.entry(ctx, tenant, h.Seq)
		if err != nil {
			return nil, false, err
		}
		if len(f.tells(e)) == 0 {
			untold[h.Seq] = true
			continue
		}
		if blocked[h.Resource] = true; len(list) >= limit {
			return list, true, nil
		}
		list = append(list, *e)
	}
	entries, _, more, err := s.next(ctx, tenant, f, st.Position, maxDone)
	if err != nil {
		return nil, false, err
	}
	for i := range entries {
		e := entries[i]
		resource := e.Type + "/" + e.ID
		switch {
		case slices.Contains(st.Done, e.Seq):
		case blocked[resource], len(list) >= limit:
			blocked[resource], more = true, true
		default:
			blocked[resource] = true
			list = append(list, e)
		}
	}
	return list, more, nil
}

// pending makes tokens of what waits.
func (s *Feeds) pending(ctx context.Context, by auth.Principal, f *Feed, limit int) (*PollResponse, error) {
	_, st, err := readState(s.store.Item(ctx, by.Tenant, stateKind, f.ID))
	if err != nil {
		return nil, err
	}
	if err := s.passOld(ctx, by, f, st); err != nil {
		return nil, err
	}
	list, more, err := s.waiting(ctx, by.Tenant, f, st, limit)
	if err != nil {
		return nil, err
	}
	out := &PollResponse{Sets: map[string]string{}, MoreAvailable: more}
	for i := range list {
		e := &list[i]
		c, err := s.claimsOf(ctx, by.Tenant, f, e, f.tells(e))
		if err != nil {
			return nil, err
		}
		if out.Sets[c.ID], err = s.sign(c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// passOld moves a feed past what is older than it keeps events.
func (s *Feeds) passOld(ctx context.Context, by auth.Principal, f *Feed, st *state) error {
	oldest := s.now().Add(-time.Duration(f.KeepHours) * time.Hour)
	list, _, _, err := s.next(ctx, by.Tenant, f, st.Position, 1)
	if err != nil || len(list) == 0 || list[0].At.After(oldest) {
		return err
	}
	to, err := s.before(ctx, by.Tenant, oldest)
	if err != nil || to <= st.Position {
		return err
	}
	p := place{by.Tenant, f.ID}
	err = s.store.Write(ctx, p.tenant, func(tx storage.Tx) error {
		i, now, err := readState(tx.Item(stateKind, p.id))
		if err != nil {
			return err
		}
		if *st = *now; st.Position >= to {
			return nil
		}
		st.Position = to
		st.Done = slices.DeleteFunc(st.Done, func(seq int64) bool { return seq <= to })
		return s.save(ctx, tx, p, i, st, "feed.expire")
	})
	if err == nil {
		s.metrics.events.WithLabelValues(string(Poll), outcomeExpired).Inc()
		s.log.Error("events were not fetched before they were older than the feed keeps them", "feed", f.ID)
	}
	return err
}

// acknowledge notes what a client took, and buries what it did not. What it was never
// given is left alone.
func (s *Feeds) acknowledge(ctx context.Context, by auth.Principal, f *Feed, q PollRequest) error {
	acked, refused := map[int64]bool{}, map[int64]bool{}
	for _, id := range q.Ack {
		if seq, ok := f.seqOf(id); ok {
			acked[seq] = true
		}
	}
	// Whatever the error is called: there are more than those of RFC 8935, and what came
	// beside it counts.
	for id := range q.SetErrs {
		if seq, ok := f.seqOf(id); ok && !acked[seq] {
			refused[seq] = true
		}
	}
	if len(acked)+len(refused) == 0 {
		return nil
	}
	p := place{by.Tenant, f.ID}
	for {
		i, st, err := readState(s.store.Item(ctx, p.tenant, stateKind, p.id))
		if err != nil {
			return err
		}
		// What a client may have been given: the first of each resource, and no other.
		given, _, err := s.waiting(ctx, p.tenant, f, st, maxDone)
		if err != nil {
			return err
		}
		var done []int64
		var dead []*storage.AuditEntry
		for i := range given {
			switch e := &given[i]; {
			case refused[e.Seq]:
				dead, done = append(dead, e), append(done, e.Seq)
			case acked[e.Seq]:
				done = append(done, e.Seq)
			}
		}
		if len(done) == 0 {
			return nil
		}
		next := *st
		next.Held = slices.DeleteFunc(slices.Clone(st.Held), func(h held) bool { return slices.Contains(done, h.Seq) })
		for _, seq := range done {
			if seq > next.Position {
				next.Done = append(slices.Clone(next.Done), seq)
			}
		}
		slices.Sort(next.Done)
		if err := s.compact(ctx, p.tenant, f, &next); err != nil {
			return err
		}
		if len(next.Done) > maxDone {
			return nil // first those before them
		}
		err = s.store.Write(ctx, p.tenant, func(tx storage.Tx) error {
			now := storage.Milli(s.now())
			for _, e := range dead {
				h := held{Seq: e.Seq, Resource: e.Type + "/" + e.ID, Attempts: 1, Reason: ReasonReported}
				if err := s.bury(tx, p, f, h, e, now); err != nil {
					return err
				}
			}
			state, err := next.item(p.id)
			if err != nil {
				return err
			}
			if err := tx.PutItem(i, state); err != nil {
				return err
			}
			return tx.Audit(by.Entry(ctx, now, "feed.acknowledge", "Feed", p.id))
		})
		if errors.Is(err, storage.ErrConflict) {
			continue
		}
		if err == nil {
			s.metrics.events.WithLabelValues(string(Poll), outcomeDelivered).Add(float64(len(done) - len(dead)))
			s.metrics.events.WithLabelValues(string(Poll), outcomeDead).Add(float64(len(dead)))
		}
		return err
	}
}

// compact moves a position over what was acknowledged.
func (s *Feeds) compact(ctx context.Context, tenant storage.TenantID, f *Feed, st *state) error {
	entries, to, _, err := s.next(ctx, tenant, f, st.Position, maxDone)
	if err != nil {
		return err
	}
	for i := range entries {
		if !slices.Contains(st.Done, entries[i].Seq) {
			if i > 0 {
				to = entries[i-1].Seq
			} else {
				to = st.Position
			}
			break
		}
	}
	st.Position = to
	st.Done = slices.DeleteFunc(st.Done, func(seq int64) bool { return seq <= to })
	return nil
}
