package mongo

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/roster-id/roster/storage"
)

// ListTenants implements storage.Tenants.
func (s *Store) ListTenants(ctx context.Context) ([]*storage.Tenant, error) {
	var list []*storage.Tenant
	err := s.each(ctx, tenants, bson.D{}, func(raw bson.Raw) error {
		list = append(list, &storage.Tenant{ID: storage.TenantID(text(raw, fID)), Name: text(raw, fName), Created: moment(raw, fCreated)})
		return nil
	}, look().sort(d(fID, 1)))
	return list, explain(err)
}

func (t *tx) CreateTenant(name string, at time.Time) error {
	if err := t.settled(); err != nil {
		return err
	}
	there, err := t.exists(tenants, d(fID, t.tenant))
	switch {
	case err != nil:
		return err
	case there:
		return &storage.UniqueError{Attr: "id"}
	}
	t.changed = true
	return t.insert(tenants, d(fID, t.tenant, fName, name, fCreated, at.UnixMilli()))
}

func (t *tx) RenameTenant(name string) error {
	if err := t.settled(); err != nil {
		return err
	}
	n, err := t.update(tenants, d(fID, t.tenant), d("$set", d(fName, name)))
	if err == nil && n == 0 {
		err = storage.ErrNotFound
	}
	return err
}

// settled sends what has been collected, and fails with ErrLoading while the tenant
// is being loaded.
func (t *tx) settled() error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.usable()
}
