package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestTamperingMongo changes documents of a trail that two processes wrote at the
// same time: with a checkpoint of it, each change is found. The number of an entry
// is no part of its hash here, because it is given later.
func TestTamperingMongo(t *testing.T) {
	raced.Skip(t)
	double := mongotest.StartDouble(t, mongotest.Config{})
	var stores []*mongo.Store
	for range 2 {
		s, err := mongo.Open(t.Context(), double.URI("roster"), mongo.Options{Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { closed(t, s) }()
		stores = append(stores, s)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				err := stores[w%2].Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
					return tx.Audit(sample(w*20 + i))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s := stores[0]
	vouched := checkpoints(t, s, filepath.Join(t.TempDir(), "c"))
	whole := verified(t, s, vouched...)
	if !whole.OK() || whole.Entries != 161 || whole.Vouched != 160 || whole.Chains < 2 {
		t.Fatalf("before any tampering: %+v", whole)
	}
	client, err := driver.Connect(options.Client().ApplyURI(double.URI("roster")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	rows := client.Database("roster").Collection("rows")
	var kept []bson.D
	cursor, err := rows.Find(t.Context(), bson.D{{Key: "k", Value: "#"}}, options.Find().SetSort(bson.D{{Key: "q", Value: 1}}))
	if err == nil {
		err = cursor.All(t.Context(), &kept)
	}
	if err != nil || len(kept) != 161 {
		t.Fatal(len(kept), err)
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	id := func(doc bson.D) bson.D { return bson.D{{Key: "_id", Value: doc[0].Value}} }
	r := rand.New(rand.NewPCG(3, 3))
	kinds := []struct {
		name string
		do   func(doc bson.D) string
	}{
		{"edit", func(doc bson.D) string {
			// Of the right type: what is of another one is read as if it were not there.
			field := []string{"at", "hn", "v", "a", "c", "r", "y", "id", "f", "lv", "hc", "ch", "hs", "l"}[r.IntN(14)]
			var value any = "x"
			switch field {
			case "at", "hn", "v":
				value = int64(1 << 30)
			case "ch", "hs":
				value = bson.Binary{Data: []byte{7}}
			case "l":
				value = bson.A{"x"}
			}
			must(rows.UpdateOne(t.Context(), id(doc), bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: value}}}}))
			return fmt.Sprint(field, " as ", value)
		}},
		{"delete", func(doc bson.D) string { must(rows.DeleteOne(t.Context(), id(doc))); return "" }},
		{"insert a copy", func(doc bson.D) string {
			c := slices.Clone(doc)
			c[0].Value = fmt.Sprint(c[0].Value, "x")
			for i := range c {
				if c[i].Key == "q" {
					c[i].Value = []int64{0, 500}[r.IntN(2)]
				}
			}
			must(rows.InsertOne(t.Context(), c))
			return ""
		}},
		{"insert one of no chain", func(bson.D) string {
			must(rows.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "default/a/x"}, {Key: "t", Value: "default"}, {Key: "k", Value: "w"}, {Key: "q", Value: int64(1)},
				{Key: "at", Value: int64(5)}, {Key: "a", Value: "operator"}, {Key: "c", Value: "x"}}))
			return ""
		}},
		{"delete a chain", func(doc bson.D) string {
			for _, e := range doc {
				if e.Key == "hc" {
					must(rows.DeleteMany(t.Context(), bson.D{{Key: "hc", Value: e.Value}}))
				}
			}
			return ""
		}},
		{"truncate", func(bson.D) string {
			from := 1 + r.IntN(160)
			must(rows.DeleteMany(t.Context(), bson.D{{Key: "q", Value: bson.D{{Key: "$gte", Value: from}}}}))
			return fmt.Sprint("from ", from)
		}},
		{"insert a chain of its own", func(bson.D) string {
			e := storage.AuditEntry{At: time.UnixMilli(5), Actor: "operator", Action: "x", Chain: storage.NewChain(false), N: 1}
			must(rows.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "default/a/x"}, {Key: "t", Value: "default"}, {Key: "k", Value: "#"}, {Key: "q", Value: int64(0)},
				{Key: "at", Value: int64(5)}, {Key: "a", Value: "operator"}, {Key: "c", Value: "x"}, {Key: "hc", Value: e.Chain}, {Key: "hn", Value: e.N}, {Key: "hs", Value: bson.Binary{Data: e.Sum(nil)}}}))
			return ""
		}},
	}
	for i := range 140 {
		kind := kinds[i%len(kinds)]
		doc := kept[r.IntN(160)]
		what := kind.do(doc)
		if r := verified(t, s, vouched...); r.OK() {
			t.Errorf("%s %s: nothing found", kind.name, what)
		}
		must(rows.DeleteMany(t.Context(), bson.D{{Key: "k", Value: bson.D{{Key: "$in", Value: bson.A{"#", "w"}}}}}))
		docs := make([]any, len(kept))
		for i := range kept {
			docs[i] = kept[i]
		}
		must(rows.InsertMany(t.Context(), docs))
	}
	if r := verified(t, s, vouched...); !r.OK() {
		t.Errorf("after all: %+v", r)
	}
}
