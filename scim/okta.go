package scim

import (
	"slices"
	"sync"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// Okta has schemas of its own for roles and entitlements, and reads whatever a resource
// type with one of them serves as what users can be given. A client with
// the profile okta sees Role and Entitlement in that form, and reads them only. Of roles
// it sees the business roles: what stands in the roles of a user is a word for
// applications, and never makes anybody an administrator here.

var oktaTypes = sync.OnceValue(func() *schemas.Set {
	s, err := schemas.LoadOkta()
	if err != nil {
		panic(err) // the program is damaged
	}
	return s
})

var errOktaReads = &Error{Status: 403, Detail: "a client with the profile okta reads roles and entitlements; another client, or an administrator, changes them"}

// inOkta reports whether a principal sees resources of a type as Okta has them.
func inOkta(by auth.Principal, t *schemas.ResourceType) bool {
	return by.Profile == auth.ProfileOkta && (t.Name == roleType || t.Name == entitlementType)
}

// shown returns a resource type as a principal sees it.
func shown(by auth.Principal, t *schemas.ResourceType) *schemas.ResourceType {
	if inOkta(by, t) {
		return oktaTypes().Type(t.Name)
	}
	return t
}

// shownSchemas returns the schemas that a principal sees, in the order of their ids.
func shownSchemas(by auth.Principal, list []*schemas.Schema) []*schemas.Schema {
	if by.Profile != auth.ProfileOkta {
		return list
	}
	list = slices.DeleteFunc(slices.Clone(list), func(s *schemas.Schema) bool {
		return slices.Contains([]string{schemas.RoleURI, schemas.RosterRoleURI, schemas.EntitlementURI, schemas.RosterEntitlementURI}, s.ID)
	})
	return append(list, oktaTypes().Schemas()...) // urn:okta comes after urn:ietf
}

// oktaAttributes is a role or an entitlement as Okta has it.
func oktaAttributes(t *schemas.ResourceType, attrs map[string]any) map[string]any {
	out := map[string]any{"schemas": []any{t.Schema.ID}}
	for _, name := range []string{"id", "externalId", "type"} {
		if v, ok := attrs[name]; ok && t.Top(name) != nil {
			out[name] = v
		}
	}
	if out["displayName"] = attrs["display"]; out["displayName"] == nil {
		out["displayName"] = attrs["value"]
	}
	for _, uri := range []string{schemas.RosterRoleURI, schemas.RosterEntitlementURI} {
		if ext, _ := attrs[uri].(map[string]any); ext["description"] != nil {
			out["description"] = ext["description"]
		}
	}
	return out
}

// stored puts a query in the terms of one type, as it is shown, into those of another,
// as it is stored.
func stored(q storage.Query, shown, t *schemas.ResourceType) storage.Query {
	if shown == t {
		return q
	}
	if q.SortBy != nil {
		q.SortBy = behindOkta(t, q.SortBy)
	}
	if q.Filter != nil {
		q.Filter = storedFilter(q.Filter, shown, t)
	}
	return q
}

// behindOkta returns the attribute of a type that one of Okta's shows.
func behindOkta(t *schemas.ResourceType, a *schemas.Attribute) *schemas.Attribute {
	if a.Path == "displayName" {
		return t.Top("display")
	}
	return t.Lookup(a.Path)
}

func storedFilter(e filter.Expr, shown, t *schemas.ResourceType) filter.Expr {
	return filter.Map(e, func(term filter.Expr) filter.Expr { return storedTerm(term, shown, t) })
}

func storedTerm(e filter.Expr, shown, t *schemas.ResourceType) filter.Expr {
	var attr *schemas.Attribute
	var on func(*schemas.Attribute) filter.Expr
	switch e := e.(type) {
	case filter.ValuePath: // of meta, the one complex attribute
		return filter.ValuePath{Attr: t.Lookup(e.Attr.Path), Filter: storedFilter(e.Filter, shown, t)}
	case filter.Present:
		attr, on = e.Attr, func(a *schemas.Attribute) filter.Expr { e.Attr = a; return e }
	case filter.Compare:
		attr, on = e.Attr, func(a *schemas.Attribute) filter.Expr { e.Attr = a; return e }
	}
	switch attr.Path {
	case "schemas":
		return constant(t, e.Match(map[string]any{"schemas": []any{shown.Schema.ID}}))
	case "displayName": // which is the value where there is no display
		display := filter.Present{Attr: t.Top("display")}
		return filter.Or{filter.And{display, on(display.Attr)}, filter.And{filter.Not{Expr: display}, on(t.Top("value"))}}
	}
	return on(behindOkta(t, attr))
}

// forOkta narrows a query for roles to what Okta can choose from.
func forOkta(t *schemas.ResourceType, f filter.Expr) filter.Expr {
	business := filter.EqualTo(t.Lookup(schemas.RosterRoleURI+":kind"), "business")
	if f == nil {
		return business
	}
	return filter.And{business, f}
}
