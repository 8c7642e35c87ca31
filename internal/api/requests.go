package api

import (
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/access"
)

// AskableRole is a role as everybody may see it who could ask for it.
type AskableRole struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	Description    string `json:"description,omitempty"`
	Category       string `json:"category,omitempty"`
	Administrative bool   `json:"administrative"`
}

// RoleCatalogue is the roles that there are.
type RoleCatalogue struct {
	Roles []AskableRole `json:"roles"`
	// More says that there are more than are told.
	More bool `json:"more,omitempty"`
}

// ApproverList says whom to ask for a role.
type ApproverList struct {
	Names []string `json:"names"`
	// More says that there are others.
	More bool `json:"more,omitempty"`
}

// RoleRequestRequest is the body of POST /roles/requests.
type RoleRequestRequest struct {
	Role   string     `json:"role"`
	Reason string     `json:"reason"`
	Hours  *int64     `json:"hours,omitempty"`
	Until  *time.Time `json:"until,omitempty"`
}

// RoleRequest is a role that somebody has asked for.
type RoleRequest struct {
	ID       string    `json:"id"`
	User     string    `json:"user"`
	UserName string    `json:"userName,omitempty"` // what the user is called
	Role     string    `json:"role"`
	RoleName string    `json:"roleName,omitempty"`
	Reason   string    `json:"reason"`
	Hours    int64     `json:"hours,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Asked    time.Time `json:"asked"`
	Expires  time.Time `json:"expires"` // if nobody decides
	State    string    `json:"state"`
	// Of the decision.
	Decided        time.Time `json:"decided,omitzero"`
	DecidedBy      string    `json:"decidedBy,omitempty"` // for who decides
	DecisionReason string    `json:"decisionReason,omitempty"`
	Assignment     string    `json:"assignment,omitempty"`
}

// RoleRequestList is a list of requests.
type RoleRequestList struct {
	Requests []RoleRequest `json:"requests"`
}

// ApprovalQueue is what waits for whoever asks to decide.
type ApprovalQueue struct {
	Requests    []RoleRequest     `json:"requests"`
	Activations []ActivationState `json:"activations"`
}

// RequestDecision is the body of POST /role-requests/{id}/decision.
type RequestDecision struct {
	Decision string `json:"decision"` // "approve" or "deny"
	Reason   string `json:"reason,omitempty"`
}

// maxCatalogue bounds how many roles are told.
const maxCatalogue = 1000

func (a *API) roleCatalogue(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	out := RoleCatalogue{}
	err := a.reports().Catalogue(r.Context(), by.Tenant, func(role *auth.Role) error {
		if len(out.Roles) == maxCatalogue {
			out.More = true
			return errEnough
		}
		out.Roles = append(out.Roles, AskableRole{
			ID: role.ID, Name: role.Name(), Description: role.Description, Category: role.Category, Administrative: role.Administrative,
		})
		return nil
	})
	if err != nil && !out.More {
		return err
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) approvers(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	names, more, err := a.Access.Approvers(r.Context(), by, pathID(r))
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, ApproverList{Names: append([]string{}, names...), More: more})
}

func (a *API) ownRequests(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Access.Own(r.Context(), by.Tenant, by.ID)
	if err != nil {
		return err
	}
	requests, err := a.roleRequests(r, by, list)
	if err != nil {
		return err
	}
	for i := range requests {
		requests[i].DecidedBy = "" // who looks after roles is not for everybody
	}
	return respond(w, http.StatusOK, RoleRequestList{Requests: requests})
}

func (a *API) requestRole(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body RoleRequestRequest
	if err := read(r, &body); err != nil {
		return err
	}
	var (
		hours int64
		until time.Time
	)
	if body.Hours != nil {
		if hours = *body.Hours; hours == 0 {
			hours = -1 // none is no number of hours
		}
	}
	if body.Until != nil {
		until = *body.Until
	}
	made, err := a.Access.Ask(r.Context(), by, body.Role, body.Reason, hours, until)
	if err != nil {
		return err
	}
	return a.oneRequest(w, r, by, http.StatusCreated, made)
}

func (a *API) withdrawRequest(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Access.Withdraw(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func (a *API) approvalQueue(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	waiting, err := a.Access.WaitingFor(r.Context(), by)
	if err != nil {
		return err
	}
	out := ApprovalQueue{}
	if out.Requests, err = a.roleRequests(r, by, waiting); err != nil {
		return err
	}
	list, err := a.Access.WaitingActivations(r.Context(), by)
	if err != nil {
		return err
	}
	if out.Activations, err = a.activationStates(r, by, list); err != nil {
		return err
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) decideRequest(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body RequestDecision
	if err := read(r, &body); err != nil {
		return err
	}
	if body.Decision != "approve" && body.Decision != "deny" {
		return invalid("decision: expected approve or deny")
	}
	decided, err := a.Access.Decide(r.Context(), by, pathID(r), body.Decision == "approve", body.Reason)
	if err != nil {
		return err
	}
	a.Auth.InvalidateUser(decided.User)
	return a.oneRequest(w, r, by, http.StatusOK, decided)
}

func (a *API) oneRequest(w http.ResponseWriter, r *http.Request, by auth.Principal, status int, x *access.Request) error {
	list, err := a.roleRequests(r, by, []*access.Request{x})
	if err != nil {
		return err
	}
	return respond(w, status, list[0])
}

func (a *API) roleRequests(r *http.Request, by auth.Principal, list []*access.Request) ([]RoleRequest, error) {
	ids := map[string][]string{}
	for _, x := range list {
		ids[auth.RoleType] = append(ids[auth.RoleType], x.Role)
		ids[auth.PrincipalUser] = append(ids[auth.PrincipalUser], x.User)
	}
	name, err := a.names(r, by, ids)
	if err != nil {
		return nil, err
	}
	out := make([]RoleRequest, len(list))
	for i, x := range list {
		out[i] = RoleRequest{
			ID: x.ID, User: x.User, UserName: name(x.User), Role: x.Role, RoleName: name(x.Role), Reason: x.Reason, Hours: x.Hours, Until: x.Until.UTC(),
			Asked: x.Asked.UTC(), Expires: x.Asked.Add(access.RequestWaits).UTC(), State: string(x.State), Decided: x.At.UTC(), DecidedBy: x.By,
			DecisionReason: x.Why, Assignment: x.Assignment,
		}
	}
	return out, nil
}
