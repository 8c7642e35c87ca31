package mongotest

import (
	"bytes"
	"cmp"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// class is the rank of a value's type in the order of all BSON values. Values
// of one class are comparable with each other; a query's $gt and the like look
// at nothing else ("type bracketing").
type class byte

const (
	classEmptyArray class = iota + 1 // of an index key only: an array without elements
	classNull
	classNumber
	classString
	classDocument
	classArray
	classBinary
	classObjectID
	classBool
	classDate
	classTimestamp
	classRegex
)

// classOf returns 0 for types the double does not keep.
func classOf(v any) class {
	switch v.(type) {
	case nil:
		return classNull
	case int32, int64, float64:
		return classNumber
	case string:
		return classString
	case bson.D:
		return classDocument
	case bson.A:
		return classArray
	case bson.Binary:
		return classBinary
	case bson.ObjectID:
		return classObjectID
	case bool:
		return classBool
	case bson.DateTime:
		return classDate
	case bson.Timestamp:
		return classTimestamp
	case bson.Regex:
		return classRegex
	}
	return 0
}

// compare orders two values as MongoDB does.
func compare(a, b any) int {
	ca, cb := classOf(a), classOf(b)
	if ca != cb {
		return cmp.Compare(ca, cb)
	}
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string))
	case bson.D:
		return compareDocuments(a, b.(bson.D))
	case bson.A:
		b := b.(bson.A)
		for i := range min(len(a), len(b)) {
			if c := compare(a[i], b[i]); c != 0 {
				return c
			}
		}
		return cmp.Compare(len(a), len(b))
	case bson.Binary:
		b := b.(bson.Binary)
		return cmp.Or(cmp.Compare(len(a.Data), len(b.Data)), cmp.Compare(a.Subtype, b.Subtype), bytes.Compare(a.Data, b.Data))
	case bson.ObjectID:
		b := b.(bson.ObjectID)
		return bytes.Compare(a[:], b[:])
	case bool:
		if a == b.(bool) {
			return 0
		} else if a {
			return 1
		}
		return -1
	case bson.DateTime:
		return cmp.Compare(a, b.(bson.DateTime))
	case bson.Timestamp:
		b := b.(bson.Timestamp)
		return cmp.Or(cmp.Compare(a.T, b.T), cmp.Compare(a.I, b.I))
	case bson.Regex:
		b := b.(bson.Regex)
		return cmp.Or(strings.Compare(a.Pattern, b.Pattern), strings.Compare(a.Options, b.Options))
	}
	if ca == classNumber {
		return compareNumbers(a, b)
	}
	return 0
}

func compareDocuments(a, b bson.D) int {
	for i := range min(len(a), len(b)) {
		c := cmp.Or(
			cmp.Compare(classOf(a[i].Value), classOf(b[i].Value)),
			strings.Compare(a[i].Key, b[i].Key))
		if c == 0 {
			c = compare(a[i].Value, b[i].Value)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareNumbers(a, b any) int {
	fa, ra := number(a)
	fb, rb := number(b)
	// cmp.Compare puts NaN below all numbers, as MongoDB does.
	return cmp.Or(cmp.Compare(fa, fb), cmp.Compare(ra, rb))
}

// number returns a numeric value as the nearest float and what an integer
// beyond 2^53 has more (or less) than that.
func number(v any) (nearest float64, rest int64) {
	switch v := v.(type) {
	case int32:
		return float64(v), 0
	case int64:
		f := float64(v)
		if f >= math.MaxInt64 { // 2^63 is no int64
			return f, v - math.MaxInt64 - 1
		}
		return f, v - int64(f)
	case float64:
		return v, 0
	}
	return math.NaN(), 0
}

// integer reports whether v is a number without a fraction, and which.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<63 {
			return int64(v), true
		}
	}
	return 0, false
}

// lookup returns the value of a document's field.
func lookup(d bson.D, name string) (any, bool) {
	for i := range d {
		if d[i].Key == name {
			return d[i].Value, true
		}
	}
	return nil, false
}

// walk visits the values a path leads to, as queries see them: through the
// documents of arrays on the way, by position where a step is a number, and at
// the end an array's elements before the array itself, unless whole asks for
// the array alone. A step that leads nowhere is visited as absent. It stops and
// returns true as soon as visit does.
func walk(d bson.D, path []string, whole bool, visit func(v any, present bool) bool) bool {
	v, ok := lookup(d, path[0])
	if !ok {
		return visit(nil, false)
	}
	return walkValue(v, path[1:], whole, visit)
}

func walkValue(v any, rest []string, whole bool, visit func(any, bool) bool) bool {
	a, isArray := v.(bson.A)
	if len(rest) == 0 {
		if isArray && !whole {
			for _, e := range a {
				if visit(e, true) {
					return true
				}
			}
		}
		return visit(v, true)
	}
	if d, ok := v.(bson.D); ok {
		return walk(d, rest, whole, visit)
	}
	if !isArray {
		return visit(nil, false)
	}
	if i, err := strconv.Atoi(rest[0]); err == nil && i >= 0 && i < len(a) {
		if walkValue(a[i], rest[1:], whole, visit) {
			return true
		}
	}
	for _, e := range a {
		if d, ok := e.(bson.D); ok && walk(d, rest, whole, visit) {
			return true
		}
	}
	return false
}

// checkValue refuses the types the double cannot compare, so that it never
// answers differently without saying so.
func checkValue(v any) error {
	switch v := v.(type) {
	case bson.D:
		for _, e := range v {
			if err := checkValue(e.Value); err != nil {
				return err
			}
		}
	case bson.A:
		for _, e := range v {
			if err := checkValue(e); err != nil {
				return err
			}
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return refused("numbers that are not finite")
		}
	default:
		if classOf(v) == 0 {
			return refused(typeName(v))
		}
	}
	return nil
}

func typeName(v any) string {
	switch v.(type) {
	case bson.Decimal128:
		return "decimal128"
	case bson.MinKey:
		return "minKey"
	case bson.MaxKey:
		return "maxKey"
	}
	return "values of a deprecated BSON type"
}

// parseDocument decodes a document and refuses what checkValue does.
func parseDocument(raw bson.Raw) (bson.D, error) {
	var d bson.D
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, errorf(failedToParse, "%s", err)
	}
	if err := checkValue(d); err != nil {
		return nil, err
	}
	return d, nil
}
