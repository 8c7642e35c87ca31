package sqlite

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

const itemColumns = `i.id, i.version, i.expires, i.data,
	(SELECT json_group_array(k.key) FROM item_key k WHERE k.tenant = i.tenant AND k.kind = i.kind AND k.id = i.id)`

const (
	oneItem  = `SELECT ` + itemColumns + ` FROM item i WHERE i.tenant = ? AND i.kind = ? AND i.id = ?`
	allItems = `SELECT ` + itemColumns + ` FROM item i WHERE i.tenant = ? AND i.kind = ? ORDER BY i.id`
	// CROSS JOIN keeps the order: each id is looked up by the key.
	namedItems = `SELECT ` + itemColumns + ` FROM (SELECT DISTINCT value FROM json_each(?3)) f CROSS JOIN item i
		WHERE i.tenant = ?1 AND i.kind = ?2 AND i.id = f.value`
	someItems = `SELECT ` + itemColumns + ` FROM item_key f JOIN item i ON i.tenant = f.tenant AND i.kind = f.kind AND i.id = f.id
		WHERE f.tenant = ? AND f.kind = ? AND f.key = ? ORDER BY f.id`

	insertItem = `INSERT INTO item (tenant, kind, id, version, expires, data) VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT DO NOTHING`
)

func scanItem(st *sqlite.Stmt, kind string) (*storage.Item, error) {
	i := &storage.Item{Kind: kind, ID: st.ColumnText(0), Version: st.ColumnInt64(1), Expires: columnTime(st, 2), Data: columnBytes(st, 3)}
	err := json.Unmarshal([]byte(st.ColumnText(4)), &i.Keys)
	slices.Sort(i.Keys)
	return i, err
}

func items(c *sqlite.Conn, kind, sql string, args ...any) (list []*storage.Item, err error) {
	err = query(c, sql, func(st *sqlite.Stmt) error {
		i, err := scanItem(st, kind)
		list = append(list, i)
		return err
	}, args...)
	return list, err
}

func item(c *sqlite.Conn, tenant, kind, id string) (*storage.Item, error) {
	list, err := items(c, kind, oneItem, tenant, kind, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, storage.ErrNotFound
	}
	return list[0], nil
}

func itemsBy(c *sqlite.Conn, tenant, kind, key string) ([]*storage.Item, error) {
	if key == "" {
		return items(c, kind, allItems, tenant, kind)
	}
	return items(c, kind, someItems, tenant, kind, key)
}

// Item implements storage.Items.
func (s *Store) Item(ctx context.Context, tenant storage.TenantID, kind, id string) (i *storage.Item, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		i, err = item(c, string(tenant), kind, id)
		return err
	})
	return i, err
}

// Items implements storage.Items.
func (s *Store) Items(ctx context.Context, tenant storage.TenantID, kind, key string) (list []*storage.Item, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		list, err = itemsBy(c, string(tenant), kind, key)
		return err
	})
	return list, err
}

// ItemsByID implements storage.Items.
func (s *Store) ItemsByID(ctx context.Context, tenant storage.TenantID, kind string, ids ...string) (map[string]*storage.Item, error) {
	if len(ids) == 0 {
		return map[string]*storage.Item{}, nil
	}
	wanted, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	var list []*storage.Item
	err = s.read(ctx, func(c *sqlite.Conn) error {
		list, err = items(c, kind, namedItems, string(tenant), kind, string(wanted))
		return err
	})
	return storage.ByID(list), err
}

// ExtendItem implements storage.Items.
func (s *Store) ExtendItem(ctx context.Context, tenant storage.TenantID, kind, id string, expires time.Time) error {
	return s.Write(ctx, tenant, func(t storage.Tx) error {
		return t.(*tx).exec(`UPDATE item SET expires = ? WHERE tenant = ? AND kind = ? AND id = ? AND expires < ?`, expires, string(tenant), kind, id, expires)
	})
}

// NoteItems implements storage.Items.
func (s *Store) NoteItems(ctx context.Context, tenant storage.TenantID, notes []*storage.Item) error {
	if err := storage.PrepareNotes(notes); err != nil {
		return err
	}
	return s.Write(ctx, tenant, func(t storage.Tx) error {
		x := t.(*tx)
		for _, i := range notes {
			if err := x.exec(insertItem, x.tenant, i.Kind, i.ID, i.Expires, i.Data); err != nil {
				return err
			}
			if x.conn().Changes() == 0 {
				continue
			}
			if err := x.insertKeys(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetItems implements storage.Items.
func (s *Store) ForgetItems(ctx context.Context, tenant storage.TenantID, kind string, ids ...string) error {
	return s.Write(ctx, tenant, func(t storage.Tx) error {
		x := t.(*tx)
		for _, id := range ids {
			if err := x.exec(`DELETE FROM item_key WHERE tenant = ?1 AND kind = ?2 AND id = ?3
				AND EXISTS (SELECT 1 FROM item i WHERE i.tenant = ?1 AND i.kind = ?2 AND i.id = ?3 AND i.expires > 0)`, x.tenant, kind, id); err != nil {
				return err
			}
			if err := x.exec(`DELETE FROM item WHERE tenant = ? AND kind = ? AND id = ? AND expires > 0`, x.tenant, kind, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweptAtOnce bounds what one write removes.
const sweptAtOnce = 500

// SweepItems implements storage.Items.
func (s *Store) SweepItems(ctx context.Context, before time.Time) (n int, err error) {
	for {
		swept := 0
		err := s.Write(ctx, storage.DefaultTenant, func(t storage.Tx) error {
			swept = 0
			type named struct{ tenant, kind, id string }
			var list []named
			x := t.(*tx)
			err := query(x.conn(), `SELECT tenant, kind, id FROM item WHERE expires < ? LIMIT 0 + ?`, func(st *sqlite.Stmt) error {
				list = append(list, named{st.ColumnText(0), st.ColumnText(1), st.ColumnText(2)})
				return nil
			}, before, sweptAtOnce)
			for _, i := range list {
				if err == nil {
					err = x.dropItem(i.tenant, i.kind, i.id)
				}
			}
			swept = len(list)
			return err
		})
		if err != nil {
			return n, err
		}
		n += swept
		if swept < sweptAtOnce {
			return n, nil
		}
	}
}

// dropItem removes an item with its keys.
func (t *tx) dropItem(tenant, kind, id string) error {
	if err := t.exec(`DELETE FROM item_key WHERE tenant = ? AND kind = ? AND id = ?`, tenant, kind, id); err != nil {
		return err
	}
	return t.exec(`DELETE FROM item WHERE tenant = ? AND kind = ? AND id = ?`, tenant, kind, id)
}

// Item implements storage.Tx.
func (t *tx) Item(kind, id string) (*storage.Item, error) { return item(t.conn(), t.tenant, kind, id) }

// Items implements storage.Tx.
func (t *tx) Items(kind, key string) ([]*storage.Item, error) {
	return itemsBy(t.conn(), t.tenant, kind, key)
}

// PutItem implements storage.Tx.
func (t *tx) PutItem(prev, next *storage.Item) error {
	if err := next.Prepare(); err != nil {
		return err
	}
	if err := t.usable(); err != nil {
		return err
	}
	if prev == nil {
		next.Version = 1
		if err := t.change(insertItem, t.tenant, next.Kind, next.ID, next.Expires, next.Data); err != nil {
			return err
		}
	} else {
		next.Version = prev.Version + 1
		if err := t.change(`UPDATE item SET version = ?, expires = ?, data = ? WHERE tenant = ? AND kind = ? AND id = ? AND version = ?`,
			next.Version, next.Expires, next.Data, t.tenant, next.Kind, next.ID, prev.Version); err != nil {
			return err
		}
	}
	if t.conn().Changes() == 0 {
		return storage.ErrConflict
	}
	if prev != nil {
		if err := t.exec(`DELETE FROM item_key WHERE tenant = ? AND kind = ? AND id = ?`, t.tenant, next.Kind, next.ID); err != nil {
			return err
		}
	}
	return t.insertKeys(next)
}

func (t *tx) insertKeys(i *storage.Item) error {
	for _, k := range i.Keys {
		if err := t.exec(`INSERT INTO item_key (tenant, kind, key, id) VALUES (?, ?, ?, ?)`, t.tenant, i.Kind, k, i.ID); err != nil {
			return err
		}
	}
	return nil
}

// DeleteItem implements storage.Tx.
func (t *tx) DeleteItem(prev *storage.Item) error {
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.change(`DELETE FROM item WHERE tenant = ? AND kind = ? AND id = ? AND version = ?`, t.tenant, prev.Kind, prev.ID, prev.Version); err != nil {
		return err
	}
	if t.conn().Changes() == 0 {
		return storage.ErrConflict
	}
	return t.exec(`DELETE FROM item_key WHERE tenant = ? AND kind = ? AND id = ?`, t.tenant, prev.Kind, prev.ID)
}

// Guard implements storage.Tx. There is one writer at a time.
func (t *tx) Guard(string) error { return nil }
