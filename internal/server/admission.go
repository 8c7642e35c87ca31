package server

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/roster-id/roster/scim"
)

// Admission bounds how many requests are in work at a time. What is beyond waits in a
// queue, which is bounded as well, and what does not fit in there or waits for too long
// is answered 503 before anything has been done for it. The zero value is no limit.
type Admission struct {
	// Requests is how many requests to the protocol are in work at a time; 0 for no
	// limit. Deprovisioning (see scim.Deprovisioning) and what people use have lanes of their
	// own, with a quarter as many places each.
	Requests int
	Queue    int           // how many wait in a lane
	Wait     time.Duration // for how long
}

// queuePerPlace is how many requests wait for a place unless somebody says: small ones
// do so for some ten milliseconds, which a burst is worth. Where requests are large it is
// the time that bounds the queue.
const queuePerPlace = 8

// AdmissionOf is so many requests at a time, and as many that wait as go with it: in and
// waiting they leave a quarter of the connections that one address may have (0 for no
// limit) to others. Who cannot connect is not refused, and gets into no lane.
func AdmissionOf(requests, connections int, wait time.Duration) Admission {
	queue := queuePerPlace * requests
	if connections > 0 {
		queue = max(requests, min(queue, connections*3/4-requests))
	}
	return Admission{Requests: requests, Queue: queue, Wait: wait}
}

// AdmissionFor is what suits this machine. A request needs a processor some of the time and waits for the disk, the database or
// the client otherwise; 32 for each processor keep them busy, and share commits.
func AdmissionFor(connections int, wait time.Duration) Admission {
	return AdmissionOf(32*runtime.GOMAXPROCS(0), connections, wait)
}

const (
	// peekSize is how large a body is looked at to find out whether it deprovisions.
	peekSize = 64 << 10
	// peekTime is how long it may take to arrive.
	peekTime = 2 * time.Second
)

// lane is a number of places and a queue for them, first come, first served.
type lane struct {
	places  *semaphore.Weighted
	queue   int64
	wait    time.Duration
	waiting atomic.Int64

	inWork, inQueue prometheus.Gauge
	full, late      prometheus.Counter
}

// admission is the lanes there are, nil for no limit.
type admission struct {
	common, deprovisioning, people *lane
	peeks                          *semaphore.Weighted
	readers                        *semaphore.Weighted // see place.stall
}

func newAdmission(a Admission, m *metrics) *admission {
	if a.Requests <= 0 {
		return nil
	}
	open := func(name string, places int) *lane {
		return &lane{
			places: semaphore.NewWeighted(int64(places)), queue: int64(a.Queue), wait: a.Wait,
			inWork: m.inWork.WithLabelValues(name), inQueue: m.waiting.WithLabelValues(name),
			full: m.overload.WithLabelValues(name, "full"), late: m.overload.WithLabelValues(name, "late"),
		}
	}
	reserved := max(1, a.Requests/4)
	return &admission{
		common: open("common", a.Requests), deprovisioning: open("deprovisioning", reserved), people: open("people", reserved),
		peeks: semaphore.NewWeighted(int64(a.Requests)), readers: semaphore.NewWeighted(int64(a.Requests)),
	}
}

// errOverloaded is the answer to what finds no place. Who was refused should not come
// back at the same moment as everybody else who was.
func errOverloaded() error {
	return &overloadError{&scim.Error{
		Status: http.StatusServiceUnavailable, Detail: "too many requests are under way, nothing was changed: try again",
		RetryAfter: 1 + rand.IntN(3),
	}}
}

// overloadError tells an overload from other reasons for a 503.
type overloadError struct{ error }

func (e *overloadError) Unwrap() error { return e.error }

// tryEnter takes a place if there is one and nobody waits for it.
func (l *lane) tryEnter() bool {
	if !l.places.TryAcquire(1) {
		return false
	}
	l.inWork.Inc()
	return true
}

// enter takes a place, for which it may wait. The error is that of errOverloaded.
func (l *lane) enter(ctx context.Context) error {
	if l.tryEnter() {
		return nil
	}
	if l.waiting.Add(1) > l.queue {
		l.waiting.Add(-1)
		l.full.Inc()
		return errOverloaded()
	}
	l.inQueue.Inc()
	wait, cancel := context.WithTimeout(ctx, l.wait)
	err := l.places.Acquire(wait, 1)
	cancel()
	l.waiting.Add(-1)
	l.inQueue.Dec()
	if err != nil {
		if ctx.Err() == nil {
			l.late.Inc()
		}
		return errOverloaded()
	}
	l.inWork.Inc()
	return nil
}

func (l *lane) leave() {
	l.inWork.Dec()
	l.places.Release(1)
}

// admit finds a place for a request and returns the lane that it is in, nil without
// limits.
func (s *Server) admit(c *call, route scim.Route) (*lane, error) {
	a := s.admission
	if a == nil {
		return nil, nil
	}
	l := a.common
	switch {
	case c.mount.People:
		l = a.people
	case route.Deprovisioning == scim.DeprovisionsAlways:
		l = a.deprovisioning
	case route.Deprovisioning == scim.DeprovisionsByBody:
		if l.tryEnter() {
			return l, nil
		}
		urgent, err := s.peek(c, route)
		if err != nil {
			return nil, err
		}
		if urgent {
			l = a.deprovisioning
		}
	}
	return l, l.enter(c.r.Context())
}

// peek reads what there is to read of a body and reports whether it deprovisions. It does so only
// for a request that may pass the gate, of as many as could be in work. The body can be read
// again.
func (s *Server) peek(c *call, route scim.Route) (bool, error) {
	if c.r.ContentLength > peekSize || !s.admission.peeks.TryAcquire(1) {
		return false, nil
	}
	defer s.admission.peeks.Release(1)
	if err := s.enter(c, route); err != nil {
		return false, err
	}
	conn := http.NewResponseController(c.w)
	_ = conn.SetReadDeadline(time.Now().Add(peekTime)) // what has no deadline has that of the request
	start, err := io.ReadAll(io.LimitReader(c.r.Body, peekSize+1))
	_ = conn.SetReadDeadline(time.Now().Add(readTime))
	if err != nil {
		c.w.Header().Set("Connection", "close") // the rest of the body may still come
		return false, errOverloaded()
	}
	c.r.Body = &readAgain{io.MultiReader(bytes.NewReader(start), c.r.Body), c.r.Body}
	return len(start) <= peekSize && scim.Deactivates(start), nil
}

// readAgain is a body of which a part has been read already.
type readAgain struct {
	io.Reader
	io.Closer
}
