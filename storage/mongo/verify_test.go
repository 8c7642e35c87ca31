package mongo

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestCheckFinds: each kind of damage is found, and is called what it is.
func TestCheckFinds(t *testing.T) {
	types, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	server := mongotest.Start(t)
	tenant := string(storage.DefaultTenant)
	id := func(n int) string { return newUser(&Store{}, n, "x").ID }
	user := func(n int) bson.D { return byID(tenant, key(tenant, id(n))) }
	change := func(collection string, filter bson.D, update bson.D) func(context.Context, *mongo.Database) error {
		return func(ctx context.Context, db *mongo.Database) error {
			r, err := db.Collection(collection).UpdateOne(ctx, filter, update)
			if err == nil && r.ModifiedCount != 1 {
				err = errors.New("nothing was damaged")
			}
			return err
		}
	}
	insert := func(collection string, doc bson.D) func(context.Context, *mongo.Database) error {
		return func(ctx context.Context, db *mongo.Database) error {
			_, err := db.Collection(collection).InsertOne(ctx, doc)
			return err
		}
	}
	remove := func(collection string, filter bson.D) func(context.Context, *mongo.Database) error {
		return func(ctx context.Context, db *mongo.Database) error {
			r, err := db.Collection(collection).DeleteOne(ctx, filter)
			if err == nil && r.DeletedCount != 1 {
				err = errors.New("nothing was damaged")
			}
			return err
		}
	}
	name := func(s string) bson.D { return byID(tenant, key(tenant, "User", "userName="+s)) }
	for title, test := range map[string]struct {
		damage func(context.Context, *mongo.Database) error
		want   []storage.FlawKind
	}{
		"nothing":                         {func(context.Context, *mongo.Database) error { return nil }, nil},
		"a document that cannot be read":  {change(resources, user(1), d("$set", d(fDoc, "x"))), []storage.FlawKind{storage.FlawDocument}},
		"an unknown type":                 {change(resources, user(1), d("$set", d(fType, "Thing"))), []storage.FlawKind{storage.FlawDocument, storage.FlawOrphan, storage.FlawUnique}},
		"a shadow":                        {change(resources, user(1), d("$set", d(fShadow, d("title", "y")))), []storage.FlawKind{storage.FlawIndex}},
		"a name":                          {change(resources, user(1), d("$set", d(fName, "y"))), []storage.FlawKind{storage.FlawIndex}},
		"keys":                            {change(resources, user(1), d("$set", d(fKeys, bson.A{"userName=other"}))), []storage.FlawKind{storage.FlawIndex, storage.FlawUnique}},
		"a unique key that is missing":    {remove(keys, name("ana")), []storage.FlawKind{storage.FlawUnique}},
		"a unique key of another":         {change(keys, name("ana"), d("$set", d(fOwner, id(2)))), []storage.FlawKind{storage.FlawUnique}},
		"a unique key of nobody":          {insert(keys, append(name("zoe"), bson.E{Key: fOwner, Value: id(9)})), []storage.FlawKind{storage.FlawUnique}},
		"a membership without its member": {remove(resources, user(3)), []storage.FlawKind{storage.FlawOrphan}},
		"a membership without its group":  {insert(rows, append(byID(tenant, rowsOf(tenant, id(9))+id(1)), d(fKind, id(1), fGroup, id(9))...)), []storage.FlawKind{storage.FlawOrphan}},
		"a membership in a user":          {insert(rows, append(byID(tenant, rowsOf(tenant, id(2))+id(1)), d(fKind, id(1), fGroup, id(2))...)), []storage.FlawKind{storage.FlawOrphan}},
		"a token without its client":      {remove(clients, byID(tenant, key(tenant, "c1"))), []storage.FlawKind{storage.FlawOrphan}},
		"an item that is not found":       {change(items, itemByID(tenant, "note", "1"), d("$set", d(fFound, bson.A{"note/a"}))), []storage.FlawKind{storage.FlawIndex}},
		"two users of one name": {func(ctx context.Context, db *mongo.Database) error {
			var other bson.D
			if err := db.Collection(resources).FindOne(ctx, user(1)).Decode(&other); err != nil {
				return err
			}
			twin := newUser(&Store{}, 2, "ana")
			x := twin.Index.(*index)
			return change(resources, user(2), d("$set", d(fName, "ana", fKeys, x.keys, fShadow, x.shadow, fDoc, string(twin.Doc))))(ctx, db)
		}, []storage.FlawKind{storage.FlawDuplicate, storage.FlawUnique}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := open(t, server.URI(server.NewDatabase(t)), Options{})
			gone := newUser(s, 3, "gone")
			group := newUser(s, 6, "")
			group.Type, group.Name = "Group", "all"
			attrs := map[string]any{"id": group.ID, "displayName": "all"}
			group.Doc, group.Index = types.Type("Group").Document(attrs), s.NewIndex(storage.DefaultTenant, types.Type("Group"), attrs)
			for _, r := range []*storage.Resource{newUser(s, 1, "ana"), newUser(s, 2, "bob"), gone, group} {
				if err := create(t.Context(), s, r); err != nil {
					t.Fatal(err)
				}
			}
			at := gone.Created
			err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
				_, err := tx.AddMembers(group, []storage.Member{{Value: id(1)}, {Value: id(3)}})
				return errors.Join(err,
					tx.CreateClient(&storage.Client{ID: "c1", Name: "idp", Scopes: []string{}, Created: at}),
					tx.CreateToken(&storage.Token{ID: "k1", Client: "c1", Hash: []byte("x"), Created: at, Expires: at}),
					tx.PutItem(nil, &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Data: []byte("1")}),
					tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "test"}))
			})
			if err == nil {
				err = s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					return errors.Join(tx.Delete(gone, at), tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: "test"}))
				})
			}
			if err == nil {
				err = test.damage(t.Context(), s.db)
			}
			if err != nil {
				t.Fatal(err)
			}
			var list []storage.Flaw
			var kinds []storage.FlawKind
			n := 0
			err = s.Check(t.Context(), storage.CheckOptions{
				Types:      func(storage.TenantID) (*schemas.Set, error) { return types, nil },
				Searchable: func(storage.TenantID, *schemas.ResourceType) bool { return true },
				Found:      func(f storage.Flaw) { list, kinds = append(list, f), append(kinds, f.Kind) },
				Item:       func(_ storage.TenantID, some []*storage.Item) error { n += len(some); return nil },
				Resource:   func() {},
			})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(kinds)
			if got := slices.Compact(kinds); !slices.Equal(got, test.want) || n != 1 {
				t.Errorf("found %v in %d items, want flaws of the kinds %v", list, n, test.want)
			}
		})
	}
}

// TestAsIs: who only reads makes no store, and leaves one of an older version as it is.
func TestAsIs(t *testing.T) {
	server := mongotest.Start(t)
	uri := server.URI(server.NewDatabase(t))
	refused := func(want error) {
		t.Helper()
		s, err := Open(t.Context(), uri, Options{AsIs: true, Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if err == nil {
			s.Close()
		}
	}
	refused(storage.ErrNoStore)
	refused(storage.ErrNoStore) // the first has made none
	s := open(t, uri, Options{})
	refused(nil)
	for _, set := range []bson.D{d(fSchema, int64(schemaVersion-1)), d(fSchema, int64(schemaVersion), fOldest, int64(1))} {
		if _, err := s.db.Collection(meta).UpdateOne(t.Context(), d(fID, "schema"), d("$set", set)); err != nil {
			t.Fatal(err)
		}
		refused(storage.ErrOtherVersion)
		if raw, err := s.db.Collection(meta).FindOne(t.Context(), d(fID, "schema")).Raw(); err != nil || number(raw, fSchema) != set[0].Value {
			t.Errorf("the store is %v, %v; want version %d as before", raw, err, set[0].Value)
		}
	}
}
