package schemas_test

import (
	"strings"
	"testing"

	"github.com/roster-id/roster/schemas"
)

// The error about a schema names the attribute by its path and the
// characteristic that is wrong.
func TestParseRefuses(t *testing.T) {
	attribute := func(s string) string { return `{"id":"urn:example:X","attributes":[` + s + `]}` }
	sub := func(s string) string {
		return attribute(`{"name":"a","type":"complex","subAttributes":[` + s + `]}`)
	}
	for _, c := range []struct {
		name, schema string
		want         []string // what the error contains
	}{
		{"no JSON", `{`, []string{"unexpected end"}},
		{"no id", `{"attributes":[{"name":"a"}]}`, []string{"an id"}},
		{"no attributes", `{"id":"urn:example:X"}`, []string{"attributes"}},
		{"type", attribute(`{"name":"a","type":"text"}`), []string{"attribute a:", "type", "dateTime"}},
		{"mutability", attribute(`{"name":"a","mutability":"writeonly"}`), []string{"attribute a:", "mutability", "writeOnly"}},
		{"returned", attribute(`{"name":"a","returned":"no"}`), []string{"attribute a:", "returned", "never"}},
		{"uniqueness", attribute(`{"name":"a","uniqueness":"tenant"}`), []string{"attribute a:", "uniqueness", "server"}},
		{"not a boolean", attribute(`{"required":"yes","name":"a"}`), []string{"attribute a:", "required", "bool"}},
		{"not a list", attribute(`{"name":"a","canonicalValues":"x"}`), []string{"attribute a:", "canonicalValues"}},
		{"in a sub-attribute", sub(`{"name":"b"},{"name":"c","type":"text"}`), []string{"attribute a.c:", "type"}},
		{"not a boolean, in a sub-attribute", sub(`{"name":"b","multiValued":1}`), []string{"attribute a:", "attribute b:", "multiValued"}},
		{"complex without sub-attributes", attribute(`{"name":"a","type":"complex"}`), []string{"attribute a:", "subAttributes", "complex"}},
		{"sub-attributes without complex", attribute(`{"name":"a","subAttributes":[{"name":"b"}]}`), []string{"attribute a:", "subAttributes", "complex"}},
		{"complex in complex (erratum 8415)", sub(`{"name":"b","type":"complex","subAttributes":[{"name":"c"}]}`), []string{"attribute a.b:", "complex"}},
		{"the same name", attribute(`{"name":"a"},{"name":"A"}`), []string{"attribute A:", "two attributes"}},
		{"the same name below", sub(`{"name":"b"},{"name":"B"}`), []string{"attribute a.B:", "two sub-attributes"}},
		{"no name", attribute(`{"type":"string"}`), []string{"attribute :", "name"}},
		{"a name with a dot", attribute(`{"name":"a.b"}`), []string{"attribute a.b:", "name"}},
		{"a name with a colon", attribute(`{"name":"a:b"}`), []string{"attribute a:b:", "name"}},
		{"a name that begins with a dollar sign", attribute(`{"name":"$set"}`), []string{"attribute $set:", "name"}},
		{"a name that begins with a digit", attribute(`{"name":"1a"}`), []string{"attribute 1a:", "name"}},
		{"a name that begins with an underscore", attribute(`{"name":"__proto__"}`), []string{"attribute __proto__:", "name"}},
		{"a name beyond ASCII", sub(`{"name":"å"}`), []string{"attribute a.å:", "name"}},
		{"a name with a dot, below", sub(`{"name":"b.c"}`), []string{"attribute a.b.c:", "name"}},
		{"what elimity's model refuses", attribute(`{"name":"$ref"}`), []string{"urn:example:X", `"$ref"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := schemas.Parse([]byte(c.schema))
			if err == nil {
				t.Fatalf("Parse(%s) = %+v", c.schema, s)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Parse(%s) = %v, want it to contain %q", c.schema, err, want)
				}
			}
		})
	}
}

func TestParseNames(t *testing.T) {
	s, err := schemas.Parse([]byte(`{"id":"urn:example:X","attributes":[
		{"name":"a-b_c$2","type":"complex","subAttributes":[{"name":"$ref"},{"name":"x509"}]}]}`))
	if err != nil || s.Attributes[0].Sub("$REF") == nil {
		t.Errorf("Parse = %v, %v", s, err)
	}
}

// What a definition leaves out has the default of RFC 7643 §2.2 and §7.
func TestParseDefaults(t *testing.T) {
	s, err := schemas.Parse([]byte(`{"id":"urn:example:X","attributes":[{"name":"a"},{"name":"r","type":"reference"},{"name":"b","type":"binary","caseExact":false}]}`))
	if err != nil {
		t.Fatal(err)
	}
	a, ref, bin := s.Attributes[0], s.Attributes[1], s.Attributes[2]
	if a.Type != schemas.String || a.Mutability != schemas.ReadWrite || a.Returned != schemas.ReturnedDefault ||
		a.Uniqueness != schemas.UniquenessNone || a.CaseExact || a.Required || a.MultiValued {
		t.Errorf("defaults of an attribute: %+v", a)
	}
	if !ref.CaseExact || !bin.CaseExact {
		t.Error("references and binaries are always exact (erratum 6001)")
	}
}

func TestNewResourceTypeRefuses(t *testing.T) {
	parse := func(s string) *schemas.Schema {
		p, err := schemas.Parse([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	core := parse(`{"id":"urn:example:Core","attributes":[{"name":"a"}]}`)
	ext := schemas.Extension{Schema: parse(`{"id":"urn:example:Ext","attributes":[{"name":"a"},{"name":"id"}]}`)}
	for _, c := range []struct {
		name string
		core *schemas.Schema
		ext  []schemas.Extension
		want string // empty: accepted
	}{
		{"an extension may repeat names", core, []schemas.Extension{ext}, ""},
		{"a common attribute", parse(`{"id":"urn:example:X","attributes":[{"name":"ID"}]}`), nil, "two attributes are called ID"},
		{"meta, which comes last", parse(`{"id":"urn:example:X","attributes":[{"name":"Meta"}]}`), nil, "two attributes are called meta"},
		{"an extension twice", core, []schemas.Extension{ext, ext}, "two attributes are called urn:example:Ext"},
		{"itself", core, []schemas.Extension{{Schema: core}}, "urn:example:Core cannot extend itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := schemas.NewResourceType("Thing", "/Things", "", c.core, c.ext...)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("NewResourceType = %v, want %q", err, c.want)
			}
			if c.want != "" && err != nil && !strings.Contains(err.Error(), "Thing") {
				t.Errorf("%v does not name the resource type", err)
			}
		})
	}
}

// Two resource types can be made of the same schemas: each has attributes of
// its own, with its own ancestors.
func TestSchemasAreShared(t *testing.T) {
	core, err := schemas.Parse([]byte(`{"id":"urn:example:Core","attributes":[{"name":"a"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	other, err := schemas.Parse([]byte(`{"id":"urn:example:Other","attributes":[{"name":"b"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	ext, err := schemas.Parse([]byte(`{"id":"urn:example:Ext","attributes":[{"name":"c","type":"complex","subAttributes":[{"name":"d"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	one, err := schemas.NewResourceType("One", "/Ones", "", core, schemas.Extension{Schema: ext})
	if err != nil {
		t.Fatal(err)
	}
	two, err := schemas.NewResourceType("Two", "/Twos", "", other, schemas.Extension{Schema: ext, Required: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range []*schemas.ResourceType{one, two} {
		top := rt.Top("urn:example:Ext")
		d := rt.Lookup("urn:example:Ext:c.d")
		if d == nil || d.Top() != top || top != rt.Extensions[0].Attribute {
			t.Errorf("%s: c.d is not below the extension of its own type", rt.Name)
		}
	}
	if one.Top("urn:example:Ext").Required || !two.Top("urn:example:Ext").Required {
		t.Error("whether an extension is required depends on the type")
	}
}
