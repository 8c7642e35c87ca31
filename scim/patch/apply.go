package patch

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
)

// Result is what a PATCH makes of a resource: the new tree, and the changes to
// members, which are rows of their own, in the order of the operations.
type Result struct {
	Attributes map[string]any
	Members    []MemberChange
}

// Apply applies the operations, in order, to the attributes of a stored
// resource and returns the outcome; the first operation that cannot be applied
// is the error, an *[Error], and nothing has happened. attrs is not changed and
// shares no memory with the result. A password that was set is in the result
// under its name: the caller takes it out.
func Apply(rt *schemas.ResourceType, attrs map[string]any, ops []Operation, mode schemas.Mode) (Result, error) {
	e := &edit{rt: rt, mode: mode, attrs: clone(attrs).(map[string]any)}
	for i, o := range ops {
		e.index, e.op = i, o.Op
		if err := e.apply(o); err != nil {
			return Result{}, err
		}
	}
	if err := rt.Finish(e.attrs, attrs, mode); err != nil {
		return Result{}, e.unfinished(err)
	}
	return Result{Attributes: e.attrs, Members: e.members}, nil
}

// edit is a PATCH on its way.
type edit struct {
	rt      *schemas.ResourceType
	mode    schemas.Mode
	attrs   map[string]any // a copy of its own
	members []MemberChange

	index    int // of the current operation
	op       Op
	pathless bool // the current operation names its paths in the keys of its value

	touched []touch
	refs    []*schemas.Attribute // the $ref sub-attributes that were written
}

// touch remembers which operation wrote an attribute.
type touch struct {
	attr  *schemas.Attribute
	index int
}

func (e *edit) strict() bool { return e.mode == schemas.Strict }

func (e *edit) apply(o Operation) error {
	e.pathless = o.Path == ""
	o.Path = e.partOfName(o.Path)
	switch {
	case o.Op > Remove:
		return e.fail(InvalidSyntax, "", "expected add, replace or remove")
	case o.Path != "":
		if e.isCore(o.Path) && o.Op != Remove {
			return e.applyKeys(e.rt.Schema.ID+":", o.Value)
		}
		return e.applyPath(o.Path, o.Value)
	case o.Op == Remove:
		return e.fail(NoTarget, "", "a remove needs a path") // §3.5.2.2
	}
	return e.applyKeys("", o.Value)
}

// applyKeys applies an operation without a path, or one on a whole extension:
// every key of the value is a path, in Strict mode a name. A wider path comes
// before the narrower ones that it is a prefix of, whatever order the client wrote
// them in.
func (e *edit) applyKeys(prefix string, value any) error {
	obj, ok := e.one(value).(map[string]any)
	if !ok {
		return e.fail(InvalidValue, strings.TrimSuffix(prefix, ":"), "expected an object of attributes and their values")
	}
	for _, key := range sortedKeys(obj) {
		var err error
		a, path := e.named(prefix+key), prefix+key
		if a == nil && prefix == "" && !e.strict() {
			if a = e.rt.Former(key); a != nil {
				path = a.Name
			}
		}
		switch {
		case a == nil && prefix == "" && e.isCore(key):
			err = e.applyKeys(e.rt.Schema.ID+":", obj[key])
		case a == nil && e.strict():
			err = e.fail(InvalidPath, attributeName(key), "is not an attribute of %s", e.rt.Name)
		case e.strict() && !e.isName(prefix, key):
			err = &Error{Index: e.index, Path: attributeName(prefix + key), Kind: InvalidPath, part: "value",
				Msg: "a key of a value is a name, not a path"}
		case a == nil: // unknown attributes are ignored
		case readOnly(a) && !e.strict(): // clients send back what they have read
		default:
			err = e.applyPath(path, obj[key])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isName reports whether a key of a value without a path is what a resource has
// for a key (§3.5.2.1), and no path: below an extension's URN the name of one of
// its attributes, else that of a core attribute or an extension's URN.
func (e *edit) isName(prefix, key string) bool {
	if prefix == "" {
		return e.rt.Top(key) != nil
	}
	a := e.rt.Top(strings.TrimSuffix(prefix, ":"))
	return a != nil && a.Sub(key) != nil
}

// named returns the attribute that a path is about, or nil when the schema has
// none of that name. It does not look between brackets.
func (e *edit) named(path string) *schemas.Attribute {
	i := strings.IndexByte(path, '[')
	if i < 0 {
		return e.rt.Lookup(path)
	}
	a := e.rt.Lookup(path[:i])
	if sub, ok := strings.CutPrefix(path[strings.LastIndexByte(path, ']')+1:], "."); ok && a != nil {
		return a.Sub(sub)
	}
	return a
}

// target is where a path leads: to an attribute, or into the elements of one.
type target struct {
	attr   *schemas.Attribute
	filter filter.Expr        // selects elements; nil selects all
	sub    *schemas.Attribute // what of each element; nil for the element itself
}

func (e *edit) resolve(path string) (target, error) {
	p, err := filter.ParsePath(path, e.rt, filter.DefaultLimits)
	if err != nil {
		var ok bool
		if p, ok = e.manyMembers(path); !ok {
			return target{}, e.badPath(path, err)
		}
	}
	t := target{p.Attr, p.Filter, p.Sub}
	if t.filter == nil && t.sub == nil && t.attr.Parent != nil && t.attr.Parent.MultiValued {
		t.attr, t.sub = t.attr.Parent, t.attr // "emails.value"
	}
	if t.filter != nil && !t.attr.MultiValued && e.strict() {
		return target{}, e.fail(InvalidPath, t.attr.Path, "has one value; a filter selects among several")
	}
	return t, nil
}

func (t target) leaf() *schemas.Attribute {
	if t.sub != nil {
		return t.sub
	}
	return t.attr
}

// selects reports whether the path means this element.
func (t target) selects(element any) bool {
	m, _ := element.(map[string]any)
	return t.filter == nil || t.filter.Match(m)
}

func (e *edit) applyPath(path string, value any) error {
	t, err := e.resolve(path)
	if err != nil {
		return err
	}
	top := t.attr.Top()
	if t.leaf().Type == schemas.Complex {
		value = unquoted(value, e.mode)
	}
	switch {
	case top.Name == "schemas":
		return e.checkSchemas(value)
	case readOnly(t.leaf()):
		if e.ignored(top, value) {
			return nil
		}
		return e.fail(Mutability, t.leaf().Path, "is read-only")
	case top.Detached:
		return e.changeMembers(t, value)
	case t.attr.Extension && e.op != Remove && !e.unset(value):
		return e.applyKeys(t.attr.Name+":", value)
	case t.filter == nil && t.sub == nil:
		return e.within(t.attr, func(m map[string]any) error { return e.write(m, t.attr, value) })
	}
	return e.within(t.attr, func(m map[string]any) error { return e.writeElements(m, t, value) })
}

// checkSchemas looks at a value for schemas. It is never stored: schemas follow
// from the content.
func (e *edit) checkSchemas(value any) error {
	if e.op == Remove {
		return e.fail(Mutability, "schemas", "is required")
	}
	if !e.strict() {
		return nil
	}
	uris, ok := value.([]any)
	if !ok {
		return e.fail(InvalidValue, "schemas", "expected a list of schema URIs")
	}
	for _, u := range uris {
		s, ok := u.(string)
		if a := e.rt.Lookup(s); !ok || !strings.EqualFold(s, e.rt.Schema.ID) && (a == nil || !a.Extension) {
			return e.fail(InvalidValue, "schemas", "expected schema URIs of %s", e.rt.Name)
		}
	}
	return nil
}

// within calls write with the map that holds a, as a copy where it is not the
// resource itself. Parents that were missing are made, those left empty go.
func (e *edit) within(a *schemas.Attribute, write func(map[string]any) error) error {
	if a.Parent == nil {
		return write(e.attrs)
	}
	return e.within(a.Parent, func(m map[string]any) error {
		child := copyOf(m[a.Parent.Name])
		if err := write(child); err != nil {
			return err
		}
		return e.assign(m, a.Parent, orNil(child))
	})
}

// write applies the operation to a as a whole: a single value, the
// sub-attributes of a complex one, or a list.
func (e *edit) write(m map[string]any, a *schemas.Attribute, value any) error {
	if a.MultiValued {
		return e.writeList(m, a, value)
	}
	value = e.single(a, value)
	if e.op == Remove || e.unset(value) {
		return e.assign(m, a, nil)
	}
	if a.Type != schemas.Complex {
		bound, err := a.Bind(value, e.mode)
		if err != nil {
			return e.badValue(err)
		}
		return e.assign(m, a, bound)
	}
	obj, err := e.object(a, value)
	if err != nil {
		return err
	}
	next := copyOf(m[a.Name])
	if err := e.merge(next, a, obj); err != nil {
		return err
	}
	return e.assign(m, a, orNil(next))
}

// merge writes the sub-attributes given in obj and leaves the others alone
// (§3.5.2.1, §3.5.2.3); null takes one away. As in POST and PUT, readOnly ones
// may be there and are ignored.
func (e *edit) merge(m map[string]any, a *schemas.Attribute, obj map[string]any) error {
	for _, key := range sortedKeys(obj) {
		s := a.Sub(key)
		switch {
		case s == nil && e.strict():
			return &Error{Index: e.index, Path: a.Path, Kind: InvalidSyntax, Msg: "has a sub-attribute that the schema does not define", Unknown: schemas.Legible(key)}
		case s == nil || s.Mutability == schemas.ReadOnly:
			continue
		}
		if err := e.write(m, s, obj[key]); err != nil {
			return err
		}
	}
	return nil
}

// writeList applies the operation to a multi-valued attribute without a filter.
func (e *edit) writeList(m map[string]any, a *schemas.Attribute, value any) error {
	if e.op == Remove {
		if e.unset(value) && !isList(value) {
			return e.assign(m, a, nil)
		}
		return e.removeListed(m, a, value)
	}
	bound, err := a.Bind(e.added(value), e.mode)
	if err != nil {
		return e.badValue(err)
	}
	if err := e.misnamed(a, value); err != nil {
		return err
	}
	if e.op == Replace {
		return e.assign(m, a, bound)
	}
	fresh, _ := bound.([]any)
	if len(fresh) == 0 {
		return nil
	}
	list, err := e.insert(a, listOf(m, a), fresh)
	if err != nil {
		return err
	}
	return e.assign(m, a, list)
}

// added is the list that is meant by the value for one: an add with a path may bring a
// single value (§3.5.2.1).
func (e *edit) added(value any) any {
	if e.op == Add && !e.pathless && !e.unset(value) && !isList(value) {
		return []any{value}
	}
	return value
}

// insert appends elements to list, which it may change. One that is there
// already is merged into what is there (§3.5.2.1: no duplicates).
func (e *edit) insert(a *schemas.Attribute, list, fresh []any) ([]any, error) {
	at := make(map[any]int, len(list)+len(fresh))
	was := make([]bool, len(list), len(list)+len(fresh)) // primary before
	for i, v := range list {
		at[identity(a, v)], was[i] = i, isPrimary(v)
	}
	set := make([]bool, len(list), len(list)+len(fresh)) // primary by this request
	for _, v := range fresh {
		id := identity(a, v)
		i, known := at[id]
		if !known {
			at[id] = len(list)
			list, was, set = append(list, v), append(was, false), append(set, isPrimary(v))
			continue
		}
		set[i] = set[i] || isPrimary(v)
		if m, ok := v.(map[string]any); ok {
			merged := copyOf(list[i])
			for _, s := range a.SubAttributes {
				if sv, ok := m[s.Name]; ok {
					if err := e.assign(merged, s, sv); err != nil {
						return nil, err
					}
				}
			}
			list[i] = merged
		}
	}
	if !e.strict() {
		newest(was, set)
	}
	demote(a, list, set)
	return list, nil
}

// newest takes the one that is primary already out of those that a request makes
// primary, if there is another: a client that repeats what it knows of a list
// means the one it adds.
func newest(was, set []bool) {
	another := false
	for i := range set {
		another = another || set[i] && !was[i]
	}
	for i := range set {
		set[i] = set[i] && (!another || !was[i])
	}
}

// identity returns what makes an element one of its own, in a form that can be compared: type
// and value, or, where there is no value, all of its sub-attributes.
func identity(a *schemas.Attribute, v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return string(appendKey(nil, a, v))
	}
	if id, ok := a.Identity(m); ok {
		return id
	}
	var b []byte
	for _, s := range a.SubAttributes {
		if sv, ok := m[s.Name]; ok {
			b = appendKey(schemas.AppendString(b, s.Name), s, sv)
		}
	}
	return string(b)
}

// appendKey appends the form in which a simple value of a is compared.
func appendKey(b []byte, a *schemas.Attribute, v any) []byte {
	switch v := v.(type) {
	case string:
		return schemas.AppendString(b, a.Key(v))
	case bool:
		return strconv.AppendBool(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		return schemas.AppendFloat(b, v)
	case []any:
		for _, e := range v {
			b = append(appendKey(b, a, e), ',')
		}
	}
	return append(b, ';')
}

// demote takes primary from the other elements when one of those that a request
// wrote has it (§3.5.2: the server sets the others to false).
func demote(a *schemas.Attribute, list []any, written []bool) {
	if a.Sub("primary") == nil {
		return
	}
	won := false
	for i, v := range list {
		won = won || written[i] && isPrimary(v)
	}
	for i, v := range list {
		if won && !written[i] && isPrimary(v) {
			m := copyOf(v)
			m["primary"] = false
			list[i] = m
		}
	}
}

func isPrimary(v any) bool {
	m, _ := v.(map[string]any)
	p, _ := m["primary"].(bool)
	return p
}

// writeElements applies the operation to the elements a path selects, or to one
// sub-attribute of each.
func (e *edit) writeElements(m map[string]any, t target, value any) error {
	if e.op == Add && t.filter == nil && t.sub.Name == "value" && !t.sub.MultiValued {
		return e.addValues(m, t, value)
	}
	list := listOf(m, t.attr)
	var hits []int
	for i, v := range list {
		if t.selects(v) {
			hits = append(hits, i)
		}
	}
	if len(hits) == 0 && t.filter != nil && e.strict() {
		return e.fail(NoTarget, t.attr.Path, "no value matches the filter")
	}
	if t.sub == nil || !t.sub.MultiValued {
		value = e.single(t.leaf(), value)
	}
	err := e.misnamed(t.leaf(), value)
	if err != nil {
		return err
	}
	switch {
	case e.op == Remove, e.op == Replace && e.unset(value), e.unset(value) && t.sub != nil && !t.sub.MultiValued:
		list, err = e.clear(t, list, hits)
	case e.unset(value):
		return nil // an add of nothing
	case len(hits) == 0:
		list, err = e.create(t, list, value)
	default:
		list, err = e.update(t, list, hits, value)
	}
	if err != nil {
		return err
	}
	return e.store(m, t.attr, list)
}

// store puts the elements back where listOf found them.
func (e *edit) store(m map[string]any, a *schemas.Attribute, list []any) error {
	switch {
	case len(list) == 0:
		return e.assign(m, a, nil)
	case !a.MultiValued:
		return e.assign(m, a, list[0])
	}
	return e.assign(m, a, list)
}

// clear removes the selected elements or the sub-attribute of each. Unless the client is a
// strict one (§3.5.2.2 speaks of the sub-attribute alone), an element
// that lost what it was about goes with it: what is left of
// {"type":"work","value":…} without its value says nothing.
func (e *edit) clear(t target, list []any, hits []int) ([]any, error) {
	for _, i := range hits {
		if t.sub == nil {
			list[i] = nil
			continue
		}
		m := copyOf(list[i])
		_, had := m[t.sub.Name]
		if err := e.assign(m, t.sub, nil); err != nil {
			return nil, err
		}
		if list[i] = m; len(m) == 0 || had && !e.strict() && schemas.OnlyLabels(m) && !schemas.IsLabel(t.sub.Name) {
			list[i] = nil
		}
	}
	return slices.DeleteFunc(list, func(v any) bool { return v == nil }), nil
}

// update writes to each of the selected elements. An add merges into the
// element, a replace takes its place (§3.5.2.3: "all matching record values
// SHALL be replaced").
func (e *edit) update(t target, list []any, hits []int, value any) ([]any, error) {
	written := make([]bool, len(list))
	for _, i := range hits {
		v, err := e.updated(t, list[i], value)
		if err != nil {
			return nil, err
		}
		list[i], written[i] = v, true
	}
	demote(t.attr, list, written)
	return slices.DeleteFunc(list, func(v any) bool { return v == nil }), nil
}

func (e *edit) updated(t target, element, value any) (any, error) {
	next := copyOf(element)
	if t.sub != nil {
		err := e.write(next, t.sub, value)
		return orNil(next), err
	}
	obj, err := e.object(t.attr, value)
	if err != nil {
		return nil, err
	}
	if e.op == Replace {
		return e.replaced(t, next, obj)
	}
	err = e.merge(next, t.attr, obj)
	return orNil(next), err
}

// addValues is an add to "emails.value": each value is one more element, unless
// some element has it already.
func (e *edit) addValues(m map[string]any, t target, value any) error {
	list := listOf(m, t.attr)
	known := make(map[string]bool, len(list))
	for _, v := range list {
		element, _ := v.(map[string]any)
		known[string(appendKey(nil, t.sub, element["value"]))] = true
	}
	var fresh []any
	for _, raw := range e.each(value) {
		bound, err := t.sub.Bind(raw, e.mode)
		if err != nil {
			return e.badValue(err)
		}
		if key := string(appendKey(nil, t.sub, bound)); bound != nil && !known[key] {
			known[key] = true
			fresh = append(fresh, map[string]any{"value": bound})
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return e.assign(m, t.attr, append(list, fresh...))
}

// create adds the element that a path speaks of and that is not there. What the
// filter says of it is true of the new one: type eq "work" makes a work address,
// and the next operation with the same filter finds it.
// A filter that is more than equalities does not say what to make.
func (e *edit) create(t target, list []any, value any) ([]any, error) {
	element, ok := map[string]any{}, true
	if t.filter != nil {
		element, ok = e.seed(t)
	}
	if !ok || !t.attr.MultiValued && len(list) > 0 {
		return nil, e.fail(NoTarget, t.attr.Path, "no value matches the filter")
	}
	before := len(element)
	if t.sub != nil {
		if err := e.write(element, t.sub, value); err != nil {
			return nil, err
		}
	} else {
		obj, err := e.object(t.attr, value)
		if err != nil {
			return nil, err
		}
		if err := e.merge(element, t.attr, obj); err != nil {
			return nil, err
		}
	}
	if len(element) <= before && schemas.OnlyLabels(element) {
		return list, nil // the value says nothing that the filter did not
	}
	return e.insert(t.attr, list, []any{element})
}

// replaced returns the element that takes the place of old. What no client may
// change stays; in Lenient mode so do the equalities of the filter that the
// value does not contradict, so that {"value":…} for emails[type eq "work"] is
// still the work address and repeating the operation changes nothing.
func (e *edit) replaced(t target, old, obj map[string]any) (any, error) {
	next := map[string]any{}
	if !e.strict() {
		next, _ = e.seed(t)
	}
	before := len(next)
	if err := e.merge(next, t.attr, obj); err != nil {
		return nil, err
	}
	if len(next) <= before && schemas.OnlyLabels(next) {
		return nil, nil // the value says nothing that the filter did not
	}
	for _, s := range t.attr.SubAttributes {
		was, had := old[s.Name]
		switch is, has := next[s.Name]; {
		case !had:
		case s.Mutability == schemas.ReadOnly, s.Mutability == schemas.Immutable && !has:
			next[s.Name] = was
		case s.Mutability == schemas.Immutable && !equal(was, is):
			return nil, e.fail(Mutability, s.Path, "is immutable and already has a value")
		}
	}
	return next, nil
}

// assign sets a in m, or takes it away when next is nil. Every write to a tree
// passes here, so this is where mutability and required are kept.
func (e *edit) assign(m map[string]any, a *schemas.Attribute, next any) error {
	old, had := m[a.Name]
	if next == nil && !had && (a.Kept() || !a.Required) {
		return nil
	}
	if had && equal(old, next) { // §3.5.2.1: no change should be made
		e.keepRef(m, a, old, next)
		return nil
	}
	if a.Mutability == schemas.Immutable && had {
		return e.fail(Mutability, a.Path, "is immutable and already has a value")
	}
	if next == nil && a.Extension { // its attributes are those of the resource
		was, _ := old.(map[string]any)
		for _, s := range a.SubAttributes {
			if was[s.Name] != nil && s.Mutability == schemas.Immutable {
				return e.fail(Mutability, s.Path, "is immutable and already has a value")
			}
		}
	}
	if next == nil && a.Required {
		if e.op == Remove {
			return e.fail(Mutability, a.Path, "is required") // §3.5.2.2
		}
		return e.fail(InvalidValue, a.Path, "is required") // §3.12: a required value was missing
	}
	e.touched = append(e.touched, touch{a.Top(), e.index})
	if next == nil {
		delete(m, a.Name)
	} else {
		m[a.Name] = next
	}
	e.keepRef(m, a, old, next)
	return nil
}

// keepRef drops a $ref that was for another value, unless this request writes
// the $ref as well.
func (e *edit) keepRef(m map[string]any, a *schemas.Attribute, old, next any) {
	if a.Parent == nil {
		return
	}
	ref := a.Parent.Sub("$ref")
	switch {
	case ref == nil || ref.Mutability != schemas.ReadWrite:
	case a == ref && next != nil:
		e.refs = append(e.refs, ref)
	case a.Name == "value" && !equal(old, next) && !slices.Contains(e.refs, ref):
		delete(m, ref.Name)
	}
}

// readOnly reports whether a, or something it is part of, is read-only.
func readOnly(a *schemas.Attribute) bool {
	for ; a != nil; a = a.Parent {
		if a.Mutability == schemas.ReadOnly {
			return true
		}
	}
	return false
}

// listOf returns the elements of a as a slice of their own; a single value is a
// list of one.
func listOf(m map[string]any, a *schemas.Attribute) []any {
	switch v := m[a.Name].(type) {
	case nil:
		return nil
	case []any:
		return slices.Clone(v)
	default:
		return []any{v}
	}
}

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

// copyOf returns a copy of the object v, or a new one when v is none.
func copyOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	if m == nil {
		return map[string]any{}
	}
	return maps.Clone(m)
}

// orNil returns m as a value, where an object without content is none.
func orNil(m map[string]any) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

func sortedKeys(m map[string]any) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
	})
}

// equal compares values of an attribute.
func equal(x, y any) bool {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		return ok && maps.EqualFunc(x, y, equal)
	case []any:
		y, ok := y.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	}
	return x == y
}

// clone copies a tree.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := copyOf(v)
		for k, e := range v {
			switch e.(type) {
			case map[string]any, []any:
				m[k] = clone(e)
			}
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = clone(e)
		}
		return l
	}
	return v
}
