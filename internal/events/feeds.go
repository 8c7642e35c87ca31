package events

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Directory knows resources. A scim.Handler does.
type Directory interface {
	// Types returns the resource types of a tenant.
	Types(ctx context.Context, tenant storage.TenantID) (*schemas.Set, error)
	// Represent returns a resource as it is read by an operator below an address, with its
	// external id and its version. A group is without members.
	Represent(ctx context.Context, tenant storage.TenantID, base string, t *schemas.ResourceType, id string) (doc jsontext.Value, externalID string, version int64, err error)
}

// Options are what Feeds consist of.
type Options struct {
	Store     storage.Store
	Keys      *auth.KeyRing
	Directory Directory
	Issuer    func() string  // of tokens, the address of this server
	Base      string         // below that, where SCIM is
	Networks  []netip.Prefix // that events may be sent to besides the public internet
	Resolver  *net.Resolver  // nil for that of the system
	Now       func() time.Time
	Log       *slog.Logger
	Registry  prometheus.Registerer
}

// Feeds are all feeds of a store. Make them with New. They are safe for concurrent use.
type Feeds struct {
	store     storage.Store
	keys      *auth.KeyRing
	directory Directory
	issuer    func() string
	base      string
	networks  []netip.Prefix
	client    *http.Client
	now       func() time.Time
	log       *slog.Logger
	metrics   *metrics
	changed   chan struct{} // something was done to a feed
	stopping  chan struct{} // closed when Run is to end

	mu       sync.Mutex
	scanned  map[place]scan
	polls    map[string]int // that wait, by feed
	waits    int            // of all feeds
	measured map[place]measured
}

// New returns the feeds of a store. Nothing is sent before Run.
func New(o Options) *Feeds {
	return &Feeds{
		store: o.Store, keys: o.Keys, directory: o.Directory, issuer: o.Issuer, base: o.Base, networks: o.Networks, client: newClient(o.Networks, o.Resolver),
		now: o.Now, log: o.Log, metrics: newMetrics(o.Registry), changed: make(chan struct{}, 1), stopping: make(chan struct{}), scanned: map[place]scan{}, polls: map[string]int{}, measured: map[place]measured{},
	}
}

// Errors.
var (
	ErrMany     = errors.New("there are as many feeds as a tenant can have")
	ErrDelivery = errors.New("this is not for feeds that are delivered so")
)

// Draft is what a feed is made of, or what is to change of one. What is nil stays as it
// is, or gets its default.
type Draft struct {
	Name       *string
	Delivery   Delivery // of a new feed only
	URL        *string
	Client     *string
	Types      *[]string
	Events     *[]string
	Audience   *string
	Token      *string
	Enabled    *bool
	KeepHours  *int
	RetryHours *int
}

// List returns the feeds of a tenant, the oldest first.
func (s *Feeds) List(ctx context.Context, tenant storage.TenantID) (list []*Feed, err error) {
	items, err := s.store.Items(ctx, tenant, feedKind, "")
	if err != nil {
		return nil, err
	}
	for _, i := range items {
		f, err := readFeed(s.keys, tenant, i)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// Find returns a feed, or storage.ErrNotFound, and how far it has come.
func (s *Feeds) Find(ctx context.Context, tenant storage.TenantID, id string) (*Feed, Position, error) {
	f, err := s.read(ctx, place{tenant, id})
	if err != nil {
		return nil, Position{}, err
	}
	_, st, err := readState(s.store.Item(ctx, tenant, stateKind, id))
	if err != nil {
		return nil, Position{}, err
	}
	return f, st.position(), nil
}

func (s *Feeds) read(ctx context.Context, p place) (*Feed, error) {
	i, err := s.store.Item(ctx, p.tenant, feedKind, p.id)
	if err != nil {
		return nil, err
	}
	return readFeed(s.keys, p.tenant, i)
}

// Create makes a feed that is told of what happens from now on, and returns the secret
// that signs its webhooks, if it has one. The error is an *auth.InvalidError, an
// *auth.DeniedError if by may not read what the feed would be told of, or ErrMany.
func (s *Feeds) Create(ctx context.Context, by auth.Principal, d Draft) (*Feed, auth.Secret, error) {
	now := storage.Milli(s.now())
	f := &Feed{ID: storage.NewID(), Delivery: d.Delivery, Enabled: true, KeepHours: DefaultKeepHours, RetryHours: DefaultRetryHours, Created: now, Creator: by.Actor(),
		Types: []string{"User", "Group"}, Events: defaultURIs()}
	if !slices.Contains([]Delivery{Webhook, Push, Poll}, d.Delivery) {
		return nil, "", invalid("delivery", "webhook, push or poll")
	}
	if err := s.apply(ctx, by, f, d); err != nil {
		return nil, "", err
	}
	if f.Delivery == Webhook {
		f.secrets.Key = newSecret()
	}
	end, err := s.end(ctx, by.Tenant)
	if err != nil {
		return nil, "", err
	}
	err = s.store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.Guard(feedKind); err != nil {
			return err
		}
		list, err := tx.Items(feedKind, "")
		if err != nil {
			return err
		}
		if len(list) >= MaxFeeds {
			return ErrMany
		}
		if err := s.put(tx, by.Tenant, nil, f); err != nil {
			return err
		}
		st, err := (&state{Position: end}).item(f.ID)
		if err != nil {
			return err
		}
		if err := tx.PutItem(nil, st); err != nil {
			return err
		}
		e := by.Entry(ctx, now, "feed.create", "Feed", f.ID)
		e.Changes = differences(nil, f)
		return tx.Audit(e)
	})
	if err != nil {
		return nil, "", err
	}
	s.tellChanged()
	return f, auth.Secret(f.secrets.Key), nil
}

// put stores a feed in the place of prev.
func (s *Feeds) put(tx storage.Tx, tenant storage.TenantID, prev *storage.Item, f *Feed) error {
	if err := s.keys.MeetCanary(tx, tenant); err != nil {
		return err
	}
	i, err := f.item(s.keys, tenant)
	if err != nil {
		return err
	}
	return tx.PutItem(prev, i)
}

// Update changes a feed. Its errors are those of Create, and storage.ErrNotFound.
func (s *Feeds) Update(ctx context.Context, by auth.Principal, id string, d Draft) (*Feed, error) {
	return s.edit(ctx, by, id, "feed.update", func(f *Feed) error {
		if off := (Draft{Enabled: d.Enabled}); d == off && d.Enabled != nil && !*d.Enabled {
			f.Enabled = false // whatever has become of its client, its address and its types
			return nil
		}
		return s.apply(ctx, by, f, d)
	})
}

// Rotate gives a feed of webhooks a new secret, and returns it. Webhooks bear the
// signatures of both for SecretOverlap.
func (s *Feeds) Rotate(ctx context.Context, by auth.Principal, id string) (*Feed, auth.Secret, error) {
	next := newSecret()
	f, err := s.edit(ctx, by, id, "feed.rotate", func(f *Feed) error {
		if f.Delivery != Webhook {
			return ErrDelivery
		}
		f.secrets.Former, f.secrets.Until, f.secrets.Key = f.secrets.Key, storage.Milli(s.now()).Add(SecretOverlap), next
		return nil
	})
	return f, auth.Secret(next), err
}

func (s *Feeds) edit(ctx context.Context, by auth.Principal, id, action string, fn func(*Feed) error) (next *Feed, err error) {
	err = s.store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		i, err := tx.Item(feedKind, id)
		if err != nil {
			return err
		}
		prev, err := readFeed(s.keys, by.Tenant, i)
		if err != nil {
			return err
		}
		next = new(*prev)
		if err := fn(next); err != nil {
			return err
		}
		if err := s.put(tx, by.Tenant, i, next); err != nil {
			return err
		}
		e := by.Entry(ctx, s.now(), action, "Feed", id)
		e.Changes = differences(prev, next)
		return tx.Audit(e)
	})
	if err != nil {
		return nil, err
	}
	s.tellChanged()
	return next, nil
}

// Remove deletes a feed with its dead letters.
func (s *Feeds) Remove(ctx context.Context, by auth.Principal, id string) error {
	err := s.store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		f, err := tx.Item(feedKind, id)
		if err != nil {
			return err
		}
		st, err := tx.Item(stateKind, id)
		if err != nil {
			return err
		}
		if err := errors.Join(tx.DeleteItem(f), tx.DeleteItem(st)); err != nil {
			return err
		}
		return tx.Audit(by.Entry(ctx, s.now(), "feed.delete", "Feed", id))
	})
	if err != nil {
		return err
	}
	s.tellChanged()
	dead, err := s.store.Items(ctx, by.Tenant, deadKind, id)
	for part := range slices.Chunk(dead, 200) {
		ids := make([]string, len(part))
		for i, d := range part {
			ids[i] = d.ID
		}
		err = errors.Join(err, s.store.ForgetItems(ctx, by.Tenant, deadKind, ids...))
	}
	return err
}

func (s *Feeds) tellChanged() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func invalid(member, expected string) error {
	return &auth.InvalidError{Member: member, Expected: expected}
}

// apply puts a draft into a feed.
func (s *Feeds) apply(ctx context.Context, by auth.Principal, f *Feed, d Draft) error {
	set(&f.Name, d.Name)
	if d.URL != nil && *d.URL != f.URL {
		f.URL, f.secrets.Token = *d.URL, "" // it was for the former receiver
	}
	set(&f.Client, d.Client)
	set(&f.Types, d.Types)
	set(&f.Events, d.Events)
	set(&f.Audience, d.Audience)
	set(&f.secrets.Token, d.Token)
	set(&f.KeepHours, d.KeepHours)
	set(&f.RetryHours, d.RetryHours)
	if set(&f.Enabled, d.Enabled); f.Enabled {
		f.Gone = false
	}
	if f.Audience == "" {
		f.Audience = f.ID
	}
	switch {
	case f.Name == "" || !plain(f.Name, maxNameLength):
		return invalid("name", "1 to 64 printable characters without spaces around")
	case !plain(f.Audience, maxURLLength):
		return invalid("audience", "printable characters without spaces around")
	case f.Delivery == Poll && (f.URL != "" || f.secrets.Token != ""):
		return invalid("url", "neither it nor a token for a feed that is polled")
	case f.Delivery != Poll && f.Client != "":
		return invalid("client", "none but for a feed that is polled")
	case f.Delivery != Poll && !checkURL(f.URL, s.networks):
		return invalid("url", "https:// and the public address of a receiver, without user name and fragment")
	case f.Delivery != Push && f.secrets.Token != "":
		return invalid("token", "none but for a feed that is pushed")
	case len(f.secrets.Token) > maxTokenLength || strings.ContainsFunc(f.secrets.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return invalid("token", "visible ASCII characters")
	case f.KeepHours < 1 || f.KeepHours > MaxKeepHours:
		return invalid("keepHours", "1 to "+strconv.Itoa(MaxKeepHours))
	case f.RetryHours < 1 || f.RetryHours > MaxRetryHours:
		return invalid("retryHours", "1 to "+strconv.Itoa(MaxRetryHours))
	case len(f.Events) == 0 || slices.ContainsFunc(f.Events, func(uri string) bool { return !slices.Contains(URIs(), uri) }):
		return invalid("events", "some of "+strings.Join(URIs(), ", "))
	}
	if f.Delivery == Poll {
		clients, err := s.store.ListClients(ctx, by.Tenant)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(clients, func(c *storage.Client) bool { return c.ID == f.Client && c.Revoked.IsZero() }) {
			return invalid("client", "the id of the client that is to fetch the events")
		}
	}
	return s.mayTell(ctx, by, f)
}

// mayTell reports whether somebody may read what a feed is told of, whoever made it.
func (s *Feeds) mayTell(ctx context.Context, by auth.Principal, f *Feed) error {
	types, err := s.directory.Types(ctx, by.Tenant)
	if err != nil {
		return err
	}
	if len(f.Types) == 0 {
		return invalid("types", "the names of resource types")
	}
	for _, name := range f.Types {
		t := types.Type(name)
		if t == nil {
			return invalid("types", "the names of resource types")
		}
		if !mayRead(by, t, name) {
			return &auth.DeniedError{Msg: "who has a feed told of resources has to be permitted to read them"}
		}
	}
	return nil
}

// mayRead reports whether somebody may read resources of a type; t is nil for one that the
// tenant defined once.
func mayRead(by auth.Principal, t *schemas.ResourceType, name string) bool {
	if t == nil || t.Custom {
		name = auth.CustomResource
	}
	return by.May(auth.Read, name)
}

// MayFetch returns nil if somebody may read all that the feeds tell which a client fetches,
// and auth.ErrNotPermitted if not: whoever has its token does.
func (s *Feeds) MayFetch(ctx context.Context, by auth.Principal, client string) error {
	list, err := s.List(ctx, by.Tenant)
	if err != nil {
		return err
	}
	types, err := s.directory.Types(ctx, by.Tenant)
	if err != nil {
		return err
	}
	for _, f := range list {
		for _, name := range f.Types {
			if f.Client == client && !mayRead(by, types.Type(name), name) {
				return auth.ErrNotPermitted
			}
		}
	}
	return nil
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

func plain(s string, most int) bool {
	return len(s) <= most && s == strings.TrimSpace(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// newSecret makes a secret of webhooks, in the form of Standard Webhooks.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it does not fail
	return "whsec_" + base64.StdEncoding.EncodeToString(b)
}

// differences are what the audit trail tells of a feed: of its address the host only, of
// its secrets that they changed.
func differences(prev, next *Feed) []storage.Change {
	var c storage.Changes
	note := func(path string, of func(*Feed) any) {
		var before, after []byte
		if prev != nil {
			before = asJSON(of(prev))
		}
		if after = asJSON(of(next)); string(before) != string(after) {
			c.Add(path, before, after)
		}
	}
	note("name", func(f *Feed) any { return f.Name })
	note("delivery", func(f *Feed) any { return string(f.Delivery) })
	note("host", func(f *Feed) any { return host(f.URL) })
	note("client", func(f *Feed) any { return f.Client })
	note("types", func(f *Feed) any { return f.Types })
	note("events", func(f *Feed) any { return f.Events })
	note("enabled", func(f *Feed) any { return f.Enabled })
	note("keepHours", func(f *Feed) any { return f.KeepHours })
	note("retryHours", func(f *Feed) any { return f.RetryHours })
	if prev != nil && prev.URL != next.URL {
		c.Add("url", nil, nil)
	}
	if prev != nil && prev.secrets != next.secrets {
		c.Add("secret", nil, nil)
	}
	return c.List
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
