package api

import (
	"net/http"

	"github.com/roster-id/roster/auth"
)

func (a *API) vocabulary(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	v, err := auth.FindVocabulary(r.Context(), a.Store, by.Tenant)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, v)
}

func (a *API) setVocabulary(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var v auth.Vocabulary
	if err := read(r, &v); err != nil {
		return err
	}
	if err := a.Auth.PutVocabulary(r.Context(), by, v); err != nil {
		return err
	}
	return respond(w, http.StatusOK, v)
}
