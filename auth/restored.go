package auth

import (
	"errors"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// Restorable reports whether an item of a backup, which may be of any kind, may live again
// at all. Links of accounts may not: the tenant that one leads to may have cut it since.
func Restorable(i *storage.Item) bool { return i.Kind != linkKind }

// Restored makes an item of a backup, which may be of any kind, one that lets nobody in
// with what was used or revoked between the backup and at, when it is restored: nothing
// tells what that was.
//
// Passcodes of up to at are used up, recovery codes are gone, temporary passwords have
// been used, an enrolment that was not confirmed is forgotten, and the links of
// invitations have expired. Sessions, setup links, offers and activated roles expire by
// themselves, and are in no backup. Passwords and passcode apps stay: without them
// nobody could sign in.
func Restored(i *storage.Item, at time.Time) (*storage.Item, error) {
	next := *i
	var data any
	switch i.Kind {
	case credentialKind:
		c, err := credentialFrom(i, nil)
		if err != nil {
			return nil, err
		}
		c.Pending, c.Recovery = nil, nil
		c.TemporaryUsed = c.TemporaryUsed || c.Temporary
		if c.TOTP != nil {
			c.TOTP.LastStep = max(c.TOTP.LastStep, step(at)+totpDrift)
		}
		data, next.Keys = c, c.sealedKeys(i.ID)
	case invitationKind:
		inv, err := invitationFrom(i)
		if err != nil {
			return nil, err
		}
		if inv.Good(at) {
			inv.Expires = storage.Milli(at)
		}
		data = inv
	default:
		return i, nil
	}
	var err error
	if next.Data, err = json.Marshal(data); err != nil {
		return nil, errors.New("an item of the backup cannot be written") // the error may quote it
	}
	return &next, nil
}
