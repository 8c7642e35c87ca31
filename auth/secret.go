package auth

import (
	"fmt"
	"log/slog"
)

// Secret is text that must not end up in a log, an error or an answer. However
// it is printed, logged or marshalled, it reads "[redacted]"; Reveal is the one
// way to the text. (It must not be the key of a map: encoding/json writes keys
// of string types as they are.)
//
// It lives here, below the packages that hand secrets on, so that all of them
// can name it.
type Secret string

const redacted = "[redacted]"

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format prints "[redacted]" for every verb: without it, fmt prints the text of
// a string type behind a verb that does not fit, such as %d.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
