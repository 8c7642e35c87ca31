package schemas

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed user.json group.json enterprise_user.json roster_user.json role.json roster_role.json role_assignment.json group_membership.json invitation.json entitlement.json roster_entitlement.json okta_role.json okta_entitlement.json pack_device.json
var files embed.FS

// Load compiles the schemas embedded in the binary: User with the enterprise
// extension and Roster's, Group, Role with Roster's extension, RoleAssignment,
// GroupMembership, Invitation, which has the extensions that the User it becomes
// will have, and Entitlement with Roster's extension. It fails only when a file was edited
// into something RFC 7643 does not allow.
func Load() (*Set, error) {
	var types []*ResourceType
	for _, d := range []struct {
		name, endpoint, description string
		core                        string // the files of its schemas
		extensions                  []string
	}{
		{"User", "/Users", "User account", "user", []string{"enterprise_user", "roster_user"}},
		{"Group", "/Groups", "Group", "group", nil},
		{"Role", "/Roles", "Role", "role", []string{"roster_role"}},
		{"RoleAssignment", "/RoleAssignments", "Role assignment", "role_assignment", nil},
		{"GroupMembership", "/GroupMemberships", "Who belongs to which group", "group_membership", nil},
		{"Invitation", "/Invitations", "Invitation", "invitation", []string{"enterprise_user", "roster_user"}},
		{"Entitlement", "/Entitlements", "What people can have in applications", "entitlement", []string{"roster_entitlement"}},
	} {
		core, err := embedded(d.core)
		if err != nil {
			return nil, err
		}
		var extensions []Extension
		for _, name := range d.extensions {
			s, err := embedded(name)
			if err != nil {
				return nil, err
			}
			extensions = append(extensions, Extension{Schema: s})
		}
		t, err := NewResourceType(d.name, d.endpoint, d.description, core, extensions...)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	return NewSet(types...), nil
}

// embedded compiles a schema of the binary.
func embedded(name string) (*Schema, error) {
	b, err := files.ReadFile(name + ".json")
	if err != nil {
		return nil, err
	}
	s, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s.json: %w", name, err)
	}
	for _, a := range s.Attributes {
		if s.ID == RosterUserURI && a.Name == "usageLocation" {
			a.CanonicalValues = strings.Fields(countries) // where Country looks, too
		}
	}
	return s, nil
}

// LoadOkta compiles Role and Entitlement as Okta has them.
func LoadOkta() (*Set, error) {
	var types []*ResourceType
	for _, name := range []string{"Role", "Entitlement"} {
		s, err := embedded("okta_" + strings.ToLower(name))
		if err != nil {
			return nil, err
		}
		t, err := NewResourceType(name, "/"+name+"s", s.Description, s)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	return NewSet(types...), nil
}

// definition is an attribute as RFC 7643 §7 writes it in JSON.
type definition struct {
	Name            string       `json:"name"`
	Type            string       `json:"type"`
	MultiValued     bool         `json:"multiValued"`
	Description     string       `json:"description"`
	Required        bool         `json:"required"`
	CaseExact       bool         `json:"caseExact"`
	CanonicalValues []string     `json:"canonicalValues"`
	ReferenceTypes  []string     `json:"referenceTypes"`
	Mutability      string       `json:"mutability"`
	Returned        string       `json:"returned"`
	Uniqueness      string       `json:"uniqueness"`
	SubAttributes   []definition `json:"subAttributes"`
}

// Parse compiles a schema from its JSON form (RFC 7643 §7). The error names
// the attribute and the characteristic that is wrong.
func Parse(b []byte) (*Schema, error) {
	var d struct {
		ID          string       `json:"id"`
		Name        string       `json:"name"`
		Description string       `json:"description"`
		Attributes  []definition `json:"attributes"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, err
	}
	if d.ID == "" || len(d.Attributes) == 0 {
		return nil, fmt.Errorf("a schema needs an id and attributes")
	}
	s := &Schema{ID: d.ID, Name: d.Name, Description: d.Description}
	for _, ad := range d.Attributes {
		a, err := compile(ad, ad.Name)
		if err != nil {
			return nil, err
		}
		a.adopt(nil)
		s.Attributes = append(s.Attributes, a)
	}
	if a := twice(s.Attributes); a != nil {
		return nil, fmt.Errorf("attribute %s: two attributes have this name", a.Name)
	}
	if err := checkModel(s); err != nil {
		return nil, err
	}
	return s, nil
}

// twice returns an attribute whose name another one before it has, or nil.
func twice(defs []*Attribute) *Attribute {
	seen := make(map[string]bool, len(defs))
	for _, a := range defs {
		if seen[foldName(a.Name)] {
			return a
		}
		seen[foldName(a.Name)] = true
	}
	return nil
}

// UnmarshalJSON adds to an error which attribute it is about.
func (d *definition) UnmarshalJSON(b []byte) error {
	type plain definition
	if err := json.Unmarshal(b, (*plain)(d)); err != nil {
		return fmt.Errorf("attribute %s: %w", d.Name, err)
	}
	return nil
}

// compile checks and translates the definition of the attribute at path.
func compile(d definition, path string) (*Attribute, error) {
	a := &Attribute{
		Name: d.Name, Description: d.Description, MultiValued: d.MultiValued, Required: d.Required,
		CaseExact: d.CaseExact, CanonicalValues: d.CanonicalValues, ReferenceTypes: d.ReferenceTypes,
	}
	for _, c := range []struct {
		name, got string
		names     []string
		set       func(int)
	}{
		{"type", d.Type, typeNames[:], func(i int) { a.Type = Type(i) }},
		{"mutability", d.Mutability, mutabilityNames[:], func(i int) { a.Mutability = Mutability(i) }},
		{"returned", d.Returned, returnedNames[:], func(i int) { a.Returned = Returned(i) }},
		{"uniqueness", d.Uniqueness, uniquenessNames[:], func(i int) { a.Uniqueness = Uniqueness(i) }},
	} {
		if c.got == "" {
			c.set(0) // RFC 7643 §7 gives each a default, the first of its list
			continue
		}
		i := slices.Index(c.names, c.got)
		if i < 0 {
			return nil, fmt.Errorf("attribute %s: %s is none of %s", path, c.name, strings.Join(c.names, ", "))
		}
		c.set(i)
	}
	// References and binaries compare exactly whatever the definition says
	// (RFC 7643 §2.3.6 and §2.3.7, erratum 6001).
	if a.Type == Reference || a.Type == Binary {
		a.CaseExact = true
	}
	if !isName(d.Name) {
		return nil, fmt.Errorf("attribute %s: name must be a letter followed by letters, digits, $, - and _", path)
	}
	if (a.Type == Complex) != (len(d.SubAttributes) > 0) {
		return nil, fmt.Errorf("attribute %s: subAttributes and the type complex go together", path)
	}
	if err := a.applies(path); err != nil {
		return nil, err
	}
	for _, sd := range d.SubAttributes {
		s, err := compile(sd, path+"."+sd.Name)
		if err != nil {
			return nil, err
		}
		if s.Type == Complex {
			return nil, fmt.Errorf("attribute %s.%s: a sub-attribute may not be complex", path, s.Name)
		}
		a.SubAttributes = append(a.SubAttributes, s)
	}
	if s := twice(a.SubAttributes); s != nil {
		return nil, fmt.Errorf("attribute %s.%s: two sub-attributes have this name", path, s.Name)
	}
	return a, nil
}

// applies refuses characteristics that say nothing about an attribute of its type
// (RFC 7643 §7).
func (a *Attribute) applies(path string) error {
	switch {
	case len(a.CanonicalValues) > 0 && a.Type != String && a.Type != Reference:
		return fmt.Errorf("attribute %s: canonicalValues are for strings", path)
	case len(a.ReferenceTypes) > 0 && a.Type != Reference:
		return fmt.Errorf("attribute %s: referenceTypes and the type reference go together", path)
	case a.Uniqueness != UniquenessNone && (a.Type == Boolean || a.Type == Complex):
		return fmt.Errorf("attribute %s: uniqueness is not for the type %s", path, a.Type)
	}
	return nil
}

// isName reports whether s is an attribute name (RFC 7643 §2.1), which $ref is
// too (erratum 8924). Above all no name contains a dot or a colon, which paths
// are divided at.
func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= lower(c) && lower(c) <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '$' || c == '-' || c == '_'):
		default:
			return s == "$ref"
		}
	}
	return s != ""
}

// common returns the attributes every resource has (RFC 7643 §3, §3.1), split
// into those written before the schema's own and those written after.
func common() (head, tail []*Attribute) {
	ro := func(name string, t Type) *Attribute {
		return &Attribute{Name: name, Type: t, Mutability: ReadOnly, CaseExact: true}
	}
	schemas := &Attribute{Name: "schemas", Type: Reference, MultiValued: true, Returned: ReturnedAlways,
		Description: "The URIs of the schemas of the resource."}
	id := ro("id", String)
	id.Returned, id.Uniqueness = ReturnedAlways, UniquenessServer
	externalID := &Attribute{Name: "externalId", Type: String, CaseExact: true}
	meta := ro("meta", Complex)
	meta.SubAttributes = []*Attribute{
		ro("resourceType", String), ro("created", DateTime), ro("lastModified", DateTime),
		ro("location", Reference), ro("version", String),
	}
	return []*Attribute{schemas, id, externalID}, []*Attribute{meta}
}

// NewResourceType compiles a resource type. It fails when two attributes at the
// top of a resource have the same name. The schemas are copied, so that one can
// serve several types.
func NewResourceType(name, endpoint, description string, core *Schema, extensions ...Extension) (*ResourceType, error) {
	return newResourceType(name, endpoint, description, false, core, extensions...)
}

func newResourceType(name, endpoint, description string, custom bool, core *Schema, extensions ...Extension) (*ResourceType, error) {
	t := &ResourceType{
		Name: name, Endpoint: endpoint, Description: description, Schema: core, Extensions: slices.Clone(extensions), Custom: custom,
		byName: map[string]*Attribute{}, bare: map[string]*Attribute{},
	}
	head, tail := common()
	t.attributes = head
	for _, a := range core.Attributes {
		t.attributes = append(t.attributes, a.clone())
	}
	for i := range t.Extensions {
		e := &t.Extensions[i]
		if equalNames(e.Schema.ID, core.ID) {
			return nil, fmt.Errorf("resource type %s: %s cannot extend itself", name, core.ID)
		}
		whole := Attribute{
			Name: e.Schema.ID, Description: e.Schema.Description, Type: Complex, Extension: true,
			Required: e.Required, SubAttributes: e.Schema.Attributes,
		}
		e.Attribute = whole.clone()
		t.attributes = append(t.attributes, e.Attribute)
	}
	t.attributes = append(t.attributes, tail...)
	if a := twice(t.attributes); a != nil {
		return nil, fmt.Errorf("resource type %s: two attributes are called %s", name, a.Name)
	}
	for _, a := range t.attributes {
		a.adopt(nil)
		t.byName[a.Name], t.byName[foldName(a.Name)] = a, a
		t.numeric = t.numeric || a.numeric
		t.request = t.request || a.request
	}
	t.ruled = ruled(t.attributes)
	for _, e := range t.Extensions {
		for _, a := range e.Attribute.SubAttributes {
			folded := foldName(a.Name)
			if t.byName[folded] == nil && t.bare[folded] == nil {
				t.bare[folded] = a
			}
		}
	}
	if custom { // its resources are in no group, and have no members
		return t, nil
	}
	if a := t.byName["members"]; a != nil && a.Type == Complex && a.MultiValued {
		a.Detached = true
	}
	// Groups that a client writes are values as any other.
	if a := t.byName["groups"]; a != nil && a.Type == Complex && a.MultiValued && a.Mutability == ReadOnly {
		a.Detached = true
	}
	return t, nil
}
