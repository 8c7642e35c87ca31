package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// SignInRequest is the body of POST /sign-in.
type SignInRequest struct {
	Tenant       string      `json:"tenant,omitempty"`
	Name         string      `json:"name"`
	Password     auth.Secret `json:"password"`
	Passcode     auth.Secret `json:"passcode,omitempty"`
	RecoveryCode auth.Secret `json:"recoveryCode,omitempty"`
	Cookie       bool        `json:"cookie,omitempty"`
}

// CodeRequest is the body of what takes a passcode or a recovery code.
type CodeRequest struct {
	Code auth.Secret `json:"code"`
}

// SignedIn is a session as its owner sees it, and the answer to what begins one or
// raises its level. Token is left out when the session is in a cookie, and when
// nothing about it has changed.
type SignedIn struct {
	Token   string    `json:"token,omitempty"`
	Session string    `json:"session"` // its public id
	User    string    `json:"user"`
	Level   string    `json:"level"`
	Missing []string  `json:"missing"`
	Ends    time.Time `json:"ends"`
	// LastSignIn is when the user had signed in before, if that is known.
	LastSignIn time.Time `json:"lastSignIn,omitzero"`
}

// Session is a session among others.
type Session struct {
	ID       string    `json:"id"`
	Level    string    `json:"level"`
	Current  bool      `json:"current"`
	Started  time.Time `json:"started"`
	LastUsed time.Time `json:"lastUsed"`
	Ends     time.Time `json:"ends"`
	From     string    `json:"from,omitempty"`
	Agent    string    `json:"agent,omitempty"`
	Tenant   string    `json:"tenant,omitempty"` // where it began, if that is another one
}

// SessionList is a list of sessions.
type SessionList struct {
	Sessions []Session `json:"sessions"`
}

func (a *API) signIn(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.admit(by); err != nil {
		return err
	}
	var body SignInRequest
	if err := read(r, &body); err != nil {
		return err
	}
	if body.Cookie && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return invalid("cookie: only browsers get a session as a cookie; leave it out")
	}
	tenant := storage.DefaultTenant
	if body.Tenant != "" {
		tenant = storage.TenantID(body.Tenant)
	}
	in, err := a.Auth.SignIn(r.Context(), auth.SignInRequest{
		Tenant: tenant, Name: body.Name, Password: body.Password,
		Passcode: body.Passcode, RecoveryCode: body.RecoveryCode,
		From: by.From, Agent: r.UserAgent(),
	})
	if errors.Is(err, auth.ErrPasswordEmpty) || errors.Is(err, auth.ErrPasswordTooLong) {
		err = auth.ErrSignIn
	}
	if err != nil {
		return err
	}
	return a.signedIn(w, in, body.Cookie)
}

// signedIn answers with a session that is new or has a new token. Whoever has the
// session in a cookie gets that anew.
func (a *API) signedIn(w http.ResponseWriter, in *auth.SignInResult, cookie bool) error {
	if cookie {
		setCookie(w, in.Token.Reveal(), 0)
	}
	return respond(w, http.StatusOK, signedIn(in, cookie))
}

func signedIn(in *auth.SignInResult, cookie bool) SignedIn {
	out := SignedIn{Session: in.Session, User: in.User, Level: in.Level.String(), Missing: names(in.Missing), Ends: in.Ends.UTC(), LastSignIn: in.Last.UTC()}
	if !cookie {
		out.Token = in.Token.Reveal()
	}
	return out
}

func names(list []auth.Lack) []string {
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = string(m)
	}
	return out
}

// setCookie gives a browser a session until it ends, or takes it away when maxAge
// is below zero.
func setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: auth.CookieName, Value: value, Path: "/", MaxAge: maxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// byCookie reports whether a cookie brought the session of an authenticated
// request.
func byCookie(r *http.Request) bool {
	p, err := auth.Present(r, true)
	return err == nil && p.Cookie
}

// withCode reads a code and answers with the session that it leads to.
func (a *API) withCode(w http.ResponseWriter, r *http.Request, by auth.Principal, use func(context.Context, auth.Principal, auth.Secret) (*auth.SignInResult, error)) error {
	var body CodeRequest
	if err := read(r, &body); err != nil {
		return err
	}
	in, err := use(r.Context(), by, body.Code)
	if err != nil {
		return inSession(err)
	}
	return a.signedIn(w, in, byCookie(r))
}

func (a *API) passcode(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.withCode(w, r, by, a.Auth.Passcode)
}

func (a *API) recoveryCode(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.withCode(w, r, by, a.Auth.RecoveryCode)
}

func (a *API) stepUp(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.withCode(w, r, by, a.Auth.StepUp)
}

func (a *API) signOut(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.SignOut(r.Context(), by); err != nil {
		return err
	}
	return a.left(w, r)
}

// left answers that the session of the request is over.
func (a *API) left(w http.ResponseWriter, r *http.Request) error {
	if byCookie(r) {
		setCookie(w, "", -1)
	}
	return done(w)
}

func (a *API) session(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	now, err := a.Auth.Current(r.Context(), by)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, signedIn(now, false))
}

func (a *API) sessions(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.sessionsOf(w, r, by, by.ID)
}

func (a *API) sessionsOf(w http.ResponseWriter, r *http.Request, by auth.Principal, user string) error {
	all, err := a.Auth.Sessions(r.Context(), by.Tenant, user)
	if err != nil {
		return err
	}
	out := SessionList{Sessions: make([]Session, 0, len(all))}
	for _, s := range all {
		out.Sessions = append(out.Sessions, Session{
			ID: s.ID, Level: s.Level.String(), Current: s.ID == by.Session,
			Started: s.Started.UTC(), LastUsed: s.LastUsed.UTC(), Ends: s.Ends.UTC(), From: s.From, Agent: s.Agent, Tenant: string(s.Tenant),
		})
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) endSession(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.EndSession(r.Context(), by, by.ID, pathID(r)); err != nil {
		return err
	}
	if pathID(r) == by.Session {
		return a.left(w, r)
	}
	return done(w)
}

func (a *API) endSessions(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.EndSessions(r.Context(), by, by.ID); err != nil {
		return err
	}
	return a.left(w, r)
}
