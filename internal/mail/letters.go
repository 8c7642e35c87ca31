package mail

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/roster-id/roster/storage"
)

// The states of a message.
const (
	StateWaiting = "waiting"
	StateSending = "sending"
	StateDead    = "dead"
)

// Entry is a message as an administrator sees it: without what it says.
type Entry struct {
	ID       string
	Kind     Kind
	To       string // "" if it cannot be told any more
	State    string
	Queued   time.Time
	Next     time.Time // of the next attempt, zero if there is none
	Expires  time.Time // when it loses its sense, or zero
	Attempts int
	Reason   Reason // of the last attempt that failed
	Code     int
}

// maxListed bounds a list.
const maxListed = 500

// List returns the newest messages of a tenant, up to 500, that have not been sent,
// newest first, and how many there are.
func (q *Queue) List(ctx context.Context, tenant storage.TenantID) ([]Entry, int, error) {
	items, err := q.store.Items(ctx, tenant, kind, "")
	if err != nil {
		return nil, 0, err
	}
	total := len(items)
	slices.Reverse(items) // ids grow with time
	list := []Entry{}
	for _, i := range items[:min(total, maxListed)] {
		r, err := readRecord(i)
		if err != nil {
			return nil, 0, err
		}
		e := Entry{ID: i.ID, Kind: r.Kind, State: r.state(q.now()), Queued: r.Queued, Expires: r.Until, Attempts: r.Attempts, Reason: r.Reason, Code: r.Code}
		if e.State == StateWaiting {
			e.Next = r.Due
		}
		if r.Sealed != nil {
			if m, err := q.message(tenant, i.ID, r); err == nil {
				e.To = m.To
			}
		}
		list = append(list, e)
	}
	return list, total, nil
}

func (r record) state(now time.Time) string {
	switch {
	case !r.Dead.IsZero():
		return StateDead
	case r.Lease != "" && !r.due(now):
		return StateSending
	}
	return StateWaiting
}

// Errors of Retry.
var (
	ErrSending = errors.New("the message is being sent at this moment")
	ErrExpired = errors.New("the message has expired, and what it said is gone")
)

// Retry has a message sent as if it were new, and records who asked for that. The error is
// ErrSending, ErrExpired, ErrDisabled or storage.ErrNotFound.
func (q *Queue) Retry(ctx context.Context, tenant storage.TenantID, id string, by storage.AuditEntry) error {
	if !q.Enabled() {
		return ErrDisabled
	}
	err := q.change(ctx, tenant, id, func(tx storage.Tx, i *storage.Item, r record) error {
		now := storage.Milli(q.now())
		before := r.state(now)
		switch {
		case before == StateSending:
			return ErrSending
		case r.Sealed == nil, !r.Until.IsZero() && !now.Before(r.Until):
			return ErrExpired
		}
		r.Dead, r.Lease, r.Due, r.Attempts = time.Time{}, "", now, 0
		if err := q.save(tx, i, id, r); err != nil {
			return err
		}
		by.Changes = stateChange(before, StateWaiting)
		return tx.Audit(by)
	})
	if err != nil {
		return err
	}
	select {
	case q.fresh <- fresh{tenant: tenant, id: id}:
	default:
	}
	return nil
}

// Discard removes a message that has not been sent, and records who asked for that. One
// that is being sent may arrive all the same.
func (q *Queue) Discard(ctx context.Context, tenant storage.TenantID, id string, by storage.AuditEntry) error {
	return q.change(ctx, tenant, id, func(tx storage.Tx, i *storage.Item, r record) error {
		if err := tx.DeleteItem(i); err != nil {
			return err
		}
		by.Changes = stateChange(r.state(q.now()), "")
		return tx.Audit(by)
	})
}

func (q *Queue) change(ctx context.Context, tenant storage.TenantID, id string, fn func(storage.Tx, *storage.Item, record) error) error {
	return q.store.Write(ctx, tenant, func(tx storage.Tx) error {
		i, err := tx.Item(kind, id)
		if err != nil {
			return err
		}
		r, err := readRecord(i)
		if err != nil {
			return err
		}
		return fn(tx, i, r)
	})
}

func stateChange(before, after string) []storage.Change {
	if after == "" {
		return []storage.Change{storage.ChangeOf("state", before, nil)}
	}
	return []storage.Change{storage.ChangeOf("state", before, after)}
}
