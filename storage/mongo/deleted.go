package mongo

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/roster-id/roster/storage"
)

// deletedFields are what deletedFrom reads.
var deletedFields = append(only(fName, fDeleted), resourceFields...)

func deletedFrom(typ string, raw bson.Raw) *storage.WholeResource {
	w := &storage.WholeResource{Resource: *resourceFrom(typ, raw), Deleted: moment(raw, fDeleted)}
	w.Name, w.InGroups = text(raw, fName), false
	return w
}

// hidden selects a deleted resource as it was read.
func (t *tx) hidden(prev *storage.WholeResource) bson.D {
	return append(liveByID(t.tenant, prev.ID, deletedType(prev.Type)),
		bson.E{Key: fVersion, Value: prev.Version}, bson.E{Key: fDeleted, Value: prev.Deleted.UnixMilli()})
}

// ofDeleted selects the deleted resources of a type, in a way that lets the server
// see that all of them are in deletedByTime.
func ofDeleted(tenant storage.TenantID, typ string, until time.Time) bson.D {
	when := d("$gt", int64(0))
	if !until.IsZero() {
		when = append(when, bson.E{Key: "$lte", Value: until.UnixMilli()})
	}
	return d(fTenant, string(tenant), fType, deletedType(typ), fDeleted, when)
}

func (s *Store) getDeleted(ctx context.Context, tenant, typ, id string) (*storage.WholeResource, error) {
	raw, epoch, err := s.withEpoch(ctx, tenant, deletedType(typ), id, deletedFields)
	if err != nil {
		return nil, err
	}
	w := deletedFrom(typ, raw)
	w.Epoch = epoch
	return w, nil
}

// GetDeleted implements storage.Deleted.
func (s *Store) GetDeleted(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.WholeResource, error) {
	w, err := s.getDeleted(ctx, string(tenant), typ, id)
	return w, found(err)
}

// ListDeleted implements storage.Deleted.
func (s *Store) ListDeleted(ctx context.Context, tenant storage.TenantID, typ string, after storage.DeletedPlace, limit int) (list []*storage.WholeResource, err error) {
	if limit <= 0 {
		return nil, nil
	}
	filter := ofDeleted(tenant, typ, after.At)
	if at := after.At; !at.IsZero() {
		filter = append(filter, bson.E{Key: "$or", Value: bson.A{
			d(fDeleted, d("$lt", at.UnixMilli())), d(fDeleted, at.UnixMilli(), fResource, d("$lt", after.ID)),
		}})
	}
	err = s.each(ctx, resources, filter, func(raw bson.Raw) error {
		list = append(list, deletedFrom(typ, raw))
		return nil
	}, find(d(fDeleted, -1, fResource, -1), 0, limit).fields(deletedFields))
	return list, explain(err)
}

// CountDeleted implements storage.Deleted.
func (s *Store) CountDeleted(ctx context.Context, tenant storage.TenantID, typ string) (int, error) {
	n, err := s.db.Collection(resources).CountDocuments(ctx, ofDeleted(tenant, typ, time.Time{}))
	return int(n), explain(err)
}

// FormerGroups implements storage.Deleted.
func (s *Store) FormerGroups(ctx context.Context, tenant storage.TenantID, id string) (list []storage.Membership, err error) {
	err = s.snapshot(ctx, func(ctx context.Context) error {
		list = nil
		info, err := s.infos(ctx, string(tenant), d("$in", deletedMemberTypes), []string{id})
		if err != nil || len(info) == 0 {
			return err
		}
		groups, err := s.groupsOf(ctx, string(tenant), id)
		for _, g := range groups {
			list = append(list, storage.Membership{Group: g.ID, Display: g.Name, Direct: true})
		}
		return err
	})
	return list, explain(err)
}

// groupsOf returns the live groups that somebody has a membership in, hidden or not,
// in the order of ids, with all but Doc.
func (s *Store) groupsOf(ctx context.Context, tenant, id string) (groups []*storage.Resource, err error) {
	parents, err := s.parents(ctx, tenant, []string{id}, map[string][]string{})
	if err != nil {
		return nil, err
	}
	for portion := range slices.Chunk(parents, inPortion) {
		err := s.each(ctx, resources, append(byIDs(tenant, prefixed(key(tenant, ""), portion)), bson.E{Key: fType, Value: groupType}), func(raw bson.Raw) error {
			g := resourceFrom(groupType, raw)
			g.Doc, g.Name = nil, text(raw, fName)
			groups = append(groups, g)
			return nil
		}, look().sort(d(fID, 1)).fields(only(fResource, fVersion, fCreated, fModified, fGrouped, fStamp, fName)).batch(inPortion+1))
		if err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// GetDeleted implements storage.Tx.
func (t *tx) GetDeleted(typ, id string) (w *storage.WholeResource, err error) {
	if err := t.await(id); err != nil {
		return nil, err
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) error {
		w, err = t.store.getDeleted(ctx, t.tenant, typ, id)
		return err
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = storage.ErrNotFound
	}
	return w, err
}

// FormerGroups implements storage.Tx. Whoever writes these groups meets whoever
// restores, which writes them too.
func (t *tx) FormerGroups(prev *storage.WholeResource) (groups []*storage.Resource, err error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) (err error) {
		groups, err = t.store.groupsOf(ctx, t.tenant, prev.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if err := t.above(g.Ref, g.ID); err != nil {
			return nil, err
		}
	}
	return groups, t.touchHidden(prev)
}

// touchHidden makes whoever writes a deleted resource at the same time meet this
// write. The error is storage.ErrConflict unless prev is what is stored.
func (t *tx) touchHidden(prev *storage.WholeResource) error {
	if err := t.flush(); err != nil {
		return err
	}
	t.writes = append(t.writes, prev.ID)
	matched := int64(0)
	err := t.do(func(ctx context.Context) error {
		r, err := t.store.db.Collection(resources).UpdateOne(ctx, t.hidden(prev), d("$inc", d(fLock, int64(1))))
		if err == nil {
			matched = r.MatchedCount
		}
		return err
	})
	if err == nil && matched == 0 {
		err = storage.ErrConflict
	}
	return err
}

// Restore implements storage.Tx. What is not taken for granted is asked first, as in
// Create.
func (t *tx) Restore(prev *storage.WholeResource, next *storage.Resource, memberships bool) error {
	x, err := t.index(next)
	if err != nil {
		return err
	}
	if err := t.touchHidden(prev); err != nil {
		return err
	}
	if t.careful {
		if err := t.free(next.Type, x.unique); err != nil {
			return err
		}
	}
	if err := t.follow(&prev.Resource); err != nil {
		return err
	}
	next.Ref = t.stamp
	for i := range x.unique {
		t.add(ofKeys, t.own(next.Type, x.keys[i], next.ID))
	}
	t.add(ofResources, change{filter: t.hidden(prev), update: d("$set", d(fType, next.Type, fVersion, next.Version, fModified, next.LastModified.UnixMilli(),
		fStamp, next.Ref, fName, next.Name, fKeys, x.keys, fUnique, len(x.unique), fShadow, x.shadow, fDoc, string(next.Doc)), "$unset", d(fDeleted, ""))})
	t.changed = true
	if err := t.flush(); err != nil {
		return err
	}
	if memberships {
		return t.moveGroups(next.ID, next.LastModified)
	}
	return t.do(func(ctx context.Context) error {
		_, err := t.store.db.Collection(rows).DeleteMany(ctx, d(fTenant, t.tenant, fKind, prev.ID))
		return err
	})
}

// Purge implements storage.Tx.
func (t *tx) Purge(prev *storage.WholeResource) (more bool, err error) {
	if err := t.touchHidden(prev); err != nil {
		return false, err
	}
	t.changed = true
	err = t.do(func(ctx context.Context) error {
		var members bson.A
		err := t.store.each(ctx, rows, within(t.tenant, rowsOf(t.tenant, prev.ID), ""), func(raw bson.Raw) error {
			members = append(members, text(raw, fID))
			return nil
		}, find(d(fID, 1), 0, storage.PurgedAtOnce).fields(only(fID)))
		if err != nil {
			return err
		}
		for portion := range slices.Chunk(members, inPortion) {
			if _, err := t.store.db.Collection(rows).DeleteMany(ctx, byIDs(t.tenant, portion)); err != nil {
				return err
			}
		}
		if more = len(members) == storage.PurgedAtOnce; more {
			return nil
		}
		if _, err := t.store.db.Collection(rows).DeleteMany(ctx, d(fTenant, t.tenant, fKind, prev.ID)); err != nil {
			return err
		}
		_, err = t.store.db.Collection(resources).DeleteOne(ctx, t.hidden(prev))
		return err
	})
	return more, err
}

// moveGroups gives the groups of a member that comes or goes the next version.
func (t *tx) moveGroups(member string, at time.Time) error {
	var groups bson.A
	return t.do(func(ctx context.Context) error {
		err := t.store.each(ctx, rows, d(fTenant, t.tenant, fKind, member), func(raw bson.Raw) error {
			groups = append(groups, key(t.tenant, text(raw, fGroup)))
			t.stamped = append(t.stamped, text(raw, fGroup))
			return nil
		}, look().fields(only(fGroup)))
		if err != nil {
			return err
		}
		for portion := range slices.Chunk(groups, inPortion) {
			_, err := t.store.db.Collection(resources).UpdateMany(ctx, append(byIDs(t.tenant, portion), bson.E{Key: fType, Value: groupType}),
				d("$inc", d(fVersion, int64(1)), "$max", d(fModified, at.UnixMilli(), fStamp, t.stamp)))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
