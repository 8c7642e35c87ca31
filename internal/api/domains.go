package api

import (
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/domains"
	"github.com/roster-id/roster/storage"
)

// Domain is a domain of a tenant. The default one is there from the beginning, and needs
// no proof.
type Domain struct {
	Name     string        `json:"name"`
	Default  bool          `json:"default"`
	Primary  bool          `json:"primary"`
	Added    time.Time     `json:"added,omitzero"`
	Verified time.Time     `json:"verified,omitzero"` // absent until it is proven
	Missing  time.Time     `json:"missing,omitzero"`  // since when its record is gone
	Record   *DomainRecord `json:"record,omitempty"`
}

// DomainRecord is the DNS record that proves a domain.
type DomainRecord struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// DomainList is the domains of a tenant.
type DomainList struct {
	Domains []Domain `json:"domains"`
}

// DomainRequest is the body of POST /domains.
type DomainRequest struct {
	Name string `json:"name"`
}

func domain(tenant storage.TenantID, d *domains.Domain) Domain {
	if d.Name == domains.Default(tenant) {
		return Domain{Name: d.Name, Default: true, Primary: d.Primary}
	}
	return Domain{Name: d.Name, Primary: d.Primary, Added: d.Added.UTC(), Verified: d.Verified.UTC(), Missing: d.Missing.UTC(),
		Record: &DomainRecord{"TXT", d.Record(), d.Challenge}}
}

// domainName is the domain in the path, in whatever way it is written where one is added.
func domainName(r *http.Request) string {
	name := pathID(r)
	if normal, err := domains.Normalize(name); err == nil {
		return normal
	}
	return name // the default one, or none
}

func (a *API) domains(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Domains.List(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	out := DomainList{Domains: []Domain{domain(by.Tenant, domains.First(by.Tenant, list))}}
	for _, d := range list {
		out.Domains = append(out.Domains, domain(by.Tenant, d))
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) domain(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	d, err := a.Domains.Find(r.Context(), by.Tenant, domainName(r))
	return answerDomain(w, http.StatusOK, by, d, err)
}

func answerDomain(w http.ResponseWriter, status int, by auth.Principal, d *domains.Domain, err error) error {
	if err != nil {
		return err
	}
	return respond(w, status, domain(by.Tenant, d))
}

func (a *API) addDomain(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body DomainRequest
	if err := read(r, &body); err != nil {
		return err
	}
	d, err := a.Domains.Add(r.Context(), by, body.Name)
	if err == nil {
		w.Header().Set("Location", AdminBase+"/domains/"+d.Name)
	}
	return answerDomain(w, http.StatusCreated, by, d, err)
}

func (a *API) verifyDomain(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	d, err := a.Domains.Verify(r.Context(), by, domainName(r))
	return answerDomain(w, http.StatusOK, by, d, err)
}

func (a *API) makePrimary(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	d, err := a.Domains.SetPrimary(r.Context(), by, domainName(r))
	return answerDomain(w, http.StatusOK, by, d, err)
}

func (a *API) removeDomain(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Domains.Remove(r.Context(), by, domainName(r)); err != nil {
		return err
	}
	return done(w)
}
