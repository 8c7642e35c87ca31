package schemas_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/elimity-com/scim/schema"
	"github.com/google/go-cmp/cmp"
	"github.com/roster-id/roster/schemas"
)

// deviations are the characteristics in which Roster's schemas differ from the
// tables of RFC 7643 §8.7.1 as elimity has transcribed them, and why. Two errata
// are in its transcription already: 5368 (Group.displayName is required) and
// 6011 (members.display).
var deviations = map[string]string{
	// Identity providers match groups by name.
	"Group displayName uniqueness": "decided: unique within the tenant",
	// Ids are caseExact (§3.1), and so are their copies.
	"User groups.value caseExact":            "as id",
	"Group members.value caseExact":          "as id",
	"EnterpriseUser manager.value caseExact": "erratum 8472",
	// A password is an OpaqueString (§4.1.1, RFC 7613), which keeps case.
	"User password caseExact": "§4.1.1",
	// The transcription errs here: the RFC says "EnterpriseUser".
	"EnterpriseUser name": "§8.7.1",
}

// TestDefinitions holds every attribute and characteristic of the embedded
// schemas against those tables.
func TestDefinitions(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	unseen := map[string]bool{}
	for what := range deviations {
		unseen[what] = true
	}
	for _, theirs := range []schema.Schema{schema.CoreUserSchema(), schema.CoreGroupSchema(), schema.ExtensionEnterpriseUser()} {
		ours := set.Schema(theirs.ID)
		if ours == nil {
			t.Fatalf("no schema %s", theirs.ID)
		}
		differ := func(what string, got, want any) {
			what = ours.Name + " " + what
			if fmt.Sprint(got) == fmt.Sprint(want) {
				return
			}
			delete(unseen, what)
			if deviations[what] == "" {
				t.Errorf("%s is %v, RFC 7643 has %v", what, got, want)
			}
		}
		differ("name", ours.Name, theirs.Name.Value())
		var compare func(path string, ours []*schemas.Attribute, theirs schema.Attributes)
		compare = func(path string, ours []*schemas.Attribute, theirs schema.Attributes) {
			for _, b := range theirs {
				i := slices.IndexFunc(ours, func(a *schemas.Attribute) bool { return a.Name == b.Name() })
				if i < 0 {
					t.Errorf("%s%s is missing", path, b.Name())
					continue
				}
				a, p := ours[i], path+b.Name()
				differ(p+" type", a.Type, b.AttributeType())
				differ(p+" multiValued", a.MultiValued, b.MultiValued())
				differ(p+" required", a.Required, b.Required())
				differ(p+" mutability", a.Mutability, or(b.Mutability(), "readWrite"))
				differ(p+" returned", a.Returned, or(b.Returned(), "default"))
				differ(p+" uniqueness", a.Uniqueness, or(b.Uniqueness(), "none"))
				differ(p+" canonicalValues", a.CanonicalValues, b.CanonicalValues())
				differ(p+" referenceTypes", a.ReferenceTypes, b.ReferenceTypes())
				if a.Type == schemas.String || a.Type == schemas.Reference || a.Type == schemas.Binary {
					// §2.3.6 and §2.3.7 (erratum 6001): exact, whatever the table says.
					differ(p+" caseExact", a.CaseExact, b.CaseExact() || a.Type != schemas.String)
				}
				compare(p+".", a.SubAttributes, b.SubAttributes())
			}
			for _, a := range ours {
				if _, ok := theirs.ContainsAttribute(a.Name); !ok && a.Name != "$ref" {
					differ(path+a.Name, "there", "absent")
				}
			}
		}
		compare("", ours.Attributes, theirs.Attributes)
	}
	for what := range unseen {
		t.Errorf("%s is listed as different but is not", what)
	}
}

// elimity's model cannot hold $ref, so these are written out: where it is, what
// it refers to (RFC 7643 §8.7.1) and who may write it.
func TestRefs(t *testing.T) {
	set, _ := schemas.Load()
	got := map[string]string{}
	for _, s := range set.Schemas() {
		for _, a := range s.Attributes {
			if r := a.Sub("$ref"); r != nil {
				got[s.Name+" "+r.Path] = fmt.Sprint(r.Type, " ", r.ReferenceTypes, " ", r.Mutability, " exact=", r.CaseExact)
			}
		}
	}
	want := map[string]string{
		"RoleAssignment role.$ref":      "reference [Role] readOnly exact=true",
		"GroupMembership group.$ref":    "reference [Group] immutable exact=true",
		"GroupMembership member.$ref":   "reference [User Group] immutable exact=true",
		"RoleAssignment principal.$ref": "reference [User Group] readOnly exact=true",
		"User groups.$ref":              "reference [User Group] readOnly exact=true",
		"Group members.$ref":            "reference [User Group] immutable exact=true",
		"EnterpriseUser manager.$ref":   "reference [User] readWrite exact=true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("$ref (-want +got):\n%s", diff)
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// gauge is a schema with every type, single and multi-valued, at the top and
// below. The embedded schemas have no number and no date.
const gauge = `{"id": "urn:example:Gauge", "name": "Gauge", "description": "Every type", "attributes": [
	{"name": "text", "type": "string", "uniqueness": "global"},
	{"name": "flag", "type": "boolean"},
	{"name": "ratio", "type": "decimal"},
	{"name": "count", "type": "integer"},
	{"name": "seen", "type": "dateTime"},
	{"name": "blob", "type": "binary"},
	{"name": "link", "type": "reference", "referenceTypes": ["uri"]},
	{"name": "texts", "type": "string", "multiValued": true},
	{"name": "flags", "type": "boolean", "multiValued": true},
	{"name": "ratios", "type": "decimal", "multiValued": true},
	{"name": "counts", "type": "integer", "multiValued": true},
	{"name": "times", "type": "dateTime", "multiValued": true},
	{"name": "blobs", "type": "binary", "multiValued": true},
	{"name": "links", "type": "reference", "multiValued": true, "referenceTypes": ["uri"]},
	{"name": "state", "type": "complex", "subAttributes": [
		{"name": "value", "type": "string"},
		{"name": "flag", "type": "boolean"},
		{"name": "ratio", "type": "decimal"},
		{"name": "count", "type": "integer"},
		{"name": "seen", "type": "dateTime"},
		{"name": "blob", "type": "binary"},
		{"name": "link", "type": "reference", "referenceTypes": ["uri"]},
		{"name": "texts", "type": "string", "multiValued": true},
		{"name": "serial", "type": "string", "mutability": "readOnly"}]},
	{"name": "readings", "type": "complex", "multiValued": true, "subAttributes": [
		{"name": "value", "type": "decimal"},
		{"name": "type", "type": "string"},
		{"name": "primary", "type": "boolean"},
		{"name": "count", "type": "integer"},
		{"name": "seen", "type": "dateTime"}]},
	{"name": "serial", "type": "string", "mutability": "readOnly"},
	{"name": "secret", "type": "string", "mutability": "writeOnly", "returned": "never"}]}`

// gaugeType is a resource type with the schema gauge.
func gaugeType(tb testing.TB) *schemas.ResourceType {
	tb.Helper()
	return customType(tb, gauge)
}

// customType compiles a resource type "Thing" from schemas in JSON: the core
// schema and its extensions.
func customType(tb testing.TB, core string, extensions ...string) *schemas.ResourceType {
	tb.Helper()
	parse := func(s string) *schemas.Schema {
		p, err := schemas.Parse([]byte(s))
		if err != nil {
			tb.Fatal(err)
		}
		return p
	}
	var ext []schemas.Extension
	for _, e := range extensions {
		ext = append(ext, schemas.Extension{Schema: parse(e)})
	}
	rt, err := schemas.NewResourceType("Thing", "/Things", "", parse(core), ext...)
	if err != nil {
		tb.Fatal(err)
	}
	return rt
}

// TestAgainstElimity asks elimity's model about the bodies that Bind judges:
// whatever fits the schema both accept, with the same outcome, and a value of
// the wrong type both refuse.
func TestAgainstElimity(t *testing.T) {
	rt := gaugeType(t)
	model := rt.Schema.Elimity()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		body := randomObject(rng, rt.Schema.Attributes)
		ours, err := rt.Bind(withSchemas(body, rt.Schema.ID), schemas.Strict)
		if err != nil {
			t.Fatalf("body %d: Bind(%s): %v", i, js(body), err)
		}
		theirs, scimErr := model.Validate(body)
		if scimErr != nil {
			t.Fatalf("body %d: elimity refuses %s: %v", i, js(body), scimErr)
		}
		delete(ours, "schemas")
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("body %d: %s (-elimity +Bind):\n%s", i, js(body), diff)
		}
	}
	for i := range 3000 {
		body := randomObject(rng, rt.Schema.Attributes)
		where := spoil(rng, body, rt.Schema.Attributes)
		if _, err := rt.Bind(withSchemas(body, rt.Schema.ID), schemas.Strict); err == nil {
			t.Errorf("spoilt body %d: Bind accepts %s at %s", i, js(body), where)
		}
		if _, scimErr := model.Validate(body); scimErr == nil {
			t.Errorf("spoilt body %d: elimity accepts %s at %s", i, js(body), where)
		}
	}
}

// Where the two models disagree, and why Roster's reading is the better one.
func TestDifferencesFromElimity(t *testing.T) {
	rt := gaugeType(t)
	model := rt.Schema.Elimity()
	num := func(s string) json.Number { return json.Number(s) }
	for _, c := range []struct {
		name         string
		body         map[string]any
		mode         schemas.Mode
		ours, theirs bool // accepted
	}{
		{"padding may be left out (RFC 7643 §2.3.6)", map[string]any{"blob": "YQ"}, schemas.Strict, true, false},
		{"white space is no part of a URI", map[string]any{"link": "a b"}, schemas.Strict, false, true},
		{"a dateTime without zone is read as UTC", map[string]any{"seen": "2008-01-23T04:56:22"}, schemas.Strict, true, true},
		{"an object where a list belongs", map[string]any{"readings": map[string]any{"value": num("1")}}, schemas.Strict, false, true},
		{"the same, wrapped for lenient clients", map[string]any{"readings": map[string]any{"value": num("1")}}, schemas.Lenient, true, true},
		{"two primary values", map[string]any{"readings": []any{
			map[string]any{"value": num("1"), "primary": true}, map[string]any{"value": num("2"), "primary": true}}}, schemas.Strict, false, true},
		{"unknown attributes", map[string]any{"colour": "red"}, schemas.Strict, false, true},
		{"unknown sub-attributes", map[string]any{"state": map[string]any{"colour": "red"}}, schemas.Strict, false, true},
		{"booleans in quotes", map[string]any{"flag": "True"}, schemas.Lenient, true, false},
		{"numbers in quotes", map[string]any{"count": "5"}, schemas.Lenient, true, false},
		{"a list of one for a single value", map[string]any{"text": []any{"a"}}, schemas.Lenient, true, false},
		{"a single value for a list", map[string]any{"texts": "a"}, schemas.Lenient, true, false},
		{"a bare value for a complex one", map[string]any{"state": "a"}, schemas.Lenient, true, false},
	} {
		_, err := rt.Bind(withSchemas(c.body, rt.Schema.ID), c.mode)
		_, scimErr := model.Validate(c.body)
		if got := err == nil; got != c.ours {
			t.Errorf("%s: Bind(%s) = %v, want accepted: %v", c.name, js(c.body), err, c.ours)
		}
		if got := scimErr == nil; got != c.theirs {
			t.Errorf("%s: elimity says %v to %s, want accepted: %v", c.name, scimErr, js(c.body), c.theirs)
		}
	}
}

func js(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func withSchemas(body map[string]any, uri string) map[string]any {
	out := map[string]any{"schemas": []any{uri}}
	for k, v := range body {
		out[k] = v
	}
	return out
}

// randomObject returns a raw object that fits defs, with names in any case.
func randomObject(rng *rand.Rand, defs []*schemas.Attribute) map[string]any {
	m := map[string]any{}
	for _, a := range defs {
		if rng.IntN(2) == 0 {
			continue
		}
		name := a.Name
		if rng.IntN(4) == 0 {
			name = strings.ToUpper(name)
		}
		if !a.MultiValued {
			m[name] = randomValue(rng, a)
			continue
		}
		list := make([]any, 1+rng.IntN(3))
		for i := range list {
			list[i] = randomValue(rng, a)
			if e, ok := list[i].(map[string]any); ok {
				// Elements that repeat each other are another test's matter.
				for k := range e {
					if strings.EqualFold(k, "value") || strings.EqualFold(k, "primary") {
						delete(e, k)
					}
				}
				e["value"] = json.Number(fmt.Sprintf("%d.5", i))
			}
		}
		m[name] = list
	}
	return m
}

func randomValue(rng *rand.Rand, a *schemas.Attribute) any {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	switch a.Type {
	case schemas.Boolean:
		return rng.IntN(2) == 0
	case schemas.Decimal:
		return json.Number(pick("0", "-1.5", "2e10", "0.1", "3"))
	case schemas.Integer:
		return json.Number(pick("0", "-1", "42", "9223372036854775807", "-9223372036854775808"))
	case schemas.DateTime:
		return pick("2008-01-23T04:56:22Z", "2011-05-13T04:42:34.5+02:00", "1999-12-31T23:59:59.999999-11:30")
	case schemas.Binary:
		return pick("YQ==", "YWI=", "YWJj", "+/+/")
	case schemas.Reference:
		return pick("https://example.com/Users/2819c223", "../Users/1", "urn:a:b", "tel:+1")
	case schemas.Complex:
		m := randomObject(rng, a.SubAttributes)
		for k := range m {
			if strings.EqualFold(k, "serial") {
				delete(m, k)
			}
		}
		m[a.SubAttributes[0].Name] = randomValue(rng, a.SubAttributes[0])
		for k := range m {
			if strings.EqualFold(k, a.SubAttributes[0].Name) && k != a.SubAttributes[0].Name {
				delete(m, k)
			}
		}
		return m
	}
	return pick("a", "Å", "a b", "0", "true", "😀")
}

// spoil gives one attribute of body, or one of its sub-attributes, a value of
// another type and returns its path.
func spoil(rng *rand.Rand, body map[string]any, defs []*schemas.Attribute) string {
	writable := func(a *schemas.Attribute) bool { return a.Mutability != schemas.ReadOnly }
	var candidates []*schemas.Attribute
	for _, a := range defs {
		if writable(a) {
			candidates = append(candidates, a)
		}
	}
	a := candidates[rng.IntN(len(candidates))]
	for k := range body {
		if strings.EqualFold(k, a.Name) {
			delete(body, k)
		}
	}
	if a.Type == schemas.Complex && rng.IntN(2) == 0 {
		inner := map[string]any{}
		path := a.Name + "." + spoil(rng, inner, a.SubAttributes)
		body[a.Name] = inner
		if a.MultiValued {
			body[a.Name] = []any{inner}
		}
		return path
	}
	wrong := map[schemas.Type][]any{
		schemas.String:    {true, json.Number("1"), map[string]any{"value": "a"}},
		schemas.Boolean:   {"yes", "true", json.Number("1")},
		schemas.Decimal:   {"1", true, "x"},
		schemas.Integer:   {json.Number("1.5"), json.Number("1e3"), json.Number("9223372036854775808"), "1", true},
		schemas.DateTime:  {"yesterday", "2008-01-23", "2008-13-23T04:56:22Z", "2008-01-23 04:56:22Z", json.Number("1"), true},
		schemas.Binary:    {"a", "a*==", "YQ=", "YQ==YQ==", "YWJj\n", json.Number("1")},
		schemas.Reference: {json.Number("1"), false, map[string]any{}},
		schemas.Complex:   {"a", json.Number("1"), true},
	}[a.Type]
	v := wrong[rng.IntN(len(wrong))]
	if a.MultiValued {
		v = []any{v}
	}
	body[a.Name] = v
	return a.Name
}
