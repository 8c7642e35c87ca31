package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a JSON body. Zero means no limit of ours; the tokenizer refuses
// more than 10,000 levels by itself.
type Limits struct {
	Depth  int // nesting of objects and arrays
	Tokens int // values, names and brackets together
}

// A SyntaxError says why a body is not the JSON that SCIM needs.
type SyntaxError struct {
	Offset int64  // bytes into the body
	Msg    string // never quotes the body
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.Msg, e.Offset) }

// Decode reads one JSON value into a raw tree of map[string]any, []any, string,
// json.Number, bool and nil. What encoding/json lets pass is refused here:
// two names in one object that differ only in case, invalid UTF-8, anything
// after the value, and the character U+0000 in strings. Every error is a
// *[SyntaxError]; limits are enforced while reading, before memory is spent.
// The strings of the tree share one copy of b.
func Decode(b []byte, l Limits) (any, error) {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.reset(b, l)
	v, err := d.value()
	if err != nil {
		return nil, d.explain(err)
	}
	if _, err := d.json.ReadToken(); err == nil {
		return nil, d.fail("unexpected data after the JSON value")
	} else if !errors.Is(err, io.EOF) {
		return nil, d.explain(err)
	}
	return v, nil
}

// A decoder builds the tree from tokens. Names and values of an object or array
// wait on two stacks until its end is seen, so that the map or slice made for
// them has the right size at once.
type decoder struct {
	json   *jsontext.Decoder
	in     bytes.Buffer
	text   string // the whole body
	plain  bool   // no string in it has an escape
	limits Limits
	depth  int
	tokens int
	names  []string
	values []any
}

var decoders = sync.Pool{New: func() any { return &decoder{json: new(jsontext.Decoder)} }}

// bigStack is how long the stacks of a decoder may be for it to be used again.
const bigStack = 256

func (d *decoder) reset(b []byte, l Limits) {
	d.limits, d.text, d.plain = l, string(b), bytes.IndexByte(b, '\\') < 0
	d.in = *bytes.NewBuffer(b)
	// Our own check for names given twice covers that of the tokenizer.
	d.json.Reset(&d.in, jsontext.AllowDuplicateNames(true))
}

// release gives d back without anything of the tree in it.
func (d *decoder) release() {
	if cap(d.names) > bigStack || cap(d.values) > bigStack {
		return
	}
	clear(d.names[:cap(d.names)])
	clear(d.values[:cap(d.values)])
	*d = decoder{json: d.json, names: d.names[:0], values: d.values[:0]}
	decoders.Put(d)
}

func (d *decoder) fail(format string, args ...any) error {
	return &SyntaxError{Offset: d.json.InputOffset(), Msg: fmt.Sprintf(format, args...)}
}

// explain turns what the tokenizer says into a SyntaxError that quotes nothing.
func (d *decoder) explain(err error) error {
	if own, ok := errors.AsType[*SyntaxError](err); ok {
		return own
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return d.fail("the JSON ends too early")
	}
	syn, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok:
		return d.fail("not valid JSON")
	case strings.Contains(syn.Err.Error(), "UTF-8"):
		return &SyntaxError{Offset: syn.ByteOffset, Msg: "invalid UTF-8"}
	}
	return &SyntaxError{Offset: syn.ByteOffset, Msg: "not valid JSON"}
}

// count is called before each token is read.
func (d *decoder) count() error {
	d.tokens++
	if d.limits.Tokens > 0 && d.tokens > d.limits.Tokens {
		return d.fail("more than %d JSON values", d.limits.Tokens)
	}
	return nil
}

func (d *decoder) value() (any, error) {
	if err := d.count(); err != nil {
		return nil, err
	}
	switch d.json.PeekKind() {
	case '"':
		return d.string()
	case '0':
		n, _, err := d.raw()
		return json.Number(n), err
	}
	tok, err := d.json.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case '{':
		return d.object()
	case '[':
		return d.array()
	case 't':
		return true, nil
	case 'f':
		return false, nil
	}
	return nil, nil
}

// raw reads a string or a number and returns its text in the body, once as part
// of d.text, once as the bytes it was cut from.
func (d *decoder) raw() (string, []byte, error) {
	v, err := d.json.ReadValue()
	if err != nil {
		return "", nil, err
	}
	end := int(d.json.InputOffset())
	return d.text[end-len(v) : end], v, nil
}

func (d *decoder) string() (string, error) {
	s, v, err := d.raw()
	if err != nil {
		return "", err
	}
	if d.plain || strings.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1], nil
	}
	u, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return "", err
	}
	if bytes.IndexByte(u, 0) >= 0 {
		return "", d.fail("the character U+0000 is not allowed")
	}
	return string(u), nil
}

func (d *decoder) enter() error {
	d.depth++
	if d.limits.Depth > 0 && d.depth > d.limits.Depth {
		return d.fail("nested deeper than %d levels", d.limits.Depth)
	}
	return nil
}

// leave reads the bracket at the end of an object or array.
func (d *decoder) leave() error {
	d.depth--
	if err := d.count(); err != nil {
		return err
	}
	_, err := d.json.ReadToken()
	return err
}

// pairwise is up to how many names or values are compared with each other to
// find equal ones; more of them pay for a map.
const pairwise = 16

func (d *decoder) object() (any, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	names, values := len(d.names), len(d.values) // where this object begins on the stacks
	var folded map[string]bool
	for d.json.PeekKind() != '}' {
		if err := d.count(); err != nil {
			return nil, err
		}
		name, err := d.string()
		if err != nil {
			return nil, err
		}
		if given(d.names[names:], name, &folded) {
			return nil, d.fail("an attribute is given twice (names are compared without regard to case)")
		}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		d.names, d.values = append(d.names, name), append(d.values, v)
	}
	m := make(map[string]any, len(d.names)-names)
	for i, name := range d.names[names:] {
		m[name] = d.values[values+i]
	}
	d.names, d.values = d.names[:names], d.values[:values]
	return m, d.leave()
}

// given reports whether name is among names in any case. folded is the caller's
// memory between calls.
func given(names []string, name string, folded *map[string]bool) bool {
	if len(names) < pairwise {
		for _, other := range names {
			if len(other) == len(name) && equalNames(other, name) {
				return true
			}
		}
		return false
	}
	if *folded == nil {
		*folded = make(map[string]bool, 4*pairwise)
		for _, other := range names {
			(*folded)[foldName(other)] = true
		}
	}
	key := foldName(name)
	was := (*folded)[key]
	(*folded)[key] = true
	return was
}

func (d *decoder) array() (any, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	start := len(d.values)
	for d.json.PeekKind() != ']' {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		d.values = append(d.values, v)
	}
	a := make([]any, len(d.values)-start)
	copy(a, d.values[start:])
	d.values = d.values[:start]
	return a, d.leave()
}

// equalNames and foldName agree: attribute names are ASCII (RFC 7643 §2.1), and
// of anything else only the ASCII letters are folded.
func equalNames(a, b string) bool {
	if len(a) != len(b) || a == b {
		return a == b
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func foldName(s string) string {
	for i := range len(s) {
		if s[i] != lower(s[i]) {
			b := []byte(s)
			for ; i < len(b); i++ {
				b[i] = lower(b[i])
			}
			return string(b)
		}
	}
	return s
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
