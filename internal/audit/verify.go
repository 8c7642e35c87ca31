package audit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/roster-id/roster/storage"
)

// Kind is what is wrong with a trail at one place.
type Kind string

// The kinds of faults.
const (
	// Broken: the entry does not follow from the one before it. One of the two has
	// been changed, or something stood between them.
	Broken Kind = "broken"
	// Missing: the chain has no entry with this N.
	Missing Kind = "missing"
	// Repeated: the chain has had an entry with this N.
	Repeated Kind = "repeated"
	// Misplaced: the entry does not stand where it was written.
	Misplaced Kind = "misplaced"
	// Unchained: the entry is of no chain, and others before it are.
	Unchained Kind = "unchained"
	// Unlike: a checkpoint has another hash for the entry.
	Unlike Kind = "unlike the checkpoint"
	// Lost: a checkpoint has the entry, and the trail does not.
	Lost Kind = "lost"
	// Miscounted: up to this number there are more or fewer entries than a
	// checkpoint counted.
	Miscounted Kind = "miscounted"
)

// Fault is something wrong with a trail.
type Fault struct {
	Kind   Kind             `json:"kind"`
	Tenant storage.TenantID `json:"tenant"`
	Chain  string           `json:"chain,omitempty"` // "" if no one chain is concerned
	N      int64            `json:"n,omitempty"`     // in the chain
	Seq    int64            `json:"seq,omitempty"`   // the number of the entry at which it was noticed
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s: tenant %q", f.Kind, f.Tenant)
	if f.Chain != "" {
		s += fmt.Sprintf(", chain %s, entry %d", f.Chain, f.N)
	}
	if f.Seq != 0 {
		s += fmt.Sprintf(", at number %d", f.Seq)
	}
	return s
}

// maxFaults bounds the faults of a report.
const maxFaults = 1000

// Report is what Verify found.
type Report struct {
	Tenant  storage.TenantID
	Entries int64
	// Unchained are the entries before the first one that is of a chain: they
	// were recorded when there were no chains, and nothing protects them.
	Unchained   int64
	Chains      int
	Checkpoints int // that were held against the trail
	// Vouched is the number of the last entry that a checkpoint vouches for, or 0.
	Vouched int64
	Faults  []Fault // the first 1,000
	Faulty  int64   // how many there are
}

// OK reports whether there is no fault.
func (r Report) OK() bool { return r.Faulty == 0 }

// portion is how many entries are read at a time.
const portion = 1000

// Verify reads the whole trail of a tenant and holds it against its own hashes
// and against checkpoints, which are of this tenant and have been authenticated.
// Entries that come meanwhile may be part of it.
func Verify(ctx context.Context, store storage.Audit, tenant storage.TenantID, checkpoints []Checkpoint) (Report, error) {
	w := newWalker(tenant)
	w.claims = claimsOf(checkpoints)
	w.report.Checkpoints = len(checkpoints)
	for after := int64(math.MinInt64); ; {
		list, err := store.AuditEntries(ctx, tenant, after, portion)
		if err != nil {
			return w.report, err
		}
		for i := range list {
			w.walk(&list[i])
		}
		if len(list) < portion {
			break
		}
		after = list[len(list)-1].Seq
	}
	w.end()
	return w.report, nil
}

// walker goes along a trail in the order of the numbers.
type walker struct {
	report Report
	fault  func(Fault)

	begun  bool // there was an entry of a chain
	last   head // the entry before
	chains map[string]*progress
	// partial means that the walk did not begin at the beginning: of a chain that
	// is not known there may have been entries.
	partial bool
	claims  claims
}

// head is an entry that others may be tied to.
type head struct {
	chain string
	n     int64
	hash  []byte
	seq   int64
}

// progress is how far a chain has come.
type progress struct {
	head
	early map[int64]storage.AuditEntry // that came before their turn
}

func newWalker(tenant storage.TenantID) *walker {
	w := &walker{report: Report{Tenant: tenant}, chains: map[string]*progress{}}
	w.fault = func(f Fault) {
		if w.report.Faulty++; len(w.report.Faults) < maxFaults {
			w.report.Faults = append(w.report.Faults, f)
		}
	}
	return w
}

func (w *walker) wrong(k Kind, e *storage.AuditEntry) { w.wrongAt(k, e.Chain, e.N, e.Seq) }

func (w *walker) wrongAt(k Kind, chain string, n, seq int64) {
	w.fault(Fault{Kind: k, Tenant: w.report.Tenant, Chain: chain, N: n, Seq: seq})
}

// walk takes the next entry.
func (w *walker) walk(e *storage.AuditEntry) {
	w.claims.pass(w, e.Seq)
	w.report.Entries++
	switch {
	case e.Chain == "":
		// Numbers begin with 1.
		if w.begun || e.Seq < 1 || e.N != 0 || len(e.Hash) > 0 {
			w.wrong(Unchained, e)
		} else {
			w.report.Unchained++
		}
	case storage.InOrder(e.Chain):
		w.inOrder(e)
	default:
		w.parallel(e)
	}
	if e.Chain != "" {
		w.begun = true
		w.claims.meet(w, e)
	}
	w.last = head{e.Chain, e.N, e.Hash, e.Seq}
}

// of returns how far the chain of an entry has come.
func (w *walker) of(e *storage.AuditEntry) *progress {
	p := w.chains[e.Chain]
	if p == nil {
		p = &progress{}
		w.chains[e.Chain] = p
		w.report.Chains++
		if w.partial && e.N > 1 {
			p.n = e.N - 1 // its hash is not known
		}
	}
	return p
}

// inOrder takes an entry of a chain that is in order: its place is right behind
// the entry before it.
func (w *walker) inOrder(e *storage.AuditEntry) {
	_, known := w.chains[e.Chain]
	p := w.of(e)
	follows := e.Seq == w.last.seq+1
	switch {
	case known && e.N <= p.n:
		w.wrong(Repeated, e)
	case e.N > 1 && (w.last.chain != e.Chain || w.last.n != e.N-1):
		if e.N > p.n+1 {
			w.missing(e, p.n)
		} else {
			w.wrong(Misplaced, e)
		}
	case e.N < 1 || !follows:
		w.wrong(Misplaced, e)
		fallthrough
	default:
		if !bytes.Equal(e.Hash, e.Sum(w.last.hash)) {
			w.wrong(Broken, e)
		}
	}
	p.head = head{e.Chain, max(e.N, p.n), e.Hash, e.Seq}
}

func (w *walker) missing(e *storage.AuditEntry, after int64) {
	w.wrongAt(Missing, e.Chain, after+1, e.Seq)
}

// maxEarly is how many entries of a chain may come before their turn. The store
// puts a thousand into order at a time.
const maxEarly = 1000

// parallel takes an entry of a chain that others are written beside. Numbers put
// the changes of one resource into the order of its versions, whatever the clocks
// of two processes said, so that an entry may come before its turn.
func (w *walker) parallel(e *storage.AuditEntry) {
	p := w.of(e)
	switch {
	case e.N <= p.n || p.early[e.N].Chain != "":
		w.wrong(Repeated, e)
		return
	case e.N > p.n+1:
		if p.early == nil {
			p.early = map[int64]storage.AuditEntry{}
		}
		p.early[e.N] = *e
		if len(p.early) > maxEarly {
			w.skip(p, e.Seq)
		}
		return
	}
	for _, before := range p.early {
		// Only changes of resources are put into another order.
		if before.Version == 0 && e.Version == 0 {
			w.wrong(Misplaced, e)
			break
		}
	}
	w.link(p, e)
	w.catchUp(p)
}

// link adds an entry to its chain.
func (w *walker) link(p *progress, e *storage.AuditEntry) {
	if !bytes.Equal(e.Hash, e.Sum(p.hash)) && (p.hash != nil || p.n == 0) {
		w.wrong(Broken, e)
	}
	p.head = head{e.Chain, e.N, e.Hash, max(e.Seq, p.seq)}
}

// catchUp adds the entries whose turn has come.
func (w *walker) catchUp(p *progress) {
	for {
		e, ok := p.early[p.n+1]
		if !ok {
			return
		}
		delete(p.early, e.N)
		w.link(p, &e)
	}
}

// skip gives up waiting for the next entry of a chain.
func (w *walker) skip(p *progress, seq int64) {
	next := slices.Min(slices.Collect(maps.Keys(p.early)))
	e := p.early[next]
	w.wrongAt(Missing, e.Chain, p.n+1, seq)
	delete(p.early, next)
	p.head = head{e.Chain, e.N, e.Hash, e.Seq}
	w.catchUp(p)
}

// end is for when there are no more entries.
func (w *walker) end() {
	for _, chain := range slices.Sorted(maps.Keys(w.chains)) {
		for p := w.chains[chain]; len(p.early) > 0; {
			w.skip(p, w.last.seq)
		}
	}
	w.claims.end(w)
}

// claims are what checkpoints say about a trail.
type claims struct {
	heads  map[string]map[int64]*claim // by chain and N
	counts []count                     // in the order of their numbers
}

type claim struct {
	hash []byte
	met  bool
}

type count struct{ seq, entries int64 }

func claimsOf(checkpoints []Checkpoint) claims {
	c := claims{heads: map[string]map[int64]*claim{}}
	for _, p := range checkpoints {
		c.counts = append(c.counts, count{p.Seq, p.Count})
		for _, h := range p.Heads {
			if c.heads[h.Chain] == nil {
				c.heads[h.Chain] = map[int64]*claim{}
			}
			if c.heads[h.Chain][h.N] == nil {
				c.heads[h.Chain][h.N] = &claim{hash: h.Hash}
			} else if !bytes.Equal(c.heads[h.Chain][h.N].hash, h.Hash) {
				// No trail is like both.
				c.heads[h.Chain][h.N].hash = nil
			}
		}
	}
	slices.SortFunc(c.counts, func(a, b count) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.entries, b.entries)) })
	c.counts = slices.Compact(c.counts)
	return c
}

// pass compares the counts up to a number that is about to be passed.
func (c *claims) pass(w *walker, seq int64) {
	for len(c.counts) > 0 && c.counts[0].seq < seq {
		if c.counts[0].entries != w.report.Entries {
			w.wrongAt(Miscounted, "", 0, c.counts[0].seq)
		} else {
			w.report.Vouched = c.counts[0].seq
		}
		c.counts = c.counts[1:]
	}
}

func (c *claims) meet(w *walker, e *storage.AuditEntry) {
	if claim := c.heads[e.Chain][e.N]; claim != nil {
		claim.met = true
		if !bytes.Equal(claim.hash, e.Hash) {
			w.wrong(Unlike, e)
		}
	}
}

func (c *claims) end(w *walker) {
	c.pass(w, math.MaxInt64)
	for _, chain := range slices.Sorted(maps.Keys(c.heads)) {
		for _, n := range slices.Sorted(maps.Keys(c.heads[chain])) {
			if !c.heads[chain][n].met {
				w.wrongAt(Lost, chain, n, 0)
			}
		}
	}
}
