package schemas

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Kind is what a [ValueError] is about; it decides the scimType on the wire
// (RFC 7644 §3.12).
type Kind uint8

// The kinds of a ValueError.
const (
	InvalidValue Kind = iota
	InvalidSyntax
	MutabilityConflict
)

// ValueError says which attribute does not fit its schema and what was
// expected. It never quotes the value.
type ValueError struct {
	Path string // "emails[1].value"; empty for the resource as a whole
	Kind Kind
	Msg  string
}

func (e *ValueError) Error() string {
	if e.Path == "" {
		return e.Msg
	}
	return e.Path + ": " + e.Msg
}

// Mode says how closely a value must follow RFC 7643.
type Mode bool

const (
	// Lenient accepts what real clients send and only one meaning fits:
	// booleans in quotes, a single value where a list belongs and the other way
	// round, a bare string for a complex value, "" for unset, attributes nobody
	// defined (ignored).
	Lenient Mode = false
	// Strict refuses all of that.
	Strict Mode = true
)

// Bind fits a decoded body to the resource type: names get the schema's
// spelling, values its types; null, empty lists and readOnly attributes are
// dropped (RFC 7643 §2.5, RFC 7644 §3.3). The result shares no memory with
// body. Errors are *[ValueError].
func (t *ResourceType) Bind(body any, mode Mode) (map[string]any, error) {
	raw, ok := body.(map[string]any)
	if !ok {
		return nil, &ValueError{Kind: InvalidSyntax, Msg: "a resource is a JSON object"}
	}
	out := make(map[string]any, len(raw))
	for name, v := range raw {
		a := t.Top(name)
		switch {
		case a == nil:
			if mode == Strict {
				return nil, &ValueError{Kind: InvalidSyntax, Msg: "the body has an attribute that no schema of " + t.Name + " defines"}
			}
			continue
		case a.Name == "schemas":
			if err := t.checkSchemas(v, mode); err != nil {
				return nil, err
			}
			continue
		case a.Mutability == ReadOnly:
			continue
		}
		bound, err := a.Bind(v, mode)
		if err != nil {
			return nil, err
		}
		if bound != nil {
			out[a.Name] = bound
		}
	}
	if mode == Strict {
		if _, ok := Field(raw, "schemas"); !ok {
			return nil, &ValueError{Path: "schemas", Msg: "is required"}
		}
	}
	return out, t.Finish(out, mode)
}

// Field returns the value that a decoded body gives for name, compared without
// regard to case, and whether there is one; null is one.
func Field(body any, name string) (any, bool) {
	raw, _ := body.(map[string]any)
	for k, v := range raw {
		if equalNames(k, name) {
			return v, true
		}
	}
	return nil, false
}

// KeepImmutable holds next, which is to replace prev, to the immutable
// attributes (RFC 7644 §3.5.1): a value once set stays when next leaves it out,
// and giving another one is an error.
func (t *ResourceType) KeepImmutable(prev, next map[string]any) error {
	return keepImmutable(t.attributes, prev, next)
}

func keepImmutable(defs []*Attribute, prev, next map[string]any) error {
	for _, a := range defs {
		was, had := prev[a.Name]
		is, has := next[a.Name]
		switch {
		case !had:
		case a.Mutability == Immutable && has && !reflect.DeepEqual(was, is):
			return &ValueError{Path: a.Path, Kind: MutabilityConflict, Msg: "is immutable and already set"}
		case a.Mutability == Immutable:
			next[a.Name] = was
		case a.Type == Complex && !a.MultiValued && has:
			if err := keepImmutable(a.SubAttributes, was.(map[string]any), is.(map[string]any)); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSchemas looks at the schemas a client names. URIs nobody knows are
// ignored (vendor row E23), but the type's own must be among them.
func (t *ResourceType) checkSchemas(v any, mode Mode) error {
	list, ok := v.([]any)
	if !ok {
		if s, isString := v.(string); isString && mode == Lenient {
			list = []any{s}
		} else if v == nil && mode == Lenient {
			return nil
		} else {
			return &ValueError{Path: "schemas", Kind: InvalidSyntax, Msg: "expected a list of schema URIs"}
		}
	}
	if len(list) == 0 && mode == Lenient {
		return nil
	}
	found := false
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			return &ValueError{Path: fmt.Sprintf("schemas[%d]", i), Kind: InvalidSyntax, Msg: "expected a schema URI"}
		}
		found = found || equalNames(s, t.Schema.ID)
		if mode == Strict && t.Lookup(s) == nil && !equalNames(s, t.Schema.ID) {
			return &ValueError{Path: fmt.Sprintf("schemas[%d]", i), Msg: "is not a schema of " + t.Name}
		}
	}
	if !found {
		return &ValueError{Path: "schemas", Msg: "must contain " + t.Schema.ID}
	}
	return nil
}

// Finish brings a whole tree into the shape every stored resource has: one
// primary value at most, no pair of equal values, required attributes present,
// schemas as the content says. It is the last step of Bind and of a PATCH.
func (t *ResourceType) Finish(attrs map[string]any, mode Mode) error {
	if err := finish(t.attributes, attrs, mode); err != nil {
		return err
	}
	uris := []any{t.Schema.ID}
	for _, e := range t.Extensions {
		if _, ok := attrs[e.Schema.ID]; ok {
			uris = append(uris, e.Schema.ID)
		} else if e.Required {
			return &ValueError{Path: e.Schema.ID, Msg: "is required"}
		}
	}
	attrs["schemas"] = uris
	return nil
}

func finish(defs []*Attribute, attrs map[string]any, mode Mode) *ValueError {
	for _, a := range defs {
		v, ok := attrs[a.Name]
		if s, isText := v.(string); isText && a.Required && strings.TrimSpace(s) == "" {
			ok = false // a name of spaces is none: as a unique key it would be empty
		}
		if !ok {
			if a.Required && !a.Extension && a.Mutability != ReadOnly {
				return &ValueError{Path: a.Name, Msg: "is required"}
			}
			continue
		}
		if a.Type != Complex {
			continue
		}
		if a.MultiValued {
			list, err := finishList(a, v.([]any), mode)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				delete(attrs, a.Name)
			} else {
				attrs[a.Name] = list
			}
			continue
		}
		m := v.(map[string]any)
		if len(m) == 0 {
			delete(attrs, a.Name)
			continue
		}
		if err := finish(a.SubAttributes, m, mode); err != nil {
			err.Path = a.Name + a.separator() + err.Path
			return err
		}
	}
	return nil
}

// pairwise is up to how many values are compared with each other to find equal
// ones; longer lists pay for a map.
const pairwiseX = 8

func finishList(a *Attribute, list []any, mode Mode) ([]any, *ValueError) {
	out := list[:0:0]
	primary := false
	var seen map[[2]string]bool
	if len(list) > pairwiseX {
		seen = make(map[[2]string]bool, len(list))
	}
	for i, e := range list {
		m := e.(map[string]any)
		if len(m) == 0 {
			continue
		}
		if err := finish(a.SubAttributes, m, mode); err != nil {
			err.Path = a.Name + "[" + strconv.Itoa(i) + "]." + err.Path
			return nil, err
		}
		if repeated(a, m, out, seen) {
			continue
		}
		if p, _ := m["primary"].(bool); p {
			if primary {
				if mode == Strict {
					return nil, &ValueError{Path: a.Name + "[" + strconv.Itoa(i) + "].primary", Msg: "only one value may be primary"}
				}
				m["primary"] = false // the first one keeps it (vendor row P03)
			}
			primary = true
		}
		out = append(out, m)
	}
	return out, nil
}

// repeated reports whether m has the type and value of an element before it,
// which RFC 7643 §2.4 rules out.
func repeated(a *Attribute, m map[string]any, before []any, seen map[[2]string]bool) bool {
	value := a.Sub("value")
	if value == nil || m["value"] == nil {
		return false
	}
	key := func(m map[string]any) [2]string {
		v, _ := m["value"].(string)
		typ, _ := m["type"].(string)
		return [2]string{Fold(typ), value.Key(v)}
	}
	k := key(m)
	if seen != nil {
		was := seen[k]
		seen[k] = true
		return was
	}
	for _, e := range before {
		if key(e.(map[string]any)) == k {
			return true
		}
	}
	return false
}

// Bind fits a value of a to its definition; see [ResourceType.Bind]. The result
// is nil when the value means "unset", a []any for a multi-valued attribute,
// and otherwise a single value. Errors are *[ValueError].
func (a *Attribute) Bind(v any, mode Mode) (any, error) {
	b, err := a.bind(v, mode)
	return b, err.under(a.Path)
}

// BindElement fits one value of a multi-valued attribute; see [Attribute.Bind].
func (a *Attribute) BindElement(v any, mode Mode) (any, error) {
	b, err := a.bindOne(v, mode)
	return b, err.under(a.Path)
}

// under puts what is above it before the path of an error. Paths are built only
// when there is an error, on the way out.
func (e *ValueError) under(prefix string) error {
	if e == nil {
		return nil
	}
	e.Path = prefix + e.Path
	return e
}

func (a *Attribute) wrong(instead string) *ValueError {
	return &ValueError{Msg: "expected " + a.expected() + instead}
}

func (a *Attribute) bind(v any, mode Mode) (any, *ValueError) {
	if v == nil {
		return nil, nil
	}
	list, isList := v.([]any)
	if !a.MultiValued {
		if isList {
			if len(list) == 0 {
				return nil, nil
			}
			if len(list) != 1 || mode == Strict {
				return nil, a.wrong(", not a list")
			}
			v = list[0]
		}
		return a.bindOne(v, mode)
	}
	if !isList {
		if mode == Strict {
			return nil, &ValueError{Msg: "expected a list"}
		}
		if s, ok := v.(string); ok && s == "" {
			return nil, nil
		}
		list = []any{v}
	}
	out := make([]any, 0, len(list))
	for i, e := range list {
		b, err := a.bindOne(e, mode)
		if err != nil {
			err.Path = "[" + strconv.Itoa(i) + "]" + err.Path
			return nil, err
		}
		if b != nil {
			out = append(out, b)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// expected says in words what a single value of a looks like.
func (a *Attribute) expected() string {
	switch a.Type {
	case Complex:
		return "an object"
	case DateTime:
		return "a dateTime such as 2008-01-23T04:56:22Z"
	case Binary:
		return "a base64 string"
	case Integer:
		return "an integer"
	case Reference:
		return "a URI"
	}
	return "a " + a.Type.String()
}

func (a *Attribute) bindOne(v any, mode Mode) (any, *ValueError) {
	if v == nil {
		return nil, nil
	}
	if s, ok := v.(string); ok && s == "" {
		if mode == Strict {
			return nil, &ValueError{Msg: "expected a value, or null to clear it"}
		}
		return nil, nil // vendor rows E22, E33, H07: "" clears
	}
	switch a.Type {
	case Complex:
		return a.bindComplex(v, mode)
	case Boolean:
		return a.bindBoolean(v, mode)
	case Integer, Decimal:
		return a.bindNumber(v, mode)
	}
	s, ok := v.(string)
	if ok {
		switch a.Type {
		case DateTime:
			_, ok = ParseTime(s)
		case Binary:
			ok = validateLeaf(a, s)
		case Reference:
			ok = !strings.ContainsAny(s, " \t\r\n")
		}
	}
	if !ok {
		return nil, a.wrong("")
	}
	return v, nil
}

func (a *Attribute) bindBoolean(v any, mode Mode) (any, *ValueError) {
	switch b := v.(type) {
	case bool:
		return v, nil
	case string:
		if mode == Lenient { // vendor row E10
			if strings.EqualFold(b, "true") {
				return true, nil
			}
			if strings.EqualFold(b, "false") {
				return false, nil
			}
		}
	}
	return nil, a.wrong("")
}

func (a *Attribute) bindNumber(v any, mode Mode) (any, *ValueError) {
	var text string
	switch n := v.(type) {
	case json.Number:
		text = string(n)
	case string:
		if mode == Strict {
			return nil, a.wrong("")
		}
		text = n
	case int64, float64:
		return n, nil
	default:
		return nil, a.wrong("")
	}
	if a.Type == Integer {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	} else if n, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(n, 0) && !math.IsNaN(n) {
		return n, nil
	}
	return nil, a.wrong("")
}

func (a *Attribute) bindComplex(v any, mode Mode) (any, *ValueError) {
	raw, ok := v.(map[string]any)
	if !ok {
		// A bare value stands for the value sub-attribute: Entra sends the
		// manager so (vendor rows E19, E20).
		leaf := a.Leaf()
		if _, isList := v.([]any); mode == Strict || leaf == nil || isList {
			return nil, a.wrong("")
		}
		b, err := leaf.bind(v, mode)
		if err != nil {
			err.Path = ".value" + err.Path
		}
		if b == nil {
			return nil, err
		}
		return map[string]any{"value": b}, nil
	}
	out := make(map[string]any, len(raw))
	for name, sv := range raw {
		s := a.Sub(name)
		if s == nil {
			if mode == Strict {
				return nil, &ValueError{Kind: InvalidSyntax, Msg: "has a sub-attribute that the schema does not define"}
			}
			continue
		}
		if s.Mutability == ReadOnly {
			continue
		}
		b, err := s.bind(sv, mode)
		if err != nil {
			err.Path = a.separator() + s.Name + err.Path
			return nil, err
		}
		if b != nil {
			out[s.Name] = b
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}
