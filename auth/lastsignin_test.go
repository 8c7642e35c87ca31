package auth

import (
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestLastSignIn: when an account was last signed in to stands in the credential, whatever
// the session began with; what fails, and what goes on in a session, is no sign-in.
func TestLastSignIn(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	last := func(what string, want time.Time) {
		t.Helper()
		if got := d.credential(id).LastSignIn; !got.Equal(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	last("never", time.Time{})
	if _, err := d.give("ana", "wrong"); err == nil {
		t.Fatal("a wrong password is accepted")
	}
	last("a wrong password", time.Time{})
	d.clock.advance(time.Hour)
	in := d.enter("ana")
	at := storage.Milli(d.clock.now())
	last("a password", at)
	d.clock.advance(time.Minute)
	dev, in := d.enrolIn(in)
	last("an enrolment in the session", at)
	d.clock.advance(time.Minute)
	if _, err := d.StepUp(t.Context(), in, Secret(dev.next())); err != nil {
		t.Fatal(err)
	}
	last("a passcode in the session", at)
	c := d.credential(id)
	if used := c.TOTP.LastUsed(); storage.Milli(d.clock.now()).Sub(used).Abs() > time.Minute {
		t.Errorf("a passcode was used at %v, now is %v", used, d.clock.now())
	}
	d.clock.advance(time.Hour)
	link, err := d.NewSetup(t.Context(), operator, id, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.UseSetup(t.Context(), SetupRequest{Text: link, Password: "a password for tomorrow", From: here}); err != nil {
		t.Fatal(err)
	}
	last("a link", storage.Milli(d.clock.now()))
}
