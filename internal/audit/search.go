package audit

import (
	"context"
	"time"

	"github.com/roster-id/roster/storage"
)

// Query selects entries; what is unset selects all.
type Query struct {
	Actor, Action, Type, ID string
	Since                   time.Time // not before
	Until                   time.Time // before
	// After is the number behind which the search begins.
	After int64
	// Limit is how many entries are returned at most; 100 if it is not between 1
	// and 1,000.
	Limit int
}

const (
	defaultLimit = 100
	maxLimit     = 1000
	// maxLooked bounds how many entries one search looks at.
	maxLooked = 20_000
)

func (q *Query) selects(e *storage.AuditEntry) bool {
	return (q.Actor == "" || q.Actor == e.Actor) && (q.Action == "" || q.Action == e.Action) &&
		(q.Type == "" || q.Type == e.Type) && (q.ID == "" || q.ID == e.ID) &&
		(q.Since.IsZero() || !e.At.Before(q.Since)) && (q.Until.IsZero() || e.At.Before(q.Until))
}

// Search returns the entries that q selects, oldest first, and where to go on: the
// After of a Query for the following ones, or 0 at the end of the trail. It looks at
// a bounded number of entries, so that it may return less than Limit, or nothing,
// with more to come.
func Search(ctx context.Context, store storage.Audit, tenant storage.TenantID, q Query) (list []storage.AuditEntry, next int64, err error) {
	if q.Limit < 1 || q.Limit > maxLimit {
		q.Limit = defaultLimit
	}
	to, more, err := storage.EachEntry(ctx, store, tenant, q.After, maxLooked, func(e *storage.AuditEntry) bool {
		if len(list) == q.Limit {
			return false
		}
		if q.selects(e) {
			list = append(list, *e)
		}
		return true
	})
	switch {
	case err != nil:
		return nil, 0, err
	case more || len(list) == q.Limit:
		return list, to, nil
	}
	return list, 0, nil
}
