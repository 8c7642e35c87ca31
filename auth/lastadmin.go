package auth

import (
	"errors"
	"net/netip"
	"slices"
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
	// shut: conditional rules let the account in from nowhere that it is known to
	// sign in from.
	shut
	// forNow: the role or the password ends, or the role had to be activated.
	forNow
	forGood
)

// KeepAdministrator runs a part of a write that may take Global Administrator, the
// password, the passcode or the sign-in from somebody. The error is
// ErrLastAdministrator if there was a usable Global Administrator before and there is
// none after it, whoever asks: one who has the role at present, is active, and has a
// password that did not come over SCIM, and a confirmed passcode. If there was one whom conditional rules let in,
// there has to be one like that after it; so with one whose role and password do not end
// by themselves. Of several such writes at the same time each sees what those before it
// did.
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

// administrators looks for one, in a write.
type administrators struct {
	tx    storage.Tx
	now   time.Time
	rules []Rule               // those that block
	seen  map[string]usability // of the groups, how long their members have the role
}

// bestAdministrator returns how long somebody can go on who can for longest.
func bestAdministrator(tx storage.Tx, now time.Time) (usability, error) {
	rules, err := rulesFrom(tx.Items(RuleKind, ""))
	if err != nil {
		return unusable, err
	}
	rules = slices.DeleteFunc(rules, func(r Rule) bool { return !r.blocks() })
	return (&administrators{tx, now, rules, map[string]usability{}}).best()
}

func (s *administrators) best() (usability, error) {
	grants, err := GrantsOf(s.tx, GlobalAdministrator)
	if err != nil {
		return unusable, err
	}
	best := unusable
	for _, g := range grants {
		if !g.InForce(s.now) {
			continue
		}
		most := forGood
		if !g.End.IsZero() {
			most = forNow
		}
		u := unusable
		switch g.PrincipalType {
		case PrincipalUser:
			u, err = s.usable(g.Principal, most)
		case PrincipalGroup:
			u, err = s.usableIn(g.Principal, most)
		}
		if best = max(best, u); best == forGood || err != nil {
			return best, err
		}
	}
	if best >= forNow {
		return best, nil
	}
	active, err := activationsFrom(s.tx.Items(activationKind, "role/"+GlobalAdministrator))
	if err != nil {
		return unusable, err
	}
	for _, a := range active {
		if !a.InForce(s.now) {
			continue
		}
		u, err := s.usable(a.Principal, forNow)
		if err != nil {
			return unusable, err
		}
		if u <= best {
			continue
		}
		still, err := stillEligible(s.tx, a, s.now)
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
func (s *administrators) usableIn(group string, most usability) (usability, error) {
	if s.seen[group] >= most {
		return unusable, nil
	}
	s.seen[group] = most
	g, err := s.tx.Get(PrincipalGroup, group)
	if errors.Is(err, storage.ErrNotFound) {
		return unusable, nil
	}
	if err != nil {
		return unusable, err
	}
	// The members are read whole before anything else is asked: a store answers
	// one question at a time.
	var users, groups []string
	err = s.tx.EachMember(g, func(m storage.Member) error {
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
		u, err := s.usable(id, most)
		if best = max(best, u); best == most || err != nil {
			return best, err
		}
	}
	for _, sub := range groups {
		u, err := s.usableIn(sub, most)
		if best = max(best, u); best == most || err != nil {
			return best, err
		}
	}
	return best, nil
}

// usable returns how long a user can sign in as an administrator who has the role for
// most.
func (s *administrators) usable(user string, most usability) (usability, error) {
	r, err := s.tx.Get(PrincipalUser, user)
	if errors.Is(err, storage.ErrNotFound) {
		return unusable, nil
	}
	if err != nil {
		return unusable, err
	}
	if !Active(r) {
		return unusable, nil
	}
	c, err := ReadCredential(s.tx, user)
	switch {
	case err != nil:
		return unusable, err
	case !c.passwordGood(s.now) || c.Pushed || c.TOTP == nil || c.Throttle.FactorDisabled:
		links, err := linksTx(s.tx, linkIn+user)
		if err != nil || len(links) == 0 {
			return unusable, err
		}
		return byLink, nil
	}
	in, err := s.letIn(r, c)
	switch {
	case err != nil:
		return unusable, err
	case !in:
		return shut, nil
	case !c.PasswordExpires.IsZero():
		return forNow, nil
	}
	return most, nil
}

// letIn reports whether the rules would let an administrator in now, from one of the
// devices that the account is known to sign in from. From elsewhere they might, but
// nobody knows whether its owner can be there.
func (s *administrators) letIn(r *storage.Resource, c *Credential) (bool, error) {
	if len(s.rules) == 0 || c.BreakGlass {
		return true, nil
	}
	groups, err := aboveTx(s.tx, r)
	if err != nil {
		return false, err
	}
	roles, err := EffectiveRolesTx(s.tx, r, s.now)
	if err != nil {
		return false, err
	}
	_, ids := PermissionsOf(roles)
	devices := c.Devices
	if len(devices) == 0 {
		devices = []Device{{}} // unknown, and from nowhere
	}
	for _, d := range devices {
		p := remember(c.Devices, d.ID, s.now)
		from, _ := netip.ParseAddr(d.From) // the zero address if it is not known
		facts := SignInFacts{Administrative: true, Roles: ids, Groups: groups, From: from, NewDevice: p.newDevice, IdleDays: p.idleDays}
		if !Judge(s.rules, facts).Block {
			return true, nil
		}
	}
	return false, nil
}
