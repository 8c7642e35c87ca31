package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/roster-id/roster/storage"
)

// ItemKind and ItemID are those of the storage.Item that holds the last checkpoint
// of a tenant.
const (
	ItemKind = "checkpoint"
	ItemID   = "last"
)

// Action is that of the audit entry of a checkpoint.
const Action = "audit.checkpoint"

const (
	// every is after how many entries there is a checkpoint.
	every = 1000
	// within is how long an entry is without one.
	within = time.Minute
	// look is how often the trail is looked at.
	look = 5 * time.Second
	// maxHeads is how many chains a checkpoint names, those that moved last: no
	// more can have moved since the one before.
	maxHeads = every
)

// Signer has the key that checkpoints are signed with.
type Signer interface{ Signer() ed25519.PrivateKey }

// Checkpointer makes the checkpoints of all tenants: one after every 1,000 entries,
// and one a minute while there are any. Several may run on one store; then one
// makes them and all of them write them down. It follows the chains as it goes, and
// logs what is wrong with them. Set the fields before Run.
type Checkpointer struct {
	Store  storage.Store
	Signer Signer
	Now    func() time.Time
	Log    *slog.Logger
	// File, if set, is where each checkpoint is appended. To prove anything, it has
	// to be taken to where nobody can write who can write to the store.
	File string

	tenants map[storage.TenantID]*follower
	unsaved []byte // of File
}

// follower is how far the trail of one tenant has been followed.
type follower struct {
	walker   *walker
	seq      int64
	unsigned int           // entries that no checkpoint has, those of checkpoints excepted
	since    time.Time     // when the first of these was seen
	item     *storage.Item // with the last checkpoint
}

// Run makes checkpoints until ctx ends, and then a last one.
func (c *Checkpointer) Run(ctx context.Context) error {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.step(ctx, within)
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), look)
			defer cancel()
			c.step(end, 0)
			return nil
		}
	}
}

// step looks at all tenants once. Entries may be without a checkpoint for a time.
func (c *Checkpointer) step(ctx context.Context, within time.Duration) {
	failed := func(args ...any) {
		if !errors.Is(ctx.Err(), context.Canceled) { // Run is about to make the last step
			c.Log.Warn("the audit trail could not be followed", args...)
		}
	}
	list, err := c.Store.ListTenants(ctx)
	if err != nil {
		failed("error", err)
		return
	}
	if c.tenants == nil {
		c.tenants = map[storage.TenantID]*follower{}
	}
	for _, t := range list {
		if err := c.follow(ctx, t.ID, within); err != nil {
			failed("tenant", t.ID, "error", err)
			delete(c.tenants, t.ID) // begin again at the last checkpoint
		}
	}
	c.save()
}

// follow reads what is new in a trail, and signs when it is time.
func (c *Checkpointer) follow(ctx context.Context, tenant storage.TenantID, within time.Duration) error {
	if mark, err := c.Store.LoadMark(ctx, tenant); err != nil || mark != nil {
		return err
	}
	f, err := c.resume(ctx, tenant)
	if err != nil || f == nil {
		return err
	}
	for {
		limit := max(1, every-f.unsigned)
		list, err := c.Store.AuditEntries(ctx, tenant, f.seq, limit)
		if err != nil {
			return err
		}
		for i := range list {
			e := &list[i]
			f.walker.walk(e)
			f.seq = e.Seq
			if e.Action == Action {
				continue
			}
			if f.unsigned++; f.unsigned == 1 {
				f.since = c.Now()
			}
		}
		more := len(list) == limit
		due := f.unsigned > 0 && !c.Now().Before(f.since.Add(within))
		if f.unsigned >= every || due && !more {
			if first, err := c.sign(ctx, tenant, f); err != nil || !first {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// resume returns where the trail has been followed to. It is nil while another
// process is at work.
func (c *Checkpointer) resume(ctx context.Context, tenant storage.TenantID) (*follower, error) {
	item, err := c.Store.Item(ctx, tenant, ItemKind, ItemID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	f := c.tenants[tenant]
	switch {
	case f == nil:
	case item == nil && f.item == nil, item != nil && f.item != nil && item.Version == f.item.Version:
		return f, nil
	}
	// What another process has signed need not be read here.
	began := f == nil
	f = &follower{walker: newWalker(tenant), item: item}
	f.walker.fault = func(x Fault) {
		c.Log.Error("the audit trail has been changed", "fault", string(x.Kind), "tenant", x.Tenant, "chain", x.Chain, "n", x.N, "seq", x.Seq)
	}
	c.tenants[tenant] = f
	if item == nil {
		return f, nil
	}
	p, err := parseCheckpoint(item.Data)
	if err == nil && p.Tenant == tenant {
		err = p.Authenticate(c.Signer.Signer().Public().(ed25519.PublicKey))
	}
	if err != nil || p.Tenant != tenant {
		c.Log.Warn("the last checkpoint was not made with this key for this tenant; following the whole audit trail", "tenant", tenant)
		return f, nil //nolint:nilerr // a checkpoint that does not count is as good as none
	}
	f.walker.resume(&p)
	f.seq = p.Seq
	c.unsaved = append(append(c.unsaved, item.Data...), '\n')
	if !began {
		return nil, nil
	}
	return f, nil
}

// resume puts the walker where a checkpoint was made.
func (w *walker) resume(p *Checkpoint) {
	w.partial, w.begun = true, true
	w.report.Entries = p.Count
	for i, h := range slices.Backward(p.Heads) {
		seq := p.Seq - int64(i)
		w.chains[h.Chain] = &progress{head: head{h.Chain, h.N, h.Hash, seq}}
		w.last = head{h.Chain, h.N, h.Hash, p.Seq} // the first is that of the last entry
	}
	w.last.seq = p.Seq
}

// heads returns the last entries of the chains that moved last, beginning with the
// one that did so last, and forgets the others.
func (w *walker) heads() []Head {
	list := make([]*progress, 0, len(w.chains))
	for _, p := range w.chains {
		if p.n > 0 {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *progress) int { return cmp.Or(cmp.Compare(b.seq, a.seq), cmp.Compare(a.chain, b.chain)) })
	var heads []Head
	for i, p := range list {
		if i < maxHeads {
			heads = append(heads, Head{p.chain, p.n, p.hash})
		} else if len(p.early) == 0 {
			w.partial = true
			delete(w.chains, p.chain)
		}
	}
	return heads
}

// sign makes a checkpoint of all that has been followed, unless another process was
// first: its own is as good, and where to go on from.
func (c *Checkpointer) sign(ctx context.Context, tenant storage.TenantID, f *follower) (first bool, err error) {
	p := Checkpoint{Tenant: tenant, At: storage.Milli(c.Now()), Seq: f.seq, Count: f.walker.report.Entries, Heads: f.walker.heads()}
	p.Sign(c.Signer.Signer())
	line, err := p.line()
	if err != nil {
		return false, err
	}
	item := &storage.Item{Kind: ItemKind, ID: ItemID, Data: line[:len(line)-1]}
	err = c.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		if err := tx.PutItem(f.item, item); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: p.At, Actor: storage.SystemActor, Action: Action, Type: "Tenant", ID: string(tenant)})
	})
	if errors.Is(err, storage.ErrConflict) {
		delete(c.tenants, tenant)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f.item, f.unsigned = item, 0
	c.unsaved = append(c.unsaved, line...)
	return true, nil
}

// maxUnsaved bounds the checkpoints that wait for File to be written to.
const maxUnsaved = 16 << 20

// save appends checkpoints to File.
func (c *Checkpointer) save() {
	if c.File == "" || len(c.unsaved) == 0 {
		c.unsaved = c.unsaved[:0]
		return
	}
	n, err := appendTo(c.File, c.unsaved)
	if err != nil {
		c.unsaved = unwritten(c.unsaved, n)
		c.Log.Error("checkpoints of the audit trail could not be written to audit-checkpoints; trying again", "error", err)
		if len(c.unsaved) <= maxUnsaved {
			return
		}
	}
	c.unsaved = nil
}

// unwritten returns the lines of which not all is among the first n bytes.
func unwritten(b []byte, n int) []byte { return b[bytes.LastIndexByte(b[:n], '\n')+1:] }

// appendTo appends lines to a file, and returns how much of them is in it if it fails.
func appendTo(path string, b []byte) (n int, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	if cutOff(path) {
		if _, err := f.WriteString("\n"); err != nil {
			return 0, errors.Join(err, f.Close())
		}
	}
	if n, err = f.Write(b); err == nil {
		if err = f.Sync(); err != nil {
			n = 0 // nobody knows
		}
	}
	return n, errors.Join(err, f.Close())
}

// cutOff reports whether the last line of a file has no end: the disk was full, or the
// machine stopped. The file may be one that can only be appended to.
func cutOff(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var last [1]byte
	if is, err := f.Stat(); err != nil || is.Size() == 0 {
		return false
	} else if _, err := f.ReadAt(last[:], is.Size()-1); err != nil {
		return false
	}
	return last[0] != '\n'
}

// Last returns the last checkpoint that the store has of a tenant, or nil. It has
// not been authenticated.
func Last(ctx context.Context, store storage.Items, tenant storage.TenantID) (*Checkpoint, error) {
	item, err := store.Item(ctx, tenant, ItemKind, ItemID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := parseCheckpoint(item.Data)
	if err != nil {
		return nil, fmt.Errorf("the store: %w", err)
	}
	return &p, nil
}
