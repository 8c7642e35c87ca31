package scim

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
)

// redactor tells how something was built that a client sent, and not what it says:
// names of attributes that the schemas know, the structure, operators, schema URIs,
// booleans, null, and ids of resources where one is referred to stay as they are. Every
// other value is told by its kind, and by its length if it is that of a known
// attribute that clients can read. Names that nobody knows are "unknown".
type redactor struct {
	set *schemas.Set
	t   *schemas.ResourceType // nil if it is not known
	// room is how many values may still be told; what is beyond is left out.
	room int
}

const (
	redactedRoom  = 300  // values of one request
	redactedList  = 20   // elements of a list
	redactedText  = 2048 // bytes of a path or a filter that are read
	unknownName   = "unknown"
	redactedSome  = "(left out)"
	redactedValue = "(secret)"
)

// body takes a body apart and tells it in a form.
func (r *redactor) body(raw []byte, form func(any) any) jsontext.Value {
	told := any(fmt.Sprintf("(%d bytes, too many to be told)", len(raw)))
	if len(raw) <= maxToldBody {
		tree, err := schemas.Decode(raw, BodyLimits)
		if _, wrong := errors.AsType[*schemas.SyntaxError](err); wrong {
			told = "(no acceptable JSON)"
		} else if err == nil {
			told = form(tree)
		}
	}
	out, err := json.Marshal(told, json.Deterministic(true))
	if err != nil {
		return nil
	}
	return out
}

// members tells an object. name returns the name by which a member is told and a
// function that tells its value; "" for a name that is not known.
func (r *redactor) members(v any, name func(string) (string, func(any) any)) any {
	m, ok := v.(map[string]any)
	if !ok {
		if list, ok := v.([]any); ok {
			return r.list(list, func(e any) any { return r.members(e, name) })
		}
		return r.opaque(v)
	}
	out := map[string]any{}
	unknown := 0
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if r.room <= 0 {
			out[redactedSome] = nil
			break
		}
		told, tell := name(k)
		if told == "" || tell == nil {
			tell = r.opaque
		}
		if told == "" {
			told = unknownName
			if unknown++; unknown > 1 {
				told += " " + strconv.Itoa(unknown)
			}
		}
		out[told] = tell(m[k])
	}
	return out
}

func (r *redactor) list(list []any, tell func(any) any) any {
	out := make([]any, 0, min(len(list), redactedList)+1)
	for i, e := range list {
		if i == redactedList || r.room <= 0 {
			return append(out, fmt.Sprintf("(%d more)", len(list)-i))
		}
		out = append(out, tell(e))
	}
	return out
}

// opaque tells the structure of something that is not known.
func (r *redactor) opaque(v any) any { return r.scalar(v, nil) }

// scalar tells a value of an attribute, nil for one that is not known.
func (r *redactor) scalar(v any, a *schemas.Attribute) any {
	switch v := v.(type) {
	case map[string]any:
		return r.members(v, func(k string) (string, func(any) any) {
			if a == nil {
				return "", nil
			}
			s := a.Sub(k)
			if s == nil {
				return "", nil
			}
			return s.Name, r.valueOf(s)
		})
	case []any:
		return r.list(v, func(e any) any { return r.scalar(e, a) })
	}
	if r.room--; r.room < 0 {
		return redactedSome
	}
	if a != nil && !a.Readable() {
		return redactedValue
	}
	switch v := v.(type) {
	case nil, bool:
		return v
	case string:
		switch {
		case a == nil:
			return "(string)"
		case refers(a) && idOnly(v) != "":
			return v
		}
		return fmt.Sprintf("(string, %d)", utf8.RuneCountInString(v))
	}
	return "(number)"
}

// valueOf tells values of an attribute.
func (r *redactor) valueOf(a *schemas.Attribute) func(any) any {
	switch {
	case !a.Readable():
		return func(any) any {
			r.room--
			return redactedValue
		}
	case a.Name == "schemas" && a.Parent == nil:
		return r.uris
	}
	return func(v any) any { return r.scalar(v, a) }
}

// refers reports whether a text written to an attribute is the id of a resource.
func refers(a *schemas.Attribute) bool {
	if a = a.Leaf(); a == nil {
		return false
	}
	p := a.Parent
	return a.Name == "id" && p == nil || a.Name == "value" && p != nil && (p.Name == "members" || p.Name == "groups" || p.Name == "manager")
}

// uris tells the schemas of a resource or message.
func (r *redactor) uris(v any) any {
	tell := func(v any) any {
		s, ok := v.(string)
		if !ok {
			return r.opaque(v)
		}
		if uri := r.uri(s); uri != "" {
			r.room--
			return uri
		}
		return r.opaque(v)
	}
	if list, ok := v.([]any); ok {
		return r.list(list, tell)
	}
	return tell(v)
}

// uri returns a schema URI that is known, or "".
func (r *redactor) uri(s string) string {
	if known := r.set.Schema(s); known != nil {
		return known.ID
	}
	for _, uri := range []string{patch.MessageURI, BulkRequestURI, SearchRequestURI} {
		if strings.EqualFold(uri, s) {
			return uri
		}
	}
	return ""
}

// attribute returns the attribute of the type that a path stands for, or nil.
func (r *redactor) attribute(path string) *schemas.Attribute {
	if r.t == nil || len(path) > redactedText {
		return nil
	}
	if from, to := strings.IndexByte(path, '['), strings.LastIndexByte(path, ']'); from >= 0 && to > from {
		path = path[:from] + path[to+1:]
	}
	return r.t.Lookup(path)
}

// resource tells a resource, or the value of an operation that has no path.
func (r *redactor) resource(v any) any {
	return r.members(v, func(k string) (string, func(any) any) {
		if a := r.attribute(k); a != nil {
			return r.text(k), r.valueOf(a)
		}
		if uri := r.uri(k); uri != "" && r.t != nil { // of the core schema
			return uri, r.resource
		}
		return "", nil
	})
}

// patch tells a PATCH.
func (r *redactor) patch(v any) any {
	operations := func(v any) any {
		if list, ok := v.([]any); ok {
			return r.list(list, r.operation)
		}
		return r.operation(v)
	}
	m, _ := v.(map[string]any)
	if _, message := schemas.Field(m, "Operations"); !message {
		return operations(v)
	}
	return r.members(v, func(k string) (string, func(any) any) {
		switch strings.ToLower(k) {
		case "schemas":
			return "schemas", r.uris
		case "operations":
			return "Operations", operations
		}
		return "", nil
	})
}

func (r *redactor) operation(v any) any {
	path, _ := schemas.Field(v, "path")
	value := r.resource
	if path, ok := path.(string); ok && path != "" {
		value = r.opaque
		if a := r.attribute(path); a != nil {
			value = r.valueOf(a)
		} else if r.uri(path) != "" {
			value = r.resource
		}
	}
	return r.members(v, func(k string) (string, func(any) any) {
		switch strings.ToLower(k) {
		case "op":
			return "op", r.oneOf("add", "replace", "remove")
		case "path":
			return "path", r.textOf
		case "value":
			return "value", value
		}
		return "", nil
	})
}

// bulk tells a bulk request as a whole, without the data of its operations.
func (r *redactor) bulk(v any) any {
	return r.members(v, func(k string) (string, func(any) any) {
		switch strings.ToLower(k) {
		case "schemas":
			return "schemas", r.uris
		case "failonerrors":
			return "failOnErrors", r.opaque
		case "operations":
			return "Operations", func(v any) any {
				return r.members(v, func(k string) (string, func(any) any) {
					switch strings.ToLower(k) {
					case "method":
						return "method", r.oneOf(http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete)
					case "path", "bulkid", "version":
						return map[string]string{"path": "path", "bulkid": "bulkId", "version": "version"}[strings.ToLower(k)], r.opaque
					case "data":
						return "data", func(any) any { return redactedSome }
					}
					return "", nil
				})
			}
		}
		return "", nil
	})
}

// search tells a SearchRequest.
func (r *redactor) search(v any) any {
	return r.members(v, func(k string) (string, func(any) any) {
		if strings.EqualFold(k, "schemas") {
			return "schemas", r.uris
		}
		name, attributes := searchParameter(k)
		if attributes {
			return name, r.textOf
		}
		return name, r.opaque
	})
}

// searchParameter returns the parameter of a search with a name, in any case, or "", and
// whether it names attributes.
func searchParameter(name string) (known string, attributes bool) {
	for _, p := range searchParameters {
		if strings.EqualFold(p.name, name) {
			return p.name, slices.Contains([]string{"filter", "attributes", "excludedAttributes", "sortBy"}, p.name)
		}
	}
	return "", false
}

// query tells the parameters of an address.
func (r *redactor) query(raw string) string {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return "(not well formed)"
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(values)) {
		name, attributes := searchParameter(k)
		switch {
		case attributes:
			list = append(list, name+"="+r.text(values[k][0]))
		case name == "":
			list = append(list, unknownName+"=(string)")
		default:
			list = append(list, name+"=(string)")
		}
	}
	return strings.Join(list[:min(len(list), redactedList)], "&")
}

func (r *redactor) oneOf(words ...string) func(any) any {
	return func(v any) any {
		s, _ := v.(string)
		for _, w := range words {
			if strings.EqualFold(s, w) {
				r.room--
				return w
			}
		}
		return r.opaque(v)
	}
}

// method returns the method of an operation if it is one.
func (r *redactor) method(s string) string {
	m, _ := r.oneOf(http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete)(s).(string)
	return m
}

// textOf is text for a value that should be a path or a filter, or a list of paths.
func (r *redactor) textOf(v any) any {
	switch v := v.(type) {
	case string:
		r.room--
		return r.text(v)
	case []any:
		return r.list(v, r.textOf)
	}
	return r.opaque(v)
}

var filterWords = []string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr", "and", "or", "not", "true", "false", "null"}

// text tells a path or a filter, or paths with commas between.
func (r *redactor) text(s string) string {
	s = s[:min(len(s), redactedText)]
	var out strings.Builder
	for s != "" {
		switch c := s[0]; {
		case c == '"':
			n := 1
			for n < len(s) && s[n] != '"' {
				if s[n] == '\\' {
					n++
				}
				n++
			}
			out.WriteString(`"(string)"`)
			s = s[min(n+1, len(s)):]
		case strings.IndexByte(" ()[],", c) >= 0:
			out.WriteByte(c)
			s = s[1:]
		default:
			n := strings.IndexAny(s, " ()[],\"")
			if n < 0 {
				n = len(s)
			}
			out.WriteString(r.word(s[:n]))
			s = s[n:]
		}
	}
	return out.String()
}

// word tells a name or a literal of a filter.
func (r *redactor) word(w string) string {
	if slices.ContainsFunc(filterWords, func(k string) bool { return strings.EqualFold(k, w) }) {
		return strings.ToLower(w)
	}
	if unicode.IsDigit(rune(w[0])) || w[0] == '-' {
		return "(number)"
	}
	if name, behind := strings.CutPrefix(w, "."); behind {
		if sub := r.sub(name); sub != "" {
			return "." + sub
		}
		return "." + unknownName
	}
	if r.t != nil {
		if a := r.t.Lookup(w); a != nil {
			return a.Path
		}
		if sub := r.sub(w); sub != "" {
			return sub
		}
	}
	if uri := r.uri(w); uri != "" {
		return uri
	}
	return unknownName
}

// sub returns the name of some attribute's sub-attribute, as the schema spells it, or "".
func (r *redactor) sub(name string) string {
	if r.t == nil {
		return ""
	}
	for _, a := range r.t.Attributes() {
		if s := a.Sub(name); s != nil {
			return s.Name
		}
		for _, e := range a.SubAttributes {
			if s := e.Sub(name); s != nil {
				return s.Name
			}
		}
	}
	return ""
}
