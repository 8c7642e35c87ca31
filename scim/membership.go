package scim

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// Memberships of groups as resources (draft-zollner-scim-group-members): for groups whose
// members are too many to be part of one. They are no records of their own: a membership
// is a row of the group, which /Groups shows as an element of members. Its id is made of
// the two ids, and it is created and deleted, never changed.

const membershipType = "GroupMembership"

// membershipID is the id of a membership, and splitMembership reads it.
func membershipID(group, member string) string { return group + "." + member }

func splitMembership(id string) (group, member string, ok bool) {
	group, member, ok = strings.Cut(id, ".")
	return group, member, ok && ours(group) && ours(member)
}

var (
	errNoGroup         = &schemas.ValueError{Path: "group.value", Msg: "no group has this id"}
	errAlreadyMember   = &Error{Status: http.StatusConflict, Type: Uniqueness, Detail: "member.value is a member of the group already"}
	errMembershipOrder = &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: memberships come in the order of their ids"}
	errFixed           = &Error{Status: http.StatusMethodNotAllowed, Detail: "a membership is created and deleted, never changed"}
)

// membership is a membership as a resource. Its name is what is shown of others in it.
func membership(t *schemas.ResourceType, group, groupName string, m storage.Member) *storage.Resource {
	id := membershipID(group, m.Value)
	part := func(id, name, typ string) map[string]any {
		p := map[string]any{"value": id}
		if name != "" {
			p["display"] = name
		}
		if typ != "" {
			p["type"] = typ
		}
		return p
	}
	attrs := map[string]any{"schemas": []any{t.Schema.ID}, "id": id, "group": part(group, groupName, ""), "member": part(m.Value, m.Display, m.Type)}
	return &storage.Resource{Type: t.Name, ID: id, Version: 1, Name: groupName + "\x00" + m.Display, Doc: t.Document(attrs)}
}

// ofMembership reports whether a is an address that showMembership adds. Other types
// may have attributes of these names.
func ofMembership(t *schemas.ResourceType, a *schemas.Attribute) bool {
	return t.Name == membershipType && a.Name == "$ref"
}

// showMembership adds addresses to a parsed document.
func (v view) showMembership(attrs map[string]any) {
	show := func(name, endpoint string) {
		if m, ok := attrs[name].(map[string]any); ok {
			id, _ := m["value"].(string)
			m["$ref"] = v.base + endpoint + id
		}
	}
	show("group", "/Groups/")
	member, _ := attrs["member"].(map[string]any)
	if typ, _ := member["type"].(string); typ != "" {
		show("member", "/"+typ+"s/")
	}
}

// direct finds the groups that somebody is a direct member of, in the order of ids, and
// what is known of the member; there are none of somebody who does not exist.
func (p *Provider) direct(ctx context.Context, tenant storage.TenantID, member string) (groups []storage.Membership, m storage.Member, err error) {
	if !ours(member) {
		return nil, m, nil
	}
	for _, typ := range []string{auth.PrincipalUser, auth.PrincipalGroup} {
		names, err := p.Store.Names(ctx, tenant, typ, member)
		if err != nil {
			return nil, m, err
		}
		if name, ok := names[member]; ok {
			m = storage.Member{Value: member, Type: typ, Display: name}
		}
	}
	if m.Value == "" {
		return nil, m, nil
	}
	all, err := p.Store.Groups(ctx, tenant, member)
	for _, g := range all[member] {
		if g.Direct {
			groups = append(groups, g)
		}
	}
	return groups, m, err
}

func (p *Provider) getMembership(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) (*storage.Resource, error) {
	group, member, ok := splitMembership(id)
	if !ok {
		return nil, storage.ErrNotFound
	}
	groups, m, err := p.direct(ctx, by.Tenant, member)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if g.Group == group {
			return membership(t, group, g.Display, m), nil
		}
	}
	return nil, storage.ErrNotFound
}

func (p *Provider) createMembership(ctx context.Context, by auth.Principal, t *schemas.ResourceType, attrs map[string]any) (*storage.Resource, error) {
	value := func(name string) string {
		m, _ := attrs[name].(map[string]any)
		s, _ := m["value"].(string)
		return s
	}
	group, member := value("group"), value("member")
	n, err := p.moveMember(ctx, by, group, member, patch.AddMembers)
	if e, ok := errors.AsType[*schemas.ValueError](err); ok {
		return nil, &schemas.ValueError{Path: "member.value", Msg: e.Msg}
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, errNoGroup
	case err != nil:
		return nil, err
	case n == 0:
		return nil, errAlreadyMember
	}
	r, err := p.getMembership(ctx, by, t, membershipID(group, member))
	if errors.Is(err, storage.ErrNotFound) {
		// It was created, and has been ended since, by a bulk request perhaps.
		return membership(t, group, "", storage.Member{Value: member}), nil
	}
	return r, err
}

func (p *Provider) deleteMembership(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition) error {
	group, member, ok := splitMembership(id)
	if !ok {
		return storage.ErrNotFound
	}
	// It has one version as long as it is there, which the write below finds out.
	if pre.match.given || pre.noneMatch.given {
		r, err := p.getMembership(ctx, by, t, id)
		if err != nil {
			return err
		}
		if err := pre.check(r); err != nil {
			return err
		}
	}
	n, err := p.moveMember(ctx, by, group, member, patch.RemoveMembers)
	if e, ok := errors.AsType[*patch.Error](err); ok && e.Kind == patch.NoTarget || err == nil && n == 0 {
		return storage.ErrNotFound
	}
	return err
}

// moveMember puts one member into a group or takes it out, as a PATCH of the group does,
// and returns how many that were.
func (p *Provider) moveMember(ctx context.Context, by auth.Principal, group, member string, kind patch.MemberChangeKind) (int, error) {
	set, err := p.types(ctx, by.Tenant)
	if err != nil {
		return 0, err
	}
	by.References = "" // a membership is between what there is
	var before int64
	r, err := p.update(ctx, by, set.Type(auth.PrincipalGroup), group, Precondition{}, func(prev *storage.Resource, attrs map[string]any) (change, error) {
		before = prev.Version
		return change{action: "patch", attrs: attrs, members: []patch.MemberChange{{
			Kind: kind, Operation: -1, Members: []map[string]any{{"value": member}},
		}}}, nil
	})
	if err != nil {
		return 0, err
	}
	return int(r.Version - before), nil
}

// compareMembersFor is how long the members of a group are compared with a filter one by
// one, as long as a query without an index takes.
const compareMembersFor = 2 * time.Second

var errManyToCompare = &Error{Status: 400, Type: TooMany, Detail: "the group has too many members to compare each of them: compare member.value with eq"}

// queryMemberships selects memberships. One of group.value, member.value and id has to be
// compared with eq: everything that a directory has of them is no list to be asked for.
func (p *Provider) queryMemberships(ctx context.Context, by auth.Principal, t *schemas.ResourceType, q storage.Query) (*storage.Page, error) {
	if q.SortBy != nil {
		return nil, errMembershipOrder
	}
	group, member, alone := bounds(q.Filter)
	after := ""
	if q.After != nil {
		g, m, _ := strings.Cut(q.After.ID, ".")
		if after = m; member != "" {
			after = g
		}
	}
	var all iter.Seq2[*storage.Resource, error]
	total := -1
	switch {
	case member != "":
		groups, m, err := p.direct(ctx, by.Tenant, member)
		if err != nil {
			return nil, err
		}
		all = func(yield func(*storage.Resource, error) bool) {
			for _, g := range groups {
				if g.Group > after && !yield(membership(t, g.Group, g.Display, m), nil) {
					return
				}
			}
		}
	case group != "":
		names, err := p.Store.Names(ctx, by.Tenant, auth.PrincipalGroup, group)
		if err != nil {
			return nil, err
		}
		if alone && q.After == nil {
			if total, err = p.Store.CountMembers(ctx, by.Tenant, group, 1<<31-1); err != nil {
				return nil, err
			}
		}
		skip := 0
		if alone && !q.Walk { // what comes before the page need not be made
			skip, q.StartIndex = max(0, q.StartIndex-1), 1
		}
		begun := time.Now()
		all = func(yield func(*storage.Resource, error) bool) {
			for m, err := range p.Store.Members(ctx, by.Tenant, group, after) {
				if err == nil && !alone && time.Since(begun) > compareMembersFor {
					err = errManyToCompare
				}
				if err != nil {
					yield(nil, err)
					return
				}
				if skip > 0 {
					skip--
					continue
				}
				if !yield(membership(t, group, names[group], m), nil) {
					return
				}
			}
		}
	default:
		return nil, &Error{Status: 400, Type: TooMany, Detail: "compare group.value or member.value with eq"}
	}
	return pageOf(t, q, all, total)
}

// pageOf makes a page of resources that come in the order of their ids. total is
// negative where it is not known.
func pageOf(t *schemas.ResourceType, q storage.Query, all iter.Seq2[*storage.Resource, error], total int) (*storage.Page, error) {
	skip := max(0, q.StartIndex-1)
	if q.Walk {
		skip = 0
	}
	var list []*storage.Resource
	n, more := 0, false
	for r, err := range all {
		if err != nil {
			return nil, err
		}
		attrs, err := parseStored(t, r)
		if err != nil {
			return nil, err
		}
		attrs["meta"] = map[string]any{"resourceType": r.Type}
		if q.Filter != nil && !q.Filter.Match(attrs) {
			continue
		}
		n++
		switch {
		case n <= skip:
		case len(list) < q.Count:
			list = append(list, r)
		default:
			more = true
		}
		if more && (total >= 0 || q.After != nil) {
			break
		}
	}
	if total < 0 {
		total = n
	}
	if q.After != nil {
		total = 0
	}
	page := storage.NewPage(total, func(context.Context) (out []*storage.Resource, err error) {
		out, list = list, nil
		return out, nil
	})
	if q.Walk && more && len(list) > 0 {
		page.Last = &storage.Mark{ID: list[len(list)-1].ID}
	}
	return page, nil
}

// ofMemberships reports whether a filter has a term that is about memberships: about
// their group or member, or the id or type of one. What is about all resources is about
// memberships as well, but a search over all types means the groups then, which have them.
func ofMemberships(e filter.Expr) bool {
	switch e := e.(type) {
	case filter.And:
		return slices.ContainsFunc(e, ofMemberships)
	case filter.Or:
		return slices.ContainsFunc(e, ofMemberships)
	case filter.Not:
		return ofMemberships(e.Expr)
	case filter.ValuePath:
		return ofMemberships(e.Filter)
	case filter.Present:
		return ofPart(e.Attr)
	case filter.Compare:
		switch e.Attr.Path {
		case "id":
			_, _, ok := splitMembership(fmt.Sprint(e.Value))
			return ok
		case "meta.resourceType":
			return e.Op == filter.Equal && e.Match(map[string]any{"meta": map[string]any{"resourceType": membershipType}})
		}
		return ofPart(e.Attr)
	}
	return false
}

// ofPart reports whether a is the group or the member of a membership, or of one.
func ofPart(a *schemas.Attribute) bool {
	name := a.Top().Name
	return name == "group" || name == "member"
}

// bounds finds the group and the member that a filter names with eq, and whether it is
// nothing but the group.
func bounds(e filter.Expr) (group, member string, alone bool) {
	if e == nil {
		return "", "", false
	}
	terms := filter.Conjuncts(e)
	for _, term := range terms {
		c, ok := term.(filter.Compare)
		if !ok || c.Op != filter.Equal {
			continue
		}
		switch c.Attr.Path {
		case "group.value":
			group = fmt.Sprint(c.Value)
		case "member.value":
			member = fmt.Sprint(c.Value)
		case "id":
			if g, m, ok := splitMembership(fmt.Sprint(c.Value)); ok {
				group, member = g, m
			}
		}
	}
	return group, member, len(terms) == 1 && group != ""
}

// endpointsOf are where the resources of a type are: memberships as earlier versions of
// the draft call them, too.
func endpointsOf(t *schemas.ResourceType) []string {
	if t.Name == membershipType {
		return []string{t.Endpoint, "/GroupMembers"}
	}
	return []string{t.Endpoint}
}
