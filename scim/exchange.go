package scim

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/mux"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
)

// Exchange is a request to the protocol and what became of it, for those who look
// into why something was refused. It holds no value that the client sent: see
// redactor. Whoever runs the server gives one to WithExchange and fills in what is
// known there; the Handler adds the rest. It belongs to the goroutine of the request.
type Exchange struct {
	RequestID string
	By        auth.Principal
	Method    string // of those there are, or "other"
	Route     string // the template of the path, or "none"
	Began     time.Time
	Took      time.Duration
	Status    int
	Err       error // that was answered with, or nil

	ResourceType string // its name, or ""
	ResourceID   string // "" if there is none, or what stood in its place is no id
	// Query and Body are there if the request was refused, Body if it was read.
	Query string
	Body  jsontext.Value
	// Operations is how many a bulk request had, Failed how many of these failed, and
	// Failures the first of them.
	Operations, Failed int
	Failures           []Failure
}

// Failure says why a request, or an operation of a bulk request, was refused.
type Failure struct {
	Status int       `json:"status"`
	Type   ErrorType `json:"scimType,omitzero"`
	// Detail is what the client was told, unless that named attributes as the client
	// wrote them.
	Detail string `json:"detail,omitzero"`
	// Attribute is the path of the one that it is about, as the schema writes it.
	Attribute string `json:"attribute,omitzero"`
	// Operation is the one of a PATCH that could not be applied, and Offset where in a
	// filter it cannot be read on, from 0.
	Operation *int `json:"operation,omitzero"`
	Offset    *int `json:"offset,omitzero"`
	// Bulk is which operation of a bulk request it was, from 0, and what follows is of
	// that.
	Bulk         *int           `json:"bulkOperation,omitzero"`
	Method       string         `json:"method,omitzero"`
	ResourceType string         `json:"resourceType,omitzero"`
	ResourceID   string         `json:"resourceId,omitzero"`
	Body         jsontext.Value `json:"body,omitzero"`
}

type exchangeKey struct{}

// WithExchange returns a context by which the Handler finds x.
func WithExchange(ctx context.Context, x *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

func exchange(ctx context.Context) *Exchange {
	x, _ := ctx.Value(exchangeKey{}).(*Exchange)
	return x
}

// failureFor says why a request to resources of a type was refused with err; t may be
// nil.
func failureFor(set *schemas.Set, t *schemas.ResourceType, err error) Failure {
	told := ErrorFor(err)
	f := Failure{Status: told.Status, Type: told.Type, Detail: told.Repeatable()}
	r := redactor{set: set, t: t}
	if e, ok := errors.AsType[*schemas.ValueError](err); ok {
		f.Attribute = r.text(e.Path)
	}
	if e, ok := errors.AsType[*patch.Error](err); ok {
		f.Attribute = r.text(e.Path)
		if e.Index >= 0 {
			f.Operation = &e.Index
		}
	}
	if e, ok := errors.AsType[*filter.SyntaxError](err); ok {
		f.Offset = &e.Offset
	}
	return f
}

// of notes which resources a request is about.
func (x *Exchange) of(r *http.Request, t *schemas.ResourceType) {
	if x != nil {
		x.ResourceType, x.ResourceID = t.Name, idOnly(mux.Vars(r)["id"])
	}
}

// idOnly returns what may be the id of a resource, or "".
func idOnly(s string) string {
	if !ours(s) {
		return ""
	}
	return s
}

// noted notes why a request was refused.
func (h *Handler) noted(serve serveFunc) serveFunc {
	return func(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
		err := serve(w, r, by)
		x := exchange(r.Context())
		if err == nil || x == nil {
			return err
		}
		set, t := h.known(r.Context(), by, x)
		x.Failures = append(x.Failures, failureFor(set, t, err))
		if r.URL.RawQuery != "" {
			re := redactor{set: set, t: t}
			x.Query = re.query(r.URL.RawQuery)
		}
		return err
	}
}

// known returns the schemas that a request is held against, and the type it is about
// or nil.
func (h *Handler) known(ctx context.Context, by auth.Principal, x *Exchange) (*schemas.Set, *schemas.ResourceType) {
	set, err := h.provider.types(ctx, by.Tenant)
	if err != nil {
		set = h.provider.Schemas
	}
	return set, set.Type(x.ResourceType)
}

// maxToldBody is up to which size a body is taken apart once more when it was refused.
const maxToldBody = 64 << 10

// sent notes a body that was refused.
func (h *Handler) sent(r *http.Request, by auth.Principal, raw []byte) {
	x := exchange(r.Context())
	if x == nil || len(raw) == 0 {
		return
	}
	set, t := h.known(r.Context(), by, x)
	re := redactor{set: set, t: t, room: redactedRoom}
	form := re.resource
	switch {
	case r.Method == http.MethodPatch:
		form = re.patch
	case strings.HasSuffix(r.URL.Path, "/Bulk"):
		form = re.bulk
	case strings.HasSuffix(r.URL.Path, "/.search"):
		form = re.search
	}
	x.Body = re.body(raw, form)
}

// maxFailures is of how many operations of a bulk request it is told why they failed.
const maxFailures = 20

// tell notes which operations failed.
func (b *bulk) tell() {
	x := exchange(b.ctx)
	if x == nil {
		return
	}
	x.Operations = len(b.ops)
	room := redactedRoom
	for i, o := range b.ops {
		if !o.done || o.err == nil {
			continue
		}
		if x.Failed++; x.Failed > maxFailures {
			continue
		}
		f := failureFor(b.set, o.t, o.err)
		f.Bulk, f.ResourceID = &i, idOnly(o.id)
		if o.t != nil {
			f.ResourceType = o.t.Name
		}
		re := redactor{set: b.set, t: o.t, room: room}
		f.Method = re.method(o.method)
		if len(o.data) > 0 {
			form := re.resource
			if o.method == http.MethodPatch {
				form = re.patch
			}
			f.Body = re.body(o.data, form)
		}
		room = re.room
		x.Failures = append(x.Failures, f)
	}
}
