package scim

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

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

// ErrAccountExists says: an account has the address or the user name already. It does not
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
		role, err := auth.FindRole(ctx, p.Store, tenant, r.Role)
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
	var user *storage.Resource
	err = p.withStanding(ctx, auth.Principal{Tenant: tenant}, func(s *auth.Standing) error {
		by, err := auth.FindInviter(ctx, p.Store, tenant, inv, p.now())
		if err != nil {
			return err
		}
		by.From = a.From
		n := joining{p: p, by: by, link: inv, acceptance: a}
		if err := n.prepare(ctx); err != nil {
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

// joining is an account under way that an invitation becomes. It belongs to one
// attempt.
type joining struct {
	p          *Provider
	by         auth.Principal // the inviter
	link       *auth.Invitation
	acceptance Acceptance

	version int64 // of the invitation that the rest is made from
	in      invited
	user    *storage.Resource
	told    changes
	given   []givenRole // those of in
	manager string      // that the user will have; "" for none
}

// prepare makes what is to be written, before the write.
func (n *joining) prepare(ctx context.Context) error {
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
	user, attrs, _, err := p.newcomer(ctx, n.by, users, body)
	if err != nil {
		return err
	}
	email, _ := from["email"].(string)
	userName, _ := attrs["userName"].(string)
	if err := p.hasNoAccount(ctx, n.by.Tenant, email, userName); err != nil {
		if _, exists := errors.AsType[*storage.UniqueError](err); exists {
			return ErrAccountExists
		}
		return err
	}
	if n.manager = managerToCheck(n.by, nil, attrs); n.manager != "" {
		names, err := p.Store.Names(ctx, n.by.Tenant, auth.PrincipalUser, n.manager)
		if err != nil {
			return err
		}
		if _, there := names[n.manager]; !there { // any more, as with groups and roles
			n.manager = ""
			dropManager(users, attrs)
		}
	}
	if err := p.fill(n.by.Tenant, users, user, attrs); err != nil {
		return err
	}
	n.user, n.told = user, created(users, attrs)
	n.given, err = p.given(n.by, user, n.in.roles)
	return err
}

// account is the body of the user.
func (n *joining) account(from map[string]any) (map[string]any, error) {
	a := n.acceptance
	uris := []any{schemas.UserURI}
	body := map[string]any{"emails": []any{map[string]any{"value": from["email"], "type": "work", "primary": true}}}
	for _, name := range []string{"userName", "name", "displayName", "title", "preferredLanguage", "active", schemas.EnterpriseUserURI, schemas.RosterUserURI} {
		if v, ok := from[name]; ok {
			body[name] = v
		}
	}
	for _, uri := range []string{schemas.EnterpriseUserURI, schemas.RosterUserURI} {
		if body[uri] != nil {
			uris = append(uris, uri)
		}
	}
	body["schemas"] = uris
	switch {
	case body["userName"] != nil && a.UserName != "" && a.UserName != body["userName"]:
		return nil, errUserNameGiven
	case body["userName"] == nil && a.UserName != "":
		body["userName"] = strings.TrimSpace(a.UserName)
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
func (n *joining) write(d *decision) error {
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
	in, given, err := n.remaining(d)
	if err != nil {
		return err
	}
	if err := d.mayPromise(in); err != nil {
		return err
	}
	account := newAccount{
		user: n.user, secret: n.acceptance.PasswordHash, set: (*auth.Credential).SetPassword, told: n.told,
		groups: in.groups, given: given,
	}
	if err := d.putAccount(account); err != nil {
		return err
	}
	switch err := checkManager(d.tx, n.manager); {
	case errors.Is(err, errNoManager):
		return errStanding // they have just been deleted: begin again
	case err != nil:
		return err
	}
	if err := auth.DropInvitation(d.tx, link); err != nil {
		return err
	}
	who := *d
	who.by = auth.Principal{Kind: auth.User, Tenant: d.by.Tenant, ID: n.user.ID, From: d.by.From}
	_, err = who.rewrite(r, "accept", d.now, func(attrs map[string]any) {
		attrs["status"], attrs["user"] = statusAccepted, map[string]any{"value": n.user.ID}
	})
	return err
}

// remaining is what is promised without the groups and roles that are not there any
// more, and without roles that would have ended.
func (n *joining) remaining(d *decision) (in invited, given []givenRole, err error) {
	for _, id := range n.in.groups {
		switch _, err := d.group(id); {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return in, nil, err
		default:
			in.groups = append(in.groups, id)
		}
	}
	for i, r := range n.in.roles {
		switch _, err := auth.ReadRole(d.tx, r.Role); {
		case errors.Is(err, storage.ErrNotFound) || err == nil && n.given[i].grant.Ended(d.now):
		case err != nil:
			return in, nil, err
		default:
			in.roles, given = append(in.roles, r), append(given, n.given[i])
		}
	}
	return in, given, nil
}
