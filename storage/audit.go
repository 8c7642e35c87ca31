package storage

import "time"

// AuditEntry says who did what to whom and when. It carries no values, only
// the names of attributes.
type AuditEntry struct {
	Seq       int64 // given by the store, growing
	At        time.Time
	RequestID string
	Actor     string // "client:<id>", "operator"
	Action    string // "user.create", "client.revoke"
	Type      string // the type of the record acted on
	ID        string // its id
	// Attributes are the paths that changed, where that applies.
	Attributes []string
}

// Event is a change that webhooks, security events and delta queries tell of.
type Event struct {
	Seq        int64 // given by the store, growing in the order of commits
	At         time.Time
	Action     string // "create", "replace", "patch" or "delete"
	Type       string
	ID         string
	Version    int64
	Attributes []string
}
