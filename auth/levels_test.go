package auth

import (
	"errors"
	"sync"
	"testing"

	"github.com/roster-id/roster/storage"
)

// TestLevelsInTheTrail: what begins or raises a session is recorded with the level of
// the session that it began or happened in.
func TestLevelsInTheTrail(t *testing.T) {
	d := newDirectory(t)
	id := d.add("root", true)
	link, err := d.NewSetup(t.Context(), operator, id, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.UseSetup(t.Context(), SetupRequest{Text: link, Password: goodPassword}); err != nil {
		t.Fatal(err)
	}
	dev, p := d.enrol("root")
	if _, err := d.StepUp(t.Context(), p, Secret(dev.next())); err != nil {
		t.Fatal(err)
	}
	d.enter("root")
	d.enter("root", dev.next())
	entries, err := d.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		switch e.Action {
		case "setup.use", "signin.ok", "confirm.ok", "stepup.ok":
			got = append(got, e.Action+" "+e.Level)
		}
	}
	want := []string{"setup.use limited", "signin.ok limited", "confirm.ok limited", "stepup.ok mfa", "signin.ok password", "signin.ok mfa"}
	if lines(got) != lines(want) {
		t.Errorf("recorded:\n%s\nwant:\n%s", lines(got), lines(want))
	}
}

// TestEmergencyWhileSigningIn: somebody whose account is marked while they sign in
// has no session that was judged by what held before.
func TestEmergencyWhileSigningIn(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	counted := d.Hasher.worked
	var once sync.Once
	d.Hasher.worked = func() {
		counted()
		once.Do(func() {
			if err := d.MarkEmergency(t.Context(), operator, id, true); err != nil {
				t.Error(err)
			}
		})
	}
	if res, err := d.give("ana", goodPassword); !errors.Is(err, ErrSignIn) {
		t.Errorf("SignIn = %+v, %v; want ErrSignIn", res, err)
	}
	d.enter("ana")
}

// TestLinkPastRules: a link from the host lets in whom a rule blocks: it is for whoever
// is locked out, by rules too. The next sign-in is judged again.
func TestLinkPastRules(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	rule := Rule{ID: "r", Name: "Not from here", State: RuleOn, Then: Block, When: Condition{Networks: []string{"192.0.2.0/24"}}}
	if err := d.PutRule(t.Context(), operator, rule, true); err != nil {
		t.Fatal(err)
	}
	link, err := d.NewSetup(t.Context(), operator, id, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.UseSetup(t.Context(), SetupRequest{Text: link, Password: goodPassword + " 2", From: here}); err != nil {
		t.Errorf("UseSetup: %v", err)
	}
	if _, err := d.give("ana", goodPassword+" 2"); !errors.Is(err, ErrSignIn) {
		t.Errorf("SignIn: %v; want ErrSignIn", err)
	}
}
