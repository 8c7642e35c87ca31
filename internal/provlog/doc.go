// Package provlog is the provisioning log: the last requests of each client, and why
// those that were refused were. It holds no value that a client sent; scim.Exchange
// says what it is told. A [Log] is told of requests as they end and writes later, in
// batches: what waits when the process dies is lost, and so is what there is no room
// for. The audit trail, which loses nothing, is another thing.
package provlog
