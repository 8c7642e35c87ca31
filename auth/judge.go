package auth

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// trial is a sign-in under way, as conditional rules see it.
type trial struct {
	rules  []Rule
	facts  SignInFacts
	device string
	older  []Device // beside those that the credential remembers
}

// judge gathers what rules look at. It does the same work whether or not there is
// such an account.
func (a *Authenticator) judge(ctx context.Context, r SignInRequest, user string) (*trial, error) {
	rules, err := Rules(ctx, a.Store, r.Tenant)
	if err != nil {
		return nil, err
	}
	groups, err := groupsAround(ctx, a.Store, r.Tenant, user)
	if err != nil {
		return nil, fmt.Errorf("read the groups of an account: %w", err)
	}
	f := outside(ctx, a.Store, r.Tenant, user)
	f.above = func() ([]string, error) { return groups, nil }
	roles, err := f.roles(user, a.Now(), (*Grant).InForce)
	if err != nil {
		return nil, err
	}
	_, ids := PermissionsOf(roles)
	older, err := recordedDevices(ctx, a.Store, r.Tenant, user)
	if err != nil {
		return nil, err
	}
	return &trial{rules: rules, device: deviceOf(r.Tenant, user, shortened(r.Agent), r.From), older: older, facts: SignInFacts{
		Administrative: slices.ContainsFunc(roles, privileged), Roles: ids, Groups: groups, From: r.From,
	}}, nil
}

// past returns what is remembered of an account's sign-ins.
func (t *trial) past(c *Credential, now time.Time) past {
	p := remember(slices.Concat(c.Devices, t.older), t.device, now)
	// The owner is told of those, too, and no rule is.
	if c.Unproved.After(p.last) && (&Device{At: c.Unproved}).recent(now) {
		p.last = c.Unproved
	}
	return p
}

// verdict says what the rules come to for an account.
func (t *trial) verdict(c *Credential, now time.Time) Judgement {
	p := t.past(c, now)
	t.facts.BreakGlass, t.facts.NewDevice, t.facts.IdleDays = c.BreakGlass, p.newDevice, p.idleDays
	return Judge(t.rules, t.facts)
}

// record writes down a sign-in that was accepted. No other is recorded: it would be
// one write more for a password that was right, and so tell that it was.
// Where a passcode is still to be given in s, the device is not known before it was: or
// the second sign-in with a password alone would pass the rules that stopped the first.
func (t *trial) record(w *settlement, s *session, verdict Judgement) error {
	for _, d := range t.older {
		w.c.saw(d)
	}
	s.Device = t.device
	switch {
	case s.proved(), !s.Demand && (w.c.TOTP == nil || !t.facts.NewDevice):
		w.known(s, w.now)
	case !s.Demand:
		w.c.saw(Device{At: w.now}) // that was enough, so the account is not idle
	default:
		w.c.Unproved = w.now
	}
	return record(w.tx, RecordedSignIn{
		User: w.id, At: w.now, Device: t.device, Rules: verdict.Applied, Reported: verdict.Reported, Facts: t.facts,
	})
}
