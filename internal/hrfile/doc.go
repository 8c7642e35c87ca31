// Package hrfile imports a file of people, as exported by an HR system, into a SCIM
// server, and writes such a file: roster import and roster export.
//
// A [Mapping] says which column belongs to which attribute (mapping.go). Records
// are read one at a time, and one that cannot be read does not spoil the next
// (read.go). An [Importer] reads the file several times instead of keeping it
// (import.go): to check every row, to create those who manage somebody, then the
// rest, and to link managers that did not exist before. In between it walks over
// the users of the server. What it keeps is a key, an id and a hash of the mapped
// attributes for each person.
//
// All changes go through SCIM's Bulk (client.go), so permissions, rules and the
// audit trail are the server's. An interrupted run can be repeated: users created
// before are found by their key, and users that already match the file are left alone.
//
// An [Exporter] goes the other way (export.go): by the same mapping, so that what it
// wrote changes nothing when it is imported.
//
// Errors and rejects never quote a value. A [Change] has values, for previews.
package hrfile
