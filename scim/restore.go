package scim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// Restoration says how a resource is restored.
type Restoration struct {
	// Name is another user name or name of the group, or empty for the one it had.
	Name string
	// ByUserName: a user signs in by the user name alone, and by no address any more.
	ByUserName bool
	// WithoutRoles leaves out the roles that were given to the user or group itself,
	// WithoutGroups the groups it was in. What is left out is gone.
	WithoutRoles, WithoutGroups bool
}

// TakenError says that a value that a resource needs to be restored is somebody
// else's by now, and whose if the caller may know.
type TakenError struct {
	storage.UniqueError
	ID, Name string // of whoever has it, or empty
}

func (e *TakenError) Unwrap() error { return &e.UniqueError }

// ReturningRoleError says that a resource cannot be restored by this principal with a
// role that would come back.
type ReturningRoleError struct {
	ReturningRole
	Err error // a *auth.DeniedError
}

func (e *ReturningRoleError) Error() string { return e.Err.Error() }
func (e *ReturningRoleError) Unwrap() error { return e.Err }

// Restore brings a deleted resource back with the values that it had, the groups it
// was in as far as they are there, and its assignments. It takes that the principal may
// give what comes back: the error is a *ReturningRoleError otherwise, a *TakenError when
// a name is taken, and storage.ErrNotFound when there is nothing to restore. A user has
// the password and passcodes that they had, and no session.
func (p *Provider) Restore(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, how Restoration) (*storage.Resource, error) {
	r, err := p.restore(ctx, by, t, id, how)
	return r, p.observe(t, "restore", err)
}

func (p *Provider) restore(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, how Restoration) (*storage.Resource, error) {
	if err := allowDeleted(by, t, false); err != nil {
		return nil, err
	}
	set, err := p.types(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	t = set.Type(t.Name) // with what the tenant adds to it
	read, n, err := p.findDeleted(ctx, by, t, id)
	if err != nil {
		return nil, err
	}
	back, err := p.returning(ctx, by.Tenant, id, n.Reports)
	if err != nil {
		return nil, err
	}
	if err := back.settled(ctx, p, by.Tenant); err != nil {
		return nil, err
	}
	attrs, err := how.attributes(t, &read.Resource)
	if err != nil {
		return nil, err
	}
	if err := p.settled(ctx, by.Tenant, t, attrs); err != nil {
		return nil, err
	}
	manager, awaited, err := p.withLiveManager(ctx, by.Tenant, t, id, attrs)
	if err != nil {
		return nil, err
	}
	late, err := p.lateness(ctx, by)
	if err != nil {
		return nil, err
	}
	now := p.now()
	next := &storage.Resource{Type: t.Name, ID: id, Version: read.Version + 1, Created: read.Created, LastModified: later(later(now, read.Deleted), read.LastModified)}
	if err := p.fill(by.Tenant, t, next, attrs); err != nil {
		return nil, err
	}
	err = p.withStanding(ctx, by, func(s *auth.Standing) error {
		return p.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
			prev, err := tx.GetDeleted(t.Name, id)
			if err != nil {
				return err
			}
			if prev.Version != read.Version || !prev.Deleted.Equal(read.Deleted) {
				return errOvertaken // it was restored, and deleted again
			}
			if err := late.guardAll(tx, t, attrs, id); err != nil {
				return err
			}
			switch err := checkManager(tx, manager); {
			case errors.Is(err, errNoManager):
				return errOvertaken
			case err != nil:
				return err
			}
			d := p.decide(ctx, tx, by, s, now)
			// Those in a group come with it under whatever rules it is for.
			shuts := t.Name == auth.PrincipalGroup && s.Blocks()
			if err := d.keep(shuts, func() error { return d.restore(t, prev, next, how) }); err != nil {
				return err
			}
			if awaited != "" {
				if err := d.awaits(awaited, id); err != nil {
					return err
				}
			}
			if _, err := d.reassign(back); err != nil {
				return err
			}
			_, err = late.arrived(d, t, next, attrs)
			return err
		})
	})
	if e, ok := errors.AsType[*storage.UniqueError](err); ok {
		return nil, p.taken(ctx, by, t, attrs, e)
	}
	if err != nil {
		return nil, err
	}
	return next, nil
}

// attributes returns the tree that a resource is restored with.
func (how Restoration) attributes(t *schemas.ResourceType, r *storage.Resource) (map[string]any, error) {
	attrs, err := parseStored(t, r)
	if err == nil && how.Name != "" {
		attrs, err = renamed(t, attrs, how.Name)
	}
	if err == nil && how.ByUserName {
		attrs, err = byUserName(t, attrs)
	}
	return attrs, err
}

// renamed returns a tree with another name.
func renamed(t *schemas.ResourceType, attrs map[string]any, name string) (map[string]any, error) {
	res, err := patch.Apply(t, attrs, []patch.Operation{{Op: patch.Replace, Path: nameOf(t), Value: name}}, schemas.Lenient)
	if e, ok := errors.AsType[*patch.Error](err); ok {
		return nil, &schemas.ValueError{Path: nameOf(t), Msg: e.Msg}
	}
	if err != nil {
		return nil, err
	}
	return res.Attributes, nil
}

// byUserName returns the tree of a user who signs in by no address.
func byUserName(t *schemas.ResourceType, attrs map[string]any) (map[string]any, error) {
	res, err := patch.Apply(t, attrs, []patch.Operation{{Op: patch.Remove, Path: signInBy}}, schemas.Lenient)
	if err != nil {
		return nil, err
	}
	return res.Attributes, nil
}

// taken finds out which value it is that somebody else has, and who. What users sign in by
// is one namespace, which the store calls userName: it may be an address.
func (p *Provider) taken(ctx context.Context, by auth.Principal, t *schemas.ResourceType, attrs map[string]any, e *storage.UniqueError) error {
	out := &TakenError{UniqueError: *e}
	attr := t.Top(e.Attr)
	value, ok := attrs[e.Attr].(string)
	if attr == nil || !ok {
		return out
	}
	values := []string{value}
	if e.Attr == "userName" {
		values = append(values, schemas.SignInAddresses(attrs)...)
	}
	for i, v := range values {
		id, err := p.holder(ctx, by.Tenant, t, attr, v)
		if err != nil {
			return errors.Join(err, out)
		}
		if id == "" {
			continue
		}
		if i > 0 {
			out.Attr = "emails"
		}
		if !by.May(auth.Read, permitted(t)) {
			return out
		}
		names, err := p.Store.Names(ctx, by.Tenant, t.Name, id)
		if err != nil {
			return err
		}
		out.ID, out.Name = id, names[id]
		return out
	}
	return out // given up meanwhile
}

// holder returns the id of whoever has a value, as an address to sign in by too where attr
// is userName, or "".
func (p *Provider) holder(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, attr *schemas.Attribute, value string) (string, error) {
	looks := []filter.Expr{filter.EqualTo(attr, value)}
	if by := t.Lookup(signInBy); by != nil && attr.Path == "userName" {
		looks = append(looks, filter.And{filter.EqualTo(t.Lookup("emails.value"), value), filter.EqualTo(by, schemas.SignInByEmail)})
	}
	for _, look := range looks {
		r, err := p.first(ctx, tenant, t.Name, look)
		if err == nil {
			return r.ID, nil
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return "", err
		}
	}
	return "", nil
}

// restore decides about the return of a resource, and brings it back.
func (d *decision) restore(t *schemas.ResourceType, prev *storage.WholeResource, next *storage.Resource, how Restoration) error {
	if err := d.holds(&prev.Resource); err != nil {
		return err
	}
	n, groups, c, err := d.gather(prev, how)
	if err != nil {
		return err
	}
	if n.Purging {
		return storage.ErrNotFound
	}
	var back []*auth.Role
	for _, r := range c.roles() {
		if err := (auth.Effect{Subjects: []auth.Subject{{After: []*auth.Role{r.Role}}}}).Permitted(d.by); err != nil {
			return &ReturningRoleError{r, err}
		}
		back = append(back, r.Role)
	}
	d.effect.Subjects = append(d.effect.Subjects, auth.Subject{After: back, Changes: auth.AspectExistence})
	if err := d.leftOut(prev, how, back); err != nil {
		return err
	}
	d.advance = d.advance || c.watched
	if err := d.ask(); err != nil {
		return err
	}
	if err := d.tx.Restore(prev, next, !how.WithoutGroups); err != nil {
		return err
	}
	if t.Name == auth.PrincipalGroup {
		if err := d.reunite(next); err != nil {
			return err
		}
	}
	if t.Name == auth.PrincipalUser {
		if err := auth.Revive(d.tx, next.ID); err != nil {
			return err
		}
	}
	for _, g := range c.given {
		if err := d.giveBack(g, next.LastModified); err != nil {
			return err
		}
	}
	if n.item != nil {
		if err := d.tx.DeleteItem(n.item); err != nil {
			return err
		}
	}
	told, err := differing(t, prev, next)
	if err != nil {
		return err
	}
	if err := d.p.record(d.ctx, d.tx, d.by, "restore", next, nil, told); err != nil {
		return err
	}
	var came changes
	came.members(true, []string{next.ID}, 1)
	for _, g := range groups {
		g.Version, g.LastModified = g.Version+1, later(next.LastModified, g.LastModified)
		if err := d.p.record(d.ctx, d.tx, d.by, "patch", g, []string{"members"}, came); err != nil {
			return err
		}
	}
	return nil
}

// errCircle: what was above a group when it was deleted, or below it, is on the other
// side by now.
var errCircle = &Error{Status: 409, Detail: "the group would contain a group that contains it: take it out there first, or restore it without its groups"}

// reunite decides about what the return of a group means for its members, once it is
// there.
func (d *decision) reunite(group *storage.Resource) error {
	above, err := d.tx.Ancestors(group)
	if err != nil {
		return err
	}
	if slices.Contains(above, group.ID) {
		return errCircle
	}
	d.effect = auth.Effect{}
	if err := d.moves(group); err != nil {
		return err
	}
	return d.ask()
}

// leftOut notes the administrative roles that somebody had and is restored without: that
// takes them, for good, as purging would.
func (d *decision) leftOut(prev *storage.WholeResource, how Restoration, back []*auth.Role) error {
	if !how.WithoutRoles && !how.WithoutGroups {
		return nil
	}
	_, _, all, err := d.gather(prev, Restoration{})
	if err != nil {
		return err
	}
	for _, r := range all.roles() {
		if r.Role.Administrative && !slices.ContainsFunc(back, func(b *auth.Role) bool { return b.ID == r.Role.ID }) {
			d.loses([]*auth.Role{r.Role})
		}
	}
	return nil
}

// gather reads what would come back with a deleted resource.
func (d *decision) gather(prev *storage.WholeResource, how Restoration) (*deletion, []*storage.Resource, *comeback, error) {
	n, err := deletionFrom(d.tx.Item(deletionKind, prev.ID))
	if err != nil {
		return nil, nil, nil, err
	}
	var groups []*storage.Resource
	if !how.WithoutGroups {
		if groups, err = d.tx.FormerGroups(prev); err != nil {
			return nil, nil, nil, err
		}
	}
	joined := make([]storage.Membership, len(groups))
	for i, g := range groups {
		joined[i] = storage.Membership{Group: g.ID, Display: g.Name, Direct: true}
	}
	comes := *n
	if how.WithoutRoles {
		comes.Assignments = nil
	}
	c, err := d.p.comeback(d.inside(groups), d.standing, &comes, joined, d.now)
	return n, groups, c, err
}

// giveBack restores an assignment with its grant.
func (d *decision) giveBack(g givenBack, at time.Time) error {
	if err := auth.PutGrant(d.tx, nil, g.grant, g.role); err != nil {
		return err
	}
	t, w := d.p.Schemas.Type(assignmentType), g.assignment
	attrs, err := parseStored(t, &w.Resource)
	if err != nil {
		return err
	}
	next := &storage.Resource{Type: t.Name, ID: w.ID, Version: w.Version + 1, Created: w.Created, LastModified: later(at, w.LastModified), Name: w.Name,
		Doc: w.Doc, Index: d.p.Store.NewIndex(d.by.Tenant, t, attrs)}
	if err := d.tx.Restore(w, next, true); err != nil {
		return err
	}
	return d.p.record(d.ctx, d.tx, d.by, "restore", next, nil, created(t, attrs))
}

// differing tells who was restored, and under which name.
func differing(t *schemas.ResourceType, prev *storage.WholeResource, next *storage.Resource) (c changes, err error) {
	after, err := deleted(next.Doc)
	if err != nil {
		return c, err
	}
	for _, x := range after.List {
		c.Add(x.Path, nil, x.Before)
	}
	before, err := deleted(prev.Doc)
	if err != nil {
		return c, err
	}
	name := nameOf(t)
	is := func(x storage.Change) bool { return x.Path == name }
	was, now := slices.IndexFunc(before.List, is), slices.IndexFunc(c.List, is)
	if was >= 0 && now >= 0 && string(before.List[was].Before) != string(c.List[now].After) {
		c.List[now].Before = before.List[was].Before
	}
	return c, nil
}
