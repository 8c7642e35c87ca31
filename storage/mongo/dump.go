package mongo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage"
)

// Dump implements storage.Dumper: one snapshot, read collection by collection in
// the order of the _ids. The server keeps a snapshot for five minutes unless told
// otherwise (minSnapshotHistoryWindowInSeconds); a dump that takes longer fails.
// On a server without transactions every read sees what is there by then.
func (s *Store) Dump(ctx context.Context, tenant storage.TenantID) iter.Seq2[storage.Record, error] {
	return s.records(ctx, func(context.Context) ([]string, error) { return []string{string(tenant)}, nil })
}

// DumpAll implements storage.Dumper, as Dump does.
func (s *Store) DumpAll(ctx context.Context) iter.Seq2[storage.Record, error] {
	return s.records(ctx, s.tenantIDs)
}

func (s *Store) tenantIDs(ctx context.Context) (ids []string, err error) {
	err = s.each(ctx, tenants, bson.D{}, func(raw bson.Raw) error {
		ids = append(ids, text(raw, fID))
		return nil
	}, look().sort(d(fID, 1)).fields(only(fID)))
	return ids, err
}

// records yields the tenants that which names.
func (s *Store) records(ctx context.Context, which func(context.Context) ([]string, error)) iter.Seq2[storage.Record, error] {
	return storage.Records(func(give func(storage.Record) error) error {
		err := s.dump(ctx, which, func(r storage.Record) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return give(r)
		})
		if hasCode(err, codeSnapshotTooOld) {
			err = fmt.Errorf("the dump took longer than the server keeps a moment; raise its minSnapshotHistoryWindowInSeconds: %w", err)
		}
		return explain(err)
	})
}

func (s *Store) dump(ctx context.Context, which func(context.Context) ([]string, error), give func(storage.Record) error) error {
	// Entries get their numbers before the snapshot, those that come until it is
	// made get them in the dump.
	before, err := which(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range before {
		if err := s.numberAll(ctx, tenant); err != nil {
			return err
		}
	}
	return s.inSnapshot(ctx, func(ctx context.Context) error {
		tenants, err := which(ctx)
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			for _, part := range []func(context.Context, string, func(storage.Record) error) error{
				s.dumpTenant, s.dumpSchemas, s.dumpClients, s.dumpTokens, s.dumpResources, s.dumpMembers, s.dumpItems, s.dumpAudit,
			} {
				if err := part(ctx, tenant, give); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// numberAll gives all waiting entries their numbers.
func (s *Store) numberAll(ctx context.Context, tenant string) error {
	for {
		if n, err := s.number(ctx, tenant); err != nil || n == 0 {
			return err
		}
	}
}

func (s *Store) dumpTenant(ctx context.Context, tenant string, give func(storage.Record) error) error {
	raw, err := s.db.Collection(tenants).FindOne(ctx, d(fID, tenant)).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return storage.ErrNotFound
	}
	if err != nil {
		return err
	}
	return give(storage.Record{Tenant: &storage.Tenant{ID: storage.TenantID(tenant), Name: text(raw, fName), Created: moment(raw, fCreated)}})
}

// wholeOf selects the documents of a tenant in a collection whose _ids are
// tenant/id.
func wholeOf(tenant string) bson.D { return within(tenant, key(tenant, ""), "") }

func (s *Store) dumpClients(ctx context.Context, tenant string, give func(storage.Record) error) error {
	return s.each(ctx, clients, wholeOf(tenant), func(raw bson.Raw) error {
		if isMark(raw) {
			return nil
		}
		return give(storage.Record{Client: clientFrom(raw)})
	}, look().sort(d(fID, 1)))
}

func (s *Store) dumpTokens(ctx context.Context, tenant string, give func(storage.Record) error) error {
	return s.each(ctx, tokens, d(fTenant, tenant), func(raw bson.Raw) error {
		return give(storage.Record{Token: tokenFrom(raw)})
	}, look().sort(d(fClient, 1, fID, 1)))
}

func (s *Store) dumpResources(ctx context.Context, tenant string, give func(storage.Record) error) error {
	return s.each(ctx, resources, wholeOf(tenant), func(raw bson.Raw) error {
		if text(raw, fType) == epochType {
			return nil
		}
		typ, _ := liveType(text(raw, fType))
		return give(storage.Record{Resource: &storage.WholeResource{
			Resource: storage.Resource{Type: typ, ID: text(raw, fResource), Version: number(raw, fVersion),
				Created: moment(raw, fCreated), LastModified: moment(raw, fModified), Doc: []byte(text(raw, fDoc))},
			Deleted: moment(raw, fDeleted),
		}})
	}, look().sort(d(fID, 1)).fields(only(fType, fResource, fVersion, fCreated, fModified, fDoc, fDeleted)))
}

func (s *Store) dumpMembers(ctx context.Context, tenant string, give func(storage.Record) error) error {
	p := storage.Portions{Give: give}
	err := s.each(ctx, rows, within(tenant, key(tenant, "m", ""), ""), func(raw bson.Raw) error {
		return p.Add(text(raw, fGroup), storage.Member{Value: text(raw, fKind), Display: text(raw, fDisplay)})
	}, look().sort(d(fID, 1)).fields(only(fKind, fGroup, fDisplay)))
	if err != nil {
		return err
	}
	return p.End()
}

func (s *Store) dumpAudit(ctx context.Context, tenant string, give func(storage.Record) error) error {
	var last int64
	err := s.each(ctx, rows, d(fTenant, tenant, fKind, numbered), func(raw bson.Raw) error {
		e := entryFrom(raw)
		last = e.Seq
		return give(storage.Record{Audit: &e})
	}, look().sort(d(fNumber, 1)))
	if err != nil {
		return err
	}
	return s.each(ctx, rows, d(fTenant, tenant, fKind, waiting), func(raw bson.Raw) error {
		e := entryFrom(raw)
		last++
		e.Seq = last
		return give(storage.Record{Audit: &e})
	}, look().sort(d(fNumber, 1, fID, 1)))
}

// The mark of a load is among the clients of the tenant, so that whoever looks for
// the client of a token finds it on the way, and that there is one among the items,
// for those who write there. No client and no item has its _id.
func markID(tenant string) string { return key(tenant, "!load", "") }

func isMark(raw bson.Raw) bool { return text(raw, fLoad) != "" }

func markFields(m *storage.LoadMark) bson.D {
	return d(fLoad, m.Dump, fNumber, m.Records, fHash, bson.Binary{Data: m.Digest})
}

func markFrom(raw bson.Raw) *storage.LoadMark {
	return &storage.LoadMark{Dump: text(raw, fLoad), Records: number(raw, fNumber), Digest: data(raw, fHash)}
}

// LoadMark implements storage.Loader.
func (s *Store) LoadMark(ctx context.Context, tenant storage.TenantID) (*storage.LoadMark, error) {
	raw, err := s.db.Collection(clients).FindOne(ctx, byID(string(tenant), markID(string(tenant)))).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	return markFrom(raw), nil
}

// exists reports whether a collection has what a filter selects.
func (t *tx) exists(collection string, filter bson.D) (bool, error) {
	err := t.do(func(ctx context.Context) error {
		return t.store.db.Collection(collection).FindOne(ctx, filter, options.FindOne().SetProjection(only(fID))).Err()
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	return err == nil, err
}

// meet makes the beginning of a load and a change of clients conflict when they
// come at the same time: both write to the tenant's counter.
func (t *tx) meet() error {
	return t.meeting("!load", func(ctx context.Context) error {
		_, err := t.store.db.Collection(counters).UpdateOne(ctx, d(fID, t.tenant), d("$inc", d(fLast, int64(0), fMeeting, int64(1))), options.UpdateOne().SetUpsert(true))
		return taken(err)
	})
}

// usable fails with ErrLoading while the tenant is being loaded.
func (t *tx) usable() error {
	if err := t.meet(); err != nil {
		return err
	}
	loading, err := t.exists(clients, byID(t.tenant, markID(t.tenant)))
	if err == nil && loading {
		err = storage.ErrLoading
	}
	return err
}

// SetLoad implements storage.Tx.
func (t *tx) SetLoad(prev, next *storage.LoadMark) error {
	if prev == nil && next == nil {
		return errors.New("a load that has not begun cannot be completed")
	}
	if err := t.flush(); err != nil {
		return err
	}
	mark := byID(t.tenant, markID(t.tenant))
	if prev == nil {
		return t.beginLoad(append(mark, markFields(next)...))
	}
	filter := slices.Concat(mark, markFields(prev))
	var n int64
	err := t.do(func(ctx context.Context) error {
		c := t.store.db.Collection(clients)
		if next == nil {
			r, err := c.DeleteOne(ctx, filter)
			if err == nil && r.DeletedCount > 0 {
				n = r.DeletedCount
				if _, err = t.store.db.Collection(items).DeleteOne(ctx, mark); err == nil {
					err = t.advance(ctx)
				}
			}
			return err
		}
		r, err := c.UpdateOne(ctx, filter, d("$set", markFields(next)))
		if err == nil {
			n = r.MatchedCount
		}
		return err
	})
	if err == nil && n == 0 {
		err = storage.ErrConflict
	}
	t.changed = t.changed || err == nil && next == nil
	return err
}

func (t *tx) beginLoad(mark bson.D) error {
	if err := t.meet(); err != nil {
		return err
	}
	if there, err := t.exists(clients, mark[:2]); err != nil || there {
		if err == nil {
			err = storage.ErrConflict
		}
		return err
	}
	for _, collection := range []string{resources, clients, rows} {
		there, err := t.exists(collection, d(fTenant, t.tenant))
		if err == nil && there {
			err = storage.ErrNotEmpty
		}
		if err != nil {
			return err
		}
	}
	if err := t.insert(items, append(mark[:2:2], bson.E{Key: fLoad, Value: mark[2].Value})); err != nil {
		return err
	}
	return t.insert(clients, mark)
}

// Load implements storage.Tx. Resources are collected as in Create; of everything
// else it is asked first, which is a question or two for each portion of members.
func (t *tx) Load(r *storage.Record) error {
	if !t.loading {
		loading, err := t.exists(clients, byID(t.tenant, markID(t.tenant)))
		if err != nil {
			return err
		}
		if !loading {
			return errors.New("no load of this tenant has begun")
		}
		t.loading = true
	}
	switch {
	case r.Tenant != nil:
		return t.do(func(ctx context.Context) error {
			_, err := t.store.db.Collection(tenants).UpdateOne(ctx, d(fID, t.tenant),
				d("$set", d(fName, r.Tenant.Name, fCreated, millis(r.Tenant.Created))), options.UpdateOne().SetUpsert(true))
			return taken(err)
		})
	case r.Client != nil:
		return t.loadClient(r.Client)
	case r.Token != nil:
		return t.loadToken(r.Token)
	case r.Resource != nil:
		return t.loadResource(r.Resource)
	case r.Members != nil:
		return t.loadMembers(r.Members)
	case r.Item != nil:
		return t.loadItem(r.Item)
	case r.Audit != nil:
		return t.loadAudit(r.Audit)
	}
	return errors.New("an empty record")
}

// absent is for what must not be there yet.
func (t *tx) absent(collection string, filter bson.D, attr string) error {
	there, err := t.exists(collection, filter)
	if err == nil && there {
		err = &storage.UniqueError{Attr: attr}
	}
	return err
}

func (t *tx) insert(collection string, doc bson.D) error {
	return t.do(func(ctx context.Context) error {
		_, err := t.store.db.Collection(collection).InsertOne(ctx, doc)
		return taken(err)
	})
}

func (t *tx) loadClient(c *storage.Client) error {
	if err := t.absent(clients, byID(t.tenant, key(t.tenant, c.ID)), "id"); err != nil {
		return err
	}
	if c.Revoked.IsZero() {
		if err := t.takeName(c.ID, c.Name); err != nil {
			return err
		}
	}
	return t.insert(clients, clientDocument(t.tenant, c))
}

func (t *tx) loadToken(k *storage.Token) error {
	known, err := t.exists(clients, byID(t.tenant, key(t.tenant, k.Client)))
	if err == nil && !known {
		err = storage.ErrNotFound
	}
	if err != nil {
		return err
	}
	if err := t.absent(tokens, d(fID, k.ID), "id"); err != nil {
		return err
	}
	return t.insert(tokens, tokenDocument(t.tenant, k))
}

func (t *tx) loadResource(w *storage.WholeResource) error {
	x, err := t.index(&w.Resource)
	if err != nil {
		return err
	}
	live := w.Deleted.IsZero()
	if t.careful {
		if err := t.flush(); err != nil {
			return err
		}
		if err := t.absent(resources, byID(t.tenant, key(t.tenant, w.ID)), "id"); err != nil {
			return err
		}
		if live {
			if err := t.free(w.Type, x.unique); err != nil {
				return err
			}
		}
	}
	doc := resourceDocument(t.tenant, &w.Resource, x)
	if live {
		for i := range x.unique {
			t.add(ofKeys, t.own(w.Type, x.keys[i], w.ID))
		}
	} else {
		for i := range doc {
			if doc[i].Key == fType {
				doc[i].Value = deletedType(w.Type)
			}
		}
		doc = append(doc, bson.E{Key: fDeleted, Value: millis(w.Deleted)})
	}
	t.add(ofResources, change{insert: doc})
	return t.guess()
}

func (t *tx) loadMembers(l *storage.GroupMembers) error {
	group := &storage.Resource{Type: groupType, ID: l.Group}
	if err := t.flush(); err != nil {
		return err
	}
	known, err := t.exists(resources, liveByID(t.tenant, l.Group, d("$in", bson.A{groupType, deletedType(groupType)})))
	if err == nil && !known {
		err = storage.ErrNotFound
	}
	if err != nil {
		return err
	}
	ids := storage.MemberIDs(l.Members)
	if len(distinct(ids)) < len(ids) {
		return &storage.UniqueError{Attr: "members.value"}
	}
	if t.careful {
		there, err := t.rowsAmong(group, ids)
		if err == nil && len(there) > 0 {
			err = &storage.UniqueError{Attr: "members.value"}
		}
		if err != nil {
			return err
		}
	}
	var info map[string]resourceInfo
	err = t.do(func(ctx context.Context) (err error) {
		if info, err = t.store.infos(ctx, t.tenant, d("$in", slices.Concat(memberTypes, deletedMemberTypes)), ids); err != nil {
			return err
		}
		// Who is in a group is marked as one who is; see member.
		_, err = t.store.db.Collection(resources).UpdateMany(ctx, byIDs(t.tenant, prefixed(key(t.tenant, ""), ids)), d("$set", d(fGrouped, true)))
		return err
	})
	if err != nil {
		return err
	}
	for i, m := range l.Members {
		if info[m.Value].typ == "" {
			return &storage.UnknownMemberError{Index: i}
		}
		t.add(ofRows, t.row(group, m))
	}
	return t.guess()
}

// loadAudit stores an entry with its number. The counter follows when all that was
// collected is sent.
func (t *tx) loadAudit(e *storage.AuditEntry) error {
	if t.lastNumber == 0 {
		err := t.do(func(ctx context.Context) error {
			raw, err := t.store.db.Collection(counters).FindOne(ctx, d(fID, t.tenant)).Raw()
			t.lastNumber = number(raw, fLast)
			return err
		})
		if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
			return err
		}
	}
	if e.Seq <= t.lastNumber {
		return &storage.UniqueError{Attr: "seq"}
	}
	t.lastNumber, t.counts = e.Seq, true
	t.add(ofRows, change{insert: entryDocument(t.tenant, fmt.Sprintf("%016x/loaded", e.Seq), numbered, e.Seq, e)})
	return t.guess()
}

// count moves the tenant's counter to the last number that was loaded.
func (t *tx) count() error {
	if !t.counts {
		return nil
	}
	t.counts = false
	return t.do(func(ctx context.Context) error {
		_, err := t.store.db.Collection(counters).UpdateOne(ctx, d(fID, t.tenant), d("$max", d(fLast, t.lastNumber)), options.UpdateOne().SetUpsert(true))
		return taken(err)
	})
}
