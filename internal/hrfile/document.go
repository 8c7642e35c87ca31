package hrfile

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/schemas"
)

// node is a place in the users that a mapping makes: a value, an object of others, or
// a list of elements.
type node struct {
	name      string // in the object that it is in; of an element its type
	kind      nodeKind
	at        int // of a value, among the values of a row
	extension bool
	in        []*node
}

type nodeKind uint8

const (
	valueNode nodeKind = iota
	objectNode
	listNode
	elementNode
)

// child returns the one of a name, which is made if there is none.
func (n *node) child(name string, kind nodeKind) *node {
	for _, c := range n.in {
		if c.name == name || kind == elementNode && schemas.Fold(c.name) == schemas.Fold(name) {
			return c
		}
	}
	c := &node{name: name, kind: kind}
	n.in = append(n.in, c)
	return c
}

// shapeOf returns what users look like whose values are those of fields.
func shapeOf(fields []*field) *node {
	root := &node{kind: objectNode}
	for _, f := range fields {
		at := root
		if top := f.attr.Top(); top.Extension {
			at = at.child(top.Name, objectNode)
			at.extension = true
		}
		p := f.attr.Parent
		switch {
		case p == nil || p.Extension:
		case f.element == "":
			at = at.child(p.Name, objectNode)
		default:
			at = at.child(p.Name, listNode).child(f.element, elementNode)
		}
		at.child(f.attr.Name, valueNode).at = f.at
	}
	return root
}

// document appends the user that the values of a row are.
func (m *Mapping) document(b []byte, values []any) ([]byte, error) {
	b = append(b, `{"schemas":["`+schemas.UserURI+`"`...)
	for _, n := range m.shape.in {
		if n.extension && n.any(values) {
			b = appendText(append(b, ','), n.name)
		}
	}
	return m.shape.members(append(b, ']'), values)
}

// any reports whether there is a value at or below n.
func (n *node) any(values []any) bool {
	if n.kind == valueNode {
		return values[n.at] != nil
	}
	for _, c := range n.in {
		if c.any(values) {
			return true
		}
	}
	return false
}

// members appends what is in an object behind its first member, and its end.
func (n *node) members(b []byte, values []any) (_ []byte, err error) {
	for _, c := range n.in {
		if !c.any(values) {
			continue
		}
		b = append(appendText(append(b, ','), c.name), ':')
		if b, err = c.append(b, values); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// append appends what n stands for; there is something.
func (n *node) append(b []byte, values []any) (_ []byte, err error) {
	switch n.kind {
	case valueNode:
		if s, ok := values[n.at].(string); ok {
			return appendText(b, s), nil
		}
		v, err := json.Marshal(values[n.at])
		return append(b, v...), err
	case elementNode:
		return n.members(appendText(append(b, `{"type":`...), n.name), values)
	}
	first := len(b)
	open, end := byte('{'), byte('}')
	if n.kind == listNode {
		open, end = '[', ']'
	}
	for _, c := range n.in {
		if !c.any(values) {
			continue
		}
		b = append(b, ',')
		if n.kind == objectNode {
			b = append(appendText(b, c.name), ':')
		}
		if b, err = c.append(b, values); err != nil {
			return b, err
		}
	}
	b[first] = open
	return append(b, end), nil
}

// appendText appends a string of JSON. All strings are UTF-8 here: cells that are not
// are refused, and so are mappings.
func appendText(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
