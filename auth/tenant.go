package auth

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/roster-id/roster/storage"
)

// tenantID is what the id of a tenant is like. It can be a label of a host name.
var tenantID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,28}[a-z0-9]$`)

const maxTenantName = 100

// CheckTenantID reports why a new tenant cannot have an id.
func CheckTenantID(id storage.TenantID) error {
	if !tenantID.MatchString(string(id)) || strings.Contains(string(id), "--") {
		return &InvalidError{"id", "2 to 30 lower-case letters, digits and single hyphens, beginning with a letter"}
	}
	return nil
}

// CheckTenantName reports why a tenant cannot be called that.
func CheckTenantName(name string) error {
	if strings.TrimSpace(name) != name || name == "" || utf8.RuneCountInString(name) > maxTenantName || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, unicode.IsControl) {
		return &InvalidError{"name", fmt.Sprintf("1 to %d characters, no space at its ends", maxTenantName)}
	}
	return nil
}

// TenantsFor returns the tenants that somebody gets to see: all of them in the default
// tenant, from which tenants are made, and one's own in any other.
func TenantsFor(ctx context.Context, store storage.Tenants, by Principal) ([]*storage.Tenant, error) {
	all, err := store.ListTenants(ctx)
	if err != nil || by.Tenant == storage.DefaultTenant {
		return all, err
	}
	var own []*storage.Tenant
	for _, t := range all {
		if t.ID == by.Tenant {
			own = append(own, t)
		}
	}
	return own, nil
}

// MayCreateTenants reports why somebody may not make tenants: a *DeniedError. It
// takes a person of the default tenant who signed in there.
func MayCreateTenants(by Principal) error {
	if by.Kind == Operator || by.Kind == User && by.Tenant == storage.DefaultTenant && !by.Moved && by.Permissions.Has(PermissionTenantsWrite) {
		return nil
	}
	return &DeniedError{"tenants are made by people of the default tenant who signed in there"}
}

// CreateTenant makes the tenant of an operator, with nobody in it; see
// Authenticator.NewFirstSetup. The error is an *InvalidError, or a
// *storage.UniqueError if there is such a tenant.
func CreateTenant(ctx context.Context, store storage.Store, by Principal, name string, at time.Time) error {
	if by.Kind != Operator {
		return ErrNotPermitted
	}
	if err := CheckTenantID(by.Tenant); err != nil {
		return err
	}
	if err := CheckTenantName(name); err != nil {
		return err
	}
	at = storage.Milli(at)
	return store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.CreateTenant(name, at); err != nil {
			return err
		}
		return tx.Audit(TenantEntry(ctx, by, at, "tenant.create", "", name))
	})
}

// RenameTenant gives the tenant of a principal another name.
func RenameTenant(ctx context.Context, store storage.Store, by Principal, name string, at time.Time) error {
	if by.Kind != Operator && !by.Permissions.Has(PermissionTenantsWrite) {
		return ErrNotPermitted
	}
	if err := CheckTenantName(name); err != nil {
		return err
	}
	list, err := store.ListTenants(ctx)
	if err != nil {
		return err
	}
	before := ""
	for _, t := range list {
		if t.ID == by.Tenant {
			before = t.Name
		}
	}
	return store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.RenameTenant(name); err != nil {
			return err
		}
		return tx.Audit(TenantEntry(ctx, by, at, "tenant.rename", before, name))
	})
}

// TenantEntry is the audit entry of what was done to the tenant of a principal, with
// its name before, "" for none, and after.
func TenantEntry(ctx context.Context, by Principal, at time.Time, action, before, after string) storage.AuditEntry {
	e := by.Entry(ctx, at, action, "Tenant", string(by.Tenant))
	e.Attributes = []string{"name"}
	var was any
	if before != "" {
		was = before
	}
	e.Changes = []storage.Change{storage.ChangeOf("name", was, after)}
	return e
}

// RecordTenant records in the tenant of by that they have made another one.
func (a *Authenticator) RecordTenant(ctx context.Context, by Principal, tenant storage.TenantID, name string) error {
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		e := by.Entry(ctx, a.Now(), "tenant.create", "Tenant", string(tenant))
		e.Changes = []storage.Change{storage.ChangeOf("name", nil, name)}
		return tx.Audit(e)
	})
}
