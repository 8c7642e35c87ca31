package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/storage"
)

// EffectiveRoles returns the roles that a user has at this time, each once, in the
// order of their ids: those given to the user or to a group they are in, directly or
// through others, within their dates, and eligible ones while they are activated, with
// the business roles that these contain.
func EffectiveRoles(ctx context.Context, store storage.Store, tenant storage.TenantID, user string, now time.Time) ([]*Role, error) {
	return outside(ctx, store, tenant, user).roles(user, now, (*Grant).InForce)
}

// groupsAround returns the groups that a user is in, directly or through others.
func groupsAround(ctx context.Context, store storage.Memberships, tenant storage.TenantID, user string) ([]string, error) {
	groups, err := store.Groups(ctx, tenant, user)
	return groupIDs(groups[user]), err
}

func groupIDs(list []storage.Membership) []string {
	ids := make([]string, len(list))
	for i, g := range list {
		ids[i] = g.Group
	}
	return ids
}

// EffectiveRolesTx is EffectiveRoles inside a write. What it returns is right as of
// the write; whoever relies on it when the write becomes durable holds a Guard.
func EffectiveRolesTx(tx storage.Tx, user *storage.Resource, now time.Time) ([]*Role, error) {
	return inside(tx, user).roles(user.ID, now, (*Grant).InForce)
}

// AsOf returns a person as they are inside a write. What their session knows may be
// half a second old; somebody who lost a role or was blocked meanwhile must not undo
// that, so it is asked again where it is decided who may be touched, or given what.
func (p Principal) AsOf(tx storage.Tx, now time.Time) (Principal, error) {
	if p.Kind != User || p.Invitation != "" { // an inviter was read for this
		return p, nil
	}
	user, err := tx.Get(PrincipalUser, p.ID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !Active(user) {
		p.Permissions, p.Roles = 0, nil
		return p, nil
	}
	if err != nil {
		return p, err
	}
	roles, err := EffectiveRolesTx(tx, user, now)
	if err != nil {
		return p, err
	}
	set, ids := PermissionsOf(roles)
	p.Permissions, p.Roles = p.Permissions&set, ids
	return p, nil
}

// HeldRolesTx returns the roles that a user or group holds, inside a write: those
// that are in force, eligible, or begin later. They are what an Effect has as
// Before and After. Whoever a link leads from to another tenant counts as a Global
// Administrator.
func HeldRolesTx(tx storage.Tx, subject *storage.Resource, now time.Time) ([]*Role, error) {
	roles, err := inside(tx, subject).roles(subject.ID, now, func(g *Grant, now time.Time) bool { return !g.Ended(now) })
	if err != nil {
		return nil, err
	}
	out, err := linksTx(tx, linkOut+subject.ID)
	if global := BuiltInRole(GlobalAdministrator); len(out) > 0 && !holds(roles, global) {
		roles = append(roles, global)
	}
	return roles, err
}

// PermissionsOf returns what roles let their holder do together, and their ids.
func PermissionsOf(roles []*Role) (set Permissions, ids []string) {
	for _, r := range roles {
		set |= r.Permissions
		ids = append(ids, r.ID)
	}
	return set, ids
}

// finder finds the roles of somebody, inside a write or outside.
type finder struct {
	items func(kind, key string) ([]*storage.Item, error)
	role  func(id string) (*Role, error)
	grant func(id string) (*Grant, error)
	above func() ([]string, error) // the groups around
}

func outside(ctx context.Context, store storage.Store, tenant storage.TenantID, user string) finder {
	return finder{
		items: func(kind, key string) ([]*storage.Item, error) { return store.Items(ctx, tenant, kind, key) },
		role:  func(id string) (*Role, error) { return FindRole(ctx, store, tenant, id) },
		grant: func(id string) (*Grant, error) {
			i, err := store.Item(ctx, tenant, grantKind, id)
			if err != nil {
				return nil, err
			}
			return grantFrom(i)
		},
		above: func() ([]string, error) { return groupsAround(ctx, store, tenant, user) },
	}
}

func inside(tx storage.Tx, r *storage.Resource) finder {
	return finder{items: tx.Items, role: func(id string) (*Role, error) { return ReadRole(tx, id) },
		grant: func(id string) (*Grant, error) { return ReadGrant(tx, id) },
		above: func() ([]string, error) { return aboveTx(tx, r) }}
}

// aboveTx returns the groups that a resource is in, directly or through others.
func aboveTx(tx storage.Tx, r *storage.Resource) ([]string, error) {
	groups, err := tx.MemberOf(r)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, g := range groups {
		up, err := tx.Ancestors(g)
		if err != nil {
			return nil, err
		}
		ids = append(append(ids, g.ID), up...)
	}
	return ids, nil
}

func (f finder) roles(principal string, now time.Time, counts func(*Grant, time.Time) bool) ([]*Role, error) {
	grants, err := grantsFrom(f.items(grantKind, "principal/"+principal))
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, g := range grants {
		if counts(g, now) {
			ids[g.Role] = true
		}
	}
	active, err := activationsFrom(f.items(activationKind, "principal/"+principal))
	if err != nil {
		return nil, err
	}
	above, err := f.above()
	if err != nil {
		return nil, err
	}
	for _, a := range active {
		stands, err := f.stands(a, above, now)
		if err != nil {
			return nil, err
		}
		if stands {
			ids[a.Role] = true
		}
	}
	if len(above) > 0 {
		watched, err := grantsFrom(f.items(grantKind, watchedKey))
		if err != nil {
			return nil, err
		}
		for _, g := range watched {
			if g.PrincipalType == PrincipalGroup && counts(g, now) && slices.Contains(above, g.Principal) {
				ids[g.Role] = true
			}
		}
	}
	list, err := f.named(ids)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b *Role) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// named returns the roles with these ids, and those that they contain.
func (f finder) named(ids map[string]bool) (list []*Role, err error) {
	var inside []string
	read := func(id string, contained bool) error {
		r, err := f.role(id)
		if errors.Is(err, storage.ErrNotFound) {
			return nil // a role that is gone gives nothing
		}
		if err != nil {
			return err
		}
		// Nobody can make a role contain an administrative one. One that does, in a
		// store that was written past this program, gives it to nobody.
		if contained && privileged(r) {
			return nil
		}
		list, inside = append(list, r), append(inside, r.Contains...)
		return nil
	}
	for id := range ids {
		if err := read(id, false); err != nil {
			return nil, err
		}
	}
	seen := ids
	for len(inside) > 0 {
		id := inside[0]
		inside = inside[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		if err := read(id, true); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// stands reports whether an activation gives its role: it is in force, and what made
// its holder eligible still does. The assignment may have been shortened meanwhile,
// or the group left that it was given to.
func (f finder) stands(a *Activation, above []string, now time.Time) (bool, error) {
	if !a.InForce(now) {
		return false, nil
	}
	g, err := f.grant(a.Grant)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return g.makesEligible(a.Principal, above, now), nil
}
