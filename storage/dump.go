package storage

import (
	"context"
	"iter"
	"time"
)

// Record is one piece of a tenant in a dump. Exactly one of its fields is set.
// Times are in whole milliseconds.
type Record struct {
	Tenant   *Tenant
	Client   *Client // without its Tokens
	Token    *Token
	Resource *WholeResource
	Members  *GroupMembers
	Item     *Item // one that does not expire
	Audit    *AuditEntry
}

// WholeResource is a resource with what reads of resources leave out.
type WholeResource struct {
	// Resource has Index and Name on the way in only: both are derived anew, so
	// that a dump outlives the rules by which they are made. InGroups and Ref
	// mean nothing here.
	Resource
	Deleted time.Time // zero unless the resource is soft-deleted
}

// GroupMembers is a portion of a group's members, as the memberships are stored:
// Display is the one that was given, empty for the member's name, and Type means
// nothing. Deleted groups have members, and groups deleted members, for as long
// as they can be restored.
type GroupMembers struct {
	Group   string // the id of the group
	Members []Member
}

// MembersPerRecord is how many members a portion holds at most.
const MembersPerRecord = 500

// Dumper reads a tenant whole.
type Dumper interface {
	// Dump yields all there is of a tenant as of one moment, however long the
	// caller takes; a store that cannot keep to one moment for so long fails and
	// does not mix two. Memory does not grow with the tenant. The tenant comes
	// first, then its clients, tokens, resources, members, items and audit entries
	// (the outbox among them). Within a kind the order is the store's own, and
	// audit entries are in that of their numbers; two dumps without a change in
	// between are equal, and so is one of a store of the same kind that was loaded
	// in this order. The caller may keep the records. The error is ErrNotFound if
	// there is no such tenant.
	Dump(ctx context.Context, tenant TenantID) iter.Seq2[Record, error]
}

// LoadMark says how far the load of a tenant has come.
type LoadMark struct {
	Dump    string // the id of the dump
	Records int64  // how many of its records are in the store
	Digest  []byte // SHA-256 over what has been read of it so far
}

// Loader tells of loads. Loading itself is done in writes: see Tx.Load.
//
// As long as a tenant is being loaded nobody can use it. Clients.Token finds none
// of its tokens, and CreateClient, CreateToken, RevokeClient, ExpireToken, PutItem
// and DeleteItem fail with ErrLoading; so there is no principal who could change or read anything
// else, and no audit entry comes between those of the dump.
type Loader interface {
	// LoadMark returns how far the load of a tenant has come, or nil if none is
	// under way.
	LoadMark(ctx context.Context, tenant TenantID) (*LoadMark, error)
}
