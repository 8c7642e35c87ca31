package auth

import (
	"errors"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// ErrLastAdministrator says: the write would leave the tenant without a Global
// Administrator who can sign in.
var ErrLastAdministrator = errors.New("the last usable Global Administrator cannot be removed")

// adminGuard makes writes that could remove a Global Administrator come one after
// the other.
const adminGuard = "global-administrator"

// KeepAdministrator runs a part of a write that may take Global Administrator, the
// password, the passcode or the sign-in from somebody. The error is
// ErrLastAdministrator if there was a usable Global Administrator before and there is
// none after it, whoever asks: one who has the role at present, is active, and has a
// password and a confirmed passcode. Of several such writes at the same time each
// sees what those before it did.
func KeepAdministrator(tx storage.Tx, now time.Time, write func() error) error {
	if err := tx.Guard(adminGuard); err != nil {
		return err
	}
	before, err := usableAdministrator(tx, now)
	if err != nil {
		return err
	}
	if err := write(); err != nil || !before {
		return err
	}
	after, err := usableAdministrator(tx, now)
	if err == nil && !after {
		err = ErrLastAdministrator
	}
	return err
}

// usableAdministrator reports whether there is one.
func usableAdministrator(tx storage.Tx, now time.Time) (bool, error) {
	grants, err := GrantsOf(tx, GlobalAdministrator)
	if err != nil {
		return false, err
	}
	active, err := activationsFrom(tx.Items(activationKind, "role/"+GlobalAdministrator))
	if err != nil {
		return false, err
	}
	for _, a := range active {
		if !a.InForce(now) {
			continue
		}
		ok, err := usable(tx, a.Principal, now)
		if ok && err == nil {
			ok, err = stillEligible(tx, a, now)
		}
		if ok || err != nil {
			return ok, err
		}
	}
	seen := map[string]bool{}
	for _, g := range grants {
		if !g.InForce(now) {
			continue
		}
		switch g.PrincipalType {
		case PrincipalUser:
			if ok, err := usable(tx, g.Principal, now); ok || err != nil {
				return ok, err
			}
		case PrincipalGroup:
			if ok, err := usableIn(tx, g.Principal, now, seen); ok || err != nil {
				return ok, err
			}
		}
	}
	return false, nil
}

// stillEligible reports whether an activation of a user who is there gives its role.
func stillEligible(tx storage.Tx, a *Activation, now time.Time) (bool, error) {
	r, err := tx.Get(PrincipalUser, a.Principal)
	if err != nil {
		return false, err
	}
	above, err := aboveTx(tx, r)
	if err != nil {
		return false, err
	}
	return inside(tx, r).stands(a, above, now)
}

// usableIn reports whether somebody usable is in a group, directly or through
// others.
func usableIn(tx storage.Tx, group string, now time.Time, seen map[string]bool) (bool, error) {
	if seen[group] {
		return false, nil
	}
	seen[group] = true
	g, err := tx.Get(PrincipalGroup, group)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// The members are read whole before anything else is asked: a store answers
	// one question at a time.
	var users, groups []string
	err = tx.EachMember(g, func(m storage.Member) error {
		if m.Type == PrincipalGroup {
			groups = append(groups, m.Value)
		} else {
			users = append(users, m.Value)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	for _, u := range users {
		if ok, err := usable(tx, u, now); ok || err != nil {
			return ok, err
		}
	}
	for _, sub := range groups {
		if ok, err := usableIn(tx, sub, now, seen); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// usable reports whether a user can sign in as an administrator.
func usable(tx storage.Tx, user string, now time.Time) (bool, error) {
	r, err := tx.Get(PrincipalUser, user)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var doc struct {
		Active *bool `json:"active"`
	}
	if err := json.Unmarshal(r.Doc, &doc); err != nil {
		return false, errors.New("a stored user is damaged")
	}
	if doc.Active != nil && !*doc.Active {
		return false, nil
	}
	i, err := tx.Item(credentialKind, user)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var c struct {
		PasswordHash    string    `json:"passwordHash"`
		PasswordExpires time.Time `json:"passwordExpires"`
		TemporaryUsed   bool      `json:"temporaryUsed"`
		TOTP            *struct{} `json:"totp"` // there is one once it is confirmed
		Throttle        struct {
			FactorDisabled bool `json:"factorDisabled"`
		} `json:"throttle"`
	}
	if err := json.Unmarshal(i.Data, &c); err != nil {
		return false, errors.New("a stored credential is damaged") // the error may quote it
	}
	password := c.PasswordHash != "" && !c.TemporaryUsed && (c.PasswordExpires.IsZero() || now.Before(c.PasswordExpires))
	return password && c.TOTP != nil && !c.Throttle.FactorDisabled, nil
}
