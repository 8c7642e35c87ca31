package schemas

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

// The schema URIs that Roster serves: those of RFC 7643, that of
// draft-ietf-scim-roles-entitlements, and Roster's own.
const (
	UserURI           = "urn:ietf:params:scim:schemas:core:2.0:User"
	GroupURI          = "urn:ietf:params:scim:schemas:core:2.0:Group"
	EnterpriseUserURI = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	RoleURI           = "urn:ietf:params:scim:schemas:core:2.0:Role"
	RosterUserURI     = "urn:ietf:params:scim:schemas:extension:roster:2.0:User"
	RosterRoleURI     = "urn:ietf:params:scim:schemas:extension:roster:2.0:Role"
	EntitlementURI    = "urn:ietf:params:scim:schemas:core:2.0:Entitlement"

	RosterEntitlementURI = "urn:ietf:params:scim:schemas:extension:roster:2.0:Entitlement"
	// GroupMembershipURI is of draft-zollner-scim-group-members.
	GroupMembershipURI = "urn:ietf:params:scim:schemas:core:2.0:GroupMembership"
	RoleAssignmentURI  = "urn:ietf:params:scim:schemas:extension:roster:2.0:RoleAssignment"
	InvitationURI      = "urn:ietf:params:scim:schemas:extension:roster:2.0:Invitation"
)

// Schema is one schema of RFC 7643 §7, as /Schemas describes it.
type Schema struct {
	ID          string
	Name        string
	Description string
	// Attributes are those the schema defines; the common attributes of
	// RFC 7643 §3.1 (id, externalId, meta, schemas) are not among them.
	Attributes []*Attribute
}

// Extension is a schema that adds attributes to a resource type.
type Extension struct {
	Schema   *Schema
	Required bool
	// Custom is true for one that a tenant defines.
	Custom bool
	// Attribute stands for the extension in the tree of a resource.
	Attribute *Attribute
}

// ResourceType is a kind of resource (RFC 7643 §6) with everything its
// resources may contain.
type ResourceType struct {
	Name        string
	Endpoint    string // with the leading slash: "/Users"
	Description string
	Schema      *Schema
	Extensions  []Extension
	Custom      bool // a tenant defines it
	// Memo is for package storage: what it derives from the type, which is to live as
	// long as that does.
	Memo atomic.Value

	// attributes are in the order in which a resource is written: schemas, id,
	// externalId, those of Schema, the extensions, meta.
	attributes []*Attribute
	byName     map[string]*Attribute // folded names and extension URNs
	bare       map[string]*Attribute // folded names of extension attributes that no core attribute hides
	ruled      []*Attribute          // the attributes that Finish has to look at
	numeric    bool                  // it has attributes that are numbers
	request    bool                  // it has attributes that are returned only on request
}

// Attributes returns the attributes at the top of a resource in the order in
// which it is written, extensions included. The slice must not be changed.
func (t *ResourceType) Attributes() []*Attribute { return t.attributes }

// OnRequest reports whether some attributes are returned only on request.
func (t *ResourceType) OnRequest() bool { return t.request }

// Top returns the attribute called name at the top of a resource: a common
// attribute, one of the core schema, or an extension by its URN. Names are
// compared without regard to case; the result is nil for an unknown one.
func (t *ResourceType) Top(name string) *Attribute {
	if a, ok := t.byName[name]; ok {
		return a
	}
	return t.byName[foldName(name)]
}

// former are the URIs that schemas had in the drafts of RFC 7643, and in SCIM 1.1. OneLogin's
// templates still have them.
var former = map[string][]string{
	UserURI:           {"urn:scim:schemas:core:1.0", "urn:scim:schemas:core:2.0", "urn:scim:schemas:core:2.0:User"},
	GroupURI:          {"urn:scim:schemas:core:1.0", "urn:scim:schemas:core:2.0", "urn:scim:schemas:core:2.0:Group"},
	EnterpriseUserURI: {"urn:scim:schemas:extension:enterprise:1.0", "urn:scim:schemas:extension:enterprise:2.0", "urn:scim:schemas:extension:enterprise:2.0:User"},
}

// wasCalled reports whether uri is a former one of the schema.
func (s *Schema) wasCalled(uri string) bool {
	return slices.ContainsFunc(former[s.ID], func(f string) bool { return equalNames(f, uri) })
}

// Former returns the extension that has this as a former URI, or nil.
func (t *ResourceType) Former(uri string) *Attribute {
	for _, e := range t.Extensions {
		if e.Schema.wasCalled(uri) {
			return e.Attribute
		}
	}
	return nil
}

// Lookup resolves an attribute path (RFC 7644 §3.10): a name, "name.sub", any
// of these after a schema URN and a colon, or a URN alone. Case does not
// matter. A name that only an extension defines is found without its URN, as
// Entra and others write "manager", and with a dot behind the URN, as ConnId's
// connector and WSO2 write them. The result is
// nil for an unknown path and for the URN of the core schema, which stands for
// no attribute.
func (t *ResourceType) Lookup(path string) *Attribute {
	if strings.Contains(path, ":") {
		return t.lookupURI(path)
	}
	name, sub, dotted := strings.Cut(path, ".")
	a := t.Top(name)
	if a == nil {
		a = t.bare[foldName(name)]
	}
	if a == nil || !dotted {
		return a
	}
	return a.Sub(sub)
}

// lookupURI resolves a path that begins with a schema URI. URIs contain dots
// and colons, so the known ones are tried and the longest that fits is taken.
func (t *ResourceType) lookupURI(path string) *Attribute {
	var ext *Attribute // nil while the core schema is the best match
	best := ""
	try := func(uri string, a *Attribute) {
		if len(uri) > len(best) && len(path) >= len(uri) && equalNames(path[:len(uri)], uri) &&
			(len(path) == len(uri) || path[len(uri)] == ':' || path[len(uri)] == '.') {
			best, ext = uri, a
		}
	}
	try(t.Schema.ID, nil)
	for _, e := range t.Extensions {
		try(e.Schema.ID, e.Attribute)
	}
	if best == "" {
		return nil
	}
	if len(path) == len(best) {
		return ext
	}
	name, sub, dotted := strings.Cut(path[len(best)+1:], ".")
	var a *Attribute
	if ext != nil {
		a = ext.Sub(name)
	} else if a = t.Top(name); a != nil && a.Extension {
		a = nil
	}
	if a == nil || !dotted {
		return a
	}
	return a.Sub(sub)
}

// Set is the resource types of a server, with the schemas behind them.
type Set struct {
	types   []*ResourceType
	schemas []*Schema
}

// NewSet returns the set of the given types, in that order.
func NewSet(types ...*ResourceType) *Set {
	s := &Set{types: types}
	for _, t := range types {
		s.schemas = append(s.schemas, t.Schema)
		for _, e := range t.Extensions {
			s.schemas = append(s.schemas, e.Schema)
		}
	}
	slices.SortStableFunc(s.schemas, func(a, b *Schema) int { return cmp.Compare(a.ID, b.ID) })
	s.schemas = slices.CompactFunc(s.schemas, func(a, b *Schema) bool { return a.ID == b.ID })
	return s
}

// Types returns the resource types. The slice must not be changed.
func (s *Set) Types() []*ResourceType { return s.types }

// Type returns the resource type called name, exactly, or nil.
func (s *Set) Type(name string) *ResourceType {
	for _, t := range s.types {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Schemas returns the schemas behind the types, ordered by id. The slice must
// not be changed.
func (s *Set) Schemas() []*Schema { return s.schemas }

// Schema returns the schema with this URI, compared without regard to case
// (RFC 7643 §2.1), or nil.
func (s *Set) Schema(uri string) *Schema {
	for _, c := range s.schemas {
		if equalNames(c.ID, uri) {
			return c
		}
	}
	return nil
}
