package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/access"
	"github.com/roster-id/roster/internal/domains"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Problem is an error response (RFC 9457).
type Problem struct {
	// Type names what went wrong, or is "about:blank" when Status says it all.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Attribute and Holder say whose a name is that was asked for; Holder is for those
	// who may read it.
	Attribute string  `json:"attribute,omitempty"`
	Holder    *Holder `json:"holder,omitempty"`
	// Offenders are stored resources that would not fit, the first hundred of Count.
	Offenders []Offender `json:"offenders,omitempty"`
	Count     int        `json:"count,omitempty"`

	retryAfter int  // seconds, sent as a header when it is not zero
	repeats    bool // Detail contains what the client sent
}

func (p *Problem) Error() string { return p.Title }

// Types of problems.
const (
	blank            = "about:blank"
	problemPrefix    = "urn:roster:problem:"
	TypeInvalid      = problemPrefix + "invalid-request"
	TypeSignIn       = problemPrefix + "sign-in-failed"
	TypeProof        = problemPrefix + "proof-refused"
	TypePassword     = problemPrefix + "password-refused"
	TypePasswordAge  = problemPrefix + "password-required"
	TypeLevel        = problemPrefix + "passcode-required"
	TypeLimited      = problemPrefix + "enrolment-required"
	TypeNotPermitted = problemPrefix + "not-permitted"
	TypeTooMany      = problemPrefix + "too-many-requests"
	TypeConflict     = problemPrefix + "conflict"
	TypeNameTaken    = problemPrefix + "name-taken"
	TypeLastAdmin    = problemPrefix + "last-administrator"
	TypeOffenders    = problemPrefix + "stored-data"
)

func invalid(detail string) *Problem {
	return &Problem{Type: TypeInvalid, Title: "The request is not valid", Status: 400, Detail: detail}
}

// WriteError answers with err as a problem and returns its type and detail for
// the log; see server.Mount.
func WriteError(w http.ResponseWriter, _ *http.Request, err error) (typ, detail string) {
	p := problemFor(err)
	if e, ok := errors.AsType[*auth.LevelError](asLevel(err)); ok {
		w.Header().Set("WWW-Authenticate", e.Challenge())
	}
	body, _ := json.Marshal(p) // strings and a number
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "" { // RFC 9110 §15.5.2
		h.Set("WWW-Authenticate", `Bearer realm="roster"`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client is gone if this fails
	if p.repeats {
		return p.Type, ""
	}
	return p.Type, p.Detail
}

// problemFor says how err reads on the wire. What is no concern of this surface
// alone reads as it does in SCIM.
func problemFor(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if _, ok := errors.AsType[*auth.RefusedError](err); ok {
		return &Problem{Type: blank, Title: http.StatusText(http.StatusUnauthorized), Status: http.StatusUnauthorized, Detail: "sign in first"}
	}
	if e, ok := errors.AsType[*auth.LevelError](asLevel(err)); ok {
		p := &Problem{Type: TypeLevel, Title: "A passcode is required", Status: 401, Detail: "give a passcode in this session; if no authenticator app is enrolled, enrol one first"}
		if e.MaxAge > 0 {
			p.Detail = "give a passcode again: the last one was too long ago"
		}
		return p
	}
	if e, ok := errors.AsType[*auth.PolicyError](err); ok {
		return &Problem{Type: TypePassword, Title: "The password is not good enough", Status: 400, Detail: e.Error()}
	}
	if e, ok := errors.AsType[*auth.DeniedError](err); ok {
		return notPermitted(e.Error())
	}
	if e, ok := errors.AsType[*auth.InvalidError](err); ok {
		return invalid(e.Error())
	}
	if e, ok := errors.AsType[*schemas.DefinitionError](err); ok {
		p := invalid(e.Error())
		p.repeats = true
		return p
	}
	if e, ok := errors.AsType[*scim.OffendersError](err); ok {
		return offending(e)
	}
	if e, ok := errors.AsType[*domains.ProofError](err); ok {
		return conflict("The domain is not proven", e.Error())
	}
	switch {
	case errors.Is(err, auth.ErrSignIn):
		return &Problem{Type: TypeSignIn, Title: "The sign-in was not accepted", Status: 401}
	case errors.Is(err, auth.ErrPasswordEmpty), errors.Is(err, auth.ErrPasswordTooLong):
		return &Problem{Type: TypePassword, Title: "The password is not good enough", Status: 400, Detail: scim.ErrorFor(err).Detail}
	case errors.Is(err, errProof):
		return &Problem{Type: TypeProof, Title: "The password, passcode or code was not accepted", Status: 403}
	case errors.Is(err, auth.ErrPasswordAge):
		return &Problem{Type: TypePasswordAge, Title: "The password has to be given again", Status: 403}
	case errors.Is(err, auth.ErrFactorDisabled):
		return &Problem{Type: TypeProof, Title: "Passcodes of this account are not accepted any more", Status: 403, Detail: "too many were wrong; somebody entitled has to reset them"}
	case errors.Is(err, auth.ErrFactorRequired), errors.Is(err, auth.ErrSelf):
		return notPermitted(err.Error())
	case errors.Is(err, auth.ErrNoEnrolment):
		return conflict("No enrolment has begun", "begin one in this session, and confirm it within 10 minutes")
	case errors.Is(err, auth.ErrAdministered):
		return conflict("There is an administrator", err.Error())
	case errors.Is(err, auth.ErrLinkCode), errors.Is(err, auth.ErrLinked), errors.Is(err, auth.ErrNotMoved):
		return conflict("The link cannot be used or made", err.Error())
	case errors.Is(err, domains.ErrTaken), errors.Is(err, domains.ErrUnproven), errors.Is(err, domains.ErrInUse), errors.Is(err, domains.ErrDefault), errors.Is(err, domains.ErrMany),
		errors.Is(err, domains.ErrMoving), errors.Is(err, domains.ErrState):
		return conflict("The domain is not in a state for this", err.Error())
	case errors.Is(err, domains.ErrUnreachable):
		return unavailable(err.Error(), 30)
	case errors.Is(err, auth.ErrMoved), errors.Is(err, auth.ErrMove):
		return notPermitted(err.Error())
	case errors.Is(err, mail.ErrDisabled):
		return conflict("There is no mail", err.Error())
	case errors.Is(err, auth.ErrActivation):
		return conflict("The role cannot be activated", err.Error())
	case errors.Is(err, scim.ErrDefined), errors.Is(err, scim.ErrExtended), errors.Is(err, scim.ErrLacking):
		return conflict("The schemas do not allow this", err.Error())
	case errors.Is(err, scim.ErrDefinitionBusy), errors.Is(err, storage.ErrConflict):
		return unavailable("somebody else is changing the same: try again", 2)
	case errors.Is(err, access.ErrConflict):
		return conflict("This is not possible now", err.Error())
	case errors.Is(err, auth.ErrLastAdministrator):
		return &Problem{Type: TypeLastAdmin, Title: "The last usable Global Administrator stays", Status: 409, Detail: lastAdministrator}
	case errors.Is(err, auth.ErrLimited), errors.Is(err, auth.ErrPasswordChange):
		return &Problem{Type: TypeLimited, Title: "The account is not complete", Status: 403, Detail: "change the password or enrol a passcode first; /auth/v1/session says what is missing"}
	case errors.Is(err, auth.ErrPasswordPushed):
		return &Problem{Type: TypeLimited, Title: "The account is not complete", Status: 403, Detail: "the password came from a provisioning client; somebody entitled has to give a temporary one, or a link"}
	case errors.Is(err, auth.ErrNotPermitted), errors.Is(err, scim.ErrForbidden):
		return notPermitted("")
	}
	e := scim.ErrorFor(err)
	switch {
	case e.Status == http.StatusBadRequest:
		return invalid(e.Detail)
	case e.Type == scim.Uniqueness:
		return conflict("Something else is there already", e.Detail)
	case e.Status == http.StatusConflict:
		return conflict("This is not possible now", e.Detail)
	case e.Status == http.StatusForbidden:
		return notPermitted(e.Detail)
	}
	return &Problem{Type: blank, Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Detail, retryAfter: e.RetryAfter}
}

// lastAdministrator says who counts as usable.
const lastAdministrator = "one Global Administrator must remain who is active, has a password and an authenticator app, and is admitted by the conditional rules " +
	"from where they have signed in before, or has an emergency account"

func notPermitted(detail string) *Problem {
	return &Problem{Type: TypeNotPermitted, Title: "You may not do this", Status: 403, Detail: detail}
}

func conflict(title, detail string) *Problem {
	return &Problem{Type: TypeConflict, Title: title, Status: 409, Detail: detail}
}

func unavailable(detail string, retryAfter int) *Problem {
	return &Problem{Type: blank, Title: http.StatusText(http.StatusServiceUnavailable), Status: http.StatusServiceUnavailable, Detail: detail, retryAfter: retryAfter}
}

// errProof is auth.ErrSignIn in a session: 403, for 401 would say that the session
// is over.
var errProof = errors.New("the proof was not accepted")

// inSession returns err as it reads where somebody is signed in.
func inSession(err error) error {
	if errors.Is(err, auth.ErrSignIn) {
		return errProof
	}
	return err
}

// asLevel returns err as a *auth.LevelError where a passcode would help.
func asLevel(err error) error {
	if errors.Is(err, auth.ErrPasscodeAge) || errors.Is(err, auth.ErrStalePasscode) {
		return &auth.LevelError{MaxAge: auth.StepUpAge}
	}
	return err
}
