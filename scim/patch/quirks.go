package patch

import (
	"slices"
	"strconv"
	"strings"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
)

// This file is what clients send and RFC 7644 does not foresee, one function per
// habit, each with the client and its row in the vendor table. None of it
// happens in Strict mode. What concerns the form of a single value (booleans in
// quotes, a single value where a list belongs, "" for null) is the Lenient mode
// of [schemas.Attribute.Bind].

// parseOp reads an operation's name. Entra writes Add, Replace and Remove with
// a capital letter (E09).
func parseOp(s string, mode schemas.Mode) (Op, bool) {
	if mode == schemas.Lenient {
		s = strings.ToLower(s)
	}
	i := slices.Index(opNames[:], s)
	return Op(max(i, 0)), i >= 0
}

// field returns a member of the message, whatever the case of its name: clients
// that serialise their own classes write "operations" and "Op", and get away with
// it at GitLab and others (V05).
func field(m map[string]any, name string, mode schemas.Mode) (any, bool) {
	if v, ok := m[name]; ok || mode == schemas.Strict {
		return v, ok
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return nil, false
}

// listed is the list v; a single object is a list of one (X07).
func listed(v any, mode schemas.Mode) ([]any, bool) {
	list, ok := v.([]any)
	if !ok && v != nil && mode == schemas.Lenient {
		return []any{v}, true
	}
	return list, ok
}

// bareOperations takes a list of operations that stands where the message
// belongs, as the example in RFC 7644 §3.7.3 has it; HR loaders copied that into
// their bulk requests (H08).
func bareOperations(body any, mode schemas.Mode) ([]any, bool) {
	list, ok := body.([]any)
	return list, ok && mode == schemas.Lenient
}

// isMove reports whether an operation puts members of a group in, or takes them out by
// id, and does nothing else. authentik sends one for each member, and as many in a
// request as bulk has operations (K03, K05); midPoint removes them so (M02). However
// many there are, together they are one list of members.
func isMove(o Operation, mode schemas.Mode) bool {
	path := strings.TrimSpace(o.Path)
	const open, end = `members[value eq "`, `"]`
	switch {
	case mode == schemas.Strict || o.Op == Replace:
		return false
	case strings.EqualFold(path, "members"):
		return o.Op == Add || o.Value != nil
	case o.Op == Add || len(path) < len(open)+len(end) || !strings.EqualFold(path[:len(open)], open):
		return false
	}
	id, ok := strings.CutSuffix(path[len(open):], end)
	return ok && !strings.ContainsAny(id, `"\`)
}

// manyMembers reads a path that is too long for a filter, and yet selects members by id
// alone: with one like that ConnId's connector takes out all who leave a group. They are
// looked up one by one, so it costs what a list of them does.
func (e *edit) manyMembers(path string) (p filter.Path, ok bool) {
	if e.strict() {
		return p, false
	}
	p, err := filter.ParsePath(path, e.rt, filter.Limits{Depth: filter.DefaultLimits.Depth, Terms: DefaultLimits.Members})
	if err != nil || !p.Attr.Detached || p.Filter == nil || p.Sub != nil {
		return p, false
	}
	_, ok = memberIDs(p.Filter, p.Attr)
	return p, ok
}

// textLimits are those of an operation's value that is JSON in a string: in a hundred of
// them no more than in a body.
var textLimits = schemas.Limits{Depth: 32, Tokens: 1000}

// unquoted is a value that has to be an object, or a list of them. SCIM-SDK sends what it
// is given as text as JSON in a string; so does SCIM for Keycloak, which is built on it,
// without a path when it takes over a group or renames one.
func unquoted(value any, mode schemas.Mode) any {
	text, ok := value.(string)
	if !ok || mode == schemas.Strict {
		return value
	}
	tree, err := schemas.Decode([]byte(text), textLimits)
	if err != nil {
		return value
	}
	switch tree.(type) {
	case map[string]any, []any:
		return tree
	}
	return value // a bare value, which may stand for an object
}

// isCore reports whether the path is the URN of the core schema alone: clients
// that treat it like an extension nest the attributes of a user under it.
func (e *edit) isCore(path string) bool {
	return !e.strict() && strings.EqualFold(path, e.rt.Schema.ID)
}

// partOfName completes a path that is a part of the name, and is called so nowhere else.
// Grouper writes "givenName" for "name.givenName" unless it is set up otherwise.
func (e *edit) partOfName(path string) string {
	name := e.rt.Top("name")
	if e.strict() || name == nil || name.Sub(path) == nil || e.rt.Lookup(path) != nil {
		return path
	}
	return name.Name + "." + path
}

// ignored reports whether a write to a read-only attribute passes without
// effect. SailPoint writes groups on users (S07); Okta and authentik repeat the
// id (O11, K02), here with a path of its own.
func (e *edit) ignored(top *schemas.Attribute, value any) bool {
	if e.strict() {
		return false
	}
	id, _ := e.attrs["id"].(string)
	return top.Detached || top.Name == "id" && e.op != Remove && id != "" && e.single(top, value) == any(id)
}

// unset reports whether the value means "no value": null and the empty list
// (RFC 7643 §2.5), and the empty string of Entra and HR loaders (E22, E33, H07).
func (e *edit) unset(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == "" && !e.strict()
	case []any:
		return len(v) == 0
	}
	return false
}

// one takes a value out of a list that it is alone in (E21, O22).
func (e *edit) one(value any) any {
	if list, ok := value.([]any); ok && len(list) == 1 && !e.strict() {
		return list[0]
	}
	return value
}

// single is the value meant for a single-valued attribute. Entra documents
// [{"$ref":…,"value":…}] for manager (E21), and its 2017 dialect wrapped even
// simple values so (E44).
func (e *edit) single(a *schemas.Attribute, value any) any {
	inner := e.one(value)
	if m, ok := inner.(map[string]any); ok && isList(value) && a.Type != schemas.Complex {
		if v, ok := field(m, "value", e.mode); ok {
			return v
		}
	}
	return inner
}

// each is the values of an operation that may bring several at once: older
// servers accepted {"op":"add","path":"members.value","value":["a","b"]}.
func (e *edit) each(value any) []any {
	if list, ok := value.([]any); ok && !e.strict() {
		return list
	}
	return []any{value}
}

// misnamed refuses a replace by elements of which everything has names that nobody defined.
// Such names are ignored, and nothing would be left to take the place of what is there.
func (e *edit) misnamed(a *schemas.Attribute, value any) error {
	if e.op != Replace || e.strict() || a.Type != schemas.Complex {
		return nil
	}
	for i, v := range e.each(value) {
		m, _ := v.(map[string]any)
		known, unknown := false, false
		for name, part := range m {
			if part != nil {
				defined := a.Sub(name) != nil
				known, unknown = known || defined, unknown || !defined
			}
		}
		if unknown && !known {
			part := "value"
			if isList(value) {
				part += "[" + strconv.Itoa(i) + "]"
			}
			return &Error{Index: e.index, Path: a.Path, Kind: InvalidValue, Msg: "has none of its sub-attributes", part: part}
		}
	}
	return nil
}

// object is the sub-attributes given for a complex attribute. Entra sends the
// manager as the bare id (E19).
func (e *edit) object(a *schemas.Attribute, value any) (map[string]any, error) {
	switch v := value.(type) {
	case map[string]any:
		return v, nil
	case []any:
	default:
		if !e.strict() && a.Leaf() != nil {
			return map[string]any{"value": v}, nil
		}
	}
	return nil, e.fail(InvalidValue, a.Path, "expected an object")
}

// seed is the element that the filter of a path describes, when it is nothing
// but equalities: {"type":"work"} for emails[type eq "work"], {"primary":true}
// for roles[primary eq "True"]. Entra and its validator replace and add through
// such filters what is not there yet (E11, E31, E37).
func (e *edit) seed(t target) (map[string]any, bool) {
	m := map[string]any{}
	if !equalities(t.filter, t.attr, m) || !t.filter.Match(m) {
		return map[string]any{}, false
	}
	return m, true
}

func equalities(f filter.Expr, a *schemas.Attribute, m map[string]any) bool {
	switch f := f.(type) {
	case filter.And:
		return !slices.ContainsFunc(f, func(term filter.Expr) bool { return !equalities(term, a, m) })
	case filter.Compare:
		if f.Op != filter.Equal || f.Attr.Parent != a || f.Attr.Mutability == schemas.ReadOnly {
			return false
		}
		v := f.Value
		if f.Text != "" {
			v = f.Text
		}
		bound, err := f.Attr.Bind(v, schemas.Lenient)
		if err != nil || bound == nil {
			return false
		}
		m[f.Attr.Name] = bound
		return true
	}
	return false
}

// removeListed removes exactly the elements that the value lists. An RFC client
// sends no value with a remove; Entra, JumpCloud, ssosync and authentik do, for
// members above all (E26, J05, A01, K03), and mean these and no others. An
// element listed without a type is meant whatever its type is.
func (e *edit) removeListed(m map[string]any, a *schemas.Attribute, value any) error {
	if e.strict() {
		return e.fail(InvalidValue, a.Path, "a remove takes no value; select with a filter")
	}
	bound, err := a.Bind(value, e.mode)
	if err != nil {
		return e.badValue(err)
	}
	listed, _ := bound.([]any)
	gone := make(map[any]bool, len(listed))
	for _, v := range listed {
		if el, ok := v.(map[string]any); ok && el["type"] == nil && el["value"] != nil {
			gone[valueKey(a, el)] = true
		}
		gone[identity(a, v)] = true
	}
	list := slices.DeleteFunc(listOf(m, a), func(v any) bool {
		el, _ := v.(map[string]any)
		return gone[identity(a, v)] || el["value"] != nil && gone[valueKey(a, el)]
	})
	return e.store(m, a, list)
}

// valueKey is an element's value alone, in a form no identity has.
func valueKey(a *schemas.Attribute, el map[string]any) string {
	return "*" + string(appendKey(nil, a.Sub("value"), el["value"]))
}
