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
	password, err := a.Auth.ResetPassword(r.Context(), by, pathID(r))
	if err != nil {
		return err
	}
	c, err := auth.FindCredential(r.Context(), a.Store, by.Tenant, pathID(r))
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, TemporaryPassword{Password: password.Reveal(), Expires: c.PasswordExpires.UTC()})
}

func (a *API) resetMFA(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.ResetMFA(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func (a *API) userSessions(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.sessionsOf(w, r, by, pathID(r))
}

func (a *API) endUserSessions(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.EndSessions(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}
