package scim

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// References that wait for what they name to be there, as items (see late.go).

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

func (n *waiting) id() string {
	if n.Type == auth.PrincipalUser {
		return n.From // who has one manager
	}
	return n.From + "." + digest(n.Name)
}

// awaited is a member who has to be waited for.
type awaited struct {
	storage.Member
	path string
}

// note is what is left for those who looked for a name before it was there.
type note struct {
	Type string `json:"type"`
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

// wait records references, which have no effect before what they name is there. have are
// the items, by id, in whose place they are put. The error is an *arrivedError if what one
// names is there by now.
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
