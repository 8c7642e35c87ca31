package auth

import (
	"errors"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestTwoProcesses: what one process has counted, taken or ended, the other one knows.
func TestTwoProcesses(t *testing.T) {
	onBothStores(t, func(t *testing.T, d *directory, other *Authenticator) {
		d.add("ana", false)
		dev, p := d.enrol("ana")
		there := &directory{Authenticator: other, t: t, clock: d.clock}

		code := dev.next()
		d.enter("ana", code)
		if _, err := there.give("ana", goodPassword, code); !errors.Is(err, ErrSignIn) {
			t.Errorf("a passcode that was used in the other process: %v; want ErrSignIn", err)
		}
		p2 := there.enter("ana", dev.next())
		if _, err := d.StepUp(t.Context(), p2, Secret(dev.code())); !errors.Is(err, ErrSignIn) {
			t.Errorf("a passcode of a sign-in there, for a step-up here: %v; want ErrSignIn", err)
		}
		if _, err := d.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword, RecoveryCode: dev.codes[0], From: here}); err != nil {
			t.Fatal(err)
		}
		if _, err := there.RecoveryCode(t.Context(), p, dev.codes[0]); !errors.Is(err, ErrSignIn) {
			t.Errorf("a recovery code that was used in the other process: %v; want ErrSignIn", err)
		}

		// Sessions: begun here, known there; ended here, over there within a second.
		d.add("ben", false)
		res, err := d.give("ben", goodPassword)
		if err != nil {
			t.Fatal(err)
		}
		ben := there.who(res.Token)
		if err := d.EndSessions(t.Context(), ben, ben.ID); err != nil {
			t.Fatal(err)
		}
		d.clock.advance(cacheFor)
		if _, err := other.VerifySession(t.Context(), res.Token.Reveal(), here); !refused(err) {
			t.Errorf("a session that was ended in the other process: %v; want a refusal", err)
		}

		// Blocked here, over there within a second, and no way in.
		res, err = d.give("ben", goodPassword)
		if err != nil {
			t.Fatal(err)
		}
		there.who(res.Token)
		d.setActive(ben.ID, false)
		d.clock.advance(cacheFor)
		if _, err := other.VerifySession(t.Context(), res.Token.Reveal(), here); !refused(err) {
			t.Errorf("a session of somebody blocked in the other process: %v; want a refusal", err)
		}
		if _, err := there.give("ben", goodPassword); !errors.Is(err, ErrSignIn) {
			t.Errorf("signing in as somebody blocked in the other process: %v; want ErrSignIn", err)
		}
		d.setActive(ben.ID, true)
		d.enter("ben") // which begins counting anew

		// Three failures here and two there are five.
		for n := range freeFailures {
			a := []*directory{d, there}[n%2]
			if _, err := a.give("ben", "wrong password"); !errors.Is(err, ErrSignIn) {
				t.Fatal(err)
			}
		}
		for name, a := range map[string]*directory{"here": d, "there": there} {
			if _, err := a.give("ben", goodPassword); !errors.Is(err, ErrSignIn) {
				t.Errorf("locked by failures in both processes, %s: %v; want ErrSignIn", name, err)
			}
		}
		d.clock.advance(firstDelay)
		there.enter("ben")

		// Twenty wrong passcodes, taken in turns, and none is accepted any more.
		id := d.add("cleo", false)
		cleo, _ := d.enrol("cleo")
		looked := 0
		for n := range 2 * maxFactorFailures {
			d.clock.advance(longestDelay + time.Second)
			a := []*directory{d, there}[n%2]
			before := d.credential(id).Throttle.FactorFailures
			_, _ = a.give("cleo", goodPassword, cleo.wrong())
			looked += d.credential(id).Throttle.FactorFailures - before
		}
		if looked != maxFactorFailures {
			t.Errorf("%d wrong passcodes were looked at, want %d", looked, maxFactorFailures)
		}
		d.clock.advance(longestDelay)
		if _, err := there.give("cleo", goodPassword, cleo.next()); !errors.Is(err, ErrSignIn) {
			t.Errorf("the right passcode after that: %v; want ErrSignIn", err)
		}
	})
}
