package server

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// bodyPatience is how long a request keeps its place while its body arrives.
	bodyPatience = 100 * time.Millisecond
	// readPatience is how long it does so while its client takes no more of the answer.
	readPatience = 100 * time.Millisecond
	// unread is what net/http takes of an answer whether the client reads it or not.
	unread = 2 << 10
)

// place is what a request has in a lane. While a slow body arrives it is lent to others, and it is
// given back when the answer is read slowly, or a few slow clients would have them all.
type place struct {
	lane    *lane
	readers *semaphore.Weighted // for those who read slowly
	mu      sync.Mutex
	held    bool
	kept    bool // from now on, to the end
	slow    bool // one of readers is taken in its stead
}

// stall gives the place back for good if there is room among those who read slowly. What is left
// to do for them is done as slowly as they read.
func (p *place) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held && p.readers.TryAcquire(1) {
		p.held, p.kept, p.slow = false, true, true
		p.lane.leave()
	}
}

// leave gives the place back for good, at the end of the request or where it only waits from
// now on (scim.LeavePlace).
func (p *place) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = true
	if p.held {
		p.held = false
		p.lane.leave()
	}
	if p.slow {
		p.slow = false
		p.readers.Release(1)
	}
}

// lend gives the place to others until keep.
func (p *place) lend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held && !p.kept {
		p.held = false
		p.lane.leave()
	}
}

// keep takes the place again if it was lent, for which it may have to wait as in the
// beginning.
func (p *place) keep(ctx context.Context) error {
	p.mu.Lock()
	p.kept = true
	held := p.held
	p.mu.Unlock()
	if held {
		return nil
	}
	if err := p.lane.enter(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	p.held = true
	p.mu.Unlock()
	return nil
}

// lend has the place of a request lent while its body takes its time.
func (c *call) lend() {
	if c.r.Body != nil && c.r.Body != http.NoBody {
		c.body = lendingBody{ReadCloser: c.r.Body, place: &c.place, ctx: c.r.Context(), left: c.r.ContentLength}
		c.r.Body = &c.body
	}
}

// lendingBody is a body during which the place of its request is lent.
type lendingBody struct {
	io.ReadCloser
	place *place
	ctx   context.Context // of the request, which the body belongs to
	left  int64           // how many bytes are still to come; negative if that was not announced
	timer *time.Timer     // since the first byte was asked for
	err   error           // from the end on
}

// Read returns the end of the body when the request has its place again. The error is that
// of errOverloaded if it does not get one.
func (b *lendingBody) Read(buf []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(bodyPatience, b.place.lend)
	}
	n, err := b.ReadCloser.Read(buf)
	b.err = err
	if b.left > 0 {
		b.left -= int64(n)
	}
	// HTTP/2 tells of the end apart from the last bytes, and who knows how many there are does
	// not ask for it.
	if err != nil || b.left == 0 {
		b.timer.Stop()
		if full := b.place.keep(b.ctx); full != nil {
			n, b.err = 0, full
		}
	}
	return n, b.err
}
