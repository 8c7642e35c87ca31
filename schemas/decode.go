package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a JSON body. Zero means no limit.
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
// after the value, and the character U+0000 in strings. Every error about the
// text is a *[SyntaxError]; limits are enforced while reading, before memory is
// spent.
func Decode(b []byte, l Limits) (any, error) {
	d := decoder{limits: l, dec: jsontext.NewDecoder(bytes.NewBuffer(b))}
	v, err := d.value()
	if err != nil {
		return nil, d.explain(err)
	}
	if _, err := d.dec.ReadToken(); err == nil {
		return nil, d.fail("unexpected data after the JSON value")
	} else if !errors.Is(err, io.EOF) {
		return nil, d.explain(err)
	}
	return v, nil
}

type decoder struct {
	dec    *jsontext.Decoder
	limits Limits
	depth  int
	tokens int
}

func (d *decoder) fail(format string, args ...any) error {
	return &SyntaxError{Offset: d.dec.InputOffset(), Msg: fmt.Sprintf(format, args...)}
}

// explain turns what the tokenizer says into a SyntaxError that quotes nothing.
func (d *decoder) explain(err error) error {
	var own *SyntaxError
	if errors.As(err, &own) {
		return own
	}
	var syn *jsontext.SyntacticError
	switch {
	case errors.As(err, &syn) && errors.Is(err, jsontext.ErrDuplicateName):
		return &SyntaxError{Offset: syn.ByteOffset, Msg: "an attribute is given twice"}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return d.fail("the JSON ends too early")
	case errors.As(err, &syn):
		if strings.Contains(syn.Error(), "UTF-8") {
			return &SyntaxError{Offset: syn.ByteOffset, Msg: "invalid UTF-8"}
		}
		return &SyntaxError{Offset: syn.ByteOffset, Msg: "not valid JSON"}
	}
	return d.fail("not valid JSON")
}

func (d *decoder) next() (jsontext.Token, error) {
	d.tokens++
	if d.limits.Tokens > 0 && d.tokens > d.limits.Tokens {
		return jsontext.Token{}, d.fail("more than %d JSON values", d.limits.Tokens)
	}
	return d.dec.ReadToken()
}

func (d *decoder) value() (any, error) {
	tok, err := d.next()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case '{':
		return d.object()
	case '[':
		return d.array()
	case '"':
		return d.text(tok)
	case '0':
		return json.Number(tok.String()), nil
	case 't', 'f':
		return tok.Bool(), nil
	}
	return nil, nil
}

func (d *decoder) text(tok jsontext.Token) (string, error) {
	s := tok.String()
	if strings.IndexByte(s, 0) >= 0 {
		return "", d.fail("the character U+0000 is not allowed")
	}
	return s, nil
}

func (d *decoder) enter() error {
	d.depth++
	if d.limits.Depth > 0 && d.depth > d.limits.Depth {
		return d.fail("nested deeper than %d levels", d.limits.Depth)
	}
	return nil
}

func (d *decoder) object() (any, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	m := make(map[string]any)
	var folded map[string]bool // only for objects too big to compare pairwise
	for d.dec.PeekKind() != '}' {
		tok, err := d.next()
		if err != nil {
			return nil, err
		}
		name, err := d.text(tok)
		if err != nil {
			return nil, err
		}
		if len(m) < 16 {
			for other := range m {
				if equalNames(other, name) {
					return nil, d.fail("an attribute is given twice (names are compared without regard to case)")
				}
			}
		} else {
			if folded == nil {
				folded = make(map[string]bool, 2*len(m))
				for other := range m {
					folded[foldName(other)] = true
				}
			}
			if folded[foldName(name)] {
				return nil, d.fail("an attribute is given twice (names are compared without regard to case)")
			}
			folded[foldName(name)] = true
		}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		m[name] = v
	}
	if _, err := d.next(); err != nil {
		return nil, err
	}
	d.depth--
	return m, nil
}

func (d *decoder) array() (any, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	a := []any{}
	for d.dec.PeekKind() != ']' {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	if _, err := d.next(); err != nil {
		return nil, err
	}
	d.depth--
	return a, nil
}

// equalNames and foldName agree: attribute names are ASCII (RFC 7643 §2.1), and
// of anything else only the ASCII letters are folded.
func equalNames(a, b string) bool {
	return len(a) == len(b) && (a == b || foldName(a) == foldName(b))
}

func foldName(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return strings.Map(func(r rune) rune {
				if 'A' <= r && r <= 'Z' {
					return r + 'a' - 'A'
				}
				return r
			}, s)
		}
	}
	return strings.ToLower(s)
}
