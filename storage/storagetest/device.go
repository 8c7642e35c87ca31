package storagetest

import (
	"testing"

	"github.com/roster-id/roster/schemas"
)

// deviceType is a resource type with what User and Group lack: numbers,
// dateTimes and binaries in every place, simple multi-valued attributes, lists
// inside lists, unique values in a list, values nobody may read, and an extension
// with a dot in its URN.
func deviceType(t *testing.T) *schemas.ResourceType {
	t.Helper()
	core, err := schemas.Parse([]byte(deviceSchema))
	if err != nil {
		t.Fatal(err)
	}
	lease, err := schemas.Parse([]byte(leaseSchema))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := schemas.NewResourceType("Device", "/Devices", "", core, schemas.Extension{Schema: lease})
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

const deviceSchema = `{"id": "urn:example:schemas:2.0:Device", "name": "Device", "attributes": [
	{"name": "displayName", "type": "string"},
	{"name": "asset", "type": "string", "caseExact": true, "uniqueness": "global"},
	{"name": "slots", "type": "integer"},
	{"name": "weight", "type": "decimal"},
	{"name": "bought", "type": "dateTime"},
	{"name": "key", "type": "binary"},
	{"name": "managed", "type": "boolean"},
	{"name": "home", "type": "reference", "referenceTypes": ["external"]},
	{"name": "pin", "type": "string", "mutability": "writeOnly", "returned": "never"},
	{"name": "tags", "type": "string", "multiValued": true},
	{"name": "serials", "type": "string", "multiValued": true, "caseExact": true, "uniqueness": "server"},
	{"name": "levels", "type": "integer", "multiValued": true},
	{"name": "loads", "type": "decimal", "multiValued": true},
	{"name": "checks", "type": "dateTime", "multiValued": true},
	{"name": "flags", "type": "boolean", "multiValued": true},
	{"name": "maker", "type": "complex", "subAttributes": [
		{"name": "name", "type": "string"},
		{"name": "since", "type": "dateTime"},
		{"name": "aliases", "type": "string", "multiValued": true},
		{"name": "contract", "type": "string", "mutability": "writeOnly", "returned": "never"}]},
	{"name": "ports", "type": "complex", "multiValued": true, "subAttributes": [
		{"name": "value", "type": "integer"},
		{"name": "speed", "type": "decimal"},
		{"name": "seen", "type": "dateTime"},
		{"name": "open", "type": "boolean"},
		{"name": "cert", "type": "binary"},
		{"name": "protocols", "type": "string", "multiValued": true},
		{"name": "secret", "type": "string", "mutability": "writeOnly", "returned": "never"},
		{"name": "primary", "type": "boolean"}]}
]}`

const leaseSchema = `{"id": "urn:example:schemas:lease:2.0:Device", "name": "Lease", "attributes": [
	{"name": "lessee", "type": "string"},
	{"name": "rate", "type": "decimal"},
	{"name": "until", "type": "dateTime"},
	{"name": "sites", "type": "string", "multiValued": true},
	{"name": "contact", "type": "complex", "subAttributes": [
		{"name": "value", "type": "string"},
		{"name": "phone", "type": "string"}]}
]}`
