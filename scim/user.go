package scim

import (
	"errors"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// signInBy is the attribute that says what a user signs in by.
const signInBy = schemas.RosterUserURI + ":signInBy"

// completeUser brings what Roster's extension says of a user, or of whom somebody invites
// to be one, into the form in which it is stored, and refuses what has none.
func completeUser(attrs map[string]any) error {
	ext, _ := attrs[schemas.RosterUserURI].(map[string]any)
	if ext == nil {
		return nil
	}
	if given, ok := ext["usageLocation"].(string); ok {
		country, ok := schemas.Country(given)
		if !ok {
			return &schemas.ValueError{Path: schemas.RosterUserURI + ":usageLocation", Msg: "expected the two letters of a country (ISO 3166-1)"}
		}
		ext["usageLocation"] = country
	}
	if ext["signInBy"] == nil {
		return nil
	}
	_, err := oneOf(ext, signInBy, "signInBy", "userName", schemas.SignInByEmail)
	return err
}

// signInTaken says of a write that failed which attribute of a user it may be that somebody
// else has: all that people sign in by is userName to the store.
func signInTaken(err error, attrs map[string]any, named bool) error {
	e, ok := errors.AsType[*storage.UniqueError](err)
	switch {
	case !ok || e.Attr != "userName" || len(schemas.SignInAddresses(attrs)) == 0:
		return err
	case named:
		return &storage.UniqueError{Attr: "userName, or an address that the user signs in by,"}
	}
	return &storage.UniqueError{Attr: "emails: an address that the user signs in by"}
}
