package mail

import (
	stdmail "net/mail"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Message is something to tell somebody.
type Message struct {
	Kind Kind
	To   string // an address without a name, ana@example.com
	// Language is the BCP 47 tag of the recipient's language, or "" for the
	// server's default; see LanguageOf.
	Language string
	// Fields are those of the kind, and no others. Their texts may come from
	// anybody: in the mail they are neither markup nor links.
	Fields map[string]string
}

// maxAddress is the longest path of RFC 5321, §4.5.3.1.3, without its brackets.
const maxAddress = 254

// checkAddress accepts one address without a name. It may have characters beyond
// ASCII (RFC 6531).
func checkAddress(s string) error {
	wrong := &FieldError{"to", "is no address of a mailbox"}
	if len(s) > maxAddress || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || invisible(r) || strings.ContainsRune(`<>(),;:"\[]`, r)
	}) {
		return wrong
	}
	a, err := stdmail.ParseAddress("<" + s + ">")
	if err != nil || a.Address != s || a.Name != "" {
		return wrong
	}
	return nil
}

// invisible reports whether a character changes how others are shown, or nothing
// that people see.
func invisible(r rune) bool { return unicode.Is(unicode.Cf, r) || r == 0x2028 || r == 0x2029 }

// oneLine is a text of somebody's in one line that is not too long: without control
// characters, what could be taken for the end of a header among them.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(shown(s), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if utf8.RuneCountInString(s) > maxLine {
		s = string([]rune(s)[:maxLine-1]) + "…"
	}
	return s
}

// lines is a text of somebody's in several lines.
func lines(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r) && r != '\n':
			return -1
		}
		return r
	}, shown(s))
	return strings.TrimSpace(emptyLines.ReplaceAllString(s, "\n\n"))
}

var emptyLines = regexp.MustCompile(`\n[ \n]*\n`)

// shown drops the characters that are invisible, except in the emoji and scripts that
// need joiners.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0x2028 || r == 0x2029 {
			return '\n'
		}
		if invisible(r) && r != 0x200C && r != 0x200D {
			return -1
		}
		return r
	}, s)
}

// disarm keeps programs that show mail from making links of somebody's text: the
// only links in our mail are ours. What could become one gets brackets, which
// people can read past: evil[.]example.
func disarm(s string) string {
	s = scheme.ReplaceAllString(s, "$1[:]$2")
	return host.ReplaceAllStringFunc(s, func(name string) string {
		return dots.ReplaceAllString(name, "[.]")
	})
}

var (
	scheme = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*):(//|\\\\)`)
	// host is what ends like the name of a host: it begins with more than one
	// letter, or ends in a path or a port. 10.30 and t.ex. are none, t.co/x is.
	host = regexp.MustCompile(`[\pL\pN_-]{2,}(?:[.。．｡][\pL\pN_-]+)*[.。．｡]\pL[\pL\pN-]+|[\pL\pN_-]+(?:[.。．｡][\pL\pN_-]+)*[.。．｡]\pL[\pL\pN-]*(?:[/?#\\]|:[0-9])`)
	dots = regexp.MustCompile(`[.。．｡]`)
)
