package auth

import (
	"errors"

	"github.com/roster-id/roster/storage"
)

// Revive is part of restoring a deleted user. The password, the passcode app and
// recovery codes are what they were, and so is what was counted against guessing.
// Nothing that was under way is: no session, link or activated role.
func Revive(tx storage.Tx, user string) error {
	if _, err := DropSessions(tx, user); err != nil {
		return err
	}
	return endActivations(tx, "principal/"+user)
}

// RequestKind is the kind of the items that hold what users ask for, found by
// "user/" and the id; see internal/access.
const RequestKind = "role-request"

// Forget is part of purging a deleted user: everything that this package keeps of them
// goes, except what the audit trail says. What proves who somebody is cannot be had
// back.
func Forget(tx storage.Tx, user string) error {
	c, err := tx.Item(credentialKind, user)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return err
	default:
		if err := tx.DeleteItem(c); err != nil {
			return err
		}
	}
	if _, err := dropSessions(tx, user); err != nil {
		return err
	}
	for _, key := range []string{user, signInsOf(user)} {
		if _, err := deleteItems(tx, SignInKind, key); err != nil {
			return err
		}
	}
	if err := forgetLinks(tx, user); err != nil {
		return err
	}
	if _, err := deleteItems(tx, RequestKind, "user/"+user); err != nil {
		return err
	}
	return endActivations(tx, "principal/"+user)
}
