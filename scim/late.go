package scim

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// References that come before what they name. A client whose order of arrival is not
// guaranteed names a manager or a member by externalId, or else by userName, when it
// has no id to name. Such a reference waits as an item until one of these clients
// writes the resource with that name, and becomes an id in that write. Of somebody who
// records a reference and somebody who writes what it names one comes first, by a
// storage Guard: the one who names looks for what waits, and leaves a note for those
// who looked for the name before it was there.

const (
	waitingKind = "reference"
	namedKind   = "reference.named"

	// waitingFor is how long a reference waits.
	waitingFor = 30 * 24 * time.Hour
	// namedFor is longer than it can take from looking for a name to the write that
	// relies on what was found.
	namedFor = 10 * time.Minute

	// MaxWaiting is how many members of one group may be waited for, and how many names
	// that are no ids one request may have.
	MaxWaiting = 1000
	// References of a tenant are in waitingParts parts by what they name, with up to
	// maxPart in each: so many are resolved in one write at most.
	waitingParts = 64
	maxPart      = 1000
)

// waiting is a reference that waits: of a user to the manager, or of a group to a member.
type waiting struct {
	Type    string `json:"type"` // of whose reference it is
	From    string `json:"from"`
	Name    string `json:"name"` // as it was sent
	Display string `json:"display,omitzero"`

	item *storage.Item
	path string // of the value in what was sent
}

// awaited is a member who has to be waited for.
type awaited struct {
	storage.Member
	path string
}

func (n *waiting) id() string {
	if n.Type == auth.PrincipalUser {
		return n.From // who has one manager
	}
	return n.From + "." + digest(n.Name)
}

func ofReferrer(id string) string { return "of " + id }

func waitingFrom(i *storage.Item) (*waiting, error) {
	n := &waiting{item: i}
	if err := json.Unmarshal(i.Data, n); err != nil {
		return nil, errors.New("a stored reference is damaged")
	}
	return n, nil
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// place is where references to a name are: the key of those that may mean the same, and
// its part.
func (l *lateness) place(name string) (key string, part int) {
	sum := sha256.Sum256([]byte(l.userName.UniqueKey(name)))
	return "name " + base64.RawURLEncoding.EncodeToString(sum[:16]), int(sum[31]) % waitingParts
}

func partKey(part int) string { return fmt.Sprint("part ", part) }

// arrivedError says that names that were not known when they were looked for are by now.
type arrivedError struct{ ids map[string]string }

func (e *arrivedError) Error() string { return "what is referred to arrived meanwhile" }

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

// wait records references, which have no effect before what they name is there.
// The error is an *arrivedError if it is there by now.
func (l *lateness) wait(tx storage.Tx, now time.Time, have map[string]*storage.Item, list ...*waiting) error {
	arrived := map[string]string{}
	for _, n := range list {
		id, err := l.noted(tx, n)
		if err != nil {
			return err
		}
		if id != "" {
			arrived[n.Name] = id
		}
	}
	if len(arrived) > 0 {
		return &arrivedError{arrived}
	}
	room := map[int]int{}
	for _, n := range list {
		key, part := l.place(n.Name)
		left, counted := room[part]
		if !counted {
			there, err := tx.Items(waitingKind, partKey(part))
			if err != nil {
				return err
			}
			left = maxPart - len(there)
		}
		if room[part] = left - 1; left <= 0 {
			return &schemas.ValueError{Path: n.path, Msg: "is nothing that there is, and too many references wait already for what they name"}
		}
		data, err := json.Marshal(n)
		if err != nil {
			return err
		}
		next := &storage.Item{Kind: waitingKind, ID: n.id(), Keys: []string{ofReferrer(n.From), key, partKey(part)}, Expires: now.Add(waitingFor), Data: data}
		if err := tx.PutItem(have[n.id()], next); err != nil {
			return err
		}
	}
	return nil
}

// note is what is left for those who looked for a name before it was there.
type note struct {
	Type string `json:"type"`
}

// noted returns the id of what a reference names, if a note says that it is there.
func (l *lateness) noted(tx storage.Tx, n *waiting) (string, error) {
	key, _ := l.place(n.Name)
	list, err := tx.Items(namedKind, key)
	if err != nil {
		return "", err
	}
	for _, i := range list {
		var x note
		if err := json.Unmarshal(i.Data, &x); err != nil {
			return "", err
		}
		t := l.user
		if x.Type == auth.PrincipalGroup {
			if t = l.group; n.Type == auth.PrincipalUser {
				continue
			}
		}
		r, err := tx.Get(t.Name, i.ID)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		attrs, err := parseStored(t, r)
		if err != nil {
			return "", err
		}
		if l.means(n.Name, t, attrs, r.ID) {
			return r.ID, nil
		}
	}
	return "", nil
}

// waitFor makes a manager what a user waits for, or nobody if name is empty.
func (l *lateness) waitFor(tx storage.Tx, user, name string, now time.Time) error {
	i, err := tx.Item(waitingKind, user)
	if errors.Is(err, storage.ErrNotFound) {
		i, err = nil, nil
	}
	if err != nil {
		return err
	}
	if i != nil {
		n, err := waitingFrom(i)
		if err != nil {
			return err
		}
		if n.Name == name && now.Before(i.Expires) {
			return nil
		}
	}
	if name == "" {
		if i == nil {
			return nil
		}
		return tx.DeleteItem(i)
	}
	n := &waiting{Type: auth.PrincipalUser, From: user, Name: name, path: managerPath}
	return l.wait(tx, now, map[string]*storage.Item{user: i}, n)
}

// awaitedBy reads the members that a group waits for.
func awaitedBy(tx storage.Tx, group string) (list []*waiting, err error) {
	items, err := tx.Items(waitingKind, ofReferrer(group))
	for _, i := range items {
		n, err := waitingFrom(i)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, err
}

// waitForMembers adds to the members that a group waits for, and returns the names of
// those that it did not.
func (l *lateness) waitForMembers(tx storage.Tx, group string, members []awaited, now time.Time) (fresh []string, err error) {
	if len(members) == 0 {
		return nil, nil
	}
	list, err := awaitedBy(tx, group)
	if err != nil {
		return nil, err
	}
	have := map[string]*storage.Item{}
	count := 0
	for _, n := range list {
		have[n.item.ID] = n.item
		if now.Before(n.item.Expires) {
			count++
		}
	}
	var add []*waiting
	for _, m := range members {
		n := &waiting{Type: auth.PrincipalGroup, From: group, Name: m.Value, Display: m.Display, path: m.path}
		if item := have[n.id()]; item != nil && now.Before(item.Expires) {
			continue
		}
		if count++; count > MaxWaiting {
			return nil, &schemas.ValueError{Path: m.path, Msg: fmt.Sprintf("is nothing that there is, and a group waits for %d members at most", MaxWaiting)}
		}
		add, fresh = append(add, n), append(fresh, n.Name)
	}
	return fresh, l.wait(tx, now, have, add...)
}

// endWaiting ends that a group waits for those of its members that over says, and returns
// their names.
func endWaiting(tx storage.Tx, group string, over func(*waiting) bool) (ended []string, err error) {
	list, err := awaitedBy(tx, group)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if !over(n) {
			continue
		}
		if err := tx.DeleteItem(n.item); err != nil {
			return nil, err
		}
		ended = append(ended, n.Name)
	}
	return ended, nil
}

// stopWaiting ends all that a resource waits for, which is deleted.
func stopWaiting(tx storage.Tx, r *storage.Resource) error {
	switch r.Type {
	case auth.PrincipalUser:
		i, err := tx.Item(waitingKind, r.ID)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.DeleteItem(i)
	case auth.PrincipalGroup:
		_, err := endWaiting(tx, r.ID, func(*waiting) bool { return true })
		return err
	}
	return nil
}

// tellWaiting records which members a group waits for from now on, and for which no
// longer, or for which manager a user waits again. It is no event: what can be seen of
// them is what it was.
func (d *decision) tellWaiting(r *storage.Resource, came, went []string) error {
	if len(came)+len(went) == 0 {
		return nil
	}
	e := d.by.Entry(d.ctx, d.now, d.p.action(r.Type, "await"), r.Type, r.ID)
	path := "members"
	if r.Type == auth.PrincipalUser {
		path = managerAttributePath
	}
	e.Attributes = []string{path}
	var c storage.Changes
	names := func(list []string) []byte {
		if len(list) == 0 {
			return nil
		}
		return fmt.Appendf(appendIDs([]byte{'{'}, "awaited", list), `,"total":%d}`, len(list))
	}
	c.Add(path, names(went), names(came))
	e.Changes = c.List
	return d.tx.Audit(e)
}

// arrived resolves what waits for a resource, which has been written: attrs is its tree.
// Where a group may not get it as a member by whoever writes, that goes on waiting.
// joined says that a group got it.
func (l *lateness) arrived(d *decision, t *schemas.ResourceType, r *storage.Resource, attrs map[string]any) (joined bool, err error) {
	var keys []string
	externalID, userName := l.named(t, attrs)
	for _, name := range []string{externalID, userName, r.ID} {
		if name != "" {
			key, _ := l.place(name)
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, key := range keys {
		list, err := d.tx.Items(waitingKind, key)
		if err != nil {
			return false, err
		}
		for _, i := range list {
			n, err := waitingFrom(i)
			if err != nil {
				return false, err
			}
			if !d.now.Before(i.Expires) || !l.means(n.Name, t, attrs, r.ID) {
				continue
			}
			in, err := l.resolve(d, n, t, r)
			if err != nil {
				return false, err
			}
			joined = joined || in
		}
	}
	return joined, l.leaveNote(d, r, keys)
}

func (l *lateness) leaveNote(d *decision, r *storage.Resource, keys []string) error {
	prev, err := d.tx.Item(namedKind, r.ID)
	if errors.Is(err, storage.ErrNotFound) {
		prev, err = nil, nil
	}
	if err != nil {
		return err
	}
	data, err := json.Marshal(note{r.Type})
	if err != nil {
		return err
	}
	return d.tx.PutItem(prev, &storage.Item{Kind: namedKind, ID: r.ID, Keys: keys, Expires: d.now.Add(namedFor), Data: data})
}

func (l *lateness) resolve(d *decision, n *waiting, t *schemas.ResourceType, r *storage.Resource) (joined bool, err error) {
	keep := false
	switch {
	case n.Type == auth.PrincipalGroup:
		joined, keep, err = l.join(d, n, r)
	case t.Name == auth.PrincipalUser:
		err = l.manages(d, n, r)
	default:
		keep = true // a group is nobody's manager
	}
	if err != nil || keep {
		return joined, err
	}
	return joined, d.tx.DeleteItem(n.item)
}

// manages makes a user the manager that another one waits for, unless that has another
// one by now.
func (l *lateness) manages(d *decision, n *waiting, r *storage.Resource) error {
	prev, err := d.tx.Get(auth.PrincipalUser, n.From)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	a := managerChange(l.user, n.Name, r.ID)
	u, err := a.next(l.p, l.by.Tenant, prev, d.now)
	if err != nil || !u.had {
		return err
	}
	if err := l.p.settled(d.ctx, l.by.Tenant, l.user, u.attrs); err != nil {
		return err
	}
	if err := d.tx.Update(prev, u.next); err != nil {
		return err
	}
	return l.p.record(d.ctx, d.tx, d.by, "patch", u.next, []string{managerAttributePath}, u.told)
}

// join makes a resource a member of a group that waits for it. keep says that it has to
// go on waiting.
func (l *lateness) join(d *decision, n *waiting, r *storage.Resource) (joined, keep bool, err error) {
	g, err := d.tx.Get(auth.PrincipalGroup, n.From)
	if errors.Is(err, storage.ErrNotFound) || n.From == r.ID {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if err := d.holds(g); err != nil {
		return false, false, err
	}
	above, err := d.tx.Ancestors(g)
	if err != nil || slices.Contains(above, r.ID) {
		return false, false, err // they would contain each other
	}
	may := l.p.decide(d.ctx, d.tx, d.by, d.standing, d.now)
	carried, err := may.carried(g.ID, func() ([]string, error) { return above, nil })
	if err != nil {
		return false, false, err
	}
	if may.joins(r.ID, carried); may.effect.Permitted(d.by) != nil {
		return false, true, nil //nolint:nilerr // it waits for somebody who may
	}
	err = may.ask()
	if _, ok := errors.AsType[*auth.LevelError](err); ok {
		return false, true, nil // somebody else may
	}
	if err != nil {
		return false, false, err
	}
	added, err := d.tx.AddMembers(g, []storage.Member{{Value: r.ID, Display: n.Display}})
	if err != nil || added == 0 {
		return false, false, err
	}
	next := *g
	next.Version, next.LastModified, next.Doc, next.Index = g.Version+1, later(d.now, g.LastModified), nil, nil
	if err := d.tx.Update(g, &next); err != nil {
		return false, false, err
	}
	var told changes
	told.members(true, []string{r.ID}, 1)
	return true, false, l.p.record(d.ctx, d.tx, d.by, "patch", &next, []string{"members"}, told)
}

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

// forgotten reports whether a user's manager is waited for no more: references end
// after some time, with the user's deletion, and are in no dump.
func (l *lateness) forgotten(ctx context.Context, user, name string) (bool, error) {
	i, err := l.p.Store.Item(ctx, l.by.Tenant, waitingKind, user)
	if errors.Is(err, storage.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	n, err := waitingFrom(i)
	return err == nil && (n.Name != name || !l.p.now().Before(i.Expires)), err
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

// changeWaiting brings what a group waits for in line with a change of its members, who
// were sent as sent.
func (u *update) changeWaiting(tx storage.Tx, c patch.MemberChange, sent []storage.Member, waits []awaited, carried []*auth.Role) error {
	var over func(*waiting) bool
	switch c.Kind {
	case patch.RemoveMembers:
		over = func(n *waiting) bool {
			return slices.ContainsFunc(sent, func(m storage.Member) bool { return m.Value == n.Name })
		}
	case patch.RemoveWhere:
		over = func(n *waiting) bool { return c.Where.Match(map[string]any{"value": n.Name, "display": n.Display}) }
	case patch.ReplaceMembers:
		over = func(n *waiting) bool {
			return !slices.ContainsFunc(waits, func(m awaited) bool { return m.Value == n.Name })
		}
	}
	if over != nil {
		ended, err := endWaiting(tx, u.prev.ID, over)
		if err != nil {
			return err
		}
		u.went = append(u.went, ended...)
	}
	if len(waits) == 0 || c.Kind == patch.RemoveMembers {
		return nil
	}
	u.d.subject(u.prev.ID, auth.AspectMembership)
	u.d.gains(carried) // whoever comes later gets them
	fresh, err := u.late.waitForMembers(tx, u.prev.ID, waits, u.d.now)
	u.came = append(u.came, fresh...)
	return err
}
