package auth

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the list of common passwords
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/roster-id/roster/schemas"
)

// Policy says what a password that people choose must be like. There are no rules
// of composition and no expiry of passwords that are good (NIST SP 800-63B).
// Passwords that identity providers write over SCIM are theirs to judge.
type Policy struct {
	// MinAdministrator and MinUser are the fewest characters of the password of
	// somebody who holds an administrative role, and of everybody else.
	MinAdministrator, MinUser int
	// TemporaryFor is how long a temporary password is good; for ever if zero.
	TemporaryFor time.Duration
	// Words are those that count for nothing in any password, such as the name of
	// the organisation. That of the product always does.
	Words []string
}

// DefaultPolicy is the policy if nobody says.
func DefaultPolicy() Policy {
	return Policy{MinAdministrator: 12, MinUser: 8, TemporaryFor: 24 * time.Hour}
}

// PolicyError says what was expected of a password. It does not repeat it.
type PolicyError struct{ Expected string }

func (e *PolicyError) Error() string { return "expected " + e.Expected }

// Check reports why somebody may not choose a password: ErrPasswordEmpty,
// ErrPasswordTooLong or a *PolicyError. words are what is known about the
// person: the user name, names and addresses.
//
// The password is looked at as it is hashed, in its NFKC form. What it repeats
// counts once, and words count for nothing, wherever they stand.
func (p Policy) Check(password string, administrator bool, words ...string) error {
	password, err := preparePassword(password)
	if err != nil {
		return err
	}
	least := p.MinUser
	if administrator {
		least = p.MinAdministrator
	}
	if n := utf8.RuneCountInString(password); n < least {
		return &PolicyError{fmt.Sprintf("at least %d characters", least)}
	}
	folded := schemas.Fold(password)
	once := unit(folded)
	if common(folded) || common(once) {
		return &PolicyError{"a password that is not among the most common ones"}
	}
	if utf8.RuneCountInString(once) < least {
		return &PolicyError{fmt.Sprintf("at least %d characters without repetition", least)}
	}
	if utf8.RuneCountInString(without(once, p.contextWords(words))) < least {
		return &PolicyError{fmt.Sprintf("at least %d characters beside names and addresses", least)}
	}
	return nil
}

// productName is what everybody thinks of first.
const productName = "roster"

// contextWords returns the words in the form they are looked for, the longest
// first. Of an address the part before the @ is one as well.
func (p Policy) contextWords(words []string) []string {
	var list []string
	add := func(w string) {
		// Shorter ones are in too many words.
		if w = schemas.Fold(norm.NFKC.String(strings.TrimSpace(w))); utf8.RuneCountInString(w) >= 3 {
			list = append(list, w)
		}
	}
	for _, w := range append(append([]string{productName}, p.Words...), words...) {
		add(w)
		if local, _, ok := strings.Cut(w, "@"); ok {
			add(local)
		}
		for part := range strings.FieldsFuncSeq(w, func(r rune) bool { return strings.ContainsRune(" .-_@+", r) }) {
			add(part)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(list)
}

func without(s string, words []string) string {
	for _, w := range words {
		s = strings.ReplaceAll(s, w, "")
	}
	return s
}

// unit returns the shortest text that s is a repetition of.
func unit(s string) string {
	// s is found in itself twice over before its end if, and only if, it repeats.
	if n := strings.Index((s + s)[1:], s) + 1; n < len(s) {
		return s[:n]
	}
	return s
}

// common.LICENSE says where the list comes from.
//
//go:embed common.txt.gz
var commonFile []byte

var commonPasswords = sync.OnceValue(func() []string {
	r, err := gzip.NewReader(bytes.NewReader(commonFile))
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(r); err == nil {
			return strings.Fields(string(b))
		}
	}
	panic(err) // the program is damaged
})

// common reports whether a folded password is in the list.
func common(folded string) bool {
	_, found := slices.BinarySearch(commonPasswords(), folded)
	return found
}
