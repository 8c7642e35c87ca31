package scim

import (
	"errors"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// managerPath is the attribute in which a user refers to another one.
const (
	managerAttributePath = schemas.EnterpriseUserURI + ":manager"
	managerPath          = managerAttributePath + ".value"
)

var errNoManager = &schemas.ValueError{Path: managerPath, Msg: "no user has this id"}

// managerOf returns the manager that an attribute tree names, or "".
func managerOf(attrs map[string]any) string {
	id, _, _ := managerRef(attrs)
	return id
}

// dropManager takes the manager out of an attribute tree.
func dropManager(t *schemas.ResourceType, attrs map[string]any) {
	ext, _ := attrs[schemas.EnterpriseUserURI].(map[string]any)
	if delete(ext, "manager"); len(ext) > 0 {
		return
	}
	delete(attrs, schemas.EnterpriseUserURI)
	attrs["schemas"] = t.SchemasOf(attrs)
}

// managerToCheck returns the manager that a resource is given and that has to be a
// user, or "". Okta sends managers of its own making, which mean something to it alone.
func managerToCheck(by auth.Principal, prev, next map[string]any) string {
	id := managerOf(next)
	if id == managerOf(prev) || by.Profile == auth.ProfileOkta {
		return ""
	}
	return id
}

// checkManager refuses a manager who is no user.
func checkManager(tx storage.Tx, id string) error {
	if id == "" {
		return nil
	}
	if !ours(id) {
		return errNoManager
	}
	err := tx.Remains(auth.PrincipalUser, id)
	if errors.Is(err, storage.ErrNotFound) {
		return errNoManager
	}
	return err
}
