package provlog

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/storage"
)

// Query says which entries are looked for. Zero fields do not count.
type Query struct {
	Client   string // its id
	Refused  bool
	Type, ID string    // of the resource
	Since    time.Time // entries from then on
	After    string    // the id of an entry: those older than it
	Limit    int       // 100 if zero
}

const usualLimit = 100

// Search returns entries of a tenant that have not expired by now, the newest first, and
// the After of the next page if there is one. Reading those of one client costs as many
// entries as are kept of it.
func Search(ctx context.Context, store storage.Store, tenant storage.TenantID, now time.Time, q Query) (list []*Entry, next string, err error) {
	if q.Limit == 0 {
		q.Limit = usualLimit
	}
	clients := []string{q.Client}
	if q.Client == "" {
		all, err := store.ListClients(ctx, tenant)
		if err != nil {
			return nil, "", err
		}
		clients = nil
		for _, c := range all {
			clients = append(clients, c.ID)
		}
	}
	for _, client := range clients {
		key := ofClient(client)
		if q.Refused {
			key = refusedBy(client)
		}
		items, err := store.Items(ctx, tenant, kind, key)
		if err != nil {
			return nil, "", err
		}
		n := 0
		for _, i := range slices.Backward(items) {
			if n > q.Limit {
				break
			}
			if i.Expires.Before(now) || q.After != "" && i.ID >= q.After {
				continue
			}
			e, err := readEntry(i)
			if err != nil {
				return nil, "", err
			}
			if q.has(e) {
				list = append(list, e)
				n++
			}
		}
		slices.SortFunc(list, func(a, b *Entry) int { return strings.Compare(b.ID, a.ID) })
		list = list[:min(len(list), q.Limit+1)] // one more tells that there is a next page
	}
	if len(list) > q.Limit {
		list = list[:q.Limit]
		next = list[q.Limit-1].ID
	}
	return list, next, nil
}

// has reports whether an entry is about what is looked for, an operation of a bulk
// request included.
func (q Query) has(e *Entry) bool {
	if !q.Since.IsZero() && e.At.Before(q.Since) {
		return false
	}
	is := func(typ, id string) bool { return (q.Type == "" || typ == q.Type) && (q.ID == "" || id == q.ID) }
	if is(e.ResourceType, e.ResourceID) {
		return true
	}
	for _, f := range e.Failures {
		if is(f.ResourceType, f.ResourceID) {
			return true
		}
	}
	return false
}

// Find returns the newest entry with a request id, or storage.ErrNotFound. Where
// clients give ids of their own, several requests may have the same.
func Find(ctx context.Context, store storage.Store, tenant storage.TenantID, now time.Time, request string) (*Entry, error) {
	items, err := store.Items(ctx, tenant, kind, ofRequest(request))
	if err != nil {
		return nil, err
	}
	for _, i := range slices.Backward(items) {
		if !i.Expires.Before(now) {
			return readEntry(i)
		}
	}
	return nil, storage.ErrNotFound
}
