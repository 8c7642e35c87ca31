package auth

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/storage"
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

// ErrTooManyRules says: a tenant has RulesKept rules at most.
var ErrTooManyRules = fmt.Errorf("a tenant has at most %d conditional rules", RulesKept)

// PutRule stores a valid rule, as a new one or in the place of the one with its id;
// the error is storage.ErrNotFound if there is none, *InvalidError, ErrTooManyRules, or
// ErrLastAdministrator if it would let in no Global Administrator any more.
func (a *Authenticator) PutRule(ctx context.Context, by Principal, r Rule, isNew bool) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return a.changeRule(ctx, by, r.ID, isNew, &r)
}

// DeleteRule removes a rule, or returns storage.ErrNotFound.
func (a *Authenticator) DeleteRule(ctx context.Context, by Principal, id string) error {
	return a.changeRule(ctx, by, id, false, nil)
}

// changeRule puts next, or nothing, in the place of a rule.
func (a *Authenticator) changeRule(ctx context.Context, by Principal, id string, isNew bool, next *Rule) error {
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := milli(a.Now())
		prev, err := ruleToChange(tx, id, isNew)
		if err != nil {
			return err
		}
		var before, after any
		if prev != nil {
			before = jsontext.Value(prev.Data)
		}
		if next == nil {
			err = tx.DeleteItem(prev)
		} else {
			var data []byte
			if data, err = next.data(); err != nil {
				return err
			}
			after = jsontext.Value(data)
			err = KeepAdministrator(tx, now, func() error {
				return tx.PutItem(prev, &storage.Item{Kind: RuleKind, ID: id, Data: data})
			})
		}
		if err != nil {
			return err
		}
		action := "rule.replace"
		switch {
		case prev == nil:
			action = "rule.create"
		case next == nil:
			action = "rule.delete"
		}
		e := by.Entry(ctx, now, action, "Rule", id)
		if err := told(&e, before, after); err != nil {
			return err
		}
		return tx.Audit(e)
	})
}

// ruleToChange returns the item of a rule that there is, or nil for a new one if there
// may be one more.
func ruleToChange(tx storage.Tx, id string, isNew bool) (*storage.Item, error) {
	if !isNew {
		return tx.Item(RuleKind, id)
	}
	if err := tx.Guard(RuleKind); err != nil {
		return nil, err
	}
	all, err := tx.Items(RuleKind, "")
	if err == nil && len(all) >= RulesKept {
		err = ErrTooManyRules
	}
	return nil, err
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
