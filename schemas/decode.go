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
	if v, ok := build(b, l); ok {
		return v, nil
	}
	return nil, explain(b, l)
}

// anyNames turns off what the tokenizer does about names given twice: our own
// check covers it.
var anyNames = jsontext.AllowDuplicateNames(true)

// build is Decode for what has nothing wrong in it, as nearly every body; it
// reports false for everything else.
func build(b []byte, l Limits) (any, bool) {
	if !jsontext.Value(b).IsValid(anyNames) {
		return nil, false
	}
	d := builders.Get().(*builder)
	defer d.release()
	d.limits, d.text, d.plain = l, string(b), bytes.IndexByte(b, '\\') < 0
	return d.value()
}

// A builder makes the tree of a text that is known to be JSON, which spares it
// all checks but those of our own. Names and values of an object or array wait
// on two stacks until its end is seen, so that the map or slice made for them
// has the right size at once.
type builder struct {
	text   string // the whole body
	at     int    // how much of it has been read
	plain  bool   // no string in it has an escape
	limits Limits
	depth  int
	tokens int
	names  []string
	values []any
}

var builders = sync.Pool{New: func() any { return new(builder) }}

// bigStack is how long the stacks of a builder may be for it to be used again.
const bigStack = 256

// release gives d back without anything of the tree in it.
func (d *builder) release() {
	if cap(d.names) > bigStack || cap(d.values) > bigStack {
		return
	}
	clear(d.names[:cap(d.names)])
	clear(d.values[:cap(d.values)])
	*d = builder{names: d.names[:0], values: d.values[:0]}
	builders.Put(d)
}

// next returns the first byte of the next token.
func (d *builder) next() byte {
	for {
		switch c := d.text[d.at]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			d.at++
		default:
			return c
		}
	}
}

// count is called for each token.
func (d *builder) count() bool {
	d.tokens++
	return d.limits.Tokens <= 0 || d.tokens <= d.limits.Tokens
}

func (d *builder) value() (v any, ok bool) {
	if !d.count() {
		return nil, false
	}
	switch d.next() {
	case '"':
		return d.string()
	case '{':
		return d.object()
	case '[':
		return d.array()
	case 't':
		d.at += len("true")
		return true, true
	case 'f':
		d.at += len("false")
		return false, true
	case 'n':
		d.at += len("null")
		return nil, true
	}
	rest := d.text[d.at:]
	end := strings.IndexAny(rest, ",]} \t\n\r")
	if end < 0 {
		end = len(rest)
	}
	d.at += end
	return json.Number(rest[:end]), true
}

func (d *builder) string() (string, bool) {
	rest := d.text[d.at+1:]
	end := strings.IndexByte(rest, '"')
	if d.plain || strings.IndexByte(rest[:end], '\\') < 0 {
		d.at += end + 2
		return rest[:end], true
	}
	for end = 0; rest[end] != '"'; end++ {
		if rest[end] == '\\' {
			end++
		}
	}
	u, err := jsontext.AppendUnquote(nil, d.text[d.at:d.at+end+2])
	d.at += end + 2
	return string(u), err == nil && bytes.IndexByte(u, 0) < 0
}

func (d *builder) enter() bool {
	d.at++
	d.depth++
	return d.limits.Depth <= 0 || d.depth <= d.limits.Depth
}

// leave reads the bracket at the end of an object or array.
func (d *builder) leave() bool {
	d.at++
	d.depth--
	return d.count()
}

func (d *builder) object() (any, bool) {
	if !d.enter() {
		return nil, false
	}
	names, values := len(d.names), len(d.values) // where this object begins on the stacks
	var folded map[string]bool
	for d.next() != '}' {
		if !d.count() {
			return nil, false
		}
		name, ok := d.string()
		if !ok || given(d.names[names:], name, &folded) {
			return nil, false
		}
		d.names = append(d.names, name) // those of objects inside come after it
		v, ok := d.value()
		if !ok {
			return nil, false
		}
		d.values = append(d.values, v)
	}
	m := make(map[string]any, len(d.names)-names)
	for i, name := range d.names[names:] {
		m[name] = d.values[values+i]
	}
	d.names, d.values = d.names[:names], d.values[:values]
	return m, d.leave()
}

func (d *builder) array() (any, bool) {
	if !d.enter() {
		return nil, false
	}
	start := len(d.values)
	for d.next() != ']' {
		v, ok := d.value()
		if !ok {
			return nil, false
		}
		d.values = append(d.values, v)
	}
	a := make([]any, len(d.values)-start)
	copy(a, d.values[start:])
	d.values = d.values[:start]
	return a, d.leave()
}

// pairwise is up to how many names or values are compared with each other to
// find equal ones; more of them pay for a map.
const pairwise = 16

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

// explain returns what is wrong with a text that build refused: the first thing
// that is, in the order of the text.
func explain(b []byte, l Limits) error {
	r := &reader{json: jsontext.NewDecoder(bytes.NewReader(b), anyNames), limits: l}
	err := r.value()
	if err == nil {
		if _, err = r.json.ReadToken(); err == nil {
			err = r.fail("unexpected data after the JSON value")
		}
	}
	if own, ok := errors.AsType[*SyntaxError](err); ok {
		return own
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return r.fail("the JSON ends too early")
	}
	syn, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok:
		return r.fail("not valid JSON")
	case bytes.HasPrefix(b, []byte("\ufeff")): // RFC 8259 §8.1; editors do not show it
		return &SyntaxError{Msg: "a byte order mark"}
	case strings.Contains(syn.Err.Error(), "UTF-8"):
		return &SyntaxError{Offset: syn.ByteOffset, Msg: "invalid UTF-8"}
	}
	return &SyntaxError{Offset: syn.ByteOffset, Msg: "not valid JSON"}
}

// A reader goes through a text token by token until something is wrong. The
// tokenizer's errors quote the text, ours do not.
type reader struct {
	json   *jsontext.Decoder
	limits Limits
	depth  int
	tokens int
}

func (r *reader) fail(format string, args ...any) error {
	return &SyntaxError{Offset: r.json.InputOffset(), Msg: fmt.Sprintf(format, args...)}
}

func (r *reader) count() error {
	r.tokens++
	if r.limits.Tokens > 0 && r.tokens > r.limits.Tokens {
		return r.fail("more than %d JSON values", r.limits.Tokens)
	}
	return nil
}

func (r *reader) value() error {
	if err := r.count(); err != nil {
		return err
	}
	kind := r.json.PeekKind()
	if kind == '"' {
		_, err := r.string()
		return err
	}
	if _, err := r.json.ReadToken(); err != nil || kind != '{' && kind != '[' {
		return err
	}
	r.depth++
	if r.limits.Depth > 0 && r.depth > r.limits.Depth {
		return r.fail("nested deeper than %d levels", r.limits.Depth)
	}
	if err := r.inside(kind == '{'); err != nil {
		return err
	}
	r.depth--
	if err := r.count(); err != nil {
		return err
	}
	_, err := r.json.ReadToken()
	return err
}

// inside reads what stands between two brackets.
func (r *reader) inside(object bool) error {
	var names []string
	var folded map[string]bool
	for k := r.json.PeekKind(); k != '}' && k != ']'; k = r.json.PeekKind() {
		if object {
			if err := r.count(); err != nil {
				return err
			}
			name, err := r.string()
			if err != nil {
				return err
			}
			if given(names, name, &folded) {
				return r.fail("an attribute is given twice (names are compared without regard to case)")
			}
			names = append(names, name)
		}
		if err := r.value(); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) string() (string, error) {
	v, err := r.json.ReadValue()
	if err != nil {
		return "", err
	}
	u, err := jsontext.AppendUnquote(nil, v)
	if err == nil && bytes.IndexByte(u, 0) >= 0 {
		err = r.fail("the character U+0000 is not allowed")
	}
	return string(u), err
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
	var short [shortName]byte
	if b := appendFolded(short[:0], s); b != nil {
		return string(b)
	}
	return s
}

// shortName is up to how many bytes a name is folded without memory of its own, as most.
const shortName = 64

// appendFolded appends s with its ASCII letters folded, and returns nil if they are.
func appendFolded(dst []byte, s string) []byte {
	i := 0
	for i < len(s) && !upper(s[i]) {
		i++
	}
	if i == len(s) {
		return nil
	}
	i += len(dst)
	dst = append(dst, s...)
	for ; i < len(dst); i++ {
		dst[i] = lower(dst[i])
	}
	return dst
}

func upper(c byte) bool { return c-'A' < 26 }

func lower(c byte) byte {
	if upper(c) {
		return c + 'a' - 'A'
	}
	return c
}
