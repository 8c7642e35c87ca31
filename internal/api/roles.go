package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
)

// Holding is one way in which somebody comes to a role.
type Holding struct {
	Role       string    `json:"role"`
	Assignment string    `json:"assignment"`
	Principal  string    `json:"principal"`
	Type       string    `json:"type"`
	Through    string    `json:"through,omitempty"`
	Eligible   bool      `json:"eligible"`
	ActiveTill time.Time `json:"activeTill,omitzero"`
	Start      time.Time `json:"start,omitzero"`
	End        time.Time `json:"end,omitzero"`
}

// HoldingList is a list of holdings.
type HoldingList struct {
	Holdings []Holding `json:"holdings"`
	// More says that there are more than are told.
	More bool `json:"more,omitempty"`
}

// maxHoldings bounds how many holders of a role are told: everybody may be in a
// group that has one.
const maxHoldings = 1000

// ActivationRequest is the body of POST /roles/activations.
type ActivationRequest struct {
	Assignment      string `json:"assignment"`
	DurationSeconds int64  `json:"durationSeconds"`
	Reason          string `json:"reason"`
}

// Activation is an eligible role that somebody has made active, or asks to.
type Activation struct {
	ID              string    `json:"id"`
	Assignment      string    `json:"assignment"`
	Role            string    `json:"role"`
	User            string    `json:"user"`
	DurationSeconds int64     `json:"durationSeconds"`
	Reason          string    `json:"reason"`
	Asked           time.Time `json:"asked"`
	Until           time.Time `json:"until,omitzero"`
	ApprovedBy      string    `json:"approvedBy,omitempty"`
}

// ActivationList is a list of activations.
type ActivationList struct {
	Activations []Activation `json:"activations"`
}

func holding(h auth.Holding) Holding {
	return Holding{
		Role: h.Role, Assignment: h.Assignment, Principal: h.Principal, Type: h.Type, Through: h.Through, Eligible: h.Eligible,
		ActiveTill: h.ActiveTill.UTC(), Start: h.Start.UTC(), End: h.End.UTC(),
	}
}

func activation(a *auth.Activation) Activation {
	return Activation{
		ID: a.ID, Assignment: a.Grant, Role: a.Role, User: a.Principal, DurationSeconds: a.Seconds,
		Reason: a.Reason, Asked: a.Asked.UTC(), Until: a.Until.UTC(), ApprovedBy: a.ApprovedBy,
	}
}

func (a *API) holdings() auth.Holdings { return auth.Holdings{Store: a.Store, Now: a.Now} }

func (a *API) ownRoles(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.holdingsOf(w, r, by, by.ID)
}

func (a *API) userRoles(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if _, err := a.Store.Get(r.Context(), by.Tenant, auth.PrincipalUser, pathID(r)); err != nil {
		return err
	}
	return a.holdingsOf(w, r, by, pathID(r))
}

func (a *API) holdingsOf(w http.ResponseWriter, r *http.Request, by auth.Principal, user string) error {
	list, err := a.holdings().OfUser(r.Context(), by.Tenant, user)
	if err != nil {
		return err
	}
	out := HoldingList{Holdings: make([]Holding, len(list))}
	for i, h := range list {
		out.Holdings[i] = holding(h)
	}
	return respond(w, http.StatusOK, out)
}

// errEnough ends a list that has become too long.
var errEnough = errors.New("enough")

func (a *API) holders(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if _, err := auth.FindRole(r.Context(), a.Store, by.Tenant, pathID(r)); err != nil {
		return err
	}
	out := HoldingList{Holdings: []Holding{}}
	err := a.holdings().OfRole(r.Context(), by.Tenant, pathID(r), func(h auth.Holding) error {
		if len(out.Holdings) == maxHoldings {
			out.More = true
			return errEnough
		}
		out.Holdings = append(out.Holdings, holding(h))
		return nil
	})
	if err != nil && !out.More {
		return err
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) activations(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := auth.Activations(r.Context(), a.Store, by.Tenant, by.ID, a.Now())
	if err != nil {
		return err
	}
	out := ActivationList{Activations: make([]Activation, len(list))}
	for i, x := range list {
		out.Activations[i] = activation(x)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) activate(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body ActivationRequest
	if err := read(r, &body); err != nil {
		return err
	}
	// What is beyond all bounds must not become a small number of nanoseconds.
	duration := time.Duration(max(0, min(body.DurationSeconds, int64(2*auth.MaxActivation/time.Second)))) * time.Second
	made, err := auth.Activate(r.Context(), a.Store, by, a.Now(), body.Assignment, duration, body.Reason)
	if err != nil {
		return err
	}
	a.Auth.InvalidateUser(by.ID)
	return respond(w, http.StatusCreated, activation(made))
}

func (a *API) deactivate(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	holder, err := auth.Deactivate(r.Context(), a.Store, by, a.Now(), pathID(r))
	if err != nil {
		return err
	}
	a.Auth.InvalidateUser(holder)
	return done(w)
}

func (a *API) approve(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	made, err := auth.Approve(r.Context(), a.Store, by, a.Now(), pathID(r))
	if err != nil {
		return err
	}
	a.Auth.InvalidateUser(made.Principal)
	return respond(w, http.StatusOK, activation(made))
}
