package api

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/roster-id/roster/auth"
)

// Attempts to sign in that one address has.
const (
	signInsPerAddress = 10
	signInWindow      = time.Minute
)

// maxAddresses bounds the memory that addresses take, about 10 MB.
const maxAddresses = 1 << 16

// rate counts attempts by address. Those of IPv6 count by their /64, which is
// what one household or host has.
type rate struct {
	mu        sync.Mutex
	addresses map[netip.Prefix]*attempts
	swept     time.Time
}

// attempts are the times of the last attempts that were let in, as a ring.
type attempts struct {
	at   [signInsPerAddress]time.Time
	next int // the oldest
}

// admit returns 0 and counts an attempt, or returns how long to wait for the next.
// What is not let in does not count.
func (l *rate) admit(from netip.Addr, now time.Time) time.Duration {
	key := auth.Site(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.addresses[key]
	if a == nil {
		if l.addresses == nil {
			l.addresses = map[netip.Prefix]*attempts{}
		}
		l.makeRoom(now)
		a = &attempts{}
		l.addresses[key] = a
	}
	// A clock that went back must not shut anyone out for longer.
	if wait := signInWindow - now.Sub(a.at[a.next]); wait > 0 && wait <= signInWindow {
		return wait
	}
	a.at[a.next] = now
	a.next = (a.next + 1) % len(a.at)
	return 0
}

// makeRoom keeps the number of addresses within bounds: those go whose attempts
// are all past, which is looked for once in a while, or else any one. Who has that
// many addresses is not held up by the count of one.
func (l *rate) makeRoom(now time.Time) {
	if len(l.addresses) < maxAddresses {
		return
	}
	if age := now.Sub(l.swept); age < 0 || age >= signInWindow {
		l.swept = now
		for key, a := range l.addresses {
			last := a.at[(a.next+len(a.at)-1)%len(a.at)]
			if now.Sub(last) >= signInWindow {
				delete(l.addresses, key)
			}
		}
	}
	for key := range l.addresses {
		if len(l.addresses) < maxAddresses {
			return
		}
		delete(l.addresses, key)
	}
}

// admit bounds how often an address may try what signs in.
func (a *API) admit(by auth.Principal) error {
	if wait := a.signIns.admit(by.From, a.Now()); wait > 0 {
		return &Problem{
			Type: TypeTooMany, Title: "Too many attempts to sign in from this address", Status: http.StatusTooManyRequests,
			retryAfter: int((wait + time.Second - 1) / time.Second),
		}
	}
	return nil
}
