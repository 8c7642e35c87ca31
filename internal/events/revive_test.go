package events

import (
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// TestReviveReplayed: a dead letter that is to be told of again anyway, as the feed was
// set back, is told of once, and in its turn.
func TestReviveReplayed(t *testing.T) {
	s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
	var got []string
	s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		got = append(got, strings.TrimPrefix(claimsIn(t, r).ID, "sp."))
		return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: r}, nil
	})}
	p := place{storage.DefaultTenant, "sp"}
	f := &Feed{ID: p.id, Delivery: Push, URL: "https://sp.example.com/"}
	err := s.store.Write(t.Context(), p.tenant, func(tx storage.Tx) error {
		if err := s.begin(tx, f); err != nil {
			return err
		}
		for version := range int64(3) {
			if err := tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "user.patch", Type: "User", ID: "ana", Version: version + 1}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.entry(t.Context(), p.tenant, 4) // the last, behind that of the feed
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Write(t.Context(), p.tenant, func(tx storage.Tx) error {
		if err := s.bury(tx, p, f, held{Seq: e.Seq, Resource: "User/ana"}, e, time.Now()); err != nil {
			return err
		}
		return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "feed.bury", Type: "Feed", ID: p.id})
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Revive(t.Context(), auth.System(p.tenant), letterID(p.id, e.Seq)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.Step(t.Context(), p.tenant, p.id)
	}
	if d := cmp.Diff([]string{"2", "3", "4"}, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if _, n, err := s.DeadLetters(t.Context(), p.tenant, p.id); err != nil || n != 0 {
		t.Errorf("%d dead letters, %v", n, err)
	}
}

// TestReviveUntold: what a feed is not told of any more does not come back from the dead
// letters to who polls, and keeps nothing waiting.
func TestReviveUntold(t *testing.T) {
	s := openPolled(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
	p := place{storage.DefaultTenant, "sp"}
	poll := func(q PollRequest) *PollResponse {
		t.Helper()
		q.ReturnImmediately = true
		out, err := s.Poll(t.Context(), polling(), p.id, q)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	happens := func(action string, version int64) {
		t.Helper()
		if err := s.store.Write(t.Context(), p.tenant, func(tx storage.Tx) error {
			return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: action, Type: "User", ID: "ana", Version: version})
		}); err != nil {
			t.Fatal(err)
		}
	}
	happens("user.patch", 1)
	for id := range poll(PollRequest{}).Sets {
		poll(PollRequest{SetErrs: map[string]SetErr{id: {Err: "invalid_request"}}})
	}
	list, n, err := s.DeadLetters(t.Context(), p.tenant, p.id)
	if err != nil || n != 1 {
		t.Fatalf("%d dead letters, %v", n, err)
	}
	if _, err := s.edit(t.Context(), auth.System(p.tenant), p.id, "feed.update", func(f *Feed) error {
		f.Events = []string{Delete}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Revive(t.Context(), auth.System(p.tenant), list[0].ID); err != nil {
		t.Fatal(err)
	}
	if out := poll(PollRequest{}); len(out.Sets) != 0 || out.MoreAvailable {
		t.Errorf("%+v", out)
	}
	happens("user.delete", 2)
	out := poll(PollRequest{})
	if len(out.Sets) != 1 {
		t.Fatalf("%+v", out)
	}
	poll(PollRequest{Ack: slices.Collect(maps.Keys(out.Sets))})
	if _, at, err := s.Find(t.Context(), p.tenant, p.id); err != nil || at.Waiting != 0 {
		t.Errorf("%+v, %v", at, err)
	}
}
