package scim

import (
	"context"
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

// References that come before what they name. A client whose order of arrival is not
// guaranteed names a manager or a member by externalId, or else by userName, when it
// has no id to name. Such a reference waits as an item (waiting.go) until one of these
// clients writes the resource with that name, and becomes an id in that write
// (arrival.go). Of somebody who records a reference and somebody who writes what it names
// one comes first, by a storage Guard: the latter looks for what waits, and leaves a note
// for those who looked for the name before it was there.

// lateness is one change of a user or group, as far as references that come early
// are concerned.
type lateness struct {
	p                *Provider
	by               auth.Principal
	user, group      *schemas.ResourceType
	userName, userID *schemas.Attribute // userID is the externalId
	groupID          *schemas.Attribute

	known map[string]string // names that were looked for, to ids, or "" for none
	// guarded are the parts that the write holds.
	guarded []int
}

// refersLate reports whether what a client refers to in a resource may come later.
func refersLate(by auth.Principal, t *schemas.ResourceType) bool {
	return by.Kind == auth.Client && by.References == auth.ReferencesLate && (t.Name == auth.PrincipalUser || t.Name == auth.PrincipalGroup)
}

func (p *Provider) lateness(ctx context.Context, by auth.Principal) (*lateness, error) {
	set, err := p.types(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	l := &lateness{p: p, by: by, user: set.Type(auth.PrincipalUser), group: set.Type(auth.PrincipalGroup), known: map[string]string{}}
	l.userName, l.userID, l.groupID = l.user.Top("userName"), l.user.Lookup("externalId"), l.group.Lookup("externalId")
	return l, nil
}

// find looks for names, outside of a write. Members may be groups.
func (l *lateness) find(ctx context.Context, members bool, names ...string) error {
	var ids, others []string
	for _, name := range names {
		if _, done := l.known[name]; done || name == "" {
			continue
		}
		l.known[name] = ""
		if ours(name) {
			ids = append(ids, name)
		} else {
			others = append(others, name)
		}
	}
	types := []string{auth.PrincipalUser}
	if members {
		types = append(types, auth.PrincipalGroup)
	}
	for _, typ := range types {
		if len(ids) == 0 {
			break
		}
		there, err := l.p.Store.Names(ctx, l.by.Tenant, typ, ids...)
		if err != nil {
			return err
		}
		for id := range there {
			l.known[id] = id
		}
	}
	for _, id := range ids {
		if l.known[id] == "" {
			others = append(others, id) // which may be somebody's externalId
		}
	}
	if len(others) > MaxWaiting {
		return &Error{Status: 400, Type: InvalidValue, Detail: fmt.Sprintf("more than %d members are not named by an id that there is", MaxWaiting)}
	}
	for _, name := range others {
		id, err := l.look(ctx, members, name)
		if err != nil {
			return err
		}
		l.known[name] = id
	}
	return nil
}

func (l *lateness) look(ctx context.Context, members bool, name string) (string, error) {
	looks := []*schemas.Attribute{l.userID, l.groupID, l.userName}
	for i, a := range looks {
		typ := auth.PrincipalUser
		if i == 1 {
			if typ = auth.PrincipalGroup; !members {
				continue
			}
		}
		r, err := l.p.first(ctx, l.by.Tenant, typ, filter.EqualTo(a, name))
		if err == nil {
			return r.ID, nil
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return "", err
		}
	}
	return "", nil
}

// named are the names of a resource.
func (l *lateness) named(t *schemas.ResourceType, attrs map[string]any) (externalID, userName string) {
	externalID, _ = attrs["externalId"].(string)
	if t.Name == auth.PrincipalUser {
		userName, _ = attrs["userName"].(string)
	}
	return externalID, userName
}

// means reports whether a name is that of a resource.
func (l *lateness) means(name string, t *schemas.ResourceType, attrs map[string]any, id string) bool {
	externalID, userName := l.named(t, attrs)
	return name == id || name == externalID || userName != "" && l.userName.UniqueKey(name) == l.userName.UniqueKey(userName)
}

// manager puts the id of the manager into the tree of a user, if it is known, and returns
// the name that has to be waited for otherwise, or "".
func (l *lateness) manager(attrs map[string]any, own string) string {
	name := managerOf(attrs)
	if name == "" {
		return ""
	}
	id := l.known[name]
	if id == "" && l.means(name, l.user, attrs, own) {
		id = own
	}
	if id == "" {
		return name
	}
	if l.known[id] = id; id != name {
		ext, _ := attrs[schemas.EnterpriseUserURI].(map[string]any)
		attrs[schemas.EnterpriseUserURI] = maps.Clone(ext) // what was sent may be needed again
		setManager(l.user, attrs, id)
	}
	return ""
}

// members puts ids in the place of names. It returns those that are known, each once,
// those that have to be waited for, and all in the order in which they were.
func (l *lateness) members(list []storage.Member) (known []storage.Member, waits []awaited, all []storage.Member) {
	seen := map[string]bool{}
	for i, m := range list {
		id := l.known[m.Value]
		if id != "" {
			m.Value = id
		}
		all = append(all, m)
		switch {
		case seen[m.Value]:
			continue
		case id == "":
			waits = append(waits, awaited{m, memberPath(i)})
		default:
			known = append(known, m)
		}
		seen[m.Value] = true
	}
	return known, waits, all
}

// arrivedError says that names that were not known when they were looked for are by now.
type arrivedError struct{ ids map[string]string }

func (e *arrivedError) Error() string { return "what is referred to arrived meanwhile" }

// again begins anew what was overtaken by what it refers to. l may be nil.
func (l *lateness) again(try func() error) error {
	if l == nil {
		return try()
	}
	for attempt := 1; ; attempt++ {
		err := try()
		e, ok := errors.AsType[*arrivedError](err)
		switch {
		case !ok:
			return err
		case attempt == attempts:
			return errOvertaken
		}
		maps.Copy(l.known, e.ids)
	}
}

// overtaken is what becomes of an error: what was found when it was looked for may be gone by
// now, and then it is something to wait for. l may be nil.
func (l *lateness) overtaken(err error) error {
	if l == nil {
		return err
	}
	if _, ok := errors.AsType[*storage.UnknownMemberError](err); ok || errors.Is(err, errNoManager) {
		return errOvertaken
	}
	return err
}

// guard comes first in a write that is about some names.
func (l *lateness) guard(tx storage.Tx, names ...string) error {
	parts := map[int]bool{}
	for _, name := range names {
		if name != "" {
			_, part := l.place(name)
			parts[part] = true
		}
	}
	l.guarded = slices.Sorted(maps.Keys(parts))
	for _, part := range l.guarded {
		if err := tx.Guard(fmt.Sprint("references ", part)); err != nil {
			return err
		}
	}
	return nil
}

// guardAll does so for the names of a resource and what it refers to.
func (l *lateness) guardAll(tx storage.Tx, t *schemas.ResourceType, attrs map[string]any, id string, waits ...string) error {
	externalID, userName := l.named(t, attrs)
	return l.guard(tx, append([]string{externalID, userName, id}, waits...)...)
}

// namesIn are what changes of members name.
func namesIn(list []patch.MemberChange) (names []string) {
	for _, c := range list {
		for _, m := range c.Members {
			name, _ := m["value"].(string)
			names = append(names, name)
		}
	}
	return names
}

func valuesOf(list []awaited) (names []string) {
	for _, m := range list {
		names = append(names, m.Value)
	}
	return names
}

// born records what a new resource waits for, and resolves what waits for it.
func (l *lateness) born(d *decision, b newborn) error {
	if b.manager != "" {
		n := &waiting{Type: auth.PrincipalUser, From: b.r.ID, Name: b.manager, path: managerPath}
		if err := l.wait(d.tx, d.now, nil, n); err != nil {
			return err
		}
	}
	fresh, err := l.waitForMembers(d.tx, b.r.ID, b.waits, d.now)
	if err != nil {
		return err
	}
	if err := d.tellWaiting(b.r, fresh, nil); err != nil {
		return err
	}
	b.r.InGroups, err = l.arrived(d, b.t, b.r, b.attrs)
	return err
}

// changed does so for one that has been changed.
func (l *lateness) changed(u *update) error {
	if u.t.Name == auth.PrincipalUser {
		if err := l.waitFor(u.d.tx, u.next.ID, u.waits, u.d.now); err != nil {
			return err
		}
	}
	joined, err := l.arrived(u.d, u.t, u.next, u.change.attrs)
	u.next.InGroups = u.next.InGroups || joined
	return err
}

// look finds the members that a change of a group names, before the write.
func (u *update) look(ctx context.Context, id string) error {
	read, err := u.p.Store.GetToChange(ctx, u.by.Tenant, u.t.Name, id)
	if err != nil {
		return err
	}
	if err := u.pre.check(read); err != nil {
		return err
	}
	attrs, err := parseStored(u.t, read)
	if err != nil {
		return err
	}
	c, err := u.compute(read, attrs)
	if err != nil {
		return err
	}
	return u.late.find(ctx, true, namesIn(c.members)...)
}

// lookForManager puts the id of the manager into the next state of a user, or notes that it has to be
// waited for.
func (u *update) lookForManager(ctx context.Context, prev map[string]any, own string) error {
	if u.late == nil || u.t.Name != auth.PrincipalUser {
		return nil
	}
	name := managerOf(u.change.attrs)
	if _, known := u.late.known[name]; u.within && !known && name != "" {
		return errOvertaken // nothing is looked for in the write
	}
	err := u.late.find(ctx, false, name)
	if err != nil {
		return err
	}
	u.waits = u.late.manager(u.change.attrs, own)
	if u.within || u.waits == "" || u.waits != managerOf(prev) {
		return nil
	}
	u.renews, err = u.late.forgotten(ctx, own, u.waits)
	return err
}

// guard comes before what the write does about names.
func (u *update) guard(tx storage.Tx) error {
	if u.late == nil {
		return nil
	}
	names := []string{u.waits}
	for _, name := range namesIn(u.change.members) {
		if u.late.known[name] == "" {
			names = append(names, name)
		}
	}
	return u.late.guardAll(tx, u.t, u.change.attrs, u.prev.ID, names...)
}
