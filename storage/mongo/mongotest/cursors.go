package mongotest

import (
	"math"
	"math/rand/v2"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// firstBatch is how many documents a reply has when nothing is said.
const firstBatch = 101

// cursors are results that clients have not fetched to the end.
type cursors struct {
	mu   sync.Mutex
	open map[int64]*cursor
}

// cursor is the rest of a result, which was complete when it was opened.
type cursor struct {
	ns   namespace
	txn  *txn // the transaction it belongs to, or nil
	rest []any
}

func (c *cursors) add(cur *cursor) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[int64]*cursor{}
	}
	id := rand.Int64N(math.MaxInt64-1) + 1
	c.open[id] = cur
	return id
}

// take removes a cursor, so that two getMores cannot read it at once.
func (c *cursors) take(id int64) *cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.open[id]
	delete(c.open, id)
	return cur
}

func (c *cursors) back(id int64, cur *cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[id] = cur
}

// next moves up to n documents, and no more than fit a reply, to a batch.
func (c *cursor) next(n int) (bson.A, error) {
	batch, size := bson.A{}, 0
	for len(c.rest) > 0 && len(batch) < n {
		raw, ok := c.rest[0].(bson.Raw)
		if !ok {
			b, err := bson.Marshal(c.rest[0])
			if err != nil {
				return nil, err
			}
			raw = b
		}
		if size += len(raw); size > maxDocumentSize && len(batch) > 0 {
			break
		}
		batch = append(batch, raw)
		c.rest = c.rest[1:]
	}
	return batch, nil
}

// openCursor answers with the first documents of a result.
func (r *request) openCursor(ns namespace, docs []any, batch int, single bool) (bson.D, error) {
	cur := &cursor{ns: ns, txn: r.txn, rest: docs}
	first, err := cur.next(batch)
	if err != nil {
		return nil, err
	}
	id := int64(0)
	if len(cur.rest) > 0 && !single {
		id = r.double.cursors.add(cur)
	}
	return cursorReply(ns, id, "firstBatch", first), nil
}

func cursorReply(ns namespace, id int64, name string, batch bson.A) bson.D {
	return bson.D{{Key: "cursor", Value: bson.D{
		{Key: name, Value: batch}, {Key: "id", Value: id}, {Key: "ns", Value: ns.String()}}}}
}

// cursorOptions takes {cursor: {batchSize: n}} from the arguments.
func (r *request) cursorOptions() (batch int) {
	if !r.has("cursor") {
		return firstBatch
	}
	a, err := parseArguments("cursor", r.raw("cursor"))
	if err != nil {
		r.fail(err)
		return 0
	}
	r.ignore("cursor")
	batch = firstBatch
	if a.has("batchSize") {
		batch = a.count("batchSize")
	}
	if err := a.done(); err != nil {
		r.fail(err)
	}
	return batch
}

func getMore(r *request) (bson.D, error) {
	id, ok := r.target.Int64OK()
	if !ok {
		return nil, errorf(typeMismatch, "getMore takes a long")
	}
	ns := namespace{r.db, r.text("collection")}
	n := r.count("batchSize")
	if n == 0 {
		n = math.MaxInt
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	cur := r.double.cursors.take(id)
	if cur == nil {
		return nil, errorf(cursorNotFound, "cursor id %d not found", id)
	}
	if cur.ns != ns {
		r.double.cursors.back(id, cur)
		return nil, errorf(unauthorized, "Requested getMore on namespace '%s', but cursor belongs to a different namespace", ns)
	}
	if cur.txn != r.txn {
		r.double.cursors.back(id, cur)
		return nil, errorf(illegalOperation, "cursor id %d belongs to another transaction or to none", id)
	}
	batch, err := cur.next(n)
	if err != nil {
		return nil, err
	}
	if len(cur.rest) > 0 {
		r.double.cursors.back(id, cur)
	} else {
		id = 0
	}
	return cursorReply(ns, id, "nextBatch", batch), nil
}

func killCursors(r *request) (bson.D, error) {
	var ids []int64
	if v, ok := r.take("cursors"); !ok || v.Unmarshal(&ids) != nil {
		return nil, errorf(typeMismatch, "cursors has to be an array of longs")
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	killed, unknown := bson.A{}, bson.A{}
	for _, id := range ids {
		if r.double.cursors.take(id) != nil {
			killed = append(killed, id)
		} else {
			unknown = append(unknown, id)
		}
	}
	return bson.D{
		{Key: "cursorsKilled", Value: killed}, {Key: "cursorsNotFound", Value: unknown},
		{Key: "cursorsAlive", Value: bson.A{}}, {Key: "cursorsUnknown", Value: bson.A{}},
	}, nil
}

func (c *cursors) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = nil
}
