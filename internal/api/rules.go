package api

import (
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// RuleList is the conditional rules of a tenant.
type RuleList struct {
	Rules []auth.Rule `json:"rules"`
}

// Trial says what a rule would have done to the sign-ins of the last 30 days.
type Trial struct {
	SignIns  int           `json:"signIns"`
	Applies  int           `json:"applies"`
	Accounts int           `json:"accounts"`
	Newest   []TriedSignIn `json:"newest"`
}

// TriedSignIn is a sign-in that a rule would have applied to.
type TriedSignIn struct {
	User string    `json:"user"`
	At   time.Time `json:"at"`
	From string    `json:"from,omitempty"`
}

// EmergencyRequest is the body of PUT /users/{id}/emergency.
type EmergencyRequest struct {
	Emergency bool `json:"emergency"`
}

func (a *API) rules(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	rules, err := auth.Rules(r.Context(), a.Store, by.Tenant)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, RuleList{Rules: append([]auth.Rule{}, rules...)})
}

func (a *API) rule(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	rules, err := auth.Rules(r.Context(), a.Store, by.Tenant)
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if rule.ID == pathID(r) {
			return respond(w, http.StatusOK, rule)
		}
	}
	return storage.ErrNotFound
}

func (a *API) createRule(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	rule, err := readRule(r)
	if err != nil {
		return err
	}
	rule.ID = rand.Text()
	if err := a.Auth.PutRule(r.Context(), by, rule, true); err != nil {
		return ruleProblem(err)
	}
	w.Header().Set("Location", AdminBase+"/rules/"+rule.ID)
	return respond(w, http.StatusCreated, rule)
}

func (a *API) replaceRule(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	rule, err := readRule(r)
	if err != nil {
		return err
	}
	if rule.ID != "" && rule.ID != pathID(r) {
		return invalid("id: expected the id in the path, or none")
	}
	rule.ID = pathID(r)
	if err := a.Auth.PutRule(r.Context(), by, rule, false); err != nil {
		return ruleProblem(err)
	}
	return respond(w, http.StatusOK, rule)
}

func (a *API) deleteRule(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Auth.DeleteRule(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func (a *API) tryRule(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	rule, err := readRule(r)
	if err != nil {
		return err
	}
	if err := rule.Validate(); err != nil {
		return ruleProblem(err)
	}
	run, err := auth.Try(r.Context(), a.Store, by.Tenant, rule, a.Now())
	if err != nil {
		return err
	}
	out := Trial{SignIns: run.SignIns, Applies: run.Applies, Accounts: run.Accounts, Newest: []TriedSignIn{}}
	for _, in := range run.Newest {
		tried := TriedSignIn{User: in.User, At: in.At.UTC()}
		if in.Facts.From.IsValid() {
			tried.From = in.Facts.From.String()
		}
		out.Newest = append(out.Newest, tried)
	}
	return respond(w, http.StatusOK, out)
}

func readRule(r *http.Request) (rule auth.Rule, err error) {
	return rule, read(r, &rule)
}

func ruleProblem(err error) error {
	if errors.Is(err, auth.ErrTooManyRules) {
		return conflict("There are too many rules", err.Error())
	}
	return err
}

func (a *API) markEmergency(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body EmergencyRequest
	if err := read(r, &body); err != nil {
		return err
	}
	if err := a.Auth.MarkEmergency(r.Context(), by, pathID(r), body.Emergency); err != nil {
		return err
	}
	return done(w)
}
