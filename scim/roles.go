package scim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// The resource types that say who may do what.
const (
	roleType       = auth.RoleType
	assignmentType = auth.AssignmentType
)

// MaxHolders is up to how many assignments a role may have when it is deleted, and
// goes with them.
const MaxHolders = 1000

// errBuiltIn: a built-in role cannot be changed.
var errBuiltIn = &Error{Status: 400, Type: Mutability, Detail: "a built-in role cannot be changed"}

// roleOf reads a custom role out of an attribute tree, and refuses what the schema
// alone does not.
func roleOf(id string, attrs map[string]any) (*auth.Role, error) {
	ext, _ := attrs[schemas.RosterRoleURI].(map[string]any)
	text := func(from map[string]any, name string) string {
		s, _ := from[name].(string)
		return strings.TrimSpace(s)
	}
	path := func(name string) string { return schemas.RosterRoleURI + ":" + name }
	r := &auth.Role{ID: id, Value: text(attrs, "value"), Display: text(attrs, "display")}
	for _, name := range []string{"value", "display"} {
		if auth.ReservedRoleName(text(attrs, name)) {
			return nil, &schemas.ValueError{Path: name, Msg: "is the name of a built-in role"}
		}
	}
	if err := checkValue(r.Value); err != nil {
		return nil, err
	}
	kind, err := oneOf(ext, path("kind"), "kind", "business", "administrative")
	if err != nil {
		return nil, err
	}
	if _, err := oneOf(ext, path("category"), "category", auth.CategoryBusiness, auth.CategoryDirectory, auth.CategoryPartner, auth.CategoryApplication); err != nil {
		return nil, err
	}
	r.Administrative = kind == "administrative"
	list, _ := ext["permissions"].([]any)
	names := make([]string, len(list))
	for i, v := range list {
		names[i], _ = v.(string)
	}
	if r.Permissions, err = auth.CustomPermissions(names); err != nil {
		e, _ := errors.AsType[*auth.CustomPermissionError](err)
		return nil, &schemas.ValueError{Path: fmt.Sprintf("%s[%d]", path("permissions"), e.Index), Msg: e.Msg}
	}
	if r.Permissions != 0 && !r.Administrative {
		return nil, &schemas.ValueError{Path: path("permissions"), Msg: "only an administrative role has permissions"}
	}
	return r, nil
}

// oneOf returns an attribute that has one of few values, compared without regard to
// case and kept in the spelling of the schema; the first of them if it is left out. path
// is what an error calls it.
func oneOf(attrs map[string]any, path, name string, values ...string) (string, error) {
	given, _ := attrs[name].(string)
	if given == "" {
		return values[0], nil
	}
	for _, v := range values {
		if schemas.Fold(given) == schemas.Fold(v) {
			attrs[name] = v
			return v, nil
		}
	}
	return "", &schemas.ValueError{Path: path, Msg: "expected one of " + strings.Join(values, ", ")}
}

// completeRole gives a new role the kind that it has.
func completeRole(t *schemas.ResourceType, attrs map[string]any, r *auth.Role) {
	ext, _ := attrs[schemas.RosterRoleURI].(map[string]any)
	if ext == nil {
		ext = map[string]any{}
		attrs[schemas.RosterRoleURI] = ext
	}
	kind, category := "business", auth.CategoryBusiness
	if r.Administrative {
		kind, category = "administrative", auth.CategoryDirectory
	}
	ext["kind"] = kind
	if ext["category"] == nil {
		ext["category"] = category
	}
	ext["builtIn"] = false
	attrs["schemas"] = []any{t.Schema.ID, schemas.RosterRoleURI}
}

// builtInAttributes is a built-in role as an attribute tree.
func builtInAttributes(t *schemas.ResourceType, r *auth.Role) map[string]any {
	permissions := []any{}
	for _, name := range r.Permissions.Strings() {
		permissions = append(permissions, name)
	}
	return map[string]any{
		"schemas": []any{t.Schema.ID, schemas.RosterRoleURI}, "id": r.ID, "value": r.Value, "display": r.Display,
		schemas.RosterRoleURI: map[string]any{"description": r.Description, "category": r.Category, "kind": "administrative",
			"permissions": permissions, "builtIn": true},
	}
}

func builtInResource(t *schemas.ResourceType, r *auth.Role) *storage.Resource {
	return &storage.Resource{Type: t.Name, ID: r.ID, Version: 1, Created: auth.RolesSince, LastModified: auth.RolesSince, Name: r.Display,
		Doc: t.Document(builtInAttributes(t, r))}
}

// builtIn returns the built-in role with an id, if the type is that of roles.
func builtIn(t *schemas.ResourceType, id string) *auth.Role {
	if t.Name != roleType {
		return nil
	}
	return auth.BuiltInRole(id)
}

// assignmentOf reads a role assignment out of an attribute tree, and refuses what the
// schema alone does not.
func assignmentOf(id string, attrs map[string]any) (*auth.Grant, error) {
	role, _ := attrs["role"].(map[string]any)
	principal, _ := attrs["principal"].(map[string]any)
	g := &auth.Grant{ID: id}
	g.Role, _ = role["value"].(string)
	g.Principal, _ = principal["value"].(string)
	var err error
	if principal["type"] != nil {
		g.PrincipalType, err = oneOf(principal, "principal.type", "type", auth.PrincipalUser, auth.PrincipalGroup, auth.PrincipalClient)
		if err != nil {
			return nil, err
		}
	}
	kind, err := oneOf(attrs, "kind", "kind", "active", "eligible")
	if err != nil {
		return nil, err
	}
	attrs["kind"] = kind
	g.Eligible = kind == "eligible"
	g.Approval, _ = attrs["approvalRequired"].(bool)
	for _, at := range []struct {
		name string
		to   *time.Time
	}{{"startDate", &g.Start}, {"endDate", &g.End}} {
		if s, ok := attrs[at.name].(string); ok {
			*at.to, _ = schemas.ParseTime(s)
		}
	}
	switch {
	case attrs["endDate"] != nil && !g.End.After(g.Start): // the zero time, which .NET writes for none, would be for good
		return nil, &schemas.ValueError{Path: "endDate", Msg: "is before the role begins to be held"}
	case g.Approval && !g.Eligible:
		return nil, &schemas.ValueError{Path: "approvalRequired", Msg: "only an eligible role is made active"}
	}
	return g, nil
}

// findPrincipal finds out what the principal of an assignment is, and whether it is
// what the assignment says.
func (p *Provider) findPrincipal(ctx context.Context, tenant storage.TenantID, g *auth.Grant) error {
	if ours(g.Principal) {
		for _, typ := range []string{auth.PrincipalUser, auth.PrincipalGroup} {
			if g.PrincipalType != "" && g.PrincipalType != typ {
				continue
			}
			names, err := p.Store.Names(ctx, tenant, typ, g.Principal)
			if err != nil {
				return err
			}
			if _, ok := names[g.Principal]; ok {
				g.PrincipalType = typ
				return nil
			}
		}
	}
	if g.PrincipalType == "" || g.PrincipalType == auth.PrincipalClient {
		clients, err := p.Store.ListClients(ctx, tenant)
		if err != nil {
			return err
		}
		for _, c := range clients {
			if c.ID == g.Principal && c.Revoked.IsZero() {
				g.PrincipalType = auth.PrincipalClient
				return nil
			}
		}
	}
	return errNoPrincipal
}

var (
	errNoPrincipal = &schemas.ValueError{Path: "principal.value", Msg: "no user, group or client has this id"}
	errNoRole      = &schemas.ValueError{Path: "role.value", Msg: "no role has this id"}
)

// prepare readies a new resource of the types that say who may do what, or will.
func (p *Provider) prepare(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, attrs map[string]any, handed *auth.Secret) (func(*decision) error, error) {
	switch t.Name {
	case invitationType:
		return p.prepareInvitation(ctx, by, id, attrs, handed)
	case roleType:
		r, err := roleOf(id, attrs)
		if err != nil {
			return nil, err
		}
		if err := p.contained(ctx, by, r, attrs); err != nil {
			return nil, err
		}
		completeRole(t, attrs, r)
		return func(d *decision) error { return d.putRole(nil, r) }, nil
	case entitlementType:
		return nil, entitlementOf(attrs)
	case assignmentType:
		g, err := assignmentOf(id, attrs)
		if err != nil {
			return nil, err
		}
		if err := p.findPrincipal(ctx, by.Tenant, g); err != nil {
			return nil, err
		}
		completeAssignment(by, attrs, g)
		return func(d *decision) error { return d.putGrant(nil, g) }, nil
	}
	return nil, nil
}

// completeAssignment says in an assignment what its principal is, and who made it.
func completeAssignment(by auth.Principal, attrs map[string]any, g *auth.Grant) {
	attrs["principal"].(map[string]any)["type"] = g.PrincipalType
	attrs["assignedBy"] = by.Actor()
}

// reprepare does so for a resource that is changed.
func (p *Provider) reprepare(ctx context.Context, by auth.Principal, t *schemas.ResourceType, prev, next map[string]any, id string) (func(*decision) error, error) {
	switch t.Name {
	case invitationType:
		return p.reprepareInvitation(ctx, by, prev, next)
	case auth.PrincipalUser:
		return nil, p.wellWorded(ctx, by.Tenant, prev, next)
	case entitlementType:
		return nil, entitlementOf(next)
	case roleType:
		r, err := roleOf(id, next)
		if err != nil {
			return nil, err
		}
		if err := p.contained(ctx, by, r, next); err != nil {
			return nil, err
		}
		completeRole(t, next, r)
		return func(d *decision) error {
			was, err := auth.ReadRole(d.tx, id)
			if err != nil {
				return err
			}
			return d.putRole(was, r)
		}, nil
	case assignmentType:
		next["assignedBy"] = prev["assignedBy"]
		g, err := assignmentOf(id, next)
		if err != nil {
			return nil, err
		}
		return func(d *decision) error {
			was, err := auth.ReadGrant(d.tx, id)
			if err != nil {
				return err
			}
			return d.putGrant(was, g)
		}, nil
	}
	return nil, nil
}

func (d *decision) putRole(was, r *auth.Role) error {
	gives, err := d.given(was, r)
	if err != nil {
		return err
	}
	d.effect.Roles = append(d.effect.Roles, auth.RoleChange{Before: was, After: r, Gives: gives})
	if err := d.ask(); err != nil {
		return err
	}
	shuts := slices.ContainsFunc(gives, func(r *auth.Role) bool { return d.standing.ShutsRole(r.ID) })
	return d.keep(shuts, func() error { return auth.PutRole(d.tx, r) })
}

// putGrant gives a role, or gives it otherwise than before.
func (d *decision) putGrant(was, g *auth.Grant) error {
	role, err := auth.ReadRole(d.tx, g.Role)
	if errors.Is(err, storage.ErrNotFound) {
		return errNoRole
	}
	if err != nil {
		return err
	}
	if g.PrincipalType == auth.PrincipalClient {
		switch {
		case role.Administrative:
			return &schemas.ValueError{Path: "role.value", Msg: "what a client may do in this directory is said by its scopes: it gets no administrative role"}
		case g.Eligible:
			return &schemas.ValueError{Path: "kind", Msg: "a client cannot make a role active"}
		}
		if err := d.tx.Guard("grant/" + g.Principal); err != nil {
			return err
		}
	} else {
		r, err := d.tx.Get(g.PrincipalType, g.Principal)
		if errors.Is(err, storage.ErrNotFound) {
			return errNoPrincipal
		}
		if err != nil {
			return err
		}
		if err := d.holds(r); err != nil {
			return err
		}
		// The principal stays what it is until this is written.
		if _, err := d.tx.MemberOf(r); err != nil {
			return err
		}
	}
	held := d.standing.Held(g.Principal, d.now)
	others := slices.DeleteFunc(slices.Clone(held), func(r *auth.Role) bool { return r.ID == role.ID })
	d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: held, After: held, Changes: auth.AspectRoles},
		auth.Subject{Before: others, After: append(others, role)})
	if was != nil {
		d.loses([]*auth.Role{role})
	}
	if err := d.ask(); err != nil {
		return err
	}
	if err := d.another(g); err != nil {
		return err
	}
	takes := was != nil && role.ID == auth.GlobalAdministrator
	shuts := d.standing.ShutsRole(role.ID) && (g.PrincipalType == auth.PrincipalGroup || d.global(g.Principal))
	return d.keep(takes || shuts, func() error { return auth.PutGrant(d.tx, was, g, role) })
}

// another refuses an assignment that says again what another one says.
func (d *decision) another(g *auth.Grant) error {
	list, err := auth.GrantsTo(d.tx, g.Principal)
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.ID != g.ID && again(o, g, d.now) {
			return errGivenAlready
		}
	}
	return nil
}

var errGivenAlready = &Error{Status: 409, Type: Uniqueness, Detail: "the principal is given this role for this time already"}

// again reports whether two grants to the same principal say the same.
func again(o, g *auth.Grant, now time.Time) bool {
	return o.Role == g.Role && o.Eligible == g.Eligible && !o.Ended(now) &&
		(o.End.IsZero() || g.Start.Before(o.End)) && (g.End.IsZero() || o.Start.Before(g.End))
}

// dropGrant takes a role from a principal.
func (d *decision) dropGrant(g *auth.Grant) error {
	role, err := auth.ReadRole(d.tx, g.Role)
	if err != nil {
		return err
	}
	d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: []*auth.Role{role}})
	if held := d.standing.Held(g.Principal, d.now); len(held) > 0 {
		d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: held, After: held, Changes: auth.AspectRoles})
	}
	return auth.DropGrant(d.tx, g, role)
}

// withdraw deletes the assignments behind grants, which go with a role or a
// principal.
func (d *decision) withdraw(grants []*auth.Grant, at time.Time) error {
	for _, g := range grants {
		if err := d.dropGrant(g); err != nil {
			return err
		}
		r, err := d.tx.Get(assignmentType, g.ID)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		r.LastModified = at
		if err := d.erase(r); err != nil {
			return err
		}
	}
	return nil
}

// TakeFromClient deletes the assignments of a client, as a part of the write that revokes
// it. They are of business roles, and go as those of a user go who is deleted.
func (p *Provider) TakeFromClient(ctx context.Context, tx storage.Tx, by auth.Principal, client string) error {
	// A role that is given at the same time is seen here, or comes after this.
	if err := tx.Guard("grant/" + client); err != nil {
		return err
	}
	grants, err := auth.GrantsTo(tx, client)
	if err != nil {
		return err
	}
	d := &decision{p: p, ctx: ctx, tx: tx, by: by, standing: new(auth.Standing), now: p.now()} // no Standing knows clients
	return d.withdraw(grants, d.now)
}

// remove does what goes with deleting a resource, before it is deleted.
func (d *decision) remove(r *storage.Resource) error {
	switch r.Type {
	case invitationType:
		return d.removeInvitation(r)
	case roleType:
		role, err := auth.ReadRole(d.tx, r.ID)
		if err != nil {
			return err
		}
		grants, err := auth.GrantsOf(d.tx, r.ID)
		if err != nil {
			return err
		}
		if len(grants) > MaxHolders {
			return &Error{Status: 409, Detail: fmt.Sprintf("the role has more than %d assignments: delete those first", MaxHolders)}
		}
		switch inside, err := auth.Contained(d.tx, r.ID); {
		case err != nil:
			return err
		case inside:
			return errContained
		}
		d.effect.Roles = append(d.effect.Roles, auth.RoleChange{Before: role})
		if err := d.withdraw(grants, r.LastModified); err != nil {
			return err
		}
		return auth.DropRole(d.tx, r.ID)
	case assignmentType:
		g, err := auth.ReadGrant(d.tx, r.ID)
		if err != nil {
			return err
		}
		return d.dropGrant(g)
	case auth.PrincipalUser, auth.PrincipalGroup:
		d.subject(r.ID, auth.AspectExistence)
		if r.Type == auth.PrincipalGroup {
			if err := d.disband(r); err != nil {
				return err
			}
		} else {
			if err := d.endSessions(r.ID, r.LastModified); err != nil {
				return err
			}
			if err := d.endInvitations(r.ID, auth.InviterDeleted, r.LastModified); err != nil {
				return err
			}
		}
		grants, err := auth.GrantsTo(d.tx, r.ID)
		if err != nil {
			return err
		}
		if err := d.remember(r, grants); err != nil {
			return err
		}
		return d.withdraw(grants, r.LastModified)
	}
	return nil
}

// disband notes what deleting a group means for its members.
func (d *decision) disband(group *storage.Resource) error {
	if !d.standing.Inside(group.ID) {
		return nil
	}
	return d.moves(group)
}

// moves notes that all who are privileged in a group come or go with it. They are few as a
// rule, and looked for among its members.
func (d *decision) moves(group *storage.Resource) error {
	if d.standing.Many() {
		return d.tx.EachMember(group, func(m storage.Member) error {
			if d.standing.Watches(m.Value) {
				d.subject(m.Value, auth.AspectMembership)
			}
			return nil
		})
	}
	members, err := d.tx.MembersAmong(group, d.standing.Watched())
	for _, m := range members {
		d.subject(m.Value, auth.AspectMembership)
	}
	return err
}

// costs reports whether deleting a resource could cost the tenant its last usable
// Global Administrator.
func (d *decision) costs(r *storage.Resource) (bool, error) {
	if r.Type == assignmentType {
		g, err := auth.ReadGrant(d.tx, r.ID)
		return err == nil && g.Role == auth.GlobalAdministrator, err
	}
	return d.global(r.ID), nil
}

// keepType gives the principal of an assignment that is replaced the type it has, if
// the body leaves it out.
func keepType(t *schemas.ResourceType, prev, next map[string]any) {
	if t.Name != assignmentType {
		return
	}
	was, _ := prev["principal"].(map[string]any)
	is, _ := next["principal"].(map[string]any)
	if is != nil && is["type"] == nil && was["type"] != nil {
		is["type"] = was["type"]
	}
}

// current returns errStanding unless a Standing is that of the tenant as this write sees
// it. It is for writes that read no resource which tells.
func (p *Provider) current(ctx context.Context, by auth.Principal, s *auth.Standing) error {
	epoch, err := p.Store.Epoch(ctx, by.Tenant)
	if err == nil && epoch != s.Epoch {
		err = errStanding
	}
	return err
}
