package scim

import (
	"cmp"
	"context"
	"slices"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Built-in roles are not stored: they are the same in every tenant. Lists show them
// among the others, where a store would have them.

// query selects a page, built-in roles among it.
func (p *Provider) query(ctx context.Context, by auth.Principal, t *schemas.ResourceType, q storage.Query) (*storage.Page, error) {
	switch t.Name {
	case invitationType:
		return p.queryInvitations(ctx, by, t, q)
	case membershipType:
		return p.queryMemberships(ctx, by, t, q)
	case roleType:
		if inOkta(by, t) { // where there are no built-in ones
			q.Filter = forOkta(t, q.Filter)
			return p.Store.Query(ctx, by.Tenant, q)
		}
	default:
		return p.Store.Query(ctx, by.Tenant, q)
	}
	own := builtInMatches(t, q)
	if len(own) == 0 {
		return p.Store.Query(ctx, by.Tenant, q)
	}
	if q.Walk {
		return p.walkRoles(ctx, by, t, q)
	}
	// Of the stored roles in the order of the list, those before the window come
	// before it with all built-in roles too.
	skip := max(0, q.StartIndex-1)
	stored := q
	stored.StartIndex = 1 + max(0, skip-len(own))
	if stored.Count > 0 {
		stored.Count += len(own)
	}
	page, err := p.Store.Query(ctx, by.Tenant, stored)
	if err != nil {
		return nil, err
	}
	total := page.TotalResults + len(own)
	if q.Count <= 0 {
		return storage.NewPage(total, page.Next), nil
	}
	merged := merge{page: page, own: own, order: func(a, b *storage.Resource) int { return inOrder(t, q, a, b) },
		skip: skip - (stored.StartIndex - 1), left: q.Count}
	return storage.NewPage(total, merged.next), nil
}

// walkRoles selects a page of a walk. There are few roles, so it looks at all of them; a
// mark of it has the value of sortKey.
func (p *Provider) walkRoles(ctx context.Context, by auth.Principal, t *schemas.ResourceType, q storage.Query) (*storage.Page, error) {
	after := q.After
	q.Walk, q.After, q.StartIndex = false, nil, 1
	count := max(0, q.Count)
	q.Count = 1 << 30
	all, err := p.query(ctx, by, t, q)
	if err != nil {
		return nil, err
	}
	var list []*storage.Resource
	for len(list) <= count && count > 0 {
		portion, err := all.Next(ctx)
		if err != nil {
			return nil, err
		}
		if len(portion) == 0 {
			break
		}
		for _, r := range portion {
			if len(list) > count || after != nil && !behind(t, q, r, after) {
				continue
			}
			list = append(list, r.Clone())
		}
	}
	total := all.TotalResults
	if after != nil {
		total = 0
	}
	more := len(list) > count
	list = list[:min(len(list), count)]
	given := false
	page := storage.NewPage(total, func(context.Context) ([]*storage.Resource, error) {
		if given {
			return nil, nil
		}
		given = true
		return list, nil
	})
	if more && count > 0 {
		last := list[count-1]
		page.Last = &storage.Mark{ID: last.ID}
		if q.SortBy != nil {
			page.Last.Value = sortKey(q.SortBy, attributesOf(t, last))
		}
	}
	return page, nil
}

// behind reports whether a role comes behind a mark in the order of a query.
func behind(t *schemas.ResourceType, q storage.Query, r *storage.Resource, m *storage.Mark) bool {
	order := 0
	if q.SortBy != nil {
		order = storage.CompareValues(sortKey(q.SortBy, attributesOf(t, r)), m.Value)
	}
	order = cmp.Or(order, cmp.Compare(r.ID, m.ID))
	if q.Descending {
		order = -order
	}
	return order > 0
}

// builtInMatches returns the built-in roles that a query selects, in its order.
func builtInMatches(t *schemas.ResourceType, q storage.Query) []*storage.Resource {
	var list []*storage.Resource
	for _, r := range auth.BuiltInRoles() {
		res := builtInResource(t, r)
		if q.Filter == nil || q.Filter.Match(attributesOf(t, res)) {
			list = append(list, res)
		}
	}
	slices.SortStableFunc(list, func(a, b *storage.Resource) int { return inOrder(t, q, a, b) })
	return list
}

// attributesOf returns a resource as filters see it.
func attributesOf(t *schemas.ResourceType, r *storage.Resource) map[string]any {
	attrs, err := t.Parse(r.Doc)
	if err != nil {
		return map[string]any{"id": r.ID} // it sorts last, and reading it will tell
	}
	attrs["id"] = r.ID
	attrs["meta"] = map[string]any{"resourceType": r.Type,
		"created":      timeText(r.Created),
		"lastModified": timeText(r.LastModified)}
	return attrs
}

// inOrder compares two resources of a type as a query orders them.
func inOrder(t *schemas.ResourceType, q storage.Query, a, b *storage.Resource) int {
	byID := cmp.Compare(a.ID, b.ID)
	if q.SortBy == nil {
		if q.Descending {
			return -byID
		}
		return byID
	}
	order := cmp.Or(storage.CompareValues(sortKey(q.SortBy, attributesOf(t, a)), sortKey(q.SortBy, attributesOf(t, b))), byID)
	if q.Descending {
		return -order
	}
	return order
}

// sortKey returns a resource's value of an attribute as it is ordered (see
// storage.Query), nil for none.
func sortKey(a *schemas.Attribute, attrs map[string]any) any {
	var steps []*schemas.Attribute
	for ; a != nil; a = a.Parent {
		steps = append(steps, a)
	}
	slices.Reverse(steps)
	var v any = attrs
	for _, step := range steps {
		m, _ := v.(map[string]any)
		v = m[step.Name]
		if list, ok := v.([]any); ok {
			v = primary(list)
		}
	}
	leaf := steps[len(steps)-1]
	switch v := v.(type) {
	case string:
		if t, ok := schemas.ParseTime(v); ok && leaf.Type == schemas.DateTime {
			return storage.Ticks(t)
		}
		return leaf.Key(v)
	case bool, int64, float64:
		return v
	}
	return nil
}

// primary returns the primary element, or else the first.
func primary(list []any) any {
	if len(list) == 0 {
		return nil
	}
	for _, e := range list {
		if m, _ := e.(map[string]any); m["primary"] == true {
			return e
		}
	}
	return list[0]
}

// merge is a page of stored roles with the built-in ones between them.
type merge struct {
	page   *storage.Page
	own    []*storage.Resource
	stored []*storage.Resource
	order  func(a, b *storage.Resource) int
	ended  bool
	skip   int // roles before the page
	left   int // roles of the page still to come
}

func (m *merge) next(ctx context.Context) ([]*storage.Resource, error) {
	var out []*storage.Resource
	for m.left > 0 {
		if len(m.stored) == 0 && !m.ended {
			if len(out) > 0 {
				return out, nil // these are valid until the page is asked for more
			}
			var err error
			if m.stored, err = m.page.Next(ctx); err != nil {
				return nil, err
			}
			m.ended = len(m.stored) == 0
		}
		var r *storage.Resource
		switch {
		case len(m.own) > 0 && (len(m.stored) == 0 || m.order(m.own[0], m.stored[0]) < 0):
			r, m.own = m.own[0], m.own[1:]
		case len(m.stored) > 0:
			r, m.stored = m.stored[0], m.stored[1:]
		default:
			return out, nil
		}
		if m.skip > 0 {
			m.skip--
			continue
		}
		m.left--
		out = append(out, r)
	}
	return out, nil
}
