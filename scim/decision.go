package scim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// errStanding: the roles of the tenant changed since the Standing was read.
var errStanding = errors.New("the roles of the tenant keep changing")

// withStanding calls fn with the Standing of the tenant, and again with a newer one
// as long as fn finds that it has changed.
func (p *Provider) withStanding(ctx context.Context, by auth.Principal, fn func(*auth.Standing) error) error {
	standing := p.standings.Known(by.Tenant)
	for attempt := 0; ; attempt++ {
		var err error
		if standing == nil || attempt > 0 {
			if standing, err = p.standings.Refresh(ctx, p.Store, by.Tenant); err != nil {
				return err
			}
		}
		err = fn(standing)
		switch {
		case !errors.Is(err, errStanding):
			return err
		case attempt == attempts:
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
	}
}

// decision gathers what a write would do, asks whether the principal may bring it
// about, and does what follows from it. It belongs to one attempt at a write.
type decision struct {
	p        *Provider
	ctx      context.Context // of one attempt
	tx       storage.Tx
	by       auth.Principal // as of the write
	unread   error          // what kept by from being read
	standing *auth.Standing
	now      time.Time
	effect   auth.Effect
	// reports are those who lose their manager by this.
	reports []string
	// advance: the Standing is other than it was.
	advance bool
}

func (p *Provider) decide(ctx context.Context, tx storage.Tx, by auth.Principal, s *auth.Standing, now time.Time) *decision {
	d := &decision{p: p, ctx: ctx, tx: tx, standing: s, now: now}
	// Before the write changes anything: it may be about the caller's own roles.
	d.by, d.unread = by.AsOf(tx, now)
	return d
}

// holds returns errStanding unless the Standing is that of what was read in this write, or
// for it.
func (d *decision) holds(r *storage.Resource) error {
	if r.Epoch != d.standing.Epoch {
		return errStanding
	}
	return nil
}

// subject notes that aspects of a user or group change.
func (d *decision) subject(id string, changes auth.Aspects) {
	if held := d.standing.Held(id, d.now); len(held) > 0 {
		d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: held, After: held, Changes: changes})
	}
	d.advance = d.advance || changes&(auth.AspectMembership|auth.AspectExistence) != 0 && d.standing.Watches(id)
}

// ask asks for what has been gathered.
func (d *decision) ask() error {
	if d.unread != nil {
		return d.unread
	}
	if err := d.effect.Permitted(d.by); err != nil {
		return err
	}
	// Who acts by an invitation gave a passcode when that was sent.
	if d.by.Kind == auth.User && d.by.Invitation == "" && d.effect.Administrative() && !d.by.PasscodeWithin(auth.StepUpAge, d.now) {
		return &auth.LevelError{MaxAge: auth.StepUpAge}
	}
	if d.advance {
		return d.tx.Advance()
	}
	return nil
}

// global reports whether Global Administrator is among the roles of somebody.
func (d *decision) global(id string) bool {
	for _, r := range d.standing.Held(id, d.now) {
		if r.ID == auth.GlobalAdministrator {
			return true
		}
	}
	return false
}

// keep runs the rest of a write, and if it could cost the tenant its last usable
// Global Administrator, holds it to that.
func (d *decision) keep(could bool, rest func() error) error {
	if !could {
		return rest()
	}
	return auth.KeepAdministrator(d.tx, d.now, rest)
}

// aspects says which aspects of a user or group are behind the attributes that
// change.
func aspects(t *schemas.ResourceType, changed []string) (set auth.Aspects) {
	for _, path := range changed {
		switch path {
		case "userName", signInBy:
			set |= auth.AspectUserName
		case "emails":
			set |= auth.AspectEmail
		case "active":
			set |= auth.AspectActive
		case "password":
			set |= auth.AspectCredentials
		case "displayName":
			if t.Name == auth.PrincipalGroup {
				set |= auth.AspectExistence
				continue
			}
			set |= auth.AspectProfile
		case "members": // of which the members are told themselves
		default:
			set |= auth.AspectProfile
		}
	}
	return set
}

// carried are the roles that the members of a group get by it. above are the groups
// that it is in.
func (d *decision) carried(group string, above func() ([]string, error)) ([]*auth.Role, error) {
	if !d.standing.Groups() {
		return nil, nil
	}
	ids, err := above()
	if err != nil {
		return nil, err
	}
	return d.standing.Carried(group, ids, d.now), nil
}

// joins notes that somebody becomes a member of a group that carries roles.
func (d *decision) joins(member string, carried []*auth.Role) {
	d.subject(member, auth.AspectMembership)
	d.gains(carried)
}

// leaves notes that somebody is no member any more.
func (d *decision) leaves(member string, carried []*auth.Role) {
	d.subject(member, auth.AspectMembership)
	d.loses(carried)
}

func (d *decision) gains(roles []*auth.Role) {
	if len(roles) > 0 {
		d.effect.Subjects = append(d.effect.Subjects, auth.Subject{After: roles})
	}
}

func (d *decision) loses(roles []*auth.Role) {
	if len(roles) > 0 {
		d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: roles})
	}
}

// endSessions signs a user out everywhere.
func (d *decision) endSessions(user string, at time.Time) error {
	n, err := auth.DropSessions(d.tx, user)
	if err != nil {
		return err
	}
	return d.sessionsEnded(n, user, at)
}

// sessionsEnded records that n sessions of a user have ended.
func (d *decision) sessionsEnded(n int, user string, at time.Time) error {
	if n == 0 {
		return nil
	}
	return d.tx.Audit(d.by.Entry(d.ctx, at, "session.end", auth.PrincipalUser, user))
}
