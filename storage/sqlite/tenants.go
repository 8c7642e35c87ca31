package sqlite

import (
	"context"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// ListTenants implements storage.Tenants.
func (s *Store) ListTenants(ctx context.Context) (list []*storage.Tenant, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT id, name, created FROM tenant ORDER BY id`, func(st *sqlite.Stmt) error {
			list = append(list, &storage.Tenant{ID: storage.TenantID(st.ColumnText(0)), Name: st.ColumnText(1), Created: columnTime(st, 2)})
			return nil
		})
	})
	return list, err
}

func (t *tx) CreateTenant(name string, at time.Time) error {
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.change(`INSERT OR IGNORE INTO tenant (id, name, created) VALUES (?, ?, ?)`, t.tenant, name, at); err != nil {
		return err
	}
	if t.conn().Changes() == 0 {
		return &storage.UniqueError{Attr: "id"}
	}
	return nil
}

func (t *tx) RenameTenant(name string) error {
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.change(`UPDATE tenant SET name = ? WHERE id = ?`, name, t.tenant); err != nil {
		return err
	}
	if t.conn().Changes() == 0 {
		return storage.ErrNotFound
	}
	return nil
}
