// Package audit looks after the audit trail that stores keep: it verifies the
// chains of a trail (verify.go), signs how far it has come (checkpoint.go), writes
// it out (export.go) and searches it (search.go). What a chain is, and how an
// entry is hashed, stands in storage/chain.go.
package audit
