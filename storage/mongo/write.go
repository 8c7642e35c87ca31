package mongo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/roster-id/roster/storage"
)

// maxWrite is how long a write is tried when the caller sets no deadline.
const maxWrite = 30 * time.Second

// commitTime is how long the outcome of a commit is waited for at least: giving
// up with the caller would leave it not knowing.
const commitTime = 2 * time.Second

// faultAfter is how often in a row a write that takes nothing for granted finds
// something other than what it has just read, without another write in its way,
// before that is no coincidence.
const faultAfter = 10

// errAgain ends fn of a write that has to run again: something it was told came
// out otherwise. No caller of Write ever sees it.
var errAgain = errors.New("the write begins again")

// Write implements storage.Store. fn first runs on the assumption that nothing
// surprising happens: what it does is collected, answered as expected, and sent
// in one command for each collection before the commit. When that finds anything
// else (a version that moved, a name that is taken, a member that was one), the
// transaction is given up and fn runs again with each step carried out at once,
// so that its answers and errors are exact.
func (s *Store) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: the request ended before its turn", storage.ErrUnavailable)
	}
	start := time.Now()
	careful := false
	if !s.can.transactions {
		// Without a transaction nothing can be given up, so what can be known is
		// asked before anything is written, and nobody of this process comes
		// between.
		careful = true
		s.alone.Lock()
		defer s.alone.Unlock()
	}
	var turn turn
	defer turn.end()
	meets := "" // where the last attempt met another write
	lane := held{lanes: &s.lanes, tenant: string(tenant)}
	err := s.transact(ctx, func(ctx context.Context) (bool, error) {
		lane.begin()
		t := &tx{store: s, ctx: ctx, tenant: string(tenant), careful: careful, turn: &turn, lane: &lane}
		if meets != "" {
			if err := t.await(meets); err != nil {
				return false, err
			}
		}
		err := t.run(fn)
		if err != nil && !s.can.transactions {
			lane.drop() // the entries may be there all the same
		}
		if errors.Is(err, errAgain) {
			careful = true
		}
		if meets = ""; hasLabel(err, transientTransaction) {
			t.conflict()
			meets = t.meets
		}
		return t.sent, err
	})
	lane.end(err)
	if err == nil && s.opt.OnCommit != nil {
		s.opt.OnCommit(1, time.Since(start))
	}
	return err
}

// transact runs fn in a transaction and commits it, and does so again as long as
// others are in the way, until ctx ends. fn reports whether it has sent any
// command; an error of its own ends the transaction and comes back as it is.
func (s *Store) transact(ctx context.Context, fn func(context.Context) (sent bool, err error)) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	ctx, cancel := context.WithTimeout(ctx, maxWrite)
	defer cancel()
	again := 0
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, fn)
		if again++; !errors.Is(err, errAgain) {
			again = 0
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errAgain) && attempt == 0:
			continue // nobody was in the way
		case again > faultAfter:
			return fmt.Errorf("what is stored contradicts itself: %v", err) //nolint:errorlint // errAgain is for this file
		case errors.Is(err, errAgain):
		case errors.Is(err, storage.ErrUnavailable) || unreachable(err):
			return explain(err)
		case !hasLabel(err, transientTransaction) && (!s.can.transactions || !disconnected(err)):
			return explain(err)
		}
		// Those who were in each other's way would be again if all waited equally long.
		wait := time.Duration(rand.Int64N(int64(time.Millisecond) << min(attempt, 6)))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if errors.Is(err, errAgain) {
				return fmt.Errorf("%w: what the write found kept changing until the time was over", storage.ErrUnavailable)
			}
			return fmt.Errorf("%w: the time was over: %w", storage.ErrUnavailable, err)
		}
	}
}

func (s *Store) attempt(ctx context.Context, fn func(context.Context) (bool, error)) (err error) {
	if !s.can.transactions {
		sent, err := fn(ctx)
		if err = explain(err); sent && errors.Is(err, storage.ErrUnavailable) {
			// What had been done by then stays done.
			err = fmt.Errorf("%w: %w", storage.ErrOutcomeUnknown, err)
		}
		return err
	}
	session, err := s.client.StartSession()
	if err != nil {
		return err
	}
	// This aborts a transaction that was not committed. The server would do so by
	// itself, but its locks would stay until then, in the way of the next attempt.
	// When there is none, nobody waits for it: a server that says nothing would
	// keep the caller beyond its deadline.
	sent := false
	end := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
		defer cancel()
		if sent && unclear(err) {
			_ = session.AbortTransaction(ctx) // which does not say whether the server was told
			s.abandon(session)
			return
		}
		session.EndSession(ctx)
	}
	defer func() {
		if ctx.Err() == nil {
			end()
		} else {
			s.running.Go(end)
		}
	}()
	if err := session.StartTransaction(options.Transaction().SetReadConcern(readconcern.Snapshot())); err != nil {
		return err
	}
	sent, err = fn(mongo.NewSessionContext(ctx, session))
	if err != nil || !sent {
		return err
	}
	return s.commit(ctx, session)
}

// commit makes a transaction durable. As long as it is not known whether it was
// committed, the same commit is sent again, which does no harm.
func (s *Store) commit(ctx context.Context, session *mongo.Session) error {
	end := time.Now().Add(commitTime)
	if deadline, ok := ctx.Deadline(); ok && deadline.After(end) {
		end = deadline
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancel()
	for {
		err := session.CommitTransaction(ctx)
		if err == nil {
			return nil
		}
		if notCommitted(err) {
			return err
		}
		// Whatever else the answer says, the transaction may have been committed.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", storage.ErrOutcomeUnknown, err)
		}
	}
}

// notCommitted reports whether the server has said that a transaction was not
// committed and never will be. The driver says the same of every command that
// found no connection because the pool was just emptied, and of a commit that is
// sent once more, that is not true.
func notCommitted(err error) bool {
	return hasLabel(err, transientTransaction) && !hasLabel(err, unknownCommit) && !disconnected(err)
}

// call keeps a panic in a write from ending the process.
func call(fn func(storage.Tx) error, t *tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a write: %v\n%s", r, debug.Stack())
		}
	}()
	return fn(t)
}
