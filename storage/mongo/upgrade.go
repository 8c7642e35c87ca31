package mongo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// What was different in version 1: the hash of a password was a field of its user,
// and dateTimes in shadows were milliseconds. Up to version 2 no key was a manager.

// fPasswordV1 is that field.
const fPasswordV1 = "p"

// upgradedAtOnce is how many documents one portion of an upgrade changes.
const upgradedAtOnce = 250

// upgrade makes documents of this version out of all that are older. Any number of
// processes may do it at once, and again after one came to a sudden end: whatever
// has been done is passed over. A process that is through serves while others are
// not, so nothing is put back that has been changed since.
func (s *Store) upgrade(ctx context.Context) error {
	types := s.opt.Types
	if types == nil {
		var err error
		if types, err = schemas.Load(); err != nil {
			return err
		}
	}
	s.opt.Log.Info("the documents in the store are brought up to date", "schema_version", schemaVersion)
	list, err := s.ListTenants(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range list {
		if err := s.movePasswords(ctx, string(tenant.ID)); err != nil {
			return fmt.Errorf("move passwords: %w", err)
		}
		for _, t := range types.Types() {
			some := ofType(string(tenant.ID), t.Name)
			manager := storage.ManagerOf(t)
			switch {
			case storage.HasTimes(t):
			case manager != nil:
				some = append(some, bson.E{Key: fShadow + "." + strings.Join(storage.ShadowPath(manager, nil), "."), Value: d("$exists", true)})
			default:
				continue
			}
			if err := s.deriveAnew(ctx, tenant.ID, t, some); err != nil {
				return fmt.Errorf("derive anew what resources are searched by: %w", err)
			}
		}
	}
	return nil
}

// ofType selects the resources of a type, deleted ones too.
func ofType(tenant, typ string) bson.D {
	return d(fTenant, tenant, fType, d("$in", bson.A{typ, deletedType(typ)}))
}

// movePasswords makes items of the hashes of passwords.
func (s *Store) movePasswords(ctx context.Context, tenant string) error {
	var users bson.A
	move := func() error {
		err := s.moveSome(ctx, tenant, users)
		users = nil
		return err
	}
	err := s.each(ctx, resources, append(ofType(tenant, "User"), bson.E{Key: fPasswordV1, Value: d("$exists", true)}), func(raw bson.Raw) error {
		if users = append(users, text(raw, fID)); len(users) < upgradedAtOnce {
			return nil
		}
		return move()
	}, look().fields(only(fID)).batch(upgradedAtOnce))
	if err != nil || len(users) == 0 {
		return err
	}
	return move()
}

// moveSome moves the passwords of some users in one step, so that of two processes
// one finds that they have gone. A server without transactions does not do it in
// one, and has the items first: there is no moment without a password.
func (s *Store) moveSome(ctx context.Context, tenant string, users bson.A) error {
	return s.transact(ctx, func(ctx context.Context) (bool, error) {
		var made, emptied []mongo.WriteModel
		some := append(byIDs(tenant, users), bson.E{Key: fPasswordV1, Value: d("$exists", true)})
		err := s.each(ctx, resources, some, func(raw bson.Raw) error {
			hash, err := json.Marshal(text(raw, fPasswordV1))
			if err != nil {
				return err
			}
			i := &storage.Item{Kind: "credential", ID: text(raw, fResource), Version: 1, Data: append(append([]byte(`{"passwordHash":`), hash...), '}')}
			made = append(made, mongo.NewUpdateOneModel().SetFilter(itemByID(tenant, i.Kind, i.ID)).
				SetUpdate(d("$setOnInsert", append(d(fType, i.Kind, fResource, i.ID), itemFields(i)...))).SetUpsert(true))
			emptied = append(emptied, mongo.NewUpdateOneModel().SetFilter(byID(tenant, text(raw, fID))).SetUpdate(d("$unset", d(fPasswordV1, ""))))
			return nil
		}, look().fields(only(fResource, fPasswordV1)))
		if err != nil || len(made) == 0 {
			return true, err
		}
		if _, err := s.db.Collection(items).BulkWrite(ctx, made); err != nil {
			return true, taken(err)
		}
		_, err = s.db.Collection(resources).BulkWrite(ctx, emptied)
		return true, err
	})
}

// deriveAnew brings shadows and keys of some resources of a type into the form of this
// program. Unique keys have had one form ever since. Whoever
// writes a resource meanwhile is through with that, and gives it another version.
func (s *Store) deriveAnew(ctx context.Context, tenant storage.TenantID, t *schemas.ResourceType, some bson.D) error {
	var updates []mongo.WriteModel
	send := func() error {
		_, err := s.db.Collection(resources).BulkWrite(ctx, updates)
		updates = nil
		return err
	}
	err := s.each(ctx, resources, some, func(raw bson.Raw) error {
		attrs, err := t.Parse([]byte(text(raw, fDoc)))
		if err != nil { // no read of it succeeds either
			s.opt.Log.Error("a resource cannot be read, and is searched by what it was", "resource_type", t.Name, "id", text(raw, fResource))
			return nil //nolint:nilerr // it is logged, and the others go on
		}
		w := newShadow()
		x := newIndex(string(tenant), t, attrs, w)
		now, had := w.bytes(), texts(raw, fKeys)
		if !storage.HasTimes(t) { // a tenant may have added to it, which only its own type knows
			now = bson.Raw(raw.Lookup(fShadow).Value)
		}
		unique := min(int(number(raw, fUnique)), len(had))
		keys := slices.Concat(had[:unique], x.keys[len(x.unique):])
		if bytes.Equal(now, raw.Lookup(fShadow).Value) && slices.Equal(keys, had) {
			return nil
		}
		filter := append(byID(string(tenant), text(raw, fID)), bson.E{Key: fVersion, Value: number(raw, fVersion)})
		updates = append(updates, mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(d("$set", d(fShadow, now, fKeys, keys))))
		if len(updates) < upgradedAtOnce {
			return nil
		}
		return send()
	}, look().fields(only(fResource, fVersion, fDoc, fShadow, fKeys, fUnique)).batch(upgradedAtOnce))
	if err != nil || len(updates) == 0 {
		return err
	}
	return send()
}
