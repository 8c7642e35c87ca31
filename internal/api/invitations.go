package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/console"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Invitations is where invitations are made and accepted; see scim.Provider.
type Invitations interface {
	Invite(ctx context.Context, by auth.Principal, body any) (*storage.Resource, auth.Secret, error)
	SendAgain(ctx context.Context, by auth.Principal, id string) (*storage.Resource, auth.Secret, error)
	Withdraw(ctx context.Context, by auth.Principal, id string) error
	Invited(ctx context.Context, link auth.Secret) (*scim.Invitee, error)
	Accept(ctx context.Context, link auth.Secret, a scim.Acceptance) (*storage.Resource, error)
}

// InvitationRequest is the body of POST /invitations: an Invitation as in SCIM.
type InvitationRequest struct {
	Invitation map[string]any `json:"invitation"`
}

// Invited is an invitation that has been made, or sent again. Link is there, this
// once, where no mail is set up.
type Invited struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Link    string    `json:"link,omitempty"`
}

// Invitation is what an invitee gets to see. UserName is absent if they choose one.
type Invitation struct {
	Organisation string    `json:"organisation"`
	Inviter      string    `json:"inviter,omitempty"`
	Email        string    `json:"email"`
	UserName     string    `json:"userName,omitempty"`
	Name         Name      `json:"name"`
	Language     string    `json:"language,omitempty"`
	Expires      time.Time `json:"expires"`
}

// Name is what somebody is called.
type Name struct {
	Formatted  string `json:"formatted,omitempty"`
	GivenName  string `json:"givenName,omitempty"`
	FamilyName string `json:"familyName,omitempty"`
}

// AcceptanceRequest is the body of POST /invitations/accept. UserName goes with an
// invitation that has none; without it the address becomes the user name. Name may be
// left out.
type AcceptanceRequest struct {
	Link     auth.Secret `json:"link"`
	UserName string      `json:"userName,omitempty"`
	Name     Name        `json:"name,omitzero"`
	Password auth.Secret `json:"password"`
}

// Accepted is an account that an invitation became. Session is absent if it cannot be
// signed in to, or not now.
type Accepted struct {
	User     string    `json:"user"` // its id
	UserName string    `json:"userName"`
	Session  *SignedIn `json:"session,omitempty"`
}

func (a *API) invite(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body InvitationRequest
	if err := read(r, &body); err != nil {
		return err
	}
	inv, secret, err := a.Invitations.Invite(r.Context(), by, body.Invitation)
	if err != nil {
		return err
	}
	return a.invited(w, r, http.StatusCreated, inv, secret)
}

func (a *API) sendAgain(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	inv, secret, err := a.Invitations.SendAgain(r.Context(), by, pathID(r))
	if err != nil {
		return err
	}
	return a.invited(w, r, http.StatusOK, inv, secret)
}

func (a *API) invited(w http.ResponseWriter, r *http.Request, status int, inv *storage.Resource, secret auth.Secret) error {
	out, err := scim.InvitationExpires(inv)
	if err != nil {
		return err
	}
	answer := Invited{ID: inv.ID, Expires: out}
	if secret != "" {
		answer.Link = a.InvitationLink(r, secret)
	}
	return respond(w, status, answer)
}

func (a *API) withdraw(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Invitations.Withdraw(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func (a *API) invitation(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.admit(by); err != nil {
		return err
	}
	var body LinkRequest
	if err := read(r, &body); err != nil {
		return err
	}
	i, err := a.Invitations.Invited(r.Context(), body.Link)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, Invitation{
		Organisation: i.Organisation, Inviter: i.Inviter, Email: i.Email, UserName: i.UserName, Language: i.Language, Expires: i.Expires.UTC(),
		Name: Name{Formatted: i.Formatted, GivenName: i.GivenName, FamilyName: i.FamilyName},
	})
}

func (a *API) accept(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.admit(by); err != nil {
		return err
	}
	var body AcceptanceRequest
	if err := read(r, &body); err != nil {
		return err
	}
	ctx := r.Context()
	i, err := a.Invitations.Invited(ctx, body.Link)
	if err != nil {
		return err
	}
	with := scim.Acceptance{UserName: body.UserName, Formatted: body.Name.Formatted, GivenName: body.Name.GivenName, FamilyName: body.Name.FamilyName, From: by.From}
	if with.PasswordHash, err = a.Auth.NewPassword(ctx, body.Password, i.Administrative, i.Words(with)...); err != nil {
		return err
	}
	user, err := a.Invitations.Accept(ctx, body.Link, with)
	if err != nil {
		return err
	}
	attrs, err := a.Schemas.Type(auth.PrincipalUser).Parse(user.Doc)
	if err != nil {
		return err
	}
	answer := Accepted{User: user.ID}
	answer.UserName, _ = attrs["userName"].(string)
	// It is a sign-in like any other, with the rules that go with it. That there is an
	// account is so whatever becomes of it.
	in, err := a.Auth.SignIn(ctx, auth.SignInRequest{Tenant: i.Tenant, Name: answer.UserName, Password: body.Password, From: by.From, Agent: r.UserAgent()})
	switch {
	case err == nil:
		session := signedIn(in, false)
		answer.Session = &session
	case !errors.Is(err, auth.ErrSignIn) && !errors.Is(err, auth.ErrBusy):
		return err
	}
	return respond(w, http.StatusOK, answer)
}

// SendInvitations is what a Provider sends invitations with: mail in the queue, with a
// link to the page below base. It is nil if there is no mail.
func SendInvitations(q *mail.Queue, base func() string) func(tx storage.ItemWriter, tenant storage.TenantID, m scim.InvitationMail, now time.Time) error {
	if !q.Enabled() {
		return nil
	}
	return func(tx storage.ItemWriter, tenant storage.TenantID, m scim.InvitationMail, now time.Time) error {
		err := q.Put(tx, tenant, mail.Message{Kind: mail.Invitation, To: m.To, Language: m.Language, Fields: map[string]string{
			"organisation": m.Organisation, "inviter": cmp.Or(m.Inviter, m.Organisation), "message": m.Message,
			"link": base() + console.InvitationPath + "#" + m.Secret.Reveal(), "expires": m.Expires.UTC().Format(time.RFC3339),
		}}, now)
		if e, ok := errors.AsType[*mail.FieldError](err); ok && e.Field == "to" {
			return &schemas.ValueError{Path: "email", Msg: e.Msg}
		}
		return err
	}
}
