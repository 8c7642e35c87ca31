package storage

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ChangeOf returns a change of an audit entry from values that become JSON; nil is none.
func ChangeOf(path string, before, after any) Change {
	return Change{Path: path, Before: changeValue(before), After: changeValue(after)}
}

func changeValue(v any) []byte {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // it is of a type that has no JSON
	}
	return b
}

// How much of what changed an audit entry tells. What is longer is replaced by
// how many bytes it has, unless that would be longer still: whether somebody is active is
// told in any case, for it is an event of its own.
const (
	maxChangeValue  = 4 << 10
	maxChangeValues = 15 << 10 // of one entry; with what stands in the place of others it stays below 16 KiB
)

// Changes gathers the values before and after of an audit entry, within bounds.
type Changes struct {
	List []Change
	size int
}

// Add notes a change; an empty value is none.
func (c *Changes) Add(path string, before, after []byte) {
	c.List = append(c.List, Change{Path: path, Before: c.bound(before), After: c.bound(after)})
}

func (c *Changes) bound(v []byte) []byte {
	if len(v) > maxChangeValue || c.size+len(v) > maxChangeValues {
		if size := append(strconv.AppendInt([]byte(`{"$bytes":`), int64(len(v)), 10), '}'); len(size) < len(v) {
			return size
		}
	}
	c.size += len(v)
	return v
}
