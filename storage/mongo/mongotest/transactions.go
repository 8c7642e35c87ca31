package mongotest

import (
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// session is a client's logical session. It outlives connections; its commands
// run one at a time, so a repeated write waits for the first.
type session struct {
	mu sync.Mutex
	// number is the newest transaction number seen; retryable writes and
	// transactions draw from one series.
	number int64
	// statements are the outcomes of the retryable write of that number.
	statements map[int32]outcome
	// txn is the transaction of that number while it is open.
	txn   *txn
	state txnState
	// past is the state that its newest snapshot shows.
	past *version
	idle int         // how many ticks it has waited for its next command
	tick *time.Timer // the next tick
}

// ticks are what a time to wait is cut into. Time is counted in ticks so that a
// machine that stood still for a while does not end what nobody abandoned.
const ticks = 8

func tick(wait time.Duration) time.Duration { return max(wait/ticks, time.Millisecond) }

type txnState int

const (
	noTransaction txnState = iota
	inProgress
	committed
	aborted
)

// outcome is what a write statement came to.
type outcome struct {
	matched, modified int
	upserted          any // the new document's _id
	inserted          bool
	reply             bson.D // findAndModify's
}

// sessions are the sessions of a server by their ids.
type sessions struct {
	mu   sync.Mutex
	byID map[string]*session
}

func (s *sessions) get(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]*session{}
	}
	if s.byID[id] == nil {
		s.byID[id] = &session{number: -1}
	}
	return s.byID[id]
}

func (s *sessions) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*session
	for _, x := range s.byID {
		all = append(all, x)
	}
	return all
}

func (s *sessions) forget(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.byID[id]
	delete(s.byID, id)
	return x
}

// abort ends the open transaction, if there is one. The lock is held.
func (s *session) abort(e *engine) {
	if s.state != inProgress {
		return
	}
	s.tick.Stop()
	e.abort(s.txn)
	s.txn, s.state = nil, aborted
}

// end aborts what a session has open because the session or the server ends.
func (s *session) end(e *engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abort(e)
}

// advance moves the session on to a newer transaction number, which ends what
// an older one left open.
func (s *session) advance(e *engine, number int64) {
	if number == s.number {
		return
	}
	s.abort(e)
	s.number, s.statements, s.txn, s.state = number, nil, nil, noTransaction
}

func (s *session) checkNumber(number int64) error {
	if number < s.number {
		return errorf(transactionTooOld, "Cannot start transaction %d on session because a newer transaction %d has already started.", number, s.number)
	}
	return nil
}

// begin starts the transaction of a number, whose first command this is.
func (s *session) begin(d *Double, number int64) error {
	if number == s.number && (s.state != noTransaction || s.statements != nil) {
		if s.state == inProgress {
			s.abort(d.engine)
		}
		return errorf(conflictingOperation, "Cannot start transaction %d on session because it has already started.", number)
	}
	s.advance(d.engine, number)
	t := d.engine.begin()
	s.txn, s.state = t, inProgress
	s.idle = 0
	every := tick(d.config.TransactionIdle)
	s.tick = time.AfterFunc(every, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.txn != t {
			return
		}
		if s.idle++; s.idle < ticks {
			s.tick.Reset(every)
		} else {
			s.abort(d.engine)
		}
	})
	return nil
}

// resume finds the transaction a further command belongs to.
func (s *session) resume(number int64) error {
	if number == s.number {
		switch s.state {
		case inProgress:
			return nil
		case committed:
			return errorf(transactionCommitted, "Transaction %d has been committed.", number)
		case aborted:
			return errorf(noSuchTransaction, "Transaction %d has been aborted.", number).labelled(transient)
		}
	}
	return errorf(noSuchTransaction, "Given transaction number %d does not match any in-progress transactions.", number).labelled(transient)
}

// transaction attaches the request to its session's transaction, which begins
// with the first command.
func (r *request) transaction(number int64, start bool) error {
	if !r.command.transactional {
		return errorf(notSupportedInTransaction, "Cannot run '%s' in a multi-document transaction.", r.name)
	}
	s := r.session
	if err := s.checkNumber(number); err != nil {
		return err
	}
	ends := r.name == "commitTransaction" || r.name == "abortTransaction"
	if r.readConcern && !start {
		return errorf(invalidOptions, "Only the first command in a transaction may specify a readConcern")
	}
	if r.writeConcern != nil && !ends {
		return errorf(invalidOptions, "writeConcern is not allowed within a multi-statement transaction")
	}
	if start {
		if err := s.begin(r.double, number); err != nil {
			return err
		}
	} else if err := s.resume(number); err != nil {
		// A commit whose answer was lost is sent again.
		if !ends || s.state != committed || number != s.number {
			return err
		}
		return nil
	}
	r.txn = s.txn
	return nil
}

func commitTransaction(r *request) (bson.D, error) {
	r.ignore("recoveryToken")
	if err := r.done(); err != nil {
		return nil, err
	}
	if r.session == nil || !r.inTransaction {
		return nil, errorf(noSuchTransaction, "Transaction isn't in progress")
	}
	if r.txn == nil { // committed before
		return bson.D{}, nil
	}
	s := r.session
	s.tick.Stop()
	s.txn = nil
	if err := r.engine.commit(r.txn); err != nil {
		s.state = aborted
		return nil, err
	}
	s.state = committed
	return bson.D{}, nil
}

func abortTransaction(r *request) (bson.D, error) {
	r.ignore("recoveryToken")
	if err := r.done(); err != nil {
		return nil, err
	}
	if r.session == nil || !r.inTransaction {
		return nil, errorf(noSuchTransaction, "Transaction isn't in progress")
	}
	if r.txn == nil {
		return nil, errorf(transactionCommitted, "Transaction %d has been committed.", r.session.number)
	}
	r.session.abort(r.engine)
	return bson.D{}, nil
}

func endSessions(r *request) (bson.D, error) {
	for _, raw := range r.documents("endSessions") {
		if s := r.double.sessions.forget(string(raw.Lookup("id").Value)); s != nil && s != r.session {
			s.end(r.engine)
		}
	}
	return bson.D{}, r.done()
}

// killSessions aborts what sessions have open; they themselves go on.
func killSessions(r *request) (bson.D, error) {
	for _, raw := range r.documents("killSessions") {
		r.double.sessions.get(string(raw.Lookup("id").Value)).end(r.engine)
	}
	return bson.D{}, r.done()
}
