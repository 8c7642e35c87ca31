package events

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// claiming is a store that tells of a write, which is that of a lease.
type claiming struct {
	storage.Store
	claimed func()
}

func (c *claiming) Item(ctx context.Context, tenant storage.TenantID, kind, id string) (*storage.Item, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return c.Store.Item(ctx, tenant, kind, id)
}

func (c *claiming) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	err := c.Store.Write(ctx, tenant, fn)
	c.claimed()
	return err
}

// asked is a directory that tells when it is asked.
type asked struct {
	coreTypes
	asked func()
}

func (a asked) Types(ctx context.Context, tenant storage.TenantID) (*schemas.Set, error) {
	if a.asked(); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return a.coreTypes.Types(ctx, tenant)
}

// TestEndOfAProcess: whenever a process is told to end, the next one goes on at once, and
// nothing has failed.
func TestEndOfAProcess(t *testing.T) {
	for name, at := range map[string]func(*Feeds, func()){
		"when it has the feed": func(s *Feeds, end func()) { s.store = &claiming{s.store, end} },
		"before an event is sent": func(s *Feeds, end func()) {
			s.directory = asked{s.directory.(coreTypes), end}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, ringOf(t, filepath.Join(t.TempDir(), "roster.keys")), filepath.Join(t.TempDir(), "roster.db"))
			tries := 0
			s.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				tries++
				return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: r}, nil
			})}
			p := place{storage.DefaultTenant, "sp"}
			s.tell(t, p)
			store, directory := s.store, s.directory
			ctx, end := context.WithCancel(t.Context())
			at(s, end)
			s.Step(ctx, p.tenant, p.id)
			s.store, s.directory = store, directory
			_, st, err := readState(s.store.Item(t.Context(), p.tenant, stateKind, p.id))
			if err != nil || ctx.Err() == nil || st.Failures != 0 || st.Reason != "" || st.Lease != "" {
				t.Fatalf("%+v, %v", st, err)
			}
			soon := time.Now().Add(lookEvery)
			s.now = func() time.Time { return soon }
			s.Step(t.Context(), p.tenant, p.id)
			if tries != 1 {
				t.Errorf("%d tries, want 1", tries)
			}
		})
	}
}
