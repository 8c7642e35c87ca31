package mail

import (
	"fmt"
	"time"

	"golang.org/x/text/language"
)

// languages are those that mail is written in, the first one for whoever reads none
// of them.
var (
	languages = []language.Tag{language.English, language.Swedish}
	matcher   = language.NewMatcher(languages)
)

// LanguageOf returns the language for somebody with these attributes of RFC 7643,
// §4.1.1: that of preferredLanguage, which may be a list as in Accept-Language, or
// else that of locale; "" if mail is written in neither.
func LanguageOf(preferredLanguage, locale string) string {
	for _, s := range []string{preferredLanguage, locale} {
		if t, ok := match(s); ok {
			return t
		}
	}
	return ""
}

// Written reports whether mail is written in the language of a tag.
func Written(tag string) bool {
	_, ok := match(tag)
	return ok
}

func match(s string) (string, bool) {
	tags, _, err := language.ParseAcceptLanguage(s)
	if err != nil || len(tags) == 0 {
		return "", false
	}
	// Less than High is another language that the reader may understand.
	_, i, confidence := matcher.Match(tags...)
	return languages[i].String(), confidence >= language.High
}

// months of a Swedish date; English ones are those of package time.
var months = [...]string{"januari", "februari", "mars", "april", "maj", "juni", "juli", "augusti", "september", "oktober", "november", "december"}

// written is an instant in a language. Where its reader is nobody knows, so it is in
// UTC, and says so.
func written(lang, instant string) (string, error) {
	t, err := time.Parse(time.RFC3339, instant)
	if err != nil {
		return "", err
	}
	t = t.UTC()
	if lang == language.Swedish.String() {
		return fmt.Sprintf("den %d %s %d kl. %s (UTC)", t.Day(), months[t.Month()-1], t.Year(), t.Format("15.04")), nil
	}
	return t.Format("2 January 2006 at 15:04 UTC"), nil
}
