package auth

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
)

var elsewhere = netip.MustParseAddr("203.0.113.9")

// fromElsewhere tries to sign ana in from a device that she is not known to use.
func (d *directory) fromElsewhere(password, passcode string) error {
	_, err := d.SignIn(d.t.Context(), SignInRequest{
		Tenant: storage.DefaultTenant, Name: "ana", Password: Secret(password), Passcode: Secret(passcode), From: elsewhere, Agent: "strange",
	})
	return err
}

// TestStrangersLockNobodyOut: somebody who goes on giving wrong passwords for a day
// keeps the account locked for whoever comes from a new device; its owner signs in from
// a known one, and steps up in a session, all the time, without giving the stranger
// more guesses by that.
func TestStrangersLockNobodyOut(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, _ := d.enrol("ana")
	start, last := d.clock.now(), d.clock.now()
	hours := time.Duration(raced.Size(24, 6))
	for d.clock.now().Sub(start) < hours*time.Hour {
		d.clock.advance(30 * time.Second)
		if err := d.fromElsewhere("wrong password", ""); !errors.Is(err, ErrSignIn) {
			t.Fatal(err)
		}
		if d.clock.now().Sub(last) < time.Hour {
			continue
		}
		last = d.clock.now()
		if c := d.credential(id); !c.Throttle.Locked(d.clock.now()) {
			t.Fatalf("the stranger is not locked out: %+v", c.Throttle)
		}
		res, err := d.give("ana", goodPassword)
		if err != nil {
			t.Fatalf("after %v the owner is locked out: %v", last.Sub(start), err)
		}
		up, err := d.Passcode(t.Context(), d.who(res.Token), Secret(dev.next()))
		if err != nil {
			t.Fatalf("after %v the owner's passcode: %v", last.Sub(start), err)
		}
		if _, err = d.StepUp(t.Context(), d.who(up.Token), Secret(dev.next())); err != nil {
			t.Fatalf("after %v the owner cannot step up: %v", last.Sub(start), err)
		}
		if err := d.fromElsewhere(goodPassword, dev.next()); !errors.Is(err, ErrSignIn) {
			t.Fatalf("from a new device, while a stranger has it locked: %v; want ErrSignIn", err)
		}
	}
	if got, want := d.seen("signin", "wrong"), float64(8+4*hours); float64(got) > 1.06*want || float64(got) < 0.86*want { // 104 in a day
		t.Errorf("the stranger had %v guesses in %d hours, want about %v", got, hours, want)
	}
}

// TestGuessesInADay: the most that can be guessed in a day, by whoever tries without a
// pause in every lane: 104 times in each, and 20 passcodes in all.
func TestGuessesInADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var throttle Throttle
		looked := map[laneName]int{}
		passcodes := 0
		start := time.Now()
		for time.Since(start) < 24*time.Hour {
			for _, n := range []laneName{laneStrangers, laneKnown, laneInside} {
				for throttle.lane(n).begin(time.Now()) {
					looked[n]++
					if !throttle.FactorDisabled {
						passcodes++
						throttle.factorFailed()
					}
				}
			}
			time.Sleep(time.Second)
		}
		for n, got := range looked {
			if got != 104 {
				t.Errorf("lane %d: %d guesses in a day, want 104", n, got)
			}
		}
		if len(looked) != 3 || passcodes != maxFactorFailures {
			t.Errorf("%d passcodes were looked at in %d lanes, want %d in 3", passcodes, len(looked), maxFactorFailures)
		}
	})
}

// TestCapOfAllLanes: wrong passcodes in the lanes add up to one cap, and signing in
// with the password alone, from wherever, begins nothing anew.
func TestCapOfAllLanes(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	dev, p := d.enrol("ana")
	looked, counted := 0, map[string]bool{}
	for range maxFactorFailures {
		d.clock.advance(longestDelay)
		for name, try := range map[string]func() error{
			"strangers":       func() error { return d.fromElsewhere(goodPassword, dev.wrong()) },
			"known":           func() error { _, err := d.give("ana", goodPassword, dev.wrong()); return err },
			"inside":          func() error { return d.SelfCheck(t.Context(), p, Secret(dev.wrong())) },
			"a recovery code": func() error { _, err := d.RecoveryCode(t.Context(), p, "wrong"); return err },
		} {
			before := d.credential(id).Throttle
			if err := try(); err == nil {
				t.Fatalf("%s: a wrong passcode was accepted", name)
			}
			if after := d.credential(id).Throttle; after.FactorFailures > before.FactorFailures {
				looked++
				counted[name] = true
			}
			_, _ = d.give("ana", goodPassword)
		}
	}
	if len(counted) != 4 {
		t.Errorf("only these are counted: %v", counted)
	}
	if c := d.credential(id); looked != maxFactorFailures || !c.Throttle.FactorDisabled {
		t.Errorf("%d wrong passcodes were looked at, want %d; %+v", looked, maxFactorFailures, c.Throttle)
	}
}
