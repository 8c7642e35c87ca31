// Package events notifies other systems of changes in a directory. A [Feed] says who is
// notified of what and how: by webhooks, by security event tokens that are pushed
// (RFC 8935), or by such tokens that are polled (RFC 8936). The source of events is the
// part of the audit trail that has versions (storage.Outbox); a feed has a position in it.
//
// Each event is delivered at least once, and the events of one resource in the order of its
// versions: none is sent before the previous one was acknowledged or given up. An event has
// the same id each time, so that a receiver recognises duplicates.
//
// Begin with feed.go for what a feed is (feeds.go makes and changes them), with set.go for
// what an event contains, and with worker.go for when it is sent: trail.go finds the next
// ones, send.go sends one, and dead.go keeps what was given up. poll.go is for feeds that are
// polled, jwks.go has the keys that check tokens, and dial.go decides which addresses may be
// connected to.
package events
