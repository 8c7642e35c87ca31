package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/storage"
)

// RuleKind is the kind of the items that conditional rules are kept in.
const RuleKind = "rule"

// Rule is a conditional rule: when a sign-in is such and such, it takes a
// passcode or is refused. Rules only ever make signing in harder, so their order
// does not matter, and a passcode that an account must have anyway is never
// waived by one. The emergency ("break-glass") account is exempt from all.
type Rule struct {
	ID    string    `json:"id,omitempty"`
	Name  string    `json:"name"`
	State RuleState `json:"state"`
	When  Condition `json:"when"`
	Then  Outcome   `json:"then"`
}

// RuleState says what a rule does.
type RuleState string

// The states of a rule.
const (
	RuleOn     RuleState = "on"
	RuleReport RuleState = "report" // it is noted what it would have done
	RuleOff    RuleState = "off"
)

// Outcome is what a rule asks of a sign-in it applies to.
type Outcome string

// The outcomes.
const (
	RequirePasscode Outcome = "passcode"
	Block           Outcome = "block"
)

// Condition says which sign-ins a rule applies to: those for which all of its
// fields that are set hold. One without any applies to all.
type Condition struct {
	// Administrative: the account holds an administrative role.
	Administrative bool `json:"administrative,omitzero"`
	// Roles and Groups, by id: the account holds one of the roles, or belongs to
	// one of the groups, directly or through others.
	Roles  []string `json:"roles,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// Networks: the request comes from one of these. OutsideNetworks: it comes
	// from none of these, or from an address nobody knows.
	Networks        []string `json:"networks,omitempty"`
	OutsideNetworks []string `json:"outsideNetworks,omitempty"`
	// NewDevice: the account has not signed in from there with that program
	// as long as sign-ins are recorded.
	NewDevice bool `json:"newDevice,omitzero"`
	// IdleDays: the account last signed in more than so many days ago, or never
	// as long as sign-ins are recorded.
	IdleDays int `json:"idleDays,omitzero"`
}

// SignInFacts are what rules look at. They are recorded with each sign-in, so that
// a rule can be tried on those of the past.
type SignInFacts struct {
	Administrative bool       `json:"administrative,omitzero"`
	BreakGlass     bool       `json:"breakGlass,omitzero"`
	Roles          []string   `json:"roles,omitempty"`
	Groups         []string   `json:"groups,omitempty"`
	From           netip.Addr `json:"from,omitzero"`
	NewDevice      bool       `json:"newDevice,omitzero"`
	// IdleDays is how many whole days ago the account last signed in, -1 for
	// never.
	IdleDays int `json:"idleDays"`
}

// RulesKept bounds the rules of a tenant, and what a rule may list.
const (
	RulesKept     = 100
	ruleListed    = 1000
	ruleNameRunes = 200
)

// InvalidError says what is wrong with what was asked for: a member, as the API calls
// it, and what was expected there. It repeats no value.
type InvalidError struct{ Member, Expected string }

func (e *InvalidError) Error() string { return e.Member + ": expected " + e.Expected }

// Validate checks a rule. The error is a *InvalidError.
func (r *Rule) Validate() error {
	switch {
	case strings.TrimSpace(r.Name) == "" || len([]rune(r.Name)) > ruleNameRunes:
		return &InvalidError{"name", fmt.Sprintf("a name of at most %d characters", ruleNameRunes)}
	case r.State != RuleOn && r.State != RuleReport && r.State != RuleOff:
		return &InvalidError{"state", "on, report or off"}
	case r.Then != RequirePasscode && r.Then != Block:
		return &InvalidError{"then", "passcode or block"}
	case r.When.IdleDays < 0 || r.When.IdleDays >= signInDays:
		return &InvalidError{"when.idleDays", fmt.Sprintf("a number of days below %d, as long as sign-ins are recorded", signInDays)}
	}
	for _, l := range []struct {
		name     string
		list     []string
		networks bool
	}{
		{"when.roles", r.When.Roles, false}, {"when.groups", r.When.Groups, false},
		{"when.networks", r.When.Networks, true}, {"when.outsideNetworks", r.When.OutsideNetworks, true},
	} {
		if len(l.list) > ruleListed {
			return &InvalidError{l.name, fmt.Sprintf("at most %d values", ruleListed)}
		}
		for i, v := range l.list {
			if l.networks {
				if _, err := ParseNetwork(v); err != nil {
					return &InvalidError{fmt.Sprintf("%s[%d]", l.name, i), "a network like 192.0.2.0/24 or 2001:db8::/32"}
				}
			} else if v == "" {
				return &InvalidError{fmt.Sprintf("%s[%d]", l.name, i), "an id"}
			}
		}
	}
	if r.State == RuleOn && r.Then == Block && r.When.everyone() {
		return &InvalidError{"when", "a condition: a rule that blocks everyone would lock all out"}
	}
	return nil
}

// data is the rule as it is stored, without its id.
func (r *Rule) data() ([]byte, error) {
	stored := *r
	stored.ID = ""
	return json.Marshal(stored)
}

// everyone reports whether the condition holds for every sign-in.
func (c *Condition) everyone() bool {
	return !c.Administrative && !c.NewDevice && c.IdleDays == 0 &&
		len(c.Roles) == 0 && len(c.Groups) == 0 && len(c.Networks) == 0 && len(c.OutsideNetworks) == 0
}

// Holds reports whether a condition holds for a sign-in.
func (c *Condition) Holds(f SignInFacts) bool {
	switch {
	case c.Administrative && !f.Administrative,
		len(c.Roles) > 0 && !intersects(c.Roles, f.Roles),
		len(c.Groups) > 0 && !intersects(c.Groups, f.Groups),
		len(c.Networks) > 0 && !inNetworks(c.Networks, f.From),
		len(c.OutsideNetworks) > 0 && inNetworks(c.OutsideNetworks, f.From),
		c.NewDevice && !f.NewDevice,
		c.IdleDays > 0 && f.IdleDays >= 0 && f.IdleDays < c.IdleDays:
		return false
	}
	return true
}

func intersects(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// inNetworks reports whether an address is in one of the networks. One that
// cannot be read holds none, and so does no address.
func inNetworks(networks []string, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(s string) bool {
		n, err := ParseNetwork(s)
		return err == nil && n.Contains(a)
	})
}

// Judgement is what rules come to for one sign-in.
type Judgement struct {
	Passcode bool // it takes one
	Block    bool
	// Applied and Reported are the ids of the rules that apply, those that are on
	// and those that only report.
	Applied, Reported []string
}

// Judge applies rules to a sign-in.
func Judge(rules []Rule, f SignInFacts) Judgement {
	var j Judgement
	if f.BreakGlass {
		return j
	}
	for _, r := range rules {
		if r.State != RuleOn && r.State != RuleReport || !r.When.Holds(f) {
			continue
		}
		if r.State == RuleReport {
			j.Reported = append(j.Reported, r.ID)
			continue
		}
		j.Applied = append(j.Applied, r.ID)
		j.Passcode = j.Passcode || r.Then == RequirePasscode
		j.Block = j.Block || r.Then == Block
	}
	return j
}

// Rules returns the conditional rules of a tenant by id.
func Rules(ctx context.Context, s storage.Items, tenant storage.TenantID) ([]Rule, error) {
	return rulesFrom(s.Items(ctx, tenant, RuleKind, ""))
}

func rulesFrom(items []*storage.Item, err error) ([]Rule, error) {
	if err != nil {
		return nil, fmt.Errorf("read the conditional rules: %w", err)
	}
	rules := make([]Rule, len(items))
	for i, item := range items {
		// A rule of a newer version that this one cannot read must not be passed
		// over: it may be the one that blocks.
		d := json.NewDecoder(bytes.NewReader(item.Data))
		d.DisallowUnknownFields()
		if err := d.Decode(&rules[i]); err != nil {
			return nil, fmt.Errorf("conditional rule %s cannot be read by this version", item.ID)
		}
		rules[i].ID = item.ID
	}
	return rules, nil
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
	if err := a.findNamed(ctx, by.Tenant, &r); err != nil {
		return err
	}
	return a.changeRule(ctx, by, r.ID, isNew, &r)
}

// findNamed refuses a rule for a role or group that does not exist: nobody would notice
// that it applies to nobody. What the rule in its place names may be gone since.
func (a *Authenticator) findNamed(ctx context.Context, tenant storage.TenantID, r *Rule) error {
	if len(r.When.Roles)+len(r.When.Groups) == 0 {
		return nil
	}
	rules, err := Rules(ctx, a.Store, tenant)
	if err != nil {
		return err
	}
	var prev Condition
	if i := slices.IndexFunc(rules, func(p Rule) bool { return p.ID == r.ID }); i >= 0 {
		prev = rules[i].When
	}
	roles, err := RoleNames(ctx, a.Store, tenant, r.When.Roles...)
	if err != nil {
		return err
	}
	groups, err := a.Store.Names(ctx, tenant, PrincipalGroup, r.When.Groups...)
	if err != nil {
		return err
	}
	for _, l := range []struct {
		member, expected string
		ids, before      []string
		found            map[string]string
	}{
		{"when.roles", "the id of a role", r.When.Roles, prev.Roles, roles},
		{"when.groups", "the id of a group", r.When.Groups, prev.Groups, groups},
	} {
		for i, id := range l.ids {
			if _, there := l.found[id]; !there && !slices.Contains(l.before, id) {
				return &InvalidError{fmt.Sprintf("%s[%d]", l.member, i), l.expected}
			}
		}
	}
	return nil
}

// DeleteRule removes a rule, or returns storage.ErrNotFound.
func (a *Authenticator) DeleteRule(ctx context.Context, by Principal, id string) error {
	return a.changeRule(ctx, by, id, false, nil)
}

// blocks reports whether sign-ins that it applies to are refused.
func (r *Rule) blocks() bool { return r.State == RuleOn && r.Then == Block }

// changeRule puts next, or nothing, in the place of a rule.
func (a *Authenticator) changeRule(ctx context.Context, by Principal, id string, isNew bool, next *Rule) error {
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
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
		// The Standing has the rules that block.
		if err := tx.Advance(); err != nil {
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
