package mongotest

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// query is what find and, in part, aggregate and count ask for.
type query struct {
	filter      *filter
	sort        []keyField
	projection  *projection
	skip, limit int
}

// parseQuery takes a find's fields from its arguments.
func parseQuery(a *arguments) (*query, error) {
	q := &query{skip: a.count("skip"), limit: a.count("limit")}
	var err error
	if q.filter, err = parseFilter(a.document("filter")); err != nil {
		return nil, err
	}
	if q.sort, err = parseSort(a.document("sort")); err != nil {
		return nil, err
	}
	if q.projection, err = parseProjection(a.document("projection")); err != nil {
		return nil, err
	}
	a.ignore("noCursorTimeout", "allowDiskUse", "allowPartialResults", "oplogReplay")
	a.refuse("hint", "min", "max", "returnKey", "showRecordId", "tailable", "awaitData", "collation", "let")
	return q, nil
}

func find(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	q, err := parseQuery(r.arguments)
	if err != nil {
		return nil, err
	}
	batch := firstBatch
	if r.has("batchSize") {
		batch = r.count("batchSize")
	}
	single := r.flag("singleBatch")
	if err := r.done(); err != nil {
		return nil, err
	}
	found, err := newPlan(r.collection(ns), q.filter, q.sort).find(r.ctx, q.skip, q.limit)
	if err != nil {
		return nil, err
	}
	docs := make([]any, len(found))
	for i, rec := range found {
		docs[i] = project(rec, q.projection)
	}
	return r.openCursor(ns, docs, batch, single)
}

// project returns a record as it is sent; nil for none.
func project(r *record, p *projection) any {
	switch {
	case r == nil:
		return nil
	case p == nil:
		return r.raw
	}
	return p.apply(r.doc)
}

func count(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	f, err := parseFilter(r.document("query"))
	if err != nil {
		return nil, err
	}
	skip, limit := r.count("skip"), r.integer("limit")
	r.refuse("hint", "collation")
	if err := r.done(); err != nil {
		return nil, err
	}
	found, err := newPlan(r.collection(ns), f, nil).find(r.ctx, skip, int(max(limit, -limit)))
	return bson.D{{Key: "n", Value: int32(len(found))}}, err
}

// pipeline is an aggregation of the stages that leave documents as they are,
// with at most one at its end that counts or projects them.
type pipeline struct {
	filter *filter // of the first stage; it may use an index
	steps  []func([]*record) ([]*record, error)
	finish func([]*record) []any
}

func parsePipeline(stages []bson.Raw) (*pipeline, error) {
	p := &pipeline{filter: &filter{match: func(bson.D) bool { return true }}, finish: whole}
	for i, raw := range stages {
		d, err := parseDocument(raw)
		if err != nil {
			return nil, err
		}
		if len(d) != 1 {
			return nil, errorf(badValue, "A pipeline stage specification object must contain exactly one field.")
		}
		ended, err := p.stage(d[0].Key, d[0].Value, i == 0)
		if err != nil {
			return nil, err
		}
		if ended && i < len(stages)-1 {
			return nil, refused("stages after " + d[0].Key)
		}
	}
	return p, nil
}

func (p *pipeline) stage(name string, v any, first bool) (ended bool, err error) {
	d, isDocument := v.(bson.D)
	n, isNumber := integer(v)
	if !isDocument && slices.Contains([]string{"$match", "$sort", "$project", "$group"}, name) {
		return false, errorf(badValue, "the %s stage takes an object", name)
	}
	switch name {
	case "$match":
		f, err := parseFilter(d)
		if err != nil || first {
			p.filter = f
			return false, err
		}
		p.step(func(rs []*record) ([]*record, error) {
			return slices.DeleteFunc(rs, func(r *record) bool { return !f.match(r.doc) }), nil
		})
	case "$sort":
		by, err := parseSort(d)
		if err != nil {
			return false, err
		}
		if len(by) == 0 {
			return false, errorf(badValue, "$sort stage must have at least one sort key")
		}
		p.step(func(rs []*record) ([]*record, error) { return sorted(rs, by) })
	case "$skip", "$limit":
		if !isNumber || n < 0 || n == 0 && name == "$limit" {
			return false, errorf(badValue, "invalid argument to %s stage", name)
		}
		p.step(func(rs []*record) ([]*record, error) {
			at := min(int(n), len(rs))
			if name == "$skip" {
				return rs[at:], nil
			}
			return rs[:at], nil
		})
	case "$project":
		projection, err := parseProjection(d)
		if err != nil {
			return false, err
		}
		if projection == nil {
			return false, errorf(badValue, "$project specification must have at least one field")
		}
		p.finish = func(rs []*record) []any {
			docs := make([]any, len(rs))
			for i, r := range rs {
				docs[i] = project(r, projection)
			}
			return docs
		}
		return true, nil
	case "$count":
		field, ok := v.(string)
		if !ok || field == "" {
			return false, errorf(badValue, "the count field must be a non-empty string")
		}
		p.finish = func(rs []*record) []any {
			if len(rs) == 0 {
				return nil
			}
			return []any{bson.D{{Key: field, Value: int32(len(rs))}}}
		}
		return true, nil
	case "$group":
		return true, p.group(d)
	default:
		return false, refused("aggregation stage " + name)
	}
	return false, nil
}

func (p *pipeline) step(fn func([]*record) ([]*record, error)) { p.steps = append(p.steps, fn) }

// group understands what counts all documents: {_id: 1, n: {$sum: 1}}.
func (p *pipeline) group(d bson.D) error {
	id, ok := lookup(d, "_id")
	if !ok || len(d) != 2 || d[0].Key != "_id" || id != nil && classOf(id) != classNumber {
		return refused("$group by expression")
	}
	sum, ok := d[1].Value.(bson.D)
	if !ok || len(sum) != 1 || sum[0].Key != "$sum" || compare(sum[0].Value, int32(1)) != 0 {
		return refused("$group other than {$sum: 1}")
	}
	p.finish = func(rs []*record) []any {
		if len(rs) == 0 {
			return nil
		}
		return []any{bson.D{{Key: "_id", Value: id}, {Key: d[1].Key, Value: int32(len(rs))}}}
	}
	return nil
}

func whole(rs []*record) []any {
	docs := make([]any, len(rs))
	for i, r := range rs {
		docs[i] = r.raw
	}
	return docs
}

func (p *pipeline) run(r *request, c *collection) ([]any, error) {
	found, err := newPlan(c, p.filter, nil).find(r.ctx, 0, 0)
	if err != nil {
		return nil, err
	}
	for _, step := range p.steps {
		if found, err = step(found); err != nil {
			return nil, err
		}
	}
	return p.finish(found), nil
}

func aggregate(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	p, err := parsePipeline(r.documents("pipeline"))
	if err != nil {
		return nil, err
	}
	batch := r.cursorOptions()
	r.ignore("allowDiskUse", "bypassDocumentValidation")
	r.refuse("explain", "hint", "collation", "let")
	if err := r.done(); err != nil {
		return nil, err
	}
	docs, err := p.run(r, r.collection(ns))
	if err != nil {
		return nil, err
	}
	return r.openCursor(ns, docs, batch, false)
}
