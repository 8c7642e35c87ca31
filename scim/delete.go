package scim

import (
	"context"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// How a resource is deleted, with what goes with it. deletion.go has what is remembered.

func (p *Provider) delete(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, also func(storage.Tx) error) error {
	if err := p.allow(by, auth.Delete, t); err != nil {
		return err
	}
	if t.Name == membershipType {
		if also != nil {
			return errWhole
		}
		return p.deleteMembership(ctx, by, t, id, pre)
	}
	if !ours(id) {
		return storage.ErrNotFound
	}
	if builtIn(t, id) != nil {
		return errBuiltIn
	}
	var leaving reassignment
	var err error
	switch t.Name {
	case auth.PrincipalUser:
		leaving, err = p.leaving(ctx, by.Tenant, id)
	case roleType, entitlementType:
		leaving, err = p.wordless(ctx, by.Tenant, t, id)
	}
	if err != nil {
		return err
	}
	if err := leaving.settled(ctx, p, by.Tenant); err != nil {
		return err
	}
	err = p.withStanding(ctx, by, func(s *auth.Standing) error {
		return p.write(ctx, by.Tenant, func(tx storage.Tx) error {
			r, err := tx.Get(t.Name, id)
			if err != nil {
				return err
			}
			if err := pre.check(r); err != nil {
				return err
			}
			r.LastModified = p.now()
			d := p.decide(ctx, tx, by, s, r.LastModified)
			if err := d.holds(r); err != nil {
				return err
			}
			costs, err := d.costs(r)
			if err != nil {
				return err
			}
			return d.keep(costs, func() error {
				if err := stopWaiting(tx, r); err != nil {
					return err
				}
				var err error
				if d.reports, err = d.reassign(leaving); err != nil {
					return err
				}
				if err := d.delete(r); err != nil || also == nil {
					return err
				}
				return also(tx)
			})
		})
	})
	if err == nil && t.Name == auth.PrincipalUser {
		_ = p.left(ctx, by, id) // the user is deleted in any case, and purging does it again
	}
	return err
}

// delete removes a resource with all that goes with it, if that is permitted.
func (d *decision) delete(r *storage.Resource) error {
	groups, err := d.tx.MemberOf(r)
	if err != nil {
		return err
	}
	if err := d.remove(r); err != nil {
		return err
	}
	if err := d.ask(); err != nil {
		return err
	}
	if err := d.erase(r); err != nil {
		return err
	}
	var left changes
	left.members(false, []string{r.ID}, 1)
	for _, g := range groups {
		g.Version, g.LastModified = g.Version+1, r.LastModified
		if err := d.p.record(d.ctx, d.tx, d.by, "patch", g, []string{"members"}, left); err != nil {
			return err
		}
	}
	return nil
}

// erase deletes a resource and records it.
func (d *decision) erase(r *storage.Resource) error {
	if err := d.tx.Delete(r, r.LastModified); err != nil {
		return err
	}
	told, err := deleted(r.Doc)
	if err != nil {
		return err
	}
	return d.p.record(d.ctx, d.tx, d.by, "delete", r, nil, told)
}
