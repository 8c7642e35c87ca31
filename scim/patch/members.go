package patch

import (
	"fmt"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
)

// MemberChangeKind is what happens to the members of a group.
type MemberChangeKind uint8

// The kinds of a MemberChange.
const (
	AddMembers     MemberChangeKind = iota // append those that are absent
	RemoveMembers                          // remove exactly those listed, by value
	RemoveWhere                            // remove those that Where matches
	ReplaceMembers                         // the list becomes the set; empty for none
)

var memberChangeNames = [...]string{"AddMembers", "RemoveMembers", "RemoveWhere", "ReplaceMembers"}

// String returns the name of the constant.
func (k MemberChangeKind) String() string { return memberChangeNames[k] }

// MemberChange is one change to the members of a group. Members are rows of
// their own and may be a million: an operation says what becomes of them
// without looking at any.
type MemberChange struct {
	Kind      MemberChangeKind
	Operation int              // that asks for it, counted from 0; -1 outside of a PATCH
	Members   []map[string]any // bound elements, each with a value
	Where     filter.Expr      // for RemoveWhere; matches one element by value, type and display
	Target    bool             // who goes is replaced: where nobody goes there is no target, for any client

	later []origin // operations that asked for the same, of more members
}

// origin is where in Members those of an operation begin.
type origin struct{ operation, first int }

// Origin returns the operation that Members[i] comes from, and its place there.
func (c MemberChange) Origin(i int) (operation, index int) {
	operation, index = c.Operation, i
	for _, o := range c.later {
		if i >= o.first {
			operation, index = o.operation, i-o.first
		}
	}
	return operation, index
}

// change records a change of members. What operations that follow one another put in, or take
// out, is one change: a thousand of them cost what one with a list does. A strict
// client is to learn which removal had no target.
func (e *edit) change(kind MemberChangeKind, members []map[string]any) {
	if n := len(e.members); n > 0 && e.members[n-1].Kind == kind && (kind == AddMembers || kind == RemoveMembers && !e.strict()) {
		last := &e.members[n-1]
		last.later = append(last.later, origin{e.index, len(last.Members)})
		last.Members = append(last.Members, members...)
		return
	}
	e.members = append(e.members, MemberChange{Kind: kind, Operation: e.index, Members: members})
}

// changeMembers turns an operation on a detached attribute into changes of its
// rows.
func (e *edit) changeMembers(t target, value any) error {
	switch {
	case t.sub != nil:
		return e.memberValues(t, value)
	case t.filter != nil:
		return e.filteredMembers(t, value)
	case e.op == Remove && value == nil:
		e.change(ReplaceMembers, nil)
		return nil
	case e.op == Remove && e.unset(value) && !isList(value):
		// What a client that filled in nothing sends, and all is too many.
		return e.fail(InvalidValue, t.attr.Path, "expected a list of members, or no value to remove all")
	case e.op == Remove && e.strict():
		// Whether this means all or these cannot be told, and all is too many.
		return e.fail(InvalidValue, t.attr.Path, "a remove takes no value; select with a filter")
	}
	list, err := e.bindMembers(t.attr, e.added(value))
	if err != nil {
		return err
	}
	e.changeListed(list)
	return nil
}

// changeListed records the current operation for the members it lists. Vendor
// rows E25 and O13 for add and replace, E26 for remove.
func (e *edit) changeListed(list []map[string]any) {
	switch {
	case e.op == Replace:
		e.change(ReplaceMembers, list)
	case len(list) == 0:
	case e.op == Add:
		e.change(AddMembers, list)
	default:
		e.change(RemoveMembers, list)
	}
}

// memberValues handles "members.value" and its neighbours. An add brings ids to
// append; everything else would change a member, and its parts are immutable.
func (e *edit) memberValues(t target, value any) error {
	if t.sub.Name != "value" || t.filter != nil || e.op == Replace || e.unset(value) || e.op == Remove && e.strict() {
		return e.fail(Mutability, t.sub.Path, "is immutable; remove the member and add another")
	}
	ids := e.each(value)
	list := make([]any, len(ids))
	for i, id := range ids {
		list[i] = map[string]any{"value": id}
	}
	members, err := e.bindMembers(t.attr, list)
	if err != nil {
		return err
	}
	e.changeListed(members)
	return nil
}

// filteredMembers handles "members[…]". A removal by id is one of listed
// members, which storage answers with a seek. Add and replace make the member
// that the filter names, as for any other attribute; whether it is one already
// is not known here, so in Strict mode an add has no target, and a replace is a
// removal, which finds out, and an add. So it is in any mode if the filter names nobody.
func (e *edit) filteredMembers(t target, value any) error {
	if a := addressed(t.filter); a != nil {
		return &Error{Index: e.index, Path: a.Path, Kind: InvalidFilter, Msg: "is made for each answer: compare " + t.attr.Path + ".value instead"}
	}
	value = e.one(value)
	if e.op == Remove || e.op == Replace && e.unset(value) {
		e.removeMatching(t)
		return nil
	}
	seed, ok := e.seed(t)
	named := ok && seed["value"] != nil
	switch {
	case e.op == Replace && (e.strict() || !named):
		return e.replaceMatching(t, value)
	case e.strict():
		return e.fail(NoTarget, t.attr.Path, "a filter selects members to replace or remove; add them without one")
	case !named:
		return e.fail(NoTarget, t.attr.Path, "the filter does not name a member; give members without a filter")
	}
	if e.unset(value) {
		return nil // an add of nothing
	}
	obj, err := e.object(t.attr, value)
	if err != nil {
		return err
	}
	member := map[string]any{}
	if e.op == Add {
		member = copyOf(seed)
	}
	if err := e.merge(member, t.attr, obj); err != nil {
		return err
	}
	for name, v := range seed {
		if _, ok := member[name]; !ok {
			member[name] = v
		}
	}
	if !equal(member["value"], seed["value"]) {
		e.change(RemoveMembers, []map[string]any{{"value": seed["value"]}})
	}
	e.change(AddMembers, []map[string]any{member})
	return nil
}

// replaceMatching puts a member in the place of those that the filter selects
// (§3.5.2.3).
func (e *edit) replaceMatching(t target, value any) error {
	obj, err := e.object(t.attr, value)
	if err != nil {
		return err
	}
	member := map[string]any{}
	if err := e.merge(member, t.attr, obj); err != nil {
		return err
	}
	if member["value"] == nil {
		return e.fail(InvalidValue, t.attr.Path, "a member needs a value")
	}
	gone := e.matching(t)
	gone.Target = true
	e.members = append(e.members, gone)
	e.change(AddMembers, []map[string]any{member})
	return nil
}

// removeMatching records the removal of the members that the filter selects.
func (e *edit) removeMatching(t target) {
	if c := e.matching(t); c.Kind == RemoveMembers {
		e.change(RemoveMembers, c.Members)
	} else {
		e.members = append(e.members, c)
	}
}

// matching is the removal of the members that the filter selects.
func (e *edit) matching(t target) MemberChange {
	if list, ok := memberIDs(t.filter, t.attr); ok {
		return MemberChange{Kind: RemoveMembers, Operation: e.index, Members: list}
	}
	return MemberChange{Kind: RemoveWhere, Operation: e.index, Where: t.filter}
}

// addressed returns the $ref that a filter looks at. The address of a member
// depends on how a request reached the server, and is not known here.
func addressed(f filter.Expr) *schemas.Attribute {
	first := func(terms []filter.Expr) *schemas.Attribute {
		for _, t := range terms {
			if a := addressed(t); a != nil {
				return a
			}
		}
		return nil
	}
	ref := func(a *schemas.Attribute) *schemas.Attribute {
		if a.Name == "$ref" {
			return a
		}
		return nil
	}
	switch f := f.(type) {
	case filter.And:
		return first(f)
	case filter.Or:
		return first(f)
	case filter.Not:
		return addressed(f.Expr)
	case filter.Present:
		return ref(f.Attr)
	case filter.Compare:
		return ref(f.Attr)
	}
	return nil
}

// memberIDs returns the members that a filter selects by id alone:
// value eq "a", or several of these joined by or.
func memberIDs(f filter.Expr, a *schemas.Attribute) ([]map[string]any, bool) {
	switch f := f.(type) {
	case filter.Or:
		var all []map[string]any
		for _, term := range f {
			list, ok := memberIDs(term, a)
			if !ok {
				return nil, false
			}
			all = append(all, list...)
		}
		return all, true
	case filter.Compare:
		if m := (map[string]any{}); f.Attr.Name == "value" && equalities(f, a, m) {
			return []map[string]any{m}, true
		}
	}
	return nil, false
}

// bindMembers fits each member to the schema. What storage needs is the value;
// $ref, type and display may be missing or null.
func (e *edit) bindMembers(a *schemas.Attribute, value any) ([]map[string]any, error) {
	if e.unset(value) {
		return nil, nil
	}
	list, ok := listed(value, e.mode)
	if !ok {
		return nil, e.fail(InvalidValue, a.Path, "expected a list")
	}
	members := make([]map[string]any, 0, len(list))
	for i, raw := range list {
		if raw == nil {
			continue
		}
		bound, err := a.BindElement(raw, e.mode)
		if err != nil {
			return nil, e.valueError(err, e.index, e.memberPart(a, i))
		}
		m, _ := bound.(map[string]any)
		if id, _ := m["value"].(string); id == "" {
			return nil, &Error{Index: e.index, Path: a.Path, Kind: InvalidValue, Msg: "a member needs a value", part: e.memberPart(a, i)}
		}
		members = append(members, m)
	}
	return members, nil
}

// memberPart is where in the operation the member stands.
func (e *edit) memberPart(a *schemas.Attribute, i int) string {
	if e.pathless {
		return fmt.Sprintf("value.%s[%d]", a.Name, i)
	}
	return fmt.Sprintf("value[%d]", i)
}
