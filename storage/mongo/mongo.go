package mongo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Options are how a Store is opened. The zero value is what a server wants.
type Options struct {
	// AllowStandalone accepts a server that belongs to no replica set. It has no
	// transactions, so a write that fails half-way leaves its first half, and
	// nothing survives the loss of its disk: it is for trying things out.
	AllowStandalone bool
	// AllowLookalike accepts a server that is not MongoDB but speaks its
	// protocol. It is for tests.
	AllowLookalike bool
	// AsIs refuses a database that holds no store (storage.ErrNoStore) or one that is not
	// of this version (storage.ErrOtherVersion), in the place of making one or bringing it
	// up to date. It is for those who only read.
	AsIs bool
	// OnCommit is told of every commit: how many writes it held, which is one,
	// and how long it took. It must be fast.
	OnCommit func(writes int, took time.Duration)
	// QueryTimeout bounds one query with a filter or a sort; 2 s if zero.
	QueryTimeout time.Duration
	// Types are those of the resources in the store, which are needed when an older
	// program has written it; those of schemas.Load if nil.
	Types *schemas.Set
	// Indexed are the attributes to index beyond those that are anyway; see
	// storage.ChooseIndexed. Other such indexes are dropped. If nil, whatever
	// indexes there are stay.
	Indexed []*schemas.Attribute
	// Monitor sees every command; nil for none.
	Monitor *event.CommandMonitor
	// Log gets what callers cannot see; slog.Default() if nil.
	Log *slog.Logger
}

// Store is a storage.Store in a MongoDB database.
type Store struct {
	opt    Options
	client *mongo.Client
	db     *mongo.Database
	can    abilities
	stamps stamps
	turns  *turns
	lanes  lanes

	closing context.Context // ends when Close begins
	close   context.CancelFunc
	orphans orphans

	// alone keeps writes apart on a server without transactions.
	alone sync.Mutex

	mu      sync.Mutex // over the two below
	closed  bool
	running sync.WaitGroup // writes under way
}

// closeTime is how long Close waits for connections that are in use.
const closeTime = 5 * time.Second

// Close waits for writes under way and ends all connections.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.close()
	s.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := s.client.Disconnect(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // a reader is stuck in a call; its connection is closed all the same
	}
	return err
}

// begin notes that a write begins, unless the store is closed.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%w: closed", storage.ErrUnavailable)
	}
	s.running.Add(1)
	return nil
}

// Ping reports whether a majority of the members acknowledges a write before ctx
// ends.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.db.Collection(meta).UpdateOne(ctx, d(fID, "ping"), d("$inc", d(fLast, int64(1))), options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) { // another process was first to make it
		return nil
	}
	return explain(err)
}

// snapshot runs fn for what takes several reads that must see one state. fn may
// run more than once. Where the server has no snapshots each read sees the
// newest state.
func (s *Store) snapshot(ctx context.Context, fn func(context.Context) error) error {
	for again := 0; ; again++ {
		err := s.inSnapshot(ctx, fn)
		// The state asked for is gone, or not there yet, or nothing kept it together;
		// a newer one will do.
		if again == snapshots || !hasCode(err, codeSnapshotTooOld, codeSnapshotUnavailable) && !errors.Is(err, errGone) {
			return err
		}
	}
}

// snapshots is how often a read that found no whole state is tried again.
const snapshots = 10

func (s *Store) inSnapshot(ctx context.Context, fn func(context.Context) error) error {
	if !s.can.transactions {
		return fn(ctx)
	}
	session, err := s.client.StartSession(options.Session().SetSnapshot(true))
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	return fn(mongo.NewSessionContext(ctx, session))
}

// looking is how each looks for documents.
type looking struct{ command bson.D }

func look() *looking { return &looking{} }

func (l *looking) set(name string, value any) *looking {
	l.command = append(l.command, bson.E{Key: name, Value: value})
	return l
}

func (l *looking) sort(by bson.D) *looking     { return l.set("sort", by) }
func (l *looking) fields(keep bson.D) *looking { return l.set("projection", keep) }
func (l *looking) skip(n int64) *looking       { return l.set("skip", n) }
func (l *looking) limit(n int64) *looking      { return l.set("limit", n) }
func (l *looking) batch(n int32) *looking      { return l.set("batchSize", n) }

// cursorTime is how long a server may take to end a cursor that was not read to its
// end, when the time of who read it is over already. One that says nothing ends it by
// itself later.
const cursorTime = 200 * time.Millisecond

// each runs fn on every document that a query finds. The document is valid until
// fn returns.
func (s *Store) each(ctx context.Context, collection string, filter bson.D, fn func(bson.Raw) error, how *looking) error {
	cursor, err := s.find(ctx, collection, filter, how)
	if err != nil {
		return err
	}
	defer func() { // what was read has been read
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cursorTime)
		defer cancel()
		_ = cursor.Close(ctx)
	}()
	if heard, ok := ctx.Value(heardKey{}).(*bool); ok {
		*heard = true
	}
	for cursor.Next(ctx) {
		if err := fn(cursor.Current); err != nil {
			return err
		}
	}
	return cursor.Err()
}

// find runs the command of this name. The driver's own Find leaves maxTimeMS out,
// and a server that is never told when a request is over goes on scanning for
// nobody. Like Find, it tries a second time when the first met a server that was
// going.
func (s *Store) find(ctx context.Context, collection string, filter bson.D, how *looking) (*mongo.Cursor, error) {
	command := append(d("find", collection, "filter", filter), how.command...)
	session := mongo.SessionFromContext(ctx)
	if session == nil { // transactions and snapshots have a read concern already
		command = append(command, bson.E{Key: "readConcern", Value: d("level", "majority")})
	}
	cursor, err := s.db.RunCommandCursor(ctx, command)
	if inTransaction := session != nil && session.TransactionRunning(); err != nil && !inTransaction && ctx.Err() == nil && going(err) {
		cursor, err = s.db.RunCommandCursor(ctx, command)
	}
	if err != nil {
		return nil, err
	}
	for _, e := range how.command {
		if n, ok := e.Value.(int32); ok && e.Key == "batchSize" {
			cursor.SetBatchSize(n)
		}
	}
	return cursor, nil
}

// only is a projection to some fields.
func only(names ...string) bson.D {
	p := make(bson.D, 0, len(names)+1)
	for _, n := range names {
		p = append(p, bson.E{Key: n, Value: 1})
	}
	return p
}

// text, number and truth read a field, which may be absent.

func text(raw bson.Raw, name string) string {
	s, _ := raw.Lookup(name).StringValueOK()
	return s
}

func number(raw bson.Raw, name string) int64 {
	n, _ := raw.Lookup(name).AsInt64OK()
	return n
}

func truth(raw bson.Raw, name string) bool {
	b, _ := raw.Lookup(name).BooleanOK()
	return b
}

func texts(raw bson.Raw, name string) []string {
	list, _ := raw.Lookup(name).ArrayOK()
	values, _ := list.Values()
	out := make([]string, 0, len(values))
	for _, v := range values {
		if s, ok := v.StringValueOK(); ok {
			out = append(out, s)
		}
	}
	return out
}

func data(raw bson.Raw, name string) []byte {
	_, b, _ := raw.Lookup(name).BinaryOK()
	return slices.Clone(b)
}

// millis is a time as it is stored.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// moment reads a time that may be unset.
func moment(raw bson.Raw, name string) time.Time {
	n := number(raw, name)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
