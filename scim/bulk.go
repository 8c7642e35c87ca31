package scim

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// MaxBulkOperations bounds a bulk request (RFC 7644 §3.7); its body is bounded by
// MaxBody. ServiceProviderConfig tells both.
const MaxBulkOperations = 1000

// Schema URIs of bulk messages.
const (
	BulkRequestURI  = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
	BulkResponseURI = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
)

// bulk is a bulk request under way. Operations are carried out in the order in which
// they stand, but one that refers to a create comes after it; where that goes round
// in a circle, a resource is created without the reference and linked when the circle is there.
// Each is decided about when its turn comes, with the ids that it has then.
type bulk struct {
	p    *Provider
	ctx  context.Context // of the request
	by   auth.Principal
	base string
	set  *schemas.Set
	ops  []*bulkOperation
	// failOnErrors is after how many errors nothing more is done; 0 for never.
	failOnErrors int
	// creates are the operations that bulkIds stand for; nil for one that several have.
	creates map[string]*bulkOperation
	// unlinked are those that were created without something they refer to.
	unlinked []*bulkOperation
	failed   int
	// steps is set for a request that is carried out after it was answered.
	steps *steps
	// stop is why it does not go on now.
	stop error
	// refused, if set, is what becomes of all that is still to do.
	refused error
}

// bulkOperation is one operation of a bulk request.
type bulkOperation struct {
	index                         int
	step                          *step // of the latest write, in a request with steps
	method, path, bulkID, version string
	data                          jsontext.Value // as it was sent: it is read when its turn comes

	t     *schemas.ResourceType
	id    string   // of the resource, once it is known
	needs []string // bulkIds in data and path
	begun bool
	done  bool
	cut   []string // bulkIds of needs that it was created without
	err   error
	res   *storage.Resource // nil of a delete
}

func (h *Handler) bulk(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if wait, ok := h.prefersLater(r, by); ok {
		return h.bulkLater(w, r, by, wait)
	}
	b, err := newBulk(r.Context(), h.provider, by, h.base(r))
	if err != nil {
		return err
	}
	err = h.withRaw(r, by, func(room *body, raw []byte) error {
		if err := b.read(raw); err != nil {
			return err
		}
		if err := room.grow(r.Context(), b.largest()...); err != nil {
			return err
		}
		b.run()
		b.tell()
		return nil
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType(r))
	s := newStream(w, http.StatusOK)
	for part := range b.response() {
		s.buf = append(s.buf, part...)
		if err := s.room(); err != nil {
			return s.fail(err)
		}
	}
	return s.close()
}

func newBulk(ctx context.Context, p *Provider, by auth.Principal, base string) (*bulk, error) {
	set, err := p.types(ctx, by.Tenant)
	return &bulk{p: p, ctx: ctx, by: by, base: base, set: set, creates: map[string]*bulkOperation{}}, err
}

// largest returns the data of the largest operations, as many as there may be read at a time.
func (b *bulk) largest() [][]byte {
	data := make([][]byte, 0, len(b.ops))
	for _, o := range b.ops {
		data = append(data, o.data)
	}
	slices.SortFunc(data, func(a, b []byte) int { return len(b) - len(a) })
	return data[:min(len(data), bulkAtOnce)]
}

// response returns the parts of the BulkResponse, each good until the next.
func (b *bulk) response() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		buf := []byte(`{"schemas":["` + BulkResponseURI + `"],"Operations":[`)
		first := true
		for _, o := range b.ops {
			if !o.done {
				continue
			}
			if !first {
				buf = append(buf, ',')
			}
			first = false
			if buf = b.result(buf, o); !yield(buf) {
				return
			}
			buf = buf[:0]
		}
		yield(append(buf, "]}"...))
	}
}

// bulkMessage is the body of a bulk request.
type bulkMessage struct {
	Schemas      any              `json:"schemas"`
	FailOnErrors *int             `json:"failOnErrors"`
	Operations   []jsontext.Value `json:"Operations"`
}

type bulkOperationMessage struct {
	Method  string         `json:"method"`
	Path    string         `json:"path"`
	BulkID  string         `json:"bulkId"`
	Version string         `json:"version"`
	Data    jsontext.Value `json:"data"`
}

// asSCIM compares names without regard to case; that none is there twice is the
// default.
var asSCIM = json.MatchCaseInsensitiveNames(true)

// read takes a request apart.
func (b *bulk) read(raw []byte) error {
	var m bulkMessage
	if err := json.Unmarshal(raw, &m, asSCIM); err != nil {
		return &Error{Status: 400, Type: InvalidSyntax, Detail: "the body is not an acceptable BulkRequest: expected schemas, Operations (an array) and perhaps failOnErrors (an integer)"}
	}
	switch {
	case !schemas.IsMessage(m.Schemas, BulkRequestURI, mode(b.by)):
		return &Error{Status: 400, Type: InvalidSyntax, Detail: "schemas: expected " + BulkRequestURI}
	case m.Operations == nil:
		return &Error{Status: 400, Type: InvalidSyntax, Detail: "Operations: expected an array"}
	case len(m.Operations) > MaxBulkOperations:
		return &Error{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("Operations: more than %d", MaxBulkOperations)}
	case m.FailOnErrors != nil && *m.FailOnErrors < 0:
		return &Error{Status: 400, Type: InvalidValue, Detail: "failOnErrors: expected a number of errors"}
	case m.FailOnErrors != nil:
		b.failOnErrors = *m.FailOnErrors
	}
	for i, raw := range m.Operations {
		o := b.operation(raw)
		o.index = i
		b.ops = append(b.ops, o)
	}
	for _, o := range b.ops {
		if o.err == nil && o.method == http.MethodPost && o.bulkID != "" {
			if _, twice := b.creates[o.bulkID]; twice {
				b.creates[o.bulkID] = nil
			} else {
				b.creates[o.bulkID] = o
			}
		}
	}
	return nil
}

func (b *bulk) operation(raw jsontext.Value) *bulkOperation {
	var m bulkOperationMessage
	o := &bulkOperation{}
	if err := json.Unmarshal(raw, &m, asSCIM); err != nil {
		o.err = &Error{Status: 400, Type: InvalidSyntax, Detail: "an operation is an object with the strings method, path, bulkId and version, and data"}
		return o
	}
	o.method, o.path, o.bulkID, o.version, o.data = strings.ToUpper(m.Method), m.Path, m.BulkID, m.Version, m.Data
	if o.err = b.find(o); o.err != nil {
		return o
	}
	strict := mode(b.by) == schemas.Strict
	switch {
	case o.method == http.MethodPost && o.bulkID == "" && strict:
		o.err = &Error{Status: 400, Type: InvalidValue, Detail: "bulkId: is required for a POST"}
	case o.method != http.MethodDelete && (o.data == nil || o.data.Kind() == 'n'):
		o.err = &Error{Status: 400, Type: InvalidValue, Detail: "data: is required for a " + o.method}
	}
	if o.err == nil && bytes.Contains(o.data, []byte(bulkPrefix)) {
		var tree any
		if tree, o.err = b.tree(o); o.err == nil {
			known := map[string]bool{}
			references(tree, func(id string) {
				if !known[id] {
					known[id] = true
					o.needs = append(o.needs, id)
				}
			})
		}
	}
	return o
}

// tree reads the data of an operation.
func (b *bulk) tree(o *bulkOperation) (any, error) {
	tree, err := schemas.Decode(o.data, BodyLimits)
	if list, ok := tree.([]any); ok && o.method == http.MethodPatch {
		// The examples of RFC 7644 §3.7.3 have the operations alone.
		tree = map[string]any{"schemas": []any{patch.MessageURI}, "Operations": list}
	}
	return tree, err
}

// find reads the path of an operation: the endpoint of a resource type, behind which
// there is an id unless it is a POST.
func (b *bulk) find(o *bulkOperation) error {
	path := strings.TrimPrefix(o.path, b.base)
	if at, err := url.Parse(b.base); err == nil {
		path = strings.TrimPrefix(path, at.Path)
	}
	path = "/" + strings.TrimPrefix(path, "/")
	for _, t := range b.set.Types() {
		for _, endpoint := range endpointsOf(t) {
			if rest, ok := strings.CutPrefix(path, endpoint); ok && (rest == "" || rest[0] == '/') {
				o.t, o.id = t, strings.TrimPrefix(rest, "/")
			}
		}
	}
	ref, refers := strings.CutPrefix(o.id, bulkPrefix) // to any text: Nextcloud's is the name of a group
	if !refers {
		o.id = strings.TrimSuffix(o.id, "/")
	}
	switch o.method {
	case http.MethodPost:
		if o.t != nil && o.id == "" {
			return nil
		}
		o.id = "" // nothing is made there, and so it has no location
		return &Error{Status: 400, Type: InvalidPath, Detail: "path: expected the endpoint of a resource type"}
	case http.MethodPut, http.MethodPatch, http.MethodDelete:
		if refers {
			o.needs = append(o.needs, ref)
			return nil
		}
		if o.t != nil && o.id != "" && !strings.ContainsAny(o.id, "/?") { // what a bulk request is answered with has no parameters
			return nil
		}
		o.id = ""
		return &Error{Status: 400, Type: InvalidPath, Detail: "path: expected the endpoint of a resource type and an id"}
	}
	return &Error{Status: 400, Type: InvalidValue, Detail: "method: expected POST, PUT, PATCH or DELETE"}
}

// do carries an operation out, after the creates that it needs.
func (b *bulk) do(o *bulkOperation) {
	o.begun = true
	for _, ref := range o.needs {
		if c := b.creates[ref]; c != nil && !c.done {
			if c.begun {
				o.cut = append(o.cut, ref) // it waits for this one, or is this one
				continue
			}
			b.do(c)
		}
	}
	if o.method != http.MethodPost {
		b.link() // or it would take back what this one changes
	}
	if b.pause() {
		return
	}
	b.carryOut(b.context(o, false), o)
	b.finish(o)
	if o.done && o.err == nil && len(o.cut) > 0 {
		b.unlinked = append(b.unlinked, o)
	}
}

func (b *bulk) finish(o *bulkOperation) {
	if !b.note(o, false) {
		return
	}
	o.done = true
	if o.err != nil {
		b.failed++
	}
}

// carryOut does what an operation says, now.
func (b *bulk) carryOut(ctx context.Context, o *bulkOperation) {
	if o.err != nil {
		return
	}
	if o.err = cmp.Or(ctx.Err(), b.refused); o.err != nil {
		return
	}
	if ref, ok := strings.CutPrefix(o.id, bulkPrefix); ok {
		if o.id, o.err = b.resolve(ref); o.err != nil {
			return
		}
	}
	p := b.p
	if o.method == http.MethodDelete {
		o.err = p.Delete(ctx, b.by, o.t, o.id, o.precondition())
		return
	}
	tree, err := b.resolved(o, o.cut)
	if err != nil {
		o.err = err
		return
	}
	switch o.method {
	case http.MethodPost:
		o.expect(tree)
		if o.res, o.err = p.Create(ctx, b.by, o.t, tree); o.err == nil {
			o.id = o.res.ID
		}
	case http.MethodPut:
		o.res, o.err = p.Replace(ctx, b.by, o.t, o.id, o.precondition(), tree)
	case http.MethodPatch:
		ops, err := patch.Decode(tree, patch.DefaultLimits, mode(b.by))
		if err != nil {
			o.err = err
			return
		}
		o.res, o.err = p.Patch(ctx, b.by, o.t, o.id, o.precondition(), ops)
	}
}

func (o *bulkOperation) precondition() Precondition {
	header := http.Header{}
	if o.version != "" {
		header.Set("If-Match", o.version)
	}
	return preconditionFrom(header)
}

// link gives resources what they were created without, once all of it is there.
func (b *bulk) link() {
	for _, o := range b.unlinked {
		if b.pause() {
			return
		}
		if err := b.linkOne(b.context(o, true), o); err != nil {
			if b.stops(err) {
				return
			}
			e := *ErrorFor(err)
			if e.Status == http.StatusBadRequest {
				e.Status, e.Type = http.StatusConflict, "" // RFC 7644 §3.7.1
			}
			e.Detail = "it was created, without what it refers to by bulkId: " + e.Detail
			o.err = &e
			b.failed++
		}
		if !b.note(o, true) {
			return
		}
	}
	b.unlinked = nil
}

func (b *bulk) linkOne(ctx context.Context, o *bulkOperation) error {
	if b.refused != nil {
		return b.refused
	}
	tree, err := b.resolved(o, nil)
	if err != nil {
		return err
	}
	if m, ok := tree.(map[string]any); ok {
		for name := range m {
			if strings.EqualFold(name, "password") {
				delete(m, name) // it has that
			}
		}
	}
	res, err := b.p.Replace(ctx, b.by, o.t, o.id, Precondition{}, tree)
	if err == nil {
		o.res = res
	}
	return err
}

// bulkPrefix begins a reference to a resource that is created in the same request
// (RFC 7644 §3.7.2).
const bulkPrefix = "bulkId:"

// resolve returns the id of the resource that a bulkId stands for.
func (b *bulk) resolve(ref string) (string, error) {
	c, known := b.creates[ref]
	switch {
	case !known:
		return "", &Error{Status: 400, Type: InvalidValue, Detail: "bulkId: no POST of this request has the one that is referred to"}
	case c == nil:
		return "", &Error{Status: 400, Type: InvalidValue, Detail: "bulkId: several operations have the one that is referred to"}
	case c.err != nil || c.id == "":
		return "", &Error{Status: 400, Type: InvalidValue, Detail: "bulkId: what is referred to could not be created"}
	}
	return c.id, nil
}

// resolved returns the data of an operation with ids in the place of bulkIds, without
// what refers to those in cut.
func (b *bulk) resolved(o *bulkOperation, cut []string) (any, error) {
	tree, err := b.tree(o)
	if err != nil || len(o.needs) == 0 {
		return tree, err
	}
	r := resolver{cut: cut, resolve: b.resolve}
	tree, _ = r.value(tree, "")
	return tree, r.err
}

// references calls fn with the bulkIds that data refers to.
func references(tree any, fn func(string)) {
	r := resolver{resolve: func(ref string) (string, error) {
		fn(ref)
		return "", nil
	}}
	r.value(tree, "")
}

// resolver puts ids in the place of bulkIds: where ids of other resources stand, which
// is in value, $ref and, as some clients write it, in manager itself, and in the path of
// an operation of a PATCH. Elsewhere a text that looks like a reference is a text.
type resolver struct {
	cut     []string
	resolve func(string) (string, error)
	err     error
}

// value returns v with its references resolved, or false if it refers to what is cut.
func (r *resolver) value(v any, name string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			e, keep := r.value(e, strings.ToLower(k))
			switch {
			case keep:
				v[k] = e
			case strings.EqualFold(k, "value"), strings.EqualFold(k, "$ref"):
				return nil, false // what it is the value of goes with it
			default:
				delete(v, k)
			}
		}
	case []any:
		out := v[:0]
		for _, e := range v {
			if e, keep := r.value(e, name); keep {
				out = append(out, e)
			}
		}
		return out, true
	case string:
		return r.text(v, name)
	}
	return v, true
}

func (r *resolver) text(s, name string) (any, bool) {
	at := strings.Index(s, bulkPrefix)
	switch {
	case at < 0:
		return s, true
	case name == "path":
		return r.path(s), true
	case name == "$ref" && at > 0 && s[at-1] == '/', at == 0 && holdsID(name):
		ref := s[at+len(bulkPrefix):]
		if slices.Contains(r.cut, ref) {
			return nil, false
		}
		return s[:at] + r.id(ref), true
	}
	return s, true
}

// holdsID reports whether an id of another resource may stand under a name, which is in
// lower case and may be a path, as in a PATCH without one.
func holdsID(name string) bool {
	switch name[strings.LastIndexAny(name, ":.")+1:] {
	case "value", "$ref", "manager", "members", "contains":
		return true
	}
	return false
}

// path resolves the references in a PATCH path: members[value eq "bulkId:x"].
func (r *resolver) path(s string) string {
	var out strings.Builder
	for {
		at := strings.Index(s, `"`+bulkPrefix)
		if at < 0 {
			break
		}
		at++
		ref, rest, ok := strings.Cut(s[at+len(bulkPrefix):], `"`)
		if !ok {
			break
		}
		out.WriteString(s[:at] + r.id(ref) + `"`)
		s = rest
	}
	return out.String() + s
}

func (r *resolver) id(ref string) string {
	id, err := r.resolve(ref)
	if err != nil && r.err == nil {
		r.err = err
	}
	return id
}

// result appends what became of an operation.
func (b *bulk) result(dst []byte, o *bulkOperation) []byte {
	field := func(name, value string) {
		if value != "" {
			dst = append(append(dst, `,"`+name+`":`...), schemas.AppendString(nil, value)...)
		}
	}
	dst = append(dst, fmt.Sprintf(`{"status":"%d"`, o.status())...)
	field("method", o.method)
	field("bulkId", o.bulkID)
	if location := o.location(); location != "" {
		field("location", b.base+location)
	}
	if o.err != nil {
		dst = ErrorFor(o.err).AppendJSON(append(dst, `,"response":`...))
	}
	field("version", o.etag())
	return append(dst, '}')
}

// status is that of an operation that is done.
func (o *bulkOperation) status() int {
	switch {
	case o.err != nil:
		return ErrorFor(o.err).Status
	case o.method == http.MethodPost:
		return http.StatusCreated
	case o.method == http.MethodDelete:
		return http.StatusNoContent
	}
	return http.StatusOK
}

// location is where the resource is, below the base; "" if that is not known.
func (o *bulkOperation) location() string {
	if o.t == nil || o.id == "" || strings.HasPrefix(o.id, bulkPrefix) {
		return ""
	}
	return o.t.Endpoint + "/" + o.id
}

// etag is the version of the resource, "" if there is none.
func (o *bulkOperation) etag() string {
	if o.err != nil || o.res == nil {
		return ""
	}
	return version(o.res, around{})
}
