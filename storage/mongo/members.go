package mongo

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/roster-id/roster/storage"
)

// inPortion is how many documents are asked for by their _ids at once, and how
// many members are read ahead.
const inPortion = 1000

// resourceInfo is what a membership needs to know of the resources at its ends.
type resourceInfo struct{ typ, name string }

// infos reads live users and groups by id.
func (s *Store) infos(ctx context.Context, tenant string, types any, ids []string) (map[string]resourceInfo, error) {
	found := make(map[string]resourceInfo, len(ids))
	for portion := range slices.Chunk(ids, inPortion+1) { // a portion of members, and their group
		err := s.each(ctx, resources, append(byIDs(tenant, prefixed(key(tenant, ""), portion)), bson.E{Key: fType, Value: types}), func(raw bson.Raw) error {
			found[text(raw, fResource)] = resourceInfo{text(raw, fType), text(raw, fName)}
			return nil
		}, look().fields(only(fResource, fType, fName)).batch(inPortion+2))
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// usersAndGroups is what a member can be, to select by.
var usersAndGroups = d("$in", memberTypes)

// portionOf reads up to n memberships of a group after a row, and who of the
// members is there. Without the group there are none.
func (s *Store) portionOf(ctx context.Context, tenant, group, after string, n int) (list []storage.Member, last string, err error) {
	err = s.each(ctx, rows, within(tenant, rowsOf(tenant, group), after), func(raw bson.Raw) error {
		list = append(list, memberOf(raw))
		last = text(raw, fID)
		return nil
	}, look().sort(d(fID, 1)).limit(int64(n)).batch(int32(n)+1).fields(only(fKind, fDisplay)))
	if err != nil {
		return nil, "", err
	}
	if len(list) < n {
		last = "" // there are no more
	}
	list, ok, err := s.shown(ctx, tenant, group, list)
	if err != nil || !ok {
		last = ""
	}
	return list, last, err
}

// memberOf reads a membership.
func memberOf(raw bson.Raw) storage.Member {
	return storage.Member{Value: text(raw, fKind), Display: text(raw, fDisplay)}
}

// shown completes memberships of a group with what is to be known of the members, and
// leaves out who is not there; all of them, and ok is false, without the group.
func (s *Store) shown(ctx context.Context, tenant, group string, list []storage.Member) (_ []storage.Member, ok bool, err error) {
	if len(list) == 0 {
		return nil, true, nil
	}
	info, err := s.infos(ctx, tenant, usersAndGroups, append(storage.MemberIDs(list), group))
	if err != nil || info[group].typ != groupType {
		return nil, false, err
	}
	list = slices.DeleteFunc(list, func(m storage.Member) bool { return info[m.Value].typ == "" })
	for i := range list {
		m := &list[i]
		m.Type = info[m.Value].typ
		m.Display = cmp.Or(m.Display, info[m.Value].name)
	}
	return list, true, nil
}

// among returns those of the ids that are direct members of a group.
func (s *Store) among(ctx context.Context, tenant, group string, ids []string) (list []storage.Member, err error) {
	err = s.each(ctx, rows, byIDs(tenant, prefixed(rowsOf(tenant, group), ids)), func(raw bson.Raw) error {
		list = append(list, memberOf(raw))
		return nil
	}, look().fields(only(fKind, fDisplay)).batch(inPortion+1))
	if err == nil {
		list, _, err = s.shown(ctx, tenant, group, list)
	}
	return list, err
}

// eachMember calls fn for the members of a group, reading ahead little at first.
func (s *Store) eachMember(ctx context.Context, tenant, group string, fn func(storage.Member) bool) error {
	after := ""
	for n := 100; ; n = inPortion {
		list, last, err := s.portionOf(ctx, tenant, group, after, n)
		if err != nil {
			return err
		}
		for _, m := range list {
			if !fn(m) {
				return nil
			}
		}
		if last == "" {
			return nil
		}
		after = last
	}
}

// Members implements storage.Memberships, in the order of the members' ids, which
// is that of their creation. Each portion is a read of its own, so a slow
// consumer holds nothing on the server.
func (s *Store) Members(ctx context.Context, tenant storage.TenantID, group, after string) iter.Seq2[storage.Member, error] {
	return func(yield func(storage.Member, error) bool) {
		after := after // a row
		if after != "" {
			after = rowsOf(string(tenant), group) + after
		}
		for {
			var list []storage.Member
			var last string
			err := s.snapshot(ctx, func(ctx context.Context) (err error) {
				list, last, err = s.portionOf(ctx, string(tenant), group, after, inPortion)
				return err
			})
			if err != nil {
				yield(storage.Member{}, explain(err))
				return
			}
			for _, m := range list {
				if !yield(m, nil) {
					return
				}
			}
			if last == "" {
				return
			}
			after = last
		}
	}
}

// CountMembers implements storage.Memberships.
func (s *Store) CountMembers(ctx context.Context, tenant storage.TenantID, group string, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	count := 0
	err := s.snapshot(ctx, func(ctx context.Context) error {
		count = 0
		return s.eachMember(ctx, string(tenant), group, func(storage.Member) bool {
			count++
			return count < limit
		})
	})
	return count, explain(err)
}

// Groups implements storage.Memberships.
func (s *Store) Groups(ctx context.Context, tenant storage.TenantID, ids ...string) (out map[string][]storage.Membership, err error) {
	err = s.snapshot(ctx, func(ctx context.Context) (err error) {
		out, err = s.groups(ctx, string(tenant), ids)
		return err
	})
	return out, explain(err)
}

// groups climbs from all ids at once, level by level: one find for the
// memberships and one for the groups, however many there are.
func (s *Store) groups(ctx context.Context, tenant string, ids []string) (map[string][]storage.Membership, error) {
	up := map[string][]string{}        // the groups somebody is in directly
	names := map[string]resourceInfo{} // live groups, and the ids given
	asked := map[string]bool{}
	level := slices.Compact(slices.Sorted(slices.Values(ids)))
	for first := true; len(level) > 0; first = false {
		next, err := s.parents(ctx, tenant, level, up)
		if err != nil {
			return nil, err
		}
		for _, id := range level {
			asked[id] = true
		}
		if len(next) == 0 {
			break
		}
		lookFor := next
		if first { // what is deleted is in no group
			lookFor = append(slices.Clone(next), level...)
		}
		info, err := s.infos(ctx, tenant, usersAndGroups, lookFor)
		if err != nil {
			return nil, err
		}
		for id, i := range info {
			names[id] = i
		}
		level = level[:0:0]
		for _, g := range next {
			if !asked[g] && info[g].typ == groupType {
				level = append(level, g)
			}
		}
	}
	out := map[string][]storage.Membership{}
	for _, id := range ids {
		if list := climb(id, up, names); len(list) > 0 && names[id].typ != "" {
			out[id] = list
		}
	}
	return out, nil
}

// parents adds to up the groups of the given ids, and returns those groups, each
// once.
func (s *Store) parents(ctx context.Context, tenant string, ids []string, up map[string][]string) ([]string, error) {
	var groups []string
	for portion := range slices.Chunk(ids, inPortion) {
		err := s.each(ctx, rows, d(fTenant, tenant, fKind, d("$in", portion)), func(raw bson.Raw) error {
			m, g := text(raw, fKind), text(raw, fGroup)
			up[m] = append(up[m], g)
			groups = append(groups, g)
			return nil
		}, look().fields(only(fKind, fGroup)).batch(10*inPortion))
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// climb lists the groups above id: the direct ones first, then the others, each
// in the order of their ids. A cycle of groups ends where it began.
func climb(id string, up map[string][]string, names map[string]resourceInfo) []storage.Membership {
	seen := map[string]bool{}
	var list []storage.Membership
	level := []string{id}
	for direct := true; len(level) > 0; direct = false {
		var next []string
		for _, m := range level {
			for _, g := range up[m] {
				if seen[g] || names[g].typ != groupType {
					continue
				}
				seen[g] = true
				next = append(next, g)
				list = append(list, storage.Membership{Group: g, Display: names[g].name, Direct: direct})
			}
		}
		level = next
	}
	slices.SortFunc(list, func(a, b storage.Membership) int {
		if a.Direct != b.Direct {
			if a.Direct {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Group, b.Group)
	})
	return list
}

// below returns the ids of all that is in a group, directly or through others,
// or ok false when that is more than most.
func (s *Store) below(ctx context.Context, tenant, group string, most int) (ids []string, ok bool, err error) {
	info, err := s.infos(ctx, tenant, groupType, []string{group})
	if err != nil || info[group].typ == "" {
		return nil, true, err
	}
	seen := map[string]bool{}
	level := []string{group}
	visited := map[string]bool{group: true}
	for len(level) > 0 {
		var found []string
		for _, g := range level {
			err := s.each(ctx, rows, within(tenant, rowsOf(tenant, g), ""), func(raw bson.Raw) error {
				if m := text(raw, fKind); !seen[m] {
					seen[m] = true
					found = append(found, m)
				}
				if len(seen) > most {
					return errTooMany
				}
				return nil
			}, look().fields(only(fKind)).batch(inPortion))
			if errors.Is(err, errTooMany) {
				return nil, false, nil
			}
			if err != nil {
				return nil, false, err
			}
		}
		groups, err := s.infos(ctx, tenant, groupType, found)
		if err != nil {
			return nil, false, err
		}
		ids = append(ids, found...)
		level = level[:0:0]
		for _, id := range found {
			if groups[id].typ != "" && !visited[id] {
				visited[id] = true
				level = append(level, id)
			}
		}
	}
	return ids, true, nil
}

func (t *tx) rowID(group *storage.Resource, member string) string {
	return rowsOf(t.tenant, group.ID) + member
}

// distinct returns each id once, in the order given.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}

// member is a change that proves that a member exists, and meets every lock on
// it. Whoever is to be added is marked as one who has been in a group.
func (t *tx) member(id string) change {
	delete(t.roots, id)
	t.writes = append(t.writes, id)
	return change{filter: liveByID(t.tenant, id, usersAndGroups), update: d("$set", d(fGrouped, true), "$inc", d(fLock, int64(1)))}
}

// Ancestors implements storage.Tx. A group that has never been in another, as
// most, has none, and nothing has to be asked. All that were found are locked, and
// so is the group: one of them may be about to become a member elsewhere.
func (t *tx) Ancestors(group *storage.Resource) (ids []string, err error) {
	if !t.roots[group.ID] {
		if err := t.flush(); err != nil {
			return nil, err
		}
		err = t.do(func(ctx context.Context) (err error) {
			ids, err = t.store.above(ctx, t.tenant, group.ID)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if there, err := t.lock(groupType, group.ID); err != nil || !there {
		return nil, err
	}
	for _, id := range ids {
		if id == group.ID {
			continue
		}
		if _, err := t.lock(groupType, id); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// above returns the ids of the live groups above a group; its own is among them if
// it is in a circle.
func (s *Store) above(ctx context.Context, tenant, group string) (ids []string, err error) {
	seen := map[string]bool{}
	for level := []string{group}; len(level) > 0; {
		next, err := s.parents(ctx, tenant, level, map[string][]string{})
		if err != nil {
			return nil, err
		}
		next = slices.DeleteFunc(next, func(id string) bool { return seen[id] })
		if len(next) == 0 {
			break
		}
		live, err := s.infos(ctx, tenant, groupType, next)
		if err != nil {
			return nil, err
		}
		level = level[:0:0]
		for _, id := range next {
			seen[id] = true
			if live[id].typ != "" {
				level = append(level, id)
			}
		}
		ids = append(ids, level...)
	}
	return ids, nil
}

// MemberOf implements storage.Tx. Who has never been in a group need not be looked
// for. The lock keeps others from adding the resource to
// a group meanwhile.
func (t *tx) MemberOf(r *storage.Resource) (groups []*storage.Resource, err error) {
	if t.roots[r.ID] {
		_, err := t.lock(r.Type, r.ID)
		return nil, err
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) (err error) {
		groups, err = t.store.groupsOf(ctx, t.tenant, r.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if there, err := t.lock(r.Type, r.ID); err != nil || !there {
		return nil, err
	}
	for _, g := range groups { // in case r is deleted, which changes them
		if err := t.above(g.Ref, g.ID); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

func (t *tx) Remains(typ, id string) error {
	if err := t.await(id); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	if there, err := t.exists(resources, t.live(typ, id)); err != nil {
		return err
	} else if !there {
		return storage.ErrNotFound
	}
	_, err := t.lock(typ, id)
	return err
}

func (t *tx) row(group *storage.Resource, m storage.Member) change {
	doc := d(fID, t.rowID(group, m.Value), fTenant, t.tenant, fKind, m.Value, fGroup, group.ID)
	if m.Display != "" {
		doc = append(doc, bson.E{Key: fDisplay, Value: m.Display})
	}
	return change{insert: doc}
}

func (t *tx) AddMembers(group *storage.Resource, list []storage.Member) (int, error) {
	var there map[string]bool // who is a member already, as far as anybody asked
	if t.careful {
		if err := t.known(list); err != nil {
			return 0, err
		}
		var err error
		if there, err = t.rowsAmong(group, storage.MemberIDs(list)); err != nil {
			return 0, err
		}
	}
	added := 0
	seen := make(map[string]bool, len(list))
	for _, m := range list {
		if seen[m.Value] || there[m.Value] {
			continue
		}
		seen[m.Value] = true
		t.add(ofResources, t.member(m.Value))
		t.add(ofRows, t.row(group, m))
		added++
	}
	t.changed = t.changed || added > 0
	return added, t.guess()
}

// known finds out whether all members to be added exist.
func (t *tx) known(list []storage.Member) error {
	info, err := t.infos(storage.MemberIDs(list))
	if err != nil {
		return err
	}
	for i, m := range list {
		if info[m.Value].typ == "" {
			return &storage.UnknownMemberError{Index: i}
		}
	}
	return nil
}

func (t *tx) infos(ids []string) (info map[string]resourceInfo, err error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) (err error) {
		info, err = t.store.infos(ctx, t.tenant, usersAndGroups, distinct(ids))
		return err
	})
	return info, err
}

func (t *tx) MembersAmong(group *storage.Resource, ids []string) (list []storage.Member, err error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) error {
		list = nil
		for portion := range slices.Chunk(distinct(ids), inPortion) {
			found, err := t.store.among(ctx, t.tenant, group.ID, portion)
			if err != nil {
				return err
			}
			list = append(list, found...)
		}
		return nil
	})
	return list, err
}

// rowsAmong returns those of the ids that have a membership in the group, whether
// or not they are deleted.
func (t *tx) rowsAmong(group *storage.Resource, ids []string) (map[string]bool, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	there := map[string]bool{}
	err := t.do(func(ctx context.Context) error {
		for portion := range slices.Chunk(distinct(ids), inPortion) {
			err := t.store.each(ctx, rows, byIDs(t.tenant, prefixed(rowsOf(t.tenant, group.ID), portion)), func(raw bson.Raw) error {
				there[text(raw, fKind)] = true
				return nil
			}, look().fields(only(fKind)).batch(inPortion+1))
			if err != nil {
				return err
			}
		}
		return nil
	})
	return there, err
}

func (t *tx) RemoveMembers(group *storage.Resource, ids []string) (int, error) {
	ids = distinct(ids)
	if t.careful {
		there, err := t.rowsAmong(group, ids)
		if err != nil {
			return 0, err
		}
		// Who is deleted is no member; the membership stays hidden.
		info, err := t.infos(ids)
		if err != nil {
			return 0, err
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return !there[id] || info[id].typ == "" })
	}
	for _, id := range ids {
		t.add(ofResources, t.member(id))
		t.add(ofRows, change{delete: byID(t.tenant, t.rowID(group, id))})
	}
	t.changed = t.changed || len(ids) > 0
	return len(ids), t.guess()
}

// SetMembers compares the members there are, portion by portion in the order of
// their ids, with those wanted, so that its memory does not grow with the size of
// the group. It always knows what it does.
func (t *tx) SetMembers(group *storage.Resource, list []storage.Member) (int, error) {
	if len(list) > 0 {
		if err := t.known(list); err != nil {
			return 0, err
		}
	} else if err := t.flush(); err != nil {
		return 0, err
	}
	wanted := make(map[string]storage.Member, len(list))
	for _, m := range slices.Backward(list) { // of two with one id the first counts
		wanted[m.Value] = m
	}
	count := 0
	after := ""
	for {
		gone, visible, last, err := t.unwanted(group, after, wanted)
		if err != nil {
			return count, err
		}
		// Memberships of deleted members go too, or restoring one would bring it
		// back; nobody sees them, so they count for nothing.
		for _, id := range gone {
			if visible[id].typ != "" {
				t.add(ofResources, t.member(id))
				count++
			}
			t.add(ofRows, change{delete: byID(t.tenant, t.rowID(group, id))})
		}
		if err := t.flush(); err != nil {
			return count, err
		}
		if last == "" {
			break
		}
		after = last
	}
	for _, m := range list {
		if _, ok := wanted[m.Value]; !ok {
			continue // there already, or second of its kind
		}
		delete(wanted, m.Value)
		t.add(ofResources, t.member(m.Value))
		t.add(ofRows, t.row(group, m))
		count++
	}
	t.changed = t.changed || count > 0
	return count, t.flush()
}

// unwanted reads a portion of the members a group has. It takes out of wanted
// who is there, and returns who is not wanted and which of those anybody sees.
func (t *tx) unwanted(group *storage.Resource, after string, wanted map[string]storage.Member) (
	gone []string, visible map[string]resourceInfo, last string, err error) {
	n := 0
	err = t.do(func(ctx context.Context) error {
		err := t.store.each(ctx, rows, within(t.tenant, rowsOf(t.tenant, group.ID), after), func(raw bson.Raw) error {
			n, last = n+1, text(raw, fID)
			id := text(raw, fKind)
			if _, ok := wanted[id]; ok {
				delete(wanted, id)
			} else {
				gone = append(gone, id)
			}
			return nil
		}, look().sort(d(fID, 1)).limit(inPortion).batch(inPortion+1).fields(only(fKind)))
		if err != nil || len(gone) == 0 {
			return err
		}
		visible, err = t.store.infos(ctx, t.tenant, usersAndGroups, gone)
		return err
	})
	if n < inPortion {
		last = ""
	}
	return gone, visible, last, err
}

func (t *tx) EachMember(group *storage.Resource, fn func(storage.Member) error) error {
	if err := t.flush(); err != nil {
		return err
	}
	after := ""
	for {
		var list []storage.Member
		var last string
		err := t.do(func(ctx context.Context) (err error) {
			list, last, err = t.store.portionOf(ctx, t.tenant, group.ID, after, inPortion)
			return err
		})
		if err != nil {
			return err
		}
		for _, m := range list {
			if err := fn(m); err != nil {
				return err
			}
		}
		if last == "" {
			return nil
		}
		after = last
	}
}
