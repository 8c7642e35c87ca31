package events

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// Delivery is how the events of a feed reach who is told.
type Delivery string

// The ways of delivery.
const (
	Webhook Delivery = "webhook" // JSON with the signature of Standard Webhooks
	Push    Delivery = "push"    // RFC 8935
	Poll    Delivery = "poll"    // RFC 8936
)

// Feed is somebody who is told of what changes in a tenant.
type Feed struct {
	ID       string   `json:"-"`
	Name     string   `json:"name"`
	Delivery Delivery `json:"delivery"`
	// Client is the id of the client that fetches the events, if the feed is one to poll.
	Client string `json:"client,omitzero"`
	// Types are the names of the resource types, and Events the URIs of the events,
	// that the feed is told of.
	Types  []string `json:"types"`
	Events []string `json:"events"`
	// Audience is the aud of its tokens.
	Audience string `json:"audience"`
	Enabled  bool   `json:"enabled"`
	// Gone says that the receiver answered 410 and the feed was disabled for that.
	Gone bool `json:"gone,omitzero"`
	// KeepHours is for how long an event waits for its turn or for a poll, can be
	// replayed, and stays among the dead letters. RetryHours is for how long it is
	// tried from its first attempt on.
	KeepHours  int       `json:"keepHours"`
	RetryHours int       `json:"retryHours"`
	Created    time.Time `json:"created"`
	Creator    string    `json:"creator"` // an actor
	// Epoch tells the ids of its events from those before a restore, after which the
	// numbers of the audit trail are given once more.
	Epoch string `json:"epoch,omitzero"`

	// URL is where events are sent; it may hold a secret.
	URL string `json:"-"`

	secrets secrets
}

// Bounds and defaults of feeds.
const (
	MaxFeeds          = 50 // of a tenant
	DefaultKeepHours  = 7 * 24
	MaxKeepHours      = 90 * 24
	DefaultRetryHours = 24
	MaxRetryHours     = 7 * 24
	maxNameLength     = 64
	maxURLLength      = 2048
	maxTokenLength    = 4096
)

// SecretOverlap is for how long webhooks bear the signature of the former secret, too,
// when it was rotated.
const SecretOverlap = 24 * time.Hour

// secrets are what nobody is to read in the store.
type secrets struct {
	URL    string    `json:"url,omitzero"`
	Key    string    `json:"key,omitzero"`    // of webhooks, as the receiver got it
	Former string    `json:"former,omitzero"` // the key before
	Until  time.Time `json:"until,omitzero"`  // when Former ends
	Token  string    `json:"token,omitzero"`  // that is sent along with what is pushed
}

// HasToken reports whether the feed sends a bearer token along.
func (f *Feed) HasToken() bool { return f.secrets.Token != "" }

// Position is how far a feed has come.
type Position struct {
	// Acknowledged: all events up to this number of the audit trail were acknowledged,
	// are among Waiting, or were given up.
	Acknowledged int64
	Waiting      int // events that are tried again
	// Failures is how often in a row nothing could be delivered, and Next when it is
	// tried again.
	Failures int
	Next     time.Time
	// Reason and Code are those of the last failure.
	Reason Reason
	Code   int
}

// The kinds of items. A feed and its state have the same id; that of a dead letter is
// letterID.
const (
	feedKind  = "feed"
	stateKind = "feed.state"
	deadKind  = "feed.dead"
)

type record struct {
	Feed
	Sealed []byte `json:"sealed"`
}

func sealedOwner(tenant storage.TenantID, id string) []string {
	return []string{string(tenant), feedKind, id}
}

// item writes a feed down.
func (f *Feed) item(keys *auth.KeyRing, tenant storage.TenantID) (*storage.Item, error) {
	s := f.secrets
	s.URL = f.URL
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	sealed := keys.Seal(plain, sealedOwner(tenant, f.ID)...)
	data, err := json.Marshal(record{*f, sealed})
	return &storage.Item{Kind: feedKind, ID: f.ID, Keys: []string{keys.SealedKey(sealed, f.ID)}, Data: data}, err
}

func readFeed(keys *auth.KeyRing, tenant storage.TenantID, i *storage.Item) (*Feed, error) {
	var r record
	if err := json.Unmarshal(i.Data, &r); err != nil {
		return nil, fmt.Errorf("the feed %s is damaged", i.ID)
	}
	plain, err := keys.Open(r.Sealed, sealedOwner(tenant, i.ID)...)
	if err != nil {
		return nil, fmt.Errorf("the feed %s: %w", i.ID, err)
	}
	f := r.Feed
	if err := json.Unmarshal(plain, &f.secrets); err != nil {
		return nil, fmt.Errorf("the feed %s is damaged", i.ID)
	}
	f.ID, f.URL = i.ID, f.secrets.URL
	return &f, nil
}

// Sealed are the feeds, for the rotation of keys.
var Sealed = auth.Sealed{
	Kind: feedKind,
	Reseal: func(k *auth.KeyRing, tenant storage.TenantID, i *storage.Item) (*storage.Item, error) {
		f, err := readFeed(k, tenant, i)
		if err != nil {
			return nil, err
		}
		return f.item(k, tenant)
	},
}

// Restored makes an item of a backup, which may be of any kind, one that tells nobody
// anything: a feed is disabled, as it may have been removed or got another secret since
// the backup, and its events have other ids from now on.
func Restored(i *storage.Item) (*storage.Item, error) {
	if i.Kind != feedKind {
		return i, nil
	}
	var r record
	if err := json.Unmarshal(i.Data, &r); err != nil {
		return nil, fmt.Errorf("the feed %s is damaged", i.ID)
	}
	r.Enabled, r.Epoch = false, rand.Text()
	next := *i
	next.Data = asJSON(r)
	return &next, nil
}

// state is how far a feed has come; see Position.
type state struct {
	Position int64  `json:"position"`
	Held     []held `json:"held,omitzero"` // in the order of their numbers
	// Done are events above Position that a poller has acknowledged.
	Done []int64 `json:"done,omitzero"`
	// Lease is who delivers, until Due. Without one, Due is when to try again.
	Lease    string    `json:"lease,omitzero"`
	Due      time.Time `json:"due,omitzero"`
	Wait     wait      `json:"wait,omitzero"`
	Failures int       `json:"failures,omitzero"`
	Reason   Reason    `json:"reason,omitzero"`
	Code     int       `json:"code,omitzero"`
}

// held is an event that was not acknowledged, or waits behind one of the same resource.
type held struct {
	Seq      int64     `json:"seq"`
	Resource string    `json:"resource"` // its type and id
	Attempts int       `json:"attempts,omitzero"`
	Due      time.Time `json:"due,omitzero"`
	Wait     wait      `json:"wait,omitzero"`
	First    time.Time `json:"first,omitzero"` // attempt
	Reason   Reason    `json:"reason,omitzero"`
	Code     int       `json:"code,omitzero"`
}

// wait is how far ahead, in seconds, the time is at which something is tried again, when
// that is set: what is further ahead later was set by a clock that was wrong.
type wait int

// until returns the time after d, and how far ahead that is.
func until(now time.Time, d time.Duration) (time.Time, wait) {
	return storage.Milli(now.Add(d)), wait(d/time.Second) + 1
}

func (w wait) over(at, now time.Time) bool {
	if w == 0 { // as an older version wrote it
		return storage.Due(at, now, longestWait)
	}
	return storage.Due(at, now, time.Duration(w)*time.Second)
}

// due reports whether it is time to deliver, and nobody does.
func (s *state) due(now time.Time) bool {
	if s.Lease != "" {
		return storage.Due(s.Due, now, lease)
	}
	return s.Wait.over(s.Due, now)
}

// due reports whether it is time to try again.
func (h *held) due(now time.Time) bool { return h.Wait.over(h.Due, now) }

func (s *state) item(id string) (*storage.Item, error) {
	data, err := json.Marshal(s)
	return &storage.Item{Kind: stateKind, ID: id, Data: data}, err
}

// readState takes what a look for the item of a state returns.
func readState(i *storage.Item, err error) (*storage.Item, *state, error) {
	if err != nil {
		return nil, nil, err
	}
	var s state
	if err := json.Unmarshal(i.Data, &s); err != nil {
		return nil, nil, errors.New("the state of the feed " + i.ID + " is damaged")
	}
	return i, &s, nil
}

func (s *state) position() Position {
	p := Position{Acknowledged: s.Position, Waiting: len(s.Held), Failures: s.Failures, Reason: s.Reason, Code: s.Code}
	if s.Lease == "" && s.Failures > 0 {
		p.Next = s.Due
	}
	return p
}
