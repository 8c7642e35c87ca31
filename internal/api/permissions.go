package api

import (
	"net/http"

	"github.com/roster-id/roster/auth"
)

// PermissionList is the catalogue of permissions.
type PermissionList struct {
	Permissions []Permission `json:"permissions"`
}

// Permission is one thing that a role lets its holder do.
type Permission struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	// Custom says that roles of one's own can have it.
	Custom bool `json:"custom"`
}

func (a *API) permissions(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
	out := PermissionList{}
	for _, p := range auth.AllPermissions() {
		_, err := auth.CustomPermissions([]string{p.Name})
		out.Permissions = append(out.Permissions, Permission{Name: p.Name, Description: p.Description, Custom: err == nil})
	}
	return respond(w, http.StatusOK, out)
}
