package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/roster-id/roster/storage"
)

// ClientManager makes and ends provisioning clients and their tokens, whoever
// asks. It is safe for concurrent use.
type ClientManager struct {
	Store storage.Store
	Now   func() time.Time
	// Ended, if set, is told which tokens and clients have ended, so that this
	// process does not let them in any longer; see Verifier.
	Ended interface {
		Invalidate(token string)
		InvalidateClient(client string)
	}
	// Feeds, if set, says who may read all that a client with the scope events fetches: the
	// error is ErrNotPermitted for others. Where it is nil an operator asks.
	Feeds interface {
		MayFetch(ctx context.Context, by Principal, client string) error
	}
	// Roles, if set, takes from a client the roles that it was given, in the write that
	// revokes it; see scim.Provider.
	Roles interface {
		TakeFromClient(ctx context.Context, tx storage.Tx, by Principal, client string) error
	}
}

// DefaultOverlap is how long the token in use stays valid beside a new one if
// nobody says.
const DefaultOverlap = 24 * time.Hour

// MaxClientName is how long the name of a client may be, in characters.
const MaxClientName = 64

// MaxClientRate is how many requests in a second a client can be limited to.
const MaxClientRate = 1_000_000

// ErrRevoked says: the client has been revoked.
var ErrRevoked = errors.New("the client has been revoked")

// ClientError says what is wrong with a client to be made, or with its token. It
// repeats what the caller gave.
type ClientError struct {
	Member string // "name", "scopes", "profile", "references", "networks", "rate", "burst", "expires" or "overlap"
	Msg    string
}

func (e *ClientError) Error() string { return e.Msg }

// NewClient is what Create and Rotate made.
type NewClient struct {
	Client *storage.Client
	Text   Secret // of the token, kept nowhere else
	Token  *storage.Token
	// Ends says when the tokens there were before end.
	Ends []TokenEnd
}

// TokenEnd says when a token ends.
type TokenEnd struct {
	Token string
	At    time.Time
}

// Create makes a client of the name, scopes, profile, references, networks and rate in c, which it
// puts into canonical form, with a token that is valid for lifetime. A client may
// do nothing that by may not do. The error is one or more *ClientError, an error
// that is ErrNotPermitted, or a *storage.UniqueError.
func (m *ClientManager) Create(ctx context.Context, by Principal, c *storage.Client, lifetime time.Duration) (*NewClient, error) {
	if err := CheckClient(c, lifetime); err != nil {
		return nil, err
	}
	now := storage.Milli(m.Now())
	c.ID, c.Tenant, c.Created = storage.NewID(), by.Tenant, now
	text, token, err := NewToken(rand.Reader, c.ID, now, lifetime.Truncate(time.Millisecond))
	if err != nil {
		return nil, err
	}
	err = m.write(ctx, by, "client.create", c.ID, c.Scopes, func(tx storage.Tx, e *storage.AuditEntry) error {
		if err := tx.CreateClient(c); err != nil {
			return err
		}
		if err := tx.CreateToken(token); err != nil {
			return err
		}
		return told(e, nil, recordOf(c, []*storage.Token{token}, now))
	})
	if err != nil {
		return nil, err
	}
	c.Tokens = []*storage.Token{token}
	return &NewClient{Client: c, Text: text, Token: token}, nil
}

// Rotate gives a client a new token, valid for lifetime. The one in use stays
// valid for overlap; a client has two valid tokens at most. The error is
// storage.ErrNotFound, ErrRevoked, one or more *ClientError, or is
// ErrNotPermitted when the client may do more than by.
func (m *ClientManager) Rotate(ctx context.Context, by Principal, id string, overlap, lifetime time.Duration) (*NewClient, error) {
	if err := CheckRotation(overlap, lifetime); err != nil {
		return nil, err
	}
	var made *NewClient
	err := again(func() (err error) {
		made, err = m.rotate(ctx, by, id, overlap, lifetime)
		return err
	})
	return made, err
}

func (m *ClientManager) rotate(ctx context.Context, by Principal, id string, overlap, lifetime time.Duration) (*NewClient, error) {
	c, err := m.Find(ctx, by, id)
	switch {
	case err != nil:
		return nil, err
	case !c.Revoked.IsZero():
		return nil, ErrRevoked
	}
	if err := m.mayFetch(ctx, by, c); err != nil {
		return nil, err
	}
	now := storage.Milli(m.Now())
	text, token, err := NewToken(rand.Reader, c.ID, now, lifetime.Truncate(time.Millisecond))
	if err != nil {
		return nil, err
	}
	var ends []TokenEnd
	err = m.write(ctx, by, "client.rotate", c.ID, c.Scopes, func(tx storage.Tx, e *storage.AuditEntry) error {
		// As it was found, or it may do more by now than by, or nothing any more.
		if err := tx.UpdateClient(c, c); err != nil {
			return err
		}
		// Read in the write: somebody else may be giving the client a token too.
		tokens, err := tx.Tokens(c.ID)
		if err != nil {
			return err
		}
		ends = endings(tokens, now, overlap)
		for _, e := range ends {
			if err := tx.ExpireToken(e.Token, e.At); err != nil {
				return err
			}
		}
		if err := tx.CreateToken(token); err != nil {
			return err
		}
		return told(e, recordOf(c, tokens, now), recordOf(c, append(withEnds(tokens, ends), token), now))
	})
	if err != nil {
		return nil, err
	}
	if m.Ended != nil {
		for _, e := range ends {
			m.Ended.Invalidate(e.Token)
		}
	}
	return &NewClient{Client: c, Text: text, Token: token, Ends: ends}, nil
}

// ClientChange is what is to become of a client; what is nil stays as it is.
type ClientChange struct {
	Name       *string
	Scopes     *[]string
	Profile    *string
	References *string
	Networks   *[]string
	Rate       *int
	Burst      *int
	// Expires is when its tokens end that would end later. None ends later by it: that
	// takes a new token.
	Expires *time.Time
}

// Update changes a client. It holds for every process within a second. The error is
// storage.ErrNotFound, ErrRevoked, one or more *ClientError, a *storage.UniqueError, or is
// ErrNotPermitted when the client may do more than by, before or afterwards.
func (m *ClientManager) Update(ctx context.Context, by Principal, id string, change ClientChange) (*storage.Client, error) {
	var next *storage.Client
	err := again(func() (err error) {
		next, err = m.update(ctx, by, id, change)
		return err
	})
	return next, err
}

func (m *ClientManager) update(ctx context.Context, by Principal, id string, change ClientChange) (*storage.Client, error) {
	c, err := m.Find(ctx, by, id)
	switch {
	case err != nil:
		return nil, err
	case !c.Revoked.IsZero():
		return nil, ErrRevoked
	}
	now, lifetime := m.Now(), DefaultTokenLifetime
	next := *c
	set(&next.Name, change.Name)
	set(&next.Profile, change.Profile)
	set(&next.References, change.References)
	set(&next.Scopes, change.Scopes)
	set(&next.Networks, change.Networks)
	set(&next.Rate, change.Rate)
	set(&next.Burst, change.Burst)
	if change.Expires != nil {
		lifetime = change.Expires.Sub(now)
	}
	if err := CheckClient(&next, lifetime); err != nil {
		return nil, err
	}
	if err := errors.Join(m.mayFetch(ctx, by, c), m.mayFetch(ctx, by, &next)); err != nil {
		return nil, err
	}
	err = m.write(ctx, by, "client.update", c.ID, slices.Concat(c.Scopes, next.Scopes), func(tx storage.Tx, e *storage.AuditEntry) error {
		if err := tx.UpdateClient(c, &next); err != nil {
			return err
		}
		tokens, err := tx.Tokens(c.ID)
		if err != nil {
			return err
		}
		next.Tokens = tokens
		if change.Expires != nil {
			var ends []TokenEnd
			for _, t := range tokens {
				if t.Expires.After(*change.Expires) {
					ends = append(ends, TokenEnd{t.ID, *change.Expires})
				}
			}
			for _, end := range ends {
				if err := tx.ExpireToken(end.Token, end.At); err != nil {
					return err
				}
			}
			next.Tokens = withEnds(tokens, ends)
		}
		return told(e, recordOf(c, tokens, now), recordOf(&next, next.Tokens, now))
	})
	if err != nil {
		return nil, err
	}
	if m.Ended != nil {
		m.Ended.InvalidateClient(c.ID)
	}
	return &next, nil
}

func set[T any](dst, v *T) {
	if v != nil {
		*dst = *v
	}
}

// again tries what fails because somebody else was first, a few times.
func again(try func() error) error {
	for range 4 {
		if err := try(); !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return try()
}

// Revoke ends a client and all its tokens. Doing so twice is no mistake. The error
// is storage.ErrNotFound.
func (m *ClientManager) Revoke(ctx context.Context, by Principal, id string) error {
	return again(func() error { return m.revoke(ctx, by, id) })
}

func (m *ClientManager) revoke(ctx context.Context, by Principal, id string) error {
	c, err := m.Find(ctx, by, id)
	if err != nil || !c.Revoked.IsZero() {
		return err
	}
	now := m.Now()
	err = m.write(ctx, by, "client.revoke", c.ID, nil, func(tx storage.Tx, e *storage.AuditEntry) error {
		// As it was found, or what is told of it would not be so.
		if err := tx.UpdateClient(c, c); err != nil {
			return err
		}
		if err := tx.RevokeClient(c.ID, now); err != nil {
			return err
		}
		if m.Roles != nil {
			if err := m.Roles.TakeFromClient(ctx, tx, by, c.ID); err != nil {
				return err
			}
		}
		return told(e, recordOf(c, c.Tokens, now), nil)
	})
	if err == nil && m.Ended != nil {
		m.Ended.InvalidateClient(c.ID)
	}
	return err
}

// Find returns a client of by's tenant with its tokens, or storage.ErrNotFound.
func (m *ClientManager) Find(ctx context.Context, by Principal, id string) (*storage.Client, error) {
	clients, err := m.Store.ListClients(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		if c.ID == id {
			return c, nil
		}
	}
	return nil, storage.ErrNotFound
}

// write does something to a client together with its audit entry, in which fn says
// what became of it. by has to be permitted what these scopes allow.
func (m *ClientManager) write(ctx context.Context, by Principal, action, id string, scopes []string, fn func(storage.Tx, *storage.AuditEntry) error) error {
	return m.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		// A token outlives the roles of whoever makes it.
		as, err := by.AsOf(tx, m.Now())
		switch {
		case err != nil:
			return err
		case as.Kind == User && !as.Permissions.Has(PermissionClientsWrite):
			return ErrNotPermitted
		}
		if err := noMoreThan(as, scopes); err != nil {
			return err
		}
		e := by.Entry(ctx, m.Now(), action, "Client", id)
		if err := fn(tx, &e); err != nil {
			return err
		}
		return tx.Audit(e)
	})
}

// clientRecord is what the audit trail tells of a client.
type clientRecord struct {
	Name       string        `json:"name"`
	Scopes     []string      `json:"scopes"`
	Profile    string        `json:"profile,omitempty"`
	References string        `json:"references,omitempty"`
	Networks   []string      `json:"networks,omitempty"`
	Rate       int           `json:"rate,omitzero"`
	Burst      int           `json:"burst,omitzero"`
	Tokens     []tokenRecord `json:"tokens,omitempty"`
}

type tokenRecord struct {
	ID      string    `json:"id"` // the public part
	Expires time.Time `json:"expires"`
}

// recordOf returns a client with those of its tokens that are valid.
func recordOf(c *storage.Client, tokens []*storage.Token, now time.Time) clientRecord {
	r := clientRecord{Name: c.Name, Scopes: c.Scopes, Profile: c.Profile, References: c.References, Networks: c.Networks, Rate: c.Rate, Burst: c.Burst}
	for _, t := range tokens {
		if now.Before(t.Expires) {
			r.Tokens = append(r.Tokens, tokenRecord{t.ID, t.Expires.UTC()})
		}
	}
	return r
}

// withEnds returns tokens as they are when some have been given an end.
func withEnds(tokens []*storage.Token, ends []TokenEnd) []*storage.Token {
	at := map[string]time.Time{}
	for _, e := range ends {
		at[e.Token] = e.At
	}
	list := slices.Clone(tokens)
	for i, t := range list {
		if end, ok := at[t.ID]; ok {
			short := *t
			short.Expires = earlier(t.Expires, end)
			list[i] = &short
		}
	}
	return list
}

// noMoreThan returns nil if by may do itself all that these scopes allow: read and
// write what they name, and assign business roles. A scope that nobody knows allows
// nothing.
func noMoreThan(by Principal, scopes []string) error {
	denied := fmt.Errorf("%w: a client may do no more than whoever makes it", ErrNotPermitted)
	for _, name := range scopes {
		s, _ := parseScope(name)
		for _, c := range catalogue {
			for _, t := range c.resourceTypes {
				if t == EventResource {
					continue // which events there are for a client, its feeds say: see mayFetch
				}
				if s.set&c.read != 0 && !by.May(Read, t) || s.set&c.write != 0 && !by.May(Write, t) {
					return denied
				}
			}
		}
		if s.assign != "" && by.Kind != Operator && !by.Permissions.Has(PermissionRolesAssign) {
			return denied
		}
	}
	return nil
}

// mayFetch returns nil if by may read all the events that a client fetches. A client that
// is new has none.
func (m *ClientManager) mayFetch(ctx context.Context, by Principal, c *storage.Client) error {
	if m.Feeds == nil || !ClientPrincipal(c).May(Read, EventResource) {
		return nil
	}
	return m.Feeds.MayFetch(ctx, by, c.ID)
}

// endings says what becomes of a client's tokens when it gets another. The one
// used last is the one the client would miss: it stays for the overlap. With it
// and the new one the client has two, so any other ends now.
func endings(tokens []*storage.Token, now time.Time, overlap time.Duration) []TokenEnd {
	var active []*storage.Token
	for _, t := range tokens {
		if now.Before(t.Expires) {
			active = append(active, t)
		}
	}
	slices.SortFunc(active, func(a, b *storage.Token) int {
		return cmp.Or(b.LastUsed.Compare(a.LastUsed), b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	var list []TokenEnd
	for i, t := range active {
		at := now
		if i == 0 {
			at = now.Add(overlap)
			if t.Expires.Before(at) {
				at = t.Expires
			}
		}
		list = append(list, TokenEnd{t.ID, at})
	}
	return list
}

// CheckClient reports all that is wrong with a client to be made and the lifetime
// of its token, and puts scopes and networks into canonical form. The error is one
// or more *ClientError.
func CheckClient(c *storage.Client, lifetime time.Duration) error {
	var errs []error
	add := func(member, msg string) { errs = append(errs, &ClientError{member, msg}) }
	if msg := nameProblem(c.Name); msg != "" {
		add("name", msg)
	}
	scopes, err := ParseScopes(c.Scopes)
	switch {
	case err != nil:
		add("scopes", err.Error())
	case scopes == (Scopes{}):
		add("scopes", "a client needs scopes; valid are "+strings.Join(ScopeNames(), ", "))
	}
	if !validProfile(c.Profile) {
		add("profile", fmt.Sprintf("unknown profile %q; valid are entra, okta and strict", c.Profile))
	}
	if c.References != "" && c.References != ReferencesLate {
		add("references", fmt.Sprintf("unknown references %q; valid is late", c.References))
	}
	if c.Rate < 0 || c.Rate > MaxClientRate {
		add("rate", fmt.Sprintf("the rate is between 0, for what holds for all clients, and %d requests in a second", MaxClientRate))
	}
	if c.Burst < 0 || c.Burst > MaxClientRate || c.Burst > 0 && c.Rate == 0 {
		add("burst", fmt.Sprintf("the burst is between 0, for as many as the rate, and %d requests, and needs a rate", MaxClientRate))
	}
	var networks []string
	for _, s := range c.Networks {
		n, err := ParseNetwork(strings.TrimSpace(s))
		if err != nil {
			add("networks", err.Error())
			continue
		}
		networks = append(networks, n.String())
	}
	slices.Sort(networks)
	c.Scopes, c.Networks = scopes.Strings(), slices.Compact(networks)
	return errors.Join(append(errs, checkLifetime(lifetime))...)
}

// CheckRotation is CheckClient for what Rotate is given.
func CheckRotation(overlap, lifetime time.Duration) error {
	var err error
	if overlap < 0 || overlap > MaxTokenLifetime {
		err = &ClientError{"overlap", fmt.Sprintf("the overlap is between none and %d days", MaxTokenLifetime/(24*time.Hour))}
	}
	return errors.Join(err, checkLifetime(lifetime))
}

func checkLifetime(d time.Duration) error {
	if d > 0 && d <= MaxTokenLifetime {
		return nil
	}
	return &ClientError{"expires", fmt.Sprintf("a token is valid for some time, and for %d days at most", MaxTokenLifetime/(24*time.Hour))}
}

func nameProblem(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case utf8.RuneCountInString(name) > MaxClientName:
		return fmt.Sprintf("the name is longer than %d characters", MaxClientName)
	case strings.TrimSpace(name) != name:
		return "the name begins or ends with a space"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "the name has characters that cannot be printed"
	}
	return ""
}
