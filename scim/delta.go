package scim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// The delta query (draft-sehgal-scim-delta-query-01) is experimental: the draft has
// expired, and may come back in another form.

// Schema URIs of its messages.
const (
	DeltaTokenURI    = "urn:ietf:params:scim:api:messages:2.0:delta:token"
	DeltaRequestURI  = "urn:ietf:params:scim:api:messages:2.0:delta:request"
	DeltaResponseURI = "urn:ietf:params:scim:api:messages:2.0:delta:response"
)

// DeltaLifetime is how long a delta token is good.
const DeltaLifetime = 7 * 24 * time.Hour

// deltaTypes are the resource types whose changes can be asked for.
var deltaTypes = []string{"User", "Group"}

func hasDelta(typ string) bool { return slices.Contains(deltaTypes, typ) }

// maxDeltaLooked bounds how many entries of the audit trail one request looks at.
const maxDeltaLooked = 20_000

var (
	errInvalidDelta = &Error{Status: 400, Type: InvalidCursor, Detail: "deltaToken: it is not one of this client for these resources: get a new one, and read all resources"}
	errDeltaFilter  = &Error{Status: 400, Type: InvalidFilter, Detail: "filter: a delta query has none"}
	errExpiredDelta = &Error{Status: 400, Type: ExpiredCursor, Detail: fmt.Sprintf("deltaToken: it is older than %d days: get a new one, and read all resources", int(DeltaLifetime.Hours())/24)}
)

// deltaBound is what a delta token is tied to. It is good for longer than the tokens of
// a client may be.
func deltaBound(by auth.Principal, endpoint string) []byte {
	return []byte(strings.Join([]string{string(by.Tenant), by.Actor(), endpoint, "delta"}, "\x00"))
}

// deltaObject makes the token of a place in the audit trail.
func (h *Handler) deltaObject(ctx context.Context, by auth.Principal, t *schemas.ResourceType, seq int64) (object, error) {
	expires := h.provider.now().Add(DeltaLifetime)
	text, err := h.cursors.sealed(ctx, place{Int: seq, Expires: expires.Unix()}, deltaBound(by, t.Endpoint))
	return object{"value": text, "expiry": expires.Format(time.RFC3339)}, err
}

// openDelta reads it.
func (h *Handler) openDelta(ctx context.Context, by auth.Principal, t *schemas.ResourceType, text string) (seq int64, err error) {
	p, err := h.cursors.unsealed(ctx, text, deltaBound(by, t.Endpoint))
	switch {
	case errors.Is(err, errInvalidCursor):
		return 0, errInvalidDelta
	case errors.Is(err, errExpiredCursor):
		return 0, errExpiredDelta
	case err != nil:
		return 0, err
	}
	return p.Int, nil
}

// deltaToken answers with a token for what changes from now on.
func (h *Handler) deltaToken(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if q.Has("filter") {
		return errDeltaFilter
	}
	ctx := r.Context()
	end, err := storage.LastEntry(ctx, h.provider.Store, by.Tenant, func(*storage.AuditEntry) bool { return true })
	if err != nil {
		return err
	}
	o, err := h.deltaObject(ctx, by, t, end)
	if err != nil {
		return err
	}
	o["schemas"] = []string{DeltaTokenURI}
	body, err := marshal(o)
	if err != nil {
		return err
	}
	return writeBody(w, r, body)
}

// deltaRequest is the body of POST .delta.
type deltaRequest struct {
	token      string
	count      int
	projection projectionRequest
}

// deltaParameters are its attributes.
var deltaParameters = []parameter{
	{"deltaToken", "a string"}, {"count", "an integer"}, {"attributes", "an array of strings"}, {"excludedAttributes", "an array of strings"},
}

func parseDelta(body any) (d deltaRequest, err error) {
	q, err := parametersIn(body, DeltaRequestURI, deltaParameters, schemas.Strict)
	if err != nil {
		return d, err
	}
	if v, _ := schemas.Field(body, "filter"); v != nil {
		return d, errDeltaFilter
	}
	if d.projection, err = parseProjection(q); err != nil {
		return d, err
	}
	if !q.Has("deltaToken") {
		return d, &Error{Status: 400, Type: InvalidValue, Detail: "deltaToken: expected a string"}
	}
	d.token = q.Get("deltaToken")
	if d.count, err = integer(q, "count", MaxCount); err != nil || d.count < 1 {
		return d, &Error{Status: 400, Type: InvalidValue, Detail: "count: expected an integer above 0"}
	}
	d.count = min(d.count, MaxCount)
	return d, nil
}

// changed are resources in the order in which they changed first.
type changed struct {
	ids  []string
	made map[string]bool // by id, whether it was created, or restored, meanwhile
	to   int64           // how far the trail was looked through
	more bool
}

// changedSince returns up to count resources of a type that changed behind a number.
func (h *Handler) changedSince(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, seq int64, count int) (*changed, error) {
	c := &changed{made: map[string]bool{}}
	var err error
	c.to, c.more, err = storage.EachEntry(ctx, h.provider.Store, tenant, seq, maxDeltaLooked, func(e *storage.AuditEntry) bool {
		if e.Version == 0 || e.Type != t.Name {
			return true
		}
		made, known := c.made[e.ID]
		if !known {
			if len(c.ids) == count {
				return false
			}
			c.ids = append(c.ids, e.ID)
		}
		c.made[e.ID] = made || strings.HasSuffix(e.Action, ".create") || strings.HasSuffix(e.Action, ".restore")
		return true
	})
	return c, err
}

// delta answers with what changed behind a token, each resource as it is now.
func (h *Handler) delta(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	ctx := r.Context()
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if q.Has("filter") {
		return errDeltaFilter
	}
	var d deltaRequest
	err = h.withBody(r, by, func(body any) (err error) {
		d, err = parseDelta(body)
		return err
	})
	if err != nil {
		return err
	}
	seq, err := h.openDelta(ctx, by, t, d.token)
	if err != nil {
		return err
	}
	c, err := h.changedSince(ctx, by.Tenant, t, seq, d.count)
	if err != nil {
		return err
	}
	next, err := h.deltaObject(ctx, by, t, c.to)
	if err != nil {
		return err
	}
	tail, err := marshal(next)
	if err != nil {
		return err
	}
	v := viewFor(by, t, h.base(r), d.projection)
	w.Header().Set("Content-Type", mediaType(r))
	s := newStream(w, http.StatusOK)
	s.buf = append(s.buf, `{"schemas":["`+ListResponseURI+`"],"totalResults":`...)
	s.buf = strconv.AppendInt(s.buf, int64(len(c.ids)), 10)
	s.buf = append(s.buf, `,"moreAvailable":`...)
	s.buf = strconv.AppendBool(s.buf, c.more)
	s.buf = append(append(s.buf, `,"nextDeltaToken":`...), tail...)
	s.buf = append(s.buf, `,"Resources":[`...)
	for i, id := range c.ids {
		if i > 0 {
			s.buf = append(s.buf, ',')
		}
		if err := h.writeDelta(ctx, s, by, v, t, id, c.made[id]); err != nil {
			return s.fail(err)
		}
	}
	s.buf = append(s.buf, `],"itemsPerPage":`...)
	s.buf = strconv.AppendInt(s.buf, int64(len(c.ids)), 10)
	s.buf = append(s.buf, '}')
	return s.close()
}

// writeDelta appends what became of a resource.
func (h *Handler) writeDelta(ctx context.Context, s *stream, by auth.Principal, v view, t *schemas.ResourceType, id string, made bool) error {
	res, err := h.provider.get(ctx, by, t, id)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	what := "update"
	switch {
	case err != nil:
		what = "delete"
	case made:
		what = "create"
	}
	s.buf = append(s.buf, `{"schemas":["`+DeltaResponseURI+`"],"resourceType":"`+t.Name+`","changeType":"`+what+`","changedResourceId":"`+id+`"`...)
	if res != nil {
		with, err := h.aroundOne(ctx, by, v.t, res)
		if err != nil {
			return err
		}
		s.buf = append(s.buf, `,"data":`...)
		if err := h.write(ctx, s, by, v, res, with); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, '}')
	return s.room()
}
