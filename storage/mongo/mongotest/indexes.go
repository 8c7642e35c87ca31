package mongotest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/btree"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// indexSpec is an index as createIndexes describes it.
type indexSpec struct {
	Name    string
	Key     []keyField
	Unique  bool
	Partial bson.Raw // nil, or which documents are in the index
	Expires bool     // a document goes ExpireAfter seconds after its date
	// ExpireAfter is in seconds.
	ExpireAfter int64

	partial *filter
}

type keyField struct {
	path       []string
	descending bool
}

func (f keyField) name() string { return strings.Join(f.path, ".") }

var idIndex = indexSpec{Name: "_id_", Key: []keyField{{path: []string{"_id"}}}, Unique: true}

// index holds the records of a collection under their keys. A record is in it
// once for each value of an array.
type index struct {
	indexSpec
	entries  *btree.BTreeG[entry]
	multikey bool // some record has, or had, more than one key
}

type entry struct {
	key    string
	record *record
}

func newIndex(spec indexSpec) *index {
	return &index{indexSpec: spec, entries: btree.NewBTreeG(func(a, b entry) bool {
		if a.key != b.key {
			return a.key < b.key
		}
		return a.id() < b.id()
	})}
}

// id orders entries of one key; a bound of a search has no record and comes
// first.
func (e entry) id() int64 {
	if e.record == nil {
		return 0
	}
	return e.record.id
}

func (x *index) clone() *index {
	c := *x
	c.entries = x.entries.Copy()
	return &c
}

// keys returns the different keys of a record; none for nil.
func (x *index) keys(r *record) ([]string, error) {
	if r == nil || x.partial != nil && !x.partial.match(r.doc) {
		return nil, nil
	}
	keys := [][]byte{nil}
	var array []string // the path of the array that some field goes through
	for _, f := range x.Key {
		values, steps := keyValues(r.doc, f.path)
		switch at := f.path[:steps]; {
		case steps == 0:
		case array == nil:
			array = at
		case slices.Equal(array, at):
			return nil, refused("an index on two fields of one array")
		default:
			return nil, errorf(cannotIndexParallelArrays, "cannot index parallel arrays [%s] [%s]", strings.Join(array, "."), strings.Join(at, "."))
		}
		next := make([][]byte, 0, len(keys)*len(values))
		for _, k := range keys {
			for _, v := range values {
				next = append(next, appendKey(slices.Clip(k), v, f.descending))
			}
		}
		keys = next
	}
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = string(k)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// keyValues returns what an index holds of a document for a path: null where it
// leads nowhere, and the elements of the array it meets first, whose path is as
// many steps long as returned.
func keyValues(d bson.D, path []string) (values []any, array int) {
	for i, step := range path {
		v, ok := lookup(d, step)
		if !ok {
			break
		}
		if a, ok := v.(bson.A); ok {
			return arrayKeyValues(a, path[i+1:]), i + 1
		}
		if i == len(path)-1 {
			return []any{v}, 0
		}
		if d, ok = v.(bson.D); !ok {
			break
		}
	}
	return []any{nil}, 0
}

func arrayKeyValues(a bson.A, rest []string) []any {
	if len(a) == 0 && len(rest) == 0 {
		return []any{emptyArray{}}
	}
	var values []any
	for _, e := range a {
		if len(rest) == 0 {
			values = append(values, e)
			continue
		}
		walkValue(e, rest, false, func(v any, _ bool) bool {
			if a, ok := v.(bson.A); !ok {
				values = append(values, v)
			} else if len(a) == 0 {
				values = append(values, emptyArray{})
			}
			return false
		})
	}
	if len(values) == 0 {
		return []any{nil}
	}
	return values
}

// replace moves a record's entries to those of its successor.
func (x *index) replace(old, r *record) error {
	gone, err := x.keys(old)
	if err != nil {
		return err
	}
	added, err := x.keys(r)
	if err != nil {
		return err
	}
	for _, k := range gone {
		x.entries.Delete(entry{k, old})
	}
	for _, k := range added {
		x.entries.Set(entry{k, r})
	}
	x.multikey = x.multikey || len(added) > 1
	return nil
}

// find returns a record with the key.
func (x *index) find(key string) *record {
	var found *record
	x.entries.Ascend(entry{key: key}, func(e entry) bool {
		if e.key == key {
			found = e.record
		}
		return false
	})
	return found
}

// duplicate is the error for a document whose key is taken.
func (x *index) duplicate(ns namespace, d bson.D) error {
	var text strings.Builder
	pattern, value := bson.D{}, bson.D{}
	for i, f := range x.Key {
		values, _ := keyValues(d, f.path)
		v := values[0]
		if v == (emptyArray{}) {
			v = nil
		}
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%s: %s", f.name(), shown(v))
		pattern = append(pattern, bson.E{Key: f.name(), Value: f.direction()})
		value = append(value, bson.E{Key: f.name(), Value: v})
	}
	err := errorf(duplicateKey, "E11000 duplicate key error collection: %s index: %s dup key: { %s }", ns, x.Name, &text)
	err.details = bson.D{{Key: "keyPattern", Value: pattern}, {Key: "keyValue", Value: value}}
	return err
}

func (f keyField) direction() int32 {
	if f.descending {
		return -1
	}
	return 1
}

func shown(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}

func (s *indexSpec) pattern() bson.D {
	d := make(bson.D, len(s.Key))
	for i, f := range s.Key {
		d[i] = bson.E{Key: f.name(), Value: f.direction()}
	}
	return d
}

// document is the specification as listIndexes shows it.
func (s *indexSpec) document() bson.D {
	d := bson.D{{Key: "v", Value: int32(2)}, {Key: "key", Value: s.pattern()}, {Key: "name", Value: s.Name}}
	if s.Unique && s.Name != idIndex.Name {
		d = append(d, bson.E{Key: "unique", Value: true})
	}
	if s.Partial != nil {
		d = append(d, bson.E{Key: "partialFilterExpression", Value: s.Partial})
	}
	if s.Expires {
		d = append(d, bson.E{Key: "expireAfterSeconds", Value: s.ExpireAfter})
	}
	return d
}

func sameKey(a, b []keyField) bool {
	return slices.EqualFunc(a, b, func(f, g keyField) bool {
		return f.descending == g.descending && slices.Equal(f.path, g.path)
	})
}

// signature tells indexes of one collection apart: there may be two on the same
// key if one is unique or partial in another way.
func (s *indexSpec) sameSignature(t *indexSpec) bool {
	return sameKey(s.Key, t.Key) && s.Unique == t.Unique && bytes.Equal(s.Partial, t.Partial)
}

// conflict compares a wanted index with those there are. It returns true when
// there is nothing to do.
func (s *indexSpec) conflict(existing []*index) (exists bool, err error) {
	for _, x := range existing {
		if x.Name != s.Name {
			continue
		}
		switch {
		case !x.sameSignature(s):
			return false, errorf(indexKeySpecsConflict, "An existing index has the same name as the requested index. When index names are not specified, they are auto generated and can cause conflicts. Please refer to our documentation. Requested index: %s, existing index: %s", s.document(), x.document())
		case x.Expires != s.Expires || x.ExpireAfter != s.ExpireAfter:
			return false, errorf(indexOptionsConflict, "An equivalent index already exists with the same name but different options. Requested index: %s, existing index: %s", s.document(), x.document())
		}
		return true, nil
	}
	for _, x := range existing {
		if x.sameSignature(s) {
			return false, errorf(indexOptionsConflict, "Index already exists with a different name: %s", x.Name)
		}
	}
	return false, nil
}

func parseIndexSpec(raw bson.Raw) (indexSpec, error) {
	a, err := parseArguments("createIndexes.indexes", raw)
	if err != nil {
		return indexSpec{}, err
	}
	var s indexSpec
	s.Name = a.text("name")
	key := a.document("key")
	s.Unique = a.flag("unique")
	if a.has("expireAfterSeconds") {
		s.Expires, s.ExpireAfter = true, a.integer("expireAfterSeconds")
	}
	if a.has("partialFilterExpression") {
		s.Partial = a.raw("partialFilterExpression")
		f, err := parseFilter(a.document("partialFilterExpression"))
		if err != nil {
			return s, err
		}
		s.partial = f
	}
	a.ignore("v", "background")
	a.refuse("sparse", "hidden", "collation", "storageEngine", "weights", "wildcardProjection", "prepareUnique", "clustered")
	if err := a.done(); err != nil {
		return s, err
	}
	if s.Name == "" || s.Name == "*" || len(key) == 0 {
		return s, errorf(cannotCreateIndex, "an index needs a name and a key")
	}
	for _, e := range key {
		n, ok := integer(e.Value)
		switch {
		case !ok:
			return s, refused(fmt.Sprintf("an index of type %v", e.Value))
		case n == 0 || e.Key == "" || strings.Contains(e.Key, "$"):
			return s, errorf(cannotCreateIndex, "invalid index key %s", key)
		}
		path := strings.Split(e.Key, ".")
		if slices.ContainsFunc(path, func(step string) bool { _, err := strconv.Atoi(step); return err == nil }) {
			return s, refused("an index on a position in an array")
		}
		s.Key = append(s.Key, keyField{path, n < 0})
	}
	if sameKey(s.Key, idIndex.Key) {
		// The one on _id exists in every collection, whatever is asked for.
		s = idIndex
	}
	if s.Expires && len(s.Key) > 1 {
		return s, errorf(cannotCreateIndex, "TTL indexes are single-field indexes, compound indexes do not support TTL")
	}
	return s, nil
}

func createIndexes(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	var specs []indexSpec
	for _, raw := range r.documents("indexes") {
		s, err := parseIndexSpec(raw)
		if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	r.ignore("commitQuorum")
	if err := r.done(); err != nil {
		return nil, err
	}
	if c := r.engine.current()[ns]; c != nil && c.hasAll(specs) {
		return createdIndexes(len(c.indexes), len(c.indexes), false), nil // without waiting for anybody
	}
	var before, after int
	created := false
	err = r.engine.define(r.ctx, ns.is, func(s state) (map[namespace]*collection, error) {
		c := s[ns]
		if created = c == nil; created {
			c = newCollection(r.engine.next())
		} else {
			c = c.clone()
		}
		before = len(c.indexes)
		for _, spec := range specs {
			exists, err := spec.conflict(c.indexes)
			if err != nil {
				return nil, err
			}
			if exists {
				continue
			}
			x, err := buildIndex(ns, spec, c)
			if err != nil {
				return nil, err
			}
			c.indexes = append(c.indexes, x)
			c.schema = r.engine.next()
		}
		after = len(c.indexes)
		return map[namespace]*collection{ns: c}, nil
	})
	return createdIndexes(before, after, created), err
}

func (c *collection) hasAll(specs []indexSpec) bool {
	return !slices.ContainsFunc(specs, func(s indexSpec) bool {
		exists, err := s.conflict(c.indexes)
		return err != nil || !exists
	})
}

func createdIndexes(before, after int, created bool) bson.D {
	reply := bson.D{
		{Key: "numIndexesBefore", Value: int32(before)},
		{Key: "numIndexesAfter", Value: int32(after)},
		{Key: "createdCollectionAutomatically", Value: created},
	}
	if before == after {
		reply = append(reply, bson.E{Key: "note", Value: "all indexes already exist"})
	}
	return reply
}

func buildIndex(ns namespace, spec indexSpec, c *collection) (*index, error) {
	x := newIndex(spec)
	var err error
	c.records.Scan(func(r *record) bool {
		var keys []string
		if keys, err = x.keys(r); err != nil {
			return false
		}
		for _, k := range keys {
			if x.Unique && x.find(k) != nil {
				err = x.duplicate(ns, r.doc)
				return false
			}
		}
		err = x.replace(nil, r)
		return err == nil
	})
	return x, err
}

func listIndexes(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	batch := r.cursorOptions()
	if err := r.done(); err != nil {
		return nil, err
	}
	c := r.engine.current()[ns]
	if c == nil {
		return nil, errorf(namespaceNotFound, "ns does not exist: %s", ns)
	}
	var docs []any
	for _, x := range c.indexes {
		docs = append(docs, x.document())
	}
	return r.openCursor(ns, docs, batch, false)
}

func dropIndexes(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	which := r.value("index")
	if err := r.done(); err != nil {
		return nil, err
	}
	var before int
	err = r.engine.define(r.ctx, ns.is, func(s state) (map[namespace]*collection, error) {
		c := s[ns]
		if c == nil {
			return nil, errorf(namespaceNotFound, "ns not found %s", ns)
		}
		c = c.clone()
		before = len(c.indexes)
		c.schema = r.engine.next()
		if err := c.dropIndexes(which); err != nil {
			return nil, err
		}
		return map[namespace]*collection{ns: c}, nil
	})
	return bson.D{{Key: "nIndexesWas", Value: int32(before)}}, err
}

// dropIndexes drops indexes by name, names, key or "*" for all but that of _id.
func (c *collection) dropIndexes(which any) error {
	drop := func(what string, is func(*index) bool) error {
		i := slices.IndexFunc(c.indexes, is)
		if i < 0 {
			return errorf(indexNotFound, "index not found with %s", what)
		}
		if i == 0 {
			return errorf(invalidOptions, "cannot drop _id index")
		}
		c.indexes = slices.Delete(c.indexes, i, i+1)
		return nil
	}
	switch which := which.(type) {
	case string:
		if which == "*" {
			c.indexes = c.indexes[:1]
			return nil
		}
		return drop("name ["+which+"]", func(x *index) bool { return x.Name == which })
	case bson.A:
		for _, name := range which {
			if err := c.dropIndexes(name); err != nil {
				return err
			}
		}
		return nil
	case bson.D:
		return drop(fmt.Sprintf("key %s", which), func(x *index) bool { return compare(x.pattern(), which) == 0 })
	}
	return errorf(typeMismatch, "index has to be a name, a list of names or a key")
}
