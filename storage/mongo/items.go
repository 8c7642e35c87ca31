package mongo

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage"
)

func itemFrom(raw bson.Raw) *storage.Item {
	kind := text(raw, fType)
	i := &storage.Item{Kind: kind, ID: text(raw, fResource), Keys: []string{}, Version: number(raw, fVersion), Expires: moment(raw, fExpires)}
	for _, k := range texts(raw, fFound) {
		if k != kind {
			i.Keys = append(i.Keys, k[len(kind)+1:])
		}
	}
	_, data, _ := raw.Lookup(fDoc).BinaryOK()
	i.Data = append([]byte{}, data...)
	return i
}

// itemFields are those of an item after _id and tenant.
func itemFields(i *storage.Item) bson.D {
	found := bson.A{i.Kind}
	for _, k := range i.Keys {
		found = append(found, i.Kind+"/"+k)
	}
	return d(fType, i.Kind, fResource, i.ID, fVersion, i.Version, fExpires, millis(i.Expires), fFound, found, fDoc, bson.Binary{Data: i.Data})
}

func itemID(tenant, kind, id string) string { return key(tenant, kind, id) }

// itemsBy selects the items of a kind, or those with a key.
func itemsBy(tenant, kind, key string) bson.D {
	if key != "" {
		kind += "/" + key
	}
	return d(fTenant, tenant, fFound, kind)
}

func (s *Store) items(ctx context.Context, filter bson.D) (list []*storage.Item, err error) {
	err = s.each(ctx, items, filter, func(raw bson.Raw) error {
		list = append(list, itemFrom(raw))
		return nil
	}, look().sort(d(fID, 1)))
	return list, err
}

// Item implements storage.Items.
func (s *Store) Item(ctx context.Context, tenant storage.TenantID, kind, id string) (*storage.Item, error) {
	raw, err := s.db.Collection(items).FindOne(ctx, byID(string(tenant), itemID(string(tenant), kind, id))).Raw()
	if err != nil {
		return nil, found(err)
	}
	return itemFrom(raw), nil
}

// Items implements storage.Items.
func (s *Store) Items(ctx context.Context, tenant storage.TenantID, kind, key string) ([]*storage.Item, error) {
	list, err := s.items(ctx, itemsBy(string(tenant), kind, key))
	return list, explain(err)
}

// ExtendItem implements storage.Items.
func (s *Store) ExtendItem(ctx context.Context, tenant storage.TenantID, kind, id string, expires time.Time) error {
	filter := append(byID(string(tenant), itemID(string(tenant), kind, id)), bson.E{Key: fExpires, Value: d("$gt", int64(0))})
	_, err := s.db.Collection(items).UpdateOne(ctx, filter, d("$max", d(fExpires, expires.UnixMilli())))
	return explain(err)
}

// SweepItems implements storage.Items.
func (s *Store) SweepItems(ctx context.Context, before time.Time) (int, error) {
	r, err := s.db.Collection(items).DeleteMany(ctx, d(fExpires, d("$gt", int64(0), "$lt", before.UnixMilli())))
	if err != nil {
		return 0, explain(err)
	}
	return int(r.DeletedCount), nil
}

// What concerns items is carried out at once, as with clients.

// Item implements storage.Tx.
func (t *tx) Item(kind, id string) (i *storage.Item, err error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) error {
		raw, err := t.store.db.Collection(items).FindOne(ctx, byID(t.tenant, itemID(t.tenant, kind, id))).Raw()
		if err == nil {
			i = itemFrom(raw)
		}
		return err
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = storage.ErrNotFound
	}
	return i, err
}

// Items implements storage.Tx.
func (t *tx) Items(kind, key string) (list []*storage.Item, err error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) error {
		list, err = t.store.items(ctx, itemsBy(t.tenant, kind, key))
		return err
	})
	return list, err
}

// itemsUsable is usable without a meeting: a load begins in a tenant that holds
// nothing, so nobody's items can come between.
func (t *tx) itemsUsable() error {
	if err := t.flush(); err != nil {
		return err
	}
	loading, err := t.exists(clients, byID(t.tenant, markID(t.tenant)))
	if err == nil && loading {
		err = storage.ErrLoading
	}
	return err
}

// PutItem implements storage.Tx.
func (t *tx) PutItem(prev, next *storage.Item) error {
	if err := t.itemsUsable(); err != nil {
		return err
	}
	id := byID(t.tenant, itemID(t.tenant, next.Kind, next.ID))
	if prev == nil {
		next.Version = 1
		there, err := t.exists(items, id)
		if err != nil {
			return err
		}
		if there {
			return storage.ErrConflict
		}
		t.changed = true
		return t.do(func(ctx context.Context) error {
			_, err := t.store.db.Collection(items).InsertOne(ctx, append(id, itemFields(next)...))
			return taken(err)
		})
	}
	next.Version = prev.Version + 1
	n, err := t.update(items, append(id, bson.E{Key: fVersion, Value: prev.Version}), d("$set", itemFields(next)))
	if err == nil && n == 0 {
		err = storage.ErrConflict
	}
	return err
}

// DeleteItem implements storage.Tx.
func (t *tx) DeleteItem(prev *storage.Item) error {
	if err := t.itemsUsable(); err != nil {
		return err
	}
	var n int64
	err := t.do(func(ctx context.Context) error {
		r, err := t.store.db.Collection(items).DeleteOne(ctx, append(byID(t.tenant, itemID(t.tenant, prev.Kind, prev.ID)), bson.E{Key: fVersion, Value: prev.Version}))
		if err == nil {
			n = r.DeletedCount
		}
		return err
	})
	if err == nil && n == 0 {
		err = storage.ErrConflict
	}
	t.changed = t.changed || n > 0
	return err
}

// Guard implements storage.Tx: the writes meet in one document.
func (t *tx) Guard(name string) error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.do(func(ctx context.Context) error {
		_, err := t.store.db.Collection(counters).UpdateOne(ctx, byID(t.tenant, key(t.tenant, "guard", name)), d("$inc", d(fMeeting, int64(1))),
			options.UpdateOne().SetUpsert(true))
		return taken(err)
	})
}
