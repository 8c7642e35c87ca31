// Package storage defines what Roster stores and what it requires of a database.
//
// A backend implements [Store]. Reading is split into small interfaces by the
// kind of record ([Resources], [Memberships], [Deleted], [Items], [Clients],
// [Tenants], [Audit], [Outbox]), so that a caller names only what it uses.
// There is one way to write: [Store.Write] runs a function over a [Tx], and all its
// changes become visible at once or not at all. A write that changes something
// without recording an audit entry fails.
//
// [Dumper] reads a tenant whole, and [Tx.Load] writes it into another store as it
// was, so that a directory can move between databases.
//
// The tenant is a type of its own and the first argument everywhere. The only
// exception is [Clients.Token], which finds the tenant that a token belongs to.
//
// The comments here are the contract. storagetest tests it, and every backend
// passes. filter.Expr's Match defines what a filter means: a backend may translate a
// filter into its own language, but must give the same results.
//
// Begin with storage.go, then resource.go and item.go. audit.go, chain.go and changes.go
// are about audit entries, index.go about what a resource is found by, catalogue.go about
// the types of tenants, check.go about consistency, and dump.go about moving a tenant.
// form.go is the form of ids and times.
package storage
