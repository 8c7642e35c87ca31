package api

import (
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/access"
)

// ReviewRequest is the body of POST /reviews. Either Roles or Administrative is given.
type ReviewRequest struct {
	Title          string    `json:"title"`
	Roles          []string  `json:"roles,omitempty"`
	Administrative bool      `json:"administrative,omitempty"`
	Due            time.Time `json:"due"`
	Reviewers      []string  `json:"reviewers"`
	OnNoDecision   string    `json:"onNoDecision,omitempty"` // "keep", or "revoke" when the review is closed
	RemindDays     int       `json:"remindDays,omitempty"`   // so long before Due and then again and again
}

// Review asks reviewers whether role assignments are still right.
type Review struct {
	ID             string         `json:"id"`
	Title          string         `json:"title"`
	Administrative bool           `json:"administrative"`
	Roles          []string       `json:"roles"`
	Due            time.Time      `json:"due"`
	Overdue        bool           `json:"overdue"`
	Reviewers      []string       `json:"reviewers"`
	OnNoDecision   string         `json:"onNoDecision"`
	RemindDays     int            `json:"remindDays"`
	Created        time.Time      `json:"created"`
	CreatedBy      string         `json:"createdBy"`
	Reminded       time.Time      `json:"reminded,omitzero"`
	Closed         time.Time      `json:"closed,omitzero"`
	ClosedBy       string         `json:"closedBy,omitempty"`
	Applied        string         `json:"applied,omitempty"` // to what nobody had decided about
	Progress       ReviewProgress `json:"progress"`
}

// ReviewProgress counts the assignments of a review.
type ReviewProgress struct {
	Total     int `json:"total"`
	Confirmed int `json:"confirmed"`
	Revoked   int `json:"revoked"`
	Undecided int `json:"undecided"`
}

// ReviewList is all reviews, the newest first.
type ReviewList struct {
	Reviews []Review `json:"reviews"`
}

// ReviewedAssignment is an assignment as it was when its review began, and what was
// decided about it.
type ReviewedAssignment struct {
	Assignment    string    `json:"assignment"`
	Role          string    `json:"role"`
	RoleName      string    `json:"roleName,omitempty"`
	Principal     string    `json:"principal"`
	Type          string    `json:"type"`
	Name          string    `json:"name,omitempty"`
	Eligible      bool      `json:"eligible"`
	Start         time.Time `json:"start,omitzero"`
	End           time.Time `json:"end,omitzero"`
	Given         time.Time `json:"given,omitzero"`
	Decision      string    `json:"decision,omitempty"` // "confirm" or "revoke"
	Reason        string    `json:"reason,omitempty"`
	DecidedBy     string    `json:"decidedBy,omitempty"`
	DecidedByName string    `json:"decidedByName,omitempty"`
	Decided       time.Time `json:"decided,omitzero"`
	Outcome       string    `json:"outcome,omitempty"` // "kept", "revoked", "gone", "refused"
}

// ReviewResult is the assignments of a review.
type ReviewResult struct {
	Generated time.Time            `json:"generated"`
	Review    string               `json:"review"`
	Title     string               `json:"title"`
	Rows      []ReviewedAssignment `json:"rows"`
}

// ReviewDecision is the body of POST /reviews/{id}/decisions.
type ReviewDecision struct {
	Assignment string `json:"assignment"`
	Decision   string `json:"decision"` // "confirm" or "revoke"
	Reason     string `json:"reason,omitempty"`
}

// CloseRequest is the body of POST /reviews/{id}/close.
type CloseRequest struct {
	// Keep keeps what nobody has decided about, whatever the review says.
	Keep bool `json:"keep,omitempty"`
}

func (a *API) reviews(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Access.Reviews(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	out := ReviewList{Reviews: make([]Review, len(list))}
	for i, x := range list {
		out.Reviews[i] = a.toReview(x)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) beginReview(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body ReviewRequest
	if err := read(r, &body); err != nil {
		return err
	}
	made := &access.Review{
		Title: body.Title, Administrative: body.Administrative, Roles: body.Roles, Due: body.Due, Reviewers: body.Reviewers,
		OnNoDecision: access.Verdict(body.OnNoDecision), RemindDays: body.RemindDays,
	}
	if err := a.Access.Begin(r.Context(), by, made); err != nil {
		return err
	}
	found, err := a.Access.Find(r.Context(), by.Tenant, made.ID)
	if err != nil {
		return err
	}
	w.Header().Set("Location", AdminBase+"/reviews/"+made.ID)
	return respond(w, http.StatusCreated, a.toReview(found))
}

func (a *API) review(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	found, err := a.Access.Find(r.Context(), by.Tenant, pathID(r))
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, a.toReview(found))
}

func (a *API) reviewed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	found, err := a.Access.Find(r.Context(), by.Tenant, pathID(r))
	if err != nil {
		return err
	}
	list, err := a.Access.Assignments(r.Context(), by.Tenant, found.ID)
	if err != nil {
		return err
	}
	all, err := a.toReviewed(r, by, list)
	if err != nil {
		return err
	}
	document := ReviewResult{Generated: a.Now().UTC(), Review: found.ID, Title: found.Title, Rows: []ReviewedAssignment{}}
	return table(w, r, "review", document, func(row func(ReviewedAssignment) error) error {
		for _, x := range all {
			if err := row(x); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *API) judge(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body ReviewDecision
	if err := read(r, &body); err != nil {
		return err
	}
	x, err := a.Access.Judge(r.Context(), by, pathID(r), body.Assignment, access.Verdict(body.Decision), body.Reason)
	if err != nil {
		return err
	}
	if x.Decision == access.Revoke && x.Type == auth.PrincipalUser {
		a.Auth.InvalidateUser(x.Principal)
	}
	list, err := a.toReviewed(r, by, []*access.Reviewed{x})
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, list[0])
}

func (a *API) closeReview(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body CloseRequest
	if err := read(r, &body); err != nil {
		return err
	}
	closed, err := a.Access.Close(r.Context(), by, pathID(r), body.Keep)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, a.toReview(closed))
}

func (a *API) toReview(r *access.Review) Review {
	return Review{
		ID: r.ID, Title: r.Title, Administrative: r.Administrative, Roles: append([]string{}, r.Roles...), Due: r.Due.UTC(), Overdue: r.Overdue(a.Now()),
		Reviewers: r.Reviewers, OnNoDecision: string(r.OnNoDecision), RemindDays: r.RemindDays, Created: r.Created.UTC(), CreatedBy: r.CreatedBy,
		Reminded: r.Reminded.UTC(), Closed: r.Closed.UTC(), ClosedBy: r.ClosedBy, Applied: string(r.Applied), Progress: ReviewProgress(*r.Counts),
	}
}

func (a *API) toReviewed(r *http.Request, by auth.Principal, list []*access.Reviewed) ([]ReviewedAssignment, error) {
	ids := map[string][]string{}
	for _, x := range list {
		ids[auth.RoleType] = append(ids[auth.RoleType], x.Role)
		ids[x.Type] = append(ids[x.Type], x.Principal)
		if x.By != "" {
			ids[auth.PrincipalUser] = append(ids[auth.PrincipalUser], x.By)
		}
	}
	name, err := a.names(r, by, ids)
	if err != nil {
		return nil, err
	}
	out := make([]ReviewedAssignment, len(list))
	for i, x := range list {
		out[i] = ReviewedAssignment{
			Assignment: x.Assignment, Role: x.Role, RoleName: name(x.Role), Principal: x.Principal, Type: x.Type, Name: name(x.Principal), Eligible: x.Eligible,
			Start: x.Start.UTC(), End: x.End.UTC(), Given: x.Given.UTC(), Decision: string(x.Decision), Reason: x.Reason, DecidedBy: x.By, DecidedByName: name(x.By),
			Decided: x.At.UTC(), Outcome: x.Outcome,
		}
	}
	return out, nil
}
