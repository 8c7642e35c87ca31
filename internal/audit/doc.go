// Package audit works on the audit trail in a store: it verifies the chains of a trail
// (verify.go), signs how far they have come (checkpoint.go), exports the trail (export.go)
// and searches it (search.go). storage/chain.go defines what a chain is and how an entry
// is hashed.
package audit
