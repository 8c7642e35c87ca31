package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// LinkRequest is the body of POST /setup/link.
type LinkRequest struct {
	Link auth.Secret `json:"link"`
}

// Link says what a one-time link is for: "first", to become the first
// administrator, or "password", to choose the password of an account there is.
// Language is that of its user, as far as it is known.
type Link struct {
	Kind     string `json:"kind"`
	Language string `json:"language,omitempty"`
}

// SetupRequest is the body of POST /setup. UserName goes with a link of the kind
// "first" and with no other.
type SetupRequest struct {
	Link     auth.Secret `json:"link"`
	UserName string      `json:"userName,omitempty"`
	Password auth.Secret `json:"password"`
}

func (a *API) setupLink(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.admit(by); err != nil {
		return err
	}
	var body LinkRequest
	if err := read(r, &body); err != nil {
		return err
	}
	found, err := a.Auth.FindSetup(r.Context(), body.Link)
	if err != nil {
		return err
	}
	link := Link{Kind: "password", Language: found.Language}
	if found.First {
		link.Kind = "first"
	}
	return respond(w, http.StatusOK, link)
}

func (a *API) setup(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.admit(by); err != nil {
		return err
	}
	var body SetupRequest
	if err := read(r, &body); err != nil {
		return err
	}
	found, err := a.Auth.FindSetup(r.Context(), body.Link)
	switch {
	case err != nil:
		return err
	case found.First != (body.UserName != ""):
		return invalid("userName: expected with a link for a first administrator, and with no other")
	}
	link := body.Link
	if found.First {
		if link, err = a.firstAdministrator(r.Context(), body, by); err != nil {
			return err
		}
	}
	in, err := a.Auth.UseSetup(r.Context(), auth.SetupRequest{Text: link, Password: body.Password, From: by.From, Agent: r.UserAgent()})
	if err != nil {
		return err
	}
	return a.signedIn(w, in, false)
}

// firstAdministrator makes the account of a first administrator, and returns a link
// with which its password is chosen. What can be wrong with the request is found out
// first; when the account cannot be made, the link is still good.
func (a *API) firstAdministrator(ctx context.Context, body SetupRequest, caller auth.Principal) (auth.Secret, error) {
	if err := a.Auth.CheckFirst(body.Password, body.UserName); err != nil {
		return "", err
	}
	first, err := a.Auth.ClaimFirst(ctx, body.Link, caller.From)
	if err != nil {
		return "", err
	}
	_, err = a.Directory.CreateAccount(ctx, first.By, scim.Account{
		User:  map[string]any{"schemas": []any{schemas.UserURI}, "userName": strings.TrimSpace(body.UserName)},
		Roles: []scim.AccountRole{{Role: auth.GlobalAdministrator, Reason: "first administrator"}},
		Write: func(tx storage.Tx, user *storage.Resource, now time.Time) error { return first.Claim(tx, user.ID, now) },
	})
	return first.Link, err
}
