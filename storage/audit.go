package storage

import "time"

// AuditEntry says who did what to whom and when. It carries no values, only
// the names of attributes. An entry with a Version is an event too: webhooks,
// security events and delta queries tell of it (see Outbox).
type AuditEntry struct {
	Seq       int64 // given by the store, growing
	At        time.Time
	RequestID string
	Actor     string // "client:<id>", "operator"
	Action    string // "user.create", "client.revoke"
	Type      string // the type of the record acted on
	ID        string // its id
	// Version is that of the resource after its change, or 0.
	Version int64
	// Attributes are the paths that changed, where that applies.
	Attributes []string
}
