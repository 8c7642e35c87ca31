package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/storage"
)

// Holding is one way in which somebody comes to a role.
type Holding struct {
	Role       string // the id
	Assignment string // the id of the role assignment
	Principal  string // who holds the role
	Type       string // of the principal: PrincipalUser, PrincipalGroup or PrincipalClient
	Through    string // the group that it was given to; empty when it was given directly
	Eligible   bool   // it has to be activated, and
	ActiveTill time.Time
	Start, End time.Time // zero: without a limit
}

func (h Holding) begun(now time.Time) bool { return h.Start.IsZero() || !now.Before(h.Start) }

// InForce reports whether it gives the role at this time.
func (h Holding) InForce(now time.Time) bool {
	return h.begun(now) && (h.End.IsZero() || now.Before(h.End)) && (!h.Eligible || now.Before(h.ActiveTill))
}

// Holdings finds who holds what, for people to read. What it says is put together
// from several reads, and may mix states that follow each other closely.
type Holdings struct {
	Store storage.Store
	Now   func() time.Time
}

// OfRole calls fn for each way in which somebody holds a role: users, groups and
// clients that it was given to, and users in those groups. What has ended is left
// out. It ends with the first error of fn.
func (h Holdings) OfRole(ctx context.Context, tenant storage.TenantID, role string, fn func(Holding) error) error {
	grants, err := grantsFrom(h.Store.Items(ctx, tenant, grantKind, "role/"+role))
	if err != nil {
		return err
	}
	active, err := h.active(ctx, tenant, "role/"+role)
	if err != nil {
		return err
	}
	now := h.Now()
	for _, g := range grants {
		if g.Ended(now) {
			continue
		}
		own := holdingOf(g)
		own.ActiveTill = active[g.ID+"/"+g.Principal]
		if err := fn(own); err != nil {
			return err
		}
		if g.PrincipalType != PrincipalGroup {
			continue
		}
		err := h.within(ctx, tenant, g.Principal, func(m storage.Member) error {
			through := holdingOf(g)
			through.Principal, through.Type, through.Through = m.Value, m.Type, g.Principal
			through.ActiveTill = active[g.ID+"/"+m.Value]
			return fn(through)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// within calls fn for the users in a group, directly or through others, each once. Who is
// in one of those groups that came before is found out by asking: what is remembered
// of a group is not its members.
func (h Holdings) within(ctx context.Context, tenant storage.TenantID, group string, fn func(storage.Member) error) error {
	seen := map[string]bool{group: true}
	groups := []string{group}
	for i := 0; i < len(groups); i++ {
		before := groups[:i]
		var portion []storage.Member
		flush := func() error {
			if len(portion) == 0 {
				return nil
			}
			in, err := h.Store.Groups(ctx, tenant, storage.MemberIDs(portion)...)
			if err != nil {
				return err
			}
			for _, m := range portion {
				told := slices.ContainsFunc(in[m.Value], func(g storage.Membership) bool { return g.Direct && slices.Contains(before, g.Group) })
				if told {
					continue
				}
				if err := fn(m); err != nil {
					return err
				}
			}
			portion = portion[:0]
			return nil
		}
		for m, err := range h.Store.Members(ctx, tenant, groups[i], "") {
			switch {
			case err != nil:
			case m.Type == PrincipalGroup:
				if !seen[m.Value] {
					seen[m.Value] = true
					groups = append(groups, m.Value)
				}
			case i == 0:
				err = fn(m)
			default:
				if portion = append(portion, m); len(portion) == withinAtOnce {
					err = flush()
				}
			}
			if err != nil {
				return err
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}

// withinAtOnce is of how many members at a time the groups are asked for.
const withinAtOnce = 500

// OfUser returns the ways in which a user holds roles, those that were given to them
// first.
func (h Holdings) OfUser(ctx context.Context, tenant storage.TenantID, user string) ([]Holding, error) {
	grants, err := grantsFrom(h.Store.Items(ctx, tenant, grantKind, "principal/"+user))
	if err != nil {
		return nil, err
	}
	groups, err := h.Store.Groups(ctx, tenant, user)
	if err != nil {
		return nil, err
	}
	var through []*Grant
	if len(groups[user]) > 0 {
		if through, err = grantsFrom(h.Store.Items(ctx, tenant, grantKind, watchedKey)); err != nil {
			return nil, err
		}
	}
	active, err := h.active(ctx, tenant, "principal/"+user)
	if err != nil {
		return nil, err
	}
	now := h.Now()
	var list []Holding
	for _, g := range grants {
		if !g.Ended(now) {
			own := holdingOf(g)
			own.ActiveTill = active[g.ID+"/"+user]
			list = append(list, own)
		}
	}
	for _, g := range through {
		in := slices.ContainsFunc(groups[user], func(m storage.Membership) bool { return m.Group == g.Principal })
		if in && !g.Ended(now) {
			own := holdingOf(g)
			own.Principal, own.Type, own.Through, own.ActiveTill = user, PrincipalUser, g.Principal, active[g.ID+"/"+user]
			list = append(list, own)
		}
	}
	return list, nil
}

// Administrators calls fn for each way in which somebody holds an administrative role,
// role by role in the order of their ids.
func (h Holdings) Administrators(ctx context.Context, tenant storage.TenantID, fn func(*Role, Holding) error) error {
	roles, err := h.AdministrativeRoles(ctx, tenant)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if err := h.OfRole(ctx, tenant, r.ID, func(x Holding) error { return fn(r, x) }); err != nil {
			return err
		}
	}
	return nil
}

// AdministrativeRoles returns the administrative roles that are given to anybody, in the
// order of their ids.
func (h Holdings) AdministrativeRoles(ctx context.Context, tenant storage.TenantID) ([]*Role, error) {
	grants, err := grantsFrom(h.Store.Items(ctx, tenant, grantKind, watchedKey))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var roles []*Role
	for _, g := range grants {
		if seen[g.Role] {
			continue
		}
		seen[g.Role] = true
		r, err := FindRole(ctx, h.Store, tenant, g.Role)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return nil, err
		case privileged(r):
			roles = append(roles, r)
		}
	}
	slices.SortFunc(roles, func(a, b *Role) int { return strings.Compare(a.ID, b.ID) })
	return roles, nil
}

// Approvers returns the users who could give a role to somebody, after activating
// their own roles if they have to, in the order of their ids.
func (h Holdings) Approvers(ctx context.Context, tenant storage.TenantID, role *Role) ([]string, error) {
	now := h.Now()
	may := map[string]Permissions{}
	err := h.Administrators(ctx, tenant, func(r *Role, x Holding) error {
		if x.Type == PrincipalUser && x.begun(now) {
			may[x.Principal] |= r.Permissions
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	needs := permissionsFor[AssignmentType][Create] | NewPermissions(needOf(role))
	var users []string
	for user, has := range may {
		if has.hasAll(needs) {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return users, nil
}

// active returns until when roles are active that had to be activated, by
// assignment and user.
func (h Holdings) active(ctx context.Context, tenant storage.TenantID, key string) (map[string]time.Time, error) {
	list, err := activationsFrom(h.Store.Items(ctx, tenant, activationKind, key))
	if err != nil {
		return nil, err
	}
	now := h.Now()
	until := map[string]time.Time{}
	for _, a := range list {
		if a.InForce(now) {
			until[a.Grant+"/"+a.Principal] = a.Until
		}
	}
	return until, nil
}

func holdingOf(g *Grant) Holding {
	return Holding{Role: g.Role, Assignment: g.ID, Principal: g.Principal, Type: g.PrincipalType, Eligible: g.Eligible, Start: g.Start, End: g.End}
}
