package storage

import (
	"context"
	"errors"
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

// portionBytes ends a portion of members before it is full when they have long
// displays.
const portionBytes = 256 << 10

// Portions is for backends: it puts memberships, which come group by group, into
// records that it gives on.
type Portions struct {
	Give func(Record) error
	list *GroupMembers
	size int
}

// Add takes the next membership.
func (p *Portions) Add(group string, m Member) error {
	if p.list != nil && (p.list.Group != group || len(p.list.Members) == MembersPerRecord || p.size >= portionBytes) {
		if err := p.End(); err != nil {
			return err
		}
	}
	if p.list == nil {
		p.list = &GroupMembers{Group: group}
	}
	p.list.Members = append(p.list.Members, m)
	p.size += len(m.Display)
	return nil
}

// End gives what is left.
func (p *Portions) End() error {
	if p.list == nil {
		return nil
	}
	r := Record{Members: p.list}
	p.list, p.size = nil, 0
	return p.Give(r)
}

// errEnough ends a dump that nobody wants more of.
var errEnough = errors.New("enough")

// Records is for backends: it makes a sequence of what a function gives. The
// function has to end with the error of give, if there is one.
func Records(dump func(give func(Record) error) error) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		enough := false
		err := dump(func(r Record) error {
			if enough = !yield(r, nil); enough {
				return errEnough
			}
			return nil
		})
		if err != nil && !enough {
			yield(Record{}, err)
		}
	}
}

// Dumper reads a tenant whole.
type Dumper interface {
	// Dump yields all there is of a tenant as of one moment, however long the
	// caller takes; a store that cannot keep to one moment for so long fails and
	// does not mix two. Memory does not grow with the tenant. The tenant comes
	// first, then what it defines (items of the SchemaKind), its clients, tokens, resources, members, other items and audit entries
	// (the outbox among them). Within a kind the order is the store's own, and
	// audit entries are in that of their numbers; two dumps without a change in
	// between are equal, and so is one of a store of the same kind that was loaded
	// in this order. The caller may keep the records. The error is ErrNotFound if
	// there is no such tenant.
	Dump(ctx context.Context, tenant TenantID) iter.Seq2[Record, error]
	// DumpAll yields all tenants as of one moment, in the order of their ids, each as
	// Dump does; so each begins with its Tenant.
	DumpAll(ctx context.Context) iter.Seq2[Record, error]
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
