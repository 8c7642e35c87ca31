package filter

import (
	"strconv"
	"strings"

	"github.com/roster-id/roster/schemas"
)

// Limits bound what a filter may cost. A zero field is no limit, but nothing is
// nested deeper than 10,000 levels.
type Limits struct {
	Length int // bytes of the text
	Depth  int // open parentheses and brackets
	Terms  int // comparisons, pr among them
}

// DefaultLimits are those of a filter from outside.
var DefaultLimits = Limits{4096, 10, 32}

// Parsing, matching and printing recurse, and a stack that overflows takes the
// process with it.
const maxDepth = 10_000

const (
	maxName   = 1024 // no attribute path is longer; longer names are not looked up
	maxNumber = 256  // nor is a number worth comparing with
	maxShown  = 128  // what an error shows of a name
)

// A SyntaxError says why a text is not a filter, or not one for the resource
// type.
type SyntaxError struct {
	Offset int    // bytes into the text
	Msg    string // may name an attribute, never quotes a value
}

func (e *SyntaxError) Error() string { return "at offset " + strconv.Itoa(e.Offset) + ": " + e.Msg }

// Parse reads a filter on resources of type rt. An attribute that rt does not have, or has
// with values of another kind, is that of one of also, and without a value in resources of
// rt (RFC 7644 §3.4.2.1). Every error is a *[SyntaxError].
func Parse(text string, rt *schemas.ResourceType, l Limits, also ...*schemas.ResourceType) (Expr, error) {
	p := parser{text: text, rt: rt, also: also, limits: l}
	if err := p.begin("the filter is empty"); err != nil {
		return nil, err
	}
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	if err := p.end(`expected "and" or "or"`); err != nil {
		return nil, err
	}
	return e, nil
}

type parser struct {
	text   string
	pos    int
	rt     *schemas.ResourceType
	also   []*schemas.ResourceType
	in     *schemas.Attribute // whose sub-attributes the names are: inside brackets
	limits Limits
	depth  int
	terms  int
}

func (p *parser) fail(offset int, msg string) error { return &SyntaxError{Offset: offset, Msg: msg} }

func (p *parser) begin(empty string) error {
	if l := p.limits.Length; l > 0 && len(p.text) > l {
		return p.fail(l, "longer than "+strconv.Itoa(l)+" bytes")
	}
	p.skip()
	if p.pos == len(p.text) {
		return p.fail(p.pos, empty)
	}
	return nil
}

func (p *parser) end(expected string) error {
	p.skip()
	if p.pos < len(p.text) {
		return p.fail(p.pos, expected)
	}
	return nil
}

func (p *parser) or() (Expr, error) {
	var list Or
	for {
		e, err := p.and()
		if err != nil {
			return nil, err
		}
		more := p.keyword("or")
		if list == nil && !more {
			return e, nil
		}
		if inner, ok := e.(Or); ok {
			list = append(list, inner...)
		} else {
			list = append(list, e)
		}
		if !more {
			return list, nil
		}
		if err := p.space(); err != nil {
			return nil, err
		}
	}
}

func (p *parser) and() (Expr, error) {
	var list And
	for {
		e, err := p.term()
		if err != nil {
			return nil, err
		}
		more := p.keyword("and")
		if list == nil && !more {
			return e, nil
		}
		list = list.with(e)
		if !more {
			return list, nil
		}
		if err := p.space(); err != nil {
			return nil, err
		}
	}
}

func (a And) with(e Expr) And {
	if inner, ok := e.(And); ok {
		return append(a, inner...)
	}
	return append(a, e)
}

func (p *parser) term() (Expr, error) {
	if p.at('(') {
		return p.enclosed(')', `expected "and", "or" or ")"`)
	}
	start := p.pos
	if is(p.word(), "not") {
		p.skip()
		if !p.at('(') {
			return nil, p.fail(p.pos, `expected "(" after "not"`)
		}
		e, err := p.enclosed(')', `expected "and", "or" or ")"`)
		if err != nil {
			return nil, err
		}
		return Not{e}, nil
	}
	p.pos = start
	at := *p
	e, err := p.about()
	for i := 0; err != nil && at.in == nil && i < len(at.also); i++ {
		other := at
		other.rt, other.also = at.also[i], nil
		if of, oerr := other.about(); oerr == nil {
			p.pos, p.depth, p.terms, p.in = other.pos, other.depth, other.terms, nil
			return of, nil
		}
	}
	return e, err
}

// about takes a comparison, or a filter on the elements of an attribute.
func (p *parser) about() (Expr, error) {
	start := p.pos
	a, err := p.attribute()
	if err != nil {
		return nil, err
	}
	if p.at('[') {
		return p.valuePath(a)
	}
	return p.comparison(a, start)
}

// enclosed takes a bracket, the filter in it and the closing bracket.
func (p *parser) enclosed(closing byte, expected string) (Expr, error) {
	limit := maxDepth
	if l := p.limits.Depth; l > 0 && l < limit {
		limit = l
	}
	if p.depth == limit {
		return nil, p.fail(p.pos, "nested deeper than "+strconv.Itoa(limit)+" levels")
	}
	p.depth++
	p.pos++
	p.skip()
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	p.skip()
	if !p.take(closing) {
		return nil, p.fail(p.pos, expected)
	}
	p.depth--
	return e, nil
}

// attribute takes an attribute path and looks it up.
func (p *parser) attribute() (*schemas.Attribute, error) {
	start := p.pos
	name := p.word()
	if name == "" {
		return nil, p.fail(start, "expected an attribute")
	}
	var a *schemas.Attribute
	of := ""
	if p.in != nil {
		of = " of " + shown(p.in.Path)
	}
	switch {
	case len(name) > maxName:
	case p.in != nil:
		a = p.in.Sub(name)
	default:
		a = p.rt.Lookup(name)
		for i := 0; a == nil && i < len(p.also); i++ {
			a = p.also[i].Lookup(name)
		}
	}
	if a == nil {
		return nil, p.fail(start, "unknown attribute "+shown(name)+of)
	}
	return a, nil
}

// brackets takes "[filter]", a filter on the elements of a.
func (p *parser) brackets(a *schemas.Attribute) (Expr, error) {
	// An extension is complex only in the tree; RFC 7644 gives it no brackets.
	if a.Type != schemas.Complex || a.Extension {
		return nil, p.fail(p.pos, shown(a.Path)+" takes no filter in brackets")
	}
	p.in = a
	e, err := p.enclosed(']', `expected "and", "or" or "]"`)
	p.in = nil
	return e, err
}

func (p *parser) valuePath(a *schemas.Attribute) (Expr, error) {
	e, err := p.brackets(a)
	if err != nil {
		return nil, err
	}
	if !p.take('.') {
		return ValuePath{a, e}, nil
	}
	// Clients select the element and compare one of its values in two steps.
	p.in = a
	start := p.pos
	sub, err := p.attribute()
	if err != nil {
		return nil, err
	}
	c, err := p.comparison(sub, start)
	p.in = nil
	if err != nil {
		return nil, err
	}
	return ValuePath{a, And(nil).with(e).with(c)}, nil
}

// comparison takes what follows the attribute a at offset start: pr, or an
// operator and a value.
func (p *parser) comparison(a *schemas.Attribute, start int) (Expr, error) {
	if l := p.limits.Terms; l > 0 && p.terms == l {
		return nil, p.fail(start, "more than "+strconv.Itoa(l)+" terms")
	}
	p.terms++
	if !a.Readable() {
		return nil, p.unreadable(a, start)
	}
	if err := p.space(); err != nil {
		return nil, err
	}
	opAt := p.pos
	word := p.word()
	present := Present{Attr: a, element: p.in != nil}
	if is(word, "pr") {
		return present, nil
	}
	op, ok := operator(word)
	if !ok {
		return nil, p.fail(opAt, "expected an operator")
	}
	if err := p.space(); err != nil {
		return nil, err
	}
	valueAt := p.pos
	value, err := p.literal()
	if err != nil {
		return nil, err
	}
	if value.kind == null {
		switch op {
		case Equal:
			return Not{present}, nil
		case NotEqual:
			return present, nil
		}
		return nil, p.fail(opAt, named(a)+": "+op.String()+" does not apply to null")
	}

	leaf := a.Leaf()
	switch {
	case leaf == nil || leaf.Type == schemas.Complex:
		return nil, p.fail(start, named(a)+": expected one of its sub-attributes")
	case !leaf.Readable():
		return nil, p.unreadable(leaf, start)
	case !applies(op, leaf.Type):
		return nil, p.fail(opAt, named(leaf)+": "+op.String()+" does not apply to "+leaf.Type.String()+" values")
	}
	c := Compare{Attr: leaf, Op: op, element: p.in != nil}
	if expected := c.bind(value); expected != "" {
		return nil, p.fail(valueAt, named(leaf)+": expected "+expected)
	}
	return c, nil
}

func (p *parser) unreadable(a *schemas.Attribute, offset int) error {
	return p.fail(offset, shown(a.Path)+" cannot be used in a filter")
}

// bind gives c the value, or returns what was expected instead.
func (c *Compare) bind(v literal) (expected string) {
	switch c.Attr.Type {
	case schemas.Boolean:
		switch {
		case v.kind != text && v.kind != boolean:
		case is(v.text, "true"):
			c.Value = true
		case is(v.text, "false"):
			c.Value = false
		}
		expected = "true or false"
	case schemas.Integer:
		// RFC 7643 §2.3.4: neither fraction nor exponent.
		if v.kind == number && len(v.text) <= maxNumber {
			if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
				c.Value = n
			}
		}
		expected = "an integer"
	case schemas.Decimal:
		if v.kind == number && len(v.text) <= maxNumber {
			if n, err := strconv.ParseFloat(v.text, 64); err == nil {
				c.Value = n
			}
		}
		expected = "a number"
	case schemas.DateTime:
		if v.kind == text && len(v.text) <= maxName {
			s := withZone(v.text)
			if t, ok := schemas.ParseTime(s); ok {
				c.Value, c.Text = t, s
			}
		}
		expected = `a dateTime in double quotes, such as "2008-01-23T04:56:22Z"`
	default:
		if v.kind == text {
			c.Value, c.Text = c.Attr.Key(v.text), v.text
		}
		expected = "a string in double quotes"
	}
	if c.Value != nil {
		return ""
	}
	return expected
}

// withZone gives the zone at the end of a time the colon that Java's formats leave
// out, and the "+" that became a space because nobody encoded it in the query. A
// filter is only compared; values that are stored have to be an xsd:dateTime.
func withZone(s string) string {
	i := strings.LastIndexAny(s, "+- ")
	if i < len("2006-01-02T15:04:05") {
		return s
	}
	sign, zone := s[i:i+1], s[i+1:]
	if sign == " " {
		sign = "+"
	}
	if len(zone) == len("0200") {
		zone = zone[:2] + ":" + zone[2:]
	}
	return s[:i] + sign + zone
}

func operator(word string) (Op, bool) {
	for op, name := range opNames {
		if is(word, name) {
			return Op(op), true
		}
	}
	return 0, false
}

func applies(op Op, t schemas.Type) bool {
	switch t {
	case schemas.Boolean, schemas.Binary:
		return op == Equal || op == NotEqual
	case schemas.Integer, schemas.Decimal, schemas.DateTime:
		return op != Contains && op != StartsWith && op != EndsWith
	}
	return true
}

func named(a *schemas.Attribute) string { return cut(a.Path) }

func shown(path string) string { return `"` + cut(path) + `"` }

// cut bounds how much of a name an error shows, and drops what is no part of
// one.
func cut(path string) string {
	path = path[:min(len(path), maxShown)]
	return strings.Map(func(r rune) rune {
		if r > 0x7f || !pathByte(byte(r)) {
			return -1
		}
		return r
	}, path)
}
