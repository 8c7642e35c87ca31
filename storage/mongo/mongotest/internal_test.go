package mongotest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/256dpi/lungo/mongokit"
	v1 "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// generator makes values, documents and filters of few names and values, so
// that they often meet.
type generator struct{ *rand.Rand }

func (g generator) value(depth int) any {
	values := []any{nil, int32(0), int32(1), int64(1), 0.5, int64(1) << 60, int64(1)<<60 + 1, "", "a", "b", "a\x00", true, false, bson.DateTime(1)}
	if depth > 0 {
		switch g.IntN(8) {
		case 0:
			return g.document(depth - 1)
		case 1:
			a := bson.A{}
			for range g.IntN(3) {
				a = append(a, g.element(depth-1))
			}
			return a
		}
	}
	return values[g.IntN(len(values))]
}

// element is a value that is no array.
func (g generator) element(depth int) any {
	if depth > 0 && g.IntN(2) == 0 {
		return g.document(depth - 1)
	}
	return g.value(0)
}

func (g generator) document(depth int) bson.D {
	d := bson.D{}
	for _, name := range []string{"a", "b", "c"} {
		if g.IntN(2) == 0 {
			d = append(d, bson.E{Key: name, Value: g.value(depth)})
		}
	}
	return d
}

func (g generator) path() string {
	paths := []string{"a", "b", "a.b", "b.a", "a.b.c"}
	return paths[g.IntN(len(paths))]
}

func (g generator) filter(depth int) bson.D {
	if depth > 0 && g.IntN(3) == 0 {
		operators := []string{"$and", "$or", "$nor"}
		return bson.D{{Key: operators[g.IntN(3)], Value: bson.A{g.filter(depth - 1), g.filter(depth - 1)}}}
	}
	operators := []string{"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not", "$elemMatch"}
	op, v := operators[g.IntN(len(operators))], g.value(0)
	switch op {
	case "$in", "$nin":
		v = bson.A{v, g.value(0)}
	case "$exists":
		v = g.IntN(2) == 0
	case "$not":
		v = bson.D{{Key: "$gte", Value: v}}
	case "$elemMatch":
		v = g.filter(0)
	}
	return bson.D{{Key: g.path(), Value: bson.D{{Key: op, Value: v}}}}
}

// TestKeys holds the order of index keys against that of the values.
func TestKeys(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for range 20_000 {
		a, b := g.value(3), g.value(3)
		want := compare(a, b)
		// What follows in a compound key makes no difference, unless they are equal.
		x, y := append(appendKey(nil, a, false), 0xFF), append(appendKey(nil, b, false), 0)
		if got := bytes.Compare(x, y); got != want && (want != 0 || got != 1) {
			t.Fatalf("keys of %#v and %#v compare as %d, the values as %d", a, b, got, want)
		}
		if got := bytes.Compare(appendKey(nil, a, true), appendKey(nil, b, true)); got != -want {
			t.Fatalf("descending keys of %#v and %#v compare as %d, the values as %d", a, b, got, want)
		}
		if want != -compare(b, a) {
			t.Fatalf("%#v and %#v compare differently in reverse", a, b)
		}
	}
}

// TestPlans holds what an index finds against what looking at everything does.
func TestPlans(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	ns := namespace{"db", "c"}
	used := 0
	for range 60 {
		e := newEngine(time.Second)
		specs := []indexSpec{
			{Name: "1", Key: []keyField{{path: []string{"a"}}, {path: []string{"b", "a"}, descending: true}}},
			{Name: "2", Key: []keyField{{path: []string{"a", "b"}, descending: true}}},
			{Name: "3", Key: []keyField{{path: []string{"b"}}, {path: []string{"_id"}}}},
		}
		if _, err := e.attempt(func(tx *txn) error {
			c, err := tx.writable(ns)
			for _, s := range specs {
				c.indexes = append(c.indexes, newIndex(s))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			d := append(bson.D{{Key: "_id", Value: int32(i)}}, g.document(2)...)
			raw, err := bson.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.attempt(func(tx *txn) error { return tx.insert(ns, raw, d) })
			if err != nil && !strings.Contains(err.Error(), "parallel") {
				t.Fatal(err)
			}
		}
		c := e.current()[ns]
		sorts := [][]keyField{nil, {{path: []string{"_id"}, descending: true}}, {{path: []string{"b"}}, {path: []string{"_id"}}}}
		for range 200 {
			d := g.filter(2)
			f, err := parseFilter(d)
			if err != nil {
				t.Fatalf("%v: %v", d, err)
			}
			by := sorts[g.IntN(len(sorts))]
			p := newPlan(c, f, by)
			if p.index == nil {
				continue
			}
			used++
			got, err1 := p.find(context.Background(), 0, 0)
			want, err2 := (&plan{collection: c, filter: f, sort: by}).find(context.Background(), 0, 0)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if by == nil { // any order will do
				byID := func(a, b *record) int { return cmp.Compare(a.id, b.id) }
				slices.SortFunc(got, byID)
				slices.SortFunc(want, byID)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%v by index %s: %d documents, without %d", d, p.index.Name, len(got), len(want))
			}
		}
	}
	if used < 1000 {
		t.Errorf("only %d queries used an index", used)
	}
}

// TestPlanByKey: a query that names an _id looks at one document, whatever else it
// asks for and however many agree with that.
func TestPlanByKey(t *testing.T) {
	e := newEngine(time.Second)
	ns := namespace{"db", "c"}
	if _, err := e.attempt(func(tx *txn) error {
		c, err := tx.writable(ns)
		c.indexes = append(c.indexes, newIndex(indexSpec{Name: "1", Key: []keyField{{path: []string{"a"}}, {path: []string{"b"}}}}))
		for i := range 10 {
			d := bson.D{{Key: "_id", Value: int32(i)}, {Key: "a", Value: "x"}, {Key: "b", Value: "y"}}
			raw, marshal := bson.Marshal(d)
			err = errors.Join(err, marshal, tx.insert(ns, raw, d))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f, err := parseFilter(bson.D{{Key: "_id", Value: int32(7)}, {Key: "a", Value: "x"}, {Key: "b", Value: "y"}})
	if err != nil {
		t.Fatal(err)
	}
	p := newPlan(e.current()[ns], f, nil)
	found, err := p.find(t.Context(), 0, 0)
	if err != nil || len(found) != 1 || p.docsExamined != 1 {
		t.Errorf("%d documents found of %d looked at by %v, %v, want one of one", len(found), p.docsExamined, p.index, err)
	}
}

// TestSecondOpinion compares filters with lungo's where that keeps to MongoDB:
// for it a field that documents of an array lack is no value instead of null,
// and $elemMatch takes any element for a document.
func TestSecondOpinion(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 6))}
	convert := func(d bson.D) *v1.D {
		raw, err := bson.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var out v1.D
		if err := v1.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	agreed := 0
	for range 20_000 {
		d, q := g.document(1), g.filter(2)
		if mentions(q, "$elemMatch") || crossesArray(d) {
			continue
		}
		f, err := parseFilter(q)
		if err != nil {
			t.Fatal(err)
		}
		want, err := mongokit.Match(convert(d), convert(q))
		if err != nil {
			continue // it does not know all we do
		}
		if got := f.match(d); got != want {
			t.Fatalf("%v of %v is %v, lungo says %v", q, d, got, want)
		}
		agreed++
	}
	if agreed < 2000 {
		t.Errorf("compared only %d filters", agreed)
	}
}

// mentions reports whether a filter uses an operator.
func mentions(v any, operator string) bool {
	switch v := v.(type) {
	case bson.D:
		return slices.ContainsFunc(v, func(e bson.E) bool { return e.Key == operator || mentions(e.Value, operator) })
	case bson.A:
		return slices.ContainsFunc(v, func(e any) bool { return mentions(e, operator) })
	}
	return false
}

// crossesArray reports whether a document has arrays with documents.
func crossesArray(d bson.D) bool {
	return slices.ContainsFunc(d, func(e bson.E) bool {
		a, ok := e.Value.(bson.A)
		return ok && slices.ContainsFunc(a, func(v any) bool { return classOf(v) == classDocument })
	})
}

// rawMessage is a command as OP_MSG, its documents in a section of their own.
func rawMessage(t *testing.T, flags uint32, command bson.D, name string, docs ...bson.D) []byte {
	t.Helper()
	marshal := func(d bson.D) []byte {
		raw, err := bson.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	le := binary.LittleEndian
	b := le.AppendUint32(make([]byte, 4), 7)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, opMsg)
	b = le.AppendUint32(b, flags)
	b = append(b, sectionBody)
	b = append(b, marshal(command)...)
	if name != "" {
		b = append(b, sectionSequence)
		start := len(b)
		b = append(b, 0, 0, 0, 0)
		b = append(append(b, name...), 0)
		for _, d := range docs {
			b = append(b, marshal(d)...)
		}
		le.PutUint32(b[start:], uint32(len(b)-start))
	}
	if flags&flagChecksum != 0 {
		b = append(b, 1, 2, 3, 4)
	}
	le.PutUint32(b, uint32(len(b)))
	return b
}

func exchange(t *testing.T, conn net.Conn, message []byte) bson.Raw {
	t.Helper()
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	var head [21]byte // the header, the flags and the kind of the section
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		t.Fatal(err)
	}
	raw := make(bson.Raw, binary.LittleEndian.Uint32(head[:])-21)
	if _, err := io.ReadFull(conn, raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestRetryOnTheWire sends the very same bytes twice, over two connections.
func TestRetryOnTheWire(t *testing.T) {
	d := StartDouble(t, Config{})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", d.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	lsid := bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}}}
	command := bson.D{{Key: "insert", Value: "c"}, {Key: "$db", Value: "db"}, {Key: "lsid", Value: lsid}, {Key: "txnNumber", Value: int64(1)}}
	message := rawMessage(t, flagChecksum, command, "documents", bson.D{{Key: "a", Value: 1}}, bson.D{{Key: "a", Value: 2}})
	first, again := exchange(t, dial(), message), exchange(t, dial(), message)
	if first.Lookup("n").Int32() != 2 || again.Lookup("n").Int32() != 2 {
		t.Errorf("n is %s, then %s", first.Lookup("n"), again.Lookup("n"))
	}
	if _, err := first.LookupErr("retriedStmtIds"); err == nil {
		t.Error("the first time was a retry")
	}
	if again.Lookup("retriedStmtIds").IsZero() {
		t.Error("the second time was no retry")
	}
	// A message that wants no answer gets none: the next answer is the count's.
	conn := dial()
	silent := bson.D{{Key: "insert", Value: "c"}, {Key: "$db", Value: "db"}, {Key: "writeConcern", Value: bson.D{{Key: "w", Value: 0}}}}
	if _, err := conn.Write(rawMessage(t, flagMoreToCome, silent, "documents", bson.D{{Key: "a", Value: 3}})); err != nil {
		t.Fatal(err)
	}
	count := exchange(t, conn, rawMessage(t, 0, bson.D{{Key: "count", Value: "c"}, {Key: "$db", Value: "db"}}, ""))
	if n := count.Lookup("n").Int32(); n != 3 {
		t.Errorf("%d documents, want 3", n)
	}
}

func TestMalformedMessages(t *testing.T) {
	good := rawMessage(t, 0, bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "db"}}, "documents", bson.D{{Key: "a", Value: 1}})
	if _, err := readMessage(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	// Whatever is done to a message, reading it ends.
	for i := range good {
		for _, b := range []byte{0, 1, 0x7F, 0xFF} {
			bad := slices.Clone(good)
			bad[i] = b
			_, _ = readMessage(bytes.NewReader(bad))
		}
		if _, err := readMessage(bytes.NewReader(good[:i])); err == nil {
			t.Errorf("a message cut off at %d is read", i)
		}
	}
}

func TestExpiry(t *testing.T) {
	e := newEngine(time.Second)
	ns := namespace{"db", "c"}
	now := time.Now()
	if _, err := e.attempt(func(tx *txn) error {
		c, err := tx.writable(ns)
		c.indexes = append(c.indexes, newIndex(indexSpec{Name: "ttl", Key: []keyField{{path: []string{"at"}}}, Expires: true, ExpireAfter: 60}))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i, at := range []any{now.Add(-2 * time.Minute), now.Add(-time.Second), "no date", bson.A{now, now.Add(-time.Hour)}} {
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: i}, {Key: "at", Value: at}})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := parseDocument(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.attempt(func(tx *txn) error { return tx.insert(ns, raw, doc) }); err != nil {
			t.Fatal(err)
		}
	}
	e.expire(context.Background(), now)
	var left []any
	e.current()[ns].records.Scan(func(r *record) bool { left = append(left, r.doc[0].Value); return true })
	if !slices.Equal(left, []any{int32(1), int32(2)}) {
		t.Errorf("left are %v", left)
	}
}
