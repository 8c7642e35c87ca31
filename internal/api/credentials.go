package api

import (
	"encoding/base64"
	"net/http"

	"github.com/roster-id/roster/auth"
)

// PasswordRequest is the body of POST /password.
type PasswordRequest struct {
	Current auth.Secret `json:"current,omitempty"` // not of a temporary password
	New     auth.Secret `json:"new"`
}

// EnrolmentRequest is the body of POST /totp. Password may be left out when it was
// given in the session a moment ago.
type EnrolmentRequest struct {
	Password auth.Secret `json:"password,omitempty"`
}

// Enrolment is what an authenticator app needs to know. It is shown once.
type Enrolment struct {
	Secret string `json:"secret"` // base32
	URI    string `json:"uri"`    // otpauth://
	QR     string `json:"qr"`     // URI as an image, data:image/png
}

// Enrolled is the answer to a confirmed enrolment.
type Enrolled struct {
	SignedIn
	RecoveryCodes []string `json:"recoveryCodes"` // shown once
}

func (a *API) changePassword(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body PasswordRequest
	if err := read(r, &body); err != nil {
		return err
	}
	in, err := a.Auth.ChangePassword(r.Context(), by, body.Current, body.New)
	if err != nil {
		return inSession(err)
	}
	return a.signedIn(w, in, byCookie(r))
}

func (a *API) enrol(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body EnrolmentRequest
	if err := read(r, &body); err != nil {
		return err
	}
	e, err := a.Auth.Enrol(r.Context(), by, body.Password)
	if err != nil {
		return inSession(err)
	}
	return respond(w, http.StatusOK, Enrolment{
		Secret: e.Secret.Reveal(), URI: e.URI.Reveal(),
		QR: "data:image/png;base64," + base64.StdEncoding.EncodeToString(e.QR),
	})
}

func (a *API) confirmEnrolment(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body CodeRequest
	if err := read(r, &body); err != nil {
		return err
	}
	in, err := a.Auth.ConfirmEnrolment(r.Context(), by, body.Code)
	if err != nil {
		return inSession(err)
	}
	cookie := byCookie(r)
	out := Enrolled{SignedIn: signedIn(&in.SignInResult, cookie)}
	for _, c := range in.RecoveryCodes {
		out.RecoveryCodes = append(out.RecoveryCodes, c.Reveal())
	}
	if cookie {
		setCookie(w, in.Token.Reveal(), 0)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) checkPasscode(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body CodeRequest
	if err := read(r, &body); err != nil {
		return err
	}
	if err := a.Auth.SelfCheck(r.Context(), by, body.Code); err != nil {
		return inSession(err)
	}
	return done(w)
}

func (a *API) removePasscodes(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	in, err := a.Auth.RemoveFactor(r.Context(), by)
	if err != nil {
		return err
	}
	return a.signedIn(w, in, byCookie(r))
}
