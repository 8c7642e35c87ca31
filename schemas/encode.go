package schemas

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendJSON appends the tree as a JSON object, attributes in the order of the
// schema, so that equal resources are equal bytes. keep decides which
// attributes are written; it is asked for each attribute and sub-attribute.
// Attributes that are returned never are left out whatever keep says.
func (t *ResourceType) AppendJSON(dst []byte, attrs map[string]any, keep func(*Attribute) bool) []byte {
	return appendObject(dst, t.attributes, attrs, keep)
}

// Document returns the part of a resource that is stored: everything except
// meta, detached attributes and what is returned never.
func (t *ResourceType) Document(attrs map[string]any) []byte {
	return t.AppendJSON(make([]byte, 0, 512), attrs, func(a *Attribute) bool {
		return !a.Detached && (a.Name != "meta" || a.Parent != nil)
	})
}

func appendObject(dst []byte, defs []*Attribute, attrs map[string]any, keep func(*Attribute) bool) []byte {
	dst = append(dst, '{')
	first := true
	for _, a := range defs {
		v, ok := attrs[a.Name]
		if !ok || a.Returned == ReturnedNever || (keep != nil && !keep(a)) {
			continue
		}
		start := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, a.Name)
		dst = append(dst, ':')
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
	out, err := jsontext.AppendQuote(dst, s)
	if err != nil { // invalid UTF-8 cannot come through Decode; it is replaced
		return out
	}
	return out
}

// AppendFloat appends f the way ECMAScript and encoding/json write numbers.
func AppendFloat(dst []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendInt(dst, int64(f), 10)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// Parse reads a stored document back into an attribute tree. It trusts the
// document and changes nothing about it.
func (t *ResourceType) Parse(doc []byte) (map[string]any, error) {
	v, err := Decode(doc, Limits{})
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, &SyntaxError{Msg: "a stored document is not an object"}
	}
	numbers(m)
	return m, nil
}

// numbers turns json.Number into int64 where it fits and float64 elsewhere, so
// that a tree read back equals the one written.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, e := range v {
			switch e.(type) {
			case json.Number, map[string]any, []any:
				v[k] = numbers(e)
			}
		}
	case []any:
		for i, e := range v {
			switch e.(type) {
			case json.Number, map[string]any, []any:
				v[i] = numbers(e)
			}
		}
	}
	return v
}
