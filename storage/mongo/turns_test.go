package mongo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestTurns: writes that all change one document of the tenant take turns, wherever
// in the write they come to it. Without that most of what they do is for nothing, and
// who is unlucky begins again until the time is over.
func TestTurns(t *testing.T) {
	const writers, each = 32, 4
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		do   func(tx storage.Tx, id string) error
	}{
		{"a guard", func(tx storage.Tx, _ string) error { return tx.Guard("last") }},
		{"an epoch, after a read", func(tx storage.Tx, _ string) error {
			_, err := tx.Items("note", "")
			return errors.Join(err, tx.Advance())
		}},
		{"a client", func(tx storage.Tx, id string) error {
			return tx.CreateClient(&storage.Client{ID: id, Name: id, Created: at})
		}},
		{"a token", func(tx storage.Tx, id string) error {
			_, err := tx.Tokens("all")
			return errors.Join(err, tx.CreateToken(&storage.Token{ID: id, Client: "all", Hash: []byte(id), Created: at, Expires: at}))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := mongotest.Start(t)
			slow := &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
				if e.CommandName == "commitTransaction" {
					time.Sleep(5 * time.Millisecond) // as a majority takes
				}
			}}
			s := open(t, server.URI(server.NewDatabase(t)), Options{Monitor: slow})
			write := func(fn func(storage.Tx) error) error {
				return s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					return errors.Join(fn(tx), tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "test"}))
				})
			}
			if err := write(func(tx storage.Tx) error {
				return tx.CreateClient(&storage.Client{ID: "all", Name: "all", Created: at})
			}); err != nil {
				t.Fatal(err)
			}
			var attempts atomic.Int64
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						err := write(func(tx storage.Tx) error {
							attempts.Add(1)
							return c.do(tx, fmt.Sprint(w, "-", i))
						})
						if err != nil {
							t.Errorf("writer %d: %v", w, err)
						}
					}
				})
			}
			wg.Wait()
			// One that has read something before cannot wait any more, and learns of the
			// others by being refused.
			if got := attempts.Load(); got > 3*writers*each {
				t.Errorf("%d attempts at %d writes", got, writers*each)
			}
		})
	}
}
