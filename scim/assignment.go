package scim

import (
	"context"
	"slices"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// What the role and the principal of an assignment are called, and where they are, is
// made up on the way out, as with managers.

// ofAssignment reports whether a is what is made up of a role or principal.
func ofAssignment(a *schemas.Attribute) bool {
	switch a.Path {
	case "role.$ref", "role.display", "principal.$ref", "principal.display":
		return true
	}
	return false
}

// assignments finds what role assignments are shown with.
func (h *Handler) assignments(ctx context.Context, by auth.Principal, t *schemas.ResourceType, resources []*storage.Resource) ([]around, error) {
	grants := make([]*auth.Grant, len(resources))
	ids := map[string][]string{} // by type
	for i, r := range resources {
		attrs, err := parseStored(t, r)
		if err != nil {
			return nil, err
		}
		if grants[i], err = assignmentOf(r.ID, attrs); err != nil {
			return nil, err
		}
		ids[roleType] = append(ids[roleType], grants[i].Role)
		ids[grants[i].PrincipalType] = append(ids[grants[i].PrincipalType], grants[i].Principal)
	}
	names := map[string]map[string]string{auth.PrincipalClient: {}}
	slices.Sort(ids[roleType])
	var err error
	if names[roleType], err = auth.RoleNames(ctx, h.provider.Store, by.Tenant, slices.Compact(ids[roleType])...); err != nil {
		return nil, err
	}
	for _, typ := range []string{auth.PrincipalUser, auth.PrincipalGroup} {
		if len(ids[typ]) == 0 {
			continue
		}
		slices.Sort(ids[typ])
		if names[typ], err = h.provider.Store.Names(ctx, by.Tenant, typ, slices.Compact(ids[typ])...); err != nil {
			return nil, err
		}
	}
	if len(ids[auth.PrincipalClient]) > 0 {
		clients, err := h.provider.Store.ListClients(ctx, by.Tenant)
		if err != nil {
			return nil, err
		}
		for _, c := range clients {
			names[auth.PrincipalClient][c.ID] = c.Name
		}
	}
	list := make([]around, len(resources))
	for i, g := range grants {
		list[i].principal = names[g.PrincipalType][g.Principal]
		list[i].role = names[roleType][g.Role]
	}
	return list, nil
}

// showAssignment adds that to a parsed document.
func (v view) showAssignment(attrs map[string]any, with around) {
	show := func(name, endpoint, display string) {
		m, ok := attrs[name].(map[string]any)
		if !ok {
			return
		}
		if id, _ := m["value"].(string); endpoint != "" {
			m["$ref"] = v.base + endpoint + id
		}
		if display != "" {
			m["display"] = display
		}
	}
	show("role", "/Roles/", with.role)
	endpoint := ""
	if m, _ := attrs["principal"].(map[string]any); m["type"] != auth.PrincipalClient {
		typ, _ := m["type"].(string)
		endpoint = "/" + typ + "s/"
	}
	show("principal", endpoint, with.principal)
}
