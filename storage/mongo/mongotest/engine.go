package mongotest

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// namespace is a collection's full name.
type namespace struct{ db, collection string }

func (n namespace) String() string { return n.db + "." + n.collection }

// state is everything the server keeps at one moment. It never changes; a
// commit replaces it.
type state map[namespace]*collection

// record is a stored document. A change makes a new record with the same id.
type record struct {
	id  int64 // in order of insertion: the natural order
	raw bson.Raw
	doc bson.D // raw, decoded; never modified
}

// collection is the documents of a namespace. Once committed it does not change.
type collection struct {
	// schema differs after each change of the indexes and each new creation.
	schema  int64
	records *btree.BTreeG[*record]
	indexes []*index // the first is that of _id
}

func newCollection(schema int64) *collection {
	c := &collection{
		schema:  schema,
		records: btree.NewBTreeG(func(a, b *record) bool { return a.id < b.id }),
	}
	c.indexes = []*index{newIndex(idIndex)}
	return c
}

// clone returns a copy that shares everything until one side is changed.
func (c *collection) clone() *collection {
	d := &collection{schema: c.schema, records: c.records.Copy(), indexes: make([]*index, len(c.indexes))}
	for i, x := range c.indexes {
		d.indexes[i] = x.clone()
	}
	return d
}

func (c *collection) record(id int64) *record {
	if c == nil {
		return nil
	}
	r, _ := c.records.Get(&record{id: id})
	return r
}

// put replaces old by r, either of which may be nil, in all indexes. The keys
// have been checked before.
func (c *collection) put(old, r *record) error {
	for _, x := range c.indexes {
		if err := x.replace(old, r); err != nil {
			return err
		}
	}
	if r != nil {
		c.records.Set(r)
	} else if old != nil {
		c.records.Delete(old)
	}
	return nil
}

// engine is the data of a server and the transactions on it. A transaction
// reads the state it began on and claims each key it writes; a key that another
// one has claimed or committed since is a write conflict, found when it is
// written, so that a commit never fails.
type engine struct {
	// lockWait bounds how long a write outside a transaction waits for a key.
	lockWait time.Duration

	mu     sync.Mutex
	state  state
	time   bson.Timestamp // when state became what it is
	claims map[claim]*txn
	freed  chan struct{} // closed when claims are given up, and renewed
	serial int64
}

// claim is a key of an index that a transaction writes. The keys of the _id
// index stand for the documents.
type claim struct {
	ns    namespace
	index string
	key   string
}

func newEngine(lockWait time.Duration) *engine {
	e := &engine{
		lockWait: lockWait,
		state:    state{},
		claims:   map[claim]*txn{},
		freed:    make(chan struct{}),
	}
	e.advance()
	return e
}

func (e *engine) current() state {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// begin starts a transaction of several commands.
func (e *engine) begin() *txn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &txn{engine: e, lasting: true, base: e.state}
}

// write runs fn in t or, when t is nil, in a transaction of its own, waiting
// for transactions that are in the way.
func (e *engine) write(ctx context.Context, t *txn, fn func(*txn) error) error {
	if t != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		return fn(t)
	}
	ticker := time.NewTicker(tick(e.lockWait))
	defer ticker.Stop()
	for waited := 0; ; {
		busy, err := e.attempt(fn)
		if busy == nil {
			return err
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			if waited++; waited == ticks {
				return err
			}
		}
	}
}

// attempt runs fn once and commits. When another transaction is in the way it
// returns a channel that is closed once that may have changed.
func (e *engine) attempt(fn func(*txn) error) (busy <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &txn{engine: e, base: e.state}
	if err = fn(t); err != nil {
		if errors.Is(err, errWriteConflict) {
			return e.freed, err
		}
		return nil, err
	}
	e.publish(t.own)
	return nil, nil
}

func (e *engine) publish(changed map[namespace]*collection) {
	if len(changed) == 0 {
		return
	}
	next := maps.Clone(e.state)
	for ns, c := range changed {
		if c == nil {
			delete(next, ns)
		} else {
			next[ns] = c
		}
	}
	e.state = next
	e.advance()
}

// advance moves the cluster's time on: a second, and a number within it.
func (e *engine) advance() {
	if now := uint32(time.Now().Unix()); now > e.time.T {
		e.time = bson.Timestamp{T: now}
	}
	e.time.I++
}

// version is the state at a time.
type version struct {
	time  bson.Timestamp
	state state
	shown time.Time // when a client was first told of it
}

func (e *engine) newest() *version {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &version{e.time, e.state, time.Now()}
}

// commit makes a transaction's changes visible. They are repeated on the newest
// state, where its claims have kept their keys as they were.
func (e *engine) commit(t *txn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.release(t)
	merged := map[namespace]*collection{}
	for ns, changes := range t.changes {
		c := e.state[ns]
		if c == nil {
			c = newCollection(e.next())
		} else {
			c = c.clone()
		}
		for _, ch := range changes {
			if err := c.put(ch.old, ch.new); err != nil {
				return err
			}
		}
		merged[ns] = c
	}
	e.publish(merged)
	return nil
}

func (e *engine) abort(t *txn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.release(t)
}

func (e *engine) release(t *txn) {
	for _, c := range t.claims {
		delete(e.claims, c)
	}
	if len(t.claims) > 0 {
		close(e.freed)
		e.freed = make(chan struct{})
	}
	t.claims = nil
}

func (e *engine) next() int64 {
	e.serial++
	return e.serial
}

var errWriteConflict = errorf(writeConflict, "Caused by :: Write conflict during plan execution and yielding is disabled. :: Please retry your operation or multi-document transaction.")

// txn is a transaction. All that changes it runs under the engine's lock.
type txn struct {
	engine  *engine
	lasting bool  // it outlives the command and has to claim what it writes
	base    state // what it began on
	own     map[namespace]*collection
	changes map[namespace]map[int64]*change
	claims  []claim
}

// change is what a transaction did to a document: either side may be nil.
type change struct{ old, new *record }

// collection returns a namespace as the transaction sees it, or nil.
func (t *txn) collection(ns namespace) *collection {
	if c, ok := t.own[ns]; ok {
		return c
	}
	return t.base[ns]
}

// writable returns the transaction's own copy of a collection, made if need be.
func (t *txn) writable(ns namespace) (*collection, error) {
	if c := t.own[ns]; c != nil {
		return c, nil
	}
	began, now := t.base[ns], t.engine.state[ns]
	if (began == nil) != (now == nil) || began != nil && began.schema != now.schema {
		return nil, errWriteConflict
	}
	var c *collection
	if began != nil {
		c = began.clone()
	} else {
		c = newCollection(t.engine.next())
	}
	if t.own == nil {
		t.own = map[namespace]*collection{}
	}
	t.own[ns] = c
	return c, nil
}

// create makes an empty collection.
func (t *txn) create(ns namespace) error {
	if _, err := t.writable(ns); err != nil {
		return err
	}
	t.changesOf(ns)
	return nil
}

// insert stores a new document.
func (t *txn) insert(ns namespace, raw bson.Raw, doc bson.D) error {
	return t.put(ns, nil, &record{id: t.engine.next(), raw: raw, doc: doc})
}

// put replaces old by r; nil stands for no document on either side.
func (t *txn) put(ns namespace, old, r *record) error {
	c, err := t.writable(ns)
	if err != nil {
		return err
	}
	for _, x := range c.indexes {
		if !x.Unique {
			continue
		}
		gone, err := x.keys(old)
		if err != nil {
			return err
		}
		added, err := x.keys(r)
		if err != nil {
			return err
		}
		for _, k := range gone {
			if err := t.claim(ns, x, k); err != nil {
				return err
			}
		}
		for _, k := range added {
			if err := t.claim(ns, x, k); err != nil {
				return err
			}
			if holder := x.find(k); holder != nil && (old == nil || holder.id != old.id) {
				return x.duplicate(ns, r.doc)
			}
		}
	}
	if err := c.put(old, r); err != nil {
		return err
	}
	t.note(ns, old, r)
	return nil
}

// claim takes a key of a unique index for the transaction and fails when
// somebody else has it or has changed it since the transaction began.
func (t *txn) claim(ns namespace, x *index, key string) error {
	e, c := t.engine, claim{ns, x.Name, key}
	switch holder := e.claims[c]; {
	case holder == t:
		return nil
	case holder != nil:
		return errWriteConflict
	case !t.lasting:
		return nil
	}
	if t.base[ns].holder(x.Name, key) != e.state[ns].holder(x.Name, key) {
		return errWriteConflict
	}
	e.claims[c] = t
	t.claims = append(t.claims, c)
	return nil
}

// holder returns the record with a key of a unique index.
func (c *collection) holder(index, key string) *record {
	if c == nil {
		return nil
	}
	for _, x := range c.indexes {
		if x.Name == index {
			return x.find(key)
		}
	}
	return nil
}

// changesOf returns what the transaction did to a collection, by record.
func (t *txn) changesOf(ns namespace) map[int64]*change {
	if t.changes == nil {
		t.changes = map[namespace]map[int64]*change{}
	}
	if t.changes[ns] == nil {
		t.changes[ns] = map[int64]*change{}
	}
	return t.changes[ns]
}

func (t *txn) note(ns namespace, old, r *record) {
	changes := t.changesOf(ns)
	if old == nil {
		changes[r.id] = &change{nil, r}
	} else if ch := changes[old.id]; ch != nil {
		ch.new = r
	} else {
		changes[old.id] = &change{old, r}
	}
}

// define changes the catalogue: fn gets the present state and returns the
// collections it changes, a nil one to drop it. It waits for transactions that
// have written to one of the namespaces.
func (e *engine) define(ctx context.Context, touches func(namespace) bool, fn func(s state) (map[namespace]*collection, error)) error {
	return e.write(ctx, nil, func(t *txn) error {
		for c := range e.claims {
			if touches(c.ns) {
				return errWriteConflict
			}
		}
		changed, err := fn(t.base)
		t.own = changed
		return err
	})
}
