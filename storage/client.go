package storage

import "time"

// Tenant is a directory of its own.
type Tenant struct {
	ID      TenantID
	Name    string
	Created time.Time
}

// Client is a provisioning client: an identity provider or HR connector.
type Client struct {
	ID      string
	Tenant  TenantID
	Name    string
	Scopes  []string
	Profile string // "", "entra", "okta" or "strict"
	// References is "", or "late" when what the client refers to may come later than
	// the reference.
	References string
	Networks   []string // CIDR prefixes its requests may come from; empty for any
	// Rate is how many requests it may send in a second, Burst how many at once; 0 for
	// what holds for all clients.
	Rate, Burst int
	Created     time.Time
	Revoked     time.Time // zero while the client may be used
	Tokens      []*Token  // filled by ListClients
}

// Token is a bearer token of a client. The secret is not stored.
type Token struct {
	ID       string // the public part
	Client   string
	Hash     []byte // SHA-256 of the whole token
	Created  time.Time
	Expires  time.Time
	LastUsed time.Time // zero if never, exact to a minute
}
