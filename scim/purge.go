package scim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// Purge removes a deleted resource for good: the resource, its memberships and
// assignments, and what proves who a user is. The audit trail keeps what it says. It
// takes that the principal may manage whatever roles would come back. The error is
// storage.ErrNotFound if there is nothing to purge.
func (p *Provider) Purge(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) error {
	err := allowDeleted(by, t, true)
	if err == nil {
		err = p.purge(ctx, by, t, id)
	}
	return p.observe(t, "purge", err)
}

func (p *Provider) purge(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) error {
	if !ours(id) {
		return storage.ErrNotFound
	}
	invitations, err := p.acceptedAs(ctx, by.Tenant, t, id)
	if err != nil {
		return err
	}
	if t.Name == auth.PrincipalUser {
		if err := p.left(ctx, by, id); err != nil {
			return err
		}
	}
	for more := true; more; {
		err := p.withStanding(ctx, by, func(s *auth.Standing) error {
			return p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
				prev, err := tx.GetDeleted(t.Name, id)
				if err != nil {
					return err
				}
				d := p.decide(ctx, tx, by, s, p.now())
				if more, err = d.purge(t, prev); err != nil || more {
					return err
				}
				return d.purgeInvitations(invitations)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// acceptedAs finds the invitations that a user came by: they say who that was.
func (p *Provider) acceptedAs(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, user string) (ids []string, err error) {
	if t.Name != auth.PrincipalUser {
		return nil, nil
	}
	of := p.Schemas.Type(invitationType).Lookup("user.value")
	page, err := p.Store.Query(ctx, tenant, storage.Query{Type: invitationType, StartIndex: 1, Count: MaxCount,
		Filter: filter.EqualTo(of, user)})
	if err != nil {
		return nil, err
	}
	err = page.Each(ctx, func(portion []*storage.Resource) error {
		for _, r := range portion {
			ids = append(ids, r.ID)
		}
		return nil
	})
	return ids, err
}

// purgeInvitations removes invitations for good that are not even deleted.
func (d *decision) purgeInvitations(ids []string) error {
	for _, id := range ids {
		r, err := d.tx.Get(invitationType, id)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		r.LastModified = d.now
		if err := d.erase(r); err != nil {
			return err
		}
		w, err := d.tx.GetDeleted(invitationType, id)
		if err != nil {
			return err
		}
		if _, err := d.tx.Purge(w); err != nil {
			return err
		}
		if err := d.purged(w); err != nil {
			return err
		}
	}
	return nil
}

// purge decides about the end of a deleted resource, and removes it or a part of it.
func (d *decision) purge(t *schemas.ResourceType, prev *storage.WholeResource) (more bool, err error) {
	if err := d.holds(&prev.Resource); err != nil {
		return false, err
	}
	n, _, c, err := d.gather(prev, Restoration{})
	if err != nil {
		return false, err
	}
	var held []*auth.Role
	for _, r := range c.roles() {
		held = append(held, r.Role)
	}
	d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: held, After: held, Changes: auth.AspectExistence})
	if err := d.ask(); err != nil {
		return false, err
	}
	if more, err = d.tx.Purge(prev); err != nil {
		return false, err
	}
	if more {
		n.Purging = true
		if err := n.put(d.tx, prev.ID); err != nil {
			return false, err
		}
		return true, d.purged(prev)
	}
	if t.Name == auth.PrincipalUser {
		if err := auth.Forget(d.tx, prev.ID); err != nil {
			return false, err
		}
	}
	for _, id := range n.Assignments {
		w, err := d.tx.GetDeleted(assignmentType, id)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if _, err := d.tx.Purge(w); err != nil {
			return false, err
		}
		if err := d.purged(w); err != nil {
			return false, err
		}
	}
	if n.item != nil {
		if err := d.tx.DeleteItem(n.item); err != nil {
			return false, err
		}
	}
	return false, d.purged(prev)
}

// purged records a purge. It is no event: to those who are told of changes the resource
// has been gone for long.
func (d *decision) purged(w *storage.WholeResource) error {
	return d.tx.Audit(d.by.Entry(d.ctx, d.now, d.p.action(w.Type, "purge"), w.Type, w.ID))
}

// Sweep purges what was deleted in a tenant longer ago than its Retention says, and
// returns how many resources that were. It takes roles from clients that were revoked
// from the host, too. Any number of processes may do it at once.
// One that cannot be purged keeps none of the others.
func (p *Provider) Sweep(ctx context.Context, tenant storage.TenantID) (n int, err error) {
	// What is being loaded is not the tenant's yet.
	if mark, err := p.Store.LoadMark(ctx, tenant); err != nil || mark != nil {
		return 0, err
	}
	keep, err := auth.FindRetention(ctx, p.Store, tenant)
	if err != nil {
		return 0, err
	}
	failed := p.takeFromRevoked(ctx, tenant)
	// Users and groups come before the assignments that went with them.
	set, err := p.types(ctx, tenant)
	if err != nil {
		return 0, err
	}
	types := slices.Clone(set.Types())
	slices.SortStableFunc(types, func(a, b *schemas.ResourceType) int {
		_, x := deletedNeeds[a.Name]
		_, y := deletedNeeds[b.Name]
		switch {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	for _, t := range types {
		place := storage.DeletedPlace{At: keep.Cutoff(p.now())}
		for {
			list, err := p.Store.ListDeleted(ctx, tenant, t.Name, place, deletedAtOnce)
			if err != nil {
				return n, errors.Join(failed, err)
			}
			for _, w := range list {
				err := p.purge(ctx, auth.System(tenant), t, w.ID)
				if errors.Is(err, storage.ErrNotFound) {
					continue // another process was first
				}
				switch err = p.observe(t, "purge", err); {
				case err == nil:
					n++
				case errors.Is(err, storage.ErrUnavailable), ctx.Err() != nil:
					return n, errors.Join(failed, err)
				default:
					failed = errors.Join(failed, fmt.Errorf("purge %s %s: %w", t.Name, w.ID, err))
				}
			}
			if len(list) < deletedAtOnce {
				break
			}
			place = list[len(list)-1].Place()
		}
	}
	return n, failed
}

// takeFromRevoked takes roles from clients that were revoked by a process which could not,
// for another one has the directory.
func (p *Provider) takeFromRevoked(ctx context.Context, tenant storage.TenantID) error {
	clients, err := p.Store.ListClients(ctx, tenant)
	if err != nil {
		return err
	}
	for _, c := range clients {
		if c.Revoked.IsZero() {
			continue
		}
		switch grants, err := auth.FindGrantsTo(ctx, p.Store, tenant, c.ID); {
		case err != nil:
			return err
		case len(grants) == 0:
			continue
		}
		err := p.Store.Write(ctx, tenant, func(tx storage.Tx) error { return p.TakeFromClient(ctx, tx, auth.System(tenant), c.ID) })
		if err != nil {
			return fmt.Errorf("take the roles of client %s: %w", c.ID, err)
		}
	}
	return nil
}
