package scim

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// What became of the operations of a bulk request that is carried out later is written
// down in the write that changes something, so that none is done twice, whatever ends
// the process. What changed nothing is written down with the next that does, and
// before it is answered: nothing comes after it that it could have to come before.

// outcome is what became of an operation.
type outcome struct {
	Index   int    `json:"index"`
	ID      string `json:"id,omitzero"` // of the resource
	Version int64  `json:"version,omitzero"`
	Error   *Error `json:"error,omitzero"`
	// Cut are the bulkIds that it was created without, Second that it has been given
	// what they refer to, or could not be.
	Cut    []string `json:"cut,omitzero"`
	Second bool     `json:"second,omitzero"`
}

// stepKind is that of the items in which outcomes stand; their key is the request's id.
const stepKind = "bulk.step"

// steps are those of one request in one process.
type steps struct {
	a       *Async
	tenant  storage.TenantID
	txn     string
	lease   string
	expires time.Time
	last    bool // it is not tried again
	taken   bool // from a process that may have a write under way
	unsaved []outcome

	stopping context.Context // ends when the process has to
	renewed  time.Time       // when the lease was taken last
	asked    time.Time       // when the client was looked at last
}

// step is one write of an operation.
type step struct {
	*steps
	o       *bulkOperation
	second  bool
	id      string    // of the resource, if it is known before
	with    []outcome // what is written down too
	written bool
}

type stepKey struct{}

var (
	// errStopping: the process is to end, or to read again what is done.
	errStopping = errors.New("the process ends")
	// errTaken: somebody else carries the request out.
	errTaken = errors.New("the request has been taken over")
)

// errPasses: a write before this one is done again.
var errPasses = errors.New("the write would come before another one")

// write is Store.Write in its turn, which writes down the step that ctx belongs to as well.
// If it begins again, so do those behind it, or they would have passed it.
func (p *Provider) write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	turn := storage.TurnOf(ctx)
	if turn == nil {
		return p.writeStep(ctx, tenant, fn)
	}
	if !turn.Repeats() {
		if err := turn.Wait(ctx); err != nil {
			return err
		}
		err := p.writeStep(ctx, tenant, func(tx storage.Tx) error {
			if turn.Passes() {
				turn.Again()
				return errPasses
			}
			err := fn(tx)
			if beginsAgain(err) {
				turn.Again()
			}
			return err
		})
		turn.Take()
		if !errors.Is(err, errPasses) {
			return err
		}
	}
	turn.Alone()
	return p.writeStep(ctx, tenant, fn)
}

// beginsAgain reports whether a write that fails so is done again.
func beginsAgain(err error) bool {
	_, arrived := errors.AsType[*arrivedError](err)
	return arrived || errors.Is(err, errStanding) || errors.Is(err, errOvertaken)
}

// writeStep is Store.Write, and writes down the step that ctx belongs to as well.
func (p *Provider) writeStep(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	s, ok := ctx.Value(stepKey{}).(*step)
	if !ok {
		return p.Store.Write(ctx, tenant, fn)
	}
	written := false
	err := p.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		seen := &witness{Tx: tx, step: s, own: outcome{ID: s.id}}
		if written = false; s.id != "" {
			seen.own.Version = 1
		}
		if err := fn(seen); err != nil || !seen.changed {
			return err
		}
		written = true
		return s.put(tx, seen.own)
	})
	s.written = err == nil && written
	return err
}

// witness learns from the audit entries of a write what it does.
type witness struct {
	storage.Tx
	step    *step
	changed bool
	own     outcome
}

func (w *witness) Audit(e storage.AuditEntry) error {
	w.changed = true
	if w.about(e) {
		w.own.ID, w.own.Version = e.ID, e.Version
	}
	return w.Tx.Audit(e)
}

// about reports whether an entry tells of the resource that the operation is about. Others
// that it changes, of the same type perhaps, are told of later.
func (w *witness) about(e storage.AuditEntry) bool {
	o := w.step.o
	switch {
	case e.Version == 0, e.Type != o.t.Name, w.own.ID != "" && e.ID != w.own.ID:
		return false
	case o.method == http.MethodPost && !w.step.second:
		return true // its id is not known before
	}
	return e.ID == o.id
}

// put writes the step down.
func (s *step) put(tx storage.Tx, own outcome) error {
	own.Index, own.Second = s.o.index, s.second
	if !s.second {
		own.Cut = s.o.cut
	}
	return s.save(tx, s.name(), append(slices.Clone(s.with), own))
}

// name is under which the step is written down.
func (s *step) name() string {
	name := strconv.Itoa(s.o.index)
	if s.second {
		name += "/link"
	}
	return name
}

// save writes outcomes down under a name, which nobody does twice and only who carries
// the request out.
func (s *steps) save(tx storage.Tx, name string, list []outcome) error {
	if _, _, err := s.a.held(tx, s.txn, s.lease); err != nil {
		return err
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	err = tx.PutItem(nil, &storage.Item{Kind: stepKind, ID: s.txn + ":" + name, Keys: []string{s.txn}, Expires: s.expires, Data: data})
	if errors.Is(err, storage.ErrConflict) {
		return errTaken
	}
	return err
}

// context is that in which an operation is carried out.
func (b *bulk) context(o *bulkOperation, second bool) context.Context {
	if b.steps == nil {
		return b.ctx
	}
	o.step = &step{steps: b.steps, o: o, second: second, with: b.steps.unsaved}
	return context.WithValue(auth.WithRequestID(b.ctx, b.operationTxn(o)), stepKey{}, o.step)
}

// expect notes what a POST is going to make, where its audit entry does not tell: a
// membership is a change of its group.
func (o *bulkOperation) expect(tree any) {
	if o.step == nil || o.t.Name != membershipType {
		return
	}
	value := func(name string) string {
		v, _ := schemas.Field(tree, name)
		v, _ = schemas.Field(v, "value")
		s, _ := v.(string)
		return s
	}
	o.step.id = membershipID(value("group"), value("member"))
}

// note takes down what became of an operation, and returns false if that is not known,
// or to be tried again.
func (b *bulk) note(o *bulkOperation, second bool) bool {
	s := b.steps
	if s == nil {
		return true
	}
	if b.stop != nil || b.stops(o.err) {
		return false
	}
	if o.step != nil && o.step.written {
		if len(o.step.with) > 0 {
			s.unsaved = nil
		}
		return true
	}
	if o.err != nil && s.taken {
		// It may have failed because it was done by a write that ended after the request
		// had been taken over.
		_, err := b.p.Store.Item(b.ctx, s.tenant, stepKind, s.txn+":"+o.step.name())
		if !errors.Is(err, storage.ErrNotFound) {
			b.stop = cmp.Or(err, errStopping)
			return false
		}
	}
	n := outcome{Index: o.index, ID: o.id, Second: second}
	if o.res != nil {
		n.Version = o.res.Version
	}
	if o.err != nil {
		n.Error = ErrorFor(o.err)
	}
	if !second {
		n.Cut = o.cut
	}
	s.unsaved = append(s.unsaved, n)
	return true
}

// stops sets stop if an error is no result of an operation: somebody else goes on, or it
// is tried again later.
func (b *bulk) stops(err error) bool {
	s := b.steps
	if s == nil || err == nil {
		return false
	}
	if errors.Is(err, errTaken) || !s.last && b.refused == nil && ErrorFor(err).Status == http.StatusServiceUnavailable {
		b.stop = err
		return true
	}
	return false
}

// save writes down what is not written down. It returns false if that was not possible.
func (b *bulk) save() bool {
	s := b.steps
	if s == nil || len(s.unsaved) == 0 {
		return true
	}
	b.stop = b.p.Store.Write(b.ctx, s.tenant, func(tx storage.Tx) error {
		if err := s.save(tx, rand.Text(), s.unsaved); err != nil {
			return err
		}
		return tx.Audit(s.a.entry(s.tenant, "bulk.progress", s.txn))
	})
	if b.stop == nil {
		s.unsaved = nil
	}
	return b.stop == nil
}

// pause is called before anything is begun, and reports whether that has to wait. It
// keeps the lease, and asks anew what the client may.
func (b *bulk) pause() bool {
	s := b.steps
	if s == nil {
		return false
	}
	if b.stop == nil && s.stopping.Err() != nil {
		b.stop = errStopping
	}
	// A clock that went back makes nothing younger.
	old := func(at, now time.Time, age time.Duration) bool { return now.Before(at) || now.Sub(at) >= age }
	if now := b.p.now(); b.stop == nil && old(s.renewed, now, lease/2) {
		if b.stop = s.a.renew(b.ctx, s.tenant, s.txn, s.lease); b.stop == nil {
			s.renewed = now
		}
	}
	if now := b.p.now(); b.stop == nil && old(s.asked, now, askEvery) {
		if b.stop = b.ask(); b.stop == nil {
			s.asked = now
		}
	}
	return b.stop != nil
}

// ask finds out what the client may now.
func (b *bulk) ask() error {
	list, err := b.p.Store.ListClients(b.ctx, b.by.Tenant)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(c *storage.Client) bool { return c.ID == b.by.ID })
	if i < 0 || !list[i].Revoked.IsZero() {
		b.refused = &auth.RefusedError{Reason: auth.Revoked}
		return nil
	}
	from := b.by.From
	b.by = auth.ClientPrincipal(list[i])
	b.by.From = from
	return nil
}

// resume takes up what has been written down.
func (b *bulk) resume(ctx context.Context) error {
	items, err := b.p.Store.Items(ctx, b.steps.tenant, stepKind, b.steps.txn)
	if err != nil {
		return err
	}
	for _, second := range []bool{false, true} {
		for _, i := range items {
			var list []outcome
			if err := json.Unmarshal(i.Data, &list); err != nil {
				return fmt.Errorf("the step %s is damaged", i.ID)
			}
			for _, n := range list {
				if n.Second == second && n.Index < len(b.ops) {
					b.ops[n.Index].resume(n)
				}
			}
		}
	}
	for _, o := range b.ops {
		if o.done && o.err != nil {
			b.failed++
		}
		if o.done && len(o.cut) > 0 {
			b.unlinked = append(b.unlinked, o)
		}
	}
	return nil
}

func (o *bulkOperation) resume(n outcome) {
	o.begun, o.done, o.id, o.err = true, true, n.ID, nil
	if o.cut = n.Cut; n.Error != nil {
		o.err, o.cut = n.Error, nil
	}
	if o.t != nil && o.method != http.MethodDelete && n.Version > 0 {
		o.res = &storage.Resource{Type: o.t.Name, ID: n.ID, Version: n.Version}
	}
}

// operationTxn is the transaction of an operation (RFC 9967 §2.5.1.2).
func (b *bulk) operationTxn(o *bulkOperation) string {
	return fmt.Sprintf("%s:%d", b.steps.txn, o.index)
}
