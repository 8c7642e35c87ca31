package mongotest

import (
	"bytes"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	maxDocumentSize = 16 << 20
	maxCommandSize  = maxDocumentSize + 16<<10 // without the documents that come in a sequence
	maxMessageSize  = 48_000_000
	maxBatch        = 100_000
)

// batch runs the statements of a write command one after the other, each in a
// step of its own, and collects what became of them.
type batch struct {
	r        *request
	ordered  bool
	stmtIDs  []int64
	n        int
	modified int
	upserted bson.A
	errors   bson.A
	retried  bson.A
}

func (r *request) batch() *batch {
	b := &batch{r: r, ordered: true}
	if r.has("ordered") {
		b.ordered = r.flag("ordered")
	}
	// Validators are refused when a collection is created.
	r.ignore("bypassDocumentValidation", "bypassEmptyTsReplacement")
	if v, ok := r.take("stmtIds"); ok {
		if v.Unmarshal(&b.stmtIDs) != nil {
			r.fail(errorf(typeMismatch, "stmtIds has to be an array of numbers"))
		}
	}
	r.refuse("let", "isTimeseriesNamespace", "encryptionInformation", "sampleId")
	return b
}

// run executes a statement in its turn and reports whether to go on.
func (b *batch) run(i int, statement func(*txn) (outcome, error)) (more bool, err error) {
	id := int32(i)
	if i < len(b.stmtIDs) {
		id = int32(b.stmtIDs[i])
	}
	o, again, err := b.r.once(id, statement)
	if again {
		b.retried = append(b.retried, id)
	}
	if err != nil {
		e := asCommandError(err)
		switch e.code {
		case writeConflict, maxTimeMSExpired, interruptedAtShutdown:
			return false, e // of the whole command
		}
		b.errors = append(b.errors, e.writeError(i))
		return !b.ordered && b.r.txn == nil, nil
	}
	b.n += o.matched
	b.modified += o.modified
	if o.inserted {
		b.n++
		b.upserted = append(b.upserted, bson.D{{Key: "index", Value: int32(i)}, {Key: "_id", Value: o.upserted}})
	}
	return true, nil
}

// once executes a statement, unless this very statement of a retryable write
// was executed before; then it returns what came of it.
func (r *request) once(id int32, statement func(*txn) (outcome, error)) (o outcome, again bool, err error) {
	if r.retryable {
		if o, again := r.session.statements[id]; again {
			return o, true, nil
		}
	}
	err = r.engine.write(r.ctx, r.txn, func(t *txn) error {
		var err error
		o, err = statement(t)
		return err
	})
	if err == nil && r.retryable {
		r.session.statements[id] = o
	}
	return o, false, err
}

func (b *batch) reply() bson.D {
	d := bson.D{{Key: "n", Value: int32(b.n)}}
	if b.r.name == "update" {
		d = append(d, bson.E{Key: "nModified", Value: int32(b.modified)})
	}
	if len(b.upserted) > 0 {
		d = append(d, bson.E{Key: "upserted", Value: b.upserted})
	}
	if len(b.errors) > 0 {
		d = append(d, bson.E{Key: "writeErrors", Value: b.errors})
	}
	if len(b.retried) > 0 {
		d = append(d, bson.E{Key: "retriedStmtIds", Value: b.retried})
	}
	return d
}

// statements returns the statements of a write command.
func (r *request) statements(name string) []bson.Raw {
	s := r.documents(name)
	if n := len(s); r.err == nil && (n < 1 || n > maxBatch) {
		r.fail(errorf(badValue, "Write batch sizes must be between 1 and %d. Got %d operations.", maxBatch, n))
	}
	return s
}

func insert(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	docs := r.statements("documents")
	b := r.batch()
	if err := r.done(); err != nil {
		return nil, err
	}
	for i, raw := range docs {
		more, err := b.run(i, func(t *txn) (outcome, error) {
			raw, doc, err := newDocument(raw)
			if err != nil {
				return outcome{}, err
			}
			return outcome{matched: 1}, t.insert(ns, raw, doc)
		})
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	return b.reply(), nil
}

// newDocument checks a document that is to be stored and puts its _id first,
// one made for it if it has none.
func newDocument(raw bson.Raw) (bson.Raw, bson.D, error) {
	doc, err := parseDocument(raw)
	if err != nil {
		return nil, nil, err
	}
	if len(raw) > maxDocumentSize {
		return nil, nil, errorf(bsonObjectTooLarge, "object to insert too large. size in bytes: %d, max size: %d", len(raw), maxDocumentSize)
	}
	at := -1
	for i, e := range doc {
		if strings.HasPrefix(e.Key, "$") {
			return nil, nil, errorf(dollarPrefixedFieldName, "The dollar ($) prefixed field '%s' is not valid for storage.", e.Key)
		}
		if e.Key == "_id" {
			at = i
		}
	}
	id := any(bson.NewObjectID())
	if at >= 0 {
		id = doc[at].Value
	}
	if c := classOf(id); c == classArray || c == classRegex {
		return nil, nil, errorf(badValue, "The '_id' value cannot be of this type")
	}
	if at == 0 {
		return bytes.Clone(raw), doc, nil
	}
	first := bson.D{{Key: "_id", Value: id}}
	for i, e := range doc {
		if i != at {
			first = append(first, e)
		}
	}
	raw, err = bson.Marshal(first)
	return raw, first, err
}

// modification is what an update statement or a findAndModify does to the
// documents it finds.
type modification struct {
	filter      *filter
	replacement bson.Raw // or
	update      *update
	upsert      bool
}

func parseModification(a *arguments, query, change string) (*modification, error) {
	m := &modification{}
	var err error
	if m.filter, err = parseFilter(a.document(query)); err != nil {
		return nil, err
	}
	m.upsert = a.flag("upsert")
	v, ok := a.take(change)
	if !ok {
		return nil, errorf(failedToParse, "BSON field '%s.%s' is missing but a required field", a.of, change)
	}
	raw, ok := v.DocumentOK()
	if !ok {
		return nil, refused("an update by pipeline")
	}
	if first, err := raw.IndexErr(0); err == nil && strings.HasPrefix(first.Key(), "$") {
		m.update, err = parseUpdate(raw)
		return m, err
	}
	m.replacement = raw
	return m, nil
}

// after returns a document as the modification leaves it.
func (m *modification) after(old *record) (bson.Raw, bson.D, error) {
	id := old.doc[0].Value
	var raw bson.Raw
	var err error
	if m.update != nil {
		raw, err = m.update.apply(old.raw, false)
	} else if raw = m.replacement; raw.Lookup("_id").IsZero() {
		raw, err = withID(raw, id)
	}
	if err != nil {
		return nil, nil, err
	}
	raw, doc, err := newDocument(raw)
	if err != nil {
		return nil, nil, err
	}
	if compare(doc[0].Value, id) != 0 {
		return nil, nil, errorf(immutableField, "Performing an update on the path '_id' would modify the immutable field '_id'")
	}
	return raw, doc, nil
}

// fresh returns the document an upsert inserts.
func (m *modification) fresh() (bson.Raw, bson.D, error) {
	base, err := upsertBase(m.filter)
	if err != nil {
		return nil, nil, err
	}
	if m.update != nil {
		if base, err = m.update.apply(base, true); err != nil {
			return nil, nil, err
		}
		return newDocument(base)
	}
	var id any
	wanted := base.Lookup("_id")
	if wanted.IsZero() || !m.replacement.Lookup("_id").IsZero() {
		raw, doc, err := newDocument(m.replacement)
		if err == nil && !wanted.IsZero() && wanted.Unmarshal(&id) == nil && compare(id, doc[0].Value) != 0 {
			err = errorf(immutableField, "The _id field cannot be changed from what the filter says")
		}
		return raw, doc, err
	}
	if err := wanted.Unmarshal(&id); err != nil {
		return nil, nil, err
	}
	raw, err := withID(m.replacement, id)
	if err != nil {
		return nil, nil, err
	}
	return newDocument(raw)
}

func withID(raw bson.Raw, id any) (bson.Raw, error) {
	var d bson.D
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	return bson.Marshal(append(bson.D{{Key: "_id", Value: id}}, d...))
}

// modify changes the given documents and returns the last one's new version.
func (m *modification) modify(t *txn, ns namespace, found []*record) (o outcome, last *record, err error) {
	for _, old := range found {
		raw, doc, err := m.after(old)
		if err != nil {
			return o, nil, err
		}
		o.matched++
		last = &record{id: old.id, raw: raw, doc: doc}
		if bytes.Equal(raw, old.raw) {
			continue
		}
		if err := t.put(ns, old, last); err != nil {
			return o, nil, err
		}
		o.modified++
	}
	if len(found) > 0 || !m.upsert {
		return o, last, nil
	}
	raw, doc, err := m.fresh()
	if err != nil {
		return o, nil, err
	}
	last = &record{id: t.engine.next(), raw: raw, doc: doc}
	o.inserted, o.upserted = true, doc[0].Value
	return o, last, t.put(ns, nil, last)
}

func updateDocuments(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	b := r.batch()
	updates := r.statements("updates")
	if err := r.done(); err != nil {
		return nil, err
	}
	for i, raw := range updates {
		more, err := b.run(i, func(t *txn) (outcome, error) {
			m, limit, err := parseUpdateStatement(raw)
			if err != nil {
				return outcome{}, err
			}
			found, err := newPlan(t.collection(ns), m.filter, nil).find(r.ctx, 0, limit)
			if err != nil {
				return outcome{}, err
			}
			o, _, err := m.modify(t, ns, found)
			return o, err
		})
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	return b.reply(), nil
}

func parseUpdateStatement(raw bson.Raw) (m *modification, limit int, err error) {
	a, err := parseArguments("update.updates", raw)
	if err != nil {
		return nil, 0, err
	}
	a.refuse("collation", "hint", "arrayFilters", "c", "sort")
	multi := a.flag("multi")
	if m, err = parseModification(a, "q", "u"); err != nil {
		return nil, 0, err
	}
	if multi && m.update == nil {
		return nil, 0, errorf(failedToParse, "multi update is not supported for replacement-style update")
	}
	if !multi {
		limit = 1
	}
	return m, limit, a.done()
}

func deleteDocuments(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	b := r.batch()
	deletes := r.statements("deletes")
	if err := r.done(); err != nil {
		return nil, err
	}
	for i, raw := range deletes {
		more, err := b.run(i, func(t *txn) (outcome, error) {
			f, limit, err := parseDeleteStatement(raw)
			if err != nil {
				return outcome{}, err
			}
			found, err := newPlan(t.collection(ns), f, nil).find(r.ctx, 0, limit)
			if err != nil {
				return outcome{}, err
			}
			for _, old := range found {
				if err := t.put(ns, old, nil); err != nil {
					return outcome{}, err
				}
			}
			return outcome{matched: len(found)}, nil
		})
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	return b.reply(), nil
}

func parseDeleteStatement(raw bson.Raw) (f *filter, limit int, err error) {
	a, err := parseArguments("delete.deletes", raw)
	if err != nil {
		return nil, 0, err
	}
	a.refuse("collation", "hint")
	if limit = a.count("limit"); limit > 1 {
		return nil, 0, errorf(failedToParse, "The limit field in delete objects must be 0 or 1. Got %d", limit)
	}
	if f, err = parseFilter(a.document("q")); err != nil {
		return nil, 0, err
	}
	return f, limit, a.done()
}

func findAndModify(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	sort, err := parseSort(r.document("sort"))
	if err != nil {
		return nil, err
	}
	fields, err := parseProjection(r.document("fields"))
	if err != nil {
		return nil, err
	}
	remove, wantNew := r.flag("remove"), r.flag("new")
	if remove && wantNew {
		return nil, errorf(failedToParse, "Cannot specify both new=true and remove=true; 'remove' always returns the deleted document")
	}
	var m *modification
	if remove {
		m = &modification{}
		m.filter, err = parseFilter(r.document("query"))
	} else {
		m, err = parseModification(r.arguments, "query", "update")
	}
	if err != nil {
		return nil, err
	}
	id := int32(0)
	if r.has("stmtId") {
		id = int32(r.integer("stmtId"))
	}
	r.ignore("bypassDocumentValidation")
	r.refuse("collation", "hint", "arrayFilters", "let")
	if err := r.done(); err != nil {
		return nil, err
	}
	o, again, err := r.once(id, func(t *txn) (outcome, error) {
		found, err := newPlan(t.collection(ns), m.filter, sort).find(r.ctx, 0, 1)
		if err != nil {
			return outcome{}, err
		}
		var before, after *record
		if len(found) > 0 {
			before = found[0]
		}
		var o outcome
		result := bson.D{{Key: "n", Value: int32(len(found))}}
		switch {
		case !remove:
			if o, after, err = m.modify(t, ns, found); o.inserted {
				result[0].Value = int32(1)
			}
			result = append(result, bson.E{Key: "updatedExisting", Value: before != nil})
			if o.inserted {
				result = append(result, bson.E{Key: "upserted", Value: o.upserted})
			}
		case before != nil:
			err = t.put(ns, before, nil)
		}
		shown := before
		if wantNew {
			shown = after
		}
		o.reply = bson.D{{Key: "lastErrorObject", Value: result}, {Key: "value", Value: project(shown, fields)}}
		return o, err
	})
	if err != nil {
		return nil, err
	}
	if again {
		return append(bson.D{{Key: "retriedStmtId", Value: id}}, o.reply...), nil
	}
	return slices.Clone(o.reply), nil // the caller appends to it
}
