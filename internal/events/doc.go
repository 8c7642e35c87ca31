// Package events tells others of what changes in a directory: [Feed] says who is told
// of what and how, by webhooks, by security event tokens that are pushed (RFC 8935), or
// by such tokens that are fetched (RFC 8936). What there is to tell is the part of the
// audit trail that has a version (storage.Outbox); a feed has a place in it.
//
// Each event is told at least once, and those of one resource in the order of its
// versions: none is sent before the former one was acknowledged or given up. The same
// event always has the same id, by which a receiver knows it again.
//
// Begin with feed.go for what a feed is, with set.go for what an event says, and with
// worker.go for how it is sent; dial.go says to whom a connection is made at all.
package events
