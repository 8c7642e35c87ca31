package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/roster-id/roster/storage"
)

// via says where a session comes from that began in another tenant.
type via struct {
	Tenant     storage.TenantID `json:"tenant"`
	User       string           `json:"user"`
	Family     string           `json:"family"`     // of the session there
	Generation int64            `json:"generation"` // of the credential there
	Link       string           `json:"link"`
}

func (v *via) tenant() storage.TenantID {
	if v == nil {
		return ""
	}
	return v.Tenant
}

// ErrMove says: the other tenant does not let the account in. Which of its reasons it has is
// recorded there.
var ErrMove = errors.New("the account there cannot be entered now")

// ErrNotMoved says: the session did not begin in another tenant.
var ErrNotMoved = errors.New("the session began in this tenant")

// Destination is an account in another tenant that somebody can move on to.
type Destination struct {
	Tenant *storage.Tenant
	Link   Link
}

// Destinations returns where by can move. There are none in a session that has moved.
func (a *Authenticator) Destinations(ctx context.Context, by Principal) ([]Destination, error) {
	if by.Moved {
		return nil, nil
	}
	links, err := a.Links(ctx, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	tenants, err := a.Store.ListTenants(ctx)
	if err != nil {
		return nil, err
	}
	var list []Destination
	for _, t := range tenants {
		for _, l := range links {
			if l.Tenant == t.ID && l.Out && l.InForce {
				list = append(list, Destination{t, l.Link})
			}
		}
	}
	return list, nil
}

// Move begins a session of the account that a link of by leads to in another tenant, of
// level MFA, for a passcode was given just now. It ends with the session of by at the
// latest; when a password or passcode of by changes; when either account is blocked; and
// when either tenant ends the link. The error is storage.ErrNotFound if there is no link
// in force, ErrMoved, ErrPasscodeAge, a *RefusedError, or ErrMove.
func (a *Authenticator) Move(ctx context.Context, by Principal, tenant storage.TenantID, agent string) (*SignInResult, error) {
	res, o, err := a.move(ctx, by, tenant, agent)
	a.observe(eventMove, o, err)
	return res, err
}

func (a *Authenticator) move(ctx context.Context, by Principal, tenant storage.TenantID, agent string) (*SignInResult, outcome, error) {
	destinations, err := a.Destinations(ctx, by)
	if err != nil {
		return nil, "", err
	}
	var link *Link
	for _, d := range destinations {
		if d.Tenant.ID == tenant {
			link = &d.Link
		}
	}
	switch {
	case by.Kind != User || by.Moved:
		return nil, early, ErrMoved
	case link == nil:
		return nil, unknown, storage.ErrNotFound
	}
	from, err := a.leave(ctx, by, link)
	if err != nil {
		if _, refused := errors.AsType[*RefusedError](err); refused || errors.Is(err, ErrPasscodeAge) {
			return nil, early, err
		}
		return nil, "", err
	}
	return a.enter(ctx, by, link, from, agent)
}

// leave records in the tenant of by that a move is being tried, and returns the session
// that it begins from.
func (a *Authenticator) leave(ctx context.Context, by Principal, link *Link) (from session, err error) {
	err = a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		c, s, err := proving(tx, by, now)
		if err != nil {
			return err
		}
		from = s.session
		from.Via = &via{Tenant: by.Tenant, User: by.ID, Family: s.family(), Generation: c.Generation, Link: link.ID}
		e := by.Entry(ctx, now, "session.leave", PrincipalUser, by.ID)
		e.Changes = []storage.Change{storage.ChangeOf("to", nil, link.farEnd())}
		return tx.Audit(e)
	})
	return from, err
}

// enter begins the session in the other tenant, whose rules decide, and records there
// what came of it.
func (a *Authenticator) enter(ctx context.Context, by Principal, link *Link, from session, agent string) (*SignInResult, outcome, error) {
	tenant, user := link.Tenant, link.Other
	rules, err := a.judge(ctx, SignInRequest{Tenant: tenant, From: by.From, Agent: agent}, user)
	if err != nil {
		return nil, "", err
	}
	there := Principal{Kind: User, Tenant: tenant, ID: user, From: by.From}
	var (
		res *SignInResult
		o   outcome
	)
	err = a.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		c, err := ReadCredential(tx, user)
		if err != nil {
			return err
		}
		verdict := rules.verdict(c, now)
		if o, err = admits(tx, by, link, verdict); err != nil {
			return err
		}
		if o == accepted {
			r, err := tx.Get(PrincipalUser, user)
			if err != nil {
				return err
			}
			administrator, err := isAdministratorTx(tx, r, now)
			if err != nil {
				return err
			}
			s := session{User: user, Started: from.Started, PasscodeAt: from.PasscodeAt, Demand: verdict.Passcode,
				Last: rules.past(c, now).last, From: address(by.From), Agent: shortened(agent), Via: from.Via}
			if err := rules.record(&settlement{tx: tx, id: user, now: now, c: c}, &s, verdict); err != nil {
				return err
			}
			if err := SaveCredential(tx, user, c); err != nil {
				return err
			}
			if res, err = issue(tx, tenant, s, c, administrator, nil, now); err != nil {
				return err
			}
		}
		e := there.Entry(ctx, now, "session.enter."+string(o), PrincipalUser, user)
		e.Changes = []storage.Change{storage.ChangeOf("from", nil, farEnd{by.Tenant, by.ID})}
		return tx.Audit(e)
	})
	switch {
	case err != nil:
		return nil, "", err
	case o != accepted:
		return nil, o, ErrMove
	}
	if rules.facts.BreakGlass {
		a.log().Warn("somebody signed in to an account for emergencies", "tenant", tenant, "user", user)
		a.observe(eventEmergency, accepted, nil)
	}
	return res, o, nil
}

// admits says whether the account that a link leads to can be entered, inside a write of
// its tenant.
func admits(tx storage.Tx, by Principal, link *Link, verdict Judgement) (outcome, error) {
	i, err := tx.Item(linkKind, link.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return unknown, nil
	}
	if err != nil {
		return "", err
	}
	side, err := linkFrom(i)
	if err != nil {
		return "", err
	}
	r, err := tx.Get(PrincipalUser, link.Other)
	switch {
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return "", err
	case !link.pairs(by.Tenant, side):
		return unknown, nil
	case r == nil || !Active(r):
		return blocked, nil
	case verdict.Block:
		return forbidden, nil
	}
	return accepted, nil
}

// stillThere asks for what a session stands on that began in another tenant. The use of
// it counts as a use of the one that it came from.
func (a *Authenticator) stillThere(ctx context.Context, tenant storage.TenantID, s *storedSession, now time.Time) error {
	side, err := a.side(ctx, tenant, s.Via.Link)
	if err != nil {
		return err
	}
	if side == nil || side.User != s.User || side.Tenant != s.Via.Tenant || side.Other != s.Via.User {
		return refuseRevoked
	}
	there, err := a.otherSide(ctx, tenant, side)
	if err != nil {
		return err
	}
	if !there {
		return refuseRevoked
	}
	c, err := FindCredential(ctx, a.Store, s.Via.Tenant, s.Via.User)
	if err != nil {
		return err
	}
	u, err := a.account(ctx, s.Via.Tenant, s.Via.User)
	switch {
	case err != nil:
		return err
	case !u.active:
		return refuseRevoked
	case c.Generation != s.Via.Generation:
		return refuseExpired
	}
	list, err := sessionsOf(a.Store.Items(ctx, s.Via.Tenant, SessionKind, s.Via.User))
	if err != nil {
		return err
	}
	for _, home := range list {
		if home.family() != s.Via.Family || home.over(c, now) {
			continue
		}
		if next := storage.Milli(earlier(now.Add(SessionIdle), home.ends())); next.Sub(home.item.Expires) >= extendEvery {
			if err := a.Store.ExtendItem(ctx, s.Via.Tenant, SessionKind, home.item.ID, next); err != nil {
				a.log().Warn("use of a session not noted", "error", err)
			}
		}
		return nil
	}
	return refuseExpired
}

// Return goes back from a session that has moved, which ends, to the one that it came
// from, which goes on under another token. The error is ErrNotMoved or a *RefusedError.
func (a *Authenticator) Return(ctx context.Context, by Principal) (*SignInResult, error) {
	i, err := a.Store.Item(ctx, by.Tenant, SessionKind, by.Session)
	moved, err := foundSession(i, err)
	if err != nil {
		return nil, err
	}
	v := moved.Via
	if v == nil {
		return nil, ErrNotMoved
	}
	var res *SignInResult
	err = a.Store.Write(ctx, v.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		c, err := ReadCredential(tx, v.User)
		if err != nil {
			return err
		}
		r, err := tx.Get(PrincipalUser, v.User)
		if errors.Is(err, storage.ErrNotFound) {
			return refuseRevoked
		}
		if err != nil {
			return err
		}
		list, err := sessionsOf(tx.Items(SessionKind, v.User))
		if err != nil {
			return err
		}
		n := slices.IndexFunc(list, func(s *storedSession) bool { return s.family() == v.Family && !s.over(c, now) })
		if n < 0 || c.Generation != v.Generation || !Active(r) {
			return refuseExpired
		}
		administrator, err := isAdministratorTx(tx, r, now)
		if err != nil {
			return err
		}
		if res, err = issue(tx, v.Tenant, list[n].session, c, administrator, list[n].item, now); err != nil {
			return err
		}
		e := Principal{Kind: User, Tenant: v.Tenant, ID: v.User, From: by.From, Level: res.Level}.Entry(ctx, now, "session.return", PrincipalUser, v.User)
		e.Changes = []storage.Change{storage.ChangeOf("from", nil, farEnd{by.Tenant, by.ID})}
		return tx.Audit(e)
	})
	if err != nil {
		return nil, err
	}
	a.InvalidateUser(v.User)
	return res, a.SignOut(ctx, by)
}
