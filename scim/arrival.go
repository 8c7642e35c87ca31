package scim

import (
	"errors"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// What becomes of references that wait when what they name is written (see late.go).

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
