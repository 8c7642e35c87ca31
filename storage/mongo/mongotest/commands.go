package mongotest

import (
	"context"
	"runtime/debug"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// command is one entry of the table below.
type command struct {
	run func(*request) (bson.D, error)
	// open commands need no authentication.
	open bool
	// transactional commands may run inside a transaction.
	transactional bool
	// write commands take a write concern and, with a transaction number of
	// their own, are executed once however often they are sent.
	write bool
	// sessionless commands look after sessions themselves.
	sessionless bool
}

// commands is all a double understands.
var commands map[string]command

func init() { // explain refers to it
	commands = map[string]command{
		"hello":               {run: hello, open: true},
		"isMaster":            {run: hello, open: true},
		"ismaster":            {run: hello, open: true},
		"ping":                {run: ping, open: true},
		"buildInfo":           {run: buildInfo, open: true},
		"buildinfo":           {run: buildInfo, open: true},
		"saslStart":           {run: saslStart, open: true},
		"saslContinue":        {run: saslContinue, open: true},
		"getDefaultRWConcern": {run: getDefaultRWConcern},
		"replSetInitiate":     {run: replSetInitiate},

		"create":          {run: createCollection, write: true, transactional: true},
		"drop":            {run: dropCollection, write: true},
		"dropDatabase":    {run: dropDatabase, write: true},
		"listCollections": {run: listCollections},
		"listDatabases":   {run: listDatabases},
		"createIndexes":   {run: createIndexes, write: true},
		"listIndexes":     {run: listIndexes},
		"dropIndexes":     {run: dropIndexes, write: true},

		"insert":        {run: insert, write: true, transactional: true},
		"update":        {run: updateDocuments, write: true, transactional: true},
		"delete":        {run: deleteDocuments, write: true, transactional: true},
		"findAndModify": {run: findAndModify, write: true, transactional: true},
		"findandmodify": {run: findAndModify, write: true, transactional: true},

		"find":        {run: find, transactional: true},
		"aggregate":   {run: aggregate, transactional: true},
		"count":       {run: count},
		"getMore":     {run: getMore, transactional: true},
		"killCursors": {run: killCursors, transactional: true},
		"explain":     {run: explain},

		"commitTransaction": {run: commitTransaction, write: true, transactional: true},
		"abortTransaction":  {run: abortTransaction, write: true, transactional: true},
		"endSessions":       {run: endSessions, sessionless: true},
		"killSessions":      {run: killSessions, sessionless: true},
	}
}

// request is a command on its way through the server.
type request struct {
	*arguments
	command command
	name    string
	db      string
	target  bson.RawValue // the value of the command's first field
	ctx     context.Context

	double *Double
	engine *engine
	conn   *connection

	session       *session // nil without one
	txn           *txn     // the transaction in progress, or nil
	inTransaction bool
	retryable     bool // a write with a transaction number of its own
	readConcern   bool
	snapshot      *bson.Timestamp // the time its read concern asks for; see snapshotConcern
	past          state           // what it reads instead of the present, or nil
	writeConcern  *writeConcern   // nil when none was given
}

// answer runs a command and returns its reply, which may be an error, or nil
// when the connection is to end instead.
func (c *connection) answer(body bson.Raw, sequences map[string][]bson.Raw) bson.D {
	r, err := c.request(body, sequences)
	if err != nil {
		return asCommandError(err).reply()
	}
	collection, _ := r.target.StringValueOK()
	failure := c.double.failure(r.name, collection)
	var reply bson.D
	if failure == nil || failure.After {
		reply, err = r.perform()
	}
	switch {
	case failure != nil && failure.Code == 0:
		return nil
	case failure != nil:
		e := errorf(failure.Code, "failure arranged by the test")
		e.labels = failure.Labels
		return e.reply()
	case err != nil:
		return asCommandError(err).reply()
	}
	if e := r.concernError(); e != nil {
		reply = append(reply, bson.E{Key: "writeConcernError", Value: e})
	}
	return append(reply, bson.E{Key: "ok", Value: 1.0})
}

func (c *connection) request(body bson.Raw, sequences map[string][]bson.Raw) (*request, error) {
	elements, err := body.Elements()
	if err != nil || len(elements) == 0 {
		return nil, errorf(failedToParse, "not a command")
	}
	if len(body) > maxCommandSize {
		return nil, errorf(bsonObjectTooLarge, "BSONObj size: %d is invalid. Size must be between 0 and %d", len(body), maxCommandSize)
	}
	r := &request{name: elements[0].Key(), target: elements[0].Value(), double: c.double, engine: c.double.engine, conn: c}
	var known bool
	if r.command, known = commands[r.name]; !known {
		return nil, errorf(commandNotFound, "no such command: '%s'", r.name)
	}
	if r.arguments, err = parseArguments(r.name, body); err != nil {
		return nil, err
	}
	r.sequences = sequences
	if r.name != "endSessions" && r.name != "killSessions" {
		r.ignore(r.name)
	}
	r.db = r.text("$db")
	if !r.command.open && !c.authenticated() {
		return nil, errorf(unauthorized, "Command %s requires authentication", r.name)
	}
	return r, nil
}

// perform takes what all commands have in common from the arguments and runs
// the command, in its session if it has one.
func (r *request) perform() (reply bson.D, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errorf(internalError, "%v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := r.deadline()
	defer cancel()
	r.ctx = ctx
	if err := r.concerns(); err != nil {
		return nil, err
	}
	r.ignore("$readPreference", "$clusterTime", "comment")
	if v := r.text("apiVersion"); v != "" && v != "1" {
		r.fail(errorf(badValue, "API version must be \"1\""))
	}
	r.refuse("apiStrict", "apiDeprecationErrors")

	lsid := r.raw("lsid")
	r.ignore("lsid")
	hasNumber := r.has("txnNumber")
	number := r.integer("txnNumber")
	start := r.flag("startTransaction")
	r.inTransaction = r.has("autocommit")
	if autocommit := r.flag("autocommit"); r.inTransaction && autocommit {
		return nil, errorf(invalidOptions, "'autocommit: true' is not supported")
	}
	if r.err != nil {
		return nil, r.err
	}
	if hasNumber && r.double.config.Standalone {
		return nil, errorf(illegalOperation, "Transaction numbers are only allowed on a replica set member or mongos")
	}
	if (hasNumber && lsid == nil) || (r.inTransaction && !hasNumber) || (start && !r.inTransaction) {
		return nil, errorf(invalidOptions, "a transaction needs lsid, txnNumber and autocommit")
	}
	if lsid != nil && !r.command.sessionless {
		r.session = r.double.sessions.get(string(lsid.Lookup("id").Value))
		r.session.mu.Lock()
		defer r.session.mu.Unlock()
	}
	switch {
	case r.inTransaction:
		if err := r.transaction(number, start); err != nil {
			return nil, err
		}
		reply, err = r.command.run(r)
		return reply, r.settle(reply, err)
	case hasNumber:
		if !r.command.write {
			return nil, errorf(invalidOptions, "txnNumber may only be provided for multi-document transactions and retryable write commands. autocommit:false was not provided, and %s is not a retryable write command.", r.name)
		}
		s := r.session
		if err := s.checkNumber(number); err != nil {
			return nil, err
		}
		if number == s.number && s.state != noTransaction {
			return nil, errorf(conflictingOperation, "Cannot run a retryable write with the number of transaction %d", number)
		}
		s.advance(r.engine, number)
		if s.statements == nil {
			s.statements = map[int32]outcome{}
		}
		r.retryable = true
	}
	if r.snapshot != nil {
		return r.inSnapshot()
	}
	return r.command.run(r)
}

// settle ends the transaction when a command in it failed, in whole or in part.
func (r *request) settle(reply bson.D, err error) error {
	r.session.idle = 0
	if err == nil {
		if _, failed := lookup(reply, "writeErrors"); failed && r.txn != nil {
			r.session.abort(r.engine)
		}
		return nil
	}
	if r.txn == nil || r.session.state != inProgress {
		return err
	}
	r.session.abort(r.engine)
	e := asCommandError(err)
	if e.code == writeConflict {
		return e.labelled(transient)
	}
	return e
}

// deadline is the context that maxTimeMS sets.
func (r *request) deadline() (context.Context, context.CancelFunc) {
	if r.name == "getMore" || !r.has("maxTimeMS") {
		// On a getMore it is about waiting for data, which only tailable
		// cursors do.
		r.ignore("maxTimeMS")
		return r.conn.ctx, func() {}
	}
	ms := r.count("maxTimeMS")
	if ms == 0 {
		return r.conn.ctx, func() {}
	}
	return context.WithTimeoutCause(r.conn.ctx, time.Duration(ms)*time.Millisecond,
		errorf(maxTimeMSExpired, "operation exceeded time limit"))
}

// namespace is the collection that the command names first.
func (r *request) namespace() (namespace, error) {
	name, ok := r.target.StringValueOK()
	if !ok || name == "" || r.db == "" {
		return namespace{}, errorf(invalidNamespace, "Invalid namespace specified '%s.%s'", r.db, name)
	}
	return namespace{r.db, name}, nil
}

func (n namespace) is(m namespace) bool { return n == m }

// collection is a namespace as the command has to see it, or nil.
func (r *request) collection(ns namespace) *collection {
	if r.txn != nil {
		return r.txn.collection(ns)
	}
	if r.past != nil {
		return r.past[ns]
	}
	return r.engine.current()[ns]
}

func ping(r *request) (bson.D, error) { return bson.D{}, r.done() }
