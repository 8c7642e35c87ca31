package storage

import (
	"context"
	"iter"
	"time"

	"github.com/roster-id/roster/schemas"
)

// TenantID names a tenant. Nothing of one tenant is ever visible to another.
type TenantID string

// DefaultTenant exists in every new store.
const DefaultTenant TenantID = "default"

// Store is a database Roster can run on. All methods are safe for concurrent
// use. Errors that callers tell apart are those of errors.go; anything else is
// a fault of the store.
type Store interface {
	Indexer
	Resources
	Memberships
	Deleted
	Items
	Clients
	Tenants
	Audit
	Outbox
	Dumper
	Loader

	// Write runs fn and makes everything it did durable in one step before it
	// returns nil. When fn returns an error, nothing of it remains and Write
	// returns that error. fn may run more than once: a Tx may answer what is
	// expected before it has asked, and when that was wrong fn runs again and is
	// told otherwise; only what it was told last counts. It must not use the Tx
	// after it returned, and should do its heavy work beforehand, because writers
	// may wait for each other.
	Write(ctx context.Context, tenant TenantID, fn func(Tx) error) error
	// Ping reports whether the store can serve reads and writes right now.
	Ping(ctx context.Context) error
	// Close waits for writes under way and releases the store.
	Close() error
}

// Indexer derives what a backend searches a resource by.
type Indexer interface {
	// NewIndex returns the Index of a resource with this attribute tree, in the
	// form that Tx.Create and Tx.Update of this store take, for this tenant only.
	// It asks no database and takes a while, so it is called before Write.
	NewIndex(tenant TenantID, t *schemas.ResourceType, attrs map[string]any) Index
}

// Resources reads SCIM resources. Soft-deleted ones do not exist here; see Deleted.
type Resources interface {
	// Get returns one resource, or ErrNotFound.
	Get(ctx context.Context, tenant TenantID, typ, id string) (*Resource, error)
	// GetToChange is Get for somebody who is going to write: it sets Epoch too.
	GetToChange(ctx context.Context, tenant TenantID, typ, id string) (*Resource, error)
	// Epoch returns how often Tx.Advance has been called for the tenant.
	Epoch(ctx context.Context, tenant TenantID) (int64, error)
	// Names returns what the resources with the given ids are called, see
	// Resource.Name. Those that do not exist are absent from the result.
	Names(ctx context.Context, tenant TenantID, typ string, ids ...string) (map[string]string, error)
	// Query selects a page of resources; see Query and Page.
	Query(ctx context.Context, tenant TenantID, q Query) (*Page, error)
}

// Memberships reads who belongs to which group. Deleted users and groups have
// no memberships as long as they are deleted.
type Memberships interface {
	// Members streams the direct members of a group in the order of their ids, those
	// behind after or all if that is empty, reading ahead in small portions. Members that come or go meanwhile may or
	// may not be among them.
	Members(ctx context.Context, tenant TenantID, group, after string) iter.Seq2[Member, error]
	// CountMembers counts direct members, but not beyond limit.
	CountMembers(ctx context.Context, tenant TenantID, group string, limit int) (int, error)
	// Groups returns, for each of the given ids, the groups it belongs to,
	// directly or through other groups; a group that is both is direct. The direct
	// ones come first, each kind in the order of ids. Ids without groups are absent
	// from the result.
	Groups(ctx context.Context, tenant TenantID, members ...string) (map[string][]Membership, error)
}

// Clients reads provisioning clients and their tokens.
type Clients interface {
	// Token finds a token and its client by the token's public id, whatever the
	// tenant, or ErrNotFound. The answer may be at most half a second old.
	Token(ctx context.Context, id string) (*Token, *Client, error)
	// ListClients returns the clients of a tenant by name, revoked ones too.
	ListClients(ctx context.Context, tenant TenantID) ([]*Client, error)
	// TokenUsed notes when a token was last used. It is no change in the sense
	// of the audit trail.
	TokenUsed(ctx context.Context, tenant TenantID, id string, at time.Time) error
}

// Tenants reads tenants.
type Tenants interface {
	ListTenants(ctx context.Context) ([]*Tenant, error)
}

// Audit reads the audit trail.
type Audit interface {
	// AuditEntries returns up to limit entries of a tenant with a sequence
	// number above after, oldest first.
	AuditEntries(ctx context.Context, tenant TenantID, after int64, limit int) ([]AuditEntry, error)
}

// Outbox reads the changes that others are to be told of. It is the part of the
// audit trail that has a Version.
type Outbox interface {
	// Events returns up to limit entries of the audit trail that are events,
	// with a sequence number above after, oldest first; those of one resource are in
	// the order of its versions. An event never appears below a number that a
	// reader has already seen.
	Events(ctx context.Context, tenant TenantID, after int64, limit int) ([]AuditEntry, error)
}

// Tx is a write under way, of one tenant. It sees what it has done so far.
// It is not safe for concurrent use.
type Tx interface {
	ItemWriter
	DeletedWriter

	// Get is Resources.GetToChange inside the transaction.
	Get(typ, id string) (*Resource, error)
	// Advance begins a new epoch of the tenant: what is kept in memory about it by
	// any process, of an earlier one, holds no longer. Whoever reads a resource to
	// change it learns of it. A load begins a new epoch when it is complete.
	Advance() error
	// Create stores a new resource with its Index. The error is a *UniqueError when one of its
	// unique keys is taken.
	Create(r *Resource) error
	// Update replaces prev by next, which has the same id and type, and an
	// Index. It fails with ErrConflict unless prev's version is the stored one.
	// When next.Doc is nil only version and lastModified change.
	Update(prev, next *Resource) error
	// Delete hides the resource with its memberships and frees its unique keys,
	// unless prev's version is no longer the stored one (ErrConflict). Groups
	// that lose a member, those that MemberOf returns, get the next version and at
	// as lastModified; their audit entries are the caller's.
	Delete(prev *Resource, at time.Time) error

	// AddMembers adds to a group those members it does not have yet and
	// returns how many that were. Only Value and Display of a Member count; one
	// without Display is shown by its name as it is at the time. The error is a
	// *UnknownMemberError when a member does not exist.
	AddMembers(group *Resource, members []Member) (int, error)
	// RemoveMembers removes the given ids from a group and returns how many of
	// them were members.
	RemoveMembers(group *Resource, ids []string) (int, error)
	// SetMembers makes the given members the members of a group and returns how
	// many rows that added or removed.
	SetMembers(group *Resource, members []Member) (int, error)
	// EachMember calls fn for every direct member, in the order of ids.
	EachMember(group *Resource, fn func(Member) error) error
	// MembersAmong returns those of the given ids that are direct members of a group,
	// each once, in no order.
	MembersAmong(group *Resource, ids []string) ([]Member, error)
	// Ancestors returns the ids of the groups that a group belongs to, directly
	// or through other groups, in no order; its own id is among them if it is in
	// a cycle. A group that does not exist has none. What it costs depends on how many these are, not on how many
	// members any of them has. The store does not refuse cycles itself. Whoever
	// asks here first, and adds no member that is among the answer, makes none,
	// even when others do the same at the same time: what Ancestors returned
	// still holds when the write becomes durable, or else the write fails or
	// runs again.
	Ancestors(group *Resource) ([]string, error)
	// MemberOf returns the groups that r is a direct member of, in the order of
	// ids, with all but Doc; none if r does not exist. What it returned still holds when the write becomes
	// durable, or else the write fails or runs again.
	MemberOf(r *Resource) ([]*Resource, error)
	// Remains is ErrNotFound unless there is such a resource. If there is, it is there
	// when the write becomes durable, or else the write fails or runs again.
	Remains(typ, id string) error

	// CreateClient stores a client; its name is unique in the tenant
	// (*UniqueError).
	CreateClient(c *Client) error
	// UpdateClient gives a client the name, scopes, profile, references, networks and rate of next. It
	// fails with ErrConflict unless they are those of prev and the client has not been
	// revoked, and with a *UniqueError if the name is taken.
	UpdateClient(prev, next *Client) error
	// RevokeClient ends a client and all its tokens.
	RevokeClient(id string, at time.Time) error
	// Tokens returns the tokens of a client, those that have ended too, oldest
	// first; none for an unknown client. What it returned still holds when the
	// write becomes durable, or else the write fails or runs again: of two writes
	// that look here and create a token, one sees the other's.
	Tokens(client string) ([]*Token, error)
	// CreateToken stores a token.
	CreateToken(t *Token) error
	// ExpireToken brings a token's expiry forward to at; it never extends it.
	ExpireToken(id string, at time.Time) error

	// CreateTenant makes the tenant of the write one that ListTenants returns. The
	// error is a *UniqueError for "id" if it is one already.
	CreateTenant(name string, at time.Time) error
	// RenameTenant gives the tenant of the write another name, or fails with
	// ErrNotFound if there is no such tenant.
	RenameTenant(name string) error

	// Audit appends to the audit trail, and so to the outbox if the entry is an
	// event.
	Audit(e AuditEntry) error

	// SetLoad begins a load (prev is nil), notes how far it has come, or completes
	// it (next is nil). It fails with ErrConflict unless prev is what the store
	// holds, so that of two who load a tenant one goes on; and when it begins,
	// with ErrNotEmpty unless the tenant has no resources, deleted ones included,
	// no clients and no audit entries. Of a load that begins and a client that is
	// made at the same time, one comes first. Completing a load is a change in the sense of the
	// audit trail; the rest of a load is none.
	SetLoad(prev, next *LoadMark) error
	// Load stores a record of a dump as it is, with its version, times and number,
	// in a tenant that is being loaded, and fails otherwise. Records come in the
	// order in which Dump yields them. A Tenant gives the tenant its name and
	// its date; it may be one that the store did not have. A Resource has an Index
	// and a Name. What comes later by other means is numbered above all audit
	// entries that were loaded. The error is a *UniqueError when a record takes
	// what another one has (the Attr is "id" for an id, of a token in whatever tenant, and
	// "seq" for the number of an audit entry that is not above those before), a *UnknownMemberError for
	// a member that does not exist, deleted or not, and ErrNotFound for a group
	// or the client of a token.
	Load(r *Record) error
}
