// Package mail is the mail that Roster sends: the kinds of messages ([Kind],
// [Message]), their texts in each language, and the [Queue] that they wait in.
//
// A message is put into the queue by the same write that causes it, so that there
// is never one without the other. [Queue.Run] takes it from there, in whichever
// process is first, and hands it to a [Sender]. A message may arrive
// twice if a process dies between sending and noting that it did; both have the
// same Message-ID. No message is lost.
//
// The content of a message, above all its links, is sealed while it waits. Log,
// metrics and audit trail contain only its id, its kind and its outcome.
//
// Begin with kind.go for the kinds of messages, and with worker.go for sending.
package mail
