package filter

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

var user, group, device = types()

// types returns User, Group, and a Device with what those two lack: numbers,
// simple lists, binaries of its own and values nobody may read.
func types() (user, group, device *schemas.ResourceType) {
	set, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	core, err := schemas.Parse([]byte(`{"id": "urn:example:my-co:2.0:Device", "name": "Device", "attributes": [
		{"name": "serial", "type": "string", "caseExact": true},
		{"name": "slots", "type": "integer"},
		{"name": "weight", "type": "decimal"},
		{"name": "bought", "type": "dateTime"},
		{"name": "online", "type": "boolean"},
		{"name": "key", "type": "binary"},
		{"name": "home", "type": "reference", "referenceTypes": ["external"]},
		{"name": "tags", "type": "string", "multiValued": true},
		{"name": "levels", "type": "integer", "multiValued": true},
		{"name": "ports", "type": "complex", "multiValued": true, "subAttributes": [
			{"name": "number", "type": "integer"},
			{"name": "protocols", "type": "string", "multiValued": true},
			{"name": "secret", "type": "string", "returned": "never"}]},
		{"name": "vault", "type": "complex", "subAttributes": [
			{"name": "value", "type": "string", "mutability": "writeOnly", "returned": "never"},
			{"name": "label", "type": "string"}]},
		{"name": "owner", "type": "complex", "subAttributes": [
			{"name": "names", "type": "string", "multiValued": true}]}]}`))
	if err != nil {
		panic(err)
	}
	extension, err := schemas.Parse([]byte(`{"id": "urn:example:my-co:2.0:Lab", "name": "Lab", "attributes": [
		{"name": "shelves", "type": "complex", "multiValued": true, "subAttributes": [
			{"name": "value", "type": "string"}, {"name": "row", "type": "integer"}]},
		{"name": "online", "type": "string"}]}`))
	if err != nil {
		panic(err)
	}
	device, err = schemas.NewResourceType("Device", "/Devices", "Device", core, schemas.Extension{Schema: extension})
	if err != nil {
		panic(err)
	}
	return set.Type("User"), set.Type("Group"), device
}

// byPointer compares attributes as what they are: nodes of one schema.
var byPointer = cmp.Comparer(func(a, b *schemas.Attribute) bool { return a == b })

// parse parses with no limits what must parse.
func parse(t testing.TB, text string, rt *schemas.ResourceType) Expr {
	t.Helper()
	e, err := Parse(text, rt, Limits{})
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return e
}

// tree reads a resource with json.Number in place of numbers, or with int64 and
// float64.
func tree(t testing.TB, text string, rt *schemas.ResourceType, numbers bool) map[string]any {
	t.Helper()
	if numbers {
		v, err := schemas.Decode([]byte(text), schemas.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return v.(map[string]any)
	}
	m, err := rt.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
