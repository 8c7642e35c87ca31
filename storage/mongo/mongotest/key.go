package mongotest

import (
	"encoding/binary"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An index is a tree of byte strings: each value is written such that comparing
// the bytes compares the values, whatever follows, so a compound key is its
// values one after the other and an equality on the first fields is a prefix.

const (
	nameFollows = 1 // before each field of a document
	listEnd     = 0
)

// appendKey appends a value's key. A descending field has all bits inverted.
func appendKey(b []byte, v any, descending bool) []byte {
	start := len(b)
	b = appendAscending(b, v)
	if descending {
		for i := start; i < len(b); i++ {
			b[i] = ^b[i]
		}
	}
	return b
}

// emptyArray stands in an index for an array without elements.
type emptyArray struct{}

func appendAscending(b []byte, v any) []byte {
	if v == (emptyArray{}) {
		return append(b, byte(classEmptyArray))
	}
	return appendPayload(append(b, byte(classOf(v))), v)
}

func appendPayload(b []byte, v any) []byte {
	switch v := v.(type) {
	case int32, int64, float64:
		nearest, rest := number(v)
		if nearest == 0 {
			nearest = 0 // -0 equals 0
		}
		bits := math.Float64bits(nearest)
		if bits>>63 != 0 {
			bits = ^bits
		} else {
			bits |= 1 << 63
		}
		b = binary.BigEndian.AppendUint64(b, bits)
		return binary.BigEndian.AppendUint64(b, uint64(rest)^1<<63)
	case string:
		return appendText(b, v)
	case bson.D:
		for _, e := range v {
			b = append(b, nameFollows, byte(classOf(e.Value)))
			b = appendText(b, e.Key)
			b = appendPayload(b, e.Value)
		}
		return append(b, listEnd)
	case bson.A:
		for _, e := range v {
			b = appendAscending(b, e)
		}
		return append(b, listEnd)
	case bson.Binary:
		b = binary.BigEndian.AppendUint32(b, uint32(len(v.Data)))
		b = append(b, v.Subtype)
		return append(b, v.Data...)
	case bson.ObjectID:
		return append(b, v[:]...)
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case bson.DateTime:
		return binary.BigEndian.AppendUint64(b, uint64(v)^1<<63)
	case bson.Timestamp:
		b = binary.BigEndian.AppendUint32(b, v.T)
		return binary.BigEndian.AppendUint32(b, v.I)
	case bson.Regex:
		return appendText(appendText(b, v.Pattern), v.Options)
	}
	return b
}

// appendText ends a string with two zero bytes and writes a zero inside it as
// 0x00 0xFF, which sorts above the end and below everything else.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, s[i])
		if s[i] == 0 {
			b = append(b, 0xFF)
		}
	}
	return append(b, 0, 0)
}
