package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestRefusedResources: a receiver that refuses the events of many resources, for hours,
// is told of the others in time.
func TestRefusedResources(t *testing.T) {
	onStoresWith(t, testserver.Options{ByHand: true}, func(t *testing.T, w *world) {
		hook := listenForEvents(t)
		made := w.feed(t, w.feedAdmin(t), object{"name": "HR", "delivery": "webhook", "url": hook.URL})
		users := 0
		hook.answers(func(d delivered) int {
			if strings.Contains(d.body, "/Groups/") {
				return 400
			}
			users++
			return 200
		})
		for i := range 40 {
			must[struct{}](t, w.Do(t, "POST", "/Groups", fmt.Sprintf(`{"schemas":[%q],"displayName":"group%d"}`, schemas.GroupURI, i)), 201)
		}
		step := func() {
			w.Feeds.Step(t.Context(), storage.DefaultTenant, made.Feed.ID)
			w.advance(10 * time.Second)
		}
		for range 60 {
			step()
		}
		w.userNamed(t, "newcomer", "")
		for range 12 {
			step()
		}
		if users != 1 {
			t.Errorf("two minutes after it was made, the user was told of %d times", users)
		}
	})
}

// TestReceiverBusy: a receiver that asks to be left alone is, with all events.
func TestReceiverBusy(t *testing.T) {
	onStoresWith(t, testserver.Options{ByHand: true}, func(t *testing.T, w *world) {
		var tries atomic.Int64
		var free atomic.Bool
		hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			if tries.Add(1) > 1 && !free.Load() {
				rw.Header().Set("Retry-After", "1800")
				rw.WriteHeader(http.StatusTooManyRequests)
			}
		}))
		defer hook.Close()
		made := w.feed(t, w.feedAdmin(t), object{"name": "HR", "delivery": "webhook", "url": hook.URL})
		id := w.userNamed(t, "first", "")
		w.patchUser(t, id, "title", "Boss") // behind the first: one is delivered, one refused
		step := func() { w.Feeds.Step(t.Context(), storage.DefaultTenant, made.Feed.ID) }
		step()
		if n := tries.Load(); n != 2 {
			t.Fatalf("%d tries, want 2", n)
		}
		for i := range 14 {
			w.advance(2 * time.Minute)
			w.userNamed(t, fmt.Sprint("later", i), "")
			step()
		}
		if n := tries.Load(); n != 2 {
			t.Errorf("%d tries within half an hour, want 2", n)
		}
		free.Store(true)
		w.advance(3 * time.Minute)
		step()
		if n := tries.Load(); n != 2+1+14 {
			t.Errorf("%d tries after half an hour, want 17", n)
		}
	})
}

// TestFeedRetyped: what a feed was not told of before its types changed it is told of
// from its position on, whichever process looked through the trail.
func TestFeedRetyped(t *testing.T) {
	onStoresWith(t, testserver.Options{ByHand: true}, func(t *testing.T, w *world) {
		hook := listenForEvents(t)
		made := w.feed(t, w.feedAdmin(t), object{"name": "HR", "delivery": "webhook", "url": hook.URL, "types": []string{"Group"}})
		step := func() { w.Feeds.Step(t.Context(), storage.DefaultTenant, made.Feed.ID) }
		w.userNamed(t, "ana", "")
		step()
		r := w.send(t, "PATCH", "/admin/v1/feeds/"+made.Feed.ID, `{"types":["User"]}`, "Authorization", "Bearer "+w.mfaAgain(t), "Content-Type", "application/json")
		must[struct{}](t, r, 200)
		w.userNamed(t, "ben", "")
		step()
		if n := len(hook.take()); n != 2 {
			t.Errorf("%d events, want 2", n)
		}
	})
}
