package mail

import (
	"context"
	"flag"
	"log/slog"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/sqlite"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is now\n%s\nwant\n%s", name, got, want)
	}
}

// secretLink is what must be found nowhere but in mail.
const secretLink = "https://roster.example.com/invitation#k7Zq9sTLpWc2"

// invitation returns a good message, which a test may change.
func invitation(to string) Message {
	return Message{Kind: Invitation, To: to, Fields: map[string]string{
		"inviter": "Åsa Öberg", "message": "Välkommen ombord!\n\nVi ses på måndag.", "link": secretLink,
		"expires": "2026-12-03T14:30:00Z", "organisation": "Fartyg & Söner AB",
	}}
}

// bench is a queue with what it needs; its clock is the test's.
type bench struct {
	*Queue
	t     *testing.T
	clock *atomic.Int64
	keys  *auth.KeyRing
	logs  *strings.Builder
	reg   *prometheus.Registry
}

var begin = time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)

func newKeys(t *testing.T) *auth.KeyRing {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roster.keys")
	if err := auth.CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.LoadKeyRing(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newBench(t *testing.T, store storage.Store, sender Sender) *bench {
	t.Helper()
	b := &bench{t: t, clock: new(atomic.Int64), keys: newKeys(t), logs: &strings.Builder{}}
	b.clock.Store(begin.UnixMilli())
	b.Queue = b.another(store, sender)
	return b
}

// another is a queue of another process.
func (b *bench) another(store storage.Store, sender Sender) *Queue {
	b.reg = prometheus.NewRegistry()
	return New(Options{Store: store, Keys: b.keys, Sender: sender, Now: b.time, Registry: b.reg,
		Log: slog.New(slog.NewTextHandler(b.logs, nil))})
}

func (b *bench) time() time.Time         { return time.UnixMilli(b.clock.Load()).UTC() }
func (b *bench) advance(d time.Duration) { b.clock.Add(d.Milliseconds()) }

// put queues a message in a write of its own.
func (b *bench) put(m Message) {
	b.t.Helper()
	if err := b.tryPut(m); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) tryPut(m Message) error {
	return b.store.Write(b.t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		if err := b.Put(tx, storage.DefaultTenant, m, b.time()); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: b.time(), Actor: "operator", Action: "cause", Type: "Test"})
	})
}

// list returns all that has not been sent.
func (b *bench) list() []Entry {
	b.t.Helper()
	list, n, err := b.List(b.t.Context(), storage.DefaultTenant)
	if err != nil || n != len(list) {
		b.t.Fatal(n, err)
	}
	return list
}

// onStores runs a test on each kind of store.
func onStores(t *testing.T, fn func(*testing.T, storage.Store)) {
	t.Helper()
	database := mongotest.Start(t)
	for name, open := range map[string]func(context.Context, *testing.T) (storage.Store, error){
		"sqlite": func(ctx context.Context, t *testing.T) (storage.Store, error) {
			return sqlite.Open(ctx, t.TempDir(), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
		},
		"mongo": func(ctx context.Context, t *testing.T) (storage.Store, error) {
			return mongo.Open(ctx, database.URI(database.NewDatabase(t)), mongo.Options{Log: slog.New(slog.DiscardHandler)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := open(t.Context(), t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			fn(t, store)
		})
	}
}

var sender = &mail.Address{Name: "Roster", Address: "roster@example.com"}
