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
	i := &storage.Item{Kind: text(raw, fType), ID: text(raw, fResource), Version: number(raw, fVersion), Expires: moment(raw, fExpires)}
	all := foundBy(i.Kind, "")
	for _, k := range texts(raw, fFound) {
		if k != all {
			i.Keys = append(i.Keys, k[len(all):])
		}
	}
	i.Data = data(raw, fDoc)
	return i
}

// foundBy is a key as it stands in fFound; every item of a kind is found by the
// empty one.
func foundBy(kind, k string) string { return key(kind, k) }

// itemFields are those of an item that change with it.
func itemFields(i *storage.Item) bson.D {
	found := bson.A{foundBy(i.Kind, "")}
	for _, k := range i.Keys {
		found = append(found, foundBy(i.Kind, k))
	}
	return d(fVersion, i.Version, fExpires, millis(i.Expires), fFound, found, fDoc, bson.Binary{Data: i.Data})
}

func itemDocument(tenant string, i *storage.Item) bson.D {
	return append(append(itemByID(tenant, i.Kind, i.ID), d(fType, i.Kind, fResource, i.ID)...), itemFields(i)...)
}

func itemByID(tenant, kind, id string) bson.D { return byID(tenant, key(tenant, kind, id)) }

// itemsBy selects the items of a kind with a key.
func itemsBy(tenant, kind, k string) bson.D { return d(fTenant, tenant, fFound, foundBy(kind, k)) }

func (s *Store) items(ctx context.Context, filter bson.D) (list []*storage.Item, err error) {
	err = s.each(ctx, items, filter, func(raw bson.Raw) error {
		list = append(list, itemFrom(raw))
		return nil
	}, look().sort(d(fID, 1)))
	return list, err
}

// Item implements storage.Items.
func (s *Store) Item(ctx context.Context, tenant storage.TenantID, kind, id string) (*storage.Item, error) {
	raw, err := s.db.Collection(items).FindOne(ctx, itemByID(string(tenant), kind, id)).Raw()
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

// ItemsByID implements storage.Items.
func (s *Store) ItemsByID(ctx context.Context, tenant storage.TenantID, kind string, ids ...string) (map[string]*storage.Item, error) {
	if len(ids) == 0 {
		return map[string]*storage.Item{}, nil
	}
	list, err := s.items(ctx, byIDs(string(tenant), prefixed(key(string(tenant), kind, ""), ids)))
	return storage.ByID(list), explain(err)
}

// ExtendItem implements storage.Items.
func (s *Store) ExtendItem(ctx context.Context, tenant storage.TenantID, kind, id string, expires time.Time) error {
	filter := append(itemByID(string(tenant), kind, id), bson.E{Key: fExpires, Value: d("$gt", int64(0))})
	_, err := s.db.Collection(items).UpdateOne(ctx, filter, d("$max", d(fExpires, expires.UnixMilli())))
	return explain(err)
}

// NoteItems implements storage.Items.
func (s *Store) NoteItems(ctx context.Context, tenant storage.TenantID, notes []*storage.Item) error {
	if err := storage.PrepareNotes(notes); err != nil || len(notes) == 0 {
		return err
	}
	documents := make([]bson.D, len(notes))
	for n, i := range notes {
		documents[n] = itemDocument(string(tenant), i)
	}
	_, err := s.db.Collection(items).InsertMany(ctx, documents, options.InsertMany().SetOrdered(false))
	if onlyDuplicates(err) {
		return nil
	}
	return explain(err)
}

// onlyDuplicates reports whether nothing was wrong but that some of what was to be
// inserted was there.
func onlyDuplicates(err error) bool {
	failed, ok := errors.AsType[mongo.BulkWriteException](err)
	if !ok || failed.WriteConcernError != nil {
		return false
	}
	for _, e := range failed.WriteErrors {
		if !mongo.IsDuplicateKeyError(e) {
			return false
		}
	}
	return true
}

// ForgetItems implements storage.Items.
func (s *Store) ForgetItems(ctx context.Context, tenant storage.TenantID, kind string, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	filter := append(byIDs(string(tenant), prefixed(key(string(tenant), kind, ""), ids)), bson.E{Key: fExpires, Value: d("$gt", int64(0))})
	_, err := s.db.Collection(items).DeleteMany(ctx, filter)
	return explain(err)
}

// SweepItems implements storage.Items, in portions: what one command did not get done
// would be for nothing as far as the caller hears, and holds up the other members.
func (s *Store) SweepItems(ctx context.Context, before time.Time) (n int, err error) {
	expired := d(fExpires, d("$gt", int64(0), "$lt", before.UnixMilli()))
	for {
		var ids bson.A
		err := s.each(ctx, items, expired, func(raw bson.Raw) error {
			ids = append(ids, text(raw, fID))
			return nil
		}, look().limit(inPortion).batch(inPortion+1).fields(only(fID)))
		if err != nil || len(ids) == 0 {
			return n, explain(err)
		}
		// One that has been extended meanwhile stays.
		r, err := s.db.Collection(items).DeleteMany(ctx, append(d(fID, d("$in", ids)), expired...))
		if err != nil {
			return n, explain(err)
		}
		n += int(r.DeletedCount)
		if len(ids) < inPortion {
			return n, nil
		}
	}
}

// Item implements storage.Tx.
func (t *tx) Item(kind, id string) (i *storage.Item, err error) {
	if err := t.await(key(kind, id)); err != nil {
		return nil, err
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) error {
		raw, err := t.store.db.Collection(items).FindOne(ctx, itemByID(t.tenant, kind, id)).Raw()
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

// expect fails unless the stored item has a version, which is 0 for none, and the
// tenant is not being loaded. A tx that is not careful finds both out when it sends
// its changes: the question about the load goes with them. A load and a write that
// begin at the same time need not meet, for a load begins in a tenant that has
// nothing.
func (t *tx) expect(i *storage.Item, version int64) error {
	name, mark := key(i.Kind, i.ID), markID(t.tenant)
	t.writes = append(t.writes, name)
	if !t.careful {
		if !t.asks {
			t.asks = true
			t.add(ofItems, change{absent: byID(t.tenant, mark)})
		}
		return nil
	}
	if err := t.await(name); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	var have int64
	loading := false
	err := t.do(func(ctx context.Context) error {
		return t.store.each(ctx, items, byIDs(t.tenant, bson.A{key(t.tenant, i.Kind, i.ID), mark}), func(raw bson.Raw) error {
			if isMark(raw) {
				loading = true
			} else {
				have = number(raw, fVersion)
			}
			return nil
		}, look().fields(only(fVersion, fLoad)))
	})
	switch {
	case err != nil:
		return err
	case loading:
		return storage.ErrLoading
	case have != version:
		return storage.ErrConflict
	}
	return nil
}

// PutItem implements storage.Tx.
func (t *tx) PutItem(prev, next *storage.Item) error {
	if err := next.Prepare(); err != nil {
		return err
	}
	if prev == nil {
		next.Version = 1
		if err := t.expect(next, 0); err != nil {
			return err
		}
		t.add(ofItems, change{insert: itemDocument(t.tenant, next)})
	} else {
		next.Version = prev.Version + 1
		if prev.Version < 1 {
			return storage.ErrConflict // what no item has
		}
		if err := t.expect(next, prev.Version); err != nil {
			return err
		}
		t.add(ofItems, change{filter: t.itemOf(next, prev.Version), update: d("$set", itemFields(next))})
	}
	t.changed = true
	return t.guess()
}

// DeleteItem implements storage.Tx.
func (t *tx) DeleteItem(prev *storage.Item) error {
	if prev.Version < 1 {
		return storage.ErrConflict
	}
	if err := t.expect(prev, prev.Version); err != nil {
		return err
	}
	t.add(ofItems, change{delete: t.itemOf(prev, prev.Version)})
	t.changed = true
	return t.guess()
}

// itemOf selects an item in a version.
func (t *tx) itemOf(i *storage.Item, version int64) bson.D {
	return append(itemByID(t.tenant, i.Kind, i.ID), bson.E{Key: fVersion, Value: version})
}

// Guard implements storage.Tx: the writes meet in one document.
func (t *tx) Guard(name string) error {
	name = key("guard", name)
	if err := t.await(name); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	t.writes = append(t.writes, name)
	return t.do(func(ctx context.Context) error {
		_, err := t.store.db.Collection(counters).UpdateOne(ctx, byID(t.tenant, key(t.tenant, name)), d("$inc", d(fMeeting, int64(1))),
			options.UpdateOne().SetUpsert(true))
		return taken(err)
	})
}

func (t *tx) loadItem(i *storage.Item) error {
	if err := i.Prepare(); err != nil {
		return err
	}
	if t.careful {
		if err := t.flush(); err != nil {
			return err
		}
		if err := t.absent(items, itemByID(t.tenant, i.Kind, i.ID), "id"); err != nil {
			return err
		}
	}
	t.add(ofItems, change{insert: itemDocument(t.tenant, i)})
	return t.guess()
}

func (s *Store) dumpSchemas(ctx context.Context, tenant string, give func(storage.Record) error) error {
	return s.dumpItemsIf(ctx, true, tenant, give)
}

func (s *Store) dumpItems(ctx context.Context, tenant string, give func(storage.Record) error) error {
	return s.dumpItemsIf(ctx, false, tenant, give)
}

// dumpItemsIf dumps the items that hold what the tenant defines, or the others. It leaves
// out the mark of a load, too, which does not say when it expires.
func (s *Store) dumpItemsIf(ctx context.Context, defines bool, tenant string, give func(storage.Record) error) error {
	return s.each(ctx, items, append(wholeOf(tenant), bson.E{Key: fExpires, Value: int64(0)}), func(raw bson.Raw) error {
		if (text(raw, fType) == storage.SchemaKind) != defines {
			return nil
		}
		return give(storage.Record{Item: itemFrom(raw)})
	}, look().sort(d(fID, 1)))
}
