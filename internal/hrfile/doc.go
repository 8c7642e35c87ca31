// Package hrfile brings a file of people, as an HR system writes it, into a SCIM
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
// audit trail are the server's. A run that is interrupted is repeated: who was
// created is found by the key, and those that are as the file says are left alone.
//
// An [Exporter] goes the other way (export.go): by the same mapping, so that what it
// wrote changes nothing when it is imported.
//
// Errors and rejects never quote a value. A [Change] has values, for previews.
package hrfile
