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
	w.add(t.Top, body)
	return w
}

// writtenBy are those in the operations of a PATCH. What is tolerated there is understood
// as scim/patch does: keys may be paths, and the URN of the core schema may be one.
func writtenBy(t *schemas.ResourceType, ops []patch.Operation) written {
	if !t.OnRequest() {
		return nil
	}
	w := written{}
	at := func(path string) *schemas.Attribute {
		p, err := filter.ParsePath(path, t, filter.DefaultLimits)
		switch {
		case err != nil: // ignored, or the operation fails
			return nil
		case p.Sub != nil:
			return p.Sub
		}
		return p.Attr
	}
	var write func(prefix string, value any)
	write = func(prefix string, value any) {
		keys, _ := value.(map[string]any)
		for key, part := range keys {
			switch a := at(prefix + key); {
			case prefix == "" && strings.EqualFold(key, t.Schema.ID), a != nil && a.Extension:
				write(key+":", part)
			case a != nil:
				w.mark(a)
				w.add(a.Sub, part)
			}
		}
	}
	for _, op := range ops {
		if op.Path == "" {
			write("", op.Value)
		} else {
			write("", map[string]any{op.Path: op.Value})
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
