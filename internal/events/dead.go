package events

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// DeadLetter is an event that was given up.
type DeadLetter struct {
	ID       string    `json:"-"`
	Type     string    `json:"type"`
	Resource string    `json:"resource"` // its id
	At       time.Time `json:"at"`       // when it happened
	Dead     time.Time `json:"dead"`
	Attempts int       `json:"attempts"`
	Reason   Reason    `json:"reason,omitzero"`
	Code     int       `json:"code,omitzero"`
}

// bury makes a dead letter of an event.
func (s *Feeds) bury(tx storage.Tx, p place, f *Feed, h held, e *storage.AuditEntry, now time.Time) error {
	typ, id, _ := strings.Cut(h.Resource, "/")
	d := DeadLetter{Type: typ, Resource: id, Dead: now, Attempts: h.Attempts, Reason: h.Reason, Code: h.Code}
	if e != nil {
		d.At = e.At.UTC()
	}
	next := &storage.Item{Kind: deadKind, ID: letterID(p.id, h.Seq), Keys: []string{p.id}, Expires: now.Add(time.Duration(f.KeepHours) * time.Hour), Data: asJSON(d)}
	prev, err := tx.Item(deadKind, next.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return tx.PutItem(prev, next)
}

// maxDead is how many dead letters are listed.
const maxDead = 500

// DeadLetters returns the newest events of a feed, up to 500, that were given up, and how
// many there are.
func (s *Feeds) DeadLetters(ctx context.Context, tenant storage.TenantID, id string) (list []DeadLetter, total int, err error) {
	if _, err := s.store.Item(ctx, tenant, feedKind, id); err != nil {
		return nil, 0, err
	}
	items, err := s.store.Items(ctx, tenant, deadKind, id)
	if err != nil {
		return nil, 0, err
	}
	for _, i := range items {
		var d DeadLetter
		if err := json.Unmarshal(i.Data, &d); err != nil {
			return nil, 0, errors.New("the dead letter " + i.ID + " is damaged")
		}
		if d.ID = i.ID; i.Expires.After(s.now()) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b DeadLetter) int { return cmp.Or(b.Dead.Compare(a.Dead), strings.Compare(b.ID, a.ID)) })
	return list[:min(len(list), maxDead)], len(list), nil
}

// Revive has a dead letter delivered again, whatever its resource has become since.
func (s *Feeds) Revive(ctx context.Context, by auth.Principal, id string) error {
	feed, seq, ok := parseLetterID(id)
	if !ok {
		return storage.ErrNotFound
	}
	err := s.store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		i, err := tx.Item(deadKind, id)
		if err != nil {
			return err
		}
		var d DeadLetter
		if err := json.Unmarshal(i.Data, &d); err != nil {
			return errors.New("the dead letter " + id + " is damaged")
		}
		prev, st, err := readState(tx.Item(stateKind, feed))
		if err != nil {
			return err
		}
		if len(st.Held) >= maxHeld {
			return ErrFull
		}
		comes := seq > st.Position && !slices.Contains(st.Done, seq) // anyway, as the feed was set back
		if !comes && !slices.ContainsFunc(st.Held, func(h held) bool { return h.Seq == seq }) {
			// Attempts: it is not to be taken for one that waits for too long.
			st.Held = append(st.Held, held{Seq: seq, Resource: d.Type + "/" + d.Resource, Attempts: 1, First: storage.Milli(s.now())})
			slices.SortFunc(st.Held, func(a, b held) int { return cmp.Compare(a.Seq, b.Seq) })
		}
		next, err := st.item(feed)
		if err != nil {
			return err
		}
		if err := errors.Join(tx.DeleteItem(i), tx.PutItem(prev, next)); err != nil {
			return err
		}
		return tx.Audit(by.Entry(ctx, s.now(), "feed.revive", "Feed", feed))
	})
	s.tellChanged()
	return err
}

// ErrFull says that a feed has as many events waiting as it can.
var ErrFull = errors.New("the feed has too many events that wait to be tried again")

// Drop discards a dead letter.
func (s *Feeds) Drop(ctx context.Context, by auth.Principal, id string) error {
	feed, _, ok := parseLetterID(id)
	if !ok {
		return storage.ErrNotFound
	}
	return s.store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		i, err := tx.Item(deadKind, id)
		if err != nil {
			return err
		}
		if err := tx.DeleteItem(i); err != nil {
			return err
		}
		return tx.Audit(by.Entry(ctx, s.now(), "feed.drop", "Feed", feed))
	})
}

// Replay sets a feed back, so that it is told again of what happened since a time, or
// behind a number of the audit trail if since is zero; not of what is older than it keeps
// events. It returns the position.
func (s *Feeds) Replay(ctx context.Context, by auth.Principal, id string, since time.Time, position int64) (int64, error) {
	f, _, err := s.Find(ctx, by.Tenant, id)
	if err != nil {
		return 0, err
	}
	oldest := s.now().Add(-time.Duration(f.KeepHours) * time.Hour)
	if since.Before(oldest) {
		since = oldest
	}
	from, err := s.before(ctx, by.Tenant, since)
	if err != nil {
		return 0, err
	}
	from = max(from, position)
	err = s.store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		i, st, err := readState(tx.Item(stateKind, id))
		if err != nil {
			return err
		}
		if from >= st.Position {
			from = st.Position
			return nil
		}
		// Those that are read again anyway, or the later would come before the earlier.
		st.Held = slices.DeleteFunc(st.Held, func(h held) bool { return h.Seq > from })
		st.Done = slices.DeleteFunc(st.Done, func(seq int64) bool { return seq > from })
		// Whoever is sending now finds that the feed is no longer theirs.
		st.Position, st.Lease, st.Due, st.Failures = from, "", time.Time{}, 0
		next, err := st.item(id)
		if err != nil {
			return err
		}
		if err := tx.PutItem(i, next); err != nil {
			return err
		}
		return tx.Audit(by.Entry(ctx, s.now(), "feed.replay", "Feed", id))
	})
	s.tellChanged()
	return from, err
}
