package storage

import (
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/roster-id/roster/schemas"
)

// AuditEntry says who did what to whom, when, from where, and what that changed.
// It carries no secret. An entry with a Version is an event too: webhooks,
// security events and delta queries tell of it (see Outbox).
type AuditEntry struct {
	Seq       int64     // given by the store, growing
	At        time.Time // in whole milliseconds
	RequestID string
	Actor     string // "client:<id>", "user:<id>", "operator", "tenant:<id>", "system"
	Action    string // "user.create", "client.revoke"
	Type      string // the type of the record acted on
	ID        string // its id
	// Version is that of the resource after its change, or 0.
	Version int64
	// Attributes are the paths that changed, where that applies.
	Attributes []string
	// From is the address the request came from, or "".
	From string
	// Level is that of the session the actor had ("mfa"), or "".
	Level string
	// Changes are values before and after, of some or all of what changed.
	Changes []Change

	// Chain, N and Hash tie the entry to those before it; see chain.go. The store
	// gives them in the write that records the entry. Entries that were recorded
	// before there were chains have none.
	Chain string
	N     int64  // 1 for the first entry of the chain, and so on
	Hash  []byte // see AuditEntry.Sum
}

// SystemActor is the Actor of what the program does by itself.
const SystemActor = "system"

// Change is what became of a value. Before and After are JSON; empty means that
// there was no value, or that it is not told.
type Change struct {
	Path          string
	Before, After []byte
}

// plainText reports whether v is a JSON string of plain text, as most values are.
func plainText(v []byte) bool {
	return len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' && schemas.Plain(v[1:len(v)-1])
}

// Check reports why a store must not record e.
func (e *AuditEntry) Check() error {
	if e.Actor == "" || e.Action == "" {
		return errors.New("an audit entry needs an actor and an action")
	}
	if e.Chain != "" || e.N != 0 || len(e.Hash) > 0 {
		return errors.New("the chain of an audit entry is for the store to give")
	}
	for _, a := range e.Attributes {
		if a == "" || strings.ContainsRune(a, ' ') {
			return errors.New("an attribute in an audit entry is no path")
		}
	}
	for _, c := range e.Changes {
		if c.Path == "" {
			return errors.New("a change in an audit entry needs a path")
		}
		for _, v := range [][]byte{c.Before, c.After} {
			if len(v) > 0 && !plainText(v) && !jsontext.Value(v).IsValid() {
				return errors.New("a value in an audit entry is not JSON")
			}
		}
	}
	return nil
}
