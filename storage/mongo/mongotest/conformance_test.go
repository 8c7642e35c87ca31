package mongotest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestConformance says what a storage backend may expect of MongoDB. It runs on
// whatever Start finds: on the double it shows that the double is right, on a
// real server that the expectations are.
func TestConformance(t *testing.T) {
	s := mongotest.Start(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *mongotest.Server)
	}{
		{"filters", testFilters},
		{"patterns", testPatterns},
		{"projections", testProjections},
		{"sorts", testSorts},
		{"updates", testUpdates},
		{"errors", testErrors},
		{"writes", testWrites},
		{"findAndModify", testFindAndModify},
		{"cursors", testCursors},
		{"counts", testCounts},
		{"catalog", testCatalog},
		{"indexes", testIndexes},
		{"unique", testUnique},
		{"explain", testExplain},
		{"concerns", testConcerns},
		{"transactions", testTransactions},
		{"snapshots", testSnapshots},
		{"retries", testRetries},
		{"compare and set", testCompareAndSet},
		{"unique insert", testUniqueInsert},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, s) })
	}
}

// shapes are documents of all shapes a field "a" can have.
var shapes = []string{
	`{"_id": "none"}`,
	`{"_id": "null", "a": null}`,
	`{"_id": "one", "a": 1}`,
	`{"_id": "long", "a": {"$numberLong": "1"}}`,
	`{"_id": "half", "a": 0.5}`,
	`{"_id": "text", "a": "text"}`,
	`{"_id": "true", "a": true}`,
	`{"_id": "date", "a": {"$date": {"$numberLong": "5"}}}`,
	`{"_id": "empty", "a": []}`,
	`{"_id": "list", "a": [0, 10]}`,
	`{"_id": "texts", "a": ["Text", "other"]}`,
	`{"_id": "object", "a": {"b": 1, "c": "x"}}`,
	`{"_id": "nested", "a": {"b": [1, 2]}}`,
	`{"_id": "mixed", "a": [{"b": 1, "c": "y"}, {"b": 2, "c": "x"}, 5]}`,
	`{"_id": "part", "a": [{"b": 3}, {"c": "z"}]}`,
	`{"_id": "bnull", "a": [{"b": null, "c": 1}]}`,
}

func testFilters(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, shapes...)
	for _, test := range []struct{ filter, want string }{
		{`{"a": 1}`, "one long"},
		{`{"a": 0}`, "list"},
		{`{"a": null}`, "none null"},
		{`{"a": {"$ne": null}}`, "one long half text true date empty list texts object nested mixed part bnull"},
		{`{"a": {"$exists": true}}`, "null one long half text true date empty list texts object nested mixed part bnull"},
		{`{"a": {"$exists": false}}`, "none"},
		{`{"a": [0, 10]}`, "list"},
		{`{"a": []}`, "empty"},
		{`{"a": {"b": 1, "c": "x"}}`, "object"},
		{`{"a": {"c": "x", "b": 1}}`, ""},
		{`{"a": {"$gt": 0}}`, "one long half list mixed"},
		{`{"a": {"$gte": 1, "$lte": 5}}`, "one long list mixed"}, // of [0, 10] each side has its element
		{`{"a": {"$lt": "u"}}`, "text texts"},
		{`{"a": {"$lt": true}}`, ""},
		{`{"a": {"$gte": null}}`, "none null"},
		{`{"a": {"$gt": {"$date": {"$numberLong": "4"}}}}`, "date"},
		{`{"a": {"$in": [1, "text", null]}}`, "none null one long text"},
		{`{"a": {"$in": []}}`, ""},
		{`{"a": {"$nin": [1, "text", null]}}`, "half true date empty list texts object nested mixed part bnull"},
		{`{"a": {"$in": [{"$regularExpression": {"pattern": "^te", "options": "i"}}]}}`, "text texts"},
		{`{"a": {"$not": {"$gt": 0}}}`, "none null text true date empty texts object nested part bnull"},
		{`{"a": {"$not": {"$regularExpression": {"pattern": "^te", "options": "i"}}}}`, "none null one long half true date empty list object nested mixed part bnull"},
		{`{"a": {"$regularExpression": {"pattern": "^text$", "options": ""}}}`, "text"},
		{`{"a": {"$regex": "^TEXT", "$options": "i"}}`, "text texts"},
		{`{"a": {"$regex": "^te\\x78t$"}}`, "text"},
		{`{"a": {"$regex": "\\Qo\\Eth"}}`, "texts"},
		{`{"a": {"$size": 2}}`, "list texts part"},
		{`{"a": {"$type": "array"}}`, "empty list texts mixed part bnull"},
		{`{"a": {"$type": ["bool", "date"]}}`, "true date"},
		{`{"a": {"$all": [0, 10]}}`, "list"},
		{`{"a.b": 1}`, "object nested mixed"},
		{`{"a.b": null}`, "none null one long half text true date part bnull"},
		{`{"a.b": {"$exists": false}}`, "none null one long half text true date empty list texts"},
		{`{"a.b": {"$ne": 1}}`, "none null one long half text true date empty list texts part bnull"},
		{`{"a.0": 0}`, "list"},
		{`{"a.1.b": 2}`, "mixed"},
		{`{"a.b": 1, "a.c": "x"}`, "object mixed"},
		{`{"a": {"$elemMatch": {"b": 1, "c": "x"}}}`, ""},
		{`{"a": {"$elemMatch": {"b": 2, "c": "x"}}}`, "mixed"},
		{`{"a": {"$elemMatch": {"$or": [{"b": 2}, {"b": 3}]}}}`, "mixed part"},
		{`{"a": {"$elemMatch": {"$and": [{"b": {"$gt": 1}}, {"c": {"$exists": true}}]}}}`, "mixed"},
		{`{"a": {"$elemMatch": {"$nor": [{"b": 1}, {"b": 2}]}}}`, "part bnull"},
		{`{"a": {"$elemMatch": {"c": "x", "$or": [{"b": 1}, {"b": {"$gt": 1}}]}}}`, "mixed"},
		{`{"a": {"$elemMatch": {"b": {"$not": {"$gt": 2}}, "c": {"$ne": 1}}}}`, "mixed part"},
		{`{"a": {"$elemMatch": {"b": null}}}`, "part bnull"},
		{`{"a": {"$elemMatch": {"$gt": 5, "$lt": 11}}}`, "list"},
		{`{"a": {"$elemMatch": {"$gt": 1, "$lt": 9}}}`, "mixed"},
		{`{"a": {"$elemMatch": {"$regex": "^o"}}}`, "texts"},
		{`{"a": {"$not": {"$elemMatch": {"b": {"$exists": true}}}}}`, "none null one long half text true date empty list texts object nested"},
		{`{"$or": [{"a": 1}, {"a": "text"}]}`, "one long text"},
		{`{"$nor": [{"a": {"$exists": true}}, {"_id": "x"}]}`, "none"},
		{`{"$and": [{"a": {"$gt": 0}}, {"a": {"$lt": 1}}]}`, "half list"},
		{`{"_id": {"$gte": "n", "$lt": "o"}}`, "none null nested"},
		{`{}`, "none null one long half text true date empty list texts object nested mixed part bnull"},
	} {
		check := func(how string) {
			if got := ids(t, c, test.filter); !sameWords(got, test.want) {
				t.Errorf("find %s (%s) = %q, want %q", test.filter, how, got, test.want)
			}
		}
		check("without an index")
		for _, key := range []string{"a", "a.b"} {
			name, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: key, Value: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			check("with an index on " + key)
			if err := c.Indexes().DropOne(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ids returns the _ids of what a filter finds.
func ids(t *testing.T, c *mongo.Collection, filter string, opts ...options.Lister[options.FindOptions]) string {
	t.Helper()
	cur, err := c.Find(t.Context(), doc(t, filter), opts...)
	if err != nil {
		t.Errorf("find %s: %v", filter, err)
		return ""
	}
	var found []bson.D
	if err := cur.All(t.Context(), &found); err != nil {
		t.Errorf("find %s: %v", filter, err)
	}
	var got []string
	for _, d := range found {
		got = append(got, field(d, "_id").(string))
	}
	return strings.Join(got, " ")
}

// sameWords compares without regard to order.
func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// testPatterns is about the end of a text, which a newline may follow.
func testPatterns(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": "plain", "a": "a$"}`, `{"_id": "newline", "a": "a$\n"}`, `{"_id": "letter", "a": "a"}`, `{"_id": "line", "a": "a\n"}`)
	for pattern, want := range map[string]string{
		`a$`:        "letter line",
		`a\z`:       "letter",
		`a\$\z`:     "plain",
		`a\Q$\E\z`:  "plain",
		`a[$]\z`:    "plain",
		`a[^]$x]\z`: "line",
		`a\$$`:      "plain newline",
		`a\$`:       "plain newline",
		`\x24\z`:    "plain",
	} {
		raw, err := bson.MarshalExtJSON(bson.D{{Key: "a", Value: bson.D{{Key: "$regex", Value: pattern}}}}, true, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(t, c, string(raw)); !sameWords(got, want) {
			t.Errorf("%s finds %q, want %q", pattern, got, want)
		}
	}
}

func testProjections(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 2}, 7, {"y": 3}, [{"x": 4}]], "z": "end"}`)
	for _, test := range []struct{ projection, want string }{
		{`{}`, `{"_id":1,"a":{"b":1,"c":2},"l":[{"x":1,"y":2},7,{"y":3},[{"x":4}]],"z":"end"}`},
		{`{"z": 1}`, `{"_id":1,"z":"end"}`},
		{`{"_id": 0, "z": true}`, `{"z":"end"}`},
		{`{"_id": 1}`, `{"_id":1}`},
		{`{"_id": 0}`, `{"a":{"b":1,"c":2},"l":[{"x":1,"y":2},7,{"y":3},[{"x":4}]],"z":"end"}`},
		{`{"a.b": 1}`, `{"_id":1,"a":{"b":1}}`},
		{`{"a": {"b": 1}}`, `{"_id":1,"a":{"b":1}}`},
		{`{"a.b": 0, "l": 0}`, `{"_id":1,"a":{"c":2},"z":"end"}`},
		{`{"l.x": 1}`, `{"_id":1,"l":[{"x":1},{},[{"x":4}]]}`},
		{`{"l.x": 0, "a": 0, "z": 0}`, `{"_id":1,"l":[{"y":2},7,{"y":3},[{}]]}`},
		{`{"z.q": 1, "no": 1}`, `{"_id":1}`},
		{`{"z.q": 0, "l": 0, "a": 0}`, `{"_id":1,"z":"end"}`},
	} {
		var got bson.D
		if err := c.FindOne(t.Context(), bson.D{}, options.FindOne().SetProjection(doc(t, test.projection))).Decode(&got); err != nil {
			t.Errorf("projection %s: %v", test.projection, err)
		} else if text(t, got) != test.want {
			t.Errorf("projection %s = %s, want %s", test.projection, text(t, got), test.want)
		}
	}
}

func testSorts(t *testing.T, s *mongotest.Server) {
	c := collection(t, s,
		`{"_id": "a", "n": 2, "g": "x"}`,
		`{"_id": "b", "g": "y"}`,
		`{"_id": "c", "n": [1, 9], "g": "x"}`,
		`{"_id": "d", "n": "text", "g": "y"}`,
		`{"_id": "e", "n": null, "g": "x"}`,
		`{"_id": "f", "n": [], "g": "y"}`,
		`{"_id": "g", "n": {"$numberLong": "3"}, "g": "x"}`)
	for _, test := range []struct {
		filter, sort string
		skip, limit  int64
		want         string
	}{
		{`{}`, `{"n": 1, "_id": 1}`, 0, 0, "f b e c a g d"},
		{`{}`, `{"n": -1, "_id": 1}`, 0, 0, "d c g a b e f"},
		{`{}`, `{"n": 1, "_id": -1}`, 0, 0, "f e b c a g d"},
		{`{}`, `{"_id": -1}`, 0, 3, "g f e"},
		{`{}`, `{"_id": 1}`, 2, 3, "c d e"},
		{`{"_id": {"$gt": "b", "$lte": "e"}}`, `{"_id": -1}`, 1, 2, "d c"},
		{`{"g": "x"}`, `{"_id": -1}`, 0, 0, "g e c a"},
		{`{"g": "x"}`, `{"g": 1, "_id": 1}`, 1, 2, "c e"},
		{`{}`, `{"g": -1, "_id": 1}`, 0, 4, "b d f a"},
		{`{"g": {"$in": ["x", "y"]}}`, `{"_id": 1}`, 0, 3, "a b c"},
		{`{}`, `{"_id": 1}`, 9, 0, ""},
	} {
		check := func(how string) {
			got := ids(t, c, test.filter, options.Find().SetSort(doc(t, test.sort)).SetSkip(test.skip).SetLimit(test.limit))
			if got != test.want {
				t.Errorf("find %s sort %s skip %d limit %d (%s) = %q, want %q", test.filter, test.sort, test.skip, test.limit, how, got, test.want)
			}
		}
		check("without an index")
		for _, key := range []string{`{"g": 1, "_id": 1}`, `{"g": -1, "_id": 1}`, `{"n": 1, "_id": 1}`, `{"n": -1, "_id": 1}`} {
			name, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, key)})
			if err != nil {
				t.Fatal(err)
			}
			check("with an index on " + key)
			if err := c.Indexes().DropOne(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func testUpdates(t *testing.T, s *mongotest.Server) {
	c := collection(t, s)
	for _, test := range []struct{ before, update, after string }{
		{`{"a": 1}`, `{"$set": {"a": 2, "b.c": "x"}}`, `{"_id":1,"a":2,"b":{"c":"x"}}`},
		{`{"a": 1, "b": 2}`, `{"$unset": {"a": "", "no": ""}}`, `{"_id":1,"b":2}`},
		{`{"a": 1}`, `{"$inc": {"a": 2, "b": 5}}`, `{"_id":1,"a":3,"b":5}`},
		{`{"a": 1}`, `{"$inc": {"a": {"$numberLong": "2"}}}`, `{"_id":1,"a":3}`},
		{`{"a": 3}`, `{"$max": {"a": 5}, "$min": {"b": 1}}`, `{"_id":1,"a":5,"b":1}`},
		{`{"a": 3}`, `{"$max": {"a": 2}}`, `{"_id":1,"a":3}`},
		{`{"a": [1]}`, `{"$push": {"a": 2}}`, `{"_id":1,"a":[1,2]}`},
		{`{"a": [1]}`, `{"$push": {"a": {"$each": [2, 3]}}}`, `{"_id":1,"a":[1,2,3]}`},
		{`{"a": [1]}`, `{"$addToSet": {"a": {"$each": [1, 2]}}}`, `{"_id":1,"a":[1,2]}`},
		{`{"a": [1, 2, 1]}`, `{"$pull": {"a": 1}}`, `{"_id":1,"a":[2]}`},
		{`{"a": 1}`, `{"$setOnInsert": {"b": 1}}`, `{"_id":1,"a":1}`},
		{`{"a": 1}`, `{"$rename": {"a": "b"}}`, `{"_id":1,"b":1}`},
		{`{"a": [{"b": 1}]}`, `{"$set": {"a.0.b": 2}}`, `{"_id":1,"a":[{"b":2}]}`},
	} {
		if _, err := c.ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: 1}}, doc(t, test.before), options.Replace().SetUpsert(true)); err != nil {
			t.Fatal(err)
		}
		r, err := c.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: 1}}, doc(t, test.update))
		if err != nil {
			t.Errorf("%s: %v", test.update, err)
			continue
		}
		var got bson.D
		if err := c.FindOne(t.Context(), bson.D{{Key: "_id", Value: 1}}).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if text(t, got) != test.after {
			t.Errorf("%s with %s = %s, want %s", test.before, test.update, text(t, got), test.after)
		}
		before := append(bson.D{{Key: "_id", Value: int32(1)}}, doc(t, test.before)...)
		if changed := text(t, before) != test.after; r.MatchedCount != 1 || (r.ModifiedCount == 1) != changed {
			t.Errorf("%s with %s: matched %d, modified %d", test.before, test.update, r.MatchedCount, r.ModifiedCount)
		}
	}

	// An upsert takes the filter's equalities along.
	r, err := c.UpdateOne(t.Context(), doc(t, `{"_id": "new", "k.x": 1, "n": {"$gt": 4}}`),
		doc(t, `{"$set": {"a": 1}, "$setOnInsert": {"b": 2}}`), options.UpdateOne().SetUpsert(true))
	if err != nil || r.UpsertedCount != 1 || r.UpsertedID != "new" || r.MatchedCount != 0 {
		t.Errorf("upsert = %+v, %v", r, err)
	}
	var got bson.D
	if err := c.FindOne(t.Context(), doc(t, `{"_id": "new"}`)).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if want := `{"_id":"new","k":{"x":1},"a":1,"b":2}`; text(t, got) != want {
		t.Errorf("upserted %s, want %s", text(t, got), want)
	}
}

func testErrors(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "a": 1, "t": "text"}`)
	for _, test := range []struct {
		command string
		code    int
	}{
		{`{"noSuchCommand": 1}`, 59},
		{`{"find": "things", "unexpected": 1}`, 40415},
		{`{"find": "things", "filter": 5}`, 14},
		{`{"find": "things", "filter": {"a": {"$nonsense": 1}}}`, 2},
		{`{"find": "things", "filter": {"$nonsense": 1}}`, 2},
		{`{"find": "none", "filter": {"a": {"$nonsense": 1}}}`, 2}, // found wrong without a document
		{`{"find": "things", "filter": {"$or": []}}`, 2},
		{`{"find": "things", "filter": {"a": {"$in": 5}}}`, 2},
		{`{"find": "things", "filter": {"a": {"$regex": "("}}}`, 51091},
		{`{"find": "things", "sort": {"a": 2}}`, 15975},
		{`{"find": "things", "projection": {"a": 1, "b": 0}}`, 31254},
		{`{"find": "things", "readConcern": {"level": "nonsense"}}`, 2},
		{`{"getMore": {"$numberLong": "12345"}, "collection": "things"}`, 43},
		{`{"listIndexes": "none"}`, 26},
		{`{"dropIndexes": "none", "index": "x"}`, 26},
		{`{"dropIndexes": "things", "index": "x"}`, 27},
		{`{"dropIndexes": "things", "index": "_id_"}`, 72},
		{`{"find": "things", "filter": {"a": "` + strings.Repeat("x", 16<<20+16<<10) + `"}}`, 10334},
	} {
		if reply, err := run(t, c.Database(), test.command); errorCode(reply, err) != test.code {
			t.Errorf("%.100s = %s, %v, want code %d", test.command, text(t, reply), err, test.code)
		}
	}
	for _, test := range []struct {
		update string
		code   int
	}{
		{`{"q": {"_id": 1}, "u": {"$nonsense": {"a": 1}}}`, 9},
		{`{"q": {"_id": 1}, "u": {"$set": {"_id": 2}}}`, 66},
		{`{"q": {"_id": 1}, "u": {"_id": 2}}`, 66},
		{`{"q": {"_id": 1}, "u": {"$inc": {"t": 1}}}`, 14},
		{`{"q": {"_id": 1}, "u": {"a": 1}, "multi": true}`, 9},
		{`{"q": {"_id": 1}, "u": {"$set": {"x": 1}, "$inc": {"x": 1}}}`, 40},
	} {
		reply, err := run(t, c.Database(), `{"update": "things", "updates": [`+test.update+`]}`)
		if code := errorCode(reply, err); code != test.code {
			t.Errorf("update %s = %s, %v, want code %d", test.update, text(t, reply), err, test.code)
		}
	}
}

// errorCode is the code of a failed command or of its first write error.
func errorCode(reply bson.D, err error) int {
	if e, ok := errors.AsType[mongo.CommandError](err); ok {
		return int(e.Code)
	}
	if e, ok := errors.AsType[mongo.WriteException](err); ok && len(e.WriteErrors) > 0 {
		return e.WriteErrors[0].Code
	}
	if list, ok := field(reply, "writeErrors").(bson.A); ok {
		code, _ := field(list[0].(bson.D), "code").(int32)
		return int(code)
	}
	return 0
}

func testWrites(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 2}`)
	docs := []any{doc(t, `{"_id": 1}`), doc(t, `{"_id": 2}`), doc(t, `{"_id": 3}`)}
	_, err := c.InsertMany(t.Context(), docs)
	e, ok := errors.AsType[mongo.BulkWriteException](err)
	if !ok || len(e.WriteErrors) != 1 || e.WriteErrors[0].Index != 1 || e.WriteErrors[0].Code != 11000 {
		t.Errorf("ordered insert: %v", err)
	}
	if got := count(t, c, `{}`); got != 2 {
		t.Errorf("an ordered insert that failed in the middle left %d documents, want 2", got)
	}
	_, err = c.InsertMany(t.Context(), docs, options.InsertMany().SetOrdered(false))
	if e, ok := errors.AsType[mongo.BulkWriteException](err); !ok || len(e.WriteErrors) != 2 || e.WriteErrors[1].Index != 1 {
		t.Errorf("unordered insert: %v", err)
	}
	if got := count(t, c, `{}`); got != 3 {
		t.Errorf("an unordered insert left %d documents, want 3", got)
	}
	up, err := c.UpdateMany(t.Context(), bson.D{}, doc(t, `{"$set": {"a": 1}}`))
	if err != nil || up.MatchedCount != 3 || up.ModifiedCount != 3 {
		t.Errorf("update many = %+v, %v", up, err)
	}
	re, err := c.ReplaceOne(t.Context(), doc(t, `{"_id": 1, "a": 7}`), doc(t, `{"b": 1}`))
	if err != nil || re.MatchedCount != 0 {
		t.Errorf("replace of a version that is gone = %+v, %v", re, err)
	}
	re, err = c.ReplaceOne(t.Context(), doc(t, `{"_id": 1, "a": 1}`), doc(t, `{"b": 1}`))
	if err != nil || re.MatchedCount != 1 || re.ModifiedCount != 1 {
		t.Errorf("replace = %+v, %v", re, err)
	}
	de, err := c.DeleteOne(t.Context(), bson.D{})
	if err != nil || de.DeletedCount != 1 {
		t.Errorf("delete one = %+v, %v", de, err)
	}
	if de, err = c.DeleteMany(t.Context(), bson.D{}); err != nil || de.DeletedCount != 2 {
		t.Errorf("delete many = %+v, %v", de, err)
	}
	// _id comes first, wherever it stood, and is made where there is none.
	insert(t, c, `{"x": 1, "_id": 9}`, `{"x": 2}`)
	var got bson.D
	if err := c.FindOne(t.Context(), doc(t, `{"x": 1}`)).Decode(&got); err != nil || text(t, got) != `{"_id":9,"x":1}` {
		t.Errorf("stored %s, %v", text(t, got), err)
	}
	if err := c.FindOne(t.Context(), doc(t, `{"x": 2}`)).Decode(&got); err != nil || got[0].Key != "_id" {
		t.Errorf("stored %s, %v", text(t, got), err)
	}
}

func count(t *testing.T, c *mongo.Collection, filter string) int64 {
	t.Helper()
	n, err := c.CountDocuments(t.Context(), doc(t, filter))
	if err != nil {
		t.Errorf("count %s: %v", filter, err)
	}
	return n
}

func testFindAndModify(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "n": 1, "g": "a"}`, `{"_id": 2, "n": 5, "g": "a"}`)
	after := options.FindOneAndUpdate().SetReturnDocument(options.After)
	var got bson.D
	for _, test := range []struct {
		name string
		got  *mongo.SingleResult
		want string
	}{
		{"the document before", c.FindOneAndUpdate(t.Context(), doc(t, `{"_id": 1}`), doc(t, `{"$inc": {"n": 1}}`)), `{"_id":1,"n":1,"g":"a"}`},
		{"the document after", c.FindOneAndUpdate(t.Context(), doc(t, `{"_id": 1}`), doc(t, `{"$inc": {"n": 1}}`), after), `{"_id":1,"n":3,"g":"a"}`},
		{"by order, projected", c.FindOneAndUpdate(t.Context(), doc(t, `{"g": "a"}`), doc(t, `{"$inc": {"n": 1}}`),
			options.FindOneAndUpdate().SetReturnDocument(options.After).SetSort(doc(t, `{"n": -1}`)).SetProjection(doc(t, `{"n": 1}`))), `{"_id":2,"n":6}`},
		{"an upsert", c.FindOneAndUpdate(t.Context(), doc(t, `{"_id": 3}`), doc(t, `{"$set": {"n": 1}}`),
			options.FindOneAndUpdate().SetReturnDocument(options.After).SetUpsert(true)), `{"_id":3,"n":1}`},
		{"a replacement", c.FindOneAndReplace(t.Context(), doc(t, `{"_id": 3, "n": 1}`), doc(t, `{"m": 1}`),
			options.FindOneAndReplace().SetReturnDocument(options.After)), `{"_id":3,"m":1}`},
		{"a deletion", c.FindOneAndDelete(t.Context(), doc(t, `{"_id": 3}`)), `{"_id":3,"m":1}`},
	} {
		if err := test.got.Decode(&got); err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if text(t, got) != test.want {
			t.Errorf("%s = %s, want %s", test.name, text(t, got), test.want)
		}
	}
	if err := c.FindOneAndDelete(t.Context(), doc(t, `{"_id": 3}`)).Err(); !errors.Is(err, mongo.ErrNoDocuments) {
		t.Errorf("deleting what is not there: %v", err)
	}
}

func testCursors(t *testing.T, s *mongotest.Server) {
	c := collection(t, s)
	var docs []any
	for i := range 250 {
		docs = append(docs, bson.D{{Key: "_id", Value: i}})
	}
	if _, err := c.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	for _, opts := range []*options.FindOptionsBuilder{
		options.Find(),
		options.Find().SetBatchSize(7),
		options.Find().SetBatchSize(250),
	} {
		cur, err := c.Find(t.Context(), bson.D{}, opts.SetSort(doc(t, `{"_id": 1}`)))
		if err != nil {
			t.Fatal(err)
		}
		n := int32(0)
		for cur.Next(t.Context()) {
			if id := cur.Current.Lookup("_id").Int32(); id != n {
				t.Fatalf("document %d has _id %d", n, id)
			}
			n++
		}
		if n != 250 || cur.Err() != nil {
			t.Errorf("read %d documents, %v", n, cur.Err())
		}
	}
	reply, err := run(t, c.Database(), `{"find": "things", "batchSize": 3, "singleBatch": true}`)
	if got := field(reply, "cursor", "firstBatch").(bson.A); err != nil || len(got) != 3 || field(reply, "cursor", "id") != int64(0) {
		t.Errorf("a single batch = %s, %v", text(t, reply), err)
	}
	reply, err = run(t, c.Database(), `{"find": "things", "batchSize": 0}`)
	id := field(reply, "cursor", "id")
	if got := field(reply, "cursor", "firstBatch").(bson.A); err != nil || len(got) != 0 || id == int64(0) {
		t.Fatalf("an empty first batch = %s, %v", text(t, reply), err)
	}
	command := bson.D{{Key: "killCursors", Value: "things"}, {Key: "cursors", Value: bson.A{id}}}
	if err := c.Database().RunCommand(t.Context(), command).Err(); err != nil {
		t.Errorf("killCursors: %v", err)
	}
	more := bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: "things"}}
	if err := c.Database().RunCommand(t.Context(), more).Err(); errorCode(nil, err) != 43 {
		t.Errorf("getMore of a killed cursor: %v", err)
	}
}

func testCounts(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "a": 1}`, `{"_id": 2, "a": 1}`, `{"_id": 3, "a": 2}`)
	for _, test := range []struct {
		filter string
		opts   *options.CountOptionsBuilder
		want   int64
	}{
		{`{}`, options.Count(), 3},
		{`{"a": 1}`, options.Count(), 2},
		{`{"a": 9}`, options.Count(), 0},
		{`{}`, options.Count().SetLimit(2), 2},
		{`{}`, options.Count().SetSkip(2), 1},
		{`{}`, options.Count().SetSkip(5), 0},
	} {
		if got, err := c.CountDocuments(t.Context(), doc(t, test.filter), test.opts); err != nil || got != test.want {
			t.Errorf("count %s = %d, %v, want %d", test.filter, got, err, test.want)
		}
	}
	if got, err := c.EstimatedDocumentCount(t.Context()); err != nil || got != 3 {
		t.Errorf("estimated count = %d, %v", got, err)
	}
	cur, err := c.Aggregate(t.Context(), bson.A{
		doc(t, `{"$match": {"a": {"$gt": 0}}}`), doc(t, `{"$sort": {"a": -1, "_id": -1}}`), doc(t, `{"$skip": 1}`),
		doc(t, `{"$limit": 1}`), doc(t, `{"$project": {"_id": 1}}`)})
	if err != nil {
		t.Fatal(err)
	}
	var got []bson.D
	if err := cur.All(t.Context(), &got); err != nil || len(got) != 1 || text(t, got[0]) != `{"_id":2}` {
		t.Errorf("aggregate = %v, %v", got, err)
	}
}

func testCatalog(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1}`)
	db := c.Database()
	if err := db.CreateCollection(t.Context(), "made"); err != nil {
		t.Fatal(err)
	}
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	if slices.Sort(names); err != nil || !slices.Equal(names, []string{"made", "things"}) {
		t.Errorf("collections %q, %v", names, err)
	}
	if names, err = db.ListCollectionNames(t.Context(), doc(t, `{"name": "made"}`)); err != nil || !slices.Equal(names, []string{"made"}) {
		t.Errorf("collections named made: %q, %v", names, err)
	}
	if names, err = db.Client().ListDatabaseNames(t.Context(), bson.D{{Key: "name", Value: db.Name()}}); err != nil || len(names) != 1 {
		t.Errorf("databases %q, %v", names, err)
	}
	if err := db.Collection("made").Drop(t.Context()); err != nil {
		t.Errorf("drop: %v", err)
	}
	if err := db.Collection("made").Drop(t.Context()); err != nil { // the driver forgives a missing one
		t.Errorf("drop twice: %v", err)
	}
	if err := db.Drop(t.Context()); err != nil {
		t.Errorf("drop database: %v", err)
	}
	if names, err = db.ListCollectionNames(t.Context(), bson.D{}); err != nil || len(names) != 0 {
		t.Errorf("collections of a dropped database %q, %v", names, err)
	}
	if got := count(t, c, `{}`); got != 0 {
		t.Errorf("a dropped database has %d documents", got)
	}
}

func testIndexes(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "a": 1, "b": 1}`, `{"_id": 2, "a": 1, "b": 2}`)
	create := func(spec string) int {
		reply, err := run(t, c.Database(), `{"createIndexes": "things", "indexes": [`+spec+`]}`)
		return errorCode(reply, err)
	}
	for _, test := range []struct {
		spec string
		code int
	}{
		{`{"key": {"a": 1}, "name": "a_1"}`, 0},
		{`{"key": {"a": 1}, "name": "a_1"}`, 0}, // the same again
		{`{"key": {"b": 1}, "name": "a_1"}`, 86},
		{`{"key": {"a": -1}, "name": "a_1"}`, 86},
		{`{"key": {"a": 1}, "name": "other"}`, 85},
		{`{"key": {"a": 1}, "name": "a_1", "expireAfterSeconds": 60}`, 85},
		{`{"key": {"a": 1}, "name": "a_1", "unique": true}`, 86},
		{`{"key": {"a": 1}, "name": "unique", "unique": true}`, 11000},
		{`{"key": {"b": 1}, "name": "b_unique", "unique": true}`, 0},
		{`{"key": {"b": 1}, "name": "b_again", "unique": true}`, 85},
		{`{"key": {"a": 1, "b": -1}, "name": "compound"}`, 0},
		{`{"key": {"c": 1}, "name": "partial", "unique": true, "partialFilterExpression": {"c": {"$exists": true}}}`, 0},
		{`{"key": {"d": 1}, "name": "ttl", "expireAfterSeconds": 3600}`, 0},
		{`{"key": {"d": 1, "a": 1}, "name": "ttl2", "expireAfterSeconds": 3600}`, 67},
		{`{"key": {}, "name": "empty"}`, 67},
	} {
		if code := create(test.spec); code != test.code {
			t.Errorf("create %s = code %d, want %d", test.spec, code, test.code)
		}
	}
	specs, err := c.Indexes().ListSpecifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, spec := range specs {
		names = append(names, spec.Name)
		unique := spec.Unique != nil && *spec.Unique
		if want := spec.Name == "b_unique" || spec.Name == "partial"; unique != want {
			t.Errorf("index %s: unique is %v", spec.Name, unique)
		}
		if spec.Name == "ttl" && (spec.ExpireAfterSeconds == nil || *spec.ExpireAfterSeconds != 3600) {
			t.Errorf("index ttl is %+v", spec)
		}
	}
	if slices.Sort(names); !slices.Equal(names, []string{"_id_", "a_1", "b_unique", "compound", "partial", "ttl"}) {
		t.Errorf("indexes %q", names)
	}
	if err := c.Indexes().DropOne(t.Context(), "b_unique"); err != nil {
		t.Errorf("drop: %v", err)
	}
	insert(t, c, `{"_id": 3, "b": 2}`) // no longer unique
	if err := c.Indexes().DropAll(t.Context()); err != nil {
		t.Errorf("drop all: %v", err)
	}
	if specs, err = c.Indexes().ListSpecifications(t.Context()); err != nil || len(specs) != 1 {
		t.Errorf("after dropping all: %v, %v", specs, err)
	}
}

func testUnique(t *testing.T, s *mongotest.Server) {
	c := collection(t, s)
	for _, keys := range []string{`{"tenant": 1, "name": 1}`, `{"mails.value": 1}`} {
		if _, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, keys),
			Options: options.Index().SetUnique(true).SetPartialFilterExpression(doc(t, `{"tenant": {"$exists": true}}`))}); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, c,
		`{"_id": 1, "tenant": "a", "name": "x", "mails": [{"value": "m1"}, {"value": "m2"}]}`,
		`{"_id": 2, "tenant": "b", "name": "x", "mails": [{"value": "m3"}, {"value": "m3"}]}`, // its own are not in its way
		`{"_id": 3, "name": "x", "mails": [{"value": "m3"}]}`)                                 // not in the index
	_, err := c.InsertOne(t.Context(), doc(t, `{"tenant": "a", "name": "x", "mails": [{"value": "m4"}]}`))
	if !mongo.IsDuplicateKeyError(err) {
		t.Fatalf("a duplicate: %v", err)
	}
	e, _ := errors.AsType[mongo.WriteException](err)
	raw := e.WriteErrors[0].Raw
	if p, v := raw.Lookup("keyPattern").String(), raw.Lookup("keyValue").String(); p != `{"tenant": {"$numberInt":"1"},"name": {"$numberInt":"1"}}` || v != `{"tenant": "a","name": "x"}` {
		t.Errorf("keyPattern %s, keyValue %s", p, v)
	}
	for _, update := range []string{
		`{"$set": {"tenant": "a"}}`,
		`{"$set": {"mails": [{"value": "m2"}]}}`,
	} {
		if _, err := c.UpdateOne(t.Context(), doc(t, `{"_id": 2}`), doc(t, update)); !mongo.IsDuplicateKeyError(err) {
			t.Errorf("update %s to a taken key: %v", update, err)
		}
	}
	// Giving a key up frees it.
	if _, err := c.UpdateOne(t.Context(), doc(t, `{"_id": 1}`), doc(t, `{"$set": {"name": "deleted:1", "mails": []}}`)); err != nil {
		t.Fatal(err)
	}
	insert(t, c, `{"_id": 4, "tenant": "a", "name": "x", "mails": [{"value": "m1"}]}`)
	// So does an update of several documents that ends without a conflict only.
	if _, err := c.UpdateMany(t.Context(), doc(t, `{"tenant": "a"}`), doc(t, `{"$set": {"name": "same"}}`)); !mongo.IsDuplicateKeyError(err) {
		t.Errorf("two documents with one key: %v", err)
	}
}

func testExplain(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "tenant": "a", "name": "x", "seq": 1}`)
	for _, keys := range []string{`{"tenant": 1, "name": 1}`, `{"tenant": 1, "seq": 1}`} {
		if _, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, keys)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ command, index string }{
		{`{"find": "things", "filter": {"tenant": "a", "name": "x"}}`, "tenant_1_name_1"},
		{`{"find": "things", "filter": {"tenant": "a", "name": {"$in": ["x", "y"]}}}`, "tenant_1_name_1"},
		{`{"find": "things", "filter": {"tenant": "a", "seq": {"$gt": 0}}, "sort": {"seq": 1}}`, "tenant_1_seq_1"},
		{`{"find": "things", "filter": {"tenant": "a"}, "sort": {"seq": -1}}`, "tenant_1_seq_1"},
		{`{"find": "things", "filter": {"seq": 1}}`, ""},
		{`{"find": "things", "filter": {"name": "x"}}`, ""},
		{`{"find": "things", "filter": {"$or": [{"seq": 1}, {"name": "x"}]}}`, ""},
		{`{"aggregate": "things", "pipeline": [{"$match": {"tenant": "a", "name": "x"}}], "cursor": {}}`, "tenant_1_name_1"},
		{`{"delete": "things", "deletes": [{"q": {"tenant": "a", "name": "x"}, "limit": 1}]}`, "tenant_1_name_1"},
		{`{"update": "things", "updates": [{"q": {"tenant": "a", "seq": 1}, "u": {"$set": {"z": 1}}}]}`, "tenant_1_seq_1"},
	} {
		reply, err := run(t, c.Database(), `{"explain": `+test.command+`, "verbosity": "queryPlanner"}`)
		if err != nil {
			t.Errorf("explain %s: %v", test.command, err)
			continue
		}
		stages, index := stages(field(reply, "queryPlanner", "winningPlan").(bson.D))
		if index != test.index || slices.Contains(stages, "COLLSCAN") != (test.index == "") || slices.Contains(stages, "SORT") {
			t.Errorf("explain %s: stages %q, index %q, want %q", test.command, stages, index, test.index)
		}
	}
	reply, err := run(t, c.Database(), `{"explain": {"find": "things", "filter": {"tenant": "a", "name": "x"}}, "verbosity": "executionStats"}`)
	if err != nil || field(reply, "executionStats", "nReturned") != int32(1) || field(reply, "executionStats", "totalKeysExamined") != int32(1) {
		t.Errorf("execution statistics %s, %v", text(t, reply), err)
	}
	if got := count(t, c, `{"z": {"$exists": true}}`); got != 0 {
		t.Error("explaining an update has updated")
	}
}

// stages lists a plan's stages from the top, and the index it uses.
func stages(plan bson.D) (names []string, index string) {
	for plan != nil {
		if inner, ok := field(plan, "queryPlan").(bson.D); ok { // of servers with two engines
			plan = inner
		}
		names = append(names, field(plan, "stage").(string))
		if name, ok := field(plan, "indexName").(string); ok {
			index = name
		}
		plan, _ = field(plan, "inputStage").(bson.D)
	}
	return names, index
}

func testConcerns(t *testing.T, s *mongotest.Server) {
	c := collection(t, s)
	admin := c.Database().Client().Database("admin")
	reply, err := run(t, admin, `{"getDefaultRWConcern": 1}`)
	if err != nil || field(reply, "defaultWriteConcern", "w") == nil || field(reply, "defaultReadConcern", "level") == nil {
		t.Errorf("default concerns %s, %v", text(t, reply), err)
	}
	for _, concern := range []string{`{"w": 1}`, `{"w": "majority", "j": true, "wtimeout": 5000}`} {
		if _, err := run(t, c.Database(), `{"insert": "things", "documents": [{"a": 1}], "writeConcern": `+concern+`}`); err != nil {
			t.Errorf("write concern %s: %v", concern, err)
		}
	}
	for _, concern := range []string{"local", "majority"} {
		if _, err := run(t, c.Database(), `{"find": "things", "readConcern": {"level": "`+concern+`"}}`); err != nil {
			t.Errorf("read concern %s: %v", concern, err)
		}
	}
	// A concern nobody can satisfy is an error beside the write that was done.
	reply, err = run(t, c.Database(), `{"insert": "things", "documents": [{"_id": "w"}], "writeConcern": {"w": "no such rule"}}`)
	if got := count(t, c, `{"_id": "w"}`); got != 1 || err == nil && field(reply, "writeConcernError", "code") != int32(79) {
		t.Errorf("an unknown write concern: %s, %v; %d documents", text(t, reply), err, got)
	}
}

func testRetries(t *testing.T, s *mongotest.Server) {
	c := collection(t, s, `{"_id": 1, "n": 0}`)
	session, err := c.Database().Client().StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.EndSession(context.Background())
	ctx := mongo.NewSessionContext(t.Context(), session)
	for number, command := range []string{ // numbers the driver has not come to
		`{"update": "things", "updates": [{"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}]}`,
		`{"insert": "things", "documents": [{"a": 1}, {"a": 2}]}`,
		`{"findAndModify": "things", "query": {"_id": 1}, "update": {"$inc": {"n": 1}}, "new": true}`,
		`{"delete": "things", "deletes": [{"q": {"a": 1}, "limit": 1}]}`,
	} {
		var replies [2]bson.D
		for i := range replies {
			d := append(doc(t, command), bson.E{Key: "txnNumber", Value: int64(1000 + number)})
			if err := c.Database().RunCommand(ctx, d).Decode(&replies[i]); err != nil {
				t.Fatalf("%s: %v", command, err)
			}
		}
		for _, name := range []string{"n", "nModified", "value"} {
			first, again := field(replies[0], name), field(replies[1], name)
			if text(t, bson.D{{Key: name, Value: first}}) != text(t, bson.D{{Key: name, Value: again}}) {
				t.Errorf("%s: %s was %v and, repeated, %v", command, name, first, again)
			}
		}
	}
	var got bson.D
	if err := c.FindOne(t.Context(), doc(t, `{"_id": 1}`)).Decode(&got); err != nil || field(got, "n") != int32(2) {
		t.Errorf("after two increments sent twice each: %s, %v", text(t, got), err)
	}
	if got := count(t, c, `{"a": {"$exists": true}}`); got != 1 {
		t.Errorf("%d documents are left of two inserted and one deleted", got)
	}
	// A number from before is refused.
	old := append(doc(t, `{"insert": "things", "documents": [{"a": 3}]}`), bson.E{Key: "txnNumber", Value: int64(999)})
	if err := c.Database().RunCommand(ctx, old).Err(); errorCode(nil, err) != 225 {
		t.Errorf("an old transaction number: %v", err)
	}
}
