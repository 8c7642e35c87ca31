package auth

import (
	"context"
	"time"

	"github.com/roster-id/roster/storage"
)

// ConnectRoles makes roles decide what users may do in their sessions, and who may
// change whose credentials.
func (a *Authenticator) ConnectRoles() {
	a.Holding = func(ctx context.Context, tenant storage.TenantID, user string, now time.Time) (Rights, error) {
		roles, err := EffectiveRoles(ctx, a.Store, tenant, user, now)
		if err != nil {
			return Rights{}, err
		}
		set, ids := PermissionsOf(roles)
		r := Rights{Roles: ids, Apply: func(p *Principal) { p.Permissions, p.Roles = set, ids }}
		for _, role := range roles {
			r.Administrator = r.Administrator || privileged(role)
		}
		return r, nil
	}
	a.Permitted = func(tx storage.Tx, by Principal, user string) error {
		u, err := tx.Get("User", user)
		if err != nil {
			return err
		}
		held, err := HeldRolesTx(tx, u, a.Now())
		if err != nil {
			return err
		}
		return Effect{Subjects: []Subject{{Before: held, After: held, Changes: AspectCredentials}}}.Permitted(by)
	}
}
