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

// How much may come with an account: one write does it all.
const (
	MaxAccountGroups = 100
	MaxAccountRoles  = 100
)

// Account is a user with all that goes with it from the first moment.
type Account struct {
	User   any      // decoded body of a User
	Groups []string // the ids of groups that it joins
	Roles  []AccountRole
	// Write writes what else belongs to the account, in the same transaction: it is
	// called when all else has been decided about and written, perhaps more than once,
	// as storage.Store.Write says, and its error undoes all. It may be nil.
	Write func(tx storage.Tx, user *storage.Resource, now time.Time) error
}

// AccountRole is a role that an account is given. What its fields say is said in the
// same words by a RoleAssignment.
type AccountRole struct {
	Role       string // its id
	Eligible   bool
	Approval   bool
	Start, End time.Time // zero: at once, for good
	Reason     string
}

// CreateAccount makes a user with groups and roles in one write: all of it, or nothing.
// It takes what creating the user, changing each group and giving each role would take
// one after the other, and leaves the same audit entries. Errors name what is wrong
// as the Account does: groups[2], roles[0].value, and attributes of the user as they are.
func (p *Provider) CreateAccount(ctx context.Context, by auth.Principal, a Account) (*storage.Resource, error) {
	r, err := p.createAccount(ctx, by, a)
	return r, p.observe(p.Schemas.Type(auth.PrincipalUser), "create", err)
}

func (p *Provider) createAccount(ctx context.Context, by auth.Principal, a Account) (*storage.Resource, error) {
	set, err := p.types(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	users := set.Type(auth.PrincipalUser)
	if err := p.allowAccount(by, a); err != nil {
		return nil, err
	}
	user, attrs, secret, err := p.newcomer(ctx, by, users, a.User)
	if err != nil {
		return nil, err
	}
	if err := p.settled(ctx, by.Tenant, users, attrs); err != nil {
		return nil, err
	}
	if err := p.fill(by.Tenant, users, user, attrs); err != nil {
		return nil, err
	}
	given, err := p.given(by, user, a.Roles)
	if err != nil {
		return nil, err
	}
	told, manager := created(users, attrs), managerToCheck(by, nil, attrs)
	err = p.withStanding(ctx, by, func(s *auth.Standing) error {
		return p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			d := p.decide(ctx, tx, by, s, user.Created)
			// An account, and who knows its password, outlive the roles of whoever makes it.
			if err := p.allowAccount(d.by, a); err != nil {
				return err
			}
			if err := checkManager(tx, manager); err != nil {
				return err
			}
			account := newAccount{
				user: user, secret: secret, set: (*auth.Credential).PushPassword, told: told,
				groups: a.Groups, given: given,
			}
			if err := d.putAccount(account); err != nil {
				return err
			}
			if a.Write == nil {
				return nil
			}
			return a.Write(tx, user, user.Created)
		})
	})
	if err != nil {
		return nil, err
	}
	user.InGroups = len(a.Groups) > 0
	return user, nil
}

// allowAccount asks for what making an account takes, whatever its effect.
func (p *Provider) allowAccount(by auth.Principal, a Account) error {
	if err := p.allow(by, auth.Create, p.Schemas.Type(auth.PrincipalUser)); err != nil {
		return err
	}
	if len(a.Groups) > 0 {
		if err := p.allow(by, auth.Update, p.Schemas.Type(auth.PrincipalGroup)); err != nil {
			return err
		}
	}
	if len(a.Roles) > 0 {
		if err := p.allow(by, auth.Create, p.Schemas.Type(assignmentType)); err != nil {
			return err
		}
	}
	switch {
	case len(a.Groups) > MaxAccountGroups:
		return &schemas.ValueError{Path: "groups", Msg: fmt.Sprintf("expected at most %d", MaxAccountGroups)}
	case len(a.Roles) > MaxAccountRoles:
		return &schemas.ValueError{Path: "roles", Msg: fmt.Sprintf("expected at most %d", MaxAccountRoles)}
	}
	for i, id := range a.Groups {
		if slices.Contains(a.Groups[:i], id) {
			return &schemas.ValueError{Path: groupPath(i), Msg: "is there twice"}
		}
	}
	return nil
}

func groupPath(i int) string { return fmt.Sprintf("groups[%d]", i) }

// RolePath is how errors name a role of an Account.
func RolePath(i int) string { return fmt.Sprintf("roles[%d]", i) }

// givenRole is a role assignment of an account that is not there yet.
type givenRole struct {
	resource *storage.Resource
	grant    *auth.Grant
	told     changes
}

// given makes the role assignments of a new user.
func (p *Provider) given(by auth.Principal, user *storage.Resource, roles []AccountRole) ([]givenRole, error) {
	t := p.Schemas.Type(assignmentType)
	list := make([]givenRole, len(roles))
	for i, r := range roles {
		attrs, err := t.Bind(r.body(user.ID), schemas.Lenient)
		if err != nil {
			return nil, inRole(i, err)
		}
		res := p.newResource(t)
		g, err := assignmentOf(res.ID, attrs)
		if err != nil {
			return nil, inRole(i, err)
		}
		completeAssignment(by, attrs, g)
		if err := p.fill(by.Tenant, t, res, attrs); err != nil {
			return nil, inRole(i, err)
		}
		list[i] = givenRole{res, g, created(t, attrs)}
	}
	return list, nil
}

// body is the assignment of the role as a client would send it.
func (r AccountRole) body(user string) map[string]any {
	b := map[string]any{
		"schemas":   []any{schemas.RoleAssignmentURI},
		"role":      map[string]any{"value": r.Role},
		"principal": map[string]any{"value": user, "type": auth.PrincipalUser},
		"kind":      "active",
	}
	if r.Eligible {
		b["kind"] = "eligible"
	}
	if r.Approval {
		b["approvalRequired"] = true
	}
	if r.Reason != "" {
		b["reason"] = r.Reason
	}
	for name, at := range map[string]time.Time{"startDate": r.Start, "endDate": r.End} {
		if !at.IsZero() {
			b[name] = at.UTC().Format(time.RFC3339Nano)
		}
	}
	return b
}

// inRole says of which role of an account an error is.
func inRole(i int, err error) error {
	if e, ok := errors.AsType[*schemas.ValueError](err); ok {
		in := *e
		if in.Path = strings.TrimPrefix(e.Path, "role."); in.Path == "role" { // without an id
			in.Path = "value"
		}
		in.Path = RolePath(i) + "." + in.Path
		return &in
	}
	if e, ok := errors.AsType[*Error](err); ok {
		in := *e
		in.Detail = RolePath(i) + ": " + e.Detail
		return &in
	}
	return err
}

// newAccount is what becomes of an Account, or of an accepted invitation.
type newAccount struct {
	user   *storage.Resource
	secret string // hash of the password, empty for none, kept by set
	set    func(*auth.Credential, string, time.Time)
	told   changes
	groups []string // ids
	given  []givenRole
}

// putAccount decides about a new account and writes it.
func (d *decision) putAccount(a newAccount) error {
	groups, err := d.groupsToJoin(a.user.ID, a.groups)
	if err != nil {
		return err
	}
	roles, err := d.rolesToGive(a.given)
	if err != nil {
		return err
	}
	if err := d.ask(); err != nil {
		return err
	}
	if err := d.p.putNew(d.tx, a.user, a.secret, a.set); err != nil {
		return err
	}
	if err := d.p.record(d.ctx, d.tx, d.by, "create", a.user, nil, a.told); err != nil {
		return err
	}
	for _, g := range groups {
		if err := d.join(g, a.user.ID); err != nil {
			return err
		}
	}
	for i, g := range a.given {
		if err := d.putGiven(g, roles[i]); err != nil {
			return err
		}
	}
	return nil
}

// groupsToJoin reads the groups that a new user joins, and notes what that means.
func (d *decision) groupsToJoin(user string, ids []string) ([]*storage.Resource, error) {
	groups := make([]*storage.Resource, len(ids))
	for i, id := range ids {
		err := storage.ErrNotFound
		if ours(id) {
			groups[i], err = d.tx.Get(auth.PrincipalGroup, id)
		}
		if errors.Is(err, storage.ErrNotFound) {
			return nil, &schemas.ValueError{Path: groupPath(i), Msg: "no group has this id"}
		}
		if err != nil {
			return nil, err
		}
		if err := d.holds(groups[i]); err != nil {
			return nil, err
		}
		carried, err := d.carried(id, func() ([]string, error) { return d.tx.Ancestors(groups[i]) })
		if err != nil {
			return nil, err
		}
		d.joins(user, carried)
		d.subject(id, auth.AspectMembership)
	}
	return groups, nil
}

// rolesToGive reads the roles that a new user is given, and notes what that means.
func (d *decision) rolesToGive(given []givenRole) ([]*auth.Role, error) {
	roles := make([]*auth.Role, len(given))
	for i, g := range given {
		role, err := auth.ReadRole(d.tx, g.grant.Role)
		if errors.Is(err, storage.ErrNotFound) {
			err = inRole(i, errNoRole)
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(given[:i], func(o givenRole) bool { return again(o.grant, g.grant, d.now) }) {
			return nil, inRole(i, errGivenAlready)
		}
		d.gains([]*auth.Role{role})
		roles[i] = role
	}
	return roles, nil
}

// join makes a new user a member of a group.
func (d *decision) join(g *storage.Resource, user string) error {
	members := []storage.Member{{Value: user}}
	n, err := d.tx.AddMembers(g, members)
	if err != nil {
		return err
	}
	next := *g
	next.Version, next.LastModified = g.Version+1, later(d.now, g.LastModified)
	next.Doc, next.Index = nil, nil
	if err := d.tx.Update(g, &next); err != nil {
		return err
	}
	var told changes
	told.members(true, storage.MemberIDs(members), n)
	return d.p.record(d.ctx, d.tx, d.by, "patch", &next, []string{"members"}, told)
}

// putGiven writes the assignment of a role.
func (d *decision) putGiven(g givenRole, role *auth.Role) error {
	if err := d.tx.Create(g.resource); err != nil {
		return err
	}
	if err := auth.PutGrant(d.tx, nil, g.grant, role); err != nil {
		return err
	}
	return d.p.record(d.ctx, d.tx, d.by, "create", g.resource, nil, g.told)
}
