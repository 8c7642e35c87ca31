package api

import (
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/domains"
)

// DomainMoveRequest is the body of what moves user names, and of its preview.
type DomainMoveRequest struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Emails bool   `json:"emails,omitempty"`
}

// DomainMovePreview is what a move would come to.
type DomainMovePreview struct {
	From           string     `json:"from"`
	To             string     `json:"to"`
	Total          int        `json:"total"`
	Administrators int        `json:"administrators"`
	Conflicted     int        `json:"conflicted"`
	Pairs          []NamePair `json:"pairs"`
	Conflicts      []NamePair `json:"conflicts"`
}

// NamePair is a user with the user name before and after; TakenBy is the id of somebody
// who has that name.
type NamePair struct {
	User          string `json:"user"`
	Before        string `json:"before"`
	After         string `json:"after"`
	Administrator bool   `json:"administrator"`
	TakenBy       string `json:"takenBy,omitempty"`
}

// DomainMove is a move of user names and how far it is.
type DomainMove struct {
	ID       string        `json:"id"`
	From     string        `json:"from"`
	To       string        `json:"to"`
	Emails   bool          `json:"emails"`
	By       string        `json:"by"`
	State    string        `json:"state"`
	Reason   string        `json:"reason,omitempty"`
	Started  time.Time     `json:"started"`
	Finished time.Time     `json:"finished,omitzero"`
	Total    int           `json:"total"`
	Moved    int           `json:"moved"`
	Skipped  int           `json:"skipped"`
	Named    []SkippedUser `json:"named"` // the first of those skipped
}

// SkippedUser is a user whom a move has left alone.
type SkippedUser struct {
	User string `json:"user"`
	Why  string `json:"why"`
}

// DomainMoveList is the moves of a tenant.
type DomainMoveList struct {
	Moves []DomainMove `json:"moves"`
}

func domainMove(m *domains.Move) DomainMove {
	out := DomainMove{
		ID: m.ID, From: m.From, To: m.To, Emails: m.Emails, By: m.By, State: string(m.State), Reason: m.Reason, Started: m.Started.UTC(),
		Finished: m.Finished.UTC(), Total: m.Total, Moved: m.Moved, Skipped: m.Skipped, Named: []SkippedUser{},
	}
	for _, s := range m.Named {
		out.Named = append(out.Named, SkippedUser(s))
	}
	return out
}

func readMove(r *http.Request) (domains.Plan, error) {
	var body DomainMoveRequest
	err := read(r, &body)
	return domains.Plan(body), err
}

func (a *API) previewDomainMove(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	plan, err := readMove(r)
	if err != nil {
		return err
	}
	p, err := a.Domains.Preview(r.Context(), by, plan)
	if err != nil {
		return err
	}
	out := DomainMovePreview{From: p.From, To: p.To, Total: p.Total, Administrators: p.Administrators, Conflicted: p.Conflicted,
		Pairs: make([]NamePair, len(p.Pairs)), Conflicts: make([]NamePair, len(p.Conflicts))}
	for i, x := range p.Pairs {
		out.Pairs[i] = NamePair{User: x.User, Before: x.Before, After: x.After, Administrator: x.Administrator}
	}
	for i, x := range p.Conflicts {
		out.Conflicts[i] = NamePair{x.User, x.Before, x.After, x.Administrator, x.TakenBy}
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) beginDomainMove(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	plan, err := readMove(r)
	if err != nil {
		return err
	}
	m, err := a.Domains.Begin(r.Context(), by, plan)
	if err != nil {
		return err
	}
	w.Header().Set("Location", AdminBase+"/domain-moves/"+m.ID)
	return respond(w, http.StatusCreated, domainMove(m))
}

func (a *API) domainMoves(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Domains.Moves(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	out := DomainMoveList{Moves: make([]DomainMove, len(list))}
	for i, m := range list {
		out.Moves[i] = domainMove(m)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) domainMove(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	m, err := a.Domains.FindMove(r.Context(), by.Tenant, pathID(r))
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, domainMove(m))
}

func (a *API) pauseDomainMove(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.setDomainMove(w, r, by, domains.Paused)
}

func (a *API) resumeDomainMove(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.setDomainMove(w, r, by, domains.Running)
}

func (a *API) cancelDomainMove(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	return a.setDomainMove(w, r, by, domains.Cancelled)
}

func (a *API) setDomainMove(w http.ResponseWriter, r *http.Request, by auth.Principal, to domains.State) error {
	m, err := a.Domains.SetState(r.Context(), by, pathID(r), to)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, domainMove(m))
}
