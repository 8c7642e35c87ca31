package storage

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

// appendJSONB appends an element: a header with its type and size, and the
// payload (https://sqlite.org/jsonb.html).
func appendJSONB(dst []byte, typ byte, payload string) []byte {
	return append(appendJSONBHeader(dst, typ, len(payload)), payload...)
}

func appendJSONBHeader(dst []byte, typ byte, size int) []byte {
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

// closeJSONB turns what was appended since start into an array or object.
func closeJSONB(dst []byte, typ byte, start int) []byte {
	var header [5]byte
	return slices.Insert(dst, start, appendJSONBHeader(header[:0], typ, len(dst)-start)...)
}

func appendJSONBFloat(dst []byte, f float64) []byte {
	if i := int64(f); float64(i) == f && f < 1<<63 { // 1<<63 itself may convert to the int64 before it
		return appendJSONB(dst, jsonbInt, strconv.FormatInt(i, 10))
	}
	return appendJSONB(dst, jsonbFloat, strconv.FormatFloat(f, 'g', -1, 64))
}
