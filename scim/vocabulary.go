package scim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// entitlementType are the words for what people have in applications. They permit
// nothing here.
const entitlementType = "Entitlement"

// word returns the resource of a type that somebody means by its value or its id, or
// storage.ErrNotFound.
func (p *Provider) word(ctx context.Context, tenant storage.TenantID, typ, text string) (*storage.Resource, error) {
	t := p.Schemas.Type(typ)
	if ours(text) { // no value looks like this
		return p.Store.Get(ctx, tenant, typ, text)
	}
	return p.first(ctx, tenant, typ, filter.EqualTo(t.Top("value"), text))
}

// first returns the first resource of a type that a filter selects, or
// storage.ErrNotFound.
func (p *Provider) first(ctx context.Context, tenant storage.TenantID, typ string, f filter.Expr) (*storage.Resource, error) {
	page, err := p.Store.Query(ctx, tenant, storage.Query{Type: typ, Filter: f, StartIndex: 1, Count: 1})
	if err != nil {
		return nil, err
	}
	list, err := page.Next(ctx)
	if err == nil && len(list) == 0 {
		err = storage.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0].Clone(), nil
}

// wellWorded refuses a user who gets a role or an entitlement that the tenant does not
// have, if it says so. What the user had before stays good.
func (p *Provider) wellWorded(ctx context.Context, tenant storage.TenantID, prev, next map[string]any) error {
	if next["roles"] == nil && next["entitlements"] == nil {
		return nil
	}
	fresh := map[string][]placed{} // by attribute
	for _, name := range []string{"roles", "entitlements"} {
		had := wordsOf(prev, name)
		for i, w := range wordsOf(next, name) {
			if !slices.Contains(had, w) {
				fresh[name] = append(fresh[name], placed{w, i})
			}
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	v, err := auth.FindVocabulary(ctx, p.Store, tenant)
	if err != nil {
		return err
	}
	if v.Roles {
		err = p.known(ctx, tenant, "roles", roleType, fresh["roles"])
	}
	if err == nil && v.Entitlements {
		err = p.known(ctx, tenant, "entitlements", entitlementType, fresh["entitlements"])
	}
	return err
}

// wordless readies that no user has a role or an entitlement any more that is deleted,
// where the tenant holds users to those that there are. Otherwise their words mean what
// clients mean by them, and stay.
func (p *Provider) wordless(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, id string) (a reassignment, err error) {
	v, err := auth.FindVocabulary(ctx, p.Store, tenant)
	if err != nil {
		return a, err
	}
	name, held := "roles", v.Roles
	if t.Name == entitlementType {
		name, held = "entitlements", v.Entitlements
	}
	if !held {
		return a, nil
	}
	r, err := p.Store.Get(ctx, tenant, t.Name, id)
	if err != nil {
		return a, err
	}
	attrs, err := parseStored(t, r)
	if err != nil {
		return a, err
	}
	of := t.Top("value")
	value, _ := attrs["value"].(string)
	value = of.Key(value)
	set, err := p.types(ctx, tenant)
	if err != nil {
		return a, err
	}
	a = reassignment{t: set.Type(auth.PrincipalUser), path: name, edit: func(attrs map[string]any) bool {
		words := wordsOf(attrs, name)
		list, _ := attrs[name].([]any)
		var rest []any
		for i, w := range words {
			if w != id && of.Key(w) != value {
				rest = append(rest, list[i])
			}
		}
		if len(rest) == len(list) {
			return false
		}
		if delete(attrs, name); len(rest) > 0 {
			attrs[name] = rest
		}
		return true
	}}
	// No index has these words. Most users are passed over by their text.
	key := []byte(`"` + name + `":[`)
	err = storage.Walk(ctx, p.Store, tenant, storage.Query{Type: auth.PrincipalUser, Count: MaxCount}, func(portion []*storage.Resource) error {
		for _, r := range portion {
			if !bytes.Contains(r.Doc, key) {
				continue
			}
			u, err := a.next(p, tenant, r.Clone(), p.now())
			if err != nil {
				return err
			}
			if !u.had {
				continue
			}
			if len(a.users) == MaxHolders {
				return &Error{Status: 409, Detail: fmt.Sprintf("more than %d users have it in %s: take it from them first", MaxHolders, name)}
			}
			a.users = append(a.users, u)
		}
		return nil
	})
	return a, err
}

// wordsOf returns the values of a multi-valued attribute in their order.
func wordsOf(attrs map[string]any, name string) []string {
	list, _ := attrs[name].([]any)
	words := make([]string, len(list))
	for i, e := range list {
		m, _ := e.(map[string]any)
		words[i], _ = m["value"].(string)
	}
	return words
}

// placed is a word and its place in the list.
type placed struct {
	word string // "" for an element that has no value
	at   int
}

// known refuses the first of the words that is none of the tenant's.
func (p *Provider) known(ctx context.Context, tenant storage.TenantID, name, typ string, words []placed) error {
	seen := map[string]bool{}
	for _, w := range words {
		if seen[w.word] {
			continue
		}
		seen[w.word] = true
		r, err := p.word(ctx, tenant, typ, w.word)
		if err == nil && typ == roleType {
			err = p.business(r)
		}
		if errors.Is(err, storage.ErrNotFound) {
			what := "entitlement"
			if typ == roleType {
				what = "business role"
			}
			return &schemas.ValueError{Path: fmt.Sprintf("%s[%d].value", name, w.at), Msg: "no " + what + " of this directory has this value or id"}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// business returns storage.ErrNotFound for a role that is an administrative one.
func (p *Provider) business(r *storage.Resource) error {
	attrs, err := parseStored(p.Schemas.Type(roleType), r)
	if err != nil {
		return err
	}
	if ext, _ := attrs[schemas.RosterRoleURI].(map[string]any); ext["kind"] != "business" {
		return storage.ErrNotFound
	}
	return nil
}

// entitlementOf refuses what the schema alone does not refuse of an entitlement.
func entitlementOf(attrs map[string]any) error {
	value, _ := attrs["value"].(string)
	return checkValue(value)
}

// checkValue refuses the value of a role or an entitlement that says nothing, or that
// could be taken for an id.
func checkValue(value string) error {
	switch folded := auth.CanonicalRoleName(value); {
	case folded == "":
		return &schemas.ValueError{Path: "value", Msg: "is required"}
	case ours(folded) && folded[14] == '7': // the version of a UUID
		return &schemas.ValueError{Path: "value", Msg: "looks like an id"}
	}
	return nil
}

// ofWord reports whether a is made up of a role or an entitlement when it is written out.
func ofWord(t *schemas.ResourceType, a *schemas.Attribute) bool {
	if t.Name != roleType && t.Name != entitlementType {
		return false
	}
	switch a.Path {
	case "supported", "limitedAssignmentsPermitted", "containedBy":
		return true
	}
	return false
}

// showWord adds that to a parsed document.
func showWord(attrs map[string]any, with around) {
	attrs["supported"], attrs["limitedAssignmentsPermitted"] = true, false
	if len(with.containedBy) > 0 {
		list := make([]any, len(with.containedBy))
		for i, v := range with.containedBy {
			list[i] = v
		}
		attrs["containedBy"] = list
	}
}

// wordTerm puts what it comes to in the place of a term on what is the same for all
// roles and entitlements.
func wordTerm(e filter.Expr, t *schemas.ResourceType, a *schemas.Attribute) (filter.Expr, error) {
	if a.Path == "containedBy" {
		return nil, incomparable(a, "contains of the others")
	}
	attrs := map[string]any{}
	showWord(attrs, around{})
	return constant(t, e.Match(attrs)), nil
}

// constant is a filter that selects everything, or nothing.
func constant(t *schemas.ResourceType, all bool) filter.Expr {
	always := filter.Present{Attr: t.Top("id")}
	if all {
		return always
	}
	return filter.Not{Expr: always}
}
