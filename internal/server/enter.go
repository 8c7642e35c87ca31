package server

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
)

// enter finds out who calls and whether they may pass, once for each request. The
// challenge of a refusal is set here, since it is the same in every form an error may have.
func (s *Server) enter(c *call, route scim.Route) error {
	if c.passed {
		return nil
	}
	err := s.gate(c, route)
	c.passed = err == nil
	return err
}

func (s *Server) gate(c *call, route scim.Route) error {
	c.by.From = c.remote
	if route.Needs.Public() {
		return s.sameOrigin(c.r, false)
	}
	by, cookie, err := s.identify(c)
	if err != nil {
		c.challenge(err)
		return err
	}
	by.From = c.remote
	c.by = by
	if err := s.withinRate(by); err != nil {
		return err
	}
	if err := s.sameOrigin(c.r, cookie); err != nil {
		return err
	}
	err = route.Needs.Meets(by, s.opt.Now())
	if err == auth.ErrNotPermitted && route.Exists != nil { //nolint:errorlint // not those that say what is missing
		if missing := route.Exists(c.r, by); missing != nil {
			return missing
		}
	}
	if err != nil {
		c.challenge(err)
	}
	return err
}

// identify returns who sent a request, and whether a cookie says so.
func (s *Server) identify(c *call) (auth.Principal, bool, error) {
	ctx := c.r.Context()
	p, err := auth.Present(c.r, s.opt.Sessions != nil)
	if err != nil {
		s.refused(err)
		return auth.Principal{}, false, err
	}
	if s.opt.Sessions == nil || !p.Cookie && !auth.IsSession(p.Text) {
		by, err := s.opt.Verifier.VerifyToken(ctx, p.Text, c.remote)
		return by, false, err
	}
	by, err := s.opt.Sessions.VerifySession(ctx, p.Text, c.remote)
	if err != nil {
		s.refused(err)
	}
	return by, p.Cookie, err
}

func (s *Server) refused(err error) {
	if refused, ok := errors.AsType[*auth.RefusedError](err); ok {
		s.metrics.refused.WithLabelValues(string(refused.Reason)).Inc()
	} else if errors.Is(err, auth.ErrInvalidRequest) {
		s.metrics.refused.WithLabelValues(string(auth.Malformed)).Inc()
	}
}

// challenge says what would be let in. It says the same to everyone whose
// token was refused.
func (c *call) challenge(err error) {
	const realm = `Bearer realm="roster"`
	var challenge string
	refused, isRefused := errors.AsType[*auth.RefusedError](err)
	level, isLevel := errors.AsType[*auth.LevelError](err)
	switch {
	case errors.Is(err, auth.ErrInvalidRequest):
		challenge = realm + `, error="invalid_request"`
	case isRefused && (refused.Reason == auth.Missing || refused.Reason == auth.Scheme): // RFC 6750 §3.1: no error code
		challenge = realm
	case isRefused:
		challenge = realm + `, error="invalid_token"`
	case isLevel:
		challenge = level.Challenge()
	case errors.Is(err, auth.ErrNotPermitted):
		challenge = realm + `, error="insufficient_scope"`
	default:
		return // the store could not be asked
	}
	c.w.Header().Set("WWW-Authenticate", challenge)
}

// sameOrigin refuses a request that a browser was made to send by somebody else's
// page. Where cookie says that the browser authenticated it by itself, it must
// say where it comes from, and have a body that no form can make.
func (s *Server) sameOrigin(r *http.Request, cookie bool) error {
	foreign := &scim.Error{Status: http.StatusForbidden, Detail: "the request does not come from this server's own pages"}
	if len(r.Header["Authorization"]) > 0 && !cookie {
		return nil // no browser adds that by itself
	}
	if err := s.origins.Check(r); err != nil {
		return foreign
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if !cookie {
		return nil
	}
	// What a browser sends for its user alone ("none") is no write.
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if site != "same-origin" && (site != "" || origin == "") {
		return foreign
	}
	if media := r.Header.Get("Content-Type"); (media != "" || r.ContentLength != 0) && !isJSON(media) {
		return &scim.Error{Status: http.StatusUnsupportedMediaType, Detail: "expected Content-Type application/json"}
	}
	return nil
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || media == "application/scim+json")
}

// The headers of every response. The policy is for what is no page: nothing in it
// may be run, framed or sent anywhere, however a browser came to show it.
var everywhere = map[string][]string{
	"Cache-Control":                {"no-store"},
	"Content-Security-Policy":      {"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Referrer-Policy":              {"no-referrer"},
	"X-Content-Type-Options":       {"nosniff"},
}

var strictTransport = []string{"max-age=31536000"}

// secure sets the headers that keep browsers from doing anything with a response
// but hand it to whoever asked. RFC 6797 §7.2 wants Strict-Transport-Security
// over TLS only.
func (s *Server) secure(h http.Header, r *http.Request) {
	for name, value := range everywhere {
		h[name] = value
	}
	if r.TLS != nil || strings.HasPrefix(s.BaseURL(r), "https:") {
		h["Strict-Transport-Security"] = strictTransport
	}
}
