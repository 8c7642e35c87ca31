package storage

import (
	"time"

	"github.com/google/uuid"
)

// NewID returns a new id: UUIDv7 as text. Ids made later come later in the order of ids.
func NewID() string { return uuid.Must(uuid.NewV7()).String() } // crypto/rand does not fail

// Milli returns a time as it is stored: in UTC and in whole milliseconds.
func Milli(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
