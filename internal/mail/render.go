package mail

import (
	"cmp"
	"embed"
	"fmt"
	html "html/template"
	"strings"
	plain "text/template"
	"time"
)

// Letter is a message as it reads.
type Letter struct {
	ID       string // the same whenever it is sent
	To       string
	Language string // of the text
	Date     time.Time
	Subject  string // one line
	Text     string
	HTML     string
}

//go:embed templates
var files embed.FS

// templates are those of a language: for each kind one for the subject, one for the
// text and one for HTML.
type templates struct {
	text *plain.Template
	html *html.Template
}

var templatesIn = func() map[string]templates {
	all := map[string]templates{}
	for _, tag := range languages {
		lang := tag.String()
		funcs := map[string]any{
			"time":  func(instant string) (string, error) { return written(lang, instant) },
			"quote": quote,
		}
		all[lang] = templates{
			text: plain.Must(plain.New("").Option("missingkey=error").Funcs(funcs).ParseFS(files, "templates/"+lang+".txt")),
			html: html.Must(html.New("").Option("missingkey=error").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/"+lang+".html")),
		}
	}
	return all
}()

// quote marks each line of somebody's text, so that it is not taken for ours.
func quote(s string) string { return "> " + strings.ReplaceAll(s, "\n", "\n> ") }

// Letter checks a message and writes it, in its language or in another one.
func (m *Message) Letter(otherwise string) (*Letter, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	l, err := m.render(otherwise)
	if err != nil {
		return nil, fmt.Errorf("a message of the kind %s cannot be written", m.Kind) // the error may quote it
	}
	return l, nil
}

// render writes a message that has been checked, in its language or in another one.
func (m *Message) render(otherwise string) (*Letter, error) {
	lang := cmp.Or(LanguageOf(m.Language, otherwise), languages[0].String())
	l := &Letter{To: m.To, Language: lang}
	data := map[string]any{"lang": lang, organisation.name: ""}
	for k, v := range m.Fields {
		data[k] = v
	}
	t := templatesIn[lang]
	var subject, text, page strings.Builder
	if err := t.text.ExecuteTemplate(&subject, string(m.Kind)+".subject", data); err != nil {
		return nil, err
	}
	if err := t.text.ExecuteTemplate(&text, string(m.Kind), data); err != nil {
		return nil, err
	}
	data["subject"] = subject.String()
	if err := t.html.ExecuteTemplate(&page, string(m.Kind), data); err != nil {
		return nil, err
	}
	l.Subject, l.Text, l.HTML = subject.String(), text.String(), page.String()
	return l, nil
}
