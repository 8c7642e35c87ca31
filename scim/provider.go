package scim

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

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
	// (create, get, query, replace, patch, delete, restore, purge) and how it ended (ok, the
	// scimType of the error, or a name for its status where it has none). It may be nil.
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

// allowPerson asks for a permission that no client has: of a person who has given a
// passcode, or of an operator.
func allowPerson(by auth.Principal, needs auth.Permission) error {
	switch {
	case by.Tenant == "":
	case by.Kind == auth.Operator, by.Kind == auth.User && by.ID != "" && by.Level >= auth.MFA && by.Permissions.Has(needs):
		return nil
	}
	return ErrForbidden
}

// observe reports the end of an operation and returns its error.
func (p *Provider) observe(t *schemas.ResourceType, operation string, err error) error {
	if p.Observe == nil {
		return err
	}
	outcome := "ok"
	if err != nil {
		e := ErrorFor(err)
		outcome = cmp.Or(string(e.Type), outcomes[e.Status], outcomes[http.StatusInternalServerError])
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
	401: "unauthorized", 403: "forbidden", 404: "notFound", 409: "conflict", 412: "preconditionFailed", 413: "tooLarge",
	500: "error", 501: "notImplemented", 503: "unavailable",
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

func (p *Provider) now() time.Time { return storage.Milli(p.Now()) }

// fill derives from the attribute tree what is stored, unless that is too much, or says
// what the schema alone does not refuse.
func (p *Provider) fill(tenant storage.TenantID, t *schemas.ResourceType, r *storage.Resource, attrs map[string]any) error {
	if t.Top(schemas.RosterUserURI) != nil {
		if err := completeUser(attrs); err != nil {
			return err
		}
	}
	attrs["id"] = r.ID
	r.Name = storage.NameOf(attrs)
	r.Doc = t.Document(attrs)
	if err := checkSize(t, attrs, r.Doc); err != nil {
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
func ours(id string) bool { return storage.IsID(id) }

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
// What the body leaves out is cleared, except active, the password, what is
// immutable, and the members of a group, which an empty list clears.
func (p *Provider) Replace(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, body any) (*storage.Resource, error) {
	ctx, span := tracing.Start(ctx, "replace", permitted(t))
	r, err := p.replace(ctx, by, t, id, pre, body)
	return r, p.observed(ctx, span, t, "replace", err)
}

// Patch applies operations to a resource in one step (RFC 7644 §3.5.2) and
// returns the result. When they change nothing, the version stays.
func (p *Provider) Patch(ctx context.Context, by auth.Principal, t *schemas.ResourceType, id string, pre Precondition, ops []patch.Operation) (*storage.Resource, error) {
	ctx, span := tracing.Start(ctx, "patch", permitted(t))
	r, err := p.patch(ctx, by, t, id, pre, ops)
	return r, p.observed(ctx, span, t, "patch", err)
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
