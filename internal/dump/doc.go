// Package dump writes a tenant to a file, and loads it from there into another
// store of the same or the other kind.
//
// A dump is JSON Lines in UTF-8. The first line is a header: the format and its
// version, an id of the dump, whose it is, when and by which version it was made.
// Each following line is one record, an object with one member that says what
// kind it is: a tenant, client, token, resource, members (a portion of a group's),
// item or audit entry, in this order. The last line counts them and has the SHA-256
// of all bytes before it, so a dump that was truncated or altered is refused. It
// protects from accidents, not from forgery.
//
// Derived data is left out and rebuilt by the target store: search shadow, keys,
// the name of a resource, counts.
//
// A backup is the dumps of all tenants in one file.
//
// format.go says what a line looks like, write.go and read.go go over them, load.go
// fills a store; backup.go and restore.go do so for all tenants.
package dump
