package scim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// MaxReports is of how many users a user who is deleted stops being the manager in the
// same write, and becomes it again when restored. More are cleared after it, and
// stay without.
const MaxReports = 1000

// reassignment changes what users refer to, because that comes or goes: gives them
// another manager, or none, for one. What is written is made before the write, where it
// holds up nobody.
type reassignment struct {
	t    *schemas.ResourceType // of users, with what the tenant adds to it
	path string                // of the attribute that changes
	// edit changes the attributes of a user; false if there is nothing to change.
	edit  func(attrs map[string]any) bool
	users []reassigned
}

type reassigned struct {
	id      string
	version int64 // that next follows
	next    *storage.Resource
	told    changes
	had     bool // there is something to change
	attrs   map[string]any
}

// reassignment begins one that puts a manager in the place of another, or of none; or
// none in the place of one.
func (p *Provider) reassignment(ctx context.Context, tenant storage.TenantID, from, to string) (reassignment, error) {
	set, err := p.types(ctx, tenant)
	if err != nil {
		return reassignment{}, err
	}
	return managerChange(set.Type(auth.PrincipalUser), from, to), nil
}

func managerChange(t *schemas.ResourceType, from, to string) reassignment {
	return reassignment{t: t, path: managerAttributePath, edit: func(attrs map[string]any) bool {
		if managerOf(attrs) != from {
			return false
		}
		if to == "" {
			dropManager(t, attrs)
		} else {
			setManager(t, attrs, to)
		}
		return true
	}}
}

// settled is Provider.settled for all that is to be written.
func (a reassignment) settled(ctx context.Context, p *Provider, tenant storage.TenantID) error {
	var trees []map[string]any
	for _, u := range a.users {
		if u.had {
			trees = append(trees, u.attrs)
		}
	}
	if len(trees) == 0 {
		return nil
	}
	return p.settled(ctx, tenant, a.t, trees...)
}

// next makes the next version of a user.
func (a reassignment) next(p *Provider, tenant storage.TenantID, r *storage.Resource, now time.Time) (u reassigned, err error) {
	t := a.t
	attrs, err := parseStored(t, r)
	if err != nil {
		return u, err
	}
	u = reassigned{id: strings.Clone(r.ID), version: r.Version, had: a.edit(attrs)}
	if !u.had {
		return u, nil
	}
	prev, err := parseStored(t, r)
	if err != nil {
		return u, err
	}
	u.attrs = attrs
	u.next = &storage.Resource{Type: t.Name, ID: u.id, Version: r.Version + 1, Created: r.Created, LastModified: later(now, r.LastModified), InGroups: r.InGroups}
	if err := p.fill(tenant, t, u.next, attrs); err != nil {
		return u, err
	}
	_, u.told = differences(t, prev, attrs)
	return u, nil
}

// setManager puts a manager into an attribute tree.
func setManager(t *schemas.ResourceType, attrs map[string]any, id string) {
	ext, _ := attrs[schemas.EnterpriseUserURI].(map[string]any)
	if ext == nil {
		ext = map[string]any{}
		attrs[schemas.EnterpriseUserURI] = ext
	}
	ext["manager"] = map[string]any{"value": id}
	attrs["schemas"] = t.SchemasOf(attrs)
}

// reassign writes a reassignment, and returns the users that it concerned: not those
// who are gone, or have nothing to change by now.
func (d *decision) reassign(a reassignment) (ids []string, err error) {
	for _, u := range a.users {
		r, err := d.tx.Get(auth.PrincipalUser, u.id)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.Version != u.version {
			if u, err = a.next(d.p, d.by.Tenant, r, d.now); err != nil {
				return nil, err
			}
		}
		if !u.had {
			continue
		}
		if err := d.tx.Update(r, u.next); err != nil {
			return nil, err
		}
		if err := d.p.record(d.ctx, d.tx, d.by, "patch", u.next, []string{a.path}, u.told); err != nil {
			return nil, err
		}
		ids = append(ids, u.id)
	}
	return ids, nil
}

// leaving readies that a user is nobody's manager any more: of up to MaxReports users.
func (p *Provider) leaving(ctx context.Context, tenant storage.TenantID, user string) (a reassignment, err error) {
	if a, err = p.reassignment(ctx, tenant, user, ""); err != nil {
		return a, err
	}
	of := a.t.Lookup(managerPath)
	page, err := p.Store.Query(ctx, tenant, storage.Query{Type: auth.PrincipalUser, StartIndex: 1, Count: MaxReports,
		Filter: filter.EqualTo(of, user)})
	if err != nil {
		return a, err
	}
	err = page.Each(ctx, func(portion []*storage.Resource) error {
		for _, r := range portion {
			if r.ID == user {
				continue // who comes back with it
			}
			u, err := a.next(p, tenant, r.Clone(), p.now())
			if err != nil {
				return err
			}
			a.users = append(a.users, u)
		}
		return nil
	})
	return a, err
}

// left clears what was not in the write that deleted a user: the reports beyond
// MaxReports, and those who came while that was made. Of a user who is there it clears
// nothing.
func (p *Provider) left(ctx context.Context, by auth.Principal, user string) error {
	for {
		a, err := p.leaving(ctx, by.Tenant, user)
		if err != nil || len(a.users) == 0 {
			return err
		}
		if err := a.settled(ctx, p, by.Tenant); err != nil {
			return err
		}
		var done []string
		err = p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) (err error) {
			done = nil
			switch _, err = tx.Get(auth.PrincipalUser, user); {
			case err == nil:
				return nil // not deleted, or restored meanwhile
			case !errors.Is(err, storage.ErrNotFound):
				return err
			}
			done, err = p.decide(ctx, tx, by, nil, p.now()).reassign(a)
			return err
		})
		if err != nil || len(done) == 0 {
			return err
		}
	}
}

// returning readies that a user who is restored is again the manager of those who have
// had none since.
func (p *Provider) returning(ctx context.Context, tenant storage.TenantID, user string, reports []string) (a reassignment, err error) {
	if len(reports) == 0 {
		return a, nil
	}
	if a, err = p.reassignment(ctx, tenant, "", user); err != nil {
		return a, err
	}
	for _, id := range reports {
		r, err := p.Store.Get(ctx, tenant, auth.PrincipalUser, id)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return a, err
		}
		u, err := a.next(p, tenant, r, p.now())
		if err != nil {
			return a, err
		}
		a.users = append(a.users, u)
	}
	return a, nil
}

// withLiveManager takes a manager who is deleted out of the tree of a user who is
// restored, and returns whom it has then, and whom it had.
func (p *Provider) withLiveManager(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, id string, attrs map[string]any) (has, had string, err error) {
	m := managerOf(attrs)
	if !ours(m) || m == id {
		return "", "", nil
	}
	names, err := p.Store.Names(ctx, tenant, auth.PrincipalUser, m)
	if err != nil {
		return "", "", err
	}
	if _, there := names[m]; there {
		return m, "", nil
	}
	dropManager(t, attrs)
	return "", m, nil
}

// awaits notes that a user gets a manager back who is deleted, when they are restored.
func (d *decision) awaits(manager, user string) error {
	n, err := deletionFrom(d.tx.Item(deletionKind, manager))
	if err != nil || n.item == nil || slices.Contains(n.Reports, user) || len(n.Reports) >= MaxReports {
		return err
	}
	n.Reports = append(n.Reports, user)
	return n.put(d.tx, manager)
}
