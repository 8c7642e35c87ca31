package api_test

import (
	"context"
	"sync"
	"testing"

	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// watched tells of each item of a kind that is looked for.
type watched struct {
	storage.Store
	kind   string
	looked chan struct{}
}

func (s *watched) Item(ctx context.Context, tenant storage.TenantID, kind, id string) (*storage.Item, error) {
	if kind == s.kind {
		select {
		case s.looked <- struct{}{}:
		case <-ctx.Done():
		}
	}
	return s.Store.Item(ctx, tenant, kind, id)
}

// TestWaitsTakeNoPlace: who waits for events, or for the end of a bulk request, leaves its
// place to who has something to do.
func TestWaitsTakeNoPlace(t *testing.T) {
	t.Parallel()
	for kind, ask := range map[string]func(t *testing.T, w *world) (path, body string, headers []string){
		"feed.state": func(t *testing.T, w *world) (path, body string, headers []string) {
			c := &storage.Client{Tenant: storage.DefaultTenant, Name: "sp", Scopes: []string{"events"}}
			text := w.Issue(t, c)
			made := w.feed(t, w.feedAdmin(t), object{"name": "SP", "delivery": "poll", "client": c.ID})
			return "/events/v1/poll/" + made.Feed.ID, `{}`, []string{"Authorization", "Bearer " + text, "Content-Type", "application/json"}
		},
		"bulk": func(_ *testing.T, w *world) (path, body string, headers []string) {
			return "/scim/v2/Bulk", `{"schemas":["` + scim.BulkRequestURI + `"],"Operations":[{"method":"DELETE","path":"/Users/x"}]}`,
				[]string{"Authorization", "Bearer " + w.Token, "Content-Type", "application/scim+json", "Prefer", "respond-async, wait=20"}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			store := &watched{kind: kind, looked: make(chan struct{})}
			w := begin(t, testserver.Options{
				ByHand: true, NoMail: true, Store: func(inner storage.Store) storage.Store { store.Store = inner; return store },
				Server: func(o *server.Options) { o.Admission = server.Admission{Requests: 1} },
			})
			path, body, headers := ask(t, w)
			ctx, leave := context.WithCancel(t.Context())
			var waits sync.WaitGroup
			answer := make(chan testserver.Response, 1)
			waits.Go(func() {
				r, _ := w.Page(ctx, "POST", path, body, headers...) // it is cut off
				answer <- r
			})
			defer waits.Wait()
			defer leave()
			for range 3 { // it looks again and again while it waits
				select {
				case <-store.looked:
				case r := <-answer:
					t.Fatalf("it did not wait: %d %s", r.Status, r.Body)
				}
			}
			if r := w.scim(t, w.Token, "GET", "/Users", ""); r.Status != 200 {
				t.Errorf("another request meanwhile: %d %s", r.Status, r.Body)
			}
		})
	}
}
