package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

const (
	lenient = schemas.Lenient
	strict  = schemas.Strict
)

var user, group, device = types()

// types returns User, Group, and a Device with what those two lack: immutable
// and required attributes below the top, simple lists, an extension with a list.
func types() (user, group, device *schemas.ResourceType) {
	set, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	parse := func(text string) *schemas.Schema {
		s, err := schemas.Parse([]byte(text))
		if err != nil {
			panic(err)
		}
		return s
	}
	core := parse(`{"id": "urn:example:2.0:Device", "name": "Device", "attributes": [
		{"name": "serial", "type": "string", "mutability": "immutable"},
		{"name": "slots", "type": "integer"},
		{"name": "weight", "type": "decimal", "mutability": "immutable"},
		{"name": "tags", "type": "string", "multiValued": true},
		{"name": "levels", "type": "decimal", "multiValued": true},
		{"name": "flags", "type": "boolean", "multiValued": true},
		{"name": "maker", "type": "complex", "mutability": "immutable", "subAttributes": [
			{"name": "name", "type": "string"}, {"name": "country", "type": "string"}]},
		{"name": "seal", "type": "complex", "multiValued": true, "mutability": "immutable", "subAttributes": [
			{"name": "value", "type": "string"}, {"name": "type", "type": "string"}]},
		{"name": "place", "type": "complex", "subAttributes": [
			{"name": "room", "type": "string", "required": true}, {"name": "shelf", "type": "string"}]},
		{"name": "ports", "type": "complex", "multiValued": true, "required": true, "subAttributes": [
			{"name": "value", "type": "string", "required": true},
			{"name": "mac", "type": "string", "mutability": "immutable"},
			{"name": "seen", "type": "string", "mutability": "readOnly"},
			{"name": "speed", "type": "integer"},
			{"name": "names", "type": "string", "multiValued": true},
			{"name": "type", "type": "string"}]},
		{"name": "taps", "type": "complex", "multiValued": true, "subAttributes": [
			{"name": "value", "type": "integer"}, {"name": "type", "type": "string", "caseExact": true}, {"name": "note", "type": "string"}]},
		{"name": "links", "type": "complex", "multiValued": true, "subAttributes": [
			{"name": "value", "type": "string", "multiValued": true}, {"name": "type", "type": "string"}]}]}`)
	lab := parse(`{"id": "urn:example:2.0:Lab", "name": "Lab", "attributes": [
		{"name": "shelves", "type": "complex", "multiValued": true, "subAttributes": [
			{"name": "value", "type": "string"}, {"name": "row", "type": "integer"}]}]}`)
	device, err = schemas.NewResourceType("Device", "/Devices", "Device", core, schemas.Extension{Schema: lab, Required: true})
	if err != nil {
		panic(err)
	}
	return set.Type("User"), set.Type("Group"), device
}

// base is what every resource of a test has and no test is about.
func base(rt *schemas.ResourceType) map[string]any {
	switch rt {
	case user:
		return map[string]any{"id": "2819c223", "userName": "ana"}
	case group:
		return map[string]any{"id": "e9e30dba", "displayName": "Crew"}
	}
	return map[string]any{"id": "d1", "ports": []any{map[string]any{"value": "eth0"}},
		"urn:example:2.0:Lab": map[string]any{"shelves": []any{map[string]any{"value": "A"}}}}
}

// tree is the stored resource that the JSON of a test describes.
func tree(t testing.TB, rt *schemas.ResourceType, text string) map[string]any {
	t.Helper()
	attrs, err := rt.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for name, v := range base(rt) {
		if _, ok := attrs[name]; !ok {
			attrs[name] = v
		}
	}
	if err := rt.Finish(attrs, nil, lenient); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return attrs
}

// message decodes {"schemas":…,"Operations":ops}.
func message(t testing.TB, ops string, mode schemas.Mode) []Operation {
	t.Helper()
	body, err := schemas.Decode([]byte(`{"schemas":["`+MessageURI+`"],"Operations":[`+ops+`]}`), schemas.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", ops, err)
	}
	list, err := Decode(body, DefaultLimits, mode)
	if err != nil {
		t.Fatalf("Decode(%s): %v", ops, err)
	}
	return list
}

// say writes an error as "kind: text".
func say(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is a %T, want a *patch.Error: %v", err, err)
	}
	return e.Kind.String() + ": " + err.Error()
}

// changes writes member changes as "AddMembers {…} {…}".
func changes(list []MemberChange) []string {
	var out []string
	for _, c := range list {
		s := c.Kind.String()
		for _, m := range c.Members {
			b, _ := json.Marshal(m)
			s += " " + string(b)
		}
		if c.Where != nil {
			s += " " + c.Where.String()
		}
		if c.Target {
			s += " or no target"
		}
		out = append(out, s)
	}
	return out
}

// A row is one PATCH: what there was, the operations, and what there is then.
type row struct {
	name    string
	before  string // without what base gives; the same goes for want
	ops     string
	want    string
	members []string // changes to the members, for groups
	err     string   // instead of want: "kind: text"
}

func run(t *testing.T, rt *schemas.ResourceType, mode schemas.Mode, rows []row) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if r.before == "" {
				r.before = "{}"
			}
			before, untouched := tree(t, rt, r.before), tree(t, rt, r.before)
			ops := message(t, r.ops, mode)
			got, err := Apply(rt, before, ops, mode)
			if d := cmp.Diff(untouched, before); d != "" {
				t.Errorf("Apply changed its input (-was +is):\n%s", d)
			}
			if s := say(t, err); s != r.err {
				t.Fatalf("Apply(%s, %s)\n got %s\nwant %s", r.before, r.ops, s, r.err)
			}
			if err != nil {
				return
			}
			if r.want == "" {
				r.want = "{}"
			}
			if d := cmp.Diff(tree(t, rt, r.want), got.Attributes); d != "" {
				t.Errorf("Apply(%s, %s) (-want +got):\n%s", r.before, r.ops, d)
			}
			if d := cmp.Diff(r.members, changes(got.Members)); d != "" {
				t.Errorf("Apply(%s) members (-want +got):\n%s", r.ops, d)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	const uri = `"schemas":["` + MessageURI + `"]`
	both := []schemas.Mode{lenient, strict}
	onlyLenient, onlyStrict := both[:1], both[1:]
	tests := []struct {
		name  string
		modes []schemas.Mode
		body  string
		want  []Operation
		err   string
	}{
		{"one of each", both,
			`{` + uri + `,"Operations":[{"op":"add","path":"title","value":"x"},{"op":"replace","value":{"active":true}},{"op":"remove","path":"title"}]}`,
			[]Operation{{Add, "title", "x"}, {Replace, "", map[string]any{"active": true}}, {Remove, "title", nil}}, ""},
		{"null is a value, and a null path is none", both,
			`{` + uri + `,"Operations":[{"op":"replace","path":"title","value":null},{"op":"add","path":null,"value":{}}]}`,
			[]Operation{{Replace, "title", nil}, {Add, "", map[string]any{}}}, ""},
		{"the URI of the message in another case, among others", both,
			`{"schemas":["urn:other",5,"URN:ietf:params:scim:api:messages:2.0:patchop"],"Operations":[{"op":"remove","path":"title"}]}`,
			[]Operation{{Remove, "title", nil}}, ""},

		{"not an object", both, `"x"`, nil, "invalidSyntax: a PATCH is a JSON object"},
		{"another schema", both, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"Operations":[]}`, nil,
			"invalidSyntax: schemas: must contain " + MessageURI},
		{"schemas is no list", both, `{"schemas":5,"Operations":[]}`, nil, "invalidSyntax: schemas: must contain " + MessageURI},
		{"no operations", both, `{` + uri + `}`, nil, "invalidSyntax: Operations: expected a list of operations"},
		{"operations are null", both, `{` + uri + `,"Operations":null}`, nil, "invalidSyntax: Operations: expected a list of operations"},
		{"an operation is no object", both, `{` + uri + `,"Operations":[5]}`, nil, "invalidSyntax: Operations[0]: expected an object"},
		{"op is missing", both, `{` + uri + `,"Operations":[{"op":"remove","path":"a"},{"path":"title","value":1}]}`, nil,
			"invalidSyntax: Operations[1].op: expected add, replace or remove"},
		{"op is no string", both, `{` + uri + `,"Operations":[{"op":1,"path":"title","value":1}]}`, nil,
			"invalidSyntax: Operations[0].op: expected add, replace or remove"},
		{"op is something else", both, `{` + uri + `,"Operations":[{"op":"move","path":"title"}]}`, nil,
			"invalidSyntax: Operations[0].op: expected add, replace or remove"},
		{"path is no string", both, `{` + uri + `,"Operations":[{"op":"remove","path":["title"]}]}`, nil,
			"invalidPath: Operations[0].path: expected a string"},
		{"a missing value is not null", both, `{` + uri + `,"Operations":[{"op":"replace","path":"title"}]}`, nil,
			"invalidValue: Operations[0].value: is required for replace"},

		{"E09 Entra: capitalised op", onlyLenient, `{` + uri + `,"Operations":[{"op":"Add","path":"title","value":"x"},{"op":"REMOVE","path":"title"}]}`,
			[]Operation{{Add, "title", "x"}, {Remove, "title", nil}}, ""},
		{"E09 strict", onlyStrict, `{` + uri + `,"Operations":[{"op":"Add","path":"title","value":"x"}]}`, nil,
			"invalidSyntax: Operations[0].op: expected add, replace or remove"},
		{"V05 names of the message in any case", onlyLenient, `{"Schemas":["` + MessageURI + `"],"operations":[{"Op":"add","PATH":"title","Value":"x"}]}`,
			[]Operation{{Add, "title", "x"}}, ""},
		{"V05 strict", onlyStrict, `{` + uri + `,"operations":[{"op":"add","path":"title","value":"x"}]}`, nil,
			"invalidSyntax: Operations: expected a list of operations"},
		{"E38 Entra's validator: no operations", onlyLenient, `{` + uri + `,"Operations":[]}`, []Operation{}, ""},
		{"E38 strict", onlyStrict, `{` + uri + `,"Operations":[]}`, nil, "invalidSyntax: Operations: expected at least one operation"},
		{"H08 HR loaders: a bare list, as in RFC 7644 §3.7.3", onlyLenient, `[{"op":"add","path":"title","value":"x"}]`,
			[]Operation{{Add, "title", "x"}}, ""},
		{"H08 strict", onlyStrict, `[{"op":"add","path":"title","value":"x"}]`, nil, "invalidSyntax: a PATCH is a JSON object"},
		{"X07 one operation without its list", onlyLenient, `{` + uri + `,"Operations":{"op":"remove","path":"title"}}`,
			[]Operation{{Remove, "title", nil}}, ""},
		{"X07 strict", onlyStrict, `{` + uri + `,"Operations":{"op":"remove","path":"title"}}`, nil,
			"invalidSyntax: Operations: expected a list of operations"},
		{"no schemas", onlyLenient, `{"Operations":[{"op":"remove","path":"title"}]}`, []Operation{{Remove, "title", nil}}, ""},
		{"the message by other names", onlyLenient, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:PatchOp"],"Operations":[{"op":"remove","path":"title"}]}`,
			[]Operation{{Remove, "title", nil}}, ""},
		{"and in one string", onlyLenient, `{"schemas":"ietf:params:scim:api:messages:2.0:patchop","Operations":[]}`, []Operation{}, ""},
		{"the message by other names, strict", onlyStrict, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:PatchOp"],"Operations":[{"op":"remove","path":"title"}]}`, nil,
			"invalidSyntax: schemas: must contain " + MessageURI},
		{"schemas is one string", onlyLenient, `{"schemas":"` + MessageURI + `","Operations":[]}`, []Operation{}, ""},
		{"empty schemas", onlyLenient, `{"schemas":[],"Operations":[]}`, []Operation{}, ""},
		{"no schemas, strict", onlyStrict, `{"Operations":[{"op":"remove","path":"title"}]}`, nil,
			"invalidSyntax: schemas: must contain " + MessageURI},
		{"SCIM for Keycloak: attributes as JSON in a string", onlyLenient, `{` + uri + `,"Operations":[{"op":"replace","value":"{\"displayName\":\"EPD\"}"}]}`,
			[]Operation{{Replace, "", map[string]any{"displayName": "EPD"}}}, ""},
		{"a string that is no JSON, or has a path, is left alone", onlyLenient, `{` + uri + `,"Operations":[{"op":"replace","value":"{x"},{"op":"replace","path":"title","value":"{}"}]}`,
			[]Operation{{Replace, "", "{x"}, {Replace, "title", "{}"}}, ""},
		{"attributes as JSON in a string, strict", onlyStrict, `{` + uri + `,"Operations":[{"op":"replace","value":"{}"}]}`,
			[]Operation{{Replace, "", "{}"}}, ""},
		{"an empty path is none", onlyLenient, `{` + uri + `,"Operations":[{"op":"add","path":"","value":{}}]}`,
			[]Operation{{Add, "", map[string]any{}}}, ""},
		{"an empty path, strict", onlyStrict, `{` + uri + `,"Operations":[{"op":"add","path":"","value":{}}]}`, nil,
			"invalidPath: Operations[0].path: expected an attribute path"},
	}
	for _, tt := range tests {
		for _, mode := range tt.modes {
			t.Run(fmt.Sprintf("%s/strict=%t", tt.name, mode), func(t *testing.T) {
				body, err := schemas.Decode([]byte(tt.body), schemas.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				got, err := Decode(body, DefaultLimits, mode)
				if s := say(t, err); s != tt.err {
					t.Fatalf("Decode(%s)\n got %s\nwant %s", tt.body, s, tt.err)
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("Decode(%s) (-want +got):\n%s", tt.body, d)
				}
			})
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	l := Limits{Operations: 3, Moves: 4, Members: 2}
	ops := func(list ...string) string { return "[" + strings.Join(list, ",") + "]" }
	const (
		one  = `{"op":"remove","path":"title"}`
		in   = `{"op":"add","path":"Members","value":[{"value":"a"}]}`
		out  = `{"op":"remove","path":"members","value":[{"value":"a"}]}`
		byID = `{"op":"remove","path":"members[value eq \"a\"]"}`
	)
	tests := []struct{ name, body, err string }{
		{"as many as allowed", ops(one, one, `{"op":"add","path":"emails","value":[{"value":"a"},{"value":"b"}]}`), ""},
		{"members beside them", ops(in, one, out, one, byID, one, in), ""},
		{"too many members, one by one", ops(in, out, byID, out, in), "tooMany: Operations: more than 4 operations on members"},
		{"a filter that is more than an id is a search", ops(one, one, one, `{"op":"remove","path":"members[display eq \"a\"]"}`), "tooMany: Operations: more than 3 operations"},
		{"also with an id in it", ops(one, one, one, `{"op":"remove","path":"members[value eq \"a\" or display eq \"b\"]"}`), "tooMany: Operations: more than 3 operations"},
		{"all members are more than a list", ops(one, one, one, `{"op":"remove","path":"members"}`), "tooMany: Operations: more than 3 operations"},
		{"and so are other ones", ops(one, one, one, `{"op":"replace","path":"members","value":[]}`), "tooMany: Operations: more than 3 operations"},
		{"too many operations", ops(one, one, one, one), "tooMany: Operations: more than 3 operations"},
		{"too many members", ops(one, `{"op":"add","path":"members","value":[1,2,3]}`), "tooMany: Operations[1].value: more than 2 values in one operation"},
		{"also in a string", ops(`{"op":"add","value":"{\"emails\":[1,2,3]}"}`), "tooMany: Operations[0].value: more than 2 values in one operation"},
		{"wherever they are", ops(`{"op":"add","value":{"members":[1,2],"emails":[1]}}`), "tooMany: Operations[0].value: more than 2 values in one operation"},
		{"a key with a filter is an operation", ops(one, one, `{"op":"add","value":{"emails[type eq \"a\"].value":"x"}}`), "tooMany: Operations: more than 3 operations"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, err := schemas.Decode([]byte(tt.body), schemas.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Decode(body, l, lenient); say(t, err) != tt.err {
				t.Errorf("got %s\nwant %s", say(t, err), tt.err)
			}
			if _, err := Decode(body, Limits{}, lenient); err != nil {
				t.Errorf("without limits: %v", err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		got  fmt.Stringer
		want string
	}{
		{Add, "add"}, {Replace, "replace"}, {Remove, "remove"},
		{InvalidSyntax, "invalidSyntax"}, {InvalidPath, "invalidPath"}, {InvalidFilter, "invalidFilter"},
		{InvalidValue, "invalidValue"}, {NoTarget, "noTarget"}, {Mutability, "mutability"}, {TooMany, "tooMany"},
		{AddMembers, "AddMembers"}, {RemoveMembers, "RemoveMembers"}, {RemoveWhere, "RemoveWhere"}, {ReplaceMembers, "ReplaceMembers"},
	} {
		if tt.got.String() != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}
