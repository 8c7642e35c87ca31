package api

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/events"
	"github.com/roster-id/roster/scim"
)

// FeedRequest is the body of POST /feeds.
type FeedRequest struct {
	Name       string    `json:"name"`
	Delivery   string    `json:"delivery"`
	URL        *string   `json:"url,omitempty"`
	Client     *string   `json:"client,omitempty"`
	Types      *[]string `json:"types,omitempty"`
	Events     *[]string `json:"events,omitempty"`
	Audience   *string   `json:"audience,omitempty"`
	Token      *string   `json:"token,omitempty"`
	KeepHours  *int      `json:"keepHours,omitempty"`
	RetryHours *int      `json:"retryHours,omitempty"`
}

// FeedChange is the body of PATCH /feeds/{id}. What is left out stays as it is.
type FeedChange struct {
	Name       *string   `json:"name,omitempty"`
	URL        *string   `json:"url,omitempty"`
	Client     *string   `json:"client,omitempty"`
	Types      *[]string `json:"types,omitempty"`
	Events     *[]string `json:"events,omitempty"`
	Audience   *string   `json:"audience,omitempty"`
	Token      *string   `json:"token,omitempty"`
	Enabled    *bool     `json:"enabled,omitempty"`
	KeepHours  *int      `json:"keepHours,omitempty"`
	RetryHours *int      `json:"retryHours,omitempty"`
}

// Feed is somebody who is told of changes.
type Feed struct {
	ID         string        `json:"id"`
	Name       string        `json:"name"`
	Delivery   string        `json:"delivery"`
	URL        string        `json:"url,omitempty"`
	Client     string        `json:"client,omitempty"`
	Types      []string      `json:"types"`
	Events     []string      `json:"events"`
	Audience   string        `json:"audience"`
	Token      bool          `json:"token"` // one is sent along
	Enabled    bool          `json:"enabled"`
	Gone       bool          `json:"gone,omitempty"`
	KeepHours  int           `json:"keepHours"`
	RetryHours int           `json:"retryHours"`
	Created    time.Time     `json:"created"`
	Creator    string        `json:"creator"`
	Position   *FeedPosition `json:"position,omitempty"`
}

// FeedPosition is how far a feed has come.
type FeedPosition struct {
	Acknowledged int64     `json:"acknowledged"`
	Waiting      int       `json:"waiting"`
	Failures     int       `json:"failures"`
	Next         time.Time `json:"next,omitzero"`
	Reason       string    `json:"reason,omitempty"`
	Code         int       `json:"code,omitempty"`
}

// NewFeed is the answer to what makes a secret.
type NewFeed struct {
	Feed   Feed   `json:"feed"`
	Secret string `json:"secret,omitempty"` // shown once
}

// FeedList is the feeds of a tenant.
type FeedList struct {
	Feeds []Feed `json:"feeds"`
}

// FeedTest is what became of a test.
type FeedTest struct {
	Delivered bool   `json:"delivered"`
	Reason    string `json:"reason,omitempty"`
	Code      int    `json:"code,omitempty"`
}

// ReplayRequest is the body of POST /feeds/{id}/replay: one of the two.
type ReplayRequest struct {
	Since    *time.Time `json:"since,omitempty"`
	Position *int64     `json:"position,omitempty"`
}

// Replayed says from where on a feed is told again.
type Replayed struct {
	Position int64 `json:"position"`
}

// DeadLetterList is the events of a feed that were given up.
type DeadLetterList struct {
	Total       int          `json:"total"`
	DeadLetters []DeadLetter `json:"deadLetters"` // the newest ones, at most 500
}

// DeadLetter is an event that was given up.
type DeadLetter struct {
	ID           string    `json:"id"`
	ResourceType string    `json:"resourceType"`
	ResourceID   string    `json:"resourceId"`
	At           time.Time `json:"at,omitzero"`
	Dead         time.Time `json:"dead"`
	Attempts     int       `json:"attempts"`
	Reason       string    `json:"reason,omitempty"`
	Code         int       `json:"code,omitempty"`
}

// feed is a feed as by may see it. The path and the query of its address may be what the
// receiver knows its sender by, so who may not have it sent elsewhere does not see them.
func feed(f *events.Feed, by auth.Principal) Feed {
	address := f.URL
	if !by.Permissions.Has(auth.PermissionFeedsWrite) {
		address = origin(address)
	}
	return Feed{
		ID: f.ID, Name: f.Name, Delivery: string(f.Delivery), URL: address, Client: f.Client, Types: f.Types, Events: f.Events, Audience: f.Audience,
		Token: f.HasToken(), Enabled: f.Enabled, Gone: f.Gone, KeepHours: f.KeepHours, RetryHours: f.RetryHours, Created: f.Created.UTC(), Creator: f.Creator,
	}
}

func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (a *API) feeds(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Feeds.List(r.Context(), by.Tenant)
	if err != nil {
		return err
	}
	out := FeedList{Feeds: make([]Feed, len(list))}
	for i, f := range list {
		out.Feeds[i] = feed(f, by)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) feed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	f, p, err := a.Feeds.Find(r.Context(), by.Tenant, pathID(r))
	if err != nil {
		return err
	}
	out := feed(f, by)
	out.Position = &FeedPosition{Acknowledged: p.Acknowledged, Waiting: p.Waiting, Failures: p.Failures, Next: p.Next.UTC(), Reason: string(p.Reason), Code: p.Code}
	return respond(w, http.StatusOK, out)
}

func (a *API) createFeed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body FeedRequest
	if err := read(r, &body); err != nil {
		return err
	}
	f, secret, err := a.Feeds.Create(r.Context(), by, events.Draft{
		Name: &body.Name, Delivery: events.Delivery(body.Delivery), URL: body.URL, Client: body.Client, Types: body.Types, Events: body.Events,
		Audience: body.Audience, Token: body.Token, KeepHours: body.KeepHours, RetryHours: body.RetryHours,
	})
	if err != nil {
		return feedProblem(err)
	}
	w.Header().Set("Location", AdminBase+"/feeds/"+f.ID)
	return respond(w, http.StatusCreated, NewFeed{Feed: feed(f, by), Secret: secret.Reveal()})
}

func (a *API) updateFeed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body FeedChange
	if err := read(r, &body); err != nil {
		return err
	}
	f, err := a.Feeds.Update(r.Context(), by, pathID(r), events.Draft{
		Name: body.Name, URL: body.URL, Client: body.Client, Types: body.Types, Events: body.Events, Audience: body.Audience, Token: body.Token,
		Enabled: body.Enabled, KeepHours: body.KeepHours, RetryHours: body.RetryHours,
	})
	if err != nil {
		return feedProblem(err)
	}
	return respond(w, http.StatusOK, feed(f, by))
}

func (a *API) removeFeed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Feeds.Remove(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

func (a *API) rotateFeed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	f, secret, err := a.Feeds.Rotate(r.Context(), by, pathID(r))
	if err != nil {
		return feedProblem(err)
	}
	return respond(w, http.StatusCreated, NewFeed{Feed: feed(f, by), Secret: secret.Reveal()})
}

func (a *API) testFeed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	reason, code, err := a.Feeds.Test(r.Context(), by.Tenant, pathID(r))
	if err != nil {
		return feedProblem(err)
	}
	return respond(w, http.StatusOK, FeedTest{Delivered: reason == "", Reason: string(reason), Code: code})
}

func (a *API) replayFeed(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body ReplayRequest
	if err := read(r, &body); err != nil {
		return err
	}
	if (body.Since == nil) == (body.Position == nil) {
		return invalid("expected since or position")
	}
	var since time.Time
	var position int64
	if body.Since != nil {
		since = *body.Since
	} else if position = *body.Position; position < 0 {
		return invalid("position: expected a whole number that is not negative")
	}
	at, err := a.Feeds.Replay(r.Context(), by, pathID(r), since, position)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, Replayed{Position: at})
}

func (a *API) deadLetters(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, total, err := a.Feeds.DeadLetters(r.Context(), by.Tenant, pathID(r))
	if err != nil {
		return err
	}
	out := DeadLetterList{Total: total, DeadLetters: make([]DeadLetter, len(list))}
	for i, d := range list {
		out.DeadLetters[i] = DeadLetter{ID: d.ID, ResourceType: d.Type, ResourceID: d.Resource, At: d.At, Dead: d.Dead, Attempts: d.Attempts, Reason: string(d.Reason), Code: d.Code}
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) reviveLetter(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Feeds.Revive(r.Context(), by, pathID(r)); err != nil {
		return feedProblem(err)
	}
	return done(w)
}

func (a *API) dropLetter(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if err := a.Feeds.Drop(r.Context(), by, pathID(r)); err != nil {
		return err
	}
	return done(w)
}

// EventsBase is where clients fetch the events of their feeds, and receivers the keys
// that check them.
const EventsBase = "/events/v1"

func (a *API) eventEndpoints() []endpoint {
	return []endpoint{
		{"GET", "/keys", auth.Public(), a.eventKeys, nil, events.JWKS{}, 200, nil},
		{"POST", "/poll/{id}", auth.Scope(auth.Read, auth.EventResource), a.poll, events.PollRequest{}, events.PollResponse{}, 200, nil},
	}
}

// EventRoutes is the route table below EventsBase.
func (a *API) EventRoutes() []scim.Route {
	list := routes(a.eventEndpoints())
	for i := range list {
		list[i].Waits = true
	}
	return list
}

func (a *API) eventKeys(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
	w.Header().Set("Cache-Control", "public, max-age=300")
	return respond(w, http.StatusOK, a.Feeds.Keys())
}

func (a *API) poll(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	var body events.PollRequest
	if err := readExtensible(r, &body); err != nil {
		return err
	}
	out, err := a.Feeds.Poll(r.Context(), by, pathID(r), body)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, out)
}

func feedProblem(err error) error {
	for _, known := range []error{events.ErrMany, events.ErrDelivery, events.ErrFull} {
		if errors.Is(err, known) {
			return conflict("The feed is not in a state for this", known.Error())
		}
	}
	return err
}
