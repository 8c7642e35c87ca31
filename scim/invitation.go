package scim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

const invitationType = "Invitation"

// What becomes of an invitation. Nothing is written when one expires: that is stored
// as pending, and shown and searched as what it is.
const (
	statusPending  = "pending"
	statusAccepted = "accepted"
	statusRevoked  = "revoked"
	statusExpired  = "expired"
)

// withdrawn is why an invitation was revoked by somebody; auth has the other reasons.
const withdrawn = "withdrawn"

// Limits of an invitation.
const (
	// MaxPromised is how many groups, and how many roles, an invitation has.
	MaxPromised = 50
	// MaxMessage is how many characters its message has.
	MaxMessage = 2000
	// MaxInvited is how many invitations of one user may wait to be accepted: they
	// are all revoked when the user goes.
	MaxInvited = 500
	maxAddress = 254 // RFC 5321 §4.5.3.1.3, without the brackets
)

// InvitationMail is what the mail to an invitee is made of.
type InvitationMail struct {
	To, Language string
	Organisation string // what the tenant is called
	Inviter      string // what the inviter is called
	Message      string
	Secret       auth.Secret // of the link
	Expires      time.Time
}

var (
	errNoMail  = &Error{Status: 501, Detail: "no mail is set up here: administrators invite at /admin/v1/invitations and hand the link over themselves"}
	errEnded   = &Error{Status: 409, Detail: "the invitation was accepted or revoked"}
	errInvited = &Error{Status: 409, Type: Uniqueness, Detail: "email: an invitation to this address waits to be accepted; it can be sent again"}
	errMany    = &Error{Status: 409, Detail: fmt.Sprintf("%d of your invitations wait to be accepted: no more than that at once", MaxInvited)}
)

// invited is what an invitation promises.
type invited struct {
	groups []string
	roles  []AccountRole
}

// invitedIn reads that out of an attribute tree, and refuses what the schema alone
// does not.
func invitedIn(attrs map[string]any) (in invited, err error) {
	groups, _ := attrs["groups"].([]any)
	roles, _ := attrs["roles"].([]any)
	for name, n := range map[string]int{"groups": len(groups), "roles": len(roles)} {
		if n > MaxPromised {
			return in, &schemas.ValueError{Path: name, Msg: fmt.Sprintf("an invitation has at most %d", MaxPromised)}
		}
	}
	for i, v := range groups {
		id, _ := v.(map[string]any)["value"].(string)
		if id == "" {
			return in, noGroup(i)
		}
		in.groups = append(in.groups, id)
	}
	for i, v := range roles {
		m := v.(map[string]any)
		path := func(name string) string { return fmt.Sprintf("roles[%d].%s", i, name) }
		p := AccountRole{Reason: "invitation"}
		p.Role, _ = m["value"].(string)
		kind, err := oneOf(m, path("kind"), "kind", "active", "eligible")
		if err != nil {
			return in, err
		}
		p.Eligible = kind == "eligible"
		m["kind"] = kind
		p.Approval, _ = m["approvalRequired"].(bool)
		for name, to := range map[string]*time.Time{"startDate": &p.Start, "endDate": &p.End} {
			if s, ok := m[name].(string); ok {
				*to, _ = schemas.ParseTime(s)
			}
		}
		switch {
		case p.Role == "":
			return in, noRole(i)
		case m["endDate"] != nil && !p.End.After(p.Start):
			return in, &schemas.ValueError{Path: path("endDate"), Msg: "is before the role begins to be held"}
		case p.Approval && !p.Eligible:
			return in, &schemas.ValueError{Path: path("approvalRequired"), Msg: "only an eligible role is made active"}
		}
		in.roles = append(in.roles, p)
	}
	return in, nil
}

func noGroup(i int) error {
	return &schemas.ValueError{Path: fmt.Sprintf("groups[%d].value", i), Msg: "no group has this id"}
}

func noRole(i int) error {
	return &schemas.ValueError{Path: fmt.Sprintf("roles[%d].value", i), Msg: "no role has this id"}
}

// checkInvitee refuses what cannot be sent or become an account.
func checkInvitee(attrs map[string]any) error {
	email, _ := attrs["email"].(string)
	a, err := mail.ParseAddress(email)
	if err != nil || a.Name != "" || a.Address != email || len(email) > maxAddress || strings.ContainsFunc(email, unicode.IsControl) {
		return &schemas.ValueError{Path: "email", Msg: "expected an address, and nothing else"}
	}
	message, _ := attrs["message"].(string)
	if utf8.RuneCountInString(message) > MaxMessage {
		return &schemas.ValueError{Path: "message", Msg: fmt.Sprintf("has more than %d characters", MaxMessage)}
	}
	if name, ok := attrs["userName"].(string); ok && strings.TrimSpace(name) == "" {
		return &schemas.ValueError{Path: "userName", Msg: "is empty"}
	}
	return nil
}

// nameInvited puts the names of groups and roles beside their ids.
func (p *Provider) nameInvited(ctx context.Context, tenant storage.TenantID, attrs map[string]any) error {
	groups, _ := attrs["groups"].([]any)
	var ids []string
	for _, v := range groups {
		if id, _ := v.(map[string]any)["value"].(string); ours(id) {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		names, err := p.Store.Names(ctx, tenant, auth.PrincipalGroup, ids...)
		if err != nil {
			return err
		}
		for _, v := range groups {
			m := v.(map[string]any)
			if name := names[m["value"].(string)]; name != "" {
				m["display"] = name
			}
		}
	}
	roles, _ := attrs["roles"].([]any)
	for _, v := range roles {
		m := v.(map[string]any)
		id, _ := m["value"].(string)
		r, err := auth.FindRole(ctx, p.Store, tenant, id)
		switch {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return err
		case r.Display != "":
			m["display"] = r.Display
		default:
			m["display"] = r.Value
		}
	}
	return nil
}

// hasNoAccount returns a *storage.UniqueError when an account exists already that an
// invitation would make, with the attribute of the invitation by which it does. Either may
// be empty.
func (p *Provider) hasNoAccount(ctx context.Context, tenant storage.TenantID, email, userName string) error {
	users := p.Schemas.Type(auth.PrincipalUser)
	equal := func(path, value string) filter.Expr {
		return filter.EqualTo(users.Lookup(path), value)
	}
	for _, look := range []struct {
		name string
		at   filter.Expr
	}{
		{"email", filter.Or{equal("emails.value", email), equal("userName", email)}},
		{"userName", equal("userName", strings.TrimSpace(userName))},
	} {
		if look.name == "email" && email == "" || look.name == "userName" && userName == "" {
			continue
		}
		page, err := p.Store.Query(ctx, tenant, storage.Query{Type: users.Name, Filter: look.at, StartIndex: 1})
		if err != nil {
			return fmt.Errorf("look for the account of an invitee: %w", err)
		}
		if page.TotalResults > 0 {
			return &storage.UniqueError{Attr: look.name}
		}
	}
	return nil
}

// inviterOf is the inviter attribute for somebody.
func inviterOf(by auth.Principal) map[string]any {
	kind := map[auth.Kind]string{auth.User: auth.PrincipalUser, auth.Client: auth.PrincipalClient, auth.Operator: "Operator"}[by.Kind]
	m := map[string]any{"type": kind}
	if by.ID != "" {
		m["value"] = by.ID
	}
	if by.Name != "" {
		m["display"] = by.Name
	}
	return m
}

// called returns what somebody is called, who may sign in by a name that strangers need
// not know.
func (p *Provider) called(ctx context.Context, by auth.Principal) (string, error) {
	if by.Kind != auth.User {
		return by.Name, nil
	}
	names, err := p.Store.Names(ctx, by.Tenant, auth.PrincipalUser, by.ID)
	return cmp.Or(names[by.ID], by.Name), err
}

// stamp writes down that a link is made now, by somebody, and returns until when it is
// good.
func (p *Provider) stamp(by auth.Principal, attrs map[string]any, now time.Time) time.Time {
	expires := now.Add(p.InvitationLifetime)
	if p.InvitationLifetime <= 0 {
		expires = now.Add(auth.DefaultInvitationLifetime)
	}
	attrs["status"] = statusPending
	attrs["sentAt"], attrs["expires"] = timeText(now), timeText(expires)
	attrs["inviter"] = inviterOf(by)
	return expires
}

func timeText(t time.Time) string { return string(appendTime(nil, t)) }

// prepareInvitation readies a new invitation. The secret of its link goes to handed if
// there is no mail to send it with.
func (p *Provider) prepareInvitation(ctx context.Context, by auth.Principal, id string, attrs map[string]any, handed *auth.Secret) (func(*decision) error, error) {
	if handed == nil && p.SendInvitation == nil {
		return nil, errNoMail
	}
	in, err := invitedIn(attrs)
	if err != nil {
		return nil, err
	}
	if err := checkInvitee(attrs); err != nil {
		return nil, err
	}
	if err := p.nameInvited(ctx, by.Tenant, attrs); err != nil {
		return nil, err
	}
	email, _ := attrs["email"].(string)
	userName, _ := attrs["userName"].(string)
	if err := p.hasNoAccount(ctx, by.Tenant, email, userName); err != nil {
		return nil, err
	}
	organisation, err := p.Organisation(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	if by.Name, err = p.called(ctx, by); err != nil {
		return nil, err
	}
	link, secret, err := auth.NewInvitation(by, id, email, p.stamp(by, attrs, p.now()))
	if err != nil {
		return nil, err
	}
	return func(d *decision) error {
		if err := d.invites(in); err != nil {
			return err
		}
		if err := d.alone(link); err != nil {
			return err
		}
		if err := auth.PutInvitation(d.tx, nil, link); err != nil {
			return err
		}
		return d.send(attrs, organisation, secret, link.Expires, handed)
	}, nil
}

// invites asks whether somebody may invite to groups and roles.
func (d *decision) invites(in invited) error {
	roles, err := d.promised(in, false)
	if err != nil {
		return err
	}
	if err := d.mayPromise(in); err != nil {
		return err
	}
	d.effect.Subjects = append(d.effect.Subjects, auth.Subject{After: roles})
	return d.ask()
}

// mayPromise asks for what it takes to change groups and to give roles, whichever they
// are.
func (d *decision) mayPromise(in invited) error {
	if len(in.groups) > 0 && !d.by.May(auth.Update, auth.PrincipalGroup) || len(in.roles) > 0 && !d.by.May(auth.Create, assignmentType) {
		return ErrForbidden
	}
	return nil
}

// promised returns the roles that somebody will have who is in the groups and has the
// roles of an invitation. Those that are there no more are an error, or are passed
// over.
func (d *decision) promised(in invited, passOver bool) ([]*auth.Role, error) {
	var all []*auth.Role
	add := func(list ...*auth.Role) {
		for _, r := range list {
			if !slices.ContainsFunc(all, func(o *auth.Role) bool { return o.ID == r.ID }) {
				all = append(all, r)
			}
		}
	}
	for i, id := range in.groups {
		g, err := d.group(id)
		switch {
		case errors.Is(err, storage.ErrNotFound) && passOver:
			continue
		case errors.Is(err, storage.ErrNotFound):
			return nil, noGroup(i)
		case err != nil:
			return nil, err
		}
		carried, err := d.carried(id, func() ([]string, error) { return d.tx.Ancestors(g) })
		if err != nil {
			return nil, err
		}
		add(carried...)
	}
	for i, p := range in.roles {
		r, err := auth.ReadRole(d.tx, p.Role)
		switch {
		case errors.Is(err, storage.ErrNotFound) && passOver:
			continue
		case errors.Is(err, storage.ErrNotFound):
			return nil, noRole(i)
		case err != nil:
			return nil, err
		}
		add(r)
	}
	return all, nil
}

// group reads a group that this write leans on.
func (d *decision) group(id string) (*storage.Resource, error) {
	if !ours(id) {
		return nil, storage.ErrNotFound
	}
	g, err := d.tx.Get(auth.PrincipalGroup, id)
	if err != nil {
		return nil, err
	}
	return g, d.holds(g)
}

// alone refuses a second invitation to an address whose link is good, and too many of
// one user.
func (d *decision) alone(inv *auth.Invitation) error {
	list, err := auth.InvitationsTo(d.tx, inv)
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.ID != inv.ID && o.Good(d.now) {
			return errInvited
		}
	}
	if d.by.Kind != auth.User {
		return nil
	}
	if _, ok := errors.AsType[*auth.InviterError](auth.ConfirmInviter(d.tx, d.by, d.now)); ok {
		return ErrForbidden
	}
	u, err := d.tx.Get(auth.PrincipalUser, d.by.ID)
	if err != nil {
		return err
	}
	// The user stays what they are until this is written: blocking them revokes what
	// they sent, and must not miss one that comes now.
	if _, err := d.tx.MemberOf(u); err != nil {
		return err
	}
	if list, err = auth.InvitationsBy(d.tx, inv.Inviter); err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(o *auth.Invitation) bool { return o.ID == inv.ID })
	if len(list) >= MaxInvited {
		return errMany
	}
	return nil
}

// send queues the mail with a link, or hands the secret over.
func (d *decision) send(attrs map[string]any, organisation string, secret auth.Secret, expires time.Time, handed *auth.Secret) error {
	if d.p.SendInvitation == nil {
		*handed = secret
		return nil
	}
	m := InvitationMail{Organisation: organisation, Secret: secret, Expires: expires}
	inviter, _ := attrs["inviter"].(map[string]any)
	m.Inviter, _ = inviter["display"].(string)
	m.To, _ = attrs["email"].(string)
	m.Language, _ = attrs["preferredLanguage"].(string)
	m.Message, _ = attrs["message"].(string)
	return d.p.SendInvitation(d.tx, d.by.Tenant, m, d.now)
}

// readOnlyOfInvitation are the attributes that a PUT leaves as they are.
var readOnlyOfInvitation = []string{"status", "statusReason", "expires", "sentAt", "inviter", "user"}

// reprepareInvitation readies an invitation that is changed. Somebody is invited to
// other groups and roles as somebody who has some is given others.
func (p *Provider) reprepareInvitation(ctx context.Context, by auth.Principal, prev, next map[string]any) (func(*decision) error, error) {
	if prev["status"] != statusPending {
		return nil, errEnded
	}
	for _, name := range readOnlyOfInvitation {
		delete(next, name)
		if v, ok := prev[name]; ok {
			next[name] = v
		}
	}
	had, err := invitedIn(prev)
	if err != nil {
		return nil, err
	}
	has, err := invitedIn(next)
	if err != nil {
		return nil, err
	}
	if err := checkInvitee(next); err != nil {
		return nil, err
	}
	if err := p.nameInvited(ctx, by.Tenant, next); err != nil {
		return nil, err
	}
	changed, _ := differences(p.Schemas.Type(invitationType), prev, next)
	if userName, _ := next["userName"].(string); slices.Contains(changed, "userName") {
		if err := p.hasNoAccount(ctx, by.Tenant, "", userName); err != nil {
			return nil, err
		}
	}
	touched := aspects(p.Schemas.Type(invitationType), changed)
	if !slices.Equal(had.groups, has.groups) {
		touched |= auth.AspectMembership
	}
	if !slices.Equal(had.roles, has.roles) {
		touched |= auth.AspectRoles
	}
	return func(d *decision) error {
		before, err := d.promised(had, true)
		if err != nil {
			return err
		}
		after, err := d.promised(has, touched&(auth.AspectMembership|auth.AspectRoles) == 0)
		if err != nil {
			return err
		}
		var more invited // of which either takes the right to
		if touched&auth.AspectMembership != 0 {
			more.groups = slices.Concat(had.groups, has.groups)
		}
		if touched&auth.AspectRoles != 0 {
			more.roles = slices.Concat(had.roles, has.roles)
		}
		if err := d.mayPromise(more); err != nil {
			return err
		}
		d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: before, After: after, Changes: touched})
		return d.ask()
	}, nil
}

// removeInvitation ends the link of an invitation that is deleted.
func (d *decision) removeInvitation(r *storage.Resource) error {
	attrs, err := parseStored(d.p.Schemas.Type(invitationType), r)
	if err != nil {
		return err
	}
	return d.withdraws(r.ID, attrs)
}

// withdraws asks whether somebody may take back what an invitation promises, and ends
// its link.
func (d *decision) withdraws(id string, attrs map[string]any) error {
	link, err := auth.ReadInvitation(d.tx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	in, err := invitedIn(attrs)
	if err != nil {
		return err
	}
	roles, err := d.promised(in, true)
	if err != nil {
		return err
	}
	d.effect.Subjects = append(d.effect.Subjects, auth.Subject{Before: roles})
	if err := d.ask(); err != nil {
		return err
	}
	return auth.DropInvitation(d.tx, link)
}

// endInvitations revokes those of a user who is blocked or deleted.
func (d *decision) endInvitations(user, reason string, at time.Time) error {
	list, err := auth.InvitationsBy(d.tx, auth.Principal{Kind: auth.User, ID: user}.Actor())
	if err != nil {
		return err
	}
	for _, link := range list {
		if err := d.revoke(link, reason, at); err != nil {
			return err
		}
	}
	return nil
}

// revoke ends a link and says why.
func (d *decision) revoke(link *auth.Invitation, reason string, at time.Time) error {
	r, err := d.tx.Get(invitationType, link.ID)
	if err != nil {
		return err
	}
	if err := auth.DropInvitation(d.tx, link); err != nil {
		return err
	}
	_, err = d.rewrite(r, "revoke", at, func(attrs map[string]any) {
		attrs["status"], attrs["statusReason"] = statusRevoked, reason
	})
	return err
}

// rewrite changes what the server says of an invitation, and records it as an action.
func (d *decision) rewrite(r *storage.Resource, action string, at time.Time, change func(map[string]any)) (*storage.Resource, error) {
	t := d.p.Schemas.Type(invitationType)
	prev, err := parseStored(t, r)
	if err != nil {
		return nil, err
	}
	attrs, err := parseStored(t, r)
	if err != nil {
		return nil, err
	}
	change(attrs)
	next := &storage.Resource{Type: r.Type, ID: r.ID, Version: r.Version + 1, Created: r.Created, LastModified: later(at, r.LastModified)}
	if err := d.p.fill(d.by.Tenant, t, next, attrs); err != nil {
		return nil, err
	}
	if err := d.tx.Update(r, next); err != nil {
		return nil, err
	}
	paths, told := differences(t, prev, attrs)
	return next, d.p.record(d.ctx, d.tx, d.by, action, next, paths, told)
}

// InvitationExpires returns until when the link of an invitation is good.
func InvitationExpires(r *storage.Resource) (time.Time, error) {
	var doc struct {
		Expires time.Time `json:"expires"`
	}
	err := json.Unmarshal(r.Doc, &doc)
	return doc.Expires.UTC(), err
}

// expired reports whether an invitation is shown as expired.
func (p *Provider) expired(t *schemas.ResourceType, r *storage.Resource) (bool, error) {
	attrs, err := parseStored(t, r)
	if err != nil {
		return false, err
	}
	return expiredAt(attrs, p.now()), nil
}

func expiredAt(attrs map[string]any, now time.Time) bool {
	s, _ := attrs["expires"].(string)
	expires, ok := schemas.ParseTime(s)
	return attrs["status"] == statusPending && ok && !now.Before(expires)
}

// statusAt rewrites the comparisons with the status of an invitation: those that are
// stored as pending are expired by a certain time.
func statusAt(e filter.Expr, t *schemas.ResourceType, now time.Time) filter.Expr {
	return filter.Map(e, func(term filter.Expr) filter.Expr {
		c, ok := term.(filter.Compare)
		if !ok || c.Attr != t.Top("status") {
			return term
		}
		over := filter.And{
			filter.EqualTo(c.Attr, statusPending),
			filter.Compare{Attr: t.Top("expires"), Op: filter.LessOrEqual, Value: now, Text: timeText(now)},
		}
		rest := filter.And{filter.Not{Expr: over}, c}
		if c.Match(map[string]any{"status": statusExpired}) {
			return filter.Or{over, rest}
		}
		return rest
	})
}

// queryInvitations selects a page of invitations.
func (p *Provider) queryInvitations(ctx context.Context, by auth.Principal, t *schemas.ResourceType, q storage.Query) (*storage.Page, error) {
	if q.SortBy != nil && q.SortBy == t.Top("status") {
		return nil, &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: lists cannot be ordered by status, which changes as time goes by: order by expires"}
	}
	if q.Filter != nil {
		q.Filter = statusAt(q.Filter, t, p.now())
	}
	return p.Store.Query(ctx, by.Tenant, q)
}
