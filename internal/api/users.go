package api

import (
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
)

// TemporaryPassword is the answer to a reset of a password.
type TemporaryPassword struct {
	Password string    `json:"password"`         // shown once, and good for choosing another one
	Expires  time.Time `json:"expires,omitzero"` // absent if it does not
}

func (a *API) resetPassword(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	t, err := a.Auth.ResetPassword(r.Context(), by, pathID(r))
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, TemporaryPassword{Password: t.Password.Reveal(), Expires: t.Expires.UTC()})
}

func (a *API) resetMFA(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.ResetMFA(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func (a *API) userSessions(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if _, err := a.Store.Get(r.Context(), by.Tenant, auth.PrincipalUser, pathID(r)); err != nil {
		return err
	}
	return a.sessionsOf(w, r, by, pathID(r))
}

func (a *API) endUserSessions(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.EndSessions(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}
