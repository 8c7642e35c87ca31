package schemas

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed user.json group.json enterprise_user.json
var files embed.FS

// Load compiles the schemas embedded in the binary: User with the enterprise
// extension, and Group. It fails only when a file was edited into something
// RFC 7643 does not allow.
func Load() (*Set, error) {
	var s [3]*Schema
	for i, name := range []string{"user.json", "group.json", "enterprise_user.json"} {
		b, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if s[i], err = Parse(b); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	user, err := NewResourceType("User", "/Users", "User account", s[0], Extension{Schema: s[2]})
	if err != nil {
		return nil, err
	}
	group, err := NewResourceType("Group", "/Groups", "Group", s[1])
	if err != nil {
		return nil, err
	}
	return NewSet(user, group), nil
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
		a, err := compile(ad, nil)
		if err != nil {
			return nil, err
		}
		s.Attributes = append(s.Attributes, a)
	}
	if err := checkModel(s); err != nil {
		return nil, err
	}
	return s, nil
}

func compile(d definition, parent *Attribute) (*Attribute, error) {
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
			return nil, fmt.Errorf("attribute %s: %s is none of %s", d.Name, c.name, strings.Join(c.names, ", "))
		}
		c.set(i)
	}
	// References and binaries compare exactly whatever the definition says
	// (RFC 7643 §2.3.6 and §2.3.7, erratum 6001).
	if a.Type == Reference || a.Type == Binary {
		a.CaseExact = true
	}
	if (a.Type == Complex) != (len(d.SubAttributes) > 0) {
		return nil, fmt.Errorf("attribute %s: sub-attributes and the type complex go together", d.Name)
	}
	if parent != nil && a.Type == Complex {
		return nil, fmt.Errorf("attribute %s.%s: a sub-attribute may not be complex", parent.Name, d.Name)
	}
	for _, sd := range d.SubAttributes {
		s, err := compile(sd, a)
		if err != nil {
			return nil, err
		}
		a.SubAttributes = append(a.SubAttributes, s)
	}
	return a, nil
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
// top of a resource have the same name.
func NewResourceType(name, endpoint, description string, core *Schema, extensions ...Extension) (*ResourceType, error) {
	t := &ResourceType{
		Name: name, Endpoint: endpoint, Description: description, Schema: core, Extensions: extensions,
		byName: map[string]*Attribute{}, bare: map[string]*Attribute{},
	}
	head, tail := common()
	t.attributes = append(append(t.attributes, head...), core.Attributes...)
	for i := range t.Extensions {
		e := &t.Extensions[i]
		e.Attribute = &Attribute{
			Name: e.Schema.ID, Description: e.Schema.Description, Type: Complex, Extension: true,
			Required: e.Required, SubAttributes: e.Schema.Attributes,
		}
		t.attributes = append(t.attributes, e.Attribute)
	}
	t.attributes = append(t.attributes, tail...)
	for _, a := range t.attributes {
		a.adopt(nil)
		folded := foldName(a.Name)
		if t.byName[folded] != nil {
			return nil, fmt.Errorf("resource type %s: two attributes are called %s", name, a.Name)
		}
		t.byName[a.Name], t.byName[folded] = a, a
	}
	for _, e := range t.Extensions {
		for _, a := range e.Schema.Attributes {
			folded := foldName(a.Name)
			if t.byName[folded] == nil && t.bare[folded] == nil {
				t.bare[folded] = a
			}
		}
	}
	for _, name := range []string{"members", "groups"} {
		if a := t.byName[name]; a != nil && a.Type == Complex && a.MultiValued {
			a.Detached = true
		}
	}
	return t, nil
}
