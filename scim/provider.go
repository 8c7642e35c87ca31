package scim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/tracing"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// Provider is the one door through which resources change: the protocol, the
// console and the command line all come through here. It checks the schema,
// asks whether the principal may, and writes the change, its audit entry and
// its event in one step. It knows no HTTP. Set the fields before the first
// call; all methods are safe for concurrent use.
type Provider struct {
	Store storage.Store
	// Schemas are the built-in resource types.
	Schemas *schemas.Set
	// Custom is what tenants define beside them; nil where they cannot.
	Custom *storage.Catalogue
	Hasher *auth.Hasher
	Now    func() time.Time
	// Observe is told of every operation: the resource type, what was done
	// (create, get, query, replace, patch, delete, restore, purge) and how it ended (ok, or the
	// scimType or status of the error). It may be nil.
	Observe func(resourceType, operation, outcome string)
	// InvitationLifetime is how long the link of an invitation is good;
	// auth.DefaultInvitationLifetime if it is zero.
	InvitationLifetime time.Duration
	// SendInvitation queues the mail to an invitee in the write that makes its link.
	// It is nil where no mail is set up: then Invite and SendAgain return the secret
	// of the link, and a client cannot invite.
	SendInvitation func(tx storage.ItemWriter, tenant storage.TenantID, m InvitationMail, now time.Time) error

	// Settle is how long a change of what a tenant defines waits for other processes to
	// know of it, DefaultSettle if it is zero.
	Settle time.Duration

	standings auth.Standings
}

func (p *Provider) allow(by auth.Principal, a auth.Act, t *schemas.ResourceType) error {
	if !by.May(a, permitted(t)) {
		return ErrForbidden
	}
	if a != auth.Read && inOkta(by, t) {
		return errOktaReads
	}
	return nil
}

// observe reports the end of an operation and returns its error.
func (p *Provider) observe(t *schemas.ResourceType, operation string, err error) error {
	if p.Observe == nil {
		return err
	}
	outcome := "ok"
	if err != nil {
		e := ErrorFor(err)
		if outcome = string(e.Type); outcome == "" {
			outcome = outcomes[e.Status]
		}
	}
	p.Observe(permitted(t), operation, outcome)
	return err
}

// observed is observe at the end of a span as well. What is done again in its turn is
// counted then.
func (p *Provider) observed(ctx context.Context, span tracing.Span, t *schemas.ResourceType, operation string, err error) error {
	if span.On() {
		span.End(err != nil && ErrorFor(err).Status >= 500)
	}
	if storage.TurnOf(ctx).Early() {
		return err
	}
	return p.observe(t, operation, err)
}

// outcomes names what has no scimType, from a small vocabulary.
var outcomes = map[int]string{
	403: "forbidden", 404: "notFound", 412: "preconditionFailed", 413: "tooLarge", 500: "error", 503: "unavailable",
}

func mode(by auth.Principal) schemas.Mode {
	return schemas.Mode(by.Profile == auth.ProfileStrict)
}

// Create stores a new resource from a decoded body (RFC 7644 §3.3) and returns
// it. The server gives the id; a user without active is active.
func (p *Provider) Create(ctx context.Context, by auth.Principal, t *schemas.ResourceType, body any) (*storage.Resource, error) {
	return p.CreateWith(ctx, by, t, body, nil)
}

// errWhole: nothing else can be written with a membership.
var errWhole = errors.New("a membership is written by itself")

// CreateWith is Create with a part of its own in the same write: also runs when the
// resource has been decided about and created. Its error undoes both, and it may run
// more than once, as storage.Store.Write says. It is not for memberships, which are
// changes of their groups.
func (p *Provider) CreateWith(ctx context.Context, by auth.Principal, t *schemas.ResourceType, body any, also func(storage.Tx, *storage.Resource) error) (*storage.Resource, error) {
	ctx, span := tracing.Start(ctx, "create", permitted(t))
	r, err := p.create(ctx, by, t, body, extra{also: also})
	return r, p.observed(ctx, span, t, "create", err)
}

// extra is what the creating of a resource may come with.
type extra struct {
	also   func(storage.Tx, *storage.Resource) error // see CreateWith
	handed *auth.Secret                              // see prepareInvitation
}

func (p *Provider) create(ctx context.Context, by auth.Principal, t *schemas.ResourceType, body any, x extra) (*storage.Resource, error) {
	if err := p.allow(by, auth.Create, t); err != nil {
		return nil, err
	}
	if t.Name == membershipType {
		if x.also != nil {
			return nil, errWhole
		}
		attrs, err := t.Bind(body, mode(by))
		if err != nil {
			return nil, err
		}
		return p.createMembership(ctx, by, t, attrs)
	}
	r, attrs, secret, err := p.newcomer(ctx, by, t, body)
	if err != nil {
		return nil, err
	}
	members, err := membersOf(takeMembers(attrs))
	if err != nil {
		return nil, err
	}
	n := newborn{by: by, t: t, r: r, attrs: attrs, secret: secret, members: members}
	if !refersLate(by, t) {
		return r, p.bear(ctx, n, x)
	}
	if n.late, err = p.lateness(ctx, by); err != nil {
		return nil, err
	}
	names := append(storage.MemberIDs(members), managerOf(attrs))
	if err := n.late.find(ctx, t.Name == auth.PrincipalGroup, names...); err != nil {
		return nil, err
	}
	return r, n.late.again(func() error { return p.bear(ctx, n, x) })
}

// newborn is a resource that is being created.
type newborn struct {
	by      auth.Principal
	t       *schemas.ResourceType
	r       *storage.Resource
	attrs   map[string]any
	secret  string
	members []storage.Member
	late    *lateness // nil where all that is referred to has to be there
	waits   []awaited // members
	manager string    // that is waited for, or ""
}

// bear writes a new resource.
func (p *Provider) bear(ctx context.Context, b newborn, x extra) error {
	by, t, r, attrs := b.by, b.t, b.r, b.attrs
	if b.late != nil {
		b.manager = b.late.manager(attrs, r.ID)
		b.members, b.waits, _ = b.late.members(b.members)
	}
	members := b.members
	then, err := p.prepare(ctx, by, t, r.ID, attrs, x.handed)
	if err != nil {
		return err
	}
	if err := p.settled(ctx, by.Tenant, t, attrs); err != nil {
		return err
	}
	if err := p.fill(by.Tenant, t, r, attrs); err != nil {
		return err
	}
	told := created(t, attrs)
	manager := ""
	if b.manager == "" {
		manager = managerToCheck(by, nil, attrs)
	}
	if manager == r.ID {
		manager = "" // their own
	}
	write := func(tx storage.Tx, d *decision) error {
		if b.late != nil {
			if err := b.late.guardAll(tx, t, attrs, r.ID, append(valuesOf(b.waits), b.manager)...); err != nil {
				return err
			}
		}
		if err := checkManager(tx, manager); err != nil {
			return b.late.overtaken(err)
		}
		r.InGroups = false
		if err := p.putNew(tx, r, b.secret, (*auth.Credential).PushPassword); err != nil {
			return err
		}
		told := told // the function may run again
		if len(members) > 0 {
			n, err := tx.AddMembers(r, members)
			if err != nil {
				return memberError(b.late.overtaken(err))
			}
			told.members(true, storage.MemberIDs(members), n)
			for _, m := range members {
				d.subject(m.Value, auth.AspectMembership)
			}
			if err := d.ask(); err != nil {
				return err
			}
		}
		if then != nil {
			if err := then(d); err != nil {
				return err
			}
		}
		if err := p.record(ctx, tx, by, "create", r, nil, told); err != nil {
			return err
		}
		if b.late != nil {
			if err := b.late.born(d, b); err != nil {
				return err
			}
		}
		if x.also == nil {
			return nil
		}
		return x.also(tx, r)
	}
	if len(members) == 0 && then == nil && b.late == nil {
		// Nobody is touched who was there before, and nobody has a role by this.
		return p.write(ctx, by.Tenant, func(tx storage.Tx) error { return write(tx, nil) })
	}
	return p.withStanding(ctx, by, func(s *auth.Standing) error {
		return p.write(ctx, by.Tenant, func(tx storage.Tx) error {
			if len(members) > 0 {
				if err := p.current(ctx, by, s); err != nil {
					return err
				}
			}
			return write(tx, p.decide(ctx, tx, by, s, r.Created))
		})
	})
}

// newcomer reads a new resource out of a decoded body: with its attributes, and a hash
// of the password, or "".
func (p *Provider) newcomer(ctx context.Context, by auth.Principal, t *schemas.ResourceType, body any) (r *storage.Resource, attrs map[string]any, secret string, err error) {
	if attrs, err = t.Bind(body, mode(by)); err != nil {
		return nil, nil, "", err
	}
	if secret, err = p.takePassword(ctx, by, attrs); err != nil {
		return nil, nil, "", err
	}
	if !t.Custom && t.Top("active") != nil && attrs["active"] == nil {
		attrs["active"] = true // so that a filter for it finds everyone who is
	}
	dropManagerRef(t, nil, attrs)
	if t.Name == auth.PrincipalUser {
		if err := p.wellWorded(ctx, by.Tenant, nil, attrs); err != nil {
			return nil, nil, "", err
		}
	}
	r, err = p.newResource(t)
	return r, attrs, secret, err
}

// newResource is the first version of a resource, under a new id.
func (p *Provider) newResource(t *schemas.ResourceType) (*storage.Resource, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	now := p.now()
	return &storage.Resource{Type: t.Name, ID: id.String(), Version: 1, Created: now, LastModified: now}, nil
}

// putNew writes a new resource, with the hash of a password if it has one, which set
// takes down as what it is.
func (p *Provider) putNew(tx storage.Tx, r *storage.Resource, secret string, set func(*auth.Credential, string, time.Time)) error {
	if err := tx.Create(r); err != nil || secret == "" {
		return err
	}
	var c auth.Credential
	set(&c, secret, r.Created)
	return auth.SaveCredential(tx, r.ID, &c)
}

// now is in whole milliseconds, as stored.
func (p *Provider) now() time.Time { return p.Now().UTC().Truncate(time.Millisecond) }

// fill derives from the attribute tree what is stored, unless that is too much, or says
// what the schema alone does not refuse.
func (p *Provider) fill(tenant storage.TenantID, t *schemas.ResourceType, r *storage.Resource, attrs map[string]any) error {
	if err := checkSize(t, attrs); err != nil {
		return err
	}
	if t.Top(schemas.RosterUserURI) != nil {
		if err := completeUser(attrs); err != nil {
			return err
		}
	}
	attrs["id"] = r.ID
	r.Name = storage.NameOf(attrs)
	r.Doc = t.Document(attrs)
	if err := checkDocument(t, attrs, r.Doc); err != nil {
		return err
	}
	r.Index = p.Store.NewIndex(tenant, t, attrs)
	return nil
}

// record writes the audit entry of a change, which is its event as well.
func (p *Provider) record(ctx context.Context, tx storage.Tx, by auth.Principal, action string, r *storage.Resource, attributes []string, c changes) error {
	e := by.Entry(ctx, r.LastModified, p.action(r.Type, action), r.Type, r.ID)
	e.Version, e.Attributes, e.Changes = r.Version, attributes, c.whole()
	return tx.Audit(e)
}

// action is what the audit trail calls something done to a resource: user.create. Those of
// types that tenants define are all called resources, lest one of them is taken for something else.
func (p *Provider) action(typ, what string) string {
	if p.Schemas.Type(typ) == nil {
		return "resource." + what
	}
	return strings.ToLower(typ) + "." + what
}

// Get returns a resource.
func (p *Provider) Get(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) (*storage.Resource, error) {
	ctx, span := tracing.Start(ctx, "get", permitted(t))
	r, err := p.get(ctx, by, t, id)
	return r, p.observed(ctx, span, t, "get", err)
}

func (p *Provider) get(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string) (*storage.Resource, error) {
	if err := p.allowOn(by, auth.Read, t, id); err != nil {
		return nil, err
	}
	if t.Name == membershipType {
		return p.getMembership(ctx, by, t, id)
	}
	if !ours(id) {
		return nil, storage.ErrNotFound
	}
	if r := builtIn(t, id); r != nil && !inOkta(by, t) {
		return builtInResource(t, r), nil
	}
	r, err := p.Store.Get(ctx, by.Tenant, t.Name, id)
	if err == nil && t.Name == roleType && inOkta(by, t) {
		err = p.business(r)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// ours reports whether id has the form of the ids this server gives: what has
// another one need not be looked for.
func ours(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := 0; i < len(id); i++ {
		switch c := id[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
		case c == '-' && (i == 8 || i == 13 || i == 18 || i == 23):
		default:
			return false
		}
	}
	return true
}

// Query selects resources of one type.
func (p *Provider) Query(ctx context.Context, by auth.Principal, t *schemas.ResourceType, q storage.Query) (*storage.Page, error) {
	ctx, span := tracing.Start(ctx, "query", permitted(t))
	err := p.allow(by, auth.Read, t)
	var page *storage.Page
	if err == nil {
		err = p.searchable(ctx, by.Tenant, t, q)
	}
	if err == nil {
		page, err = p.query(ctx, by, t, q)
	}
	return page, p.observed(ctx, span, t, "query", err)
}

// Replace puts a decoded body in the place of a resource (RFC 7644 §3.5.1).
// What the body leaves out is cleared, except active, the password, and the
// members of a group, which an empty list clears.
func (p *Provider) Replace(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, body any) (*storage.Resource, error) {
	ctx, span := tracing.Start(ctx, "replace", permitted(t))
	r, err := p.replace(ctx, by, t, id, pre, body)
	return r, p.observed(ctx, span, t, "replace", err)
}

func (p *Provider) replace(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, body any) (*storage.Resource, error) {
	if err := p.allowOn(by, auth.Update, t, id); err != nil {
		return nil, err
	}
	_, givenMembers := schemas.Field(body, "members")
	bound, err := t.Bind(body, mode(by))
	if err != nil {
		return nil, err
	}
	secret, err := p.takePassword(ctx, by, bound)
	if err != nil {
		return nil, err
	}
	c := change{action: "replace", password: secret}
	members := takeMembers(bound)
	if givenMembers && t.Top("members") != nil {
		c.members = []patch.MemberChange{{Kind: patch.ReplaceMembers, Operation: -1, Members: members}}
	}
	return p.update(ctx, by, t, id, pre, func(_ *storage.Resource, attrs map[string]any) (change, error) {
		next := maps.Clone(bound) // this may run again
		if v, ok := attrs["active"]; ok && next["active"] == nil && !t.Custom {
			next["active"] = v
		}
		keepType(t, attrs, next)
		if err := t.KeepImmutable(attrs, next); err != nil {
			return change{}, err
		}
		c.attrs = next
		return c, nil
	})
}

// storedPassword stands in the tree given to a PATCH for the password that is
// not in the document, so that removing it can be told from leaving it alone.
// No password a client sends contains U+0000.
const storedPassword = "\x00stored"

// Patch applies operations to a resource in one step (RFC 7644 §3.5.2) and
// returns the result. When they change nothing, the version stays.
func (p *Provider) Patch(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, ops []patch.Operation) (*storage.Resource, error) {
	ctx, span := tracing.Start(ctx, "patch", permitted(t))
	r, err := p.patch(ctx, by, t, id, pre, ops)
	return r, p.observed(ctx, span, t, "patch", err)
}

func (p *Provider) patch(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, ops []patch.Operation) (*storage.Resource, error) {
	if err := p.allowOn(by, auth.Update, t, id); err != nil {
		return nil, err
	}
	hashed := map[string]string{} // hashing is slow, and the function below may run again inside the write
	return p.update(ctx, by, t, id, pre, func(_ *storage.Resource, attrs map[string]any) (change, error) {
		if t.Top("password") != nil {
			attrs["password"] = storedPassword
		}
		res, err := patch.Apply(t, attrs, ops, mode(by))
		delete(attrs, "password")
		if err != nil {
			return change{}, err
		}
		c := change{action: "patch", attrs: res.Attributes, members: res.Members}
		switch pw, ok := c.attrs["password"].(string); {
		case by.Kind == auth.User && pw != storedPassword && t.Top("password") != nil:
			return change{}, errOwnPassword
		case !ok && t.Top("password") != nil:
			stored, err := auth.FindCredential(ctx, p.Store, by.Tenant, id)
			if err != nil {
				return change{}, err
			}
			c.noPassword = stored.PasswordHash != ""
		case ok && pw != storedPassword:
			if hashed[pw] == "" {
				if hashed[pw], err = p.Hasher.Hash(ctx, pw); err != nil {
					return change{}, err
				}
			}
			c.password = hashed[pw]
		}
		delete(c.attrs, "password")
		return c, nil
	})
}

// Delete removes a resource (RFC 7644 §3.6): it is gone for everyone at once,
// its names are free, and it waits out of sight until it is purged.
func (p *Provider) Delete(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition) error {
	return p.DeleteWith(ctx, by, t, id, pre, nil)
}

// DeleteWith is Delete with a part of its own in the same write, as in CreateWith.
func (p *Provider) DeleteWith(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, also func(storage.Tx) error) error {
	ctx, span := tracing.Start(ctx, "delete", permitted(t))
	return p.observed(ctx, span, t, "delete", p.delete(ctx, by, t, id, pre, also))
}

func (p *Provider) delete(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, also func(storage.Tx) error) error {
	if err := p.allow(by, auth.Delete, t); err != nil {
		return err
	}
	if t.Name == membershipType {
		if also != nil {
			return errWhole
		}
		return p.deleteMembership(ctx, by, t, id, pre)
	}
	if !ours(id) {
		return storage.ErrNotFound
	}
	if builtIn(t, id) != nil {
		return errBuiltIn
	}
	var leaving reassignment
	var err error
	switch t.Name {
	case auth.PrincipalUser:
		leaving, err = p.leaving(ctx, by.Tenant, id)
	case roleType, entitlementType:
		leaving, err = p.wordless(ctx, by.Tenant, t, id)
	}
	if err != nil {
		return err
	}
	if err := leaving.settled(ctx, p, by.Tenant); err != nil {
		return err
	}
	err = p.withStanding(ctx, by, func(s *auth.Standing) error {
		return p.write(ctx, by.Tenant, func(tx storage.Tx) error {
			r, err := tx.Get(t.Name, id)
			if err != nil {
				return err
			}
			if err := pre.check(r); err != nil {
				return err
			}
			r.LastModified = p.now()
			d := p.decide(ctx, tx, by, s, r.LastModified)
			if err := d.holds(r); err != nil {
				return err
			}
			costs, err := d.costs(r)
			if err != nil {
				return err
			}
			return d.keep(costs, func() error {
				if err := stopWaiting(tx, r); err != nil {
					return err
				}
				var err error
				if d.reports, err = d.reassign(leaving); err != nil {
					return err
				}
				if err := d.delete(r); err != nil || also == nil {
					return err
				}
				return also(tx)
			})
		})
	})
	if err == nil && t.Name == auth.PrincipalUser {
		_ = p.left(ctx, by, id) // the user is deleted in any case, and purging does it again
	}
	return err
}

// delete removes a resource with all that goes with it, if that is permitted.
func (d *decision) delete(r *storage.Resource) error {
	groups, err := d.tx.MemberOf(r)
	if err != nil {
		return err
	}
	if err := d.remove(r); err != nil {
		return err
	}
	if err := d.ask(); err != nil {
		return err
	}
	if err := d.erase(r); err != nil {
		return err
	}
	var left changes
	left.members(false, []string{r.ID}, 1)
	for _, g := range groups {
		g.Version, g.LastModified = g.Version+1, r.LastModified
		if err := d.p.record(d.ctx, d.tx, d.by, "patch", g, []string{"members"}, left); err != nil {
			return err
		}
	}
	return nil
}

// erase deletes a resource and records it.
func (d *decision) erase(r *storage.Resource) error {
	if err := d.tx.Delete(r, r.LastModified); err != nil {
		return err
	}
	told, err := deleted(r.Doc)
	if err != nil {
		return err
	}
	return d.p.record(d.ctx, d.tx, d.by, "delete", r, nil, told)
}

// change is what a PUT or PATCH comes to.
type change struct {
	action     string
	attrs      map[string]any // the whole tree afterwards
	members    []patch.MemberChange
	password   string // a hash to store, if not empty
	noPassword bool   // the password is removed
}

// A change of a resource that is larger than heavyDocument takes too long to be
// computed inside a write, where everybody else waits for it: up to milliseconds
// for each KiB, when a PATCH has as many operations with filters as it may. One
// that was overtaken is begun again outside, attempts times in all.
const (
	heavyDocument = 16 << 10
	attempts      = 5
)

// errOvertaken: a heavy resource has changed meanwhile.
var errOvertaken = fmt.Errorf("%w: the resource kept changing", storage.ErrUnavailable)

// update reads a resource, computes its next state, and writes that unless the
// resource changed meanwhile; then it computes again inside the write, where
// nothing can come between. A resource with members is only read inside: what its
// member changes come to is counted there in any case, and its document is small.
func (p *Provider) update(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition,
	compute func(*storage.Resource, map[string]any) (change, error)) (*storage.Resource, error) {
	if t.Name == membershipType {
		return nil, errFixed
	}
	if !ours(id) {
		return nil, storage.ErrNotFound
	}
	if builtIn(t, id) != nil {
		return nil, errBuiltIn
	}
	u := update{p: p, t: t, by: by, pre: pre, compute: compute}
	for attempt := 1; ; attempt++ {
		var r *storage.Resource
		var err error
		if refersLate(by, t) {
			if u.late, err = p.lateness(ctx, by); err != nil {
				return nil, err
			}
		}
		try := func() error {
			return p.withStanding(ctx, by, func(s *auth.Standing) (err error) {
				u.standing = s
				r, err = u.attempt(ctx, id)
				return err
			})
		}
		if u.late != nil {
			err = u.late.again(try)
		} else {
			err = try()
		}
		if !errors.Is(err, errOvertaken) || attempt == attempts {
			return r, err
		}
	}
}

// attempt reads, computes and writes.
func (u update) attempt(ctx context.Context, id string) (*storage.Resource, error) {
	p, t, by := u.p, u.t, u.by
	if m := t.Top("members"); m != nil && m.Detached {
		if u.late != nil {
			if err := u.look(ctx, id); err != nil {
				return nil, err
			}
		}
		first := u
		err := p.write(ctx, by.Tenant, func(tx storage.Tx) error {
			u = first
			return u.inside(ctx, tx, id)
		})
		if err != nil {
			return nil, err
		}
		return u.next, nil
	}
	read, err := p.Store.GetToChange(ctx, by.Tenant, t.Name, id)
	if err != nil {
		return nil, err
	}
	if err := u.prepare(ctx, read); err != nil {
		return nil, err
	}
	heavy := max(len(read.Doc), len(u.next.Doc)) > heavyDocument
	if u.nothing() {
		return read, nil
	}
	first := u
	err = p.write(ctx, by.Tenant, func(tx storage.Tx) error {
		u = first
		err := u.write(ctx, tx)
		switch {
		case !errors.Is(err, storage.ErrConflict):
			return err
		case heavy:
			return errOvertaken
		}
		return u.inside(ctx, tx, id)
	})
	if err != nil {
		return nil, err
	}
	return u.next, nil
}

// update is one PUT or PATCH under way.
type update struct {
	p       *Provider
	t       *schemas.ResourceType
	by      auth.Principal
	pre     Precondition
	compute func(*storage.Resource, map[string]any) (change, error)

	prev, next *storage.Resource
	change     change
	changed    []string        // attribute paths
	values     changes         // of these
	above      map[string]bool // the groups that this one belongs to; nil until somebody asks
	standing   *auth.Standing
	then       func(*decision) error // what else follows from the change; may be nil
	d          *decision
	own        bool   // of oneself, and needs no permission
	manager    string // that is new, and has to be a user; "" for none

	late   *lateness // nil where all that is referred to has to be there
	within bool      // the write has begun
	waits  string    // the manager who is waited for, or ""
	renews bool      // who is not waited for any more, and is sent again
	// came and went are the members that a group waits for from now on, and no longer.
	came, went []string
}

// inside reads the resource in the write, where it stays as it is, computes its
// next state and writes that.
func (u *update) inside(ctx context.Context, tx storage.Tx, id string) error {
	prev, err := tx.Get(u.t.Name, id)
	if err != nil {
		return err
	}
	u.within = true
	if err := u.prepare(ctx, prev); err != nil {
		return err
	}
	return u.write(ctx, tx)
}

// prepare computes the next state from prev.
func (u *update) prepare(ctx context.Context, prev *storage.Resource) error {
	if err := u.pre.check(prev); err != nil {
		return err
	}
	attrs, err := parseStored(u.t, prev)
	if err != nil {
		return err
	}
	if u.t.Unknown(attrs) {
		return errChanging
	}
	if u.change, err = u.compute(prev, attrs); err != nil {
		return err
	}
	if err := u.p.settled(ctx, u.by.Tenant, u.t, attrs, u.change.attrs); err != nil {
		return err
	}
	next := &storage.Resource{Type: prev.Type, ID: prev.ID, Version: prev.Version + 1, Created: prev.Created,
		LastModified: later(u.p.now(), prev.LastModified), InGroups: prev.InGroups}
	dropManagerRef(u.t, attrs, u.change.attrs)
	if err := u.lookForManager(ctx, attrs, prev.ID); err != nil {
		return err
	}
	if u.then, err = u.p.reprepare(ctx, u.by, u.t, attrs, u.change.attrs, prev.ID); err != nil {
		return err
	}
	if err := u.p.fill(u.by.Tenant, u.t, next, u.change.attrs); err != nil {
		return err
	}
	if u.manager = managerToCheck(u.by, attrs, u.change.attrs); u.manager == prev.ID || u.waits != "" {
		u.manager = "" // their own: this write reads them anyway
	}
	u.changed, u.values = differences(u.t, attrs, u.change.attrs)
	if u.change.password != "" || u.change.noPassword {
		u.changed = append(u.changed, "password")
		u.values.Add("password", nil, nil)
	}
	u.prev, u.next = prev, next
	return nil
}

// later keeps lastModified from going back when the clock does.
func later(now, last time.Time) time.Time {
	if now.Before(last) {
		return last
	}
	return now
}

func (u *update) nothing() bool {
	return !u.renews && bytes.Equal(u.prev.Doc, u.next.Doc) && len(u.change.members) == 0 && u.change.password == "" && !u.change.noPassword
}

// write decides about the change and writes it.
func (u *update) write(ctx context.Context, tx storage.Tx) error {
	u.d = u.p.decide(ctx, tx, u.by, u.standing, u.p.now())
	if err := u.d.holds(u.prev); err != nil {
		return err
	}
	if err := u.allowOwn(); err != nil {
		return err
	}
	touched := aspects(u.t, u.changed)
	if touched != 0 {
		u.d.subject(u.prev.ID, touched)
	}
	costs := (touched&(auth.AspectActive|auth.AspectCredentials) != 0 || len(u.change.members) > 0) && u.d.global(u.prev.ID)
	return u.d.keep(costs, func() error { return u.apply(ctx, tx) })
}

// apply writes the change.
func (u *update) apply(ctx context.Context, tx storage.Tx) error {
	same := bytes.Equal(u.prev.Doc, u.next.Doc)
	if err := u.guard(tx); err != nil {
		return err
	}
	rows := 0
	for _, m := range u.change.members {
		waited := len(u.went)
		n, err := u.changeMembers(tx, m)
		if err != nil {
			return inOperation(m, err)
		}
		if n == 0 && len(u.went) == waited && m.Kind != patch.AddMembers && m.Kind != patch.ReplaceMembers && mode(u.by) == schemas.Strict {
			return &patch.Error{Index: m.Operation, Path: "members", Kind: patch.NoTarget, Msg: "no value matches the filter"}
		}
		rows += n
	}
	if rows > 0 {
		u.changed = append(u.changed, "members")
		u.d.subject(u.prev.ID, auth.AspectMembership)
	}
	if same && rows == 0 && u.change.password == "" && !u.change.noPassword {
		u.next = u.prev
		if u.renews {
			if err := u.late.waitFor(tx, u.prev.ID, u.waits, u.d.now); err != nil {
				return err
			}
			u.came = append(u.came, u.waits)
		}
		if len(u.came)+len(u.went) > 0 {
			if err := u.d.ask(); err != nil {
				return err
			}
		}
		return u.d.tellWaiting(u.prev, u.came, u.went)
	}
	if u.then == nil && !u.own {
		if err := u.d.ask(); err != nil {
			return err
		}
	}
	if err := checkManager(tx, u.manager); err != nil {
		return u.late.overtaken(err)
	}
	next := u.next
	if same {
		short := *next
		short.Doc, short.Index = nil, nil
		next = &short
	}
	if err := tx.Update(u.prev, next); err != nil {
		return err
	}
	if u.change.password != "" || u.change.noPassword {
		n, err := auth.WritePassword(tx, u.prev.ID, u.change.password, u.next.LastModified)
		if err != nil {
			return err
		}
		if err := u.d.sessionsEnded(n, u.prev.ID, u.next.LastModified); err != nil {
			return err
		}
	} else if u.endsSessions() {
		if err := u.d.endSessions(u.prev.ID, u.next.LastModified); err != nil {
			return err
		}
		if err := u.d.endInvitations(u.prev.ID, auth.InviterBlocked, u.next.LastModified); err != nil {
			return err
		}
	}
	if u.then != nil {
		if err := u.then(u.d); err != nil {
			return err
		}
	}
	if err := u.p.record(ctx, tx, u.by, u.change.action, u.next, u.changed, u.values); err != nil {
		return err
	}
	if err := u.d.tellWaiting(u.next, u.came, u.went); err != nil || u.late == nil {
		return err
	}
	return u.late.changed(u)
}

// inOperation says which operation of a PATCH brought a value that is wrong.
func inOperation(c patch.MemberChange, err error) error {
	v, ok := errors.AsType[*schemas.ValueError](err)
	if !ok || c.Operation < 0 {
		return err
	}
	operation, path := c.Operation, v.Path
	var i int
	if n, _ := fmt.Sscanf(path, memberPathFormat, &i); n == 1 {
		operation, i = c.Origin(i)
		path = memberPath(i)
	}
	return &patch.Error{Index: operation, Path: path, Kind: patch.InvalidValue, Msg: v.Msg}
}

// endsSessions reports whether the change signs the user out because it blocks
// sign-in. A new password does so by itself.
func (u *update) endsSessions() bool {
	return u.t.Top("password") != nil && slices.Contains(u.changed, "active") && u.change.attrs["active"] == false
}

// changeMembers does one change of members and returns how many rows it touched.
func (u *update) changeMembers(tx storage.Tx, c patch.MemberChange) (int, error) {
	members, err := membersOf(c.Members)
	if err != nil {
		return 0, err
	}
	all, sent := members, members
	var waits []awaited
	if u.late != nil {
		members, waits, all = u.late.members(members)
	}
	if c.Kind == patch.AddMembers || c.Kind == patch.ReplaceMembers {
		if err := u.noCycle(tx, all); err != nil {
			return 0, err
		}
	}
	ids := storage.MemberIDs(members)
	carried, err := u.d.carried(u.prev.ID, func() ([]string, error) { return u.ancestors(tx) })
	if err != nil {
		return 0, err
	}
	if c.Kind == patch.RemoveMembers {
		n, err := u.remove(tx, members, carried)
		if err == nil && (n < len(sent) || u.late != nil) {
			err = u.changeWaiting(tx, c, sent, waits, carried)
		}
		return n, err
	}
	if err := u.changeWaiting(tx, c, sent, waits, carried); err != nil {
		return 0, err
	}
	switch c.Kind {
	case patch.AddMembers:
		n, err := u.each(members, func(portion []storage.Member) (int, error) { return tx.AddMembers(u.prev, portion) },
			func(id string) { u.d.joins(id, carried) }, carried)
		return u.moved(true, ids, n, memberError(u.late.overtaken(err)))
	case patch.ReplaceMembers:
		if err := u.replaced(tx, members, carried); err != nil {
			return 0, err
		}
		before, few, err := membersBefore(tx, u.prev)
		if err != nil {
			return 0, err
		}
		n, err := tx.SetMembers(u.prev, members)
		if err == nil && n > 0 {
			u.values.set(before, few, ids, n)
		}
		return n, memberError(u.late.overtaken(err))
	}
	ids = nil
	err = tx.EachMember(u.prev, func(m storage.Member) error {
		if c.Where.Match(map[string]any{"value": m.Value, "type": m.Type, "display": m.Display}) {
			ids = append(ids, m.Value)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	gone := make([]storage.Member, len(ids))
	for i, id := range ids {
		gone[i].Value = id
	}
	return u.remove(tx, gone, carried)
}

// moved notes the members that came or went, if there are any.
func (u *update) moved(came bool, ids []string, n int, err error) (int, error) {
	if err == nil && n > 0 {
		u.values.members(came, ids, n)
	}
	return n, err
}

// remove takes members out of the group.
func (u *update) remove(tx storage.Tx, members []storage.Member, carried []*auth.Role) (int, error) {
	n, err := u.each(members, func(portion []storage.Member) (int, error) {
		return tx.RemoveMembers(u.prev, storage.MemberIDs(portion))
	}, func(id string) { u.d.leaves(id, carried) }, carried)
	return u.moved(false, storage.MemberIDs(members), n, err)
}

// each does something to members, to those with an administrative role one at a time:
// whether it changes anything for them matters. noted is told of those for whom it
// does; where the group carries roles, of one at least.
func (u *update) each(members []storage.Member, do func([]storage.Member) (int, error), noted func(string), carried []*auth.Role) (int, error) {
	rest := members
	total := 0
	if slices.ContainsFunc(members, func(m storage.Member) bool { return u.d.privileged(m.Value) }) {
		rest = nil
		for i, m := range members {
			if !u.d.privileged(m.Value) {
				rest = append(rest, m)
				continue
			}
			n, err := do(members[i : i+1])
			if err != nil {
				return total, at(err, i)
			}
			if n > 0 {
				noted(m.Value)
			}
			total += n
		}
	}
	if len(rest) == 0 {
		return total, nil
	}
	n, err := do(rest)
	if n > 0 && len(carried) > 0 {
		noted(rest[0].Value)
	}
	return total + n, err
}

// at puts the place in the whole list into an error about a list of one.
func at(err error, i int) error {
	if e, ok := errors.AsType[*storage.UnknownMemberError](err); ok {
		return &storage.UnknownMemberError{Index: i + e.Index}
	}
	return err
}

// replaced notes who joins and who leaves when members are put in the place of those
// there are. Nobody is looked at unless somebody with an administrative role is, or
// comes, or the group carries roles.
func (u *update) replaced(tx storage.Tx, members []storage.Member, carried []*auth.Role) error {
	coming := make(map[string]bool, len(members))
	privileged := false
	for _, m := range members {
		coming[m.Value] = true
		privileged = privileged || u.d.privileged(m.Value)
	}
	if !privileged && len(carried) == 0 && !u.standing.Inside(u.prev.ID) {
		return nil
	}
	left := false
	err := tx.EachMember(u.prev, func(m storage.Member) error {
		switch {
		case coming[m.Value]:
			delete(coming, m.Value)
		case u.d.privileged(m.Value):
			u.d.leaves(m.Value, carried)
		default:
			left = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if left {
		u.d.loses(carried)
	}
	for id := range coming {
		u.d.joins(id, nil)
	}
	if len(coming) > 0 {
		u.d.gains(carried)
	}
	return nil
}

// ancestors returns the groups that this one is in, directly or through others.
func (u *update) ancestors(tx storage.Tx) ([]string, error) {
	if err := u.lookAbove(tx); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(u.above)), nil
}

func (u *update) lookAbove(tx storage.Tx) error {
	if u.above != nil {
		return nil
	}
	ids, err := tx.Ancestors(u.prev)
	if err != nil {
		return err
	}
	u.above = make(map[string]bool, len(ids))
	for _, id := range ids {
		u.above[id] = true
	}
	return nil
}

// noCycle refuses members that contain the group they would be in. It looks at
// the groups above, of which there are few, and at no member of any. Changing
// the members of a group does not change what is above it, so one look does for
// all the operations of a PATCH.
func (u *update) noCycle(tx storage.Tx, members []storage.Member) error {
	if len(members) == 0 {
		return nil
	}
	if err := u.lookAbove(tx); err != nil {
		return err
	}
	for i, m := range members {
		switch {
		case m.Value == u.prev.ID:
			return &schemas.ValueError{Path: memberPath(i), Msg: "a group cannot be a member of itself"}
		case u.above[m.Value]:
			return &schemas.ValueError{Path: memberPath(i), Msg: "this group contains the one it would become a member of"}
		}
	}
	return nil
}

const memberPathFormat = "members[%d].value"

func memberPath(i int) string { return fmt.Sprintf(memberPathFormat, i) }

// memberError says which of the given members does not exist.
func memberError(err error) error {
	if e, ok := errors.AsType[*storage.UnknownMemberError](err); ok {
		return &schemas.ValueError{Path: memberPath(e.Index), Msg: "no user or group has this id"}
	}
	return err
}

// errOwnPassword: what people are given is temporary, and they choose what follows
// themselves, where the policy holds. Identity providers judge passwords themselves.
var errOwnPassword = &Error{Status: 403, Detail: "password: people choose their own at /auth/v1/password, and are given temporary ones at /admin/v1"}

// takePassword takes the password out of a tree and returns its hash, or "".
func (p *Provider) takePassword(ctx context.Context, by auth.Principal, attrs map[string]any) (string, error) {
	pw, ok := attrs["password"].(string)
	delete(attrs, "password")
	if ok && by.Kind == auth.User {
		return "", errOwnPassword
	}
	if !ok {
		return "", nil
	}
	return p.Hasher.Hash(ctx, pw)
}

// takeMembers takes the members out of a tree.
func takeMembers(attrs map[string]any) []map[string]any {
	list, _ := attrs["members"].([]any)
	delete(attrs, "members")
	elements := make([]map[string]any, len(list))
	for i, e := range list {
		elements[i] = e.(map[string]any)
	}
	return elements
}

func membersOf(elements []map[string]any) ([]storage.Member, error) {
	members := make([]storage.Member, len(elements))
	for i, e := range elements {
		m := &members[i]
		m.Value, _ = e["value"].(string)
		m.Display, _ = e["display"].(string)
		if m.Value == "" {
			return nil, &schemas.ValueError{Path: memberPath(i), Msg: "is required"}
		}
	}
	return members, nil
}
