package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// signInAs signs ana in with the password, and perhaps a passcode, by a program.
func (d *directory) signInAs(agent, passcode string) *SignInResult {
	d.t.Helper()
	res, err := d.SignIn(d.t.Context(), SignInRequest{
		Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, Passcode: Secret(passcode), From: elsewhere, Agent: agent,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return res
}

// TestPasswordMakesNoDeviceKnown: a rule that asks for a passcode asks again, however
// often somebody came who knew the password alone; with the passcode, in the same request
// or afterwards, the device is known. The owner is told of such a sign-in all the same.
func TestPasswordMakesNoDeviceKnown(t *testing.T) {
	for name, when := range map[string]Condition{"new device": {NewDevice: true}, "idle": {IdleDays: 5}} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			d.add("ana", false)
			dev, _ := d.enrol("ana")
			d.clock.advance(6 * day)
			if err := d.PutRule(t.Context(), operator, Rule{ID: "r", Name: "r", State: RuleOn, Then: RequirePasscode, When: when}, true); err != nil {
				t.Fatal(err)
			}
			var last time.Time
			for n := range 3 {
				d.clock.advance(time.Minute)
				res := d.signInAs("thief", "")
				if res.Level != Limited {
					t.Fatalf("sign-in %d with the password alone is of level %v, want limited", n, res.Level)
				}
				if n > 0 && !res.Last.Equal(last) {
					t.Errorf("sign-in %d: the last was at %v, want %v", n, res.Last, last)
				}
				last = storage.Milli(d.clock.now())
			}
			up, err := d.Passcode(t.Context(), d.who(d.signInAs("owner", "").Token), Secret(dev.next()))
			if err != nil || up.Level != MFA {
				t.Fatalf("Passcode = %+v, %v", up, err)
			}
			if res := d.signInAs("owner", ""); res.Level != Password {
				t.Errorf("from a device where a passcode was given: %v", res.Level)
			}
			d.signInAs("other", dev.next())
			if res := d.signInAs("other", ""); res.Level != Password {
				t.Errorf("from a device where a passcode was given at once: %v", res.Level)
			}
		})
	}
}

// TestEnrolmentMakesADeviceKnown: so does the first passcode, of whoever a rule asks for
// one.
func TestEnrolmentMakesADeviceKnown(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	rule := Rule{ID: "r", Name: "r", State: RuleOn, Then: RequirePasscode, When: Condition{NewDevice: true}}
	if err := d.PutRule(t.Context(), operator, rule, true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if res := d.signInAs("owner", ""); res.Level != Limited {
			t.Fatalf("with the password alone: %v", res.Level)
		}
	}
	d.enrolIn(d.who(d.signInAs("owner", "").Token))
	if res := d.signInAs("owner", ""); res.Level != Password {
		t.Errorf("from the device of the enrolment: %v", res.Level)
	}
}

// TestPasswordDrivesNobodyOut: whoever knows the password alone neither ends the sessions
// in which a passcode was given, by signing in often or by asking for it, nor makes the
// owner's devices strange.
func TestPasswordDrivesNobodyOut(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, owner := d.enrol("ana")
	d.signInAs("owner", dev.next())
	var thief Principal
	for n := range devicesKept + 2 {
		d.clock.advance(time.Second)
		thief = d.who(d.signInAs(fmt.Sprint("thief ", n), "").Token)
	}
	known := 0
	for _, dev := range d.credential(id).Devices {
		if dev.ID != "" {
			known++
		}
	}
	if known != 2 {
		t.Errorf("%d devices are known, want the owner's 2", known)
	}
	level, _ := errors.AsType[*LevelError](d.EndSessions(t.Context(), thief, id))
	if level == nil {
		t.Error("the owner's sessions were ended")
	}
	if err := d.EndSession(t.Context(), thief, id, owner.Session); !errors.Is(err, errLevel) {
		t.Errorf("EndSession of one with a passcode = %v, want a passcode to be asked for", err)
	}
	list, err := d.Sessions(t.Context(), storage.DefaultTenant, id)
	if err != nil || len(list) != MaxSessions {
		t.Fatalf("%d sessions, %v", len(list), err)
	}
	there := 0
	for _, s := range list {
		if s.Level == MFA {
			there++
		} else if s.ID != thief.Session {
			if err := d.EndSession(t.Context(), thief, id, s.ID); err != nil {
				t.Errorf("EndSession of another with the password alone: %v", err)
			}
		}
	}
	if there != 2 {
		t.Errorf("%d sessions with a passcode are left, want 2", there)
	}
	if err := d.SignOut(t.Context(), thief); err != nil {
		t.Errorf("SignOut: %v", err)
	}
	if err := d.EndSessions(t.Context(), owner, id); err != nil {
		t.Errorf("EndSessions with a passcode: %v", err)
	}
}

// TestPasswordWhereItIsEnough: who has a passcode app and no rule that asks for it is not
// idle, and stays known where a passcode was given once.
func TestPasswordWhereItIsEnough(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, _ := d.enrol("ana")
	d.signInAs("owner", dev.next())
	for _, r := range []Rule{
		{ID: "idle", Name: "idle", State: RuleOn, Then: Block, When: Condition{IdleDays: 5}},
		{ID: "new", Name: "new", State: RuleOn, Then: RequirePasscode, When: Condition{NewDevice: true}},
	} {
		if err := d.PutRule(t.Context(), operator, r, true); err != nil {
			t.Fatal(err)
		}
	}
	for range 12 {
		d.clock.advance(4 * day)
		if res := d.signInAs("owner", ""); res.Level != Password {
			t.Fatalf("from a known device: %v", res.Level)
		}
	}
	if err := d.DeleteRule(t.Context(), operator, "new"); err != nil {
		t.Fatal(err)
	}
	for n := range 12 {
		d.clock.advance(4 * day)
		d.signInAs(fmt.Sprint("always another ", n), "")
	}
	c := d.credential(id)
	if p := remember(c.Devices, deviceOf(storage.DefaultTenant, id, "always another 11", elsewhere), d.clock.now()); !p.newDevice || p.idleDays != 0 {
		t.Errorf("the last device: %+v, want a new one of an account that is not idle", p)
	}
	if p := remember(c.Devices, "", d.clock.now()); !p.newDevice {
		t.Error("no device is a known one")
	}
}
