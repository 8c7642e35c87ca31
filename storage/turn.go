package storage

import (
	"context"
	"sync/atomic"
)

// Turn is the place of a write among others that are under way at the same time and have
// to take effect one after the other. Its methods are for the goroutine that has the turn
// and the Store that this calls; a nil Turn is no place in particular.
type Turn struct {
	before      *Turn
	taken, over chan struct{}
	wrote       bool // taken is closed
	again       atomic.Bool
}

// NewTurn returns the turn after another one, or the first if before is nil. End has to be
// called for it.
func NewTurn(before *Turn) *Turn {
	return &Turn{before: before, taken: make(chan struct{}), over: make(chan struct{})}
}

type turnKey struct{}

// InTurn returns a context for the write that a turn is for.
func InTurn(ctx context.Context, t *Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, t)
}

// TurnOf returns the turn of the write that a context is for, or nil.
func TurnOf(ctx context.Context) *Turn {
	t, _ := ctx.Value(turnKey{}).(*Turn)
	return t
}

// Wait returns when nothing can come before a write any more that has to come after it,
// or when the context ends.
func (t *Turn) Wait(ctx context.Context) error {
	if t == nil || t.before == nil {
		return nil
	}
	select {
	case <-t.before.taken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Take lets the next one write. A Store may call it when it has a write, if it carries
// writes out in the order in which it gets them; who calls Store.Write calls it afterwards
// in any case.
func (t *Turn) Take() {
	if t != nil && !t.wrote {
		if t.Passes() {
			t.Again()
		}
		t.wrote = true
		close(t.taken)
	}
}

// Again says that the write of the turn came to nothing and is done again. To be known to
// those behind, it is said inside the write.
func (t *Turn) Again() {
	if t != nil {
		t.again.Store(true)
	}
}

// Repeats reports whether Again was said.
func (t *Turn) Repeats() bool { return t != nil && t.again.Load() }

// Passes reports, inside a write, whether it would come before one that is done again, and
// so has to be done again itself, when all before it is over.
func (t *Turn) Passes() bool { return t != nil && t.before.Repeats() }

// Early reports whether what was done so far was done by reading alone, while writes that
// come before it could be under way.
func (t *Turn) Early() bool { return t != nil && t.before != nil && !t.wrote }

// Alone returns when all that comes before is over.
func (t *Turn) Alone() {
	if t != nil && t.before != nil {
		<-t.before.over
	}
}

// End says that nothing more is done in this turn. It returns when all that comes before
// is over too.
func (t *Turn) End() {
	t.Take()
	t.Alone()
	t.before = nil // or the first would be kept as long as the last
	close(t.over)
}
