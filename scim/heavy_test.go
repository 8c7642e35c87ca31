package scim_test

import (
	"context"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// overtaking is a store in which somebody else changes a user before every write,
// as long as there is one to be changed.
type overtaking struct {
	storage.Store
	id     atomic.Value // of the user
	times  atomic.Int32 // how often this is still to happen
	writes atomic.Int32
}

func (s *overtaking) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	id, _ := s.id.Load().(string)
	if id == "" {
		return s.Store.Write(ctx, tenant, fn)
	}
	s.writes.Add(1)
	if s.times.Add(-1) >= 0 {
		err := s.Store.Write(ctx, tenant, func(tx storage.Tx) error {
			r, err := tx.Get("User", id)
			if err != nil {
				return err
			}
			next := *r
			next.Version, next.Doc = r.Version+1, nil
			if err := tx.Update(r, &next); err != nil {
				return err
			}
			return tx.Audit(storage.AuditEntry{At: r.LastModified, Actor: "operator", Action: "test", Type: "User", ID: id})
		})
		if err != nil {
			return err
		}
	}
	return s.Store.Write(ctx, tenant, fn)
}

// TestHeavyChangesAreComputedOutside: the change of a large resource that was
// overtaken is not computed again while all writers wait; that of a small one is,
// for it must not starve.
func TestHeavyChangesAreComputedOutside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		size          int
		times         int32
		status        int
		writes        int32
		title, method string
	}{
		{"small", 100, 1000, 200, 1, "Pilot", "PATCH"},
		{"large, overtaken twice", 20_000, 2, 200, 3, "Pilot", "PATCH"},
		{"large, overtaken always", 20_000, 1000, 503, 5, "", "PATCH"},
		{"made large", 100, 1, 200, 2, strings.Repeat("x", 20_000), "PUT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var store *overtaking
			s := testserver.Start(t, testserver.Options{Store: func(inner storage.Store) storage.Store {
				store = &overtaking{Store: inner}
				return store
			}})
			created := s.Do(t, "POST", "/Users", `{"userName":"ana","nickName":"`+strings.Repeat("n", test.size)+`"}`)
			id := path.Base(created.Header.Get("Location"))
			store.times.Store(test.times)
			store.id.Store(id)
			body := patchOp("%s", `{"op":"add","path":"title","value":"Pilot"}`)
			if test.method == "PUT" {
				body = `{"userName":"ana","title":"` + test.title + `"}`
			}
			r := s.Do(t, test.method, "/Users/"+id, body)
			if r.Status != test.status || store.writes.Load() != test.writes {
				t.Errorf("got %d after %d writes, want %d after %d: %.200s", r.Status, store.writes.Load(), test.status, test.writes, r.Body)
			}
			if test.status == 503 && r.Header.Get("Retry-After") == "" {
				t.Error("the 503 does not say when to come again")
			}
			store.id.Store("")
			if r := s.Do(t, "GET", "/Users/"+id+"?attributes=title", ""); strings.Contains(r.Body, `"title"`) != (test.title != "") || !strings.Contains(r.Body, test.title) {
				t.Errorf("afterwards: %.200s", r.Body)
			}
		})
	}
}
