package auth

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/roster-id/roster/storage"
)

// trial is a sign-in under way, as conditional rules see it.
type trial struct {
	rules  []Rule
	facts  SignInFacts
	device string
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
	roles, err := effectiveRoles(ctx, a.Store, r.Tenant, user, func() ([]string, error) { return groups, nil }, a.Now())
	if err != nil {
		return nil, err
	}
	_, ids := PermissionsOf(roles)
	p, err := recall(ctx, a.Store, r.Tenant, user, shortened(r.Agent), r.From, a.Now())
	if err != nil {
		return nil, err
	}
	return &trial{rules: rules, device: p.device, facts: SignInFacts{
		Administrative: slices.ContainsFunc(roles, privileged), Roles: ids, Groups: groups, From: r.From, NewDevice: p.newDevice, IdleDays: p.idleDays,
	}}, nil
}

// verdict says what the rules come to for an account.
func (t *trial) verdict(c *Credential) Judgement {
	t.facts.BreakGlass = c.BreakGlass
	return Judge(t.rules, t.facts)
}

// record writes down a sign-in that was accepted. No other is recorded: it would be
// one write more for a password that was right, and so tell that it was.
func (t *trial) record(w *settlement, verdict Judgement) error {
	return record(w.tx, RecordedSignIn{
		User: w.id, At: w.now, Device: t.device, Rules: verdict.Applied, Reported: verdict.Reported, Facts: t.facts,
	})
}

// ErrTooManyRules says: a tenant has RulesKept rules at most.
var ErrTooManyRules = fmt.Errorf("a tenant has at most %d conditional rules", RulesKept)

// PutRule stores a valid rule, as a new one or in the place of the one with its id;
// the error is storage.ErrNotFound if there is none, *InvalidError, or ErrTooManyRules.
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

func (a *Authenticator) changeRule(ctx context.Context, by Principal, id string, isNew bool, next *Rule) error {
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		var prev *storage.Item
		if isNew {
			if err := tx.Guard(RuleKind); err != nil {
				return err
			}
			all, err := tx.Items(RuleKind, "")
			if err != nil {
				return err
			}
			if len(all) >= RulesKept {
				return ErrTooManyRules
			}
		} else {
			var err error
			if prev, err = tx.Item(RuleKind, id); err != nil {
				return err
			}
		}
		action := "rule.create"
		if next == nil {
			action = "rule.delete"
			if err := tx.DeleteItem(prev); err != nil {
				return err
			}
		} else {
			if prev != nil {
				action = "rule.replace"
			}
			data, err := next.data()
			if err != nil {
				return err
			}
			if err := tx.PutItem(prev, &storage.Item{Kind: RuleKind, ID: id, Data: data}); err != nil {
				return err
			}
		}
		return a.auditOf(ctx, tx, by, action, "Rule", id, milli(a.Now()))
	})
}

// MarkEmergency marks a user's account as one for emergencies, which conditional
// rules do not apply to and whose use is reported, or takes the mark away. The error
// is that of Permitted, or storage.ErrNotFound.
func (a *Authenticator) MarkEmergency(ctx context.Context, by Principal, user string, marked bool) error {
	return a.change(ctx, by, user, PermissionRolesAssignGlobal, "credential.emergency", func(c *Credential, _ time.Time) { c.BreakGlass = marked })
}
