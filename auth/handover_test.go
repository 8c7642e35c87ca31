package auth

import (
	"errors"
	"slices"
	"testing"

	"github.com/roster-id/roster/storage"
)

// TestPushedIsUnusable: an administrator whose password came over SCIM is none that the
// last one could be spared for; and where there is no other, the host lets one in.
func TestPushedIsUnusable(t *testing.T) {
	d := newDirectory(t)
	gus, mia := d.add("gus", true), d.add("mia", true)
	d.enrol("gus")
	d.enrol("mia")
	push := func(id string) {
		d.write(func(tx storage.Tx) error {
			c, err := ReadCredential(tx, id)
			if err != nil {
				return err
			}
			c.PushPassword(c.PasswordHash, d.clock.now())
			return SaveCredential(tx, id, c)
		})
	}
	push(mia)
	if err := d.ResetMFA(t.Context(), operator, gus); !errors.Is(err, ErrLastAdministrator) {
		t.Errorf("ResetMFA of the last usable administrator: %v; want ErrLastAdministrator", err)
	}
	if err := d.ResetMFA(t.Context(), operator, mia); err != nil {
		t.Errorf("ResetMFA of one who is not usable: %v", err)
	}
	push(gus)
	if _, err := d.NewFirstSetup(t.Context(), operator); err != nil {
		t.Errorf("NewFirstSetup where nobody is usable: %v", err)
	}
	// A link hands over too.
	text, err := d.NewSetup(t.Context(), operator, gus, false)
	if err != nil {
		t.Fatal(err)
	}
	res, err := d.UseSetup(t.Context(), SetupRequest{Text: text, Password: "a password for next week", From: here})
	if err != nil || !slices.Equal(res.Missing, []Lack{LacksEnrolment}) {
		t.Errorf("UseSetup = %+v, %v", res, err)
	}
}
