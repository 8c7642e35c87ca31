// Package storage says what Roster keeps and what it asks of a database.
//
// A backend implements [Store]. Reading is split into small interfaces by the
// kind of record ([Resources], [Memberships], [Deleted], [Items], [Clients],
// [Tenants], [Audit], [Outbox]), so that a caller names only what it uses.
// Writing has one way in: [Store.Write] runs a function over a [Tx], and all it
// did becomes visible at once or not at all. A write that changes something and
// records no audit entry fails, so there is no change without its entry.
//
// [Dumper] reads a tenant whole, and [Tx.Load] writes it into another store as it
// was, so that a directory can move between databases.
//
// The tenant is a type of its own and the first argument everywhere; the one
// exception is [Clients.Token], which finds the tenant a token belongs to.
//
// The comments here are the contract; storagetest is the contract in motion,
// and every backend passes it. What a filter means is decided by filter.Expr's
// Match: a backend may answer in its own language but never differently.
//
// Begin with storage.go, then resource.go; dump.go is about moving a tenant.
package storage
