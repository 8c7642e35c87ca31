// Package provlog is the provisioning log: the last requests of each client, and why
// they were refused. It contains no value that a client sent; scim.Exchange defines what
// it is told. A [Log] is told about requests as they end and writes later, in batches:
// what is waiting when the process dies is lost, and so is what the queue has no room
// for. It does not replace the audit trail, which loses nothing.
package provlog
