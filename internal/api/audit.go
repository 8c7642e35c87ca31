package api

import (
	"encoding/json"
	"time"
)

// Entries is a page of the audit trail, newest first.
type Entries struct {
	Entries []Entry `json:"entries"`
	// Next is the cursor of the page after it, if there is more.
	Next string `json:"next,omitempty"`
}

// Entry is an entry of the audit trail.
type Entry struct {
	Seq        int64     `json:"seq"`
	At         time.Time `json:"at"`
	Actor      string    `json:"actor"`
	From       string    `json:"from,omitempty"`
	Level      string    `json:"level,omitempty"`
	Action     string    `json:"action"`
	Type       string    `json:"type,omitempty"`
	ID         string    `json:"id,omitempty"`
	Version    int64     `json:"version,omitempty"`
	RequestID  string    `json:"requestId,omitempty"`
	Attributes []string  `json:"attributes,omitempty"`
	Changes    []Change  `json:"changes,omitempty"`
	Chain      string    `json:"chain,omitempty"`
	N          int64     `json:"n,omitempty"`
	Hash       []byte    `json:"hash,omitempty"` // base64
}

// Change is what became of a value.
type Change struct {
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}
