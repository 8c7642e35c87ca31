package api

import (
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// Destination is an account in another tenant that one can move on to.
type Destination struct {
	ID   string `json:"id"` // of the tenant
	Name string `json:"name"`
	User string `json:"user"`
	Link string `json:"link"`
}

// DestinationList is a list of destinations.
type DestinationList struct {
	Tenants []Destination `json:"tenants"`
}

// AccountLink is a link between accounts of two tenants, as one of them has it.
// Direction says whether it leads from the account ("out") or to it ("in").
type AccountLink struct {
	ID        string    `json:"id"`
	Direction string    `json:"direction"`
	Tenant    string    `json:"tenant"` // the other one
	User      string    `json:"user"`   // there
	Since     time.Time `json:"since"`
	InForce   bool      `json:"inForce"`
}

// AccountLinkList is a list of links.
type AccountLinkList struct {
	Links []AccountLink `json:"links"`
}

// LinkOffer is a code with which a link to an account is made.
type LinkOffer struct {
	Code    string    `json:"code"` // shown once
	Expires time.Time `json:"expires"`
}

func accountLink(l auth.LinkOf) AccountLink {
	direction := "in"
	if l.Out {
		direction = "out"
	}
	return AccountLink{ID: l.ID, Direction: direction, Tenant: string(l.Tenant), User: l.Other, Since: l.Since.UTC(), InForce: l.InForce}
}

func (a *API) destinations(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Auth.Destinations(r.Context(), by)
	if err != nil {
		return err
	}
	out := DestinationList{Tenants: make([]Destination, len(list))}
	for i, d := range list {
		out.Tenants[i] = Destination{ID: string(d.Tenant.ID), Name: d.Tenant.Name, User: d.Link.Other, Link: d.Link.ID}
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) move(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	in, err := a.Auth.Move(r.Context(), by, storage.TenantID(pathID(r)), r.UserAgent())
	if err != nil {
		return err
	}
	return a.signedIn(w, in, byCookie(r))
}

func (a *API) returnSession(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	in, err := a.Auth.Return(r.Context(), by)
	if err != nil {
		return err
	}
	return a.signedIn(w, in, byCookie(r))
}

func (a *API) offerLink(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	code, expires, err := a.Auth.OfferLink(r.Context(), by)
	if err != nil {
		return err
	}
	return respond(w, http.StatusCreated, LinkOffer{Code: code.Reveal(), Expires: expires.UTC()})
}

func (a *API) acceptLink(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body CodeRequest
	if err := read(r, &body); err != nil {
		return err
	}
	link, err := a.Auth.AcceptLink(r.Context(), by, body.Code)
	if err != nil {
		return err
	}
	return respond(w, http.StatusCreated, accountLink(auth.LinkOf{Link: *link, InForce: true}))
}

func (a *API) ownLinks(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.linksOf(w, r, by, by.ID)
}

func (a *API) userLinks(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if _, err := a.Store.Get(r.Context(), by.Tenant, auth.PrincipalUser, pathID(r)); err != nil {
		return err
	}
	return a.linksOf(w, r, by, pathID(r))
}

func (a *API) linksOf(w http.ResponseWriter, r *http.Request, by auth.Principal, user string) error {
	list, err := a.Auth.Links(r.Context(), by.Tenant, user)
	if err != nil {
		return err
	}
	out := AccountLinkList{Links: make([]AccountLink, len(list))}
	for i, l := range list {
		out.Links[i] = accountLink(l)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) cutLink(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.CutLink(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func (a *API) cutUserLinks(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.CutLinks(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}
