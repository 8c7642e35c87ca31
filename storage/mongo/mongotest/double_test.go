package mongotest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestNamedServer uses a double as the server that the environment names.
func TestNamedServer(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{Username: "roster", Password: "p"})
	t.Setenv(mongotest.EnvURI, d.URI(""))
	var database string
	t.Run("test", func(t *testing.T) {
		s := mongotest.Start(t)
		if s.Kind != mongotest.KindURI || s.Version != "7.0.0" {
			t.Errorf("started %s", s)
		}
		c := collection(t, s, `{"_id": 1}`)
		database = c.Database().Name()
	})
	names, err := connect(t, d.URI("admin")).ListDatabaseNames(t.Context(), bson.D{})
	if err != nil || slices.Contains(names, database) {
		t.Errorf("after the test there are %q, %v", names, err)
	}
}

// fakeMongod has the arguments of the program that TestFakeMongod is.
const fakeMongod = "ROSTER_TEST_FAKE_MONGOD"

// TestFakeMongod is the mongod of TestMongodOnThePath, in a process of its own.
func TestFakeMongod(t *testing.T) {
	args := strings.Fields(os.Getenv(fakeMongod))
	if len(args) == 0 {
		return // nobody is to be it
	}
	i := slices.Index(args, "--port")
	if i < 0 || !slices.Contains(args, "--replSet") || !slices.Contains(args, "--dbpath") {
		t.Fatalf("mongod was started with %q", args)
	}
	mongotest.StartDouble(t, mongotest.Config{Addr: "127.0.0.1:" + args[i+1], Version: "8.0.4"})
	select {} // it ends by a signal
}

// TestMongodOnThePath: a mongod on the PATH is started as a replica set and is what
// tests run on, unless the environment names a server; it ends with the test.
func TestMongodOnThePath(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n%s=\"$*\" exec '%s' -test.run='^TestFakeMongod$'\n", fakeMongod, self)
	if err := os.WriteFile(filepath.Join(bin, "mongod"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv(mongotest.EnvURI, "")
	var uri string
	t.Run("test", func(t *testing.T) {
		s := mongotest.Start(t)
		if s.Kind != mongotest.KindMongod || s.Version != "8.0.4" || s.String() != "mongod 8.0.4 from the PATH" {
			t.Errorf("started %s", s)
		}
		if got := ids(t, collection(t, s, `{"_id": "a"}`), `{}`); got != "a" {
			t.Errorf("found %q", got)
		}
		uri = s.URI("admin")
	})
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(200 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Disconnect(context.Background()) }()
	if err := c.Ping(t.Context(), nil); err == nil {
		t.Error("mongod goes on after the test")
	}
	d := mongotest.StartDouble(t, mongotest.Config{})
	t.Setenv(mongotest.EnvURI, d.URI(""))
	if s := mongotest.Start(t); s.Kind != mongotest.KindURI {
		t.Errorf("with a server named by the environment: started %s", s)
	}
}

// TestRefusals shows that what the double does not support is an error.
func TestRefusals(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{})
	c := collection(t, &d.Server, `{"_id": 1, "a": [1]}`)
	for _, command := range []string{
		`{"find": "things", "collation": {"locale": "en"}}`,
		`{"find": "things", "hint": "_id_"}`,
		`{"find": "things", "let": {"x": 1}}`,
		`{"find": "things", "tailable": true}`,
		`{"find": "things", "filter": {"$expr": {"$eq": ["$a", 1]}}}`,
		`{"find": "things", "filter": {"$where": "true"}}`,
		`{"find": "things", "filter": {"a": {"$mod": [2, 1]}}}`,
		`{"find": "things", "filter": {"a": {"$regex": "x", "$options": "x"}}}`,
		`{"find": "things", "filter": {"a": {"$numberDecimal": "1"}}}`,
		`{"find": "things", "filter": {"a": {"$minKey": 1}}}`,
		`{"find": "things", "projection": {"a": {"$slice": 1}}}`,
		`{"find": "things", "projection": {"a": "$b"}}`,
		`{"find": "things", "projection": {"a.$": 1}}`,
		`{"find": "things", "sort": {"a": {"$meta": "textScore"}}}`,
		`{"count": "things", "query": {}, "hint": "_id_"}`,
		`{"aggregate": "things", "pipeline": [{"$lookup": {}}], "cursor": {}}`,
		`{"aggregate": "things", "pipeline": [{"$group": {"_id": "$a"}}], "cursor": {}}`,
		`{"insert": "things", "documents": [{"a": {"$numberDecimal": "1"}}]}`,
		`{"insert": "things", "documents": [{"a": {"$numberDouble": "NaN"}}]}`,
		`{"update": "things", "updates": [{"q": {}, "u": [{"$set": {"a": 1}}]}]}`,
		`{"update": "things", "updates": [{"q": {}, "u": {"$set": {"a.$": 1}}}]}`,
		`{"update": "things", "updates": [{"q": {}, "u": {"$set": {"a.$[x]": 1}}, "arrayFilters": [{"x": 1}]}]}`,
		`{"update": "things", "updates": [{"q": {}, "u": {"$pull": {"a": {"$gt": 1}}}}]}`,
		`{"update": "things", "updates": [{"q": {}, "u": {"$set": {"b": 2147483647}, "$inc": {"a.0": 2147483647}}}]}`,
		`{"update": "things", "updates": [{"q": {}, "u": {"$set": {"b": 1}}, "hint": "_id_"}]}`,
		`{"delete": "things", "deletes": [{"q": {}, "limit": 0, "collation": {"locale": "en"}}]}`,
		`{"findAndModify": "things", "query": {}, "remove": true, "hint": "_id_"}`,
		`{"create": "other", "capped": true, "size": 1000}`,
		`{"create": "other", "validator": {"a": 1}}`,
		`{"create": "other", "collation": {"locale": "en"}}`,
		`{"createIndexes": "things", "indexes": [{"key": {"a": "text"}, "name": "x"}]}`,
		`{"createIndexes": "things", "indexes": [{"key": {"a": "hashed"}, "name": "x"}]}`,
		`{"createIndexes": "things", "indexes": [{"key": {"a": 1}, "name": "x", "sparse": true}]}`,
		`{"createIndexes": "things", "indexes": [{"key": {"a": 1}, "name": "x", "collation": {"locale": "en"}}]}`,
		`{"createIndexes": "things", "indexes": [{"key": {"a.0": 1}, "name": "x"}]}`,
	} {
		if reply, err := run(t, c.Database(), command); errorCode(reply, err) != 238 {
			t.Errorf("%s = %s, %v, want code 238", command, text(t, reply), err)
		}
	}
	for _, command := range []string{`{"distinct": "things", "key": "a"}`, `{"mapReduce": "things"}`, `{"bulkWrite": 1}`} {
		if reply, err := run(t, c.Database(), command); errorCode(reply, err) != 59 {
			t.Errorf("%s = %s, %v, want code 59", command, text(t, reply), err)
		}
	}
	if got := count(t, c, `{"b": {"$exists": false}}`); got != 1 {
		t.Errorf("something that was refused was done: %d documents unchanged, want 1", got)
	}
}

func TestAuthentication(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{Username: "roster", Password: "s3cret/&"})
	c := collection(t, &d.Server, `{"_id": 1}`) // comes in with the URI
	if got := count(t, c, `{}`); got != 1 {
		t.Errorf("%d documents", got)
	}
	right := d.URI("x")
	wrong, err := url.Parse(right)
	if err != nil {
		t.Fatal(err)
	}
	wrong.User = url.UserPassword("roster", "guess")
	unknown, none := *wrong, *wrong
	unknown.User = url.UserPassword("nobody", "s3cret/&")
	none.User = nil
	for name, u := range map[string]*url.URL{"a wrong password": wrong, "an unknown user": &unknown, "no credentials": &none} {
		// The driver goes on trying for as long as this.
		c := connect(t, u.String(), options.Client().SetServerSelectionTimeout(time.Second))
		err := c.Database("x").Collection("things").FindOne(t.Context(), bson.D{}).Err()
		if err == nil || strings.Contains(err.Error(), "no documents") {
			t.Errorf("with %s: %v", name, err)
		}
	}
}

func TestStandalone(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{Standalone: true, Version: "6.0.12"})
	c := collection(t, &d.Server, `{"_id": 1}`)
	reply, err := run(t, c.Database(), `{"hello": 1}`)
	if err != nil || field(reply, "setName") != nil || field(reply, "isWritablePrimary") != true {
		t.Errorf("hello = %s, %v", text(t, reply), err)
	}
	if reply, err = run(t, c.Database(), `{"buildInfo": 1}`); err != nil || field(reply, "version") != "6.0.12" {
		t.Errorf("buildInfo = %s, %v", text(t, reply), err)
	}
	session, err := c.Database().Client().StartSession()
	if err != nil {
		return // the driver knows already that there are none
	}
	defer session.EndSession(t.Context())
	_, err = session.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
		return c.InsertOne(ctx, bson.D{})
	})
	if err == nil {
		t.Error("a transaction on a standalone server")
	}
}

func TestDefaultWriteConcern(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{DefaultWriteConcern: 1})
	reply, err := run(t, connect(t, d.URI("admin")).Database("admin"), `{"getDefaultRWConcern": 1}`)
	if err != nil || field(reply, "defaultWriteConcern", "w") != int32(1) {
		t.Errorf("getDefaultRWConcern = %s, %v", text(t, reply), err)
	}
}

func TestRestart(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{})
	c := collection(t, &d.Server, `{"_id": "a", "v": 0}`)
	addr := d.Addr()
	ctx, session := begin(t, c)
	if err := set(ctx, c, "a", 1); err != nil {
		t.Fatal(err)
	}
	d.Stop()
	if l, err := net.Dial("tcp", addr); err == nil {
		_ = l.Close()
		t.Error("somebody listens where the double did")
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.FindOne(short, bson.D{}).Err(); err == nil {
		t.Error("a stopped double answers")
	}
	d.Restart(t)
	if d.Addr() != addr {
		t.Errorf("it came back on %s instead of %s", d.Addr(), addr)
	}
	if got := value(t, t.Context(), c, "a"); got != "0" {
		t.Errorf("after the restart: %s", got)
	}
	if err := session.CommitTransaction(ctx); err == nil {
		t.Error("a transaction survived the restart")
	}
	insert(t, c, `{"_id": "b", "v": 1}`)
	if got := count(t, c, `{}`); got != 2 {
		t.Errorf("%d documents", got)
	}
}

// TestDisconnect shows that a transaction does not depend on a connection.
func TestDisconnect(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Minute})
	c := collection(t, &d.Server, `{"_id": "a", "v": 0}`)
	ctx, session := begin(t, c)
	if err := set(ctx, c, "a", 1); err != nil {
		t.Fatal(err)
	}
	d.Disconnect()
	if err := session.CommitTransaction(ctx); err != nil { // the driver sends it again
		t.Fatal(err)
	}
	if got := value(t, t.Context(), c, "a"); got != "1" {
		t.Errorf("after the commit: %s", got)
	}
}

func TestAbandonedTransaction(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{TransactionIdle: 200 * time.Millisecond, LockWait: 30 * time.Second})
	c := collection(t, &d.Server, `{"_id": "a", "v": 0}`)
	ctx, session := begin(t, c)
	if err := set(ctx, c, "a", 1); err != nil {
		t.Fatal(err)
	}
	if err := set(t.Context(), c, "a", 5); err != nil { // waits until it is given up
		t.Fatal(err)
	}
	err := set(ctx, c, "a", 2)
	if errorCode(nil, err) != 251 || !isTransient(err) {
		t.Errorf("going on with it: %v", err)
	}
	_ = session.AbortTransaction(ctx)
	if got := value(t, t.Context(), c, "a"); got != "5" {
		t.Errorf("the value is %s", got)
	}
	// Indexes and collections wait no longer either.
	ctx, _ = begin(t, c)
	if err := set(ctx, c, "a", 1); err != nil {
		t.Fatal(err)
	}
	if err := c.Drop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLockWait(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Minute, LockWait: 50 * time.Millisecond})
	c := collection(t, &d.Server, `{"_id": "a", "v": 0}`)
	ctx, session := begin(t, c)
	if err := set(ctx, c, "a", 1); err != nil {
		t.Fatal(err)
	}
	if err := set(t.Context(), c, "a", 2); errorCode(nil, err) != 112 {
		t.Errorf("a writer behind a transaction that stays: %v", err)
	}
	if err := session.CommitTransaction(ctx); err != nil {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{})
	c := collection(t, &d.Server, `{"_id": "a", "v": 0}`)
	inc := func() error {
		_, err := c.UpdateOne(t.Context(), doc(t, `{"_id": "a"}`), doc(t, `{"$inc": {"v": 1}}`))
		return err
	}
	// The driver sends a write again whose answer was lost; it counts once.
	d.Fail(mongotest.Failure{Command: "update", After: true})
	if err := inc(); err != nil {
		t.Error(err)
	}
	d.Fail(mongotest.Failure{Command: "update"})
	if err := inc(); err != nil {
		t.Error(err)
	}
	if got := value(t, t.Context(), c, "a"); got != "2" {
		t.Errorf("after two increments: %s", got)
	}
	d.Fail(mongotest.Failure{Command: "update", Code: 112})
	if err := inc(); errorCode(nil, err) != 112 {
		t.Errorf("an arranged error: %v", err)
	}
	// A commit whose answer was lost is sent again, too.
	ctx, session := begin(t, c)
	if err := set(ctx, c, "a", 7); err != nil {
		t.Fatal(err)
	}
	d.Fail(mongotest.Failure{Command: "commitTransaction", After: true})
	if err := session.CommitTransaction(ctx); err != nil {
		t.Error(err)
	}
	if got := value(t, t.Context(), c, "a"); got != "7" {
		t.Errorf("after the commit: %s", got)
	}
	// An outcome that stays unknown says so.
	ctx, session = begin(t, c)
	if err := set(ctx, c, "a", 8); err != nil {
		t.Fatal(err)
	}
	d.Fail(mongotest.Failure{Command: "commitTransaction", After: true, Times: 10})
	err := session.CommitTransaction(ctx)
	if e, ok := errors.AsType[mongo.LabeledError](err); !ok || !e.HasErrorLabel("UnknownTransactionCommitResult") {
		t.Errorf("a commit without an answer: %v", err)
	}
}

// TestManyClients reads and writes on 32 connections at once.
func TestManyClients(t *testing.T) {
	d := mongotest.StartDouble(t, mongotest.Config{})
	seed := collection(t, &d.Server)
	name := seed.Database().Name()
	if _, err := seed.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, `{"by": 1, "n": 1}`)}); err != nil {
		t.Fatal(err)
	}
	const clients, documents = 32, 20
	var wg sync.WaitGroup
	for by := range clients {
		c := connect(t, d.URI(name)).Database(name).Collection("things")
		wg.Go(func() {
			for n := range documents {
				if _, err := c.InsertOne(t.Context(), bson.D{{Key: "by", Value: by}, {Key: "n", Value: n}}); err != nil {
					t.Error(err)
				}
				if _, err := c.UpdateOne(t.Context(), bson.D{{Key: "by", Value: by}, {Key: "n", Value: n}}, doc(t, `{"$inc": {"v": 1}}`)); err != nil {
					t.Error(err)
				}
				if got, err := c.CountDocuments(t.Context(), bson.D{{Key: "by", Value: by}}); err != nil || got != int64(n+1) {
					t.Errorf("client %d counts %d, %v, want %d", by, got, err, n+1)
				}
			}
		})
	}
	wg.Wait()
	if got := count(t, seed, `{"v": 1}`); got != clients*documents {
		t.Errorf("%d documents, want %d", got, clients*documents)
	}
}

func BenchmarkDouble(b *testing.B) {
	d := mongotest.StartDouble(b, mongotest.Config{})
	c := collection(b, &d.Server)
	if _, err := c.Indexes().CreateOne(b.Context(), mongo.IndexModel{Keys: doc(b, `{"tenant": 1, "name": 1}`), Options: options.Index().SetUnique(true)}); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Indexes().CreateOne(b.Context(), mongo.IndexModel{Keys: doc(b, `{"tenant": 1, "emails.value": 1}`)}); err != nil {
		b.Fatal(err)
	}
	const documents = 3000
	user := func(id int) bson.D {
		mail := bson.D{{Key: "value", Value: "user" + strings.Repeat("x", id%7) + "@example.com"}, {Key: "type", Value: "work"}}
		return bson.D{{Key: "_id", Value: id}, {Key: "tenant", Value: "a"}, {Key: "name", Value: id}, {Key: "version", Value: 0},
			{Key: "emails", Value: bson.A{mail}}, {Key: "doc", Value: strings.Repeat("d", 800)}}
	}
	var docs []any
	for id := range documents {
		docs = append(docs, user(id))
	}
	if _, err := c.InsertMany(b.Context(), docs); err != nil {
		b.Fatal(err)
	}
	next := documents
	for _, bench := range []struct {
		name string
		run  func(i int) error
	}{
		{"find by _id", func(i int) error {
			return c.FindOne(b.Context(), bson.D{{Key: "_id", Value: i % documents}}).Err()
		}},
		{"find by unique key", func(i int) error {
			return c.FindOne(b.Context(), bson.D{{Key: "tenant", Value: "a"}, {Key: "name", Value: i % documents}}).Err()
		}},
		{"find by scan", func(int) error {
			return c.FindOne(b.Context(), bson.D{{Key: "doc", Value: "no"}}, options.FindOne()).Err()
		}},
		{"replace by _id and version", func(i int) error {
			_, err := c.ReplaceOne(b.Context(), bson.D{{Key: "_id", Value: i % documents}, {Key: "version", Value: 0}}, user(i%documents))
			return err
		}},
		{"update with $inc", func(i int) error {
			_, err := c.UpdateOne(b.Context(), bson.D{{Key: "_id", Value: i % documents}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "seen", Value: 1}}}})
			return err
		}},
		{"transaction of two writes", func(i int) error {
			return c.Database().Client().UseSession(b.Context(), func(ctx context.Context) error {
				_, err := mongo.SessionFromContext(ctx).WithTransaction(ctx, func(ctx context.Context) (any, error) {
					if _, err := c.UpdateOne(ctx, bson.D{{Key: "_id", Value: i % documents}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "seen", Value: 1}}}}); err != nil {
						return nil, err
					}
					return c.UpdateOne(ctx, bson.D{{Key: "_id", Value: (i + 1) % documents}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "seen", Value: 1}}}})
				})
				return err
			})
		}},
		{"insert", func(int) error {
			next++
			_, err := c.InsertOne(b.Context(), user(next))
			return err
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := bench.run(i); err != nil && bench.name != "find by scan" {
					b.Fatal(err)
				}
			}
		})
	}
}
