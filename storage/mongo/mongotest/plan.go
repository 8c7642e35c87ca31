package mongotest

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// plan is how a query finds its documents: by an index, or by looking at all of
// the collection.
type plan struct {
	collection *collection // nil when there is none
	filter     *filter
	sort       []keyField

	index    *index // nil for a collection scan
	bounds   []bounds
	ordered  bool // the index has the order that is asked for
	backward bool

	keysExamined, docsExamined int
}

// bounds are a range of an index's keys: from low on, up to but not including
// high, or to the end when that is empty.
type bounds struct{ low, high string }

// maxPoints is how many single keys a plan looks up before it prefers a range.
const maxPoints = 1000

// unique is how much more a plan is worth that knows all of a unique key than
// one that knows any number of fields of others.
const unique = 1000

func newPlan(c *collection, f *filter, sort []keyField) *plan {
	best := &plan{collection: c, filter: f, sort: sort}
	if c == nil {
		return best
	}
	score := 0
	for _, x := range c.indexes {
		if x.partial != nil { // it may lack documents
			continue
		}
		p := &plan{collection: c, filter: f, sort: sort, index: x}
		if s := p.bind(); s > score {
			best, score = p, s
		}
	}
	return best
}

// bind works out the plan's bounds in its index and returns how much that
// narrows the search down.
func (p *plan) bind() (score int) {
	prefixes := [][]byte{nil}
	equalities := 0
	for _, f := range p.index.Key {
		values, ok := p.points(f)
		if !ok || len(prefixes)*len(values) > maxPoints {
			break
		}
		var next [][]byte
		for _, prefix := range prefixes {
			for _, v := range values {
				next = append(next, appendKey(slices.Clip(prefix), v, f.descending))
			}
		}
		prefixes = next
		equalities++
		score += 10
	}
	rest := p.index.Key[equalities:]
	if p.index.Unique && len(rest) == 0 {
		score += unique // it finds a document for each key at most
	}
	ranged := false
	for _, prefix := range prefixes {
		low, high := prefix, prefix
		if len(rest) > 0 {
			if lo, hi, ok := p.between(rest[0]); ok {
				low, high = slices.Concat(prefix, lo), slices.Concat(prefix, hi)
				ranged = true
			}
		}
		p.bounds = append(p.bounds, bounds{string(low), successor(high)})
	}
	slices.SortFunc(p.bounds, func(a, b bounds) int { return strings.Compare(a.low, b.low) })
	p.bounds = slices.Compact(p.bounds)
	if ranged {
		score += 5
	}
	if len(p.bounds) == 1 && !p.index.multikey {
		if p.ordered, p.backward = p.orders(p.index.Key[:equalities], rest); p.ordered {
			score += 6
		}
	}
	return score
}

// points returns the values a field has to have one of, if the filter says so.
func (p *plan) points(f keyField) ([]any, bool) {
	for _, t := range p.filter.terms {
		if t.path != f.name() {
			continue
		}
		values := bson.A{t.operand}
		switch t.operator {
		case "$eq":
		case "$in":
			values = t.operand.(bson.A)
		default:
			continue
		}
		// An index holds the elements of arrays, not arrays.
		if !slices.ContainsFunc(values, func(v any) bool { c := classOf(v); return c == classArray || c == classRegex }) {
			return values, true
		}
	}
	return nil, false
}

// between returns the range of a field's keys that the filter allows.
func (p *plan) between(f keyField) (low, high []byte, ok bool) {
	for _, t := range p.filter.terms {
		class := classOf(t.operand)
		if t.path != f.name() || class == classArray {
			continue
		}
		key := appendAscending(nil, t.operand)
		if !ok {
			low, high = key[:1], key[:1] // all of the type
		}
		switch t.operator {
		case "$gt", "$gte":
			// Two elements of an array may satisfy one side each.
			if !ok || !p.index.multikey {
				low, ok = key, true
			}
		case "$lt", "$lte":
			if !ok || !p.index.multikey {
				high, ok = key, true
			}
		}
	}
	if ok && f.descending {
		low, high = inverted(high), inverted(low)
	}
	return low, high, ok
}

func inverted(b []byte) []byte {
	b = slices.Clone(b)
	for i := range b {
		b[i] = ^b[i]
	}
	return b
}

// successor is the least key above all that begin with b.
func successor(b []byte) string {
	b = slices.Clone(b)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xFF {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// orders reports whether entries of the index that agree in the fixed fields
// come in the order that is asked for, or in the opposite one.
func (p *plan) orders(fixed, rest []keyField) (ordered, backward bool) {
	var want []keyField
	for _, f := range p.sort {
		if !slices.ContainsFunc(fixed, func(g keyField) bool { return slices.Equal(f.path, g.path) }) {
			want = append(want, f)
		}
	}
	if len(p.sort) == 0 || len(want) > len(rest) {
		return false, false
	}
	for i, f := range want {
		opposite := f.descending != rest[i].descending
		if !slices.Equal(f.path, rest[i].path) || i > 0 && opposite != backward {
			return false, false
		}
		backward = opposite
	}
	return true, backward
}

// scan visits the matching documents until visit returns false.
func (p *plan) scan(ctx context.Context, visit func(*record) bool) error {
	if p.collection == nil {
		return nil
	}
	var err error
	examine := func(r *record) bool {
		if p.docsExamined++; p.docsExamined%256 == 0 && ctx.Err() != nil {
			err = context.Cause(ctx)
			return false
		}
		return !p.filter.match(r.doc) || visit(r)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if p.index == nil {
		p.collection.records.Scan(examine)
		return err
	}
	var seen map[*record]bool
	if p.index.multikey {
		seen = map[*record]bool{}
	}
	more := true
	each := func(e entry) bool {
		p.keysExamined++
		if seen[e.record] {
			return true
		}
		if seen != nil {
			seen[e.record] = true
		}
		more = examine(e.record)
		return more
	}
	for _, b := range p.bounds {
		if !more {
			break
		}
		p.index.scan(b, p.backward, each)
	}
	return err
}

func (x *index) scan(b bounds, backward bool, visit func(entry) bool) {
	if !backward {
		x.entries.Ascend(entry{key: b.low}, func(e entry) bool {
			return (b.high == "" || e.key < b.high) && visit(e)
		})
		return
	}
	each := func(e entry) bool { return e.key >= b.low && visit(e) }
	if b.high == "" {
		x.entries.Reverse(each)
	} else {
		x.entries.Descend(entry{key: b.high}, func(e entry) bool { return e.key >= b.high || each(e) })
	}
}

// find returns the matching documents in order.
func (p *plan) find(ctx context.Context, skip, limit int) ([]*record, error) {
	blocking := len(p.sort) > 0 && !p.ordered
	var found []*record
	err := p.scan(ctx, func(r *record) bool {
		if skip > 0 && !blocking {
			skip--
			return true
		}
		found = append(found, r)
		return blocking || limit == 0 || len(found) < limit
	})
	if err != nil || !blocking {
		return found, err
	}
	if found, err = sorted(found, p.sort); err != nil {
		return nil, err
	}
	found = found[min(skip, len(found)):]
	if limit > 0 {
		found = found[:min(limit, len(found))]
	}
	return found, nil
}

func sorted(records []*record, by []keyField) ([]*record, error) {
	type keyed struct {
		key string
		*record
	}
	keys := make([]keyed, len(records))
	for i, r := range records {
		key, err := sortKey(r.doc, by)
		if err != nil {
			return nil, err
		}
		keys[i] = keyed{key, r}
	}
	slices.SortStableFunc(keys, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	for i, k := range keys {
		records[i] = k.record
	}
	return records, nil
}

// sortKey takes an array by its least element, or its greatest for a descending
// field.
func sortKey(d bson.D, by []keyField) (string, error) {
	var key []byte
	arrays := 0
	for _, f := range by {
		values, array := keyValues(d, f.path)
		if array > 0 {
			if arrays++; arrays > 1 {
				return "", errorf(badValue, "cannot sort with keys that are parallel arrays")
			}
		}
		var least []byte
		for _, v := range values {
			if k := appendKey(nil, v, f.descending); least == nil || slices.Compare(k, least) < 0 {
				least = k
			}
		}
		key = append(key, least...)
	}
	return string(key), nil
}

func parseSort(d bson.D) ([]keyField, error) {
	var by []keyField
	for _, e := range d {
		n, ok := integer(e.Value)
		if !ok {
			return nil, refused("a sort by expression")
		}
		if n != 1 && n != -1 {
			return nil, errorf(badSortOrder, "$sort key ordering must be 1 (for ascending) or -1 (for descending)")
		}
		by = append(by, keyField{strings.Split(e.Key, "."), n < 0})
	}
	return by, nil
}
