package filter

import (
	"time"

	"github.com/roster-id/roster/schemas"
)

// Op is a comparison operator (RFC 7644 §3.4.2.2, table 3).
type Op uint8

// The operators of RFC 7644.
const (
	Equal Op = iota
	NotEqual
	Contains
	StartsWith
	EndsWith
	Greater
	GreaterOrEqual
	Less
	LessOrEqual
)

var opNames = [...]string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"}

// String returns the operator as a filter spells it.
func (o Op) String() string { return opNames[o] }

// Expr is a filter bound to a schema: one of [And], [Or], [Not], [Compare],
// [Present] and [ValuePath]. Expressions are immutable and safe for concurrent
// use.
type Expr interface {
	// Match reports whether the filter selects a resource (or, inside a
	// ValuePath, one element), given as an attribute tree. It defines what the
	// filter means; storage backends must agree with it.
	Match(attrs map[string]any) bool
	// String prints the filter so that parsing it again gives an equal Expr.
	String() string
}

// And selects what all its terms select. It has at least two.
type And []Expr

// Or selects what any of its terms selects. It has at least two.
type Or []Expr

// Not selects what its term does not.
type Not struct{ Expr Expr }

// Present is "attr pr": the attribute has a value that is not empty
// (RFC 7643 §2.5).
type Present struct {
	Attr *schemas.Attribute

	element bool // see Compare
}

// Compare is "attr op value". Attr is never complex: a comparison with a
// complex attribute is one with its value sub-attribute. Comparisons with null
// do not appear; they are Present and its negation.
type Compare struct {
	Attr *schemas.Attribute
	Op   Op
	// element is set inside brackets: Match is given one element, in which Attr
	// is found by its own name, and not a resource.
	element bool
	// Value is what Attr's values are compared with, in comparison form: a
	// string (as Attr.Key makes it), bool, int64, float64, or, for a dateTime,
	// a time.Time in UTC.
	Value any
	// Text is the string as the client wrote it, for printing.
	Text string
}

// EqualTo is "attr eq text", of an attribute whose values are strings.
func EqualTo(attr *schemas.Attribute, text string) Compare {
	return Compare{Attr: attr, Op: Equal, Value: attr.Key(text), Text: text}
}

// Equal reports whether p and q are the same, for go-cmp. Whether they are inside
// brackets is their ValuePath's to say.
func (p Present) Equal(q Present) bool { return p.Attr == q.Attr }

// Equal reports whether c and d are the same, for go-cmp. Whether they are inside
// brackets is their ValuePath's to say.
func (c Compare) Equal(d Compare) bool {
	ct, ok := c.Value.(time.Time)
	dt, both := d.Value.(time.Time)
	same := ok && both && ct.Equal(dt) || c.Value == d.Value
	return same && c.Attr == d.Attr && c.Op == d.Op && c.Text == d.Text
}

// ValuePath is "attr[filter]": one element of attr satisfies the whole of
// Filter, whose paths are sub-attributes of Attr (RFC 7644 §3.4.2.2).
type ValuePath struct {
	Attr   *schemas.Attribute
	Filter Expr
}

// Path is a PATCH path (RFC 7644 §3.5.2): an attribute, optionally narrowed to
// the elements a filter selects, optionally one sub-attribute of those.
type Path struct {
	// Attr is what the path names: for "emails[…].value" it is emails.
	Attr *schemas.Attribute
	// Filter is nil when the path has no brackets.
	Filter Expr
	// Sub is the sub-attribute after the closing bracket, or nil.
	Sub *schemas.Attribute
}

// Map returns e with what term makes of each Present, Compare and ValuePath in the place
// of that. What is inside a ValuePath is its term's to look at.
func Map(e Expr, term func(Expr) Expr) Expr {
	all := func(list []Expr) []Expr {
		out := make([]Expr, len(list))
		for i, t := range list {
			out[i] = Map(t, term)
		}
		return out
	}
	switch e := e.(type) {
	case And:
		return And(all(e))
	case Or:
		return Or(all(e))
	case Not:
		return Not{Map(e.Expr, term)}
	}
	return term(e)
}

// Conjuncts returns the terms that must all hold. A value path over one
// attribute implies each of its own terms.
func Conjuncts(e Expr) []Expr {
	switch e := e.(type) {
	case And:
		var all []Expr
		for _, t := range e {
			all = append(all, Conjuncts(t)...)
		}
		return all
	case ValuePath:
		return Conjuncts(e.Filter)
	}
	return []Expr{e}
}

// Named returns the value that all selected by e have at the path, which e says with eq: the
// first, if it says so more than once. Without one ok is false; e may be nil.
func Named(e Expr, path string) (value any, ok bool) {
	for _, t := range Conjuncts(e) {
		if eq, isCompare := t.(Compare); isCompare && eq.Op == Equal && eq.Attr.Path == path {
			return eq.Value, true
		}
	}
	return nil, false
}
