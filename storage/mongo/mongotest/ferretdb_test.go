package mongotest_test

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage/mongo/mongotest"
)

func TestFerretDB(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN: FerretDB, which takes a while to build; leave -short out to run it")
	}
	s := mongotest.StartFerretDB(t)
	c := collection(t, s, `{"_id": "a", "name": "x", "v": 1}`, `{"_id": "b", "name": "y", "v": 2}`)
	if got := ids(t, c, `{"v": {"$gt": 1}}`); got != "b" {
		t.Errorf("found %q", got)
	}
	if _, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, `{"name": 1}`), Options: options.Index().SetUnique(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.InsertOne(t.Context(), doc(t, `{"name": "x"}`)); !mongo.IsDuplicateKeyError(err) {
		t.Errorf("a duplicate: %v", err)
	}
	r, err := c.ReplaceOne(t.Context(), doc(t, `{"_id": "a", "v": 1}`), doc(t, `{"name": "x", "v": 2}`))
	if err != nil || r.MatchedCount != 1 {
		t.Errorf("replace = %+v, %v", r, err)
	}
	// What tells it from MongoDB.
	hello, err := run(t, c.Database(), `{"hello": 1}`)
	if err != nil || field(hello, "setName") != nil || field(hello, "msg") != nil {
		t.Errorf("hello = %s, %v", text(t, hello), err)
	}
	info, err := run(t, c.Database(), `{"buildInfo": 1}`)
	if err != nil || field(info, "ferretdbVersion") == nil || field(info, "ferretdbFeatures") == nil {
		t.Errorf("buildInfo = %s, %v", text(t, info), err)
	}
	session, err := c.Database().Client().StartSession()
	if err != nil {
		return
	}
	defer session.EndSession(context.Background())
	if _, err = session.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
		return c.InsertOne(ctx, bson.D{})
	}); err == nil {
		t.Error("FerretDB has transactions")
	}
}
