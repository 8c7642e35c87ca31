package auth

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/roster-id/roster/storage"
)

// counting is a store that notes what it is asked to do.
type counting struct {
	storage.Store
	mu   sync.Mutex
	list []string
}

func (s *counting) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, what)
}

func (s *counting) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

func (s *counting) calls() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.list, " ")
}

func (s *counting) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	s.note("Query")
	return s.Store.Query(ctx, tenant, q)
}

func (s *counting) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	s.note("Get")
	return s.Store.Get(ctx, tenant, typ, id)
}

func (s *counting) Item(ctx context.Context, tenant storage.TenantID, kind, id string) (*storage.Item, error) {
	s.note("Item")
	return s.Store.Item(ctx, tenant, kind, id)
}

func (s *counting) Items(ctx context.Context, tenant storage.TenantID, kind, key string) ([]*storage.Item, error) {
	s.note("Items")
	return s.Store.Items(ctx, tenant, kind, key)
}

func (s *counting) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	s.note("Write(")
	defer s.note(")")
	return s.Store.Write(ctx, tenant, func(tx storage.Tx) error { return fn(&countingTx{tx, s}) })
}

type countingTx struct {
	storage.Tx
	s *counting
}

func (t *countingTx) Get(typ, id string) (*storage.Resource, error) {
	t.s.note("Get")
	return t.Tx.Get(typ, id)
}

func (t *countingTx) Item(kind, id string) (*storage.Item, error) {
	t.s.note("Item")
	return t.Tx.Item(kind, id)
}

func (t *countingTx) Items(kind, key string) ([]*storage.Item, error) {
	t.s.note("Items")
	return t.Tx.Items(kind, key)
}

func (t *countingTx) PutItem(prev, next *storage.Item) error {
	t.s.note("PutItem")
	return t.Tx.PutItem(prev, next)
}

func (t *countingTx) DeleteItem(prev *storage.Item) error {
	t.s.note("DeleteItem")
	return t.Tx.DeleteItem(prev)
}

func (t *countingTx) Audit(e storage.AuditEntry) error {
	t.s.note("Audit")
	return t.Tx.Audit(e)
}

func (s *counting) ExtendItem(ctx context.Context, tenant storage.TenantID, kind, id string, expires time.Time) error {
	s.note("Extend")
	return s.Store.ExtendItem(ctx, tenant, kind, id, expires)
}
