package mongo

import (
	"errors"
	"sync"

	"github.com/roster-id/roster/storage"
)

// lanes are the chains that this process adds to the audit trails of its tenants.
// A chain whose last entry is a document that every write changes would make all
// writes of a tenant wait for each other. So there are as many as there are writes
// at the same time: a write takes a lane with its first entry, and until its outcome
// is known nobody else continues that chain.
type lanes struct {
	mu   sync.Mutex
	free map[string][]*lane // by tenant; the one used last is used next
}

// lane is a chain up to its last entry.
type lane struct {
	chain string
	n     int64
	hash  []byte
}

// held is the lane of one write, if it has taken one.
type held struct {
	lanes  *lanes
	tenant string
	from   *lane // as it was
	to     lane  // with the entries of this attempt
}

// begin begins an attempt, which continues the chain where the write found it.
func (h *held) begin() {
	if h.from != nil {
		h.to = *h.from
	}
}

// append makes an entry the next one of the chain.
func (h *held) append(e *storage.AuditEntry) {
	if h.from == nil {
		h.from = h.lanes.take(h.tenant)
		h.to = *h.from
	}
	e.Chain, e.N = h.to.chain, h.to.n+1
	e.Hash = e.Sum(h.to.hash)
	h.to.n, h.to.hash = e.N, e.Hash
}

// drop gives the lane up for good: whether the chain has this write's entries is
// not known, so nothing can continue it.
func (h *held) drop() { h.from = nil }

// end gives the lane back when the outcome of the write is known.
func (h *held) end(err error) {
	switch {
	case h.from == nil || errors.Is(err, storage.ErrOutcomeUnknown):
		return
	case err == nil:
		*h.from = h.to
	}
	h.lanes.give(h.tenant, h.from)
}

func (l *lanes) take(tenant string) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.free[tenant]
	if len(list) == 0 {
		return &lane{chain: storage.NewChain(false)}
	}
	last := list[len(list)-1]
	l.free[tenant] = list[:len(list)-1]
	return last
}

func (l *lanes) give(tenant string, x *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == nil {
		l.free = map[string][]*lane{}
	}
	l.free[tenant] = append(l.free[tenant], x)
}
