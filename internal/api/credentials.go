package api

import (
	"encoding/base64"
	"net/http"

	"github.com/roster-id/roster/auth"
)

// PasswordRequest is the body of POST /password.
type PasswordRequest struct {
	Current auth.Secret `json:"current"`
	New     auth.Secret `json:"new"`
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
		return err
	}
	return a.signedIn(w, in, byCookie(r))
}

func (a *API) enrol(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := none(r); err != nil {
		return err
	}
	e, err := a.Auth.Enrol(r.Context(), by)
	if err != nil {
		return err
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
	in, codes, err := a.Auth.ConfirmEnrolment(r.Context(), by, body.Code.Reveal())
	if err != nil {
		return err
	}
	cookie := byCookie(r)
	out := Enrolled{SignedIn: signedIn(in, cookie)}
	for _, c := range codes {
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
	if err := a.Auth.SelfCheck(r.Context(), by, body.Code.Reveal()); err != nil {
		return err
	}
	return done(w)
}

func (a *API) removePasscodes(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.RemoveTOTP(r.Context(), by); err != nil {
		return err
	}
	return done(w)
}
