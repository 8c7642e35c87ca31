package filter

import (
	"strings"
	"unicode/utf8"
)

// kind is what a literal is in JSON.
type kind uint8

const (
	other kind = iota
	text
	number
	boolean
	null
)

type literal struct {
	kind kind
	text string // a string's characters, anything else as written
}

// pathByte reports whether c may be part of an attribute path (RFC 7644 §3.10),
// schema URN included.
func pathByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '.' || c == ':' || c == '-' || c == '_' || c == '$'
}

// is compares a word with one of the grammar's, without regard to case. The
// lengths keep out letters beyond ASCII that fold to one of it.
func is(word, want string) bool { return len(word) == len(want) && strings.EqualFold(word, want) }

func (p *parser) at(c byte) bool { return p.pos < len(p.text) && p.text[p.pos] == c }

func (p *parser) take(c byte) bool {
	if !p.at(c) {
		return false
	}
	p.pos++
	return true
}

func (p *parser) skip() {
	for p.at(' ') {
		p.pos++
	}
}

// space wants a space here. At the end of the text it is content: what should
// have come next is the better complaint.
func (p *parser) space() error {
	if p.pos < len(p.text) && !p.at(' ') {
		return p.fail(p.pos, "expected a space")
	}
	p.skip()
	return nil
}

// word takes an attribute path or an operator; it is empty where none begins.
func (p *parser) word() string {
	start := p.pos
	for p.pos < len(p.text) && pathByte(p.text[p.pos]) {
		p.pos++
	}
	return p.text[start:p.pos]
}

// keyword takes a space and the word, or nothing.
func (p *parser) keyword(want string) bool {
	start := p.pos
	p.skip()
	if p.pos > start && is(p.word(), want) {
		return true
	}
	p.pos = start
	return false
}

// literal takes the value of a comparison.
func (p *parser) literal() (literal, error) {
	if p.at('"') {
		s, err := p.quoted()
		return literal{text, s}, err
	}
	start := p.pos
	for p.pos < len(p.text) && strings.IndexByte(" )]", p.text[p.pos]) < 0 {
		p.pos++
	}
	s := p.text[start:p.pos]
	switch {
	case s == "":
		return literal{}, p.fail(start, "expected a value")
	case is(s, "true"), is(s, "false"):
		return literal{boolean, s}, nil
	case is(s, "null"):
		return literal{null, s}, nil
	case isNumber(s):
		return literal{number, s}, nil
	}
	return literal{other, s}, nil
}

// quoted takes a JSON string (RFC 8259 §7) and returns its characters. Nothing
// is copied before the closing quote is found.
func (p *parser) quoted() (string, error) {
	start := p.pos + 1
	escapes := false
	for i := start; i < len(p.text); {
		switch c := p.text[i]; {
		case c == '"':
			p.pos = i + 1
			if escapes {
				return unescape(p.text[start:i]), nil
			}
			return p.text[start:i], nil
		case c == '\\':
			r, n := escape(p.text[i:])
			if n == 0 {
				return "", p.fail(i, "invalid escape")
			}
			if r == 0 {
				return "", p.fail(i, "the character U+0000 is not allowed")
			}
			escapes = true
			i += n
		case c < ' ':
			return "", p.fail(i, "control character in a string")
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRuneInString(p.text[i:])
			if r == utf8.RuneError && n == 1 {
				return "", p.fail(i, "invalid UTF-8")
			}
			i += n
		}
	}
	return "", p.fail(len(p.text), "the string does not end")
}

// unescape decodes a string whose escapes are all valid.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			return string(append(b, s...))
		}
		r, n := escape(s[i:])
		b = utf8.AppendRune(append(b, s[:i]...), r)
		s = s[i+n:]
	}
}

// escape decodes the escape sequence s begins with and returns its length, which
// is 0 when it is not valid. Half a surrogate pair is not.
func escape(s string) (rune, int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch c := s[1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	r, ok := unicodeEscape(s)
	switch {
	case !ok, 0xDC00 <= r && r < 0xE000:
		return 0, 0
	case r < 0xD800 || r >= 0xE000:
		return r, 6
	}
	low, ok := unicodeEscape(s[6:])
	if !ok || low < 0xDC00 || low >= 0xE000 {
		return 0, 0
	}
	return 0x10000 + (r-0xD800)<<10 + (low - 0xDC00), 12
}

// unicodeEscape reads \uXXXX at the beginning of s.
func unicodeEscape(s string) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(s[2:6]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 + rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 + rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	return r, true
}

// isNumber reports whether s is a number in JSON (RFC 8259 §6).
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := digits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	s = s[whole:]
	if s != "" && s[0] == '.' {
		n := digits(s[1:])
		if n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if s != "" && s[0]|0x20 == 'e' {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		n := digits(s)
		return n > 0 && n == len(s)
	}
	return s == ""
}

// digits counts the digits s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
