package scim

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// The members of a group: what a change of them means for those who come and go, and how
// it is written.

// changeMembers does one change of members and returns how many rows it touched.
func (u *update) changeMembers(tx storage.Tx, c patch.MemberChange) (int, error) {
	members, err := membersOf(c.Members)
	if err != nil {
		return 0, err
	}
	all, sent := members, members
	var waits []awaited
	if u.late != nil {
		members, waits, all = u.late.members(members)
	}
	if c.Kind == patch.AddMembers || c.Kind == patch.ReplaceMembers {
		if err := u.noCycle(tx, all); err != nil {
			return 0, err
		}
	}
	ids := storage.MemberIDs(members)
	carried, err := u.d.carried(u.prev.ID, func() ([]string, error) { return u.ancestors(tx) })
	if err != nil {
		return 0, err
	}
	if c.Kind == patch.RemoveMembers {
		n, err := u.remove(tx, members, carried)
		if err == nil && (n < len(sent) || u.late != nil) {
			err = u.changeWaiting(tx, c, sent, waits, carried)
		}
		return n, err
	}
	if err := u.changeWaiting(tx, c, sent, waits, carried); err != nil {
		return 0, err
	}
	switch c.Kind {
	case patch.AddMembers:
		n, err := u.each(members, func(portion []storage.Member) (int, error) { return tx.AddMembers(u.prev, portion) },
			func(id string) { u.d.joins(id, carried) }, carried)
		return u.moved(true, ids, n, memberError(u.late.overtaken(err)))
	case patch.ReplaceMembers:
		if err := u.replaced(tx, members, carried); err != nil {
			return 0, err
		}
		before, few, err := membersBefore(tx, u.prev)
		if err != nil {
			return 0, err
		}
		n, err := tx.SetMembers(u.prev, members)
		if err == nil && n > 0 {
			u.values.set(before, few, ids, n)
		}
		return n, memberError(u.late.overtaken(err))
	}
	gone, err := u.selected(tx, c)
	if err != nil {
		return 0, err
	}
	return u.remove(tx, gone, carried)
}

// maxLookedAt is how many members the filters of one request are compared with in
// the write, where everybody else waits for it.
const maxLookedAt = 50_000

// selected returns the members of the group that a filter matches. Only the one that
// it names, if it does, is looked at.
func (u *update) selected(tx storage.Tx, c patch.MemberChange) (list []storage.Member, err error) {
	match := func(m storage.Member) error {
		if u.looked++; u.looked > maxLookedAt {
			return &Error{Status: 400, Type: TooMany, Detail: fmt.Sprintf(
				"Operations[%d]: members: the filters of a request are compared with at most %d members: name those to remove by value", c.Operation, maxLookedAt)}
		}
		if c.Where.Match(map[string]any{"value": m.Value, "type": m.Type, "display": m.Display}) {
			list = append(list, storage.Member{Value: m.Value})
		}
		return nil
	}
	if id, ok := filter.Named(c.Where, "members.value"); ok {
		named, err := tx.MembersAmong(u.prev, []string{fmt.Sprint(id)})
		for _, m := range named {
			err = errors.Join(err, match(m))
		}
		return list, err
	}
	err = tx.EachMember(u.prev, match)
	return list, err
}

// moved notes the members that came or went, if there are any.
func (u *update) moved(came bool, ids []string, n int, err error) (int, error) {
	if err == nil && n > 0 {
		u.values.members(came, ids, n)
	}
	return n, err
}

// remove takes members out of the group.
func (u *update) remove(tx storage.Tx, members []storage.Member, carried []*auth.Role) (int, error) {
	n, err := u.each(members, func(portion []storage.Member) (int, error) {
		return tx.RemoveMembers(u.prev, storage.MemberIDs(portion))
	}, func(id string) { u.d.leaves(id, carried) }, carried)
	return u.moved(false, storage.MemberIDs(members), n, err)
}

// each does something to members, to those with an administrative role one at a time:
// whether it changes anything for them matters. noted is told of those for whom it
// does; where the group carries roles, of one at least.
func (u *update) each(members []storage.Member, do func([]storage.Member) (int, error), noted func(string), carried []*auth.Role) (int, error) {
	rest := members
	total := 0
	if slices.ContainsFunc(members, func(m storage.Member) bool { return u.d.standing.Watches(m.Value) }) {
		rest = nil
		for i, m := range members {
			if !u.d.standing.Watches(m.Value) {
				rest = append(rest, m)
				continue
			}
			n, err := do(members[i : i+1])
			if err != nil {
				return total, at(err, i)
			}
			if n > 0 {
				noted(m.Value)
			}
			total += n
		}
	}
	if len(rest) == 0 {
		return total, nil
	}
	n, err := do(rest)
	if n > 0 && len(carried) > 0 {
		noted(rest[0].Value)
	}
	return total + n, err
}

// at puts the place in the whole list into an error about a list of one.
func at(err error, i int) error {
	if e, ok := errors.AsType[*storage.UnknownMemberError](err); ok {
		return &storage.UnknownMemberError{Index: i + e.Index}
	}
	return err
}

// replaced notes who joins and who leaves when members are put in the place of those
// there are. Nobody is looked at unless somebody with an administrative role is, or
// comes, or the group carries roles.
func (u *update) replaced(tx storage.Tx, members []storage.Member, carried []*auth.Role) error {
	coming := make(map[string]bool, len(members))
	privileged := false
	for _, m := range members {
		coming[m.Value] = true
		privileged = privileged || u.d.standing.Watches(m.Value)
	}
	if !privileged && len(carried) == 0 && !u.standing.Inside(u.prev.ID) {
		return nil
	}
	left := false
	err := tx.EachMember(u.prev, func(m storage.Member) error {
		switch {
		case coming[m.Value]:
			delete(coming, m.Value)
		case u.d.standing.Watches(m.Value):
			u.d.leaves(m.Value, carried)
		default:
			left = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if left {
		u.d.loses(carried)
	}
	for id := range coming {
		u.d.joins(id, nil)
	}
	if len(coming) > 0 {
		u.d.gains(carried)
	}
	return nil
}

// ancestors returns the groups that this one is in, directly or through others.
func (u *update) ancestors(tx storage.Tx) ([]string, error) {
	if err := u.lookAbove(tx); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(u.above)), nil
}

func (u *update) lookAbove(tx storage.Tx) error {
	if u.above != nil {
		return nil
	}
	ids, err := tx.Ancestors(u.prev)
	if err != nil {
		return err
	}
	u.above = make(map[string]bool, len(ids))
	for _, id := range ids {
		u.above[id] = true
	}
	return nil
}

// noCycle refuses members that contain the group they would be in. It looks at
// the groups above, of which there are few, and at no member of any. Changing
// the members of a group does not change what is above it, so one look does for
// all the operations of a PATCH.
func (u *update) noCycle(tx storage.Tx, members []storage.Member) error {
	if len(members) == 0 {
		return nil
	}
	if err := u.lookAbove(tx); err != nil {
		return err
	}
	for i, m := range members {
		switch {
		case m.Value == u.prev.ID:
			return &schemas.ValueError{Path: memberPath(i), Msg: "a group cannot be a member of itself"}
		case u.above[m.Value]:
			return &schemas.ValueError{Path: memberPath(i), Msg: "this group contains the one it would become a member of"}
		}
	}
	return nil
}

const memberPathFormat = "members[%d].value"

func memberPath(i int) string { return fmt.Sprintf(memberPathFormat, i) }

// memberError says which of the given members does not exist.
func memberError(err error) error {
	if e, ok := errors.AsType[*storage.UnknownMemberError](err); ok {
		return &schemas.ValueError{Path: memberPath(e.Index), Msg: "no user or group has this id"}
	}
	return err
}

// takeMembers takes the members out of a tree.
func takeMembers(attrs map[string]any) []map[string]any {
	list, _ := attrs["members"].([]any)
	delete(attrs, "members")
	elements := make([]map[string]any, len(list))
	for i, e := range list {
		elements[i] = e.(map[string]any)
	}
	return elements
}

func membersOf(elements []map[string]any) ([]storage.Member, error) {
	members := make([]storage.Member, len(elements))
	for i, e := range elements {
		m := &members[i]
		m.Value, _ = e["value"].(string)
		m.Display, _ = e["display"].(string)
		if m.Value == "" {
			return nil, &schemas.ValueError{Path: memberPath(i), Msg: "is required"}
		}
	}
	return members, nil
}
