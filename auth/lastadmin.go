package auth

import (
	"errors"
	"time"

	"github.com/roster-id/roster/storage"
)

// ErrLastAdministrator says: the write would leave the tenant without a Global
// Administrator who can sign in.
var ErrLastAdministrator = errors.New("the last usable Global Administrator cannot be removed")

// adminGuard makes writes that could remove a Global Administrator come one after
// the other.
const adminGuard = "global-administrator"

// usability is how long somebody can go on as a Global Administrator.
type usability uint8

const (
	unusable usability = iota
	// byLink: with nothing of their own to sign in with, from an account in another
	// tenant, which may be gone at any time.
	byLink
	// forNow: the role or the password ends, or the role had to be activated.
	forNow
	forGood
)

// KeepAdministrator runs a part of a write that may take Global Administrator, the
// password, the passcode or the sign-in from somebody. The error is
// ErrLastAdministrator if there was a usable Global Administrator before and there is
// none after it, whoever asks: one who has the role at present, is active, and has a
// password and a confirmed passcode. If there was one whose role and password do not
// end by themselves, there has to be one like that after it. Of several such writes at
// the same time each sees what those before it did.
//
// A Global Administrator whom a link from another tenant leads to, and who can sign in
// by nothing else, is not usable, but cannot be removed as long as there is nobody better.
func KeepAdministrator(tx storage.Tx, now time.Time, write func() error) error {
	if err := tx.Guard(adminGuard); err != nil {
		return err
	}
	before, err := bestAdministrator(tx, now)
	if err != nil {
		return err
	}
	if err := write(); err != nil || before == unusable {
		return err
	}
	after, err := bestAdministrator(tx, now)
	if err == nil && after < before {
		err = ErrLastAdministrator
	}
	return err
}

// usableAdministrator reports whether there is one.
func usableAdministrator(tx storage.Tx, now time.Time) (bool, error) {
	best, err := bestAdministrator(tx, now)
	return best > byLink, err
}

// bestAdministrator returns how long somebody can go on who can for longest.
func bestAdministrator(tx storage.Tx, now time.Time) (usability, error) {
	grants, err := GrantsOf(tx, GlobalAdministrator)
	if err != nil {
		return unusable, err
	}
	best := unusable
	seen := map[string]usability{} // of the groups, how long their members have the role
	for _, g := range grants {
		if !g.InForce(now) {
			continue
		}
		most := forGood
		if !g.End.IsZero() {
			most = forNow
		}
		u := unusable
		switch g.PrincipalType {
		case PrincipalUser:
			u, err = usable(tx, g.Principal, most, now)
		case PrincipalGroup:
			u, err = usableIn(tx, g.Principal, most, now, seen)
		}
		if best = max(best, u); best == forGood || err != nil {
			return best, err
		}
	}
	if best >= forNow {
		return best, nil
	}
	active, err := activationsFrom(tx.Items(activationKind, "role/"+GlobalAdministrator))
	if err != nil {
		return unusable, err
	}
	for _, a := range active {
		if !a.InForce(now) {
			continue
		}
		u, err := usable(tx, a.Principal, forNow, now)
		if err != nil {
			return unusable, err
		}
		if u <= best {
			continue
		}
		still, err := stillEligible(tx, a, now)
		if err != nil {
			return unusable, err
		}
		if still {
			best = u
		}
	}
	return best, nil
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

// usableIn returns how long somebody in a group can go on, directly in it or through
// others, who has the role for most.
func usableIn(tx storage.Tx, group string, most usability, now time.Time, seen map[string]usability) (usability, error) {
	if seen[group] >= most {
		return unusable, nil
	}
	seen[group] = most
	g, err := tx.Get(PrincipalGroup, group)
	if errors.Is(err, storage.ErrNotFound) {
		return unusable, nil
	}
	if err != nil {
		return unusable, err
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
		return unusable, err
	}
	best := unusable
	for _, id := range users {
		u, err := usable(tx, id, most, now)
		if best = max(best, u); best == most || err != nil {
			return best, err
		}
	}
	for _, sub := range groups {
		u, err := usableIn(tx, sub, most, now, seen)
		if best = max(best, u); best == most || err != nil {
			return best, err
		}
	}
	return best, nil
}

// usable returns how long a user can sign in as an administrator who has the role for
// most.
func usable(tx storage.Tx, user string, most usability, now time.Time) (usability, error) {
	r, err := tx.Get(PrincipalUser, user)
	if errors.Is(err, storage.ErrNotFound) {
		return unusable, nil
	}
	if err != nil {
		return unusable, err
	}
	if !parseAccount(r).active {
		return unusable, nil
	}
	c, err := ReadCredential(tx, user)
	switch {
	case err != nil:
		return unusable, err
	case !c.passwordGood(now) || c.TOTP == nil || c.Throttle.FactorDisabled:
		in, err := linksTx(tx, linkIn+user)
		if err != nil || len(in) == 0 {
			return unusable, err
		}
		return byLink, nil
	case !c.PasswordExpires.IsZero():
		return forNow, nil
	}
	return most, nil
}
