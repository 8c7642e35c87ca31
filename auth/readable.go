package auth

import (
	"io"
	"strings"
)

// Passwords and codes that the server makes up are written in the alphabet of
// Crockford's base32, in lower case and in groups: no two of its characters are
// mistaken for each other.
const readable = "0123456789abcdefghjkmnpqrstvwxyz"

// newReadable returns n random characters, five bits each, in groups of six.
func newReadable(random io.Reader, n int) (Secret, error) {
	raw := make([]byte, n)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", err
	}
	b := make([]byte, 0, n+n/6)
	for i, c := range raw {
		if i > 0 && i%6 == 0 {
			b = append(b, '-')
		}
		b = append(b, readable[c%32])
	}
	return Secret(b), nil
}

// newTemporaryPassword makes one of 130 bits.
func newTemporaryPassword(random io.Reader) (Secret, error) { return newReadable(random, 26) }

// canonicalReadable undoes what people do to such a text when they copy it: case,
// spaces, hyphens, and the letters that are not in the alphabet because they look
// like digits.
func canonicalReadable(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\t', '\n', '\r':
			return -1
		case 'o', 'O':
			return '0'
		case 'i', 'I', 'l', 'L':
			return '1'
		}
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}
