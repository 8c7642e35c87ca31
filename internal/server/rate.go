package server

import (
	"cmp"
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
)

// rates counts the requests of each client that has a limit, in this process.
type rates struct {
	mu sync.Mutex
	of map[client]*rate.Limiter
}

type client struct {
	tenant, id string
}

// manyRates is from how many on those are forgotten that have nothing to remember.
const manyRates = 1000

// withinRate counts a request, and refuses one beyond the limit of its client.
func (s *Server) withinRate(by auth.Principal) error {
	perSecond, burst := by.Rate, by.Burst
	if perSecond == 0 {
		perSecond, burst = s.opt.ClientRate, s.opt.ClientBurst
	}
	if by.Kind != auth.Client || perSecond == 0 {
		return nil
	}
	wait := s.rates.take(client{string(by.Tenant), by.ID}, perSecond, cmp.Or(burst, perSecond), s.opt.Now())
	if wait == 0 {
		return nil
	}
	s.metrics.limited.Inc()
	return &scim.Error{
		Status: http.StatusTooManyRequests, Detail: "the client sends more requests than it may, nothing was changed: try again later",
		RetryAfter: int(math.Ceil(wait.Seconds())),
	}
}

// take returns 0 and counts a request, or returns when one would be within the limit.
func (r *rates) take(c client, perSecond, burst int, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.of[c]
	switch {
	case l == nil:
		r.forget(now)
		if r.of == nil {
			r.of = map[client]*rate.Limiter{}
		}
		l = rate.NewLimiter(rate.Limit(perSecond), burst)
		r.of[c] = l
	case l.Limit() != rate.Limit(perSecond) || l.Burst() != burst: // the client was changed
		l.SetLimitAt(now, rate.Limit(perSecond))
		l.SetBurstAt(now, burst)
	}
	reserved := l.ReserveN(now, 1)
	wait := reserved.DelayFrom(now)
	if wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}

// forget drops the clients that have sent nothing for so long that they might begin anew.
func (r *rates) forget(now time.Time) {
	if len(r.of) < manyRates {
		return
	}
	for c, l := range r.of {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(r.of, c)
		}
	}
}
