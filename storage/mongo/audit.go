package mongo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage"
)

// Entries of the audit trail get their numbers when somebody reads them, not
// when they are written. A number given by a writer would have to come from a
// counter on which all writers of a tenant wait for each other, or else appear
// out of order, when the writer with the lower one commits last. Entries that
// are there when a reader comes are numbered in one transaction, above all that
// were numbered before, so that no reader ever misses one.
//
// What puts them in order is a stamp. That of a write is above those of the
// resources that it changes, and stays with them; so the changes of one resource
// are in the order of its versions, whatever the clocks of processes say.

// stamps order the entries that wait for a number: a clock that never goes back,
// never says the same twice, and is never behind what it was shown of the clocks
// of other processes.
type stamps struct {
	mu      sync.Mutex
	last    int64
	process string
}

type stamp struct {
	n       int64 // milliseconds since 1970, and in the last 20 bits a count
	process string
}

// text is a stamp as part of an _id: no two processes make the same.
func (s stamp) text() string { return fmt.Sprintf("%016x/%s", s.n, s.process) }

// above returns a stamp that is greater than one seen elsewhere and all before.
func (s *stamps) above(seen int64) stamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == "" {
		s.process = strings.ToLower(rand.Text()[:12])
	}
	s.last = max(s.last+1, seen+1, time.Now().UnixMilli()<<20)
	return stamp{s.last, s.process}
}

// AuditEntries implements storage.Audit.
func (s *Store) AuditEntries(ctx context.Context, tenant storage.TenantID, after int64, limit int) ([]storage.AuditEntry, error) {
	return s.auditTrail(ctx, string(tenant), after, limit, nil)
}

// Events implements storage.Outbox.
func (s *Store) Events(ctx context.Context, tenant storage.TenantID, after int64, limit int) ([]storage.AuditEntry, error) {
	return s.auditTrail(ctx, string(tenant), after, limit, d(fVersion, d("$gt", int64(0))))
}

// auditTrail reads what has a number, and gives numbers to more while that is
// not enough. It ends with a read after the last numbers were given, even if not
// by this call: another reader may have been giving them.
func (s *Store) auditTrail(ctx context.Context, tenant string, after int64, limit int, which bson.D) (list []storage.AuditEntry, err error) {
	for settled := false; limit > len(list); {
		filter := append(d(fTenant, tenant, fKind, numbered, fNumber, d("$gt", after)), which...)
		// In a snapshot, or what was numbered on two shards at once might be seen
		// on one of them only.
		have := len(list)
		err := s.snapshot(ctx, func(ctx context.Context) error {
			list = list[:have]
			return s.each(ctx, rows, filter, func(raw bson.Raw) error {
				list = append(list, entryFrom(raw))
				return nil
			}, look().sort(d(fNumber, 1)).limit(int64(limit-have)))
		})
		if err != nil {
			return nil, explain(err)
		}
		if len(list) > 0 {
			after = list[len(list)-1].Seq
		}
		if settled || len(list) >= limit {
			break
		}
		n, err := s.number(ctx, tenant)
		if err != nil {
			return nil, err
		}
		settled = n < numberedAtOnce
	}
	return list, nil
}

func entryFrom(raw bson.Raw) storage.AuditEntry {
	e := storage.AuditEntry{
		Seq: number(raw, fNumber), At: moment(raw, fAt), RequestID: text(raw, fRequest), Actor: text(raw, fActor), Action: text(raw, fAction),
		Type: text(raw, fType), ID: text(raw, fResource), Version: number(raw, fVersion), Attributes: texts(raw, fAttributes),
		From: text(raw, fFrom), Level: text(raw, fLevel), Chain: text(raw, fChain), N: number(raw, fLink), Hash: data(raw, fSum),
	}
	if v := raw.Lookup(fChanges); !v.IsZero() {
		e.Changes = storage.ParseChanges(data(raw, fChanges))
	}
	return e
}

// numberedAtOnce is how many entries one transaction numbers.
const numberedAtOnce = 1000

// number gives the oldest waiting entries their numbers and returns how many
// those were.
func (s *Store) number(ctx context.Context, tenant string) (n int, err error) {
	list := s.db.Collection(rows)
	waits := d(fTenant, tenant, fKind, waiting)
	if err := list.FindOne(ctx, waits, options.FindOne().SetProjection(only(fID))).Err(); err != nil {
		if errors.Is(err, mongo.ErrNoDocuments) {
			return 0, nil
		}
		return 0, explain(err)
	}
	if !s.can.transactions {
		s.alone.Lock()
		defer s.alone.Unlock()
	}
	err = s.transact(ctx, func(ctx context.Context) (bool, error) {
		var entries []string
		err := s.each(ctx, rows, waits, func(raw bson.Raw) error {
			entries = append(entries, text(raw, fID))
			return nil
		}, look().sort(d(fNumber, 1, fID, 1)).limit(numberedAtOnce).fields(only(fID)))
		n = len(entries)
		if err != nil || n == 0 {
			return true, err
		}
		last, err := s.advance(ctx, tenant, int64(n))
		if err != nil {
			return true, err
		}
		models := make([]mongo.WriteModel, n)
		for i, id := range entries {
			models[i] = mongo.NewUpdateOneModel().SetFilter(append(byID(tenant, id), bson.E{Key: fKind, Value: waiting})).
				SetUpdate(d("$set", d(fKind, numbered, fNumber, last+int64(i)+1)))
		}
		r, err := list.BulkWrite(ctx, models)
		if err == nil && r.MatchedCount != int64(n) {
			err = errAgain
		}
		return true, err
	})
	return n, err
}

// advance moves a tenant's counter and returns what it was. Of two who do so at
// once one begins again.
func (s *Store) advance(ctx context.Context, tenant string, by int64) (last int64, err error) {
	c := s.db.Collection(counters)
	raw, err := c.FindOne(ctx, d(fID, tenant)).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		_, err := c.InsertOne(ctx, d(fID, tenant, fLast, by))
		return 0, taken(err)
	}
	if err != nil {
		return 0, err
	}
	last = number(raw, fLast)
	r, err := c.UpdateOne(ctx, d(fID, tenant, fLast, last), d("$set", d(fLast, last+by)))
	if err == nil && r.MatchedCount == 0 {
		err = errAgain
	}
	return last, err
}
