package config

import (
	"fmt"
	"log/slog"
	"strings"
)

// StoreURL says which database to use: the path of a file, or a URL, which may
// carry a password. However it is printed, logged or marshalled, the parts of a
// URL that may be secret are left out; Reveal returns all of it.
type StoreURL string

// Reveal returns the text itself.
func (s StoreURL) Reveal() string { return string(s) }

// String returns the path, or the URL without user, password and options.
func (s StoreURL) String() string {
	scheme, rest, isURL := strings.Cut(string(s), "://")
	if !isURL {
		return string(s)
	}
	// Not url.Parse: it refuses the host lists of MongoDB, and a URL that does
	// not parse may hold a password all the same. A password can contain any
	// character if nobody escaped it, so the last @ ends it.
	user := ""
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, rest = "[redacted]@", rest[i+1:]
	}
	// Options can hold session tokens and the passwords of key files.
	options := ""
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		options, rest = rest[i:i+1]+"[redacted]", rest[:i]
	}
	return scheme + "://" + user + rest + options
}

// GoString returns String in quotes.
func (s StoreURL) GoString() string { return fmt.Sprintf("%q", s.String()) }

// Format prints String for every verb: without it, fmt prints the text of a
// string type behind a verb that does not fit, such as %d.
func (s StoreURL) Format(f fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		_, _ = f.Write([]byte(s.GoString()))
		return
	}
	_, _ = f.Write([]byte(s.String()))
}

// LogValue returns String.
func (s StoreURL) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns String, for JSON and YAML too.
func (s StoreURL) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
