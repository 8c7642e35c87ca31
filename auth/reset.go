package auth

import (
	"context"
	"time"

	"github.com/roster-id/roster/storage"
)

// ResetPassword gives a user a temporary password, and ends the user's sessions. It
// leaves the factors as they are. The error is ErrSelf, a *DeniedError,
// storage.ErrNotFound, ErrBusy, or ErrLastAdministrator if the temporary password ends:
// that one is helped with NewSetup.
func (a *Authenticator) ResetPassword(ctx context.Context, by Principal, user string) (*Temporary, error) {
	administrator, err := a.isAdministrator(ctx, by.Tenant, user)
	if err != nil {
		return nil, err
	}
	t, err := a.NewTemporary(ctx, administrator)
	if err != nil {
		return nil, err
	}
	defer a.InvalidateUser(user)
	err = a.change(ctx, by, user, PermissionUsersPasswordReset, "password.reset", func(c *Credential, now time.Time) {
		c.beginAnew(administrator)
		a.handOver(c, t, now)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// ResetMFA removes the factors of a user, who has to enrol again, and ends the
// user's sessions. The error is ErrSelf, a *DeniedError, storage.ErrNotFound, or
// ErrLastAdministrator: that one is helped with NewSetup.
func (a *Authenticator) ResetMFA(ctx context.Context, by Principal, user string) error {
	defer a.InvalidateUser(user)
	return a.change(ctx, by, user, PermissionUsersMFAReset, "mfa.reset", func(c *Credential, _ time.Time) { c.resetMFA() })
}

// MarkEmergency marks a user's account as one for emergencies, which conditional
// rules do not apply to and whose use is reported, or takes the mark away. The user's
// sessions end. The error is ErrSelf, a *DeniedError, storage.ErrNotFound, or
// ErrLastAdministrator if the rules would let in no Global Administrator without the mark.
func (a *Authenticator) MarkEmergency(ctx context.Context, by Principal, user string, marked bool) error {
	defer a.InvalidateUser(user)
	return a.change(ctx, by, user, PermissionRolesAssignGlobal, "credential.emergency", func(c *Credential, _ time.Time) {
		c.BreakGlass = marked
		c.Generation++
	})
}

// change is a change of somebody's credential by somebody else, which ends the
// sessions.
func (a *Authenticator) change(ctx context.Context, by Principal, user string, p Permission, action string, fn func(*Credential, time.Time)) error {
	if by.Kind == User && by.ID == user {
		return ErrSelf
	}
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		if err := mayChangeCredentials(tx, by, user, p, now); err != nil {
			return err
		}
		err := KeepAdministrator(tx, now, func() error {
			c, err := ReadCredential(tx, user)
			if err != nil {
				return err
			}
			fn(c, now)
			return SaveCredential(tx, user, c)
		})
		if err != nil {
			return err
		}
		if _, err := dropSessions(tx, user); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, action, user, now)
	})
}

// mayChangeCredentials reports why by may not change the credentials of a user, or
// the sessions: it takes the permission, and that by may manage all roles that the
// user holds.
func mayChangeCredentials(tx storage.Tx, by Principal, user string, p Permission, now time.Time) error {
	by, err := by.AsOf(tx, now)
	if err != nil {
		return err
	}
	if by.Kind != Operator && (by.Kind != User || !by.Permissions.Has(p)) {
		return errDeniedCredentials
	}
	r, err := tx.Get(PrincipalUser, user)
	if err != nil {
		return err
	}
	held, err := HeldRolesTx(tx, r, now)
	if err != nil {
		return err
	}
	return Effect{Subjects: []Subject{{Before: held, After: held, Changes: AspectCredentials}}}.Permitted(by)
}

var errDeniedCredentials = &DeniedError{"you may not do this with somebody else's credentials"}
