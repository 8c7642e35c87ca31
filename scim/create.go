package scim

import (
	"context"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// How a resource is created: what is read out of a body, what is made ready before the
// write, and what is written with it.

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
	if refersLate(by, t) {
		if n.late, err = p.lateness(ctx, by); err != nil {
			return nil, err
		}
		names := append(storage.MemberIDs(members), managerOf(attrs))
		if err := n.late.find(ctx, t.Name == auth.PrincipalGroup, names...); err != nil {
			return nil, err
		}
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
	refers  string    // the manager who has to be there, or ""
	told    changes
	then    func(*decision) error // what else follows from it; may be nil
}

// bear writes a new resource.
func (p *Provider) bear(ctx context.Context, b newborn, x extra) (err error) {
	t, r, attrs := b.t, b.r, b.attrs
	defer func() { err = signInTaken(err, attrs, true) }()
	if b.late != nil {
		b.manager = b.late.manager(attrs, r.ID)
		b.members, b.waits, _ = b.late.members(b.members)
	}
	if b.then, err = p.prepare(ctx, b.by, t, r.ID, attrs, x.handed); err != nil {
		return err
	}
	if err := p.settled(ctx, b.by.Tenant, t, attrs); err != nil {
		return err
	}
	if err := p.fill(b.by.Tenant, t, r, attrs); err != nil {
		return err
	}
	b.told = created(t, attrs)
	if b.manager == "" {
		b.refers = managerToCheck(b.by, nil, attrs)
	}
	if b.refers == r.ID {
		b.refers = "" // their own
	}
	if len(b.members) == 0 && b.then == nil && b.late == nil {
		// Nobody is touched who was there before, and nobody has a role by this.
		return p.write(ctx, b.by.Tenant, func(tx storage.Tx) error { return b.write(ctx, p, tx, nil, x) })
	}
	return p.withStanding(ctx, b.by, func(s *auth.Standing) error {
		return p.write(ctx, b.by.Tenant, func(tx storage.Tx) error {
			if len(b.members) > 0 {
				if err := p.current(ctx, b.by, s); err != nil {
					return err
				}
			}
			return b.write(ctx, p, tx, p.decide(ctx, tx, b.by, s, r.Created), x)
		})
	})
}

// write is what bear does in the write, which may run again. d is nil where nothing has to
// be decided.
func (b newborn) write(ctx context.Context, p *Provider, tx storage.Tx, d *decision, x extra) error {
	if b.late != nil {
		if err := b.late.guardAll(tx, b.t, b.attrs, b.r.ID, append(valuesOf(b.waits), b.manager)...); err != nil {
			return err
		}
	}
	if err := checkManager(tx, b.refers); err != nil {
		return b.late.overtaken(err)
	}
	b.r.InGroups = false
	if err := p.putNew(tx, b.r, b.secret, (*auth.Credential).PushPassword); err != nil {
		return err
	}
	if len(b.members) > 0 {
		n, err := tx.AddMembers(b.r, b.members)
		if err != nil {
			return memberError(b.late.overtaken(err))
		}
		b.told.members(true, storage.MemberIDs(b.members), n)
		for _, m := range b.members {
			d.subject(m.Value, auth.AspectMembership)
		}
		if err := d.ask(); err != nil {
			return err
		}
	}
	if b.then != nil {
		if err := b.then(d); err != nil {
			return err
		}
	}
	if err := p.record(ctx, tx, b.by, "create", b.r, nil, b.told); err != nil {
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
	return x.also(tx, b.r)
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
	return p.newResource(t), attrs, secret, nil
}

// newResource is the first version of a resource, under a new id.
func (p *Provider) newResource(t *schemas.ResourceType) *storage.Resource {
	now := p.now()
	return &storage.Resource{Type: t.Name, ID: storage.NewID(), Version: 1, Created: now, LastModified: now}
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
