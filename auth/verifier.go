package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roster-id/roster/storage"
)

const (
	// cacheFor is how old an answer of the store may be. It bounds how long a
	// revocation made by another process goes unnoticed here.
	cacheFor = 500 * time.Millisecond
	// cacheSize bounds the memory that tokens take.
	cacheSize = 10_000
	// noteEvery is how exact a token's last use is.
	noteEvery = time.Minute
	// noteQueue is how many uses may wait to be noted; more are dropped, and
	// noted with a later use.
	noteQueue = 256
	// noteWithin bounds how long noting one use may take.
	noteWithin = 5 * time.Second
)

// Verifier finds out which client a request comes from. It is safe for
// concurrent use. Its fields are set before it is first used.
type Verifier struct {
	// Refused, if set, is told of each refusal, for a metric.
	Refused func(Reason)
	// Log is told when a token's last use could not be noted.
	Log *slog.Logger

	clients storage.Clients
	now     func() time.Time
	uses    chan use

	mu     sync.RWMutex
	cached map[tokenID]*cachedToken
	// epoch counts invalidations. A look-up that began before one must not put
	// its answer into the cache after it.
	epoch uint64
}

// tokenID is a key that does not keep the text it was cut from alive.
type tokenID [idLen]byte

// cachedToken is what the store said about a token. Only noted changes.
type cachedToken struct {
	principal Principal
	hash      [sha256.Size]byte
	expires   time.Time
	revoked   bool
	// restricted is kept apart from networks, so that a client whose networks
	// cannot be read is let in from nowhere.
	restricted bool
	networks   []netip.Prefix
	asked      time.Time
	noted      atomic.Int64 // when the last use was noted, Unix seconds
}

type use struct {
	tenant storage.TenantID
	token  string
	at     time.Time
}

// NewVerifier makes a Verifier that looks tokens up in clients.
func NewVerifier(clients storage.Clients, now func() time.Time) *Verifier {
	return &Verifier{
		Log:     slog.New(slog.DiscardHandler),
		clients: clients,
		now:     now,
		uses:    make(chan use, noteQueue),
		cached:  map[tokenID]*cachedToken{},
	}
}

// Verify returns the client that sent r. remote is the address the request
// comes from, which behind a proxy is not that of the connection. The error is a
// *RefusedError, ErrInvalidRequest, or what the store said when it could not
// answer, which errors.Is finds.
func (v *Verifier) Verify(ctx context.Context, r *http.Request, remote netip.Addr) (Principal, error) {
	text, err := bearerToken(r)
	if err != nil {
		reason := Malformed
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			reason = refused.Reason
		}
		v.count(reason)
		return Principal{}, err
	}
	return v.VerifyToken(ctx, text, remote)
}

// VerifyToken returns the client a token was issued to, as Verify does.
func (v *Verifier) VerifyToken(ctx context.Context, text string, remote netip.Addr) (Principal, error) {
	p, refused, err := v.verify(ctx, text, remote)
	switch {
	case err != nil:
		return Principal{}, err
	case refused != nil:
		v.count(refused.Reason)
		return Principal{}, refused
	}
	return p, nil
}

func (v *Verifier) verify(ctx context.Context, text string, remote netip.Addr) (Principal, *RefusedError, error) {
	id, ok := shapedToken(text)
	if !ok {
		return Principal{}, refuseMalformed, nil
	}
	var whole [tokenLen]byte
	copy(whole[:], text)
	hash := sha256.Sum256(whole[:])
	now := v.now()
	// The checksum spares the store those that are not whole. Of a token whose hash is
	// known the hash tells more, in less time.
	t, epoch := v.recall(id, now)
	if (t == nil || !t.is(hash)) && !hasChecksum(text) {
		return Principal{}, refuseMalformed, nil
	}
	var err error
	if t == nil {
		t, err = v.ask(ctx, id, now, epoch)
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return Principal{}, refuseUnknown, nil
	case err != nil:
		return Principal{}, nil, fmt.Errorf("look up a token: %w", err)
	// The secret comes first: without it nothing about the token is learnt, not
	// even from a metric.
	case !t.is(hash):
		return Principal{}, refuseUnknown, nil
	case t.revoked:
		return Principal{}, refuseRevoked, nil
	case !now.Before(t.expires):
		return Principal{}, refuseExpired, nil
	case t.restricted && !t.allows(remote):
		return Principal{}, refuseNetwork, nil
	}
	v.note(t, now)
	return t.principal, nil, nil
}

// Invalidate forgets what is cached about the token with this public id, so that
// its next use asks the store. Call it after a token was made to expire.
func (v *Verifier) Invalidate(token string) {
	v.forget(func(t *cachedToken) bool { return t.principal.Token == token })
}

// InvalidateClient forgets all tokens of a client. Call it after a client was
// revoked.
func (v *Verifier) InvalidateClient(client string) {
	v.forget(func(t *cachedToken) bool { return t.principal.ID == client })
}

func (v *Verifier) forget(which func(*cachedToken) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.epoch++
	for id, t := range v.cached {
		if which(t) {
			delete(v.cached, id)
		}
	}
}

// Run notes in the store when tokens were last used, until ctx ends; then it
// notes what is still waiting and returns nil. Requests are not held up by it and
// succeed without it.
func (v *Verifier) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			for {
				select {
				case u := <-v.uses:
					v.write(context.WithoutCancel(ctx), u)
				default:
					return nil
				}
			}
		case u := <-v.uses:
			v.write(context.WithoutCancel(ctx), u)
		}
	}
}

// write notes one use.
func (v *Verifier) write(ctx context.Context, u use) {
	ctx, cancel := context.WithTimeout(ctx, noteWithin)
	defer cancel()
	if err := v.clients.TokenUsed(ctx, u.tenant, u.token, u.at); err != nil {
		v.Log.Warn("last use of a token not noted", "token_id", u.token, "error", err)
	}
}

// recall returns what the cache has of a token if that is fresh, or nil, and when that was.
func (v *Verifier) recall(id string, now time.Time) (t *cachedToken, epoch uint64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if t = v.cached[tokenID([]byte(id))]; t != nil && !t.fresh(now) {
		t = nil
	}
	return t, v.epoch
}

// ask returns what the store knows about a token, and remembers it if nothing was forgotten
// since epoch. What the store does not know is not remembered: ids are cheap to make up.
func (v *Verifier) ask(ctx context.Context, id string, now time.Time, epoch uint64) (*cachedToken, error) {
	key := tokenID([]byte(id))
	token, client, err := v.clients.Token(ctx, id)
	if err != nil {
		return nil, err
	}
	t, err := newCachedToken(token, client, now)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if previous := v.cached[key]; previous != nil {
		t.noted.Store(max(t.noted.Load(), previous.noted.Load()))
	}
	if v.epoch == epoch {
		v.makeRoom(key)
		v.cached[key] = t
	}
	return t, nil
}

// makeRoom keeps the cache within its size. Which entry goes does not matter
// much: each is good for half a second only.
func (v *Verifier) makeRoom(key tokenID) {
	if _, ok := v.cached[key]; ok || len(v.cached) < cacheSize {
		return
	}
	for other := range v.cached {
		delete(v.cached, other)
		return
	}
}

// ClientPrincipal is a client as it is now, which no token of it speaks for: whoever
// acts for it afterwards looks at client.Revoked first.
func ClientPrincipal(client *storage.Client) Principal {
	return Principal{Kind: Client, Tenant: client.Tenant, ID: client.ID, Name: client.Name, Scopes: knownScopes(client.Scopes),
		Profile: client.Profile, References: client.References, Rate: client.Rate, Burst: client.Burst}
}

func newCachedToken(token *storage.Token, client *storage.Client, now time.Time) (*cachedToken, error) {
	if token.ID == "" || client.ID == "" || client.Tenant == "" || token.Client != client.ID || len(token.Hash) != sha256.Size {
		return nil, errors.New("the stored token is damaged")
	}
	t := &cachedToken{
		principal:  ClientPrincipal(client),
		hash:       [sha256.Size]byte(token.Hash),
		expires:    token.Expires,
		revoked:    !client.Revoked.IsZero(),
		restricted: len(client.Networks) > 0,
		asked:      now,
	}
	t.principal.Token = token.ID
	for _, s := range client.Networks {
		if n, err := ParseNetwork(s); err == nil {
			t.networks = append(t.networks, n)
		}
	}
	if !token.LastUsed.IsZero() {
		t.noted.Store(token.LastUsed.Unix())
	}
	return t, nil
}

// is reports, in a time that does not depend on how much is alike, whether a hash is the token's.
func (t *cachedToken) is(hash [sha256.Size]byte) bool {
	return subtle.ConstantTimeCompare(hash[:], t.hash[:]) == 1
}

// fresh reports whether the answer is recent. A clock that went back makes it
// stale too.
func (t *cachedToken) fresh(now time.Time) bool {
	age := now.Sub(t.asked)
	return age >= 0 && age < cacheFor
}

func (t *cachedToken) allows(remote netip.Addr) bool {
	remote = remote.Unmap().WithZone("")
	for _, n := range t.networks {
		if n.Contains(remote) {
			return true
		}
	}
	return false
}

// note leaves word of a use for Run, at most once in noteEvery.
func (v *Verifier) note(t *cachedToken, now time.Time) {
	last, at := t.noted.Load(), now.Unix()
	if at-last < int64(noteEvery/time.Second) || !t.noted.CompareAndSwap(last, at) {
		return
	}
	select {
	case v.uses <- use{t.principal.Tenant, t.principal.Token, now}:
	default:
		t.noted.Store(last)
	}
}

func (v *Verifier) count(r Reason) {
	if v.Refused != nil {
		v.Refused(r)
	}
}

// Site returns what one household or host has of addresses: one of IPv4, a /64 of IPv6. It is
// the zero Prefix for no address.
func Site(a netip.Addr) netip.Prefix { return networkOf(a, 32, 64) }

// networkOf returns the network of an address, of as many bits as are given for IPv4 and IPv6.
func networkOf(a netip.Addr, four, six int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := six
	if a.Is4() {
		bits = four
	}
	n, _ := a.Prefix(bits) // of no address it is the zero Prefix
	return n
}

// ParseNetwork reads a network a client's requests may come from: a CIDR prefix,
// or one address. The result is in canonical form.
func ParseNetwork(s string) (netip.Prefix, error) {
	n, err := netip.ParsePrefix(s)
	if err != nil {
		addr, addrErr := netip.ParseAddr(s)
		if addrErr != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is not a network; write it like 192.0.2.0/24 or 2001:db8::/32", s)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if n.Addr().Is4In6() {
		// Addresses are compared unmapped, so such a prefix would match nothing.
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network written as IPv6; write it like 192.0.2.0/24", s)
	}
	return n.Masked(), nil
}
