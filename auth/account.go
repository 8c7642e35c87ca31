package auth

import (
	"context"
	"errors"
	"time"

	"github.com/roster-id/roster/storage"
)

// ErrFactorRequired says: the user's roles require a passcode.
var ErrFactorRequired = errors.New("the roles of this account require a passcode")

// Current returns the session that by is in, without its token, with what it is good
// for now and what is missing for more. The error is a *RefusedError if it has ended.
func (a *Authenticator) Current(ctx context.Context, by Principal) (*SignInResult, error) {
	c, err := FindCredential(ctx, a.Store, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	s, err := foundSession(a.Store.Item(ctx, by.Tenant, SessionKind, by.Session))
	if err != nil {
		return nil, err
	}
	administrator, err := a.isAdministrator(ctx, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	_, missing := s.level(c, administrator, a.Now())
	return &SignInResult{Session: s.item.ID, User: s.User, Level: by.Level, Missing: missing, Ends: s.ends(), Last: s.Last}, nil
}

// RemoveFactor lets a user do without passcodes; the session by is in becomes one of
// level Password, and the others end. Whoever calls it has made sure that a passcode
// was given just now. The error is ErrFactorRequired for those who hold an
// administrative role, and ErrMoved in a session that began in another tenant.
func (a *Authenticator) RemoveFactor(ctx context.Context, by Principal) (*SignInResult, error) {
	if by.Moved {
		return nil, ErrMoved
	}
	defer a.InvalidateUser(by.ID)
	var res *SignInResult
	err := a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := milli(a.Now())
		c, err := ReadCredential(tx, by.ID)
		if err != nil {
			return err
		}
		s, err := resume(tx, by, c, now)
		if err != nil {
			return err
		}
		u, err := tx.Get("User", by.ID)
		if err != nil {
			return err
		}
		administrator, err := isAdministratorTx(tx, u, now)
		switch {
		case err != nil:
			return err
		case administrator:
			return ErrFactorRequired
		}
		c.resetMFA()
		if err := SaveCredential(tx, by.ID, c); err != nil {
			return err
		}
		if _, err := dropSessions(tx, by.ID); err != nil {
			return err
		}
		next := s.session
		next.PasscodeAt, next.RecoveryAt = time.Time{}, time.Time{}
		if res, err = issue(tx, by.Tenant, next, c, false, nil, now); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, "mfa.remove", by.ID, now)
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Activations returns the activations of a user that are in force or wait to be
// approved; those of everybody if user is empty.
func Activations(ctx context.Context, items storage.Items, tenant storage.TenantID, user string, now time.Time) ([]*Activation, error) {
	key := ""
	if user != "" {
		key = "principal/" + user
	}
	all, err := activationsFrom(items.Items(ctx, tenant, activationKind, key))
	if err != nil {
		return nil, err
	}
	var list []*Activation
	for _, a := range all {
		if a.InForce(now) || a.Pending(now) {
			list = append(list, a)
		}
	}
	return list, nil
}
