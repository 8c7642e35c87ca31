package events

import (
	"context"
	"slices"
	"time"

	"github.com/roster-id/roster/storage"
)

// scan is how far the trail was looked through for a feed that stands at a position, in
// this process: what lies between tells it nothing.
type scan struct {
	position, to  int64
	types, events []string // that the feed was told of
}

// tells reports whether a feed is still told of the same.
func (s scan) tells(f *Feed) bool {
	return slices.Equal(s.types, f.Types) && slices.Equal(s.events, f.Events)
}

// passBy is how many entries that tell a feed nothing may lie behind its position before
// that is moved on in the store.
const passBy = 10_000

// next returns up to limit entries behind a position that a feed is told of, and up to
// which number the trail was looked through. more says that there may be others.
func (s *Feeds) next(ctx context.Context, tenant storage.TenantID, f *Feed, position int64, limit int) (list []storage.AuditEntry, to int64, more bool, err error) {
	s.mu.Lock()
	to = position
	p := place{tenant, f.ID}
	if at := s.scanned[p]; at.position == position && at.tells(f) {
		to = max(to, at.to)
	}
	s.mu.Unlock()
	defer func() {
		if err == nil && len(list) == 0 {
			s.mu.Lock()
			s.scanned[p] = scan{position, to, f.Types, f.Events}
			s.mu.Unlock()
		}
	}()
	to, more, err = storage.EachEntry(ctx, s.store, tenant, to, passBy, func(e *storage.AuditEntry) bool {
		if len(list) == limit {
			return false
		}
		if len(f.tells(e)) > 0 {
			list = append(list, *e)
		}
		return true
	})
	return list, to, more, err
}

// entry returns the entry with a number.
func (s *Feeds) entry(ctx context.Context, tenant storage.TenantID, seq int64) (*storage.AuditEntry, error) {
	list, err := s.store.AuditEntries(ctx, tenant, seq-1, 1)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || list[0].Seq != seq {
		return nil, storage.ErrNotFound
	}
	return &list[0], nil
}

// end returns the number of the last entry.
func (s *Feeds) end(ctx context.Context, tenant storage.TenantID) (int64, error) {
	return storage.LastEntry(ctx, s.store, tenant, func(*storage.AuditEntry) bool { return true })
}

// before returns the number of the last entry before a time, about: the clocks of
// servers may differ, so it stays some minutes behind.
func (s *Feeds) before(ctx context.Context, tenant storage.TenantID, t time.Time) (int64, error) {
	t = t.Add(-5 * time.Minute)
	return storage.LastEntry(ctx, s.store, tenant, func(e *storage.AuditEntry) bool { return e.At.Before(t) })
}
