package schemas

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// CustomSchema is a schema that a tenant defines: an extension of resource types,
// or the core of a resource type of its own.
type CustomSchema struct {
	Schema SchemaDefinition `json:"schema"`
	// Extends are the names of the resource types that it adds attributes to.
	Extends []string `json:"extends,omitempty"`
	// Required says that every resource of these has to have it.
	Required bool `json:"required,omitempty"`
	// ResourceType is the type whose core it is.
	ResourceType *TypeDefinition `json:"resourceType,omitempty"`
}

// SchemaDefinition is a schema as RFC 7643 §7 writes it. Schemas and Meta say
// nothing, and are there so that what /Schemas answers with is one.
type SchemaDefinition struct {
	Schemas     []string              `json:"schemas,omitempty"`
	ID          string                `json:"id"`
	Name        string                `json:"name,omitempty"`
	Description string                `json:"description,omitempty"`
	Attributes  []AttributeDefinition `json:"attributes"`
	Meta        *DefinitionMeta       `json:"meta,omitempty"`
}

// DefinitionMeta is the meta of a schema.
type DefinitionMeta struct {
	ResourceType string `json:"resourceType,omitempty"`
	Location     string `json:"location,omitempty"`
}

// AttributeDefinition is an attribute as RFC 7643 §7 writes it. What is left out has
// the default of that section.
type AttributeDefinition struct {
	Name            string                   `json:"name"`
	Type            string                   `json:"type,omitempty"`
	MultiValued     bool                     `json:"multiValued,omitempty"`
	Description     string                   `json:"description,omitempty"`
	Required        bool                     `json:"required,omitempty"`
	CaseExact       bool                     `json:"caseExact,omitempty"`
	CanonicalValues []string                 `json:"canonicalValues,omitempty"`
	ReferenceTypes  []string                 `json:"referenceTypes,omitempty"`
	Mutability      string                   `json:"mutability,omitempty"`
	Returned        string                   `json:"returned,omitempty"`
	Uniqueness      string                   `json:"uniqueness,omitempty"`
	SubAttributes   []SubAttributeDefinition `json:"subAttributes,omitempty"`
}

// SubAttributeDefinition is an AttributeDefinition of one that has none below it.
type SubAttributeDefinition struct {
	Name            string   `json:"name"`
	Type            string   `json:"type,omitempty"`
	MultiValued     bool     `json:"multiValued,omitempty"`
	Description     string   `json:"description,omitempty"`
	Required        bool     `json:"required,omitempty"`
	CaseExact       bool     `json:"caseExact,omitempty"`
	CanonicalValues []string `json:"canonicalValues,omitempty"`
	ReferenceTypes  []string `json:"referenceTypes,omitempty"`
	Mutability      string   `json:"mutability,omitempty"`
	Returned        string   `json:"returned,omitempty"`
	Uniqueness      string   `json:"uniqueness,omitempty"`
}

// TypeDefinition is a resource type (RFC 7643 §6) that a tenant defines.
type TypeDefinition struct {
	Name        string `json:"name"`
	Endpoint    string `json:"endpoint"` // with the leading slash
	Description string `json:"description,omitempty"`
}

// Bounds of what a tenant defines.
const (
	MaxCustomSchemas    = 50  // of a tenant
	MaxCustomAttributes = 200 // of a schema, sub-attributes included
	maxURN              = 200
	maxName             = 64
	maxDescription      = 1000
	maxListed           = 200 // canonical values, reference types
)

// DefinitionError says what is wrong with a CustomSchema: at which attribute or member,
// and by which rule. It repeats names of attributes, types and schemas.
type DefinitionError struct{ Msg string }

func (e *DefinitionError) Error() string { return e.Msg }

func wrongDefinition(format string, args ...any) error {
	return &DefinitionError{fmt.Sprintf(format, args...)}
}

// Key is the URN of the schema in the one form that all its spellings have
// (RFC 7643 §2.1).
func (c *CustomSchema) Key() string { return foldName(c.Schema.ID) }

// SchemaKey returns the Key of the schema with a URN.
func SchemaKey(urn string) string { return foldName(urn) }

// Tidy leaves out of c what says nothing.
func (c *CustomSchema) Tidy() { c.Schema.Schemas, c.Schema.Meta = nil, nil }

var (
	// customURN is what a URN of RFC 8141 may be here: without what would have to be
	// encoded in a path. A version in it has dots.
	customURN = regexp.MustCompile(`^urn:[A-Za-z0-9][A-Za-z0-9-]{1,30}(:[A-Za-z0-9._-]+)+$`)
	typeName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)
)

// reservedURNs begin the URNs that mean something else.
var reservedURNs = []string{
	"urn:ietf:params:scim:api:",
	"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig", "urn:ietf:params:scim:schemas:core:2.0:ResourceType",
	"urn:ietf:params:scim:schemas:core:2.0:Schema", "urn:ietf:params:scim:schemas:core:2.0:Entitlement",
	"urn:ietf:params:scim:schemas:extension:roster:", "urn:roster:", "urn:okta:",
}

// reservedNames are those that a resource type or its endpoint would take from
// something else: from the protocol, from resource types to come, and from what the
// audit trail tells of.
var reservedNames = []string{
	"Me", "Bulk", "Schema", "Schemas", "ResourceType", "ResourceTypes", "ServiceProviderConfig", "GroupMember", "GroupMembers",
	"Entitlement", "Entitlements", "Client", "Clients", "Tenant", "Tenants", "Domain", "Domains", "Mail", "KeyRing", "Policy", "Session",
	"Rule", "Review", "Token", "Audit", "Resource", "Resources", "Credential", "AccountLink", "RoleRequest", "Retention",
}

// reservedAttributes mean something to Roster wherever they stand at the top of a
// resource: what is secret, who belongs where, and what people sign in with.
var reservedAttributes = []string{"password", "members", "manager", "userName", "role", "principal"}

// Compile checks a definition by itself against RFC 7643 §7 and what Roster takes, and
// returns its schema. The error is a *DefinitionError.
func (c *CustomSchema) Compile() (*Schema, error) {
	switch d := c.Schema; {
	case !customURN.MatchString(d.ID) || len(d.ID) > maxURN:
		return nil, wrongDefinition("schema.id: expected a URN of letters, digits, and . _ - between colons, at most %d long", maxURN)
	case len(d.Name) > maxName || len(d.Description) > maxDescription:
		return nil, wrongDefinition("schema: expected a name of at most %d bytes and a description of at most %d", maxName, maxDescription)
	case (c.ResourceType == nil) == (len(c.Extends) == 0):
		return nil, wrongDefinition("expected either extends or resourceType")
	case c.ResourceType != nil && c.Required:
		return nil, wrongDefinition("required: is for extensions")
	}
	for _, r := range reservedURNs {
		if n := min(len(r), len(c.Schema.ID)); equalNames(c.Schema.ID[:n], r) {
			return nil, wrongDefinition("schema.id: this URN is reserved")
		}
	}
	if t := c.ResourceType; t != nil {
		switch {
		case !typeName.MatchString(t.Name) || len(t.Name) > maxName:
			return nil, wrongDefinition("resourceType.name: expected a letter followed by letters and digits, at most %d in all", maxName)
		case !strings.HasPrefix(t.Endpoint, "/") || !typeName.MatchString(t.Endpoint[1:]) || len(t.Endpoint) > maxName:
			return nil, wrongDefinition("resourceType.endpoint: expected a slash, a letter, and letters and digits, at most %d in all", maxName)
		case len(t.Description) > maxDescription:
			return nil, wrongDefinition("resourceType.description: expected at most %d bytes", maxDescription)
		}
		for _, r := range reservedNames {
			if equalNames(t.Name, r) || equalNames(t.Endpoint[1:], r) {
				return nil, wrongDefinition("resourceType: the name or endpoint is reserved")
			}
		}
	}
	raw, err := json.Marshal(c.Schema)
	if err != nil {
		return nil, err
	}
	s, err := Parse(raw)
	if err != nil {
		return nil, wrongDefinition("schema: %v", err)
	}
	return s, c.bounded(s)
}

// bounded holds a schema that a tenant defines to what Roster can do with one.
func (c *CustomSchema) bounded(s *Schema) error {
	n := 0
	for _, a := range s.Attributes {
		switch foldName(a.Name) {
		case "schemas", "id", "externalid", "meta":
			return wrongDefinition("attribute %s: every resource has this attribute (RFC 7643 §3.1)", a.Name)
		}
		if c.ResourceType != nil && equalNames(a.Name, "groups") && a.Mutability != ReadOnly {
			return wrongDefinition("attribute %s: the name is reserved for what is readOnly", a.Name)
		}
		if c.ResourceType != nil && slices.ContainsFunc(reservedAttributes, func(r string) bool { return equalNames(r, a.Name) }) {
			return wrongDefinition("attribute %s: the name is reserved", a.Name)
		}
		for _, b := range append([]*Attribute{a}, a.SubAttributes...) {
			n++
			switch {
			case len(b.Name) > maxName || len(b.Description) > maxDescription:
				return wrongDefinition("attribute %s: expected a name of at most %d bytes and a description of at most %d", b.Path, maxName, maxDescription)
			case len(b.CanonicalValues) > maxListed || len(b.ReferenceTypes) > maxListed:
				return wrongDefinition("attribute %s: expected at most %d canonicalValues and referenceTypes", b.Path, maxListed)
			case b.Uniqueness != UniquenessNone && b.Type != String:
				return wrongDefinition("attribute %s: uniqueness is for strings", b.Path)
			case b.Uniqueness != UniquenessNone && !b.Readable():
				return wrongDefinition("attribute %s: uniqueness would tell of values that are never returned", b.Path)
			case b.Mutability == WriteOnly && b.Returned != ReturnedNever:
				return wrongDefinition("attribute %s: what is writeOnly has to be returned never", b.Path)
			case b.Name == "$ref" && b.Type != Reference:
				return wrongDefinition("attribute %s: $ref is of the type reference", b.Path)
			case b.Required && b.Mutability == ReadOnly:
				return wrongDefinition("attribute %s: nobody could give what is required and readOnly", b.Path)
			}
			for _, v := range append(slices.Clone(b.CanonicalValues), b.ReferenceTypes...) {
				if v == "" || len(v) > maxURN {
					return wrongDefinition("attribute %s: expected canonicalValues and referenceTypes of 1 to %d bytes", b.Path, maxURN)
				}
			}
		}
	}
	if n > MaxCustomAttributes {
		return wrongDefinition("schema.attributes: expected at most %d, sub-attributes included", MaxCustomAttributes)
	}
	return nil
}

// With returns the set with the resource types and extensions that a tenant defines
// added behind its own. Types that nothing is added to are those of s. The error is a
// *DefinitionError, about the first of list that does not go with s and those before it.
func (s *Set) With(list []CustomSchema) (*Set, error) {
	if len(list) == 0 {
		return s, nil
	}
	if len(list) > MaxCustomSchemas {
		return nil, wrongDefinition("there are %d schemas already, which is as many as a tenant may define", MaxCustomSchemas)
	}
	urns := map[string]bool{}
	for _, known := range s.schemas {
		urns[foldName(known.ID)] = true
	}
	names := map[string]bool{}
	for _, t := range s.types {
		names[foldName(t.Name)], names[foldName(t.Endpoint[1:])] = true, true
	}
	types := slices.Clone(s.types)
	compiled := make([]*Schema, len(list))
	for i := range list {
		c := &list[i]
		var err error
		if compiled[i], err = c.Compile(); err != nil {
			return nil, err
		}
		if other := overlaps(urns, c.Key()); other != "" {
			return nil, wrongDefinition("schema.id: there is a schema with this URN, or one that it cannot be told from in a path: %s", other)
		}
		urns[c.Key()] = true
		if t := c.ResourceType; t != nil {
			name, endpoint := foldName(t.Name), foldName(t.Endpoint[1:])
			if names[name] || names[endpoint] {
				return nil, wrongDefinition("resourceType: there is a resource type with this name or endpoint")
			}
			names[name], names[endpoint] = true, true
			rt, err := newResourceType(t.Name, t.Endpoint, t.Description, true, compiled[i])
			if err != nil {
				return nil, wrongDefinition("%v", err)
			}
			types = append(types, rt)
		}
	}
	for i, t := range types {
		extensions := slices.Clone(t.Extensions)
		for j := range list {
			if slices.Contains(list[j].Extends, t.Name) {
				extensions = append(extensions, Extension{Schema: compiled[j], Required: list[j].Required, Custom: true})
			}
		}
		if len(extensions) == len(t.Extensions) {
			continue
		}
		rt, err := newResourceType(t.Name, t.Endpoint, t.Description, t.Custom, t.Schema, extensions...)
		if err != nil {
			return nil, wrongDefinition("%v", err)
		}
		types[i] = rt
	}
	out := NewSet(types...)
	for _, c := range list {
		for i, name := range c.Extends {
			t := out.Type(name)
			switch {
			case slices.Contains(c.Extends[:i], name):
				return nil, wrongDefinition("extends: a resource type is there twice")
			case t == nil:
				return nil, wrongDefinition("extends: there is no resource type %q", name)
			case !t.Custom && c.Required:
				return nil, wrongDefinition("required: Roster makes users and groups by itself, which cannot have what it does not know")
			case !t.Custom && !slices.Contains(extensible, name):
				return nil, wrongDefinition("extends: expected %s, or a resource type of the tenant's own", strings.Join(extensible, ", "))
			}
		}
	}
	return out, nil
}

// extensible are the built-in resource types that may be extended. The others are
// records of what Roster does.
var extensible = []string{"User", "Group"}

// overlaps returns the one of urns that is the same as urn, or begins it, or begins
// with it: what follows a URN in a path is an attribute.
func overlaps(urns map[string]bool, urn string) string {
	for other := range urns {
		if other == urn || strings.HasPrefix(other, urn+":") || strings.HasPrefix(urn, other+":") {
			return other
		}
	}
	return ""
}

// Unknown reports whether a stored tree has something that t does not: it was written
// with a later definition of what a tenant defines.
func (t *ResourceType) Unknown(attrs map[string]any) bool {
	for name, v := range attrs {
		a := t.byName[name]
		if a == nil {
			if t.Custom || strings.Contains(name, ":") {
				return true
			}
			continue
		}
		if (a.Extension || t.Custom) && a.Type == Complex && unknownBelow(a, v) {
			return true
		}
	}
	return false
}

func unknownBelow(a *Attribute, v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if s := a.Sub(name); s == nil || s.Type == Complex && unknownBelow(s, e) {
				return true
			}
		}
	case []any:
		for _, e := range v {
			if unknownBelow(a, e) {
				return true
			}
		}
	}
	return false
}

// Fits reports whether a value of the attribute, as Parse read it from a stored document
// with whatever definition it has had, is what this definition would have made of it. The
// error is a *ValueError.
func (a *Attribute) Fits(v any) error {
	if err := a.misplaced(v); err != nil {
		return err
	}
	bound, err := a.bind(v, binding{mode: Strict})
	if err != nil {
		return err.under(a.Path)
	}
	tree := map[string]any{}
	if bound != nil {
		tree[a.Name] = bound
	}
	if err := finish([]*Attribute{a}, tree, tree, Strict); err != nil {
		return err
	}
	if !reflect.DeepEqual(tree[a.Name], v) {
		return &ValueError{Path: a.Path, Msg: "has a part that the definition does not allow"}
	}
	return nil
}

// misplaced looks for a value that is stored and may not be, or not under its name.
func (a *Attribute) misplaced(v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			s := a.Sub(name)
			if a.Type == Complex && (s == nil || s.Name != name) {
				return &ValueError{Path: a.Path + a.separator() + name, Msg: "is an attribute no more"}
			}
			if s != nil {
				if err := s.misplaced(v[name]); err != nil {
					return err
				}
			}
		}
	case []any:
		for _, e := range v {
			if err := a.misplaced(e); err != nil {
				return err
			}
		}
	}
	switch {
	case !a.Kept():
		return &ValueError{Path: a.Path, Msg: "has a value, and what is returned never is not kept"}
	case a.Mutability == ReadOnly:
		return &ValueError{Path: a.Path, Msg: "has a value, and nobody gives one to what is readOnly"}
	}
	return nil
}

// Impact is what a change of a definition means for what is stored.
type Impact struct {
	Check  bool // it may not fit any more
	Unique bool // values that were not unique have to be
	Derive bool // what it is searched by is other than it was
}

// Change returns what replacing s by next means for resources that have s.
func (s *Schema) Change(next *Schema) Impact {
	var i Impact
	i.attributes(s.Attributes, next.Attributes)
	return i
}

func (i *Impact) attributes(prev, next []*Attribute) {
	known := map[string]*Attribute{}
	for _, a := range next {
		known[a.Name] = a
	}
	for _, a := range prev {
		b := known[a.Name]
		delete(known, a.Name)
		if b == nil {
			i.Check = true
			continue
		}
		kind := a.Type != b.Type || a.MultiValued != b.MultiValued
		unique := b.Uniqueness != UniquenessNone
		i.Check = i.Check || kind || b.Required && !a.Required || b.Mutability == ReadOnly && a.Mutability != ReadOnly ||
			a.Kept() != b.Kept() && (a.Kept() || b.Required) ||
			a.Parent != nil && a.CaseExact && !b.CaseExact // elements of a list may be the same now
		i.Unique = i.Unique || unique && (a.Uniqueness == UniquenessNone || a.CaseExact != b.CaseExact)
		i.Derive = i.Derive || kind || a.CaseExact != b.CaseExact || unique != (a.Uniqueness != UniquenessNone) || a.Readable() != b.Readable()
		i.attributes(a.SubAttributes, b.SubAttributes)
	}
	for _, b := range known {
		i.Check = i.Check || b.Required
	}
	i.Derive = i.Derive || i.Unique
	i.Check = i.Check || i.Unique
}
