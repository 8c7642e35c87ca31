package mongo

import (
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// index is what a resource is found by: this store's storage.Index.
type index struct {
	tenant string
	typ    *schemas.ResourceType
	shadow bson.Raw
	unique []storage.Key
	keys   []string // as in fKeys, the unique ones first
}

// NewIndex implements storage.Indexer.
func (s *Store) NewIndex(tenant storage.TenantID, t *schemas.ResourceType, attrs map[string]any) storage.Index {
	w := newShadow()
	x := newIndex(string(tenant), t, attrs, w)
	x.shadow = w.bytes()
	return x
}

func newIndex(tenant string, t *schemas.ResourceType, attrs map[string]any, w storage.ShadowWriter) *index {
	unique, equal := storage.Derive(t, attrs, w)
	x := &index{tenant: tenant, typ: t, unique: unique, keys: make([]string, 0, len(unique)+len(equal))}
	for _, k := range unique {
		x.keys = append(x.keys, keyText(k))
	}
	for _, k := range equal {
		x.keys = append(x.keys, keyText(k))
	}
	return x
}

// keyText is a key as it stands in fKeys. No attribute's path has an equals
// sign.
func keyText(k storage.Key) string { return k.Path + "=" + k.Value }

// shadow writes a search shadow as BSON. It is a storage.ShadowWriter.
type shadow struct {
	b    []byte
	open []opened // documents and arrays, the innermost last
}

type opened struct {
	begin  int   // where the element begins
	length int32 // where its length goes
	array  bool
	n      int // elements so far, the names of an array's
}

func newShadow() *shadow {
	w := &shadow{b: make([]byte, 0, 1024), open: make([]opened, 1, 4)}
	_, w.b = bsoncore.AppendDocumentStart(w.b)
	return w
}

// bytes ends the document.
func (w *shadow) bytes() bson.Raw {
	w.b, _ = bsoncore.AppendDocumentEnd(w.b, 0) // the only error is a length out of bounds
	return w.b
}

// name returns the name of the next element of what is open.
func (w *shadow) name(name string) string {
	o := &w.open[len(w.open)-1]
	if o.array {
		name = strconv.Itoa(o.n)
	}
	o.n++
	return name
}

// Text implements storage.ShadowWriter.
func (w *shadow) Text(name, value string) {
	w.b = bsoncore.AppendStringElement(w.b, w.name(name), value)
}

// Bool implements storage.ShadowWriter.
func (w *shadow) Bool(name string, value bool) {
	w.b = bsoncore.AppendBooleanElement(w.b, w.name(name), value)
}

// Int implements storage.ShadowWriter.
func (w *shadow) Int(name string, value int64) {
	w.b = bsoncore.AppendInt64Element(w.b, w.name(name), value)
}

// Float implements storage.ShadowWriter.
func (w *shadow) Float(name string, value float64) {
	w.b = bsoncore.AppendDoubleElement(w.b, w.name(name), value)
}

// Begin implements storage.ShadowWriter.
func (w *shadow) Begin(name string, array bool) {
	o := opened{begin: len(w.b), array: array}
	name = w.name(name)
	if array {
		o.length, w.b = bsoncore.AppendArrayElementStart(w.b, name)
	} else {
		o.length, w.b = bsoncore.AppendDocumentElementStart(w.b, name)
	}
	w.open = append(w.open, o)
}

// End implements storage.ShadowWriter.
func (w *shadow) End() {
	o := w.open[len(w.open)-1]
	w.open = w.open[:len(w.open)-1]
	if o.n == 0 {
		w.b = w.b[:o.begin]
		w.open[len(w.open)-1].n--
		return
	}
	w.b, _ = bsoncore.AppendDocumentEnd(w.b, o.length)
}
