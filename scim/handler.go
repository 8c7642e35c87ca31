package scim

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/mux"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// Route is one row of a route table.
type Route struct {
	Method string
	Path   string // a mux template below the base path: "/Users/{id}"
	Needs  auth.Need
	// Serve answers a request of a principal that meets Needs. An error that it
	// returns becomes the response (see WriteError), or, when part of a response
	// is out already, whoever called Serve has to cut the connection.
	Serve func(w http.ResponseWriter, r *http.Request, by auth.Principal) error
	// Exists, unless it is nil, returns the error that a request gets because the tenant
	// of whoever asks has no such endpoint, or nil if it has: who is known, and lacks nothing
	// but a scope or permission, is told of the first thing first.
	Exists func(r *http.Request, by auth.Principal) error
	// Deprovisioning says whether its requests go before others.
	Deprovisioning Deprovisioning
	// Waits says that Serve may call LeavePlace.
	Waits bool
}

// A serveFunc is a Route's Serve; a serveTypeFunc is one that has to be told of which resource type.
type (
	serveFunc     = func(http.ResponseWriter, *http.Request, auth.Principal) error
	serveTypeFunc = func(http.ResponseWriter, *http.Request, auth.Principal, *schemas.ResourceType) error
)

func route(method, path string, needs auth.Need, serve serveFunc) Route {
	return Route{Method: method, Path: path, Needs: needs, Serve: serve}
}

// Handler is the protocol (RFC 7644) over a Provider.
type Handler struct {
	// Async, if set before the first request, carries out bulk requests whose clients
	// prefer not to wait.
	Async *Async
	// EventURIs, if set before the first request, are the security events that there are
	// (RFC 9967), for discovery.
	EventURIs []string

	provider *Provider
	bodies   *bodies
	cursors  *cursors
	base     func(*http.Request) string
}

// NewHandler returns the protocol over p. base returns the address below which
// a request found the routes, without a slash at the end:
// "https://roster.example/scim/v2".
func NewHandler(p *Provider, base func(*http.Request) string) *Handler {
	return &Handler{provider: p, bodies: newBodies(), cursors: &cursors{store: p.Store, now: p.Now}, base: base}
}

// Routes returns the route table: every route of the protocol with what it
// needs.
func (h *Handler) Routes() []Route {
	routes := []Route{
		route("GET", "/ServiceProviderConfig", auth.Token(), h.serviceProviderConfig),
		route("GET", "/ResourceTypes", auth.Token(), h.resourceTypes),
		route("GET", "/ResourceTypes/{id}", auth.Token(), h.resourceType),
		route("GET", "/Schemas", auth.Token(), h.schemas),
		route("GET", "/Schemas/{id}", auth.Token(), h.schema),
		route("GET", "", auth.Token(), h.listAll),
		route("POST", "/.search", auth.Token(), h.searchAll),
		{Method: "POST", Path: "/Bulk", Needs: auth.Token(), Serve: h.bulk, Waits: true},
		route("GET", "/Bulk/{id}", auth.Token(), h.bulkResult),
		route("GET", "/Me", auth.Token(), h.onMe(h.get)),
		route("PUT", "/Me", auth.Token(), h.onMe(h.replace)),
		route("PATCH", "/Me", auth.Token(), h.onMe(h.patch)),
		route("DELETE", "/Me", auth.Scope(auth.Delete, auth.PrincipalUser), h.onMe(h.delete)),
	}
	for _, t := range h.provider.Schemas.Types() {
		for _, endpoint := range endpointsOf(t) {
			routes = append(routes, h.routesOf(t.Name, endpoint)...)
		}
	}
	if h.provider.Custom != nil {
		routes = append(routes, h.routesOf(auth.CustomResource, "/{type}")...)
	}
	for i, r := range routes {
		routes[i].Serve = h.noted(r.Serve)
	}
	return routes
}

// routesOf are the routes for the resources of a type, as the tenant of whoever asks has
// it, or for those of all types that tenants define, by their endpoints.
func (h *Handler) routesOf(name, endpoint string) []Route {
	find := func(r *http.Request, by auth.Principal) (*schemas.ResourceType, error) {
		set, err := h.provider.types(r.Context(), by.Tenant)
		if err != nil {
			return nil, err
		}
		t := set.Type(name)
		if name == auth.CustomResource {
			t = customAt(set, mux.Vars(r)["type"])
		}
		if t == nil {
			return nil, noEndpoint(set, by, mux.Vars(r)["type"])
		}
		return t, nil
	}
	var exists func(*http.Request, auth.Principal) error
	if name == auth.CustomResource {
		exists = func(r *http.Request, by auth.Principal) error { _, err := find(r, by); return err }
	}
	on := func(serve serveTypeFunc) serveFunc {
		return func(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
			t, err := find(r, by)
			if err != nil {
				return err
			}
			exchange(r.Context()).of(r, t)
			return serve(w, r, by, t)
		}
	}
	to := func(a auth.Act) auth.Need { return auth.Scope(a, name) }
	var routes []Route
	if hasDelta(name) { // before what has an id
		routes = append(routes,
			route("GET", endpoint+"/.deltaToken", to(auth.Read), on(h.deltaToken)),
			route("POST", endpoint+"/.delta", to(auth.Read), on(h.delta)))
	}
	routes = append(routes,
		route("GET", endpoint, to(auth.Read), on(h.list)),
		route("POST", endpoint, to(auth.Create), on(h.create)),
		route("POST", endpoint+"/.search", to(auth.Read), on(h.search)),
		route("GET", endpoint+"/{id}", to(auth.Read), on(h.get)),
		route("DELETE", endpoint+"/{id}", to(auth.Delete), on(h.delete)),
	)
	if name != membershipType {
		routes = append(routes,
			route("PUT", endpoint+"/{id}", to(auth.Update), on(h.replace)),
			route("PATCH", endpoint+"/{id}", to(auth.Update), on(h.patch)))
	}
	for i, r := range routes {
		routes[i].Exists = exists
		switch {
		case name != auth.PrincipalUser:
		case r.Method == "DELETE":
			routes[i].Deprovisioning = DeprovisionsAlways
		case r.Method == "PUT", r.Method == "PATCH":
			routes[i].Deprovisioning = DeprovisionsByBody
		}
	}
	return routes
}

// WriteError answers with err in SCIM form (RFC 7644 §3.12) and returns the
// Error that was sent.
func WriteError(w http.ResponseWriter, r *http.Request, err error) *Error {
	e := ErrorFor(err)
	h := w.Header()
	h.Set("Content-Type", mediaType(r))
	h.Del("Content-Length")
	if e == errCoding { // and for no other 415: RFC 9110 §12.5.3
		h.Set("Accept-Encoding", "identity")
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	body := e.AppendJSON(nil)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // the client is gone if this fails
	return e
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	p, err := parseProjection(q)
	if err != nil {
		return err
	}
	res, err := h.provider.Get(r.Context(), by, t, mux.Vars(r)["id"])
	if err != nil {
		return err
	}
	return h.respond(w, r, by, viewFor(by, t, h.base(r), p), 200, res)
}

func (h *Handler) create(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	p, res, err := h.change(r, by, func(body any, sent *written) (*storage.Resource, error) {
		*sent = writtenIn(t, body)
		return h.provider.Create(r.Context(), by, t, body)
	})
	if err != nil {
		return err
	}
	return h.respond(w, r, by, viewFor(by, t, h.base(r), p), 201, res)
}

func (h *Handler) replace(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	p, res, err := h.change(r, by, func(body any, sent *written) (*storage.Resource, error) {
		*sent = writtenIn(t, body)
		return h.provider.Replace(r.Context(), by, t, mux.Vars(r)["id"], preconditionFrom(r.Header), body)
	})
	if err != nil {
		return err
	}
	return h.respond(w, r, by, viewFor(by, t, h.base(r), p), 200, res)
}

// membersInPatchResponse is up to how many members a group is part of the
// answer to a PATCH. RFC 7644 §3.5.2 leaves the choice between the whole
// resource and 204 to the server; changing one member of a large group must
// not cost a list of all.
const membersInPatchResponse = 20

func (h *Handler) patch(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	p, res, err := h.change(r, by, func(body any, sent *written) (*storage.Resource, error) {
		ops, err := patch.Decode(body, patch.DefaultLimits, mode(by))
		if err != nil {
			return nil, err
		}
		*sent = writtenBy(t, ops)
		return h.provider.Patch(r.Context(), by, t, mux.Vars(r)["id"], preconditionFrom(r.Header), ops)
	})
	if err != nil {
		return err
	}
	v := viewFor(by, t, h.base(r), p)
	if members := t.Top("members"); members != nil && members.Detached && v.include == nil && v.some(members) {
		short := by.Profile == auth.ProfileEntra
		if !short {
			n, err := h.provider.Store.CountMembers(r.Context(), by.Tenant, res.ID, membersInPatchResponse+1)
			if err != nil {
				return err
			}
			short = n > membersInPatchResponse
		}
		if short {
			w.Header().Set("ETag", version(res, around{}))
			w.Header().Set("Location", v.location(res.ID))
			w.WriteHeader(204)
			return nil
		}
	}
	return h.respond(w, r, by, v, 200, res)
}

func (h *Handler) delete(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	if err := h.provider.Delete(r.Context(), by, t, mux.Vars(r)["id"], preconditionFrom(r.Header)); err != nil {
		return err
	}
	w.WriteHeader(204)
	return nil
}

// respond sends one resource, or 304 when a GET names its version.
func (h *Handler) respond(w http.ResponseWriter, r *http.Request, by auth.Principal, v view, status int, res *storage.Resource) error {
	with, err := h.aroundOne(r.Context(), by, v.t, res)
	if err != nil {
		return err
	}
	tag := version(res, with)
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if t := parseTags(r.Header, "If-Match"); t.given && !t.hasRevision(res.Version) { // first: RFC 9110 §13.2.2
			return ErrPreconditionFailed
		}
		if t := parseTags(r.Header, "If-None-Match"); t.given && t.has(tag) {
			status = http.StatusNotModified
		}
	}
	// The names as Header.Set would write them; the values in one piece of memory.
	values := []string{tag, v.location(res.ID), mediaType(r)}
	header := w.Header()
	header["Etag"] = values[:1:1]
	header["Content-Location"] = values[1:2:2] // in a 304 too: RFC 9110 §15.4.5
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return nil
	}
	header["Location"] = values[1:2:2]
	if x := exchange(r.Context()); x != nil {
		x.ResourceID = res.ID
	}
	header["Content-Type"] = values[2:3:3]
	s := newStream(w, status)
	if err := h.write(r.Context(), s, by, v, res, with); err != nil {
		return s.fail(err)
	}
	return s.close()
}

// around finds what each of the resources is shown with; nil when it is nothing
// for all of them.
func (h *Handler) around(ctx context.Context, by auth.Principal, t *schemas.ResourceType, resources ...*storage.Resource) ([]around, error) {
	switch t.Name {
	case assignmentType:
		return h.assignments(ctx, by, t, resources)
	case membershipType:
		list := make([]around, len(resources))
		for i, r := range resources {
			list[i].names = r.Name
		}
		return list, nil
	}
	groups, err := h.groups(ctx, by, t, resources)
	if err != nil {
		return nil, err
	}
	managers, err := h.managers(ctx, by, t, resources)
	if err != nil {
		return nil, err
	}
	var containers map[string][]string
	if t.Name == roleType {
		if containers, err = auth.Containers(ctx, h.provider.Store, by.Tenant); err != nil {
			return nil, err
		}
	}
	if groups == nil && managers == nil && t.Name != invitationType && len(containers) == 0 {
		return nil, nil
	}
	list := make([]around, len(resources))
	for i, r := range resources {
		list[i].containedBy = containers[r.ID]
		list[i].groups = groups[r.ID]
		if managers != nil {
			list[i].manager = managers[i]
		}
		if t.Name == invitationType {
			if list[i].expired, err = h.provider.expired(t, r); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// aroundOne finds what one resource is shown with.
func (h *Handler) aroundOne(ctx context.Context, by auth.Principal, t *schemas.ResourceType, r *storage.Resource) (with around, err error) {
	list, err := h.around(ctx, by, t, r)
	if list != nil {
		with = list[0]
	}
	return with, err
}

// groups finds the groups of those among resources that are in any.
func (h *Handler) groups(ctx context.Context, by auth.Principal, t *schemas.ResourceType, resources []*storage.Resource) (map[string][]storage.Membership, error) {
	if a := t.Top("groups"); a == nil || !a.Detached {
		return nil, nil
	}
	var ids []string
	for _, r := range resources {
		if r.InGroups {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return h.provider.Store.Groups(ctx, by.Tenant, ids...)
}

// write appends one resource to a response.
func (h *Handler) write(ctx context.Context, s *stream, by auth.Principal, v view, res *storage.Resource, with around) error {
	var err error
	if s.buf, err = v.open(s.buf, res, with); err != nil {
		return err
	}
	if a := v.t.Top("members"); a != nil && a.Detached && v.some(a) {
		if err := h.writeMembers(ctx, s, by.Tenant, v, a, res.ID); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, '}')
	return s.room()
}

// writeMembers appends the members of a group, streamed.
func (h *Handler) writeMembers(ctx context.Context, s *stream, tenant storage.TenantID, v view, a *schemas.Attribute, group string) error {
	first := true
	for m, err := range h.provider.Store.Members(ctx, tenant, group, "") {
		if err != nil {
			return err
		}
		if first {
			s.buf = append(s.buf, `,"members":[`...)
			first = false
		} else {
			s.buf = append(s.buf, ',')
		}
		s.buf = v.member(s.buf, a, m)
		if err := s.room(); err != nil {
			return err
		}
	}
	if !first {
		s.buf = append(s.buf, ']')
	}
	return nil
}

// The discovery endpoints (RFC 7644 §4) ignore paging and refuse a filter.

func (h *Handler) serviceProviderConfig(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	config := serviceProviderConfig(h.base(r), by)
	// As with roles, for those only who use it.
	if by.May(auth.Read, auth.EventResource) {
		types := slices.DeleteFunc(slices.Clone(deltaTypes), func(typ string) bool { return !by.May(auth.Read, typ) })
		if len(types) > 0 {
			config["DeltaQuery"] = object{"supported": true, "deltaTokenExpiry": int(DeltaLifetime.Seconds()), "supportedResources": types}
		}
		if len(h.EventURIs) > 0 {
			async := "none"
			if h.Async != nil {
				async = "request"
			}
			config["securityEvents"] = object{"asyncRequest": async, "eventUris": h.EventURIs}
		}
	}
	return h.discovery(w, r, config)
}

// tells reports whether a resource type is among those that discovery tells somebody of:
// clients learn of those that they may read.
func tells(by auth.Principal, t *schemas.ResourceType) bool {
	return by.Kind != auth.Client || by.May(auth.Read, permitted(t))
}

func (h *Handler) resourceTypes(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	set, err := h.provider.types(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	var list []object
	for _, t := range set.Types() {
		if tells(by, t) {
			list = append(list, resourceType(h.base(r), shown(by, t)))
		}
	}
	return h.discovery(w, r, discoveryList(list))
}

func (h *Handler) resourceType(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	set, err := h.provider.types(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	t := set.Type(mux.Vars(r)["id"])
	if t == nil || !tells(by, t) {
		return storage.ErrNotFound
	}
	return h.discovery(w, r, resourceType(h.base(r), shown(by, t)))
}

func (h *Handler) schemas(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	set, err := h.provider.types(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	var list []object
	for _, s := range shownSchemas(by, set.Schemas()) {
		list = append(list, schema(h.base(r), s))
	}
	return h.discovery(w, r, discoveryList(list))
}

func (h *Handler) schema(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	set, err := h.provider.types(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	// The path is routed as it was sent, and some clients encode the colons.
	id, err := url.PathUnescape(mux.Vars(r)["id"])
	list := shownSchemas(by, set.Schemas())
	i := slices.IndexFunc(list, func(s *schemas.Schema) bool { return strings.EqualFold(s.ID, id) })
	if err != nil || i < 0 {
		return storage.ErrNotFound
	}
	return h.discovery(w, r, schema(h.base(r), list[i]))
}

// discovery answers with an object that describes the server, which takes no filter (RFC 7644 §4).
func (h *Handler) discovery(w http.ResponseWriter, r *http.Request, o object) error {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if q.Has("filter") {
		return &Error{Status: http.StatusForbidden, Detail: "discovery cannot be filtered (RFC 7644 §4)"}
	}
	body, err := marshal(o)
	if err != nil {
		return err
	}
	if meta, ok := o["meta"].(object); ok {
		w.Header().Set("Location", meta["location"].(string))
	}
	return writeBody(w, r, body)
}

// writeBody answers with what is whole in memory; what may be large is a stream.
func writeBody(w http.ResponseWriter, r *http.Request, body []byte) error {
	w.Header().Set("Content-Type", mediaType(r))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err := w.Write(body)
	return err
}
