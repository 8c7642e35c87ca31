package mongotest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// begin starts a transaction in a session of its own.
func begin(t *testing.T, c *mongo.Collection) (context.Context, *mongo.Session) {
	t.Helper()
	session, err := c.Database().Client().StartSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.EndSession(context.Background()) })
	if err := session.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	return mongo.NewSessionContext(t.Context(), session), session
}

func value(t *testing.T, ctx context.Context, c *mongo.Collection, id string) string {
	t.Helper()
	var d bson.D
	err := c.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&d)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return "none"
	} else if err != nil {
		t.Errorf("find %s: %v", id, err)
		return "error"
	}
	return fmt.Sprint(field(d, "v"))
}

func set(ctx context.Context, c *mongo.Collection, id string, v int) error {
	_, err := c.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: v}}}})
	return err
}

func isTransient(err error) bool {
	e, ok := errors.AsType[mongo.LabeledError](err)
	return ok && e.HasErrorLabel("TransientTransactionError")
}

// testSnapshots is about reads outside transactions that see one state.
func testSnapshots(t *testing.T, s *mongotest.Server) {
	client := func(c *mongo.Collection) *mongo.Client { return c.Database().Client() }
	start := func(c *mongo.Collection) context.Context {
		session, err := client(c).StartSession(options.Session().SetSnapshot(true))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { session.EndSession(context.Background()) })
		return mongo.NewSessionContext(t.Context(), session)
	}
	c := collection(t, s, `{"_id": "a", "v": 0}`, `{"_id": "b", "v": 0}`)
	for name, first := range map[string]func(context.Context) error{
		"find":      func(ctx context.Context) error { return c.FindOne(ctx, bson.D{}).Err() },
		"aggregate": func(ctx context.Context) error { _, err := c.CountDocuments(ctx, bson.D{}); return err },
	} {
		ctx := start(c)
		before := value(t, t.Context(), c, "a")
		if err := first(ctx); err != nil {
			t.Fatal(err)
		}
		if mongo.SessionFromContext(ctx).SnapshotTime().IsZero() {
			t.Errorf("%s: the reply does not tell the time", name)
		}
		if err := set(t.Context(), c, "a", 1+len(before)); err != nil {
			t.Fatal(err)
		}
		insert(t, c, `{"_id": "`+name+`", "v": 1}`)
		if a, n := value(t, ctx, c, "a"), value(t, ctx, c, name); a != before || n != "none" {
			t.Errorf("after a %s: seen from the snapshot: %s, %s", name, a, n)
		}
		if n := value(t, start(c), c, name); n != "1" {
			t.Errorf("a new snapshot shows %s", n)
		}
		if err := set(ctx, c, "b", 1); errorCode(nil, err) != 72 {
			t.Errorf("a write in a snapshot: %v", err)
		}
	}
	// A cursor stays at the time of its first batch.
	ctx := start(c)
	cursor, err := c.Find(ctx, bson.D{}, options.Find().SetBatchSize(1))
	if err != nil {
		t.Fatal(err)
	}
	insert(t, c, `{"_id": "z", "v": 1}`)
	if err := cursor.All(ctx, &[]bson.D{}); err != nil {
		t.Error(err)
	}
	if got := value(t, ctx, c, "z"); got != "none" {
		t.Errorf("after a cursor: %s", got)
	}
	for concern, code := range map[string]int{
		`{"level": "snapshot", "atClusterTime": {"$timestamp": {"t": 1, "i": 1}}}`: 239,
		`{"level": "majority", "atClusterTime": {"$timestamp": {"t": 1, "i": 1}}}`: 72,
		`{"level": "snapshot", "atClusterTime": 5}`:                                14,
	} {
		if reply, err := run(t, c.Database(), `{"find": "things", "readConcern": `+concern+`}`); errorCode(reply, err) != code {
			t.Errorf("read concern %s: %v, want %d", concern, err, code)
		}
	}
}

func testTransactions(t *testing.T, s *mongotest.Server) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *mongo.Collection)
	}{
		{"commit and abort", func(t *testing.T, c *mongo.Collection) {
			ctx, session := begin(t, c)
			if err := set(ctx, c, "a", 1); err != nil {
				t.Fatal(err)
			}
			if _, err := c.InsertOne(ctx, doc(t, `{"_id": "new", "v": 1}`)); err != nil {
				t.Fatal(err)
			}
			if in, out := value(t, ctx, c, "new"), value(t, t.Context(), c, "new"); in != "1" || out != "none" {
				t.Errorf("before the commit: %s inside, %s outside", in, out)
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Fatal(err)
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Errorf("a repeated commit: %v", err)
			}
			if a, n := value(t, t.Context(), c, "a"), value(t, t.Context(), c, "new"); a != "1" || n != "1" {
				t.Errorf("after the commit: %s, %s", a, n)
			}

			ctx, session = begin(t, c)
			if err := set(ctx, c, "a", 2); err != nil {
				t.Fatal(err)
			}
			if _, err := c.DeleteOne(ctx, doc(t, `{"_id": "new"}`)); err != nil {
				t.Fatal(err)
			}
			if err := session.AbortTransaction(ctx); err != nil {
				t.Fatal(err)
			}
			if a, n := value(t, t.Context(), c, "a"), value(t, t.Context(), c, "new"); a != "1" || n != "1" {
				t.Errorf("after the abort: %s, %s", a, n)
			}
		}},
		{"a snapshot does not move", func(t *testing.T, c *mongo.Collection) {
			ctx, session := begin(t, c)
			if got := value(t, ctx, c, "a"); got != "0" {
				t.Fatal(got)
			}
			if err := set(t.Context(), c, "b", 5); err != nil { // a reader blocks nobody
				t.Fatal(err)
			}
			insert(t, c, `{"_id": "later", "v": 1}`)
			if b, l := value(t, ctx, c, "b"), value(t, ctx, c, "later"); b != "0" || l != "none" {
				t.Errorf("seen from an older snapshot: %s, %s", b, l)
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Error(err)
			}
		}},
		{"writers of different documents", func(t *testing.T, c *mongo.Collection) {
			ctx1, session1 := begin(t, c)
			ctx2, session2 := begin(t, c)
			for _, err := range []error{
				set(ctx1, c, "a", 1), set(ctx2, c, "b", 2),
				session1.CommitTransaction(ctx1), session2.CommitTransaction(ctx2),
			} {
				if err != nil {
					t.Error(err)
				}
			}
			if a, b := value(t, t.Context(), c, "a"), value(t, t.Context(), c, "b"); a != "1" || b != "2" {
				t.Errorf("%s, %s", a, b)
			}
		}},
		{"writers of one document", func(t *testing.T, c *mongo.Collection) {
			ctx1, session1 := begin(t, c)
			ctx2, session2 := begin(t, c)
			if err := set(ctx1, c, "a", 1); err != nil {
				t.Fatal(err)
			}
			err := set(ctx2, c, "a", 2)
			if errorCode(nil, err) != 112 || !isTransient(err) {
				t.Errorf("the second writer: %v", err)
			}
			if _, err := c.CountDocuments(ctx2, bson.D{}); errorCode(nil, err) != 251 || !isTransient(err) {
				t.Errorf("after that it is gone: %v", err)
			}
			if err := session1.CommitTransaction(ctx1); err != nil {
				t.Error(err)
			}
			_ = session2.AbortTransaction(ctx2)
		}},
		{"a document changed since", func(t *testing.T, c *mongo.Collection) {
			ctx, _ := begin(t, c)
			if got := value(t, ctx, c, "b"); got != "0" {
				t.Fatal(got)
			}
			if err := set(t.Context(), c, "a", 1); err != nil {
				t.Fatal(err)
			}
			if err := set(ctx, c, "a", 2); errorCode(nil, err) != 112 || !isTransient(err) {
				t.Errorf("writing what changed after the snapshot: %v", err)
			}
		}},
		{"a duplicate key ends it", func(t *testing.T, c *mongo.Collection) {
			ctx, session := begin(t, c)
			if err := set(ctx, c, "a", 1); err != nil {
				t.Fatal(err)
			}
			if _, err := c.InsertOne(ctx, doc(t, `{"_id": "b"}`)); !mongo.IsDuplicateKeyError(err) {
				t.Errorf("a duplicate: %v", err)
			}
			if err := session.CommitTransaction(ctx); errorCode(nil, err) != 251 {
				t.Errorf("the commit after it: %v", err)
			}
			if got := value(t, t.Context(), c, "a"); got != "0" {
				t.Errorf("something is left of it: %s", got)
			}
		}},
		{"what is there already beside an open one", func(t *testing.T, c *mongo.Collection) {
			name, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, `{"n": 1}`)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, session := begin(t, c)
			if err := set(ctx, c, "a", 1); err != nil {
				t.Fatal(err)
			}
			if err := c.Database().CreateCollection(t.Context(), c.Name()); errorCode(nil, err) != 48 {
				t.Errorf("a collection that is there: %v", err)
			}
			if again, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, `{"n": 1}`)}); err != nil || again != name {
				t.Errorf("an index that is there: %s, %v", again, err)
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Error(err)
			}
		}},
		{"a key taken by an open transaction", func(t *testing.T, c *mongo.Collection) {
			ctx1, session1 := begin(t, c)
			ctx2, _ := begin(t, c)
			if _, err := c.InsertOne(ctx1, doc(t, `{"_id": "k"}`)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.InsertOne(ctx2, doc(t, `{"_id": "k"}`)); errorCode(nil, err) != 112 {
				t.Errorf("the same key in another transaction: %v", err)
			}
			if err := session1.CommitTransaction(ctx1); err != nil {
				t.Error(err)
			}
		}},
		{"a writer outside waits", func(t *testing.T, c *mongo.Collection) {
			ctx, session := begin(t, c)
			if err := set(ctx, c, "a", 1); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := c.UpdateOne(t.Context(), doc(t, `{"_id": "a"}`), doc(t, `{"$inc": {"v": 10}}`))
				done <- err
			}()
			select {
			case err := <-done:
				t.Errorf("it did not wait: %v", err)
			case <-time.After(100 * time.Millisecond):
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := value(t, t.Context(), c, "a"); got != "11" {
				t.Errorf("after both: %s", got)
			}
		}},
		{"a writer outside runs out of time", func(t *testing.T, c *mongo.Collection) {
			ctx, session := begin(t, c)
			if err := set(ctx, c, "a", 1); err != nil {
				t.Fatal(err)
			}
			reply, err := run(t, c.Database(), `{"update": "things", "updates": [{"q": {"_id": "a"}, "u": {"$inc": {"v": 1}}}], "maxTimeMS": 50}`)
			if code := errorCode(reply, err); code != 50 {
				t.Errorf("maxTimeMS behind a transaction: %s, %v", text(t, reply), err)
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Error(err)
			}
		}},
		{"a new collection", func(t *testing.T, c *mongo.Collection) {
			other := c.Database().Collection("other")
			ctx, session := begin(t, c)
			if _, err := other.InsertOne(ctx, doc(t, `{"_id": "x", "v": 1}`)); err != nil {
				t.Fatal(err)
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Fatal(err)
			}
			if got := value(t, t.Context(), other, "x"); got != "1" {
				t.Errorf("in a collection the transaction made: %s", got)
			}
		}},
		{"cursors", func(t *testing.T, c *mongo.Collection) {
			ctx, session := begin(t, c)
			cur, err := c.Find(ctx, bson.D{}, options.Find().SetBatchSize(1))
			if err != nil {
				t.Fatal(err)
			}
			var all []bson.D
			if err := cur.All(ctx, &all); err != nil || len(all) != 2 {
				t.Errorf("%v, %v", all, err)
			}
			if err := session.CommitTransaction(ctx); err != nil {
				t.Error(err)
			}
		}},
		{"not everything is allowed", func(t *testing.T, c *mongo.Collection) {
			ctx, _ := begin(t, c)
			if _, err := c.EstimatedDocumentCount(ctx); errorCode(nil, err) != 263 {
				t.Errorf("count in a transaction: %v", err)
			}
		}},
		{"money does not vanish", testTransfers},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, collection(t, s, `{"_id": "a", "v": 0}`, `{"_id": "b", "v": 0}`))
		})
	}
}

// testTransfers moves amounts between accounts in many transactions at once,
// with readers that add them up.
func testTransfers(t *testing.T, c *mongo.Collection) {
	const accounts, workers, transfers = 8, 16, 12
	for i := range accounts {
		insert(t, c, fmt.Sprintf(`{"_id": "account %d", "balance": 100}`, i))
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			session, err := c.Database().Client().StartSession()
			if err != nil {
				t.Error(err)
				return
			}
			defer session.EndSession(context.Background())
			for i := range transfers {
				from, to := (w+i)%accounts, (w*3+i*5+1)%accounts
				if from == to {
					continue
				}
				_, err := session.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
					for account, amount := range map[int]int{from: -1, to: 1} {
						if _, err := c.UpdateOne(ctx, bson.D{{Key: "_id", Value: fmt.Sprintf("account %d", account)}},
							bson.D{{Key: "$inc", Value: bson.D{{Key: "balance", Value: amount}}}}); err != nil {
							return nil, err
						}
					}
					return nil, nil
				})
				if err != nil {
					t.Errorf("transfer: %v", err)
				}
				if sum := total(t, c); sum != accounts*100 {
					t.Errorf("a reader finds %d in all", sum)
				}
			}
		})
	}
	wg.Wait()
}

func total(t *testing.T, c *mongo.Collection) (sum int) {
	cur, err := c.Find(t.Context(), doc(t, `{"balance": {"$exists": true}}`))
	if err != nil {
		t.Error(err)
		return 0
	}
	var all []struct{ Balance int }
	if err := cur.All(t.Context(), &all); err != nil {
		t.Error(err)
	}
	for _, a := range all {
		sum += a.Balance
	}
	return sum
}

func testCompareAndSet(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "version": 0}`)
	const rounds, rivals = 200, 16
	for round := range rounds {
		var winners atomic.Int32
		var wg sync.WaitGroup
		for rival := range rivals {
			wg.Go(func() {
				r, err := c.ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: 1}, {Key: "version", Value: round}},
					bson.D{{Key: "version", Value: round + 1}, {Key: "by", Value: rival}})
				if err != nil {
					t.Error(err)
				} else if r.MatchedCount == 1 {
					winners.Add(1)
				}
			})
		}
		wg.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("round %d has %d winners", round, n)
		}
	}
}

func testUniqueInsert(t *testing.T, s *mongotest.Server) {
	c := collection(t, s)
	if _, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, `{"name": 1}`), Options: options.Index().SetUnique(true)}); err != nil {
		t.Fatal(err)
	}
	const rounds, rivals = 50, 16
	for round := range rounds {
		var winners atomic.Int32
		var wg sync.WaitGroup
		for range rivals {
			wg.Go(func() {
				switch _, err := c.InsertOne(t.Context(), bson.D{{Key: "name", Value: round}}); {
				case err == nil:
					winners.Add(1)
				case !mongo.IsDuplicateKeyError(err):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("round %d has %d winners", round, n)
		}
	}
}
