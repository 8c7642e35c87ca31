package schemas

import (
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold returns the form in which values of a caseExact:false attribute are
// compared, everywhere: in filters, for uniqueness and when sorting. It is
// Unicode case folding after compatibility normalisation (NFKC), so that
// "ＡＬＩＣＥ" and "alice" are one name. Fold is idempotent.
func Fold(s string) string { return fold(s, nil) }

// fold is Fold that puts what is not as it was into memory, unless that is nil.
func fold(s string, memory *strings.Builder) string {
	if !ascii(s) {
		return foldUnicode(s)
	}
	var short [shortName]byte
	b := appendFolded(short[:0], s)
	switch {
	case b == nil:
		return s
	case memory == nil:
		return string(b)
	case memory.Cap()-memory.Len() < len(b):
		memory.Reset() // not what has been handed out
		memory.Grow(max(folded, len(b)))
	}
	start := memory.Len()
	memory.Write(b)
	return memory.String()[start:]
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// A Folder is for who folds many strings and forgets them together: most of what is
// not as it was stands in one piece of memory. The zero value is ready for use. It must not
// be copied once it has been used.
type Folder struct{ b strings.Builder }

// folded is how many bytes a Folder takes at a time. A user needs some two hundred.
const folded = 256

// Key is [Attribute.Key] for a value of a.
func (f *Folder) Key(a *Attribute, s string) string {
	if a.CaseExact {
		return s
	}
	return fold(s, &f.b)
}

func foldUnicode(s string) string {
	// Folding may leave a string that normalises further and the other way
	// round; a second pass reaches the fixed point.
	for range 3 {
		t := norm.NFKC.String(strings.Map(foldCherokee, cases.Fold().String(norm.NFKC.String(s))))
		if t == s {
			break
		}
		s = t
	}
	return s
}

// foldCherokee folds the small letters of Cherokee to the capital ones, as
// Unicode does for this script alone. cases.Fold turns each into the other.
func foldCherokee(r rune) rune {
	switch {
	case 0xAB70 <= r && r <= 0xABBF:
		return r - 0xAB70 + 0x13A0
	case 0x13F8 <= r && r <= 0x13FD:
		return r - 8
	}
	return r
}

// Key returns the form in which a value of a is compared for equality.
func (a *Attribute) Key(s string) string {
	if a.CaseExact {
		return s
	}
	return Fold(s)
}

// UniqueKey returns the form of s that must be unique: Key without white space
// at its ends, so that a name cannot be taken twice by padding it.
func (a *Attribute) UniqueKey(s string) string {
	return strings.TrimSpace(a.Key(s))
}

// TimeUnit is the resolution at which dateTimes are compared. Clients on .NET write
// seven digits; no others are known to write more.
const TimeUnit = 100 * time.Nanosecond

// ParseTime reads a dateTime (RFC 7643 §2.3.5, xsd:dateTime): RFC 3339, with a
// missing zone taken as UTC, as some clients write it, in the years 1 to 9999. What
// is finer than a TimeUnit is left out, here and so in every comparison.
func ParseTime(s string) (time.Time, bool) {
	// time.Parse also reads "T4:56:22" and a comma before the fraction.
	if len(s) < len("2006-01-02T15:04:05") || s[13] != ':' || strings.Contains(s, ",") {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", s)
	}
	t = t.UTC().Truncate(TimeUnit)
	return t, err == nil && 1 <= t.Year() && t.Year() <= 9999
}
