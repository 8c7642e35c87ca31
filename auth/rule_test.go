package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

func TestConditionHolds(t *testing.T) {
	facts := SignInFacts{
		Administrative: true, Roles: []string{"r1", "r2"}, Groups: []string{"g1"},
		From: netip.MustParseAddr("192.0.2.7"), NewDevice: true, IdleDays: 10,
	}
	with := func(change func(*SignInFacts)) SignInFacts {
		f := facts
		change(&f)
		return f
	}
	for _, c := range []struct {
		name  string
		when  Condition
		facts SignInFacts
		want  bool
	}{
		{"no condition", Condition{}, SignInFacts{}, true},
		{"administrative", Condition{Administrative: true}, facts, true},
		{"not administrative", Condition{Administrative: true}, with(func(f *SignInFacts) { f.Administrative = false }), false},
		{"one of the roles", Condition{Roles: []string{"r9", "r2"}}, facts, true},
		{"none of the roles", Condition{Roles: []string{"r9"}}, facts, false},
		{"one of the groups", Condition{Groups: []string{"g1"}}, facts, true},
		{"none of the groups", Condition{Groups: []string{"r1"}}, facts, false},
		{"in the network", Condition{Networks: []string{"192.0.2.0/24"}}, facts, true},
		{"in the network, mapped", Condition{Networks: []string{"192.0.2.0/24"}}, with(func(f *SignInFacts) { f.From = netip.MustParseAddr("::ffff:192.0.2.7") }), true},
		{"not in the network", Condition{Networks: []string{"198.51.100.0/24"}}, facts, false},
		{"from nowhere known is in no network", Condition{Networks: []string{"0.0.0.0/0", "::/0"}}, with(func(f *SignInFacts) { f.From = netip.Addr{} }), false},
		{"inside is not outside", Condition{OutsideNetworks: []string{"192.0.2.0/24"}}, facts, false},
		{"outside", Condition{OutsideNetworks: []string{"198.51.100.0/24"}}, facts, true},
		{"from nowhere known is outside", Condition{OutsideNetworks: []string{"0.0.0.0/0", "::/0"}}, with(func(f *SignInFacts) { f.From = netip.Addr{} }), true},
		{"a new device", Condition{NewDevice: true}, facts, true},
		{"a known device", Condition{NewDevice: true}, with(func(f *SignInFacts) { f.NewDevice = false }), false},
		{"idle for long enough", Condition{IdleDays: 10}, facts, true},
		{"not idle for long enough", Condition{IdleDays: 11}, facts, false},
		{"never signed in", Condition{IdleDays: 11}, with(func(f *SignInFacts) { f.IdleDays = -1 }), true},
		{"all conditions must hold", Condition{Administrative: true, Roles: []string{"r9"}}, facts, false},
	} {
		if got := c.when.Holds(c.facts); got != c.want {
			t.Errorf("%s: Holds = %t, want %t", c.name, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	rules := []Rule{
		{ID: "block", State: RuleOn, Then: Block, When: Condition{Roles: []string{"r"}}},
		{ID: "ask", State: RuleOn, Then: RequirePasscode},
		{ID: "watch", State: RuleReport, Then: Block},
		{ID: "off", State: RuleOff, Then: Block},
	}
	for _, c := range []struct {
		name  string
		facts SignInFacts
		want  Judgement
	}{
		{"all that apply", SignInFacts{Roles: []string{"r"}}, Judgement{Passcode: true, Block: true, Applied: []string{"block", "ask"}, Reported: []string{"watch"}}},
		{"one that applies", SignInFacts{}, Judgement{Passcode: true, Applied: []string{"ask"}, Reported: []string{"watch"}}},
		{"the emergency account", SignInFacts{Roles: []string{"r"}, BreakGlass: true}, Judgement{}},
	} {
		if diff := cmp.Diff(c.want, Judge(rules, c.facts)); diff != "" {
			t.Errorf("%s: Judge (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestRuleValidate(t *testing.T) {
	good := Rule{Name: "Away from the office", State: RuleOn, Then: Block, When: Condition{OutsideNetworks: []string{"192.0.2.0/24", "2001:db8::1"}}}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate of a good rule: %v", err)
	}
	for _, c := range []struct {
		member string
		change func(*Rule)
	}{
		{"name", func(r *Rule) { r.Name = " " }},
		{"state", func(r *Rule) { r.State = "On" }},
		{"then", func(r *Rule) { r.Then = "" }},
		{"when.idleDays", func(r *Rule) { r.When.IdleDays = -1 }},
		{"when.idleDays", func(r *Rule) { r.When.IdleDays = signInDays }},
		{"when.roles[1]", func(r *Rule) { r.When.Roles = []string{"a", ""} }},
		{"when.networks[0]", func(r *Rule) { r.When.Networks = []string{"office"} }},
		{"when.outsideNetworks", func(r *Rule) { r.When.OutsideNetworks = make([]string, ruleListed+1) }},
		{"when", func(r *Rule) { r.When = Condition{} }},
	} {
		r := good
		c.change(&r)
		var got *InvalidError
		if err := r.Validate(); !errors.As(err, &got) || got.Member != c.member {
			t.Errorf("Validate: got %v, want an error about %s", err, c.member)
		}
	}
}

// TestRulesOfANewerVersion: a condition that is not understood is not left out.
func TestRulesOfANewerVersion(t *testing.T) {
	s := openStore(t)
	put(t, s, &storage.Item{Kind: RuleKind, ID: "a", Data: []byte(`{"name":"n","state":"on","when":{"moon":"full"},"then":"block"}`)})
	if rules, err := Rules(t.Context(), s, storage.DefaultTenant); err == nil {
		t.Errorf("Rules = %+v, want an error", rules)
	}
}

func TestRecordedSignIns(t *testing.T) {
	s := openStore(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	home, office := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.9")
	signIn := func(user, agent string, from netip.Addr, at time.Time, f SignInFacts) {
		t.Helper()
		f.From = from
		err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			return errors.Join(record(tx, RecordedSignIn{User: user, At: at, Device: deviceOf(storage.DefaultTenant, user, agent, from), Facts: f}), entry(tx))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	signIn("ana", "browser", home, now.Add(-5*day), SignInFacts{Administrative: true})
	signIn("ana", "other", home, now.Add(-40*day), SignInFacts{Administrative: true})
	signIn("bo", "browser", office, now, SignInFacts{})
	signIn("emergency", "browser", office, now, SignInFacts{Administrative: true, BreakGlass: true})

	run, err := Try(t.Context(), s, storage.DefaultTenant, Rule{Then: Block, When: Condition{Administrative: true}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if run.SignIns != 3 || run.Applies != 1 || run.Accounts != 1 || len(run.Newest) != 1 {
		t.Errorf("Try: %+v; want 1 of 3 sign-ins, of 1 account", run)
	}
	run, err = Try(t.Context(), s, storage.DefaultTenant, Rule{Then: Block, When: Condition{Networks: []string{"198.51.100.0/24"}}}, now)
	if err != nil || run.Applies != 1 || run.Accounts != 1 {
		t.Errorf("Try by network: %+v, %v; want 1 sign-in of 1 account", run, err)
	}
}

func openStore(t *testing.T) storage.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "roster.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func entry(tx storage.Tx) error {
	return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"})
}

func put(t *testing.T, s storage.Store, item *storage.Item) {
	t.Helper()
	err := s.Write(context.Background(), storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(tx.PutItem(nil, item), entry(tx))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRuleJSON: the form in which rules are stored and spoken of stays as it is.
func TestRuleJSON(t *testing.T) {
	r := Rule{ID: "x", Name: "n", State: RuleOn, Then: Block, When: Condition{Administrative: true, IdleDays: 3, NewDevice: true}}
	const want = `{"id":"x","name":"n","state":"on","when":{"administrative":true,"newDevice":true,"idleDays":3},"then":"block"}`
	if got, err := json.Marshal(r); err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}
