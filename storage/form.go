package storage

import (
	"time"

	"github.com/google/uuid"
)

// NewID returns a new id: UUIDv7 as text. Ids made later come later in the order of ids.
func NewID() string { return uuid.Must(uuid.NewV7()).String() } // crypto/rand does not fail

// IsID reports whether id has the form of those of NewID. No resource has another one.
func IsID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := 0; i < len(id); i++ {
		switch c := id[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
		case c == '-' && (i == 8 || i == 13 || i == 18 || i == 23):
		default:
			return false
		}
	}
	return true
}

// Milli returns a time as it is stored: in UTC and in whole milliseconds.
func Milli(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
