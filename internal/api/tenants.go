package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Tenant is a directory of its own.
type Tenant struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// TenantList is a list of tenants.
type TenantList struct {
	Tenants []Tenant `json:"tenants"`
}

// TenantRequest is the body of POST /tenants. UserName is that of whoever makes the
// tenant, in it; the one they have if it is left out.
type TenantRequest struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	UserName string `json:"userName,omitempty"`
}

// TenantName is the body of PUT /tenants/{id}.
type TenantName struct {
	Name string `json:"name"`
}

func tenant(t *storage.Tenant) Tenant {
	return Tenant{ID: string(t.ID), Name: t.Name, Created: t.Created.UTC()}
}

func (a *API) tenants(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := auth.TenantsFor(r.Context(), a.Store, by)
	if err != nil {
		return err
	}
	out := TenantList{Tenants: make([]Tenant, len(list))}
	for i, t := range list {
		out.Tenants[i] = tenant(t)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) createTenant(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body TenantRequest
	if err := read(r, &body); err != nil {
		return err
	}
	if err := auth.MayCreateTenants(by); err != nil {
		return err
	}
	if body.UserName == "" {
		body.UserName = by.Name
	}
	out := auth.Link{ID: auth.NewLinkID(), User: by.ID, Tenant: storage.TenantID(body.ID), Other: storage.NewID(), Out: true, Since: storage.Milli(a.Now())}
	in := auth.Link{ID: out.ID, User: out.Other, Tenant: by.Tenant, Other: by.ID, Since: out.Since}
	f := scim.Founding{Tenant: out.Tenant, Name: body.Name, UserID: out.Other, UserName: body.UserName, Link: in}
	for _, err := range []error{auth.CheckTenantID(f.Tenant), auth.CheckTenantName(f.Name)} {
		if err != nil {
			return err
		}
	}
	// The side that leads to the tenant comes first: it leads nowhere until there is
	// the tenant, and then there is a way in.
	if err := a.Auth.BeginLink(r.Context(), by, out); err != nil {
		return err
	}
	if err := a.Directory.Found(r.Context(), by, f); err != nil {
		if errors.Is(err, storage.ErrOutcomeUnknown) {
			return err
		}
		return errors.Join(err, a.Auth.CutLink(r.Context(), by, out.ID))
	}
	if err := a.Auth.RecordTenant(r.Context(), by, f.Tenant, f.Name); err != nil {
		return err
	}
	w.Header().Set("Location", AdminBase+"/tenants/"+body.ID)
	return respond(w, http.StatusCreated, Tenant{ID: body.ID, Name: body.Name, Created: out.Since.UTC()})
}

func (a *API) renameTenant(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body TenantName
	if err := read(r, &body); err != nil {
		return err
	}
	if pathID(r) != string(by.Tenant) {
		return storage.ErrNotFound
	}
	if err := auth.RenameTenant(r.Context(), a.Store, by, body.Name, a.Now()); err != nil {
		return err
	}
	list, err := a.Store.ListTenants(r.Context())
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.ID == by.Tenant {
			return respond(w, http.StatusOK, tenant(t))
		}
	}
	return storage.ErrNotFound
}
