package filter

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/roster-id/roster/schemas"
)

// Match implements [Expr].
func (a And) Match(attrs map[string]any) bool { return a.match(attrs, nil) }

// Match implements [Expr].
func (o Or) Match(attrs map[string]any) bool { return o.match(attrs, nil) }

// Match implements [Expr].
func (n Not) Match(attrs map[string]any) bool { return !match(n.Expr, attrs, nil) }

// Match implements [Expr].
func (p Present) Match(attrs map[string]any) bool { return p.match(attrs, nil) }

// Match implements [Expr].
func (c Compare) Match(attrs map[string]any) bool { return c.match(attrs, nil) }

// Match implements [Expr].
func (v ValuePath) Match(attrs map[string]any) bool {
	var room [3]*schemas.Attribute
	return reach(attrs, steps(room[:0], v.Attr, nil), func(element any) bool {
		m, ok := element.(map[string]any)
		return ok && match(v.Filter, m, v.Attr)
	})
}

// match is e.Match, but attrs is an element of in unless that is nil. An Expr
// made by hand does not know that it is inside brackets.
func match(e Expr, attrs map[string]any, in *schemas.Attribute) bool {
	switch e := e.(type) {
	case And:
		return e.match(attrs, in)
	case Or:
		return e.match(attrs, in)
	case Not:
		return !match(e.Expr, attrs, in)
	case Present:
		return e.match(attrs, in)
	case Compare:
		return e.match(attrs, in)
	}
	return e.Match(attrs)
}

func (a And) match(attrs map[string]any, in *schemas.Attribute) bool {
	for _, e := range a {
		if !match(e, attrs, in) {
			return false
		}
	}
	return true
}

func (o Or) match(attrs map[string]any, in *schemas.Attribute) bool {
	for _, e := range o {
		if match(e, attrs, in) {
			return true
		}
	}
	return false
}

func (p Present) match(attrs map[string]any, in *schemas.Attribute) bool {
	if p.element {
		in = p.Attr.Parent
	}
	var room [3]*schemas.Attribute
	return reach(attrs, steps(room[:0], p.Attr, in), func(v any) bool { return present(p.Attr, v) })
}

func (c Compare) match(attrs map[string]any, in *schemas.Attribute) bool {
	if c.element {
		in = c.Attr.Parent
	}
	var room [3]*schemas.Attribute
	return reach(attrs, steps(room[:0], c.Attr, in), c.test)
}

// steps appends the attributes between in (or the top of the resource) and a,
// the last first: sub-attribute, attribute, extension.
func steps(dst []*schemas.Attribute, a, in *schemas.Attribute) []*schemas.Attribute {
	for ; a != nil && a != in; a = a.Parent {
		dst = append(dst, a)
	}
	return dst
}

// reach reports whether test accepts a value at the end of the steps. It is
// asked about each element of multi-valued attributes, and about nil where a
// single value is missing.
func reach(attrs map[string]any, steps []*schemas.Attribute, test func(any) bool) bool {
	last := len(steps) - 1
	a, rest := steps[last], steps[:last]
	v := attrs[a.Name]
	list, ok := v.([]any)
	if !ok {
		return (v != nil || !a.MultiValued) && descend(v, rest, test)
	}
	for _, e := range list {
		if descend(e, rest, test) {
			return true
		}
	}
	return false
}

func descend(v any, steps []*schemas.Attribute, test func(any) bool) bool {
	if len(steps) == 0 {
		return test(v)
	}
	m, _ := v.(map[string]any)
	return reach(m, steps, test)
}

// present reports whether v, one value of a or all of them, is not empty. What
// no client may read does not count, or pr would tell of it.
func present(a *schemas.Attribute, v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		for _, e := range v {
			if present(a, e) {
				return true
			}
		}
		return false
	case map[string]any:
		for _, s := range a.SubAttributes {
			if sv, ok := v[s.Name]; ok && s.Readable() && present(s, sv) {
				return true
			}
		}
		return false
	}
	return true
}

// test compares one value; nil stands for a missing one.
func (c Compare) test(v any) bool {
	switch want := c.Value.(type) {
	case string:
		if s, ok := v.(string); ok {
			return c.testString(c.Attr.Key(s), want)
		}
	case bool:
		if b, ok := v.(bool); ok {
			return (b == want) == (c.Op == Equal)
		}
	case time.Time:
		if s, ok := v.(string); ok {
			if t, ok := schemas.ParseTime(s); ok {
				return c.accepts(t.Compare(want))
			}
		}
	default:
		if order, ok := compareNumbers(v, want); ok {
			return c.accepts(order)
		}
	}
	return c.Op == NotEqual
}

func (c Compare) testString(s, want string) bool {
	switch c.Op {
	case Equal:
		return s == want
	case NotEqual:
		return s != want
	case Contains:
		return strings.Contains(s, want)
	case StartsWith:
		return strings.HasPrefix(s, want)
	case EndsWith:
		return strings.HasSuffix(s, want)
	}
	return c.accepts(strings.Compare(s, want))
}

// accepts reports whether the operator holds for a value that is less than
// (negative), equal to (0) or greater than the wanted one.
func (c Compare) accepts(order int) bool {
	switch c.Op {
	case Equal:
		return order == 0
	case NotEqual:
		return order != 0
	case Greater:
		return order > 0
	case GreaterOrEqual:
		return order >= 0
	case Less:
		return order < 0
	case LessOrEqual:
		return order <= 0
	}
	return false
}

// compareNumbers compares int64, float64 and json.Number with one another by
// their mathematical value.
func compareNumbers(v, w any) (order int, ok bool) {
	vi, vf, vInt, ok := numeric(v)
	if !ok {
		return 0, false
	}
	wi, wf, wInt, ok := numeric(w)
	switch {
	case !ok:
		return 0, false
	case vInt && wInt:
		return cmp.Compare(vi, wi), true
	case vInt:
		return compareIntFloat(vi, wf), true
	case wInt:
		return -compareIntFloat(wi, vf), true
	}
	return cmp.Compare(vf, wf), true
}

func numeric(v any) (i int64, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case int64:
		return v, 0, true, true
	case float64:
		return 0, v, false, true
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i, 0, true, true
		}
		f, err := v.Float64()
		return 0, f, false, err == nil
	}
	return 0, 0, false, false
}

// compareIntFloat does not go through float64, which cannot hold every int64.
func compareIntFloat(i int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := int64(f)
	if i != whole {
		return cmp.Compare(i, whole)
	}
	return cmp.Compare(0, f-float64(whole))
}
