package mongo

import (
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"
)

// turns let those writers of this process that got into each other's way on a
// resource go one after the other from then on. In MongoDB the second of two
// writers of one document fails at once and begins again, so that of many some
// would begin again for ever.
type turns struct {
	seed   maphash.Seed
	queues [256]queue
}

// queue is that of the resources with one hash.
type queue struct {
	turn chan struct{}
	busy atomic.Int64 // until when writers wait for their turn, in milliseconds since 1970
}

// busyTime is for how long after a conflict writers go one after the other.
const busyTime = time.Second

func newTurns() *turns {
	t := &turns{seed: maphash.MakeSeed()}
	for i := range t.queues {
		t.queues[i].turn = make(chan struct{}, 1)
	}
	return t
}

func (t *turns) of(id string) *queue {
	return &t.queues[maphash.String(t.seed, id)%uint64(len(t.queues))]
}

// conflict notes that writers of a resource were in each other's way.
func (q *queue) conflict() { q.busy.Store(time.Now().Add(busyTime).UnixMilli()) }

// turn is what one write holds: one queue at most, so that no two writes ever
// wait for each other.
type turn struct{ held *queue }

// await waits for the write's turn on a resource, if there is a queue.
func (t *turn) await(ctx context.Context, q *queue) error {
	if t.held != nil || q.busy.Load() < time.Now().UnixMilli() {
		return nil
	}
	select {
	case q.turn <- struct{}{}:
		t.held = q
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) end() {
	if t.held != nil {
		<-t.held.turn
	}
}
