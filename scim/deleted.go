package scim

import (
	"context"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Deleted is a user or group that was deleted and can be restored.
type Deleted struct {
	*storage.WholeResource
	UserName, DisplayName string
	// By is who deleted it, as the audit trail has it; empty if that is not known.
	By string
	// Due is when it will be purged.
	Due time.Time
}

// DeletedQuery selects deleted resources.
type DeletedQuery struct {
	// Name is a part of the user name or display name, compared as filters compare;
	// empty for all.
	Name  string
	After storage.DeletedPlace // the Next of the page before
	Limit int
}

// DeletedPage is a page of deleted resources, those that were deleted last first.
type DeletedPage struct {
	Deleted []Deleted
	Total   int // of all deleted resources, whatever their names
	// Next is where the next page begins; zero if there is none. A search looks at a
	// bounded number of resources, so a page may be short or empty and have a next one.
	Next storage.DeletedPlace
}

// How many deleted resources one search looks at, and how many it reads at a time.
const (
	maxDeletedSeen = 1000
	deletedAtOnce  = 200
)

// deletedNeeds says what a person needs to see and restore, and to purge, deleted
// resources of a type. No client may do any of it.
var deletedNeeds = map[string]struct{ restore, purge auth.Permission }{
	auth.PrincipalUser:  {auth.PermissionUsersRestore, auth.PermissionUsersPurge},
	auth.PrincipalGroup: {auth.PermissionGroupsRestore, auth.PermissionGroupsPurge},
}

func allowDeleted(by auth.Principal, t *schemas.ResourceType, purge bool) error {
	needs := deletedNeeds[t.Name]
	if purge {
		return allowPerson(by, needs.purge)
	}
	return allowPerson(by, needs.restore)
}

// ListDeleted returns a page of the deleted resources of a type.
func (p *Provider) ListDeleted(ctx context.Context, by auth.Principal, t *schemas.ResourceType, q DeletedQuery) (*DeletedPage, error) {
	if err := allowDeleted(by, t, false); err != nil {
		return nil, err
	}
	keep, err := auth.FindRetention(ctx, p.Store, by.Tenant)
	if err != nil {
		return nil, err
	}
	page := &DeletedPage{}
	if page.Total, err = p.Store.CountDeleted(ctx, by.Tenant, t.Name); err != nil {
		return nil, err
	}
	name, place, seen := schemas.Fold(strings.TrimSpace(q.Name)), q.After, 0
	for {
		list, err := p.Store.ListDeleted(ctx, by.Tenant, t.Name, place, deletedAtOnce)
		if err != nil {
			return nil, err
		}
		for _, w := range list {
			if len(page.Deleted) == q.Limit || seen == maxDeletedSeen {
				page.Next = place
				return page, nil
			}
			place, seen = w.Place(), seen+1
			x, err := p.deleted(t, w, keep)
			if err != nil {
				return nil, err
			}
			if !strings.Contains(schemas.Fold(x.UserName), name) && !strings.Contains(schemas.Fold(x.DisplayName), name) {
				continue
			}
			n, err := deletionFrom(p.Store.Item(ctx, by.Tenant, deletionKind, w.ID))
			if err != nil {
				return nil, err
			}
			if x.By = n.By; !n.Purging {
				page.Deleted = append(page.Deleted, x)
			}
		}
		if len(list) < deletedAtOnce {
			return page, nil
		}
	}
}

func (p *Provider) deleted(t *schemas.ResourceType, w *storage.WholeResource, keep auth.Retention) (Deleted, error) {
	attrs, err := parseStored(t, &w.Resource)
	if err != nil {
		return Deleted{}, err
	}
	x := Deleted{WholeResource: w, Due: keep.Due(w.Deleted)}
	x.UserName, _ = attrs["userName"].(string)
	x.DisplayName, _ = attrs["displayName"].(string)
	return x, nil
}

// DeletedWhole is a deleted resource with what would come back with it.
type DeletedWhole struct {
	Deleted
	Groups []storage.Membership
	Roles  []ReturningRole
}

// GetDeleted returns a deleted resource, with what restoring it would bring back.
func (p *Provider) GetDeleted(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) (*DeletedWhole, error) {
	if err := allowDeleted(by, t, false); err != nil {
		return nil, err
	}
	w, n, err := p.findDeleted(ctx, by, t, id)
	if err != nil {
		return nil, err
	}
	keep, err := auth.FindRetention(ctx, p.Store, by.Tenant)
	if err != nil {
		return nil, err
	}
	out := &DeletedWhole{}
	if out.Deleted, err = p.deleted(t, w, keep); err != nil {
		return nil, err
	}
	out.By = n.By
	if out.Groups, err = p.Store.FormerGroups(ctx, by.Tenant, id); err != nil {
		return nil, err
	}
	ids := make([]string, len(out.Groups))
	for i, g := range out.Groups {
		ids[i] = g.Group
	}
	around, err := p.Store.Groups(ctx, by.Tenant, ids...)
	if err != nil {
		return nil, err
	}
	standing, err := p.standings.Refresh(ctx, p.Store, by.Tenant)
	if err != nil {
		return nil, err
	}
	c, err := p.comeback(reader{
		deleted: func(typ, id string) (*storage.WholeResource, error) {
			return p.Store.GetDeleted(ctx, by.Tenant, typ, id)
		},
		role: func(id string) (*auth.Role, error) { return auth.FindRole(ctx, p.Store, by.Tenant, id) },
		above: func(group string) (above []string, _ error) {
			for _, g := range around[group] {
				above = append(above, g.Group)
			}
			return above, nil
		},
	}, standing, n, out.Groups, p.now())
	if err != nil {
		return nil, err
	}
	out.Roles = c.roles()
	return out, nil
}

// findDeleted reads what can be restored.
func (p *Provider) findDeleted(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) (*storage.WholeResource, *deletion, error) {
	if !ours(id) {
		return nil, nil, storage.ErrNotFound
	}
	w, err := p.Store.GetDeleted(ctx, by.Tenant, t.Name, id)
	if err != nil {
		return nil, nil, err
	}
	n, err := deletionFrom(p.Store.Item(ctx, by.Tenant, deletionKind, id))
	if err == nil && n.Purging {
		err = storage.ErrNotFound
	}
	return w, n, err
}
