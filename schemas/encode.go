package schemas

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendJSON appends the tree as a JSON object, attributes in the order of the
// schema, so that equal resources are equal bytes. keep decides which
// attributes are written; it is asked for each attribute and sub-attribute.
// Attributes that are writeOnly or returned never are left out whatever keep
// says.
func (t *ResourceType) AppendJSON(dst []byte, attrs map[string]any, keep func(*Attribute) bool) []byte {
	return appendObject(dst, t.attributes, attrs, keep)
}

// Document returns the part of a resource that is stored: everything except
// meta, detached attributes and what no client may read.
func (t *ResourceType) Document(attrs map[string]any) []byte {
	return t.AppendJSON(make([]byte, 0, 1024), attrs, func(a *Attribute) bool {
		return !a.Detached && (a.Name != "meta" || a.Parent != nil)
	})
}

// Kept reports whether values of the attribute are part of a stored document. What no
// client may read is not: a password has a place of its own, and of anything else it is
// known only that it was given.
func (a *Attribute) Kept() bool {
	return a.Returned != ReturnedNever && a.Mutability != WriteOnly
}

// Leaves reports whether anything of a value is part of a stored document.
func (a *Attribute) Leaves(v any) bool {
	switch {
	case !a.secret:
		return true
	case !a.Kept():
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if s := a.Sub(name); s != nil && s.Leaves(e) {
				return true
			}
		}
		return false
	case []any:
		return slices.ContainsFunc(v, a.Leaves)
	}
	return true
}

// ReadableJSON returns a value of the attribute as JSON, as far as clients may
// read it; nil if there is none.
func (a *Attribute) ReadableJSON(v any) []byte {
	if v == nil || !a.Kept() {
		return nil
	}
	s, _ := v.(string)
	return appendValue(make([]byte, 0, len(s)+len(`""`)), a, v, nil)
}

func appendObject(dst []byte, defs []*Attribute, attrs map[string]any, keep func(*Attribute) bool) []byte {
	dst = append(dst, '{')
	first := true
	left := len(attrs) // most objects have few of the attributes that they may have
	for _, a := range defs {
		if left == 0 {
			break
		}
		v, ok := attrs[a.Name]
		if !ok {
			continue
		}
		left--
		if !a.Kept() || (keep != nil && !keep(a)) {
			continue
		}
		start := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		dst = append(dst, a.label...)
		body := len(dst)
		dst = appendValue(dst, a, v, keep)
		if e := dst[body:]; a.Type == Complex && len(e) == 2 {
			dst = dst[:start] // nothing of it was kept
			continue
		}
		first = false
	}
	return append(dst, '}')
}

func appendValue(dst []byte, a *Attribute, v any, keep func(*Attribute) bool) []byte {
	switch v := v.(type) {
	case string:
		return AppendString(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		return AppendFloat(dst, v)
	case json.Number:
		return append(dst, v...)
	case map[string]any:
		return appendObject(dst, a.SubAttributes, v, keep)
	case []any:
		dst = append(dst, '[')
		first := true
		for _, e := range v {
			start := len(dst)
			if !first {
				dst = append(dst, ',')
			}
			body := len(dst)
			dst = appendValue(dst, a, e, keep)
			if a.Type == Complex && len(dst)-body == 2 {
				dst = dst[:start]
				continue
			}
			first = false
		}
		return append(dst, ']')
	}
	return append(dst, "null"...)
}

// AppendString appends s as a JSON string.
func AppendString(dst []byte, s string) []byte {
	if Plain(s) {
		return append(append(append(dst, '"'), s...), '"')
	}
	out, _ := jsontext.AppendQuote(dst, s) // invalid UTF-8, which cannot come through Decode, is replaced
	return out
}

// Plain reports whether s stands between the quotes of a JSON string as it is, as nearly all do:
// it is printable ASCII without quotes and backslashes.
func Plain[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}

var plain = func() (t [256]bool) {
	for c := ' '; c <= '~'; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// AppendFloat appends f the way ECMAScript writes numbers.
func AppendFloat(dst []byte, f float64) []byte {
	if f == 0 {
		f = 0 // ECMAScript has no sign here: -0 is 0
	}
	return jsontext.AppendFloat(dst, f, 64)
}

// Parse reads a stored document back into the attribute tree it was written
// from. It trusts the document.
func (t *ResourceType) Parse(doc []byte) (map[string]any, error) {
	v, err := Decode(doc, Limits{})
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, &SyntaxError{Msg: "a stored document is not an object"}
	}
	if t.numeric {
		numbers(t.attributes, m)
	}
	return m, nil
}

// numbers gives the numbers in a decoded tree the types of their attributes.
func numbers(defs []*Attribute, m map[string]any) {
	for _, a := range defs {
		if v, ok := m[a.Name]; ok && a.numeric {
			m[a.Name] = a.numbers(v)
		}
	}
}

func (a *Attribute) numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, ok := a.number(string(v)); ok {
			return n
		}
	case map[string]any:
		numbers(a.SubAttributes, v)
	case []any:
		for i, e := range v {
			v[i] = a.numbers(e)
		}
	}
	return v
}
