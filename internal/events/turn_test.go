package events

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

type coreTypes struct{ set *schemas.Set }

func (c coreTypes) Types(context.Context, storage.TenantID) (*schemas.Set, error) { return c.set, nil }

func (coreTypes) Represent(context.Context, storage.TenantID, string, *schemas.ResourceType, string) (jsontext.Value, string, int64, error) {
	return nil, "", 0, storage.ErrNotFound
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// ringOf makes a key file.
func ringOf(t *testing.T, file string) *auth.KeyRing {
	t.Helper()
	if err := auth.CreateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.LoadKeyRing(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// open returns the feeds of a new store.
func open(t *testing.T, keys *auth.KeyRing, path string) *Feeds {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(Options{Store: store, Keys: keys, Directory: coreTypes{set}, Issuer: func() string { return "https://roster.example.com" }, Now: time.Now,
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
}

// begin stores a feed of users at the beginning of the trail.
func (s *Feeds) begin(tx storage.Tx, f *Feed) error {
	f.Name, f.Audience, f.Types, f.Events, f.Enabled, f.KeepHours, f.RetryHours = f.ID, f.ID, []string{"User"}, defaultURIs(), true, DefaultKeepHours, DefaultRetryHours
	st, err := (&state{}).item(f.ID)
	return errors.Join(err, s.put(tx, storage.DefaultTenant, nil, f), tx.PutItem(nil, st),
		tx.Audit(auth.System(storage.DefaultTenant).Entry(context.Background(), s.now(), "feed.create", "Feed", f.ID)))
}

// TestTurns: feeds whose slow receivers always have something to get do not keep the
// others waiting, as many as a process sends at a time.
func TestTurns(t *testing.T) {
	keys, path := ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, keys, path)
		var quick, slow atomic.Int64
		s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Host, "slow") {
				time.Sleep(3 * time.Second)
				slow.Add(1)
			} else {
				quick.Add(1)
			}
			return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: r}, nil
		})}
		err := s.store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			for i := range feedsAtOnce + 1 {
				name := fmt.Sprintf("slow%02d", i)
				if i == feedsAtOnce {
					name = "unhurried"
				}
				if err := s.begin(tx, &Feed{ID: name, Delivery: Push, URL: "https://" + name + ".example.com/"}); err != nil {
					return err
				}
			}
			for i := range 400 {
				if err := tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "user.create", Type: "User", ID: fmt.Sprint(i), Version: 1}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if quick.Load() == 0 || slow.Load() == 0 || slow.Load() == 400*feedsAtOnce {
			t.Errorf("after a minute the quick receiver has %d events, the slow ones %d", quick.Load(), slow.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// tell stores a feed that is pushed, and a change behind it.
func (s *Feeds) tell(t *testing.T, p place) {
	t.Helper()
	if err := s.store.Write(t.Context(), p.tenant, func(tx storage.Tx) error {
		if err := s.begin(tx, &Feed{ID: p.id, Delivery: Push, URL: "https://sp.example.com/"}); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "user.create", Type: "User", ID: "ana", Version: 1})
	}); err != nil {
		t.Fatal(err)
	}
}

// claimsIn are those of the token that a request pushes.
func claimsIn(t *testing.T, r *http.Request) (c claims) {
	t.Helper()
	token, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(string(token), ".")[1])
	if err != nil {
		t.Error(err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Error(err)
	}
	return c
}
