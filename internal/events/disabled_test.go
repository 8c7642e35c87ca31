package events

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestDisabledMeanwhile: a feed that is disabled while it is looked at sends nothing, not
// even what waits to be tried again, and goes on from there once it is enabled.
func TestDisabledMeanwhile(t *testing.T) {
	s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
	tries := 0
	s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		tries++
		status := http.StatusInternalServerError
		if tries > 1 {
			status = http.StatusAccepted
		}
		return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
	})}
	p := place{storage.DefaultTenant, "sp"}
	enable := func(on bool) {
		t.Helper()
		err := s.store.Write(t.Context(), p.tenant, func(tx storage.Tx) error {
			i, err := tx.Item(feedKind, p.id)
			if err != nil {
				return err
			}
			f, err := readFeed(s.keys, p.tenant, i)
			if err != nil {
				return err
			}
			if f.Enabled = on; !on {
				return s.disable(tx, p)
			}
			if err := s.put(tx, p.tenant, i, f); err != nil {
				return err
			}
			return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "feed.update", Type: "Feed", ID: p.id})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.tell(t, p)
	s.Step(t.Context(), p.tenant, p.id)
	later, asked := time.Now().Add(time.Minute), false
	s.now = func() time.Time {
		if !asked { // for the first time after the feed was read
			asked = true
			enable(false)
		}
		return later
	}
	s.Step(t.Context(), p.tenant, p.id)
	if !asked || tries != 1 {
		t.Errorf("%d tries, want that before it was disabled", tries)
	}
	enable(true)
	later = later.Add(time.Minute)
	s.Step(t.Context(), p.tenant, p.id)
	if tries != 2 {
		t.Errorf("%d tries after it was enabled again, want 2", tries)
	}
}
