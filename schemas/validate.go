package schemas

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
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
	// Unknown is the name of an attribute that no schema defines, as the client wrote it.
	// It may be anything, so the client is told, and nobody else.
	Unknown string
}

func (e *ValueError) Error() string {
	if e.Path == "" {
		return e.Msg
	}
	return e.Path + ": " + e.Msg
}

// Legible returns a name as a client wrote it, so that a message can say it; what does
// not look like the name of an attribute or the URN of a schema is left out.
func Legible(name string) string {
	if len(name) > 128 {
		return ""
	}
	for _, c := range []byte(name) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("$-_.:", c) < 0 {
			return ""
		}
	}
	return name
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
// dropped (RFC 7643 §2.5, RFC 7644 §3.3). body becomes the result's, whose parts
// it is made of: nobody may use it afterwards, whatever Bind returns. Errors are
// *[ValueError].
func (t *ResourceType) Bind(body any, mode Mode) (map[string]any, error) {
	raw, ok := body.(map[string]any)
	if !ok {
		return nil, &ValueError{Kind: InvalidSyntax, Msg: "a resource is a JSON object"}
	}
	out := make(map[string]any, min(len(raw), len(t.attributes))+additions)
	var bad *ValueError
	for name, v := range raw {
		bad = first(bad, t.bindTop(out, raw, name, v, binding{mode, true}))
	}
	if bad != nil {
		return nil, bad
	}
	if mode == Strict {
		if _, ok := Field(raw, "schemas"); !ok {
			return nil, &ValueError{Path: "schemas", Msg: "is required"}
		}
	}
	if err := t.Finish(out, nil, mode); err != nil {
		return nil, err
	}
	return out, nil
}

// givenOnce refuses a body that has an extension under more than one of its URIs.
func (t *ResourceType) givenOnce(raw map[string]any, e *Attribute) *ValueError {
	n := 0
	for name := range raw {
		if a := t.Top(name); a == e || a == nil && t.Former(name) == e {
			n++
		}
	}
	if n > 1 {
		return &ValueError{Path: e.Path, Kind: InvalidSyntax, Msg: "is there twice, under a former URI too"}
	}
	return nil
}

// binding says how values are bound.
type binding struct {
	mode Mode
	// own allows to change what is bound, instead of making copies of it.
	own bool
}

// additions is how many attributes are usually added to a tree after Bind, such
// as id.
const additions = 4

// bindTop puts what the body raw gives for name into out.
func (t *ResourceType) bindTop(out, raw map[string]any, name string, v any, how binding) *ValueError {
	a := t.Top(name)
	if a == nil && how.mode == Lenient {
		if a = t.Former(name); a != nil {
			if err := t.givenOnce(raw, a); err != nil {
				return err
			}
		}
	}
	switch {
	case a == nil && how.mode == Strict:
		return &ValueError{Kind: InvalidSyntax, Msg: "the body has an attribute that no schema of " + t.Name + " defines", Unknown: Legible(name)}
	case a == nil || a.Mutability == ReadOnly:
		return nil
	case a.Name == "schemas":
		return t.checkSchemas(v, how.mode)
	}
	bound, err := a.bind(v, how)
	if err != nil {
		err.Path = a.Path + err.Path
		return err
	}
	if bound != nil {
		out[a.Name] = bound
	}
	return nil
}

// first returns the error to report of two, either of which may be nil: by
// path, so that it does not depend on the order in which a map is walked.
func first(a, b *ValueError) *ValueError {
	if a == nil || b != nil && b.Path < a.Path {
		return b
	}
	return a
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
// and giving another one is an error. A complex attribute that next leaves out
// is gone with its sub-attributes, as members are; an extension is not, for its
// attributes are those of the resource, and then what it requires has to be there.
// Of next only the map itself changes, not what is in it.
func (t *ResourceType) KeepImmutable(prev, next map[string]any) error {
	if err := keepImmutable(t.attributes, prev, next); err != nil {
		return err
	}
	if _, ok := next["schemas"]; ok {
		next["schemas"] = t.SchemasOf(next)
	}
	return nil
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
		case a.Type != Complex || a.MultiValued:
		case has || a.Extension:
			m := map[string]any{}
			if given, ok := is.(map[string]any); ok {
				m = maps.Clone(given)
			}
			if err := keepImmutable(a.SubAttributes, was.(map[string]any), m); err != nil {
				return err
			}
			if len(m) == 0 {
				continue
			}
			if !has { // what is required was not asked for, as none of it was there
				if err := finishObject(a, m, nil, Strict); err != nil {
					return err.under(a.Name)
				}
			}
			next[a.Name] = m
		}
	}
	return nil
}

// checkSchemas looks at the schemas a client names. URIs nobody knows are
// ignored, but the type's own must be among them.
func (t *ResourceType) checkSchemas(v any, mode Mode) *ValueError {
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
			return &ValueError{Path: "schemas[" + strconv.Itoa(i) + "]", Kind: InvalidSyntax, Msg: "expected a schema URI"}
		}
		if equalNames(s, t.Schema.ID) || mode == Lenient && t.Schema.wasCalled(s) {
			found = true
		} else if a := t.Top(s); mode == Strict && (a == nil || !a.Extension) {
			return &ValueError{Path: "schemas[" + strconv.Itoa(i) + "]", Msg: "is not a schema of " + t.Name}
		}
	}
	if !found {
		return &ValueError{Path: "schemas", Msg: "must contain " + t.Schema.ID}
	}
	return nil
}

// Finish brings a whole tree into the shape every stored resource has: one
// primary value at most, no two elements of one type and value, nothing empty, required
// attributes present, schemas as the content says. It is the last step of Bind
// and of a PATCH. Of what is stored already, prev, what is never kept counts as
// given, as does what may have had nothing else in it; nil for what is new. attrs
// is changed in place, lists included; after an error its state is undefined.
func (t *ResourceType) Finish(attrs, prev map[string]any, mode Mode) error {
	if err := finish(t.ruled, attrs, prev, mode); err != nil {
		return err
	}
	attrs["schemas"] = t.SchemasOf(attrs)
	return nil
}

// SchemasOf returns the URIs of the schemas that attrs has attributes of, as far as
// they are kept.
func (t *ResourceType) SchemasOf(attrs map[string]any) []any {
	uris := make([]any, 1, 1+len(t.Extensions))
	uris[0] = t.Schema.ID
	for _, e := range t.Extensions {
		if v, ok := attrs[e.Schema.ID]; ok && e.Attribute.Leaves(v) {
			uris = append(uris, e.Schema.ID)
		}
	}
	return uris
}

// ruled returns those of defs that have a value of more than one part or must
// have one.
func ruled(defs []*Attribute) []*Attribute {
	var r []*Attribute
	for _, a := range defs {
		if a.Required || a.Type == Complex || a.MultiValued {
			r = append(r, a)
		}
	}
	return r
}

func finish(defs []*Attribute, attrs, prev map[string]any, mode Mode) *ValueError {
	for _, a := range defs {
		v, given := attrs[a.Name]
		left := given // whether anything is left of it
		switch v := v.(type) {
		case string:
			// A name of spaces is none: as a unique key it would be empty.
			left = !a.Required || strings.TrimSpace(v) != ""
		case map[string]any:
			was, _ := prev[a.Name].(map[string]any)
			if err := finishObject(a, v, was, mode); err != nil {
				err.Path = a.Name + err.Path
				return err
			}
			left = len(v) > 0
		case []any:
			list, err := finishList(a, v, prev[a.Name] != nil, mode)
			if err != nil {
				err.Path = a.Name + err.Path
				return err
			}
			if left = len(list) > 0; len(list) < len(v) {
				attrs[a.Name] = list
			}
		}
		if left {
			continue
		}
		if given {
			delete(attrs, a.Name)
		}
		if a.Required && a.Mutability != ReadOnly && (prev == nil || prev[a.Name] != nil || !a.secret) {
			return &ValueError{Path: a.Name, Msg: "is required"}
		}
	}
	return nil
}

func finishObject(a *Attribute, m, prev map[string]any, mode Mode) *ValueError {
	if len(m) == 0 {
		return nil // no value at all, so nothing is required of it
	}
	err := finish(a.ruled, m, prev, mode)
	if err != nil {
		err.Path = a.separator() + err.Path
	}
	return err
}

// finishList removes empty elements and those that repeat another. Where some were
// there before, which of them is new cannot be told.
func finishList(a *Attribute, list []any, before bool, mode Mode) ([]any, *ValueError) {
	if a.Type != Complex {
		return list, nil
	}
	var seen map[Identity]int
	if len(list) > pairwise {
		seen = make(map[Identity]int, len(list))
	}
	out := list[:0]
	primary := false
	for i, e := range list {
		m := e.(map[string]any)
		var was map[string]any
		if before {
			was = m
		}
		if err := finishObject(a, m, was, mode); err != nil {
			err.Path = "[" + strconv.Itoa(i) + "]" + err.Path
			return nil, err
		}
		if len(m) == 0 {
			continue
		}
		isPrimary, _ := m["primary"].(bool)
		if same := repeated(a, m, out, seen); same != nil {
			if isPrimary && !primary {
				same["primary"], primary = true, true
			}
			continue
		}
		if isPrimary && primary {
			if mode == Strict {
				return nil, &ValueError{Path: "[" + strconv.Itoa(i) + "].primary", Msg: "only one value may be primary"}
			}
			m["primary"] = false // the first one keeps it
		}
		primary = primary || isPrimary
		out = append(out, m)
	}
	clear(list[len(out):])
	return out, nil
}

// Identity is what no two elements of a list have in common (RFC 7643 §2.4). It can be compared.
type Identity struct {
	typ   string
	text  string // of the value
	value any    // where that is no text; comparable
}

// Identity returns that of an element of a, and false when it has none.
func (a *Attribute) Identity(m map[string]any) (Identity, bool) {
	var k Identity
	switch v := m["value"].(type) {
	case string:
		k.text = a.Sub("value").Key(v)
	case bool, int64, float64:
		k.value = v
	default:
		return k, false
	}
	switch typ := m["type"].(type) {
	case string:
		k.typ = a.Sub("type").Key(typ)
	case bool, int64, float64:
		k.typ = fmt.Sprint(typ)
	}
	return k, true
}

// repeated returns the element before m that has its type and value, or nil.
// seen is nil where comparing with each is cheaper.
func repeated(a *Attribute, m map[string]any, before []any, seen map[Identity]int) map[string]any {
	if len(before) == 0 && seen == nil {
		return nil
	}
	k, ok := a.Identity(m)
	if !ok {
		return nil
	}
	if seen != nil {
		i, was := seen[k]
		if !was {
			seen[k] = len(before)
			return nil
		}
		return before[i].(map[string]any)
	}
	for _, e := range before {
		if other, ok := a.Identity(e.(map[string]any)); ok && other == k {
			return e.(map[string]any)
		}
	}
	return nil
}

// Bind fits a value of a to its definition; see [ResourceType.Bind]. The result
// is nil when the value means "unset", a []any for a multi-valued attribute,
// and otherwise a single value; it shares no memory with v. Errors are
// *[ValueError].
func (a *Attribute) Bind(v any, mode Mode) (any, error) {
	b, err := a.bind(v, binding{mode: mode})
	return b, err.under(a.Path)
}

// BindElement fits one value of a multi-valued attribute; see [Attribute.Bind].
func (a *Attribute) BindElement(v any, mode Mode) (any, error) {
	b, err := a.bindOne(v, binding{mode: mode})
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

func (a *Attribute) bind(v any, how binding) (any, *ValueError) {
	if v == nil {
		return nil, nil
	}
	list, isList := v.([]any)
	if !a.MultiValued {
		if isList {
			if len(list) == 0 {
				return nil, nil
			}
			if len(list) != 1 || how.mode == Strict {
				return nil, a.wrong(", not a list")
			}
			v = list[0]
		}
		return a.bindOne(v, how)
	}
	if !isList {
		if how.mode == Strict {
			return nil, &ValueError{Msg: "expected a list"}
		}
		if s, ok := v.(string); ok && s == "" {
			return nil, nil
		}
		list = []any{v}
	}
	out := list[:0]
	if !how.own {
		out = make([]any, 0, len(list))
	}
	for i, e := range list {
		b, err := a.bindOne(e, how)
		if err != nil {
			err.Path = "[" + strconv.Itoa(i) + "]" + err.Path
			return nil, err
		}
		switch {
		case b != nil:
			out = append(out, b)
		case e != nil && a.Detached: // a list of members who are nobody must not read as an empty one
			return nil, &ValueError{Path: "[" + strconv.Itoa(i) + "].value", Msg: "is required"}
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

func (a *Attribute) bindOne(v any, how binding) (any, *ValueError) {
	if v == nil {
		return nil, nil
	}
	switch {
	case how.mode == Lenient && a.clears(v):
		return nil, nil
	case v == "":
		return nil, &ValueError{Msg: "expected a value, or null to clear it"}
	}
	switch a.Type {
	case Complex:
		return a.bindComplex(v, how)
	case Boolean:
		return a.bindBoolean(v, how.mode)
	case Integer, Decimal:
		return a.bindNumber(v, how.mode)
	}
	s, ok := v.(string)
	if ok {
		switch a.Type {
		case String:
			if a.Uniqueness != UniquenessNone && !visible(s) {
				return nil, &ValueError{Msg: "expected no control characters and none that cannot be seen"}
			}
		case DateTime:
			_, ok = ParseTime(s)
		case Binary:
			ok = isBase64(s)
		case Reference:
			ok = !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
			if ok && how.mode == Strict {
				_, err := url.Parse(s)
				ok = err == nil
			}
		}
	}
	if !ok {
		return nil, a.wrong("")
	}
	return v, nil
}

// visible reports whether all characters of a name between its ends can be seen: none is a control
// character or one that Unicode wants ignored where it is not known
// (Default_Ignorable_Code_Point), which PRECIS keeps out of user names as well (RFC 8264 §9).
func visible(name string) bool {
	return Plain(name) || !strings.ContainsFunc(strings.TrimSpace(name), func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) ||
			unicode.Is(unicode.Cf, r) && !unicode.Is(unicode.Prepended_Concatenation_Mark, r)
	})
}

func (a *Attribute) bindBoolean(v any, mode Mode) (any, *ValueError) {
	switch b := v.(type) {
	case bool:
		return v, nil
	case string:
		if mode == Lenient { // Entra quotes them
			if equalNames(b, "true") {
				return true, nil
			}
			if equalNames(b, "false") {
				return false, nil
			}
		}
	}
	return nil, a.wrong("")
}

func (a *Attribute) bindNumber(v any, mode Mode) (any, *ValueError) {
	switch n := v.(type) {
	case json.Number:
		if b, ok := a.number(string(n)); ok {
			return b, nil
		}
	case string:
		// strconv knows more spellings than JSON: "0x1p4", "inf", "1_000".
		if mode == Lenient && strings.Trim(n, "+-.0123456789Ee") == "" {
			if b, ok := a.number(n); ok {
				return b, nil
			}
		}
	case int64:
		if a.Type == Integer {
			return n, nil
		}
		return float64(n), nil
	case float64:
		if a.Type == Decimal && !math.IsInf(n, 0) && !math.IsNaN(n) {
			return n, nil
		}
		if i := int64(n); float64(i) == n && math.Abs(n) < 1<<63 {
			return i, nil
		}
	}
	return nil, a.wrong("")
}

// number reads text as an int64 or a float64, as the type of a says.
func (a *Attribute) number(text string) (any, bool) {
	if a.Type == Integer {
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// isBase64 reports whether s is base64 (RFC 4648 §4). Padding may be left out
// (RFC 7643 §2.3.6).
func isBase64(s string) bool {
	data := strings.TrimRight(s, "=")
	for i := range len(data) {
		c := data[i]
		if letter := lower(c); (letter < 'a' || 'z' < letter) && (c < '0' || '9' < c) && c != '+' && c != '/' {
			return false
		}
	}
	if len(data) == len(s) {
		return len(s)%4 != 1
	}
	return len(s)%4 == 0 && len(s)-len(data) <= 2
}

func (a *Attribute) bindComplex(v any, how binding) (any, *ValueError) {
	raw, ok := v.(map[string]any)
	if !ok {
		// A bare value stands for the value sub-attribute: Entra sends the
		// manager so.
		if _, isList := v.([]any); how.mode == Strict || isList || a.Sub("value") == nil {
			return nil, a.wrong("")
		}
		raw = map[string]any{"value": v}
	}
	out := raw
	if !how.own || !a.spelt(raw) {
		out = make(map[string]any, min(len(raw), len(a.SubAttributes)))
	}
	var bad *ValueError
	cleared := false
	for name, sv := range raw {
		cleared = cleared || a.isContent(name) && a.Sub(name).clears(sv)
		bad = first(bad, a.bindSub(out, name, sv, how))
	}
	if bad != nil {
		return nil, bad
	}
	if len(out) == 0 || cleared && how.mode == Lenient && a.clearable() && OnlyLabels(out) {
		return nil, nil
	}
	return out, nil
}

// clears reports whether lenient clients clear a with v. Templates make white space of what
// is unset, and where a URI belongs it can mean nothing else.
func (a *Attribute) clears(v any) bool {
	s, ok := v.(string)
	return ok && (s == "" || a.Type == Reference && strings.TrimSpace(s) == "")
}

// clearable reports whether an element is none that has "" for what it is about:
// {"type":"work","value":""}. With null it has its labels, as a strict client may mean.
// What is required is missed instead.
func (a *Attribute) clearable() bool {
	return a.MultiValued && !a.Detached && !slices.ContainsFunc(a.SubAttributes, func(s *Attribute) bool { return s.Required })
}

// isContent reports whether a sub-attribute of this name is what an element is about.
func (a *Attribute) isContent(name string) bool {
	s := a.Sub(name)
	return s != nil && s.Mutability != ReadOnly && !IsLabel(s.Name)
}

// IsLabel reports whether a sub-attribute of this name says something about an
// element of a list rather than being its content.
func IsLabel(name string) bool { return name == "type" || name == "primary" || name == "display" }

// OnlyLabels reports whether an element has no content.
func OnlyLabels(m map[string]any) bool {
	for name := range m {
		if !IsLabel(name) {
			return false
		}
	}
	return true
}

// spelt reports whether all names of an object are sub-attributes in the schema's
// spelling, and none of them is read-only.
func (a *Attribute) spelt(m map[string]any) bool {
	for name := range m {
		if s := a.Sub(name); s == nil || s.Name != name || s.Mutability == ReadOnly {
			return false
		}
	}
	return true
}

// bindSub puts what an object gives for name into out.
func (a *Attribute) bindSub(out map[string]any, name string, v any, how binding) *ValueError {
	s := a.Sub(name)
	switch {
	case s == nil && how.mode == Strict:
		return &ValueError{Kind: InvalidSyntax, Msg: "has a sub-attribute that the schema does not define", Unknown: Legible(name)}
	case s == nil || s.Mutability == ReadOnly:
		return nil
	}
	bound, err := s.bind(v, how)
	if err != nil {
		err.Path = a.separator() + s.Name + err.Path
		return err
	}
	if bound != nil {
		out[s.Name] = bound
	} else {
		delete(out, s.Name) // out may be where v comes from
	}
	return nil
}
