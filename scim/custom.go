package scim

import (
	"context"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// DefaultSettle is longer than other processes take to know of a change
// (storage.Catalogue), with time for the writes that they had begun by then.
const DefaultSettle = 2 * time.Second

// errNoEndpoint: what a path names is no resource type of the tenant.
var errNoEndpoint = &Error{Status: 404, Detail: "no such endpoint"}

// noEndpoint is what a request for an endpoint gets that there is none of. Whoever wrote one that
// there is in another case, as HelloID's connector does, is told its name.
func noEndpoint(set *schemas.Set, by auth.Principal, name string) error {
	for _, t := range set.Types() {
		for _, endpoint := range endpointsOf(t) {
			if tells(by, t) && strings.EqualFold(endpoint[1:], name) {
				return &Error{Status: 404, Detail: "no such endpoint: names of endpoints are case-sensitive, and this one is " + endpoint}
			}
		}
	}
	return errNoEndpoint
}

// errChanging: the schema is being changed, or has changed since the request began.
var errChanging = &Error{Status: 503, Detail: "the schema of the resource is being changed, nothing was changed: try again", RetryAfter: 2}

// types returns the resource types of a tenant.
func (p *Provider) types(ctx context.Context, tenant storage.TenantID) (*schemas.Set, error) {
	if p.Custom == nil {
		return p.Schemas, nil
	}
	e, err := p.Custom.Of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return e.Set, nil
}

// settled refuses to write trees of a type while its definition is being changed, or
// when that is no longer the one that t is made of. It is asked just before the write.
func (p *Provider) settled(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, trees ...map[string]any) error {
	if p.Custom == nil {
		return nil
	}
	e, err := p.Custom.Of(ctx, tenant)
	if err != nil {
		return err
	}
	if e.Changing(t, trees...) || (t.Custom || customized(t)) && e.Set.Type(t.Name) != t {
		return errChanging
	}
	return nil
}

// searchable refuses a query by what is being derived anew.
func (p *Provider) searchable(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, q storage.Query) error {
	if p.Custom == nil || q.Filter == nil && q.SortBy == nil || !t.Custom && !customized(t) {
		return nil
	}
	e, err := p.Custom.Of(ctx, tenant)
	if err != nil {
		return err
	}
	if !e.Searchable(t, append(attributesIn(q.Filter, nil), q.SortBy)...) {
		return errChanging
	}
	return nil
}

// attributesIn appends the attributes that a filter looks at.
func attributesIn(e filter.Expr, list []*schemas.Attribute) []*schemas.Attribute {
	switch e := e.(type) {
	case filter.And:
		for _, t := range e {
			list = attributesIn(t, list)
		}
	case filter.Or:
		for _, t := range e {
			list = attributesIn(t, list)
		}
	case filter.Not:
		return attributesIn(e.Expr, list)
	case filter.ValuePath:
		return append(list, e.Attr) // what is inside belongs to it
	case filter.Present:
		return append(list, e.Attr)
	case filter.Compare:
		return append(list, e.Attr)
	}
	return list
}

func customized(t *schemas.ResourceType) bool {
	for _, e := range t.Extensions {
		if e.Custom {
			return true
		}
	}
	return false
}

// permitted is the name by which permissions know a type: all that tenants define are
// one to them.
func permitted(t *schemas.ResourceType) string {
	if t.Custom {
		return auth.CustomResource
	}
	return t.Name
}

// customAt returns the type of a tenant's own with an endpoint, or nil.
func customAt(set *schemas.Set, endpoint string) *schemas.ResourceType {
	for _, t := range set.Types() {
		if t.Custom && t.Endpoint[1:] == endpoint {
			return t
		}
	}
	return nil
}
