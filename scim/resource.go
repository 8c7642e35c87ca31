package scim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// projection says which attributes of a resource a response carries
// (RFC 7644 §3.9). The zero value carries those returned always and by default.
type projection struct {
	include map[*schemas.Attribute]bool // nil without "attributes"
	exclude map[*schemas.Attribute]bool
	// written is returned to who wrote it, though otherwise only on request (RFC 7643 §7).
	written written
}

// projection resolves the names in a request. Unknown names select nothing.
func (r projectionRequest) projection(t *schemas.ResourceType) projection {
	p := projection{written: r.written}
	if len(r.attributes) > 0 {
		p.include = map[*schemas.Attribute]bool{}
		for _, name := range r.attributes {
			mark(t, name, p.include)
		}
	}
	if len(r.excluded) > 0 {
		p.exclude = map[*schemas.Attribute]bool{}
		for _, name := range r.excluded {
			mark(t, name, p.exclude)
		}
	}
	return p
}

// mark adds to set the attribute with this name, or all of the core schema for
// its URN.
func mark(t *schemas.ResourceType, name string, set map[*schemas.Attribute]bool) {
	if strings.EqualFold(name, t.Schema.ID) {
		for _, a := range t.Schema.Attributes {
			set[t.Top(a.Name)] = true
		}
		return
	}
	if a := t.Lookup(name); a != nil {
		set[a] = true
	}
}

// schemas takes out of attrs the URIs of extensions that are not part of the
// response (RFC 7643 §3: those of the attributes present).
func (p projection) schemas(t *schemas.ResourceType, attrs map[string]any) {
	uris, _ := attrs["schemas"].([]any)
	attrs["schemas"] = slices.DeleteFunc(slices.Clone(uris), func(uri any) bool {
		s, _ := uri.(string)
		a := t.Top(s)
		return a != nil && a.Extension && !p.shows(a, attrs[a.Name])
	})
}

// shows reports whether anything of a value is part of the response. What no client may
// read is not stored.
func (p projection) shows(a *schemas.Attribute, v any) bool {
	if v == nil || !p.keep(a) {
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		return slices.ContainsFunc(a.SubAttributes, func(s *schemas.Attribute) bool { return p.shows(s, v[s.Name]) })
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return p.shows(a, e) })
	}
	return true
}

// some reports whether anything is left of a complex attribute whose value is made for the
// response.
func (p projection) some(a *schemas.Attribute) bool {
	return p.keep(a) && slices.ContainsFunc(a.SubAttributes, p.keep)
}

// full reports whether a stored document can go out as it is.
func (p projection) full(t *schemas.ResourceType) bool {
	return p.include == nil && p.exclude == nil && !t.OnRequest()
}

// keep reports whether the attribute is part of the response. A complex
// attribute is kept for the sake of a sub-attribute that is.
func (p projection) keep(a *schemas.Attribute) bool {
	switch {
	case a.Returned == schemas.ReturnedNever:
		return false
	case always(a):
		return ofResource(a) || p.keep(a.Parent)
	case a.Extension && slices.ContainsFunc(a.SubAttributes, always):
		return true
	case p.include == nil:
		return !p.exclude[a] && (!ofResource(a) || !p.exclude[a.Parent]) && (a.Returned != schemas.ReturnedRequest || p.written[a])
	case p.include[a]:
		return true
	}
	for q := a.Parent; q != nil; q = q.Parent {
		if p.include[q] || always(q) && ofResource(q) {
			return a.Returned != schemas.ReturnedRequest || q.Extension && ofResource(a) // its URN is for all of it
		}
	}
	return p.below(a)
}

// ofResource reports whether a is an attribute of the resource, which those of an
// extension are as well, and no part of another one.
func ofResource(a *schemas.Attribute) bool { return a.Parent == nil || a.Parent.Extension }

func always(a *schemas.Attribute) bool { return a.Returned == schemas.ReturnedAlways }

// below reports whether a sub-attribute of a was asked for.
func (p projection) below(a *schemas.Attribute) bool {
	for _, s := range a.SubAttributes {
		if p.include[s] || p.below(s) {
			return true
		}
	}
	return false
}

// view writes resources of one type as they go over the wire.
type view struct {
	t    *schemas.ResourceType
	kept *schemas.ResourceType // what documents are of; t unless the client sees another form
	base string                // "https://host/scim/v2"
	projection
	fast   bool   // documents go out as stored
	prefix []byte // of every location, as it stands inside a JSON string
	users  []byte // the same of users
}

func newView(t *schemas.ResourceType, base string, p projectionRequest) view {
	v := view{t: t, kept: t, base: base, projection: p.projection(t)}
	switch t.Name {
	case assignmentType, membershipType, invitationType, roleType, entitlementType:
	default:
		v.fast = v.full(t)
	}
	inside := func(address string) []byte {
		s := schemas.AppendString(make([]byte, 0, len(address)+len(`""`)), address)
		return s[1 : len(s)-1]
	}
	v.prefix, v.users = inside(base+t.Endpoint+"/"), inside(base+"/Users/")
	return v
}

// viewFor writes resources of a type in the form in which a principal sees them.
func viewFor(by auth.Principal, t *schemas.ResourceType, base string, p projectionRequest) view {
	v := newView(shown(by, t), base, p)
	v.kept = t
	return v
}

func (v view) location(id string) string { return v.base + v.t.Endpoint + "/" + id }

// around is what a resource is shown with that is not in its document.
type around struct {
	groups  []storage.Membership
	manager manager
	// role and principal are the names of those of a role assignment that exist.
	role, principal string
	names           string   // shown in a membership
	expired         bool     // of an invitation that nobody has accepted
	containedBy     []string // the values of the roles that contain a role
}

// open appends everything of a resource except its members and the closing
// brace.
func (v view) open(dst []byte, r *storage.Resource, with around) ([]byte, error) {
	switch m := with.manager; {
	case v.fast && m.id == "":
		dst = append(dst, r.Doc[:len(r.Doc)-1]...)
	case v.fast:
		dst = v.manager(append(dst, r.Doc[:m.start]...), m)
		dst = append(dst, r.Doc[m.end:len(r.Doc)-1]...)
	default:
		attrs, err := parseStored(v.kept, r)
		if err != nil {
			return dst, err
		}
		if m.id != "" {
			v.showManager(attrs, m)
		}
		switch v.t.Name {
		case assignmentType:
			v.showAssignment(attrs, with)
		case membershipType:
			v.showMembership(attrs)
		case roleType, entitlementType:
			if v.kept != v.t {
				attrs = oktaAttributes(v.t, attrs)
			} else {
				showWord(attrs, with)
			}
		}
		if with.expired {
			attrs["status"] = statusExpired
		}
		v.schemas(v.t, attrs)
		dst = v.t.AppendJSON(dst, attrs, v.keep)
		dst = dst[:len(dst)-1]
	}
	if a := v.t.Top("groups"); a != nil && a.Detached && len(with.groups) > 0 && v.some(a) {
		dst = v.groups(dst, a, with.groups)
	}
	if a := v.t.Top("meta"); v.some(a) {
		dst = v.meta(dst, a, r, with)
	}
	return dst, nil
}

// parseStored reads the document of a resource. That one is damaged is not the
// client's doing, so the error does not unwrap into one that ErrorFor would take
// for a fault of the request.
func parseStored(t *schemas.ResourceType, r *storage.Resource) (map[string]any, error) {
	attrs, err := t.Parse(r.Doc)
	if err != nil {
		return nil, fmt.Errorf("parse the stored %s %s: %v", t.Name, r.ID, err) //nolint:errorlint // on purpose, see above
	}
	return attrs, nil
}

func (v view) groups(dst []byte, a *schemas.Attribute, groups []storage.Membership) []byte {
	dst = append(dst, `,"groups":[`...)
	for i, g := range groups {
		if i > 0 {
			dst = append(dst, ',')
		}
		typ := "indirect"
		if g.Direct {
			typ = "direct"
		}
		dst = v.reference(dst, a, g.Group, "/Groups/", g.Display, typ)
	}
	return append(dst, ']')
}

// member appends one element of members.
func (v view) member(dst []byte, a *schemas.Attribute, m storage.Member) []byte {
	return v.reference(dst, a, m.Value, "/"+m.Type+"s/", m.Display, m.Type)
}

// reference appends an element that refers to another resource.
func (v view) reference(dst []byte, a *schemas.Attribute, id, endpoint, display, typ string) []byte {
	dst = append(dst, '{')
	start := len(dst)
	field := func(name string, prefix, value string) {
		if (prefix == "" && value == "") || !v.keep(a.Sub(name)) {
			return
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, `":`...)
		if prefix == "" {
			dst = schemas.AppendString(dst, value)
			return
		}
		dst = schemas.AppendString(dst, prefix)
		dst = append(append(dst[:len(dst)-1], value...), '"')
	}
	field("value", "", id)
	field("$ref", v.base+endpoint, id)
	field("display", "", display)
	field("type", "", typ)
	return append(dst, '}')
}

func (v view) meta(dst []byte, a *schemas.Attribute, r *storage.Resource, with around) []byte {
	dst = append(dst, `,"meta":{`...)
	start := len(dst)
	begin := func(name string) bool {
		if !v.fast && !v.keep(a.Sub(name)) {
			return false
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, `":"`...)
		return true
	}
	if begin("resourceType") {
		dst = append(append(dst, r.Type...), '"')
	}
	if !r.Created.IsZero() && begin("created") {
		dst = append(appendTime(dst, r.Created), '"')
	}
	if !r.LastModified.IsZero() && begin("lastModified") {
		dst = append(appendTime(dst, r.LastModified), '"')
	}
	if begin("location") {
		dst = append(append(append(dst, v.prefix...), r.ID...), '"')
	}
	if begin("version") {
		dst = append(dst, `W/\"`...)
		dst = append(appendVersion(dst, r, with), `\""`...)
	}
	return append(dst, '}')
}

// appendTime appends a time in RFC 3339 with the milliseconds that are stored.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	}
	// A page writes two hundred of them, and a layout is read anew for each.
	hour, minute, second := t.Clock()
	ms := t.Nanosecond() / 1e6
	two := func(n int, after byte) { dst = append(dst, byte('0'+n/10), byte('0'+n%10), after) }
	dst = append(dst, byte('0'+year/1000), byte('0'+year/100%10))
	two(year%100, '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, '.')
	return append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}
