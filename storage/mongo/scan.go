package mongo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// scanAtOnce is how many documents are looked at together.
const scanAtOnce = 100

// errGone: a resource that a query selected was deleted before it was read.
var errGone = fmt.Errorf("%w: resources went while they were counted", storage.ErrUnavailable)

// scan answers what MongoDB alone cannot: it walks a superset of what the filter
// selects, finishes with filter.Expr's Match, and puts the result into an order
// MongoDB does not have. It keeps ids and sort values, never documents; those of
// the page are read afterwards.
func (p *page) scan(ctx context.Context, q storage.Query, cond condition, sort bson.D) (int, error) {
	inServerOrder := sort != nil
	if !inServerOrder {
		sort = d(fResource, 1)
	}
	w := window{skip: max(0, q.StartIndex-1), count: max(0, q.Count), sorted: !inServerOrder, descending: q.Descending}
	where := cond.query
	if q.Walk {
		w.skip = 0
		if w.count > 0 {
			w.count++ // says whether the walk goes on
		}
		switch {
		case q.After == nil:
		case inServerOrder:
			where = append(slices.Clone(where), behind(sort, q.After)...)
		default:
			w.after = &item{id: q.After.ID, value: q.After.Value}
		}
	}
	fields := only(fResource)
	if !cond.exact {
		fields = slices.Clone(resourceFields)
	}
	field, value := sort[0].Key, placeIn(sort)
	if !inServerOrder {
		field, value = sortValue(q.SortBy)
	}
	if !slices.ContainsFunc(fields, func(e bson.E) bool { return e.Key == field }) {
		fields = append(fields, bson.E{Key: field, Value: 1})
	}
	var m *matcher
	if !cond.exact {
		m = newMatcher(ctx, p.store, p.tenant, q)
	}
	var chunk []bson.Raw
	flush := func() error {
		selected := chunk
		if m != nil {
			var err error
			if selected, err = m.match(chunk); err != nil {
				return err
			}
		}
		for _, raw := range selected {
			w.add(item{id: text(raw, fResource), value: value(raw)})
		}
		chunk = chunk[:0]
		if q.After != nil && inServerOrder && len(w.items) == w.count {
			return errEnough
		}
		return nil
	}
	err := p.store.each(ctx, resources, where, func(raw bson.Raw) error {
		chunk = append(chunk, slices.Clone(raw))
		if len(chunk) < scanAtOnce {
			return nil
		}
		return flush()
	}, look().sort(sort).fields(fields).batch(10*scanAtOnce))
	if err == nil {
		err = flush()
	}
	if err != nil && !errors.Is(err, errEnough) {
		return 0, err
	}
	list := w.page()
	if q.Walk && q.Count > 0 && len(list) > q.Count {
		list = list[:q.Count]
		p.last = &storage.Mark{Value: list[q.Count-1].value, ID: list[q.Count-1].id}
	}
	for _, it := range list {
		p.rest = append(p.rest, it.id)
	}
	if q.After != nil {
		w.total = 0
	}
	if len(p.rest) > 0 {
		n := min(len(p.rest), 64)
		if p.first, err = p.byID(ctx, p.rest[:n]); err != nil {
			return 0, err
		}
		p.rest = p.rest[n:]
		if len(p.first) < n {
			return 0, errGone
		}
	}
	return w.total, nil
}

// errEnough ends a scan that has found what it looked for.
var errEnough = errors.New("enough")

// item is a resource that a query selects.
type item struct {
	id    string
	value any
}

// window keeps what can be on the page of a result.
type window struct {
	skip, count int
	sorted      bool // by value; otherwise items come in order
	descending  bool
	after       *item // where the page begins, in place of skip
	total       int
	items       []item
}

func (w *window) add(it item) {
	w.total++
	switch {
	case w.after != nil && w.compare(it, *w.after) <= 0:
	case w.count == 0:
	case !w.sorted:
		if w.total > w.skip && len(w.items) < w.count {
			w.items = append(w.items, it)
		}
	default:
		w.items = append(w.items, it)
		// What cannot be on the page any more is let go now and then.
		if most := w.skip + w.count; most < 1<<30 && len(w.items) > 2*most+10*scanAtOnce {
			w.sort()
			w.items = w.items[:most]
		}
	}
}

func (w *window) sort() { slices.SortFunc(w.items, w.compare) }

func (w *window) compare(a, b item) int {
	n := cmp.Or(storage.CompareValues(a.value, b.value), strings.Compare(a.id, b.id))
	if w.descending {
		return -n
	}
	return n
}

// page returns what is on the page, in order.
func (w *window) page() []item {
	list := w.items
	if w.sorted {
		w.sort()
		list = w.items[min(w.skip, len(w.items)):]
		list = list[:min(w.count, len(list))]
	}
	return list
}

// sortValue returns the field that an attribute's value is taken from, and how:
// a string in comparison form, a number, a bool, or nil.
func sortValue(a *schemas.Attribute) (field string, value func(bson.Raw) any) {
	if a.Path == "meta.version" {
		return fVersion, func(raw bson.Raw) any { return fmt.Sprintf(`W/"%d"`, number(raw, fVersion)) }
	}
	steps := storage.ShadowPath(a, nil)
	return fShadow + "." + steps[0], func(raw bson.Raw) any {
		v := raw.Lookup(fShadow)
		for _, s := range steps {
			m, ok := v.DocumentOK()
			if !ok {
				return nil
			}
			v = primary(m.Lookup(s))
		}
		return plain(v)
	}
}

// primary returns the primary element of an array, or else its first, and what
// is no array as it is.
func primary(v bson.RawValue) bson.RawValue {
	list, ok := v.ArrayOK()
	if !ok {
		return v
	}
	values, err := list.Values()
	if err != nil || len(values) == 0 {
		return bson.RawValue{}
	}
	for _, e := range values {
		if m, ok := e.DocumentOK(); ok && truth(m, "primary") {
			return e
		}
	}
	return values[0]
}

func plain(v bson.RawValue) any {
	switch v.Type {
	case bson.TypeString:
		return strings.Clone(v.StringValue())
	case bson.TypeBoolean:
		return v.Boolean()
	case bson.TypeInt64:
		return v.Int64()
	case bson.TypeDouble:
		return v.Double()
	}
	return nil
}

// matcher finishes a filter with Match, on documents and on memberships. Terms
// on members and groups are looked at only where the others leave the answer
// open, and members of a group are never held together.
type matcher struct {
	ctx    context.Context
	store  *Store
	tenant string
	typ    string
	expr   filter.Expr

	chunk  []*storage.Resource
	groups map[string][]storage.Membership // of the chunk, nil until asked for
	id     string                          // of the resource being looked at
	err    error
}

func newMatcher(ctx context.Context, s *Store, tenant string, q storage.Query) *matcher {
	m := &matcher{ctx: ctx, store: s, tenant: tenant, typ: q.Type}
	m.expr = m.detach(q.Filter)
	return m
}

// detach puts a membershipTerm into the place of each term on members or groups.
func (m *matcher) detach(e filter.Expr) filter.Expr {
	return filter.Map(e, func(e filter.Expr) filter.Expr {
		switch e := e.(type) {
		case filter.ValuePath:
			return m.term(e, e.Attr)
		case filter.Compare:
			return m.term(e, e.Attr)
		case filter.Present:
			return m.term(e, e.Attr)
		}
		return e
	})
}

func (m *matcher) term(e filter.Expr, a *schemas.Attribute) filter.Expr {
	if top := a.Top(); top.Detached {
		return &membershipTerm{Expr: e, matcher: m, name: top.Name}
	}
	return e
}

// match returns those of the documents that the filter selects.
func (m *matcher) match(chunk []bson.Raw) ([]bson.Raw, error) {
	m.chunk, m.groups = m.chunk[:0], nil
	for _, raw := range chunk {
		m.chunk = append(m.chunk, resourceFrom(m.typ, raw))
	}
	var selected []bson.Raw
	for i, r := range m.chunk {
		tree, err := schemas.Decode(r.Doc, schemas.Limits{})
		if err != nil {
			return nil, fmt.Errorf("parse the stored %s %s: %v", r.Type, r.ID, err) //nolint:errorlint // not the client's doing
		}
		attrs, _ := tree.(map[string]any)
		attrs["meta"] = map[string]any{
			"resourceType": r.Type, "created": r.Created.Format(metaTime), "lastModified": r.LastModified.Format(metaTime),
			"version": fmt.Sprintf(`W/"%d"`, r.Version),
		}
		m.id = r.ID
		if m.expr.Match(attrs) {
			selected = append(selected, chunk[i])
		}
		if m.err != nil {
			return nil, m.err
		}
	}
	return selected, nil
}

const metaTime = "2006-01-02T15:04:05.000Z"

// membershipTerm is a term on members or groups: one member, or one group, has
// to satisfy it.
type membershipTerm struct {
	filter.Expr
	matcher *matcher
	name    string
}

// Match implements filter.Expr for the resource that the matcher looks at.
func (t *membershipTerm) Match(map[string]any) bool {
	m := t.matcher
	if m.err != nil {
		return false
	}
	matches := func(value, typ, display string) bool {
		element := map[string]any{"value": value, "type": typ}
		if display != "" {
			element["display"] = display
		}
		return t.Expr.Match(map[string]any{t.name: []any{element}})
	}
	if t.name == "members" {
		found := false
		m.err = m.store.eachMember(m.ctx, m.tenant, m.id, func(e storage.Member) bool {
			found = matches(e.Value, e.Type, e.Display)
			return !found
		})
		return found && m.err == nil
	}
	if m.groups == nil {
		ids := make([]string, 0, len(m.chunk))
		for _, r := range m.chunk {
			if r.InGroups {
				ids = append(ids, r.ID)
			}
		}
		if m.groups, m.err = m.store.groups(m.ctx, m.tenant, ids); m.err != nil {
			return false
		}
	}
	for _, g := range m.groups[m.id] {
		typ := "indirect"
		if g.Direct {
			typ = "direct"
		}
		if matches(g.Group, typ, g.Display) {
			return true
		}
	}
	return false
}
