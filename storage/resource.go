package storage

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
)

// Resource is a stored SCIM resource.
type Resource struct {
	Type         string // the name of its resource type: "User"
	ID           string // UUIDv7, given by the server, never reused
	Version      int64  // 1 when created, one more with every change
	Created      time.Time
	LastModified time.Time
	// Doc is the resource as JSON without meta, members, groups and anything
	// secret; see schemas.ResourceType.Document.
	Doc []byte
	// Index is set for Tx.Create and Tx.Update, and nil on the way out.
	Index Index
	// Name is what others call the resource: its displayName or userName.
	Name string
	// InGroups is set by reads: false says that the resource is a direct member of
	// no group. True is a reason to ask Groups, which may answer that it is in none.
	InGroups bool
	// Epoch is how often Tx.Advance has been called for the tenant, as of the same
	// moment. Tx.Get and Resources.GetToChange set it.
	Epoch int64
	// Ref is the backend's own handle, set by reads and by Tx.Create.
	Ref int64
}

// Member is a direct member of a group.
type Member struct {
	Value   string // the id of a user or group
	Type    string // "User" or "Group"
	Display string
}

// MemberIDs returns the values of members, in their order.
func MemberIDs(members []Member) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.Value
	}
	return ids
}

// Membership is a group that somebody belongs to.
type Membership struct {
	Group   string // the id of the group
	Display string
	Direct  bool
}

// Query selects resources of one type.
type Query struct {
	Type string
	// Filter is nil for all resources.
	Filter filter.Expr
	// SortBy orders by an attribute, as filters compare it; resources without a
	// value come last (first when Descending), and the id decides between
	// equals. Nil orders by id. A multi-valued attribute is ordered by its
	// primary or else its first value (RFC 7644 §3.4.2.3).
	SortBy     *schemas.Attribute
	Descending bool
	// StartIndex is 1-based. Count 0 asks for the total only.
	StartIndex int
	Count      int
	// Walk asks for a page of a walk: it begins behind After, or with the first
	// resource if that is nil, StartIndex does not count, and Page.Last is set. Whatever comes and goes
	// meanwhile, a walk from page to page meets everything once that is there all the time and keeps
	// its place in the order, and costs the same at its end as at its beginning.
	Walk  bool
	After *Mark
}

// Clone returns a copy of a resource that is valid longer than the portion it came in
// (Page.Next). It shares nothing that changes.
func (r *Resource) Clone() *Resource {
	c := *r
	c.ID, c.Doc = strings.Clone(r.ID), bytes.Clone(r.Doc)
	return &c
}

// Mark is a place in the order of a Query. It is good for the store and the query
// that it comes from.
type Mark struct {
	// Value is that of SortBy: a string, bool, int64 or float64, or nil for none.
	Value any
	ID    string
}

// Page is the answer to a Query. Its resources are read in portions, so that a
// page needs little memory and a slow reader holds up nobody.
type Page struct {
	// TotalResults is how many resources the query selects in all. It is not counted, and 0, for a
	// Query with After.
	TotalResults int
	// Last is the place of the last resource of a page of a walk, if there are more
	// behind it.
	Last *Mark
	next func(context.Context) ([]*Resource, error)
}

// NewPage is for backends: next returns the following portion, or none at the
// end.
func NewPage(total int, next func(context.Context) ([]*Resource, error)) *Page {
	return &Page{TotalResults: total, next: next}
}

// Next returns the next resources of the page, or none when there are no more.
// They are valid until the following call.
func (p *Page) Next(ctx context.Context) ([]*Resource, error) { return p.next(ctx) }

// Each calls fn for the portions of the page. Their resources are valid for the call.
func (p *Page) Each(ctx context.Context, fn func([]*Resource) error) error {
	for {
		portion, err := p.next(ctx)
		if err != nil || len(portion) == 0 {
			return err
		}
		if err := fn(portion); err != nil {
			return err
		}
	}
}

// Walk calls fn for all resources that a query selects, in portions, which are valid for
// the call. It reads pages of q.Count, and holds no reader of the store for longer than one.
func Walk(ctx context.Context, store Resources, tenant TenantID, q Query, fn func([]*Resource) error) error {
	for q.Walk = true; ; {
		page, err := store.Query(ctx, tenant, q)
		if err != nil {
			return err
		}
		if err := page.Each(ctx, fn); err != nil {
			return err
		}
		if page.Last == nil {
			return nil
		}
		q.After = page.Last
	}
}
