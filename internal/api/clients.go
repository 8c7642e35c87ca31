package api

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// ClientRequest is the body of POST /clients.
type ClientRequest struct {
	Name       string     `json:"name"`
	Scopes     []string   `json:"scopes"`
	Profile    string     `json:"profile,omitempty"`
	References string     `json:"references,omitempty"`
	Networks   []string   `json:"networks,omitempty"`
	Rate       int        `json:"rate,omitempty"`
	Burst      int        `json:"burst,omitempty"`
	Expires    *time.Time `json:"expires,omitempty"` // of the token
}

// ClientChange is the body of PATCH /clients/{id}. What is left out stays as it is.
type ClientChange struct {
	Name       *string    `json:"name,omitempty"`
	Scopes     *[]string  `json:"scopes,omitempty"`
	Profile    *string    `json:"profile,omitempty"`
	References *string    `json:"references,omitempty"`
	Networks   *[]string  `json:"networks,omitempty"`
	Rate       *int       `json:"rate,omitempty"`
	Burst      *int       `json:"burst,omitempty"`
	Expires    *time.Time `json:"expires,omitempty"` // of the tokens that would end later
}

// RotationRequest is the body of POST /clients/{id}/rotate.
type RotationRequest struct {
	Expires *time.Time `json:"expires,omitempty"` // of the new token
	// OverlapSeconds is how long the token in use stays valid.
	OverlapSeconds *int64 `json:"overlapSeconds,omitempty"`
}

// Client is a provisioning client.
type Client struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Scopes     []string  `json:"scopes"`
	Profile    string    `json:"profile,omitempty"`
	References string    `json:"references,omitempty"`
	Networks   []string  `json:"networks,omitempty"`
	Rate       int       `json:"rate,omitempty"`
	Burst      int       `json:"burst,omitempty"`
	Created    time.Time `json:"created"`
	Revoked    time.Time `json:"revoked,omitzero"`
	Tokens     []Token   `json:"tokens"`
}

// Token is a token of a client, without its secret.
type Token struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

// NewToken is the answer to what makes a token.
type NewToken struct {
	Client Client `json:"client"`
	Token  string `json:"token"` // shown once
}

// ClientList is a list of clients.
type ClientList struct {
	Clients []Client `json:"clients"`
}

func client(c *storage.Client) Client {
	out := Client{
		ID: c.ID, Name: c.Name, Scopes: append([]string{}, c.Scopes...), Profile: c.Profile, References: c.References, Networks: c.Networks, Rate: c.Rate, Burst: c.Burst,
		Created: c.Created.UTC(), Revoked: c.Revoked.UTC(), Tokens: make([]Token, 0, len(c.Tokens)),
	}
	for _, t := range c.Tokens {
		out.Tokens = append(out.Tokens, Token{ID: t.ID, Created: t.Created.UTC(), Expires: t.Expires.UTC(), LastUsed: t.LastUsed.UTC()})
	}
	return out
}

func (a *API) clients(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Store.ListClients(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	out := ClientList{Clients: make([]Client, 0, len(list))}
	for _, c := range list {
		out.Clients = append(out.Clients, client(c))
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) client(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	c, err := a.Clients.Find(r.Context(), by, pathID(r))
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, client(c))
}

func (a *API) createClient(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body ClientRequest
	if err := read(r, &body); err != nil {
		return err
	}
	c := &storage.Client{Name: body.Name, Scopes: body.Scopes, Profile: body.Profile, References: body.References, Networks: body.Networks, Rate: body.Rate, Burst: body.Burst}
	made, err := a.Clients.Create(r.Context(), by, c, a.lifetime(body.Expires))
	if err != nil {
		return clientProblem(err)
	}
	w.Header().Set("Location", AdminBase+"/clients/"+made.Client.ID)
	return respond(w, http.StatusCreated, NewToken{Client: client(made.Client), Token: made.Text.Reveal()})
}

func (a *API) updateClient(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body ClientChange
	if err := read(r, &body); err != nil {
		return err
	}
	c, err := a.Clients.Update(r.Context(), by, pathID(r), auth.ClientChange(body))
	if err != nil {
		return clientProblem(err)
	}
	return respond(w, http.StatusOK, client(c))
}

func (a *API) rotateClient(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body RotationRequest
	if err := read(r, &body); err != nil {
		return err
	}
	overlap := auth.DefaultOverlap
	if s := body.OverlapSeconds; s != nil {
		// What is beyond all bounds must not become a small number of nanoseconds.
		overlap = time.Duration(max(-1, min(*s, int64(2*auth.MaxTokenLifetime/time.Second)))) * time.Second
	}
	made, err := a.Clients.Rotate(r.Context(), by, pathID(r), overlap, a.lifetime(body.Expires))
	if err != nil {
		return clientProblem(err)
	}
	c, err := a.Clients.Find(r.Context(), by, made.Client.ID) // as its tokens are now
	if err != nil {
		return err
	}
	return respond(w, http.StatusCreated, NewToken{Client: client(c), Token: made.Text.Reveal()})
}

func (a *API) revokeClient(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Clients.Revoke(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

// lifetime returns for how long a token is to be valid that expires at a time.
func (a *API) lifetime(expires *time.Time) time.Duration {
	if expires == nil {
		return auth.DefaultTokenLifetime
	}
	return expires.Sub(a.Now())
}

// clientProblem says what is wrong with a client, by member. Its values are not
// repeated.
func clientProblem(err error) error {
	if errors.Is(err, auth.ErrRevoked) {
		return conflict("The client has been revoked", "")
	}
	if e, ok := errors.AsType[*storage.UniqueError](err); ok {
		return conflict("There is such a client already", e.Attr+" is in use")
	}
	var details []string
	for _, err := range flatten(err) {
		if e, ok := errors.AsType[*auth.ClientError](err); ok {
			details = append(details, clientMembers[e.Member])
		}
	}
	if details == nil {
		return err
	}
	return invalid(strings.Join(details, "; "))
}

// clientMembers says what each member of a client has to be.
var clientMembers = map[string]string{
	"name":       "name: expected 1 to 64 printable characters without spaces around",
	"scopes":     "scopes: expected some of " + strings.Join(auth.ScopeNames(), ", "),
	"profile":    "profile: expected entra, okta or strict, or nothing",
	"references": "references: expected late, or nothing",
	"networks":   "networks: expected networks such as 192.0.2.0/24 or 2001:db8::/32",
	"rate":       "rate: expected a number from 0 to 1000000",
	"burst":      "burst: expected a number from 0 to 1000000, and a rate beside it",
	"expires":    "expires: expected a time within 365 days from now",
	"overlap":    "overlapSeconds: expected a number from 0 to 31536000, which is 365 days",
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the error itself, not what it wraps
		var list []error
		for _, err := range joined.Unwrap() {
			list = append(list, flatten(err)...)
		}
		return list
	}
	return []error{err}
}
