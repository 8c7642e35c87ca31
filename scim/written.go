package scim

import (
	"strings"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
)

// written are the attributes that a client named in what it wrote, and what they are
// parts of. Of types without attributes returned on request it is nil: nobody asks.
type written map[*schemas.Attribute]bool

// writtenIn are those in the body of a POST or PUT. It is asked before Bind, which takes
// the body over.
func writtenIn(t *schemas.ResourceType, body any) written {
	if !t.OnRequest() {
		return nil
	}
	w := written{}
	w.add(t.Lookup, body)
	return w
}

// writtenBy are those in the operations of a PATCH.
func writtenBy(t *schemas.ResourceType, ops []patch.Operation) written {
	if !t.OnRequest() {
		return nil
	}
	w := written{}
	at := func(path string) *schemas.Attribute {
		p, err := filter.ParsePath(path, t, filter.DefaultLimits)
		switch {
		case err != nil: // tolerated, or the operation fails
			return nil
		case p.Sub != nil:
			return p.Sub
		}
		return p.Attr
	}
	for _, op := range ops {
		if op.Path == "" || strings.EqualFold(op.Path, t.Schema.ID) {
			w.add(at, op.Value)
		} else if a := at(op.Path); a != nil {
			w.mark(a)
			w.add(a.Sub, op.Value)
		}
	}
	return w
}

func (w written) add(find func(string) *schemas.Attribute, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, part := range v {
			if a := find(name); a != nil {
				w.mark(a)
				w.add(a.Sub, part)
			}
		}
	case []any:
		for _, e := range v {
			w.add(find, e)
		}
	}
}

func (w written) mark(a *schemas.Attribute) {
	for ; a != nil; a = a.Parent {
		w[a] = true
	}
}
