package mongo

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// condition is what a filter, or a part of it, becomes in MongoDB's language. It
// selects all that the filter does, and nothing else if it is exact.
type condition struct {
	query bson.D // nil for everything
	exact bool
}

var (
	everything = condition{exact: true}
	anything   = condition{} // MongoDB cannot tell
	nothing    = condition{d(fID, d("$in", bson.A{})), true}
)

// compiler turns a filter into a condition on documents of resources. Field
// names come from the schema alone, and values are only ever operands.
type compiler struct {
	ctx    context.Context
	store  *Store
	tenant string
	typ    string
	single bool // at most one resource can be selected
	room   int  // how many more ids of what is in groups may stand in the query
	known  map[string]relatives
	err    error
}

// relatives are the groups of a member, or what is in a group, unless there are
// too many.
type relatives struct {
	ids []string
	ok  bool
}

// compile compiles the filter of a query. A filter on memberships may take reads.
func (s *Store) compile(ctx context.Context, tenant string, q storage.Query) (condition, bool, error) {
	c := &compiler{ctx: ctx, store: s, tenant: tenant, typ: q.Type, room: mostInGroup, known: map[string]relatives{}}
	all := d(fTenant, tenant, fType, q.Type)
	if q.Filter == nil {
		return condition{all, true}, false, nil
	}
	cond := c.expr(q.Filter, scope{})
	for _, t := range filter.Conjuncts(q.Filter) {
		if e, ok := t.(filter.Compare); ok && e.Op == filter.Equal && (e.Attr.Path == "id" || storage.Unique(e.Attr)) {
			c.single = true
		}
	}
	if cond.query != nil {
		all = append(all, bson.E{Key: "$and", Value: bson.A{cond.query}})
	}
	return condition{all, cond.exact}, c.single, c.err
}

// scope is where the attributes of a comparison are found: in the document as a
// whole, or in one element of a multi-valued attribute.
type scope struct{ element *schemas.Attribute }

func (c *compiler) expr(e filter.Expr, s scope) condition {
	switch e := e.(type) {
	case filter.And:
		return c.and(c.each(e, s)...)
	case filter.Or:
		return or(c.each(e, s))
	case filter.Not:
		return not(c.expr(e.Expr, s))
	case filter.ValuePath:
		return c.valuePath(e, s)
	case filter.Present:
		return c.present(e, e.Attr, s)
	case filter.Compare:
		return c.compare(e, s)
	}
	panic(fmt.Sprintf("unknown expression %T", e))
}

func (c *compiler) each(terms []filter.Expr, s scope) []condition {
	list := make([]condition, len(terms))
	for i, t := range terms {
		list[i] = c.expr(t, s)
	}
	return list
}

func (c *compiler) and(list ...condition) condition {
	out := condition{exact: true}
	var all bson.A
	for _, t := range list {
		out.exact = out.exact && t.exact
		if t.query != nil {
			all = append(all, t.query)
		}
	}
	switch len(all) {
	case 0:
	case 1:
		out.query = all[0].(bson.D)
	default:
		out.query = d("$and", all)
	}
	return out
}

func or(list []condition) condition {
	out := condition{exact: true}
	terms := make(bson.A, 0, len(list))
	for _, t := range list {
		if t.query == nil {
			return t
		}
		out.exact = out.exact && t.exact
		terms = append(terms, t.query)
	}
	out.query = d("$or", terms)
	return out
}

// not turns a condition around. What is left out by one that selects too much
// says nothing.
func not(t condition) condition {
	switch {
	case !t.exact:
		return anything
	case t.query == nil:
		return nothing
	}
	return condition{d("$nor", bson.A{t.query}), true}
}

// path returns the field of a, in the document or in an element.
func path(a *schemas.Attribute, s scope) string {
	field := strings.Join(storage.ShadowPath(a, s.element), ".")
	if s.element == nil {
		return fShadow + "." + field
	}
	return field
}

// element says that one element of a satisfies a condition.
func (c *compiler) element(a *schemas.Attribute, s scope, t condition) condition {
	if t.query != nil && !c.store.can.elements {
		t = anything
	}
	if t.query == nil {
		return condition{d(path(a, s), d("$exists", true)), t.exact}
	}
	return condition{d(path(a, s), d("$elemMatch", t.query)), t.exact}
}

func (c *compiler) valuePath(e filter.ValuePath, s scope) condition {
	switch {
	case e.Attr.Detached:
		return c.membership(e.Attr.Name, e)
	case !e.Attr.MultiValued:
		// The value must exist, or ne would select resources without it.
		return c.and(c.present(nil, e.Attr, s), c.expr(e.Filter, s))
	}
	out := c.element(e.Attr, s, c.expr(e.Filter, scope{e.Attr}))
	if s.element == nil {
		for _, t := range filter.Conjuncts(e.Filter) {
			if eq, ok := t.(filter.Compare); ok && eq.Op == filter.Equal {
				out = c.and(keyed(eq), out)
			}
		}
	}
	return out
}

func (c *compiler) present(e filter.Expr, a *schemas.Attribute, s scope) condition {
	if s.element == nil {
		switch top := a.Top(); {
		case top.Detached:
			return c.membership(top.Name, e)
		case top.Path == "id" || top.Path == "meta":
			return everything
		}
	}
	if m := storage.OuterElement(a, s.element); m != nil && m != a {
		return c.element(m, s, c.present(e, a, scope{m}))
	}
	return condition{d(path(a, s), d("$exists", true)), true}
}

func (c *compiler) compare(e filter.Compare, s scope) condition {
	if s.element == nil {
		if top := e.Attr.Top(); top.Detached {
			return c.membership(top.Name, e)
		}
		switch e.Attr.Path {
		case "id":
			return operator(fResource, e.Op, e.Value)
		case "meta.created":
			return operator(fCreated, e.Op, instant(e))
		case "meta.lastModified":
			return operator(fModified, e.Op, instant(e))
		case "meta.resourceType":
			// Inside brackets the comparison is on an element, outside on a resource.
			if e.Match(map[string]any{"resourceType": c.typ, "meta": map[string]any{"resourceType": c.typ}}) {
				return everything
			}
			return nothing
		case "meta.version":
			return version(e)
		}
	}
	v := e.Value
	if t, ok := v.(time.Time); ok {
		v = storage.Ticks(t)
	}
	m := storage.OuterElement(e.Attr, s.element)
	switch {
	case m == nil && e.Attr != s.element:
		return c.and(c.key(e, s), operator(path(e.Attr, s), e.Op, v))
	case m == e.Attr: // a simple value is an element itself
		t := operator("", e.Op, v)
		if t.query == nil {
			return c.element(m, s, t)
		}
		t.query = t.query[0].Value.(bson.D)
		return c.and(c.key(e, s), c.element(m, s, t))
	}
	return c.and(c.key(e, s), c.element(m, s, c.compare(e, scope{m})))
}

// key is the look-up that an equality implies, where it is on the whole
// document.
func (c *compiler) key(e filter.Compare, s scope) condition {
	if s.element != nil || e.Op != filter.Equal {
		return everything
	}
	return keyed(e)
}

// keyed selects by an entry of fKeys, which leads to an index.
func keyed(e filter.Compare) condition {
	text, ok := e.Value.(string)
	switch {
	case !ok:
	case storage.Unique(e.Attr):
		return condition{d(fKeys, keyText(storage.Key{Path: e.Attr.Path, Value: storage.IndexValue(strings.TrimSpace(text))})), true}
	case storage.Indexed(e.Attr):
		return condition{d(fKeys, keyText(storage.Key{Path: e.Attr.Path, Value: storage.IndexValue(text)})), true}
	}
	return everything
}

// instant is a time as it compares with those of meta, which are whole
// milliseconds: what lies between two of them is half-way, lest rounding makes
// it one of them.
func instant(e filter.Compare) any {
	t, _ := e.Value.(time.Time)
	ms := t.UnixMilli()
	if t.Equal(time.UnixMilli(ms)) {
		return ms
	}
	return float64(ms) + 0.5
}

// version compares a number with what stands in W/"7".
func version(e filter.Compare) condition {
	text, _ := e.Value.(string)
	digits, ok := strings.CutPrefix(text, `W/"`)
	digits, ok2 := strings.CutSuffix(digits, `"`)
	n, err := strconv.ParseInt(digits, 10, 64)
	same := nothing
	if ok && ok2 && err == nil && strconv.FormatInt(n, 10) == digits {
		same = condition{d(fVersion, n), true}
	}
	switch e.Op {
	case filter.Equal:
		return same
	case filter.NotEqual:
		return not(same)
	}
	return anything
}

// maxPattern bounds a regular expression; MongoDB compiles longer ones, but not
// without end.
const maxPattern = 4096

var orders = map[filter.Op]string{
	filter.Equal: "$eq", filter.NotEqual: "$ne", filter.Greater: "$gt", filter.GreaterOrEqual: "$gte", filter.Less: "$lt", filter.LessOrEqual: "$lte",
}

// operator compares a field with a value. MongoDB compares values of one kind
// only, which is what a filter means too.
func operator(field string, op filter.Op, v any) condition {
	if name, ok := orders[op]; ok {
		return condition{d(field, d(name, v)), true}
	}
	text, _ := v.(string)
	pattern := quote(text)
	if len(pattern) > maxPattern {
		return anything
	}
	switch op {
	case filter.StartsWith:
		pattern = "^" + pattern
	case filter.EndsWith:
		pattern += `\z` // a $ would also be before a newline at the end
	}
	return condition{d(field, d("$regex", pattern)), true}
}

// quote writes text as a regular expression that means it, the same in PCRE and
// in Go.
func quote(text string) string { return special.Replace(regexp.QuoteMeta(text)) }

// MongoDB refuses a NUL in a pattern.
var special = strings.NewReplacer(`\$`, `\x24`, "\x00", `\x00`)

// mostInGroup is up to how many ids stand in a query for those in groups, whatever
// the number of terms: MongoDB refuses commands above 16 MB. Larger groups are
// filtered by who is in them.
const mostInGroup = 20_000

var errTooMany = errors.New("too many")

// membership compiles a term on members or groups. An equality with an id is
// answered by the memberships themselves; for the others it is at least known
// that whoever is in a group has been put there once.
func (c *compiler) membership(name string, e filter.Expr) condition {
	out := anything
	if name == "groups" {
		out.query = d(fGrouped, true)
	}
	if v, ok := filter.Named(e, name+".value"); ok {
		id, _ := v.(string)
		if ids, ok := c.related(name, id); ok && len(ids) <= c.room {
			c.room -= len(ids)
			out.query = d(fID, d("$in", prefixed(key(c.tenant, ""), ids)))
			out.exact = isOnly(e)
		}
	}
	return out
}

// isOnly reports whether an expression on one attribute is a single comparison.
func isOnly(e filter.Expr) bool {
	if v, ok := e.(filter.ValuePath); ok {
		e = v.Filter
	}
	_, ok := e.(filter.Compare)
	return ok
}

// related returns the groups a member is in directly, or all that is in a group.
func (c *compiler) related(name, id string) (ids []string, ok bool) {
	if c.err != nil {
		return nil, false
	}
	of := name + " " + id
	r, asked := c.known[of]
	if !asked {
		if name == "groups" {
			r.ids, r.ok, c.err = c.store.below(c.ctx, c.tenant, id, mostInGroup)
		} else {
			r.ids, r.ok, c.err = c.store.directly(c.ctx, c.tenant, id, mostInGroup)
		}
		c.known[of] = r
	}
	return r.ids, r.ok && c.err == nil
}

// directly returns the groups a user or group is in directly, or ok false when
// they are more than most.
func (s *Store) directly(ctx context.Context, tenant, id string, most int) (ids []string, ok bool, err error) {
	info, err := s.infos(ctx, tenant, usersAndGroups, []string{id})
	if err != nil || info[id].typ == "" {
		return nil, true, err
	}
	err = s.each(ctx, rows, d(fTenant, tenant, fKind, id), func(raw bson.Raw) error {
		if ids = append(ids, text(raw, fGroup)); len(ids) > most {
			return errTooMany
		}
		return nil
	}, look().fields(only(fGroup)).batch(mostInGroup))
	if errors.Is(err, errTooMany) {
		return nil, false, nil
	}
	return ids, true, err
}
