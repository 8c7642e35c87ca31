package auth

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// Reason is why credentials were refused, as a metric's label. Callers must not
// be told.
type Reason string

// The reasons.
const (
	Missing   Reason = "missing"   // no Authorization header
	Scheme    Reason = "scheme"    // another authentication scheme than Bearer
	Malformed Reason = "malformed" // not one whole bearer token
	Unknown   Reason = "unknown"   // never issued, or not with this secret
	Expired   Reason = "expired"
	Revoked   Reason = "revoked" // the client is no longer welcome
	Network   Reason = "network" // not from where the client's requests come
)

// RefusedError says that a request's credentials were not accepted: 401. Its
// text is the same for every Reason.
type RefusedError struct{ Reason Reason }

func (e *RefusedError) Error() string { return "the credentials were not accepted" }

// ErrInvalidRequest says that a request carries a token in its query string,
// where proxies and logs see it, whatever else it carries. It is the
// invalid_request of RFC 6750 §3.1: 400.
var ErrInvalidRequest = errors.New("a token is accepted in the Authorization header only")

// CookieName is the name of the cookie that carries a session in browsers. The
// prefix makes them refuse one that is not Secure, or set for other hosts
// (draft-ietf-httpbis-rfc6265bis §4.1.3.2).
const CookieName = "__Host-roster"

// Presented is what a request brought to say who sends it.
type Presented struct {
	Text string
	// Cookie says that a browser sent it by itself, whoever made it send the
	// request.
	Cookie bool
}

// Present returns what a request brought: a bearer token, or else, where cookies
// count, that of a session. The error is a *RefusedError or ErrInvalidRequest.
func Present(r *http.Request, cookies bool) (Presented, error) {
	text, err := bearerToken(r)
	if !cookies || !errors.Is(err, error(refuseMissing)) || len(r.Header["Authorization"]) > 0 {
		return Presented{Text: text}, err
	}
	found := r.CookiesNamed(CookieName)
	switch {
	case len(found) == 0:
		return Presented{}, err
	case len(found) > 1 || found[0].Value == "":
		return Presented{}, refuseMalformed
	}
	return Presented{Text: found[0].Value, Cookie: true}, nil
}

// bearerToken returns the token of the request's only Authorization header.
// Nothing but "Bearer", spaces and the token may stand there (RFC 6750 §2.1); the
// scheme's case does not matter (RFC 9110 §11.1). A token in the body is not looked for.
func bearerToken(r *http.Request) (string, error) {
	if r.URL != nil && r.URL.RawQuery != "" && queryHasToken(r.URL.RawQuery) {
		return "", ErrInvalidRequest
	}
	values := r.Header["Authorization"]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return "", refuseMissing
	}
	scheme, rest, found := strings.Cut(values[0], " ")
	token := strings.TrimLeft(rest, " ")
	switch {
	case len(values) > 1 || !found:
		return "", refuseMalformed
	case !strings.EqualFold(scheme, "Bearer"):
		return "", refuseScheme
	case token == "":
		return "", refuseMalformed
	}
	return token, nil
}

// queryHasToken reports whether a query string has a parameter called
// access_token, however it is spelled.
func queryHasToken(query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if strings.EqualFold(name, "access_token") {
			return true
		}
	}
	return false
}

// Refusals are made once, so that refusing costs nothing.
var (
	refuseMissing   = &RefusedError{Missing}
	refuseScheme    = &RefusedError{Scheme}
	refuseMalformed = &RefusedError{Malformed}
	refuseUnknown   = &RefusedError{Unknown}
	refuseExpired   = &RefusedError{Expired}
	refuseRevoked   = &RefusedError{Revoked}
	refuseNetwork   = &RefusedError{Network}
)
