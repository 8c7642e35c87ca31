package mongotest_test

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// doc reads a document from extended JSON.
func doc(t testing.TB, text string) bson.D {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// text prints a document for comparison and messages.
func text(t testing.TB, d bson.D) string {
	t.Helper()
	if d == nil {
		return "nothing"
	}
	b, err := bson.MarshalExtJSON(d, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func connect(t testing.TB, uri string, opts ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(append([]*options.ClientOptions{options.Client().ApplyURI(uri)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	return c
}

// collection is a new one in a database of its own, holding the documents.
func collection(t testing.TB, s *mongotest.Server, docs ...string) *mongo.Collection {
	t.Helper()
	db := s.NewDatabase(t)
	c := connect(t, s.URI(db)).Database(db).Collection("things")
	insert(t, c, docs...)
	return c
}

func insert(t testing.TB, c *mongo.Collection, docs ...string) {
	t.Helper()
	for _, d := range docs {
		if _, err := c.InsertOne(t.Context(), doc(t, d)); err != nil {
			t.Fatalf("insert %s: %v", d, err)
		}
	}
}

// run sends a command and returns the reply.
func run(t testing.TB, db *mongo.Database, command string) (bson.D, error) {
	t.Helper()
	var reply bson.D
	err := db.RunCommand(t.Context(), doc(t, command)).Decode(&reply)
	return reply, err
}

// field returns the value at a path of names, or nil.
func field(d bson.D, names ...string) any {
	var v any = d
	for _, name := range names {
		d, _ := v.(bson.D)
		v = nil
		for _, e := range d {
			if e.Key == name {
				v = e.Value
			}
		}
	}
	return v
}
