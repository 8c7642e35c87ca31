package scim

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Founding is what a new tenant begins with: somebody who comes from another tenant by a
// link, and is its Global Administrator.
type Founding struct {
	Tenant   storage.TenantID
	Name     string
	UserID   string // a UUIDv7 that is given nowhere else
	UserName string
	Link     auth.Link // the side that leads to the user
}

// Found makes a tenant with its first administrator and the link to that account, all in
// one step: there is never a tenant that nobody can enter. by is the person that the
// founder is in the tenant they come from, for the address and the level. The caller has
// asked whether they may. The error is an *auth.InvalidError, or a *storage.UniqueError
// for "id" if there is such a tenant.
func (p *Provider) Found(ctx context.Context, by auth.Principal, f Founding) error {
	if err := auth.MayCreateTenants(by); err != nil {
		return err
	}
	if err := auth.CheckTenantID(f.Tenant); err != nil {
		return err
	}
	if err := auth.CheckTenantName(f.Name); err != nil {
		return err
	}
	founder := auth.Principal{Kind: auth.User, Tenant: f.Tenant, ID: f.UserID, From: by.From, Level: by.Level}
	now := p.now()
	user, told, err := p.draft(f.Tenant, auth.PrincipalUser, f.UserID, now, map[string]any{
		"schemas": []any{schemas.UserURI}, "userName": f.UserName, "active": true,
	})
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	given, toldGiven, err := p.draft(f.Tenant, assignmentType, id.String(), now, map[string]any{
		"schemas": []any{schemas.RoleAssignmentURI}, "role": map[string]any{"value": auth.GlobalAdministrator}, "kind": "active",
		"principal": map[string]any{"value": f.UserID, "type": auth.PrincipalUser}, "assignedBy": founder.Actor(), "reason": "founder of the tenant",
	})
	if err != nil {
		return err
	}
	grant := &auth.Grant{ID: given.ID, Role: auth.GlobalAdministrator, Principal: f.UserID, PrincipalType: auth.PrincipalUser}
	return p.Store.Write(ctx, f.Tenant, func(tx storage.Tx) error {
		if err := tx.CreateTenant(f.Name, now); err != nil {
			return err
		}
		if err := tx.Audit(auth.TenantEntry(ctx, founder, now, "tenant.create", "", f.Name)); err != nil {
			return err
		}
		if err := tx.Create(user); err != nil {
			return err
		}
		if err := p.record(ctx, tx, founder, "create", user, nil, told); err != nil {
			return err
		}
		if err := tx.Create(given); err != nil {
			return err
		}
		if err := auth.PutGrant(tx, nil, grant, auth.BuiltInRole(grant.Role)); err != nil {
			return err
		}
		if err := p.record(ctx, tx, founder, "create", given, nil, toldGiven); err != nil {
			return err
		}
		return auth.PutLink(ctx, tx, founder, f.Link)
	})
}

// draft makes a new resource out of a body, and says what its entry tells.
func (p *Provider) draft(tenant storage.TenantID, typ, id string, now time.Time, body map[string]any) (*storage.Resource, changes, error) {
	t := p.Schemas.Type(typ)
	attrs, err := t.Bind(body, schemas.Lenient)
	if err != nil {
		return nil, changes{}, err
	}
	for _, name := range []string{"kind", "assignedBy"} { // read-only to clients
		if v, ok := body[name]; ok {
			attrs[name] = v
		}
	}
	r := &storage.Resource{Type: typ, ID: id, Version: 1, Created: now, LastModified: now}
	return r, created(t, attrs), p.fill(tenant, t, r, attrs)
}
