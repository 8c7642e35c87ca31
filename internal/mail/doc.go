// Package mail is the mail that Roster sends: what there is to say ([Kind],
// [Message]), how it reads in each language, and the [Queue] that it waits in.
//
// A message is put into the queue by the write that makes it necessary, so that
// there is never one without the other. From there [Queue.Run] takes it, in
// whichever process comes first, and hands it to a [Sender]. A message may arrive
// twice if a process dies between sending and noting that it did; both have the
// same Message-ID. It is not lost.
//
// What a message says, the links in it above all, is sealed where it waits. Neither
// the log nor the metrics nor the audit trail tell of more than its id, its kind and
// what became of it.
//
// Begin with kind.go for what can be said, and with worker.go for what becomes of it.
package mail
