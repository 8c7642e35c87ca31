package scim

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Invitee is what whoever holds the link of an invitation gets to see of it.
type Invitee struct {
	Tenant         storage.TenantID
	Inviter        string // what the inviter is called
	Email          string
	UserName       string // "" if the invitee chooses one
	Formatted      string
	GivenName      string
	FamilyName     string
	Language       string
	Expires        time.Time
	Administrative bool   // the account will have an administrative role
	Active         bool   // it can be used to sign in at once
	Organisation   string // what the tenant is called
	displayName    string
}

// Acceptance is what an invitee adds to an invitation.
type Acceptance struct {
	UserName                         string // "" for that of the invitation, or else the address
	Formatted, GivenName, FamilyName string // all empty for those of the invitation
	PasswordHash                     string
	From                             netip.Addr
}

// ErrAccountExists: an account has the address or the user name already. It does not
// say which: the invitee knows both.
var ErrAccountExists = &Error{Status: 409, Type: Uniqueness, Detail: "there is an account with this user name or address already: choose another user name, or sign in if the account is yours"}

// errUserNameGiven: an invitee does not choose what was chosen for them.
var errUserNameGiven = &schemas.ValueError{Path: "userName", Msg: "is given by the invitation"}

// Words are what counts for nothing in the password of whoever accepts so.
func (i *Invitee) Words(a Acceptance) []string {
	return []string{i.Email, i.UserName, i.Formatted, i.GivenName, i.FamilyName, i.displayName, i.Organisation,
		a.UserName, a.Formatted, a.GivenName, a.FamilyName}
}

// Invited finds the invitation that a link is for. The error is auth.ErrSignIn unless
// it could be accepted, whatever the reason, or what the store said.
func (p *Provider) Invited(ctx context.Context, link auth.Secret) (*Invitee, error) {
	tenant, inv, err := auth.FindInvitation(ctx, p.Store, link, p.now())
	if err != nil {
		return nil, err
	}
	by, err := auth.FindInviter(ctx, p.Store, tenant, inv, p.now())
	if err != nil {
		return nil, p.void(ctx, tenant, inv, err)
	}
	t := p.Schemas.Type(invitationType)
	r, err := p.Store.Get(ctx, tenant, t.Name, inv.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, auth.ErrSignIn
	}
	if err != nil {
		return nil, err
	}
	attrs, err := parseStored(t, r)
	if err != nil {
		return nil, err
	}
	in, err := invitedIn(attrs)
	if err != nil {
		return nil, err
	}
	i := &Invitee{Tenant: tenant, Inviter: by.Name, Expires: inv.Expires}
	name, _ := attrs["name"].(map[string]any)
	for to, from := range map[*string]any{&i.Email: attrs["email"], &i.UserName: attrs["userName"], &i.Language: attrs["preferredLanguage"], &i.displayName: attrs["displayName"],
		&i.Formatted: name["formatted"], &i.GivenName: name["givenName"], &i.FamilyName: name["familyName"]} {
		*to, _ = from.(string)
	}
	i.Active, _ = attrs["active"].(bool)
	if i.Organisation, err = p.Organisation(ctx, tenant); err != nil {
		return nil, err
	}
	i.Administrative, err = p.administrative(ctx, tenant, in)
	return i, err
}

// Organisation returns the name of a tenant.
func (p *Provider) Organisation(ctx context.Context, tenant storage.TenantID) (string, error) {
	list, err := p.Store.ListTenants(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range list {
		if t.ID == tenant {
			return t.Name, nil
		}
	}
	return "", nil
}

// administrative reports whether an administrative role is among what an invitation
// promises.
func (p *Provider) administrative(ctx context.Context, tenant storage.TenantID, in invited) (bool, error) {
	s, err := p.standings.Refresh(ctx, p.Store, tenant)
	if err != nil {
		return false, err
	}
	var all []*auth.Role
	if len(in.groups) > 0 && s.Groups() {
		above, err := p.Store.Groups(ctx, tenant, in.groups...)
		if err != nil {
			return false, err
		}
		for _, id := range in.groups {
			var ids []string
			for _, m := range above[id] {
				ids = append(ids, m.Group)
			}
			all = append(all, s.Carried(id, ids, p.now())...)
		}
	}
	for _, r := range in.roles {
		role, err := auth.FindRole(ctx, p.Store, tenant, r.role)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return false, err
		default:
			all = append(all, role)
		}
	}
	return auth.Effect{Subjects: []auth.Subject{{After: all}}}.Administrative(), nil
}

// Accept makes the account of an invitation, with its groups and roles, in one step.
// Of several who accept an invitation at once, one does. What it gives is decided
// again, against what the inviter may do now. The error is auth.ErrSignIn if the link
// is not good, or the inviter no longer is: then the invitation is revoked, and says
// why; ErrAccountExists; a *schemas.ValueError; or what the store said.
func (p *Provider) Accept(ctx context.Context, link auth.Secret, a Acceptance) (*storage.Resource, error) {
	t := p.Schemas.Type(invitationType)
	r, err := p.accept(ctx, link, a)
	return r, p.observe(t, "patch", err)
}

func (p *Provider) accept(ctx context.Context, link auth.Secret, a Acceptance) (*storage.Resource, error) {
	tenant, inv, err := auth.FindInvitation(ctx, p.Store, link, p.now())
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	var user *storage.Resource
	err = p.withStanding(ctx, auth.Principal{Tenant: tenant}, func(s *auth.Standing) error {
		by, err := auth.FindInviter(ctx, p.Store, tenant, inv, p.now())
		if err != nil {
			return err
		}
		by.From = a.From
		n := newcomer{p: p, by: by, link: inv, acceptance: a}
		if err := n.prepare(ctx, id.String()); err != nil {
			return err
		}
		err = p.Store.Write(ctx, tenant, func(tx storage.Tx) error {
			return n.write(p.decide(ctx, tx, by, s, n.user.Created))
		})
		user = n.user
		return err
	})
	if err == nil {
		return user, nil
	}
	if _, ok := errors.AsType[*storage.UniqueError](err); ok {
		return nil, ErrAccountExists
	}
	if errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrNotFound) {
		return nil, auth.ErrSignIn
	}
	return nil, p.void(ctx, tenant, inv, err)
}

// void revokes an invitation if err says that its inviter cannot give what it
// promises, and returns what the invitee is told.
func (p *Provider) void(ctx context.Context, tenant storage.TenantID, inv *auth.Invitation, err error) error {
	reason := ""
	if e, ok := errors.AsType[*auth.InviterError](err); ok {
		reason = e.Reason
	} else if _, ok := errors.AsType[*auth.DeniedError](err); ok || errors.Is(err, ErrForbidden) {
		reason = auth.InviterEntitlement
	} else {
		return err
	}
	by := auth.Principal{Tenant: tenant} // nobody does it: it has come about
	err = p.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		now := p.now()
		link, err := auth.ReadInvitation(tx, inv.ID)
		if err != nil || !link.SameLink(inv) {
			return err
		}
		return p.decide(ctx, tx, by, nil, now).revoke(link, reason, now)
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrConflict) {
		return err
	}
	return auth.ErrSignIn
}

// newcomer is an account under way that an invitation becomes. It belongs to one
// attempt.
type newcomer struct {
	p          *Provider
	by         auth.Principal // the inviter
	link       *auth.Invitation
	acceptance Acceptance

	version int64 // of the invitation that user was made from
	in      invited
	user    *storage.Resource
	told    changes
}

// prepare makes the user, before the write.
func (n *newcomer) prepare(ctx context.Context, id string) error {
	p, t, users := n.p, n.p.Schemas.Type(invitationType), n.p.Schemas.Type(auth.PrincipalUser)
	r, err := p.Store.Get(ctx, n.by.Tenant, t.Name, n.link.ID)
	if err != nil {
		return err
	}
	from, err := parseStored(t, r)
	if err != nil {
		return err
	}
	if n.in, err = invitedIn(from); err != nil {
		return err
	}
	n.version = r.Version
	body, err := n.account(from)
	if err != nil {
		return err
	}
	attrs, err := users.Bind(body, schemas.Lenient)
	if err != nil {
		return err
	}
	email, _ := from["email"].(string)
	userName, _ := attrs["userName"].(string)
	switch attr, err := p.taken(ctx, n.by.Tenant, email, userName); {
	case err != nil:
		return err
	case attr != "":
		return ErrAccountExists
	}
	now := p.now()
	n.user = &storage.Resource{Type: users.Name, ID: id, Version: 1, Created: now, LastModified: now}
	if err := p.fill(n.by.Tenant, users, n.user, attrs); err != nil {
		return err
	}
	n.told = created(users, attrs)
	return nil
}

// account is the body of the user.
func (n *newcomer) account(from map[string]any) (map[string]any, error) {
	a := n.acceptance
	uris := []any{schemas.UserURI}
	body := map[string]any{"emails": []any{map[string]any{"value": from["email"], "type": "work", "primary": true}}}
	for _, name := range []string{"userName", "name", "displayName", "title", "preferredLanguage", "active", schemas.EnterpriseUserURI} {
		if v, ok := from[name]; ok {
			body[name] = v
		}
	}
	if body[schemas.EnterpriseUserURI] != nil {
		uris = append(uris, schemas.EnterpriseUserURI)
	}
	body["schemas"] = uris
	switch {
	case body["userName"] != nil && a.UserName != "" && a.UserName != body["userName"]:
		return nil, errUserNameGiven
	case body["userName"] == nil && a.UserName != "":
		body["userName"] = a.UserName
	case body["userName"] == nil:
		body["userName"] = from["email"]
	}
	if name := map[string]any{}; a.Formatted != "" || a.GivenName != "" || a.FamilyName != "" {
		for part, v := range map[string]string{"formatted": a.Formatted, "givenName": a.GivenName, "familyName": a.FamilyName} {
			if v != "" {
				name[part] = v
			}
		}
		body["name"] = name
	}
	return body, nil
}

// write makes the account, its memberships and its roles, and uses the link up.
func (n *newcomer) write(d *decision) error {
	link, err := auth.ReadInvitation(d.tx, n.link.ID)
	switch {
	case err != nil:
		return err
	case !link.SameLink(n.link) || !link.Good(d.now):
		return auth.ErrSignIn
	}
	r, err := d.tx.Get(invitationType, link.ID)
	if err != nil {
		return err
	}
	if err := d.holds(r); err != nil {
		return err
	}
	if r.Version != n.version {
		return errStanding // it promises something else: begin again
	}
	if err := auth.ConfirmInviter(d.tx, d.by, d.now); err != nil {
		return err
	}
	if !d.by.May(auth.Create, invitationType) {
		return ErrForbidden
	}
	groups, err := n.groups(d)
	if err != nil {
		return err
	}
	for _, g := range groups {
		d.subject(g.ID, auth.AspectMembership)
	}
	if err := d.invitesExisting(n.in); err != nil {
		return err
	}
	if err := auth.DropInvitation(d.tx, link); err != nil {
		return err
	}
	user := *n.user // the store puts its own handle there
	if err := d.tx.Create(&user); err != nil {
		return err
	}
	var c auth.Credential
	c.SetPassword(n.acceptance.PasswordHash, d.now)
	if err := auth.SaveCredential(d.tx, user.ID, &c); err != nil {
		return err
	}
	if err := d.p.record(d.ctx, d.tx, d.by, "create", &user, nil, n.told); err != nil {
		return err
	}
	for _, g := range groups {
		if err := d.join(g, user.ID); err != nil {
			return err
		}
	}
	for _, promise := range n.in.roles {
		if err := d.give(promise, user.ID); err != nil {
			return err
		}
	}
	who := *d
	who.by = auth.Principal{Kind: auth.User, Tenant: d.by.Tenant, ID: user.ID, From: d.by.From}
	_, err = who.rewrite(r, "accept", d.now, func(attrs map[string]any) {
		attrs["status"], attrs["user"] = statusAccepted, map[string]any{"value": user.ID}
	})
	return err
}

// groups reads those of the invitation that are still there.
func (n *newcomer) groups(d *decision) (list []*storage.Resource, err error) {
	for _, id := range n.in.groups {
		g, err := d.group(id)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, nil
}

// join makes a new user a member of a group.
func (d *decision) join(g *storage.Resource, user string) error {
	if _, err := d.tx.AddMembers(g, []storage.Member{{Value: user}}); err != nil {
		return err
	}
	next := *g
	next.Version, next.LastModified, next.Doc, next.Index = g.Version+1, later(d.now, g.LastModified), nil, nil
	if err := d.tx.Update(g, &next); err != nil {
		return err
	}
	var told changes
	told.members(true, []string{user}, 1)
	return d.p.record(d.ctx, d.tx, d.by, "patch", &next, []string{"members"}, told)
}

// give makes the role assignment of a new user. It has been decided about.
func (d *decision) give(p promise, user string) error {
	role, err := auth.ReadRole(d.tx, p.role)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	g := &auth.Grant{ID: id.String(), Role: role.ID, Principal: user, PrincipalType: auth.PrincipalUser, Eligible: p.eligible, Start: p.start, End: p.end}
	if g.Ended(d.now) {
		return nil
	}
	t := d.p.Schemas.Type(assignmentType)
	attrs := map[string]any{"schemas": []any{t.Schema.ID}, "role": map[string]any{"value": role.ID}, "kind": "active",
		"principal": map[string]any{"value": user, "type": auth.PrincipalUser}, "reason": "invitation", "assignedBy": d.by.Actor()}
	if p.eligible {
		attrs["kind"] = "eligible"
	}
	for name, at := range map[string]time.Time{"startDate": p.start, "endDate": p.end} {
		if !at.IsZero() {
			attrs[name] = timeText(at)
		}
	}
	r := &storage.Resource{Type: t.Name, ID: g.ID, Version: 1, Created: d.now, LastModified: d.now}
	if err := d.p.fill(d.by.Tenant, t, r, attrs); err != nil {
		return err
	}
	if err := d.tx.Create(r); err != nil {
		return err
	}
	if err := auth.PutGrant(d.tx, nil, g, role); err != nil {
		return err
	}
	return d.p.record(d.ctx, d.tx, d.by, "create", r, nil, created(t, attrs))
}
