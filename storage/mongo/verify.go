package mongo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage"
)

// checkedAtOnce is how many documents a check compares at a time.
const checkedAtOnce = 500

// Check implements storage.Checker. It goes over the collections without a snapshot,
// which no server keeps for so long. What looks wrong is looked at again in a snapshot of
// its own: others may have written between two reads.
func (s *Store) Check(ctx context.Context, opt storage.CheckOptions) error {
	k := &check{store: s, opt: opt}
	tenants, err := s.tenantIDs(ctx)
	if err != nil {
		return explain(err)
	}
	for _, tenant := range tenants {
		for _, part := range []func(context.Context, string) error{k.resources, k.reserved, k.memberships, k.tokens, k.items} {
			if err := part(ctx, tenant); err != nil {
				return explain(err)
			}
		}
	}
	return nil
}

type check struct {
	store *Store
	opt   storage.CheckOptions
}

func flaw(kind storage.FlawKind, tenant, typ, id, what string) storage.Flaw {
	return storage.Flaw{Kind: kind, Tenant: storage.TenantID(tenant), Type: typ, ID: id, What: what}
}

// documents runs fn on the documents that a filter selects, in portions and in the order
// of their _ids. They are valid as long as anybody likes.
func (k *check) documents(ctx context.Context, collection string, filter bson.D, fn func([]bson.Raw) error, how *looking) error {
	var list []bson.Raw
	err := k.store.each(ctx, collection, filter, func(raw bson.Raw) error {
		if list = append(list, bytes.Clone(raw)); len(list) < checkedAtOnce {
			return nil
		}
		err := fn(list)
		list = list[:0]
		return err
	}, how.sort(d(fID, 1)).batch(checkedAtOnce))
	if err == nil && len(list) > 0 {
		err = fn(list)
	}
	return err
}

// portion compares documents, and those that seem to have a flaw once more, each as it is
// in a snapshot then.
func (k *check) portion(ctx context.Context, tenant, collection string, list []bson.Raw, compare func(context.Context, []bson.Raw) ([]storage.Flaw, []bson.Raw, error)) error {
	_, suspects, err := compare(ctx, list)
	if err != nil {
		return err
	}
	for _, raw := range suspects {
		var flaws []storage.Flaw
		err := k.store.snapshot(ctx, func(ctx context.Context) error {
			flaws = nil
			now, err := k.store.db.Collection(collection).FindOne(ctx, byID(tenant, text(raw, fID))).Raw()
			if errors.Is(err, mongo.ErrNoDocuments) {
				return nil
			}
			if err == nil {
				flaws, _, err = compare(ctx, []bson.Raw{now})
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, f := range flaws {
			k.opt.Found(f)
		}
	}
	return nil
}

func (k *check) resources(ctx context.Context, tenant string) error {
	return k.documents(ctx, resources, wholeOf(tenant), func(list []bson.Raw) error {
		for _, raw := range list {
			if text(raw, fType) != epochType {
				k.opt.Resource()
			}
		}
		return k.portion(ctx, tenant, resources, list, func(ctx context.Context, list []bson.Raw) ([]storage.Flaw, []bson.Raw, error) {
			return k.compare(ctx, tenant, list)
		})
	}, look())
}

// compare holds resources against their documents, and against the keys that are reserved.
func (k *check) compare(ctx context.Context, tenant string, list []bson.Raw) (flaws []storage.Flaw, suspects []bson.Raw, err error) {
	var ids bson.A
	for _, raw := range list {
		if typ, gone := liveType(text(raw, fType)); !gone {
			for _, u := range uniqueOf(raw) {
				ids = append(ids, key(tenant, typ, u))
			}
		}
	}
	owners, err := k.owners(ctx, tenant, ids)
	if err != nil {
		return nil, nil, err
	}
	set, err := k.opt.Types(storage.TenantID(tenant))
	if err != nil {
		return nil, nil, err
	}
	for _, raw := range list {
		typ, id, before := text(raw, fType), text(raw, fResource), len(flaws)
		if typ == epochType {
			continue
		}
		name, gone := liveType(typ)
		add := func(kind storage.FlawKind, what string) { flaws = append(flaws, flaw(kind, tenant, name, id, what)) }
		t := set.Type(name)
		if t == nil {
			add(storage.FlawDocument, "there is no such resource type")
			suspects = append(suspects, raw)
			continue
		}
		attrs, err := t.Parse([]byte(text(raw, fDoc)))
		switch {
		case err != nil || attrs["id"] != id || text(raw, fID) != key(tenant, id):
			add(storage.FlawDocument, "the document cannot be read, or is another one's")
		case !gone:
			if text(raw, fName) != storage.NameOf(attrs) {
				add(storage.FlawIndex, "it is called something else than its document says")
			}
			if k.opt.Searchable(storage.TenantID(tenant), t) {
				w := newShadow()
				x := newIndex(tenant, t, attrs, w)
				if !slices.Equal(x.keys, texts(raw, fKeys)) || len(x.unique) != len(uniqueOf(raw)) {
					add(storage.FlawIndex, "its keys are not those of its document")
				}
				if shadow, _ := raw.Lookup(fShadow).DocumentOK(); !bytes.Equal(w.bytes(), shadow) {
					add(storage.FlawIndex, "it is searched by something else than its document says")
				}
			}
			for _, u := range uniqueOf(raw) {
				f, err := k.reservedFor(ctx, tenant, typ, id, u, owners)
				if err != nil {
					return nil, nil, err
				}
				if f != nil {
					flaws = append(flaws, *f)
				}
			}
		}
		if len(flaws) > before {
			suspects = append(suspects, raw)
		}
	}
	return flaws, suspects, nil
}

// owners returns who has unique keys, by their _ids.
func (k *check) owners(ctx context.Context, tenant string, ids bson.A) (map[string]string, error) {
	owners := make(map[string]string, len(ids))
	for portion := range slices.Chunk(ids, inPortion) {
		err := k.store.each(ctx, keys, byIDs(tenant, portion), func(raw bson.Raw) error {
			owners[text(raw, fID)] = text(raw, fOwner)
			return nil
		}, look().batch(inPortion+1))
		if err != nil {
			return nil, err
		}
	}
	return owners, nil
}

// reservedFor reports what is wrong with a unique key of a resource.
func (k *check) reservedFor(ctx context.Context, tenant, typ, id, u string, owners map[string]string) (*storage.Flaw, error) {
	owner, there := owners[key(tenant, typ, u)]
	f := flaw(storage.FlawUnique, tenant, typ, id, "a unique value of it is not reserved")
	switch {
	case owner == id:
		return nil, nil
	case there:
		f.What = "a unique value of it is reserved for what has it not"
		raw, err := k.store.db.Collection(resources).FindOne(ctx, liveByID(tenant, owner, typ), options.FindOne().SetProjection(only(fKeys, fUnique))).Raw()
		if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
			return nil, err
		}
		if err == nil && slices.Contains(uniqueOf(raw), u) {
			f.Kind, f.What = storage.FlawDuplicate, "it has a unique value that "+owner+" has, too"
		}
	}
	return &f, nil
}

// reserved looks for keys that nobody has.
func (k *check) reserved(ctx context.Context, tenant string) error {
	compare := func(ctx context.Context, list []bson.Raw) (flaws []storage.Flaw, suspects []bson.Raw, err error) {
		ids := make(bson.A, 0, len(list))
		for _, raw := range list {
			ids = append(ids, key(tenant, text(raw, fOwner)))
		}
		has := map[string]bool{}
		err = k.store.each(ctx, resources, byIDs(tenant, ids), func(raw bson.Raw) error {
			for _, u := range uniqueOf(raw) {
				has[key(tenant, text(raw, fType), u)+"\x00"+text(raw, fResource)] = true
			}
			return nil
		}, look().fields(only(fResource, fType, fKeys, fUnique)).batch(inPortion))
		if err != nil {
			return nil, nil, err
		}
		for _, raw := range list {
			if !has[text(raw, fID)+"\x00"+text(raw, fOwner)] {
				flaws = append(flaws, flaw(storage.FlawUnique, tenant, "resource", text(raw, fOwner), "a unique value is reserved for it that it has not"))
				suspects = append(suspects, raw)
			}
		}
		return flaws, suspects, nil
	}
	names := clientName(tenant, "")
	return k.documents(ctx, keys, wholeOf(tenant), func(list []bson.Raw) error {
		list = slices.DeleteFunc(slices.Clone(list), func(raw bson.Raw) bool { return strings.HasPrefix(text(raw, fID), names) })
		return k.portion(ctx, tenant, keys, list, compare)
	}, look())
}

func (k *check) memberships(ctx context.Context, tenant string) error {
	compare := func(ctx context.Context, list []bson.Raw) (flaws []storage.Flaw, suspects []bson.Raw, err error) {
		var ids []string
		for _, raw := range list {
			ids = append(ids, text(raw, fGroup), text(raw, fKind))
		}
		info, err := k.store.infos(ctx, tenant, d("$in", slices.Concat(memberTypes, deletedMemberTypes)), distinct(ids))
		if err != nil {
			return nil, nil, err
		}
		for _, raw := range list {
			group, member := text(raw, fGroup), text(raw, fKind)
			var what string
			switch typ, _ := liveType(info[group].typ); {
			case typ != groupType:
				what = "the group of the member " + member + " is not there"
			case info[member].typ == "":
				what = "its member " + member + " is not there"
			case text(raw, fID) != rowsOf(tenant, group)+member:
				what = "its member " + member + " is another one"
			default:
				continue
			}
			flaws = append(flaws, flaw(storage.FlawOrphan, tenant, groupType, group, what))
			suspects = append(suspects, raw)
		}
		return flaws, suspects, nil
	}
	return k.documents(ctx, rows, within(tenant, key(tenant, "m", ""), ""), func(list []bson.Raw) error {
		return k.portion(ctx, tenant, rows, list, compare)
	}, look())
}

func (k *check) tokens(ctx context.Context, tenant string) error {
	return k.store.each(ctx, tokens, d(fTenant, tenant), func(raw bson.Raw) error {
		err := k.store.db.Collection(clients).FindOne(ctx, byID(tenant, key(tenant, text(raw, fClient))), options.FindOne().SetProjection(only(fID))).Err()
		if errors.Is(err, mongo.ErrNoDocuments) { // clients are revoked, and never removed
			k.opt.Found(flaw(storage.FlawOrphan, tenant, "token", text(raw, fID), "its client is not there"))
			return nil
		}
		return err
	}, look().sort(d(fClient, 1, fID, 1)))
}

func (k *check) items(ctx context.Context, tenant string) error {
	p := storage.ItemPortions{Give: k.opt.Item}
	err := k.documents(ctx, items, wholeOf(tenant), func(list []bson.Raw) error {
		for _, raw := range list {
			if isMark(raw) {
				continue
			}
			i := itemFrom(raw)
			if text(raw, fID) != key(tenant, i.Kind, i.ID) || !slices.Contains(texts(raw, fFound), foundBy(i.Kind, "")) {
				k.opt.Found(flaw(storage.FlawIndex, tenant, i.Kind, i.ID, "it is not found by its kind and id"))
			}
			if err := p.Add(storage.TenantID(tenant), i); err != nil {
				return err
			}
		}
		return nil
	}, look())
	if err != nil {
		return err
	}
	return p.End()
}
