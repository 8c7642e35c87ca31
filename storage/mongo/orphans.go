package mongo

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/roster-id/roster/storage"
)

// orphans are sessions that may have a transaction open at the server which
// nobody will end: its connection was lost, and so was the driver's attempt to
// abort it. All who write to the same documents would be refused until the server
// gives it up by itself, which MongoDB does after a minute.
type orphans struct {
	mu   sync.Mutex
	list []orphan // not empty as long as somebody is at work on them
}

type orphan struct {
	session *mongo.Session
	until   time.Time
}

const (
	orphanTime = time.Minute            // then MongoDB has ended the transaction
	killTime   = 2 * time.Second        // for one attempt
	killAgain  = 200 * time.Millisecond // between two
)

// abandon takes a session over, and tells the server to end what it has open until
// an answer comes. It ends with the store.
func (s *Store) abandon(session *mongo.Session) {
	s.orphans.mu.Lock()
	defer s.orphans.mu.Unlock()
	s.orphans.list = append(s.orphans.list, orphan{session, time.Now().Add(orphanTime)})
	if len(s.orphans.list) == 1 {
		s.running.Go(s.killOrphans)
	}
}

func (s *Store) killOrphans() {
	for {
		s.orphans.mu.Lock()
		list := slices.Clone(s.orphans.list)
		s.orphans.mu.Unlock()
		ids := make(bson.A, len(list))
		for i, o := range list {
			ids[i] = o.session.ID()
		}
		ctx, cancel := context.WithTimeout(s.closing, killTime)
		err := s.client.Database("admin").RunCommand(ctx, d("killSessions", ids)).Err()
		cancel()
		closed := s.closing.Err() != nil
		answered := err == nil || !unclear(err) // an error of another kind would come again
		now := time.Now()
		s.orphans.mu.Lock()
		s.orphans.list = slices.DeleteFunc(s.orphans.list, func(o orphan) bool {
			known := slices.ContainsFunc(list, func(k orphan) bool { return k.session == o.session })
			over := closed || known && answered || now.After(o.until)
			if over {
				o.session.EndSession(context.Background()) // sends nothing: the transaction has ended for the driver
			}
			return over
		})
		left := len(s.orphans.list)
		s.orphans.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-time.After(killAgain):
		case <-s.closing.Done():
		}
	}
}

// unclear reports whether an error leaves open what the server has done, or will.
func unclear(err error) bool {
	return disconnected(err) || unreachable(err) || mongo.IsTimeout(err) || errors.Is(err, context.Canceled) ||
		errors.Is(err, storage.ErrOutcomeUnknown)
}
