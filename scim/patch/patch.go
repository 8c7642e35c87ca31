package patch

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/roster-id/roster/schemas"
)

// MessageURI is the schema of a PATCH request (RFC 7644 §3.5.2).
const MessageURI = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

// Op is what an operation does.
type Op uint8

// The operations of RFC 7644 §3.5.2.
const (
	Add Op = iota
	Replace
	Remove
)

var opNames = [...]string{"add", "replace", "remove"}

// String returns the operation as RFC 7644 spells it.
func (o Op) String() string { return opNames[o] }

// Operation is one step of a PATCH. Value is a raw tree as [schemas.Decode]
// makes it, nil when it is null or absent.
type Operation struct {
	Op    Op
	Path  string // empty: the keys of Value are the paths
	Value any
}

// Limits bound one request. Zero means no limit.
type Limits struct {
	Operations int // a key with a filter, in a value without a path, is one more
	Moves      int // operations that put members of a group in or take them out by id, beside the others
	Members    int // list elements in the value of one operation
}

// DefaultLimits are those of a request from outside.
var DefaultLimits = Limits{Operations: 100, Moves: 1000, Members: 5000}

// Decode reads the operations from a PatchOp message that [schemas.Decode] has
// already read. Errors are *[Error].
func Decode(body any, l Limits, mode schemas.Mode) ([]Operation, error) {
	list, err := operations(body, mode)
	if err != nil {
		return nil, err
	}
	tooMany := func(n, limit int, of string) error {
		if limit <= 0 || n <= limit {
			return nil
		}
		return &Error{Index: -1, Path: "Operations", Kind: TooMany, Msg: fmt.Sprintf("more than %d %s", limit, of)}
	}
	ops := make([]Operation, len(list))
	searches, moves := 0, 0
	for i, raw := range list {
		if ops[i], err = decodeOperation(i, raw, mode); err != nil {
			return nil, err
		}
		values, filters := measure(ops[i].Value)
		if l.Members > 0 && values > l.Members {
			return nil, &Error{Index: i, Kind: TooMany, Msg: fmt.Sprintf("more than %d values in one operation", l.Members), part: "value"}
		}
		if isMove(ops[i], mode) {
			moves++
		} else {
			searches += 1 + filters
		}
		if err := cmp.Or(tooMany(searches, l.Operations, "operations"), tooMany(moves, l.Moves, "operations on members")); err != nil {
			return nil, err
		}
	}
	return ops, nil
}

// operations finds the list of operations in the message.
func operations(body any, mode schemas.Mode) ([]any, error) {
	if list, ok := bareOperations(body, mode); ok {
		return list, nil
	}
	message := func(path, msg string) error {
		return &Error{Index: -1, Path: path, Kind: InvalidSyntax, Msg: msg}
	}
	m, ok := body.(map[string]any)
	if !ok {
		return nil, message("", "a PATCH is a JSON object")
	}
	uris, _ := field(m, "schemas", mode)
	if !schemas.IsMessage(uris, MessageURI, mode) {
		return nil, message("schemas", "must contain "+MessageURI)
	}
	v, _ := field(m, "Operations", mode)
	list, ok := listed(v, mode)
	switch {
	case !ok:
		return nil, message("Operations", "expected a list of operations")
	case len(list) == 0 && mode == schemas.Strict: // Entra's validator sends that (E38)
		return nil, message("Operations", "expected at least one operation")
	}
	return list, nil
}

func decodeOperation(i int, raw any, mode schemas.Mode) (Operation, error) {
	var op Operation
	fail := func(kind Kind, part, msg string) (Operation, error) {
		return Operation{}, &Error{Index: i, Kind: kind, Msg: msg, part: part}
	}
	m, ok := raw.(map[string]any)
	if !ok {
		return fail(InvalidSyntax, "", "expected an object")
	}
	name, _ := field(m, "op", mode)
	text, _ := name.(string)
	if op.Op, ok = parseOp(text, mode); !ok {
		return fail(InvalidSyntax, "op", "expected add, replace or remove")
	}
	path, _ := field(m, "path", mode)
	switch path := path.(type) {
	case nil:
	case string:
		if path == "" && mode == schemas.Strict {
			return fail(InvalidPath, "path", "expected an attribute path")
		}
		op.Path = path
	default:
		return fail(InvalidPath, "path", "expected a string")
	}
	// §3.5.2.1: an add must have a value. A missing one is not read as null: a
	// request that lost something on the way must not clear anything.
	if op.Value, ok = field(m, "value", mode); !ok && op.Op != Remove {
		return fail(InvalidValue, "value", "is required for "+op.Op.String())
	}
	if op.Path == "" {
		op.Value = unquoted(op.Value, mode)
	}
	return op, nil
}

// measure counts the elements of all lists in v, and the keys that are paths
// with a filter: in a value without a path each is an operation in its own right
// and reads a whole list.
func measure(v any) (values, filters int) {
	add := func(v any) {
		n, f := measure(v)
		values, filters = values+n, filters+f
	}
	switch v := v.(type) {
	case []any:
		values = len(v)
		for _, e := range v {
			add(e)
		}
	case map[string]any:
		for key, e := range v {
			if strings.IndexByte(key, '[') >= 0 {
				filters++
			}
			add(e)
		}
	}
	return values, filters
}
