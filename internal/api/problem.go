package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
)

// Problem is an error response (RFC 9457).
type Problem struct {
	// Type names what went wrong, or is "about:blank" when Status says it all.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

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
	TypePasscode     = problemPrefix + "passcode-refused"
	TypePassword     = problemPrefix + "password-refused"
	TypeLevel        = problemPrefix + "passcode-required"
	TypeLimited      = problemPrefix + "enrolment-required"
	TypeNotPermitted = problemPrefix + "not-permitted"
	TypeTooMany      = problemPrefix + "too-many-requests"
	TypeConflict     = problemPrefix + "conflict"
	TypeLastAdmin    = problemPrefix + "last-administrator"
)

func invalid(detail string) *Problem {
	return &Problem{Type: TypeInvalid, Title: "The request is not valid", Status: 400, Detail: detail}
}

// WriteError answers with err as a problem and returns its type and detail for
// the log; see server.Mount.
func WriteError(w http.ResponseWriter, _ *http.Request, err error) (typ, detail string) {
	p := problemFor(err)
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
		return &Problem{Type: blank, Title: http.StatusText(401), Status: 401, Detail: "sign in first"}
	}
	if e, ok := errors.AsType[*auth.LevelError](err); ok {
		p := &Problem{Type: TypeLevel, Title: "A passcode is required", Status: 401, Detail: "give a passcode in this session"}
		if e.MaxAge > 0 {
			p.Detail = "give a passcode again: the last one was too long ago"
		}
		return p
	}
	switch {
	case errors.Is(err, auth.ErrLimited):
		return &Problem{Type: TypeLimited, Title: "The account is not complete", Status: 403, Detail: "change the password or enrol a passcode first; /auth/v1/session says what is missing"}
	case errors.Is(err, auth.ErrNotPermitted):
		return &Problem{Type: TypeNotPermitted, Title: "You may not do this", Status: 403}
	}
	e := scim.ErrorFor(err)
	return &Problem{Type: blank, Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Detail, retryAfter: e.RetryAfter}
}
