package scim

import (
	"context"

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
	users := p.Schemas.Type(auth.PrincipalUser)
	user, attrs, _, err := p.newcomer(ctx, founder, users, map[string]any{"schemas": []any{schemas.UserURI}, "userName": f.UserName})
	if err != nil {
		return err
	}
	user.ID = f.UserID
	if err := p.fill(f.Tenant, users, user, attrs); err != nil {
		return err
	}
	given, err := p.given(founder, user, []AccountRole{{Role: auth.GlobalAdministrator, Reason: "founder of the tenant"}})
	if err != nil {
		return err
	}
	told, now := created(users, attrs), user.Created
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
		// Nobody was there who could decide about the role.
		d := p.decide(ctx, tx, founder, nil, now)
		if err := d.putGiven(given[0], auth.BuiltInRole(auth.GlobalAdministrator)); err != nil {
			return err
		}
		return auth.PutLink(ctx, tx, founder, f.Link)
	})
}
