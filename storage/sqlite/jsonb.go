package sqlite

import (
	"encoding/binary"
	"slices"
	"strconv"
)

// The element types of JSONB that Roster writes.
const (
	jsonbTrue   = 1
	jsonbFalse  = 2
	jsonbInt    = 3
	jsonbFloat  = 5
	jsonbText   = 10 // any text, as it is
	jsonbArray  = 11
	jsonbObject = 12
)

// jsonb writes a search shadow in SQLite's binary form of JSON
// (https://sqlite.org/jsonb.html): each element is a header with its type and
// size, and the payload. It is a storage.ShadowWriter.
type jsonb struct {
	b    []byte
	open []opened // objects and arrays, the innermost last
}

type opened struct {
	begin  int // where the name begins
	header int
	typ    byte
	// schemas says that it is the list of schemas, for which its number may stand
	// (schemaLists).
	schemas bool
}

// newJSONB begins the object of a resource.
func newJSONB() *jsonb {
	j := &jsonb{b: make([]byte, 0, 1024), open: make([]opened, 0, 4)}
	j.Begin("", false)
	return j
}

// bytes ends the object of a resource.
func (j *jsonb) bytes() []byte {
	o := j.open[0]
	j.close(o, len(j.b)-o.header-reserved)
	return j.b
}

func (j *jsonb) element(typ byte, payload string) {
	j.b = append(appendHeader(j.b, typ, len(payload)), payload...)
}

// name writes the label of a member, which is an element before its value.
func (j *jsonb) name(name string) {
	if name != "" {
		j.element(jsonbText, shortName(name))
	}
}

// Text implements storage.ShadowWriter.
func (j *jsonb) Text(name, value string) {
	j.name(name)
	j.element(jsonbText, value)
}

// Bool implements storage.ShadowWriter.
func (j *jsonb) Bool(name string, value bool) {
	j.name(name)
	typ := byte(jsonbFalse)
	if value {
		typ = jsonbTrue
	}
	j.b = appendHeader(j.b, typ, 0)
}

// Int implements storage.ShadowWriter.
func (j *jsonb) Int(name string, value int64) {
	j.name(name)
	j.element(jsonbInt, strconv.FormatInt(value, 10))
}

// Float implements storage.ShadowWriter.
func (j *jsonb) Float(name string, value float64) {
	if i := int64(value); float64(i) == value && value < 1<<63 { // 1<<63 itself may convert to the int64 before it
		j.Int(name, i)
		return
	}
	j.name(name)
	j.element(jsonbFloat, strconv.FormatFloat(value, 'g', -1, 64))
}

// reserved is the size of the header that Begin makes room for. It can tell the
// size of nearly everything, so that End need not move what is in between.
const reserved = 3

// Begin implements storage.ShadowWriter.
func (j *jsonb) Begin(name string, array bool) {
	o := opened{begin: len(j.b), typ: jsonbObject}
	if array {
		o.typ, o.schemas = jsonbArray, name == "schemas" && len(j.open) == 1
	}
	j.name(name)
	o.header = len(j.b)
	j.open = append(j.open, o)
	j.b = append(j.b, make([]byte, reserved)...)
}

// End implements storage.ShadowWriter.
func (j *jsonb) End() {
	o := j.open[len(j.open)-1]
	j.open = j.open[:len(j.open)-1]
	payload := j.b[o.header+reserved:]
	if len(payload) == 0 {
		j.b = j.b[:o.begin]
		return
	}
	if o.schemas {
		if number := listNumber(payload); number > 0 {
			j.b = j.b[:o.begin]
			j.Int("schemas", number)
			return
		}
	}
	j.close(o, len(payload))
}

func (j *jsonb) close(o opened, size int) {
	if size <= 0xffff {
		j.b[o.header] = 13<<4 | o.typ
		binary.BigEndian.PutUint16(j.b[o.header+1:], uint16(size))
		return
	}
	var long [5]byte
	j.b = slices.Replace(j.b, o.header, o.header+reserved, appendHeader(long[:0], o.typ, size)...)
}

func appendHeader(dst []byte, typ byte, size int) []byte {
	switch {
	case size <= 11:
		return append(dst, byte(size)<<4|typ)
	case size <= 0xff:
		return append(dst, 12<<4|typ, byte(size))
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, 13<<4|typ), uint16(size))
	}
	return binary.BigEndian.AppendUint32(append(dst, 14<<4|typ), uint32(size))
}
