package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/roster-id/roster/schemas"
)

// FlawKind says what is wrong at one place of a store.
type FlawKind string

// The kinds of flaws.
const (
	// FlawDocument: a document, item or definition cannot be read.
	FlawDocument FlawKind = "document"
	// FlawIndex: a resource or item is found by something else than it says itself.
	FlawIndex FlawKind = "index"
	// FlawUnique: a unique value is not reserved for the resource that has it, or is
	// for one that has it not.
	FlawUnique FlawKind = "unique"
	// FlawDuplicate: two resources have one unique value, such as one user name.
	FlawDuplicate FlawKind = "duplicate"
	// FlawOrphan: a membership without its group or member, a token without its client.
	FlawOrphan FlawKind = "orphan"
	// FlawReference: an item names a resource or role that is not there.
	FlawReference FlawKind = "reference"
	// FlawCount: resources are counted wrong.
	FlawCount FlawKind = "count"
	// FlawFile: the database says that it is not sound.
	FlawFile FlawKind = "file"
	// FlawSealed: a secret cannot be opened with the key file.
	FlawSealed FlawKind = "sealed"
	// FlawAudit: the audit trail has been changed.
	FlawAudit FlawKind = "audit"
	// FlawLoading: a tenant has been loaded in part.
	FlawLoading FlawKind = "loading"
)

// Flaw is something wrong with a store. It names ids, never values.
type Flaw struct {
	Kind   FlawKind `json:"kind"`
	Tenant TenantID `json:"tenant,omitempty"`
	Type   string   `json:"type,omitempty"` // a resource type, the kind of an item, or what else it is
	ID     string   `json:"id,omitempty"`
	What   string   `json:"what"` // in words
}

func (f Flaw) String() string {
	s := string(f.Kind) + ":"
	if f.Tenant != "" {
		s += fmt.Sprintf(" tenant %q,", f.Tenant)
	}
	if f.Type != "" {
		s += " " + f.Type
		if f.ID != "" {
			s += " " + f.ID
		}
		s += ":"
	}
	return s + " " + f.What
}

// CheckOptions are what a check needs to know, and whom it tells.
type CheckOptions struct {
	// Types returns the resource types of a tenant.
	Types func(TenantID) (*schemas.Set, error)
	// Searchable reports whether what resources of a type are searched by is derived by
	// what Types says; it is not while a definition is being changed.
	Searchable func(TenantID, *schemas.ResourceType) bool
	// Found is told of each flaw.
	Found func(Flaw)
	// Item is given each item, those that expire too, in portions. A check may be at work
	// while others write: an item may be gone by now.
	Item func(TenantID, []*Item) error
	// Resource counts what has been looked at.
	Resource func()
}

// ItemsAtOnce is how many items CheckOptions.Item is given at most.
const ItemsAtOnce = 500

// ItemPortions is for backends: it gives items on in portions, each of one tenant.
type ItemPortions struct {
	Give   func(TenantID, []*Item) error
	tenant TenantID
	list   []*Item
}

// Add takes the next item.
func (p *ItemPortions) Add(tenant TenantID, i *Item) error {
	if tenant != p.tenant || len(p.list) == ItemsAtOnce {
		if err := p.End(); err != nil {
			return err
		}
	}
	p.tenant, p.list = tenant, append(p.list, i)
	return nil
}

// End gives what is left.
func (p *ItemPortions) End() error {
	if len(p.list) == 0 {
		return nil
	}
	err := p.Give(p.tenant, p.list)
	p.list = nil
	return err
}

// Description is what a store says of itself.
type Description struct {
	Product string    // the database and its version
	Schema  int64     // the version of what is stored
	Clock   time.Time // what the database has for now, or zero if it has no clock of its own
	// Standalone says that writes are neither atomic nor replicated.
	Standalone bool
	// Folder is where it lies on this machine, or "".
	Folder string
}

// Describer is a store that describes itself.
type Describer interface {
	Describe(ctx context.Context) (Description, error)
}

// Checker holds all that a store keeps twice against each other. It changes nothing,
// and servers may go on meanwhile: what they change at the same time is no flaw. It
// reads in portions.
type Checker interface {
	Check(ctx context.Context, opt CheckOptions) error
}
