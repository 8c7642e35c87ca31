package api

import (
	"net/http"

	"github.com/roster-id/roster/auth"
)

func (a *API) retention(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	keep, err := auth.FindRetention(r.Context(), a.Store, by.Tenant)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, keep)
}

func (a *API) setRetention(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var keep auth.Retention
	if err := read(r, &keep); err != nil {
		return err
	}
	if err := a.Auth.PutRetention(r.Context(), by, keep); err != nil {
		return err
	}
	return respond(w, http.StatusOK, keep)
}
