package patch

import (
	"errors"
	"fmt"
	"strings"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
)

// Kind is what an [Error] is about; it decides status and scimType on the wire
// (RFC 7644 §3.12).
type Kind uint8

// The kinds of an Error. All but TooMany are the scimType of the same name.
const (
	InvalidSyntax Kind = iota
	InvalidPath
	InvalidFilter
	InvalidValue
	NoTarget
	Mutability
	TooMany
)

var kindNames = [...]string{"invalidSyntax", "invalidPath", "invalidFilter", "invalidValue", "noTarget", "mutability", "tooMany"}

// String returns the scimType.
func (k Kind) String() string { return kindNames[k] }

// Error says which operation of a PATCH cannot be applied and what was
// expected. It names attributes, never their values.
type Error struct {
	Index int    // the operation, counted from 0; -1 for the message as a whole
	Path  string // the attribute, as in "emails[1].value"; may be empty
	Kind  Kind
	Msg   string
	// Unknown is as in schemas.ValueError.
	Unknown string

	part string // of the operation: "op", "path", "value[3]"; may be empty
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Index >= 0 {
		fmt.Fprintf(&b, "Operations[%d]", e.Index)
		if e.part != "" {
			b.WriteString("." + e.part)
		}
		b.WriteString(": ")
	}
	if e.Path != "" && e.part != "path" { // what is wrong with a path names the attribute
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

func (e *edit) fail(kind Kind, path, format string, args ...any) error {
	return &Error{Index: e.index, Path: path, Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// badValue turns what binding said into an Error of the current operation.
func (e *edit) badValue(err error) error {
	return e.valueError(err, e.index, "")
}

func (e *edit) valueError(err error, index int, part string) error {
	v, ok := errors.AsType[*schemas.ValueError](err)
	if !ok {
		return err
	}
	kind := InvalidValue
	switch v.Kind {
	case schemas.InvalidSyntax:
		kind = InvalidSyntax
	case schemas.MutabilityConflict:
		kind = Mutability
	}
	return &Error{Index: index, Path: v.Path, Kind: kind, Msg: v.Msg, Unknown: v.Unknown, part: part}
}

// unfinished turns what Finish said into an Error. Finish sees the outcome of
// all operations; the last one that wrote the attribute is named.
func (e *edit) unfinished(err error) error {
	index := -1
	if v, ok := errors.AsType[*schemas.ValueError](err); ok {
		for _, t := range e.touched {
			if rest, ok := strings.CutPrefix(v.Path, t.attr.Name); ok && (rest == "" || strings.ContainsRune(".:[", rune(rest[0]))) {
				index = t.index
			}
		}
	}
	return e.valueError(err, index, "")
}

// badPath turns what ParsePath said into an Error: invalidFilter for what is
// wrong between the brackets, invalidPath for everything else.
func (e *edit) badPath(path string, err error) error {
	out := &Error{Index: e.index, Path: attributeName(path), Kind: InvalidPath, Msg: "not a valid path", part: "path"}
	if e.pathless { // the path is a key
		out.part = "value"
	}
	if syn, ok := errors.AsType[*filter.SyntaxError](err); ok {
		out.Msg = syn.Msg
		open, end := strings.IndexByte(path, '['), strings.LastIndexByte(path, ']')
		if open >= 0 && syn.Offset > open && (end < open || syn.Offset <= end) {
			out.Kind = InvalidFilter
		}
	}
	return out
}

// attributeName returns the part of a path that is the name of an attribute.
func attributeName(path string) string {
	name, _, _ := strings.Cut(path, "[")
	return schemas.Legible(name)
}
