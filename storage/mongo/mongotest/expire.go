package mongotest

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// expireInterval is how often documents are removed whose time has come, as in
// MongoDB.
const expireInterval = time.Minute

func (d *Double) expireDocuments(ctx context.Context) {
	defer d.running.Done()
	ticker := time.NewTicker(expireInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			d.engine.expire(ctx, now)
		}
	}
}

// expire removes what the TTL indexes say is over. A document that somebody is
// writing to is left for the next time.
func (e *engine) expire(ctx context.Context, now time.Time) {
	for ns, c := range e.current() {
		for _, x := range c.indexes {
			if !x.Expires {
				continue
			}
			var over []*record
			limit := bson.NewDateTimeFromTime(now.Add(-time.Duration(x.ExpireAfter) * time.Second))
			c.records.Scan(func(r *record) bool {
				if walk(r.doc, x.Key[0].path, false, func(v any, _ bool) bool {
					date, ok := v.(bson.DateTime)
					return ok && date <= limit
				}) && (x.partial == nil || x.partial.match(r.doc)) {
					over = append(over, r)
				}
				return true
			})
			for _, r := range over {
				if ctx.Err() != nil {
					return
				}
				_, _ = e.attempt(func(t *txn) error {
					if t.collection(ns).record(r.id) != r {
						return nil
					}
					return t.put(ns, r, nil)
				})
			}
		}
	}
}
