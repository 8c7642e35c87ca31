package scimtest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Script is a file of requests and what must come back.
type Script struct {
	Name  string // what errors call the file
	Steps []*Step
}

// Step is one request of a script.
type Step struct {
	Title string // the comment above it
	Line  int    // of the request

	method, target string
	standing       []field // the "@" lines in force
	header         []field
	body           string
	hasBody        bool
	statuses       []int
	checks         []check
	saves          []save
}

// String returns the first line of the request as the script has it.
func (s *Step) String() string { return s.method + " " + s.target }

type field struct{ name, value string }

// check is one "<" or "!" line after the status.
type check struct {
	line   int
	kind   checkKind
	not    bool
	name   string // of a header
	path   path
	text   string // JSON, a header's value, or what is not in the body
	anyone bool   // "! $.path", whatever its value
}

type checkKind uint8

const (
	checkHeader checkKind = iota
	checkBody
	checkPath
	checkText
)

type save struct {
	line   int
	name   string
	header string // or
	path   path
}

// SyntaxError says where a script is not one.
type SyntaxError struct {
	Name string // of the script
	Line int
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Msg) }

// Parse reads a script. name is what errors call it. Errors are *[SyntaxError].
func Parse(name string, text []byte) (*Script, error) {
	p := parser{script: &Script{Name: name}}
	for i, l := range strings.Split(string(text), "\n") {
		l = strings.TrimSuffix(l, "\r")
		if l == "" {
			p.lines = append(p.lines, line{number: i + 1})
			continue
		}
		text, ok := strings.CutPrefix(l[1:], " ")
		if !ok && text != "" || strings.IndexByte("#@><!=", l[0]) < 0 {
			return nil, p.fail(i+1, `expected a line beginning with "#", "@", ">", "<", "!" or "=" and a space`)
		}
		p.lines = append(p.lines, line{i + 1, l[0], text})
	}
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p.script, nil
}

type line struct {
	number int
	sign   byte // 0 for an empty line
	text   string
}

type parser struct {
	script   *Script
	lines    []line
	standing []field
}

func (p *parser) fail(number int, format string, args ...any) error {
	return &SyntaxError{p.script.Name, number, fmt.Sprintf(format, args...)}
}

// next is the sign of the next line.
func (p *parser) next() byte {
	if len(p.lines) == 0 {
		return 0
	}
	return p.lines[0].sign
}

func (p *parser) take() line {
	l := p.lines[0]
	p.lines = p.lines[1:]
	return l
}

func (p *parser) parse() error {
	var title []string
	for len(p.lines) > 0 {
		var err error
		switch p.next() {
		case '#':
			title = append(title, p.take().text)
			continue
		case '@':
			l := p.take()
			f, ok := parseField(l.text)
			if !ok {
				return p.fail(l.number, "expected a header")
			}
			p.standing = append(p.standing[:len(p.standing):len(p.standing)], f)
		case '>':
			step := &Step{Title: strings.Join(title, "\n"), standing: p.standing}
			p.script.Steps = append(p.script.Steps, step)
			err = p.step(step)
		case 0:
			p.take()
		default:
			return p.fail(p.lines[0].number, "a request must come first")
		}
		if err != nil {
			return err
		}
		title = nil
	}
	return nil
}

// step takes a request and what must come back.
func (p *parser) step(s *Step) error {
	if err := p.request(s); err != nil {
		return err
	}
	if p.next() != '<' {
		return p.fail(s.Line, "no status follows this request")
	}
	if err := p.status(s); err != nil {
		return err
	}
	for {
		var err error
		switch p.next() {
		case '<':
			err = p.expectation(s)
		case '!':
			err = p.refusal(s)
		case '=':
			err = p.save(s)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var fieldPattern = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*):(?: (.*)|)$`)

func parseField(text string) (field, bool) {
	m := fieldPattern.FindStringSubmatch(text)
	if m == nil {
		return field{}, false
	}
	return field{m[1], m[2]}, true
}

func (p *parser) request(s *Step) error {
	l := p.take()
	s.Line = l.number
	var ok bool
	s.method, s.target, ok = strings.Cut(l.text, " ")
	if !ok || s.method == "" || !strings.HasPrefix(s.target, "/") && !strings.HasPrefix(s.target, "?") {
		return p.fail(l.number, "expected a method and a path that begins with a slash")
	}
	for p.next() == '>' {
		l := p.take()
		if f, ok := parseField(l.text); ok {
			s.header = append(s.header, f)
			continue
		}
		body := []string{l.text}
		if l.text == "" { // as in HTTP: an empty line, then anything
			body = nil
		}
		for p.next() == '>' {
			body = append(body, p.take().text)
		}
		s.body, s.hasBody = strings.Join(body, "\n"), true
	}
	return nil
}

func (p *parser) status(s *Step) error {
	l := p.take()
	for _, f := range strings.Fields(l.text) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 100 || n > 999 {
			return p.fail(l.number, "expected a status such as 200, or several")
		}
		s.statuses = append(s.statuses, n)
	}
	if len(s.statuses) == 0 {
		return p.fail(l.number, "expected a status such as 200, or several")
	}
	return nil
}

func (p *parser) expectation(s *Step) error {
	l := p.take()
	c := check{line: l.number, text: l.text}
	switch {
	case strings.HasPrefix(l.text, "{"), strings.HasPrefix(l.text, "["):
		c.kind = checkBody
		for !balanced(c.text) && p.next() == '<' {
			c.text += "\n" + p.take().text
		}
		if !plausible(c.text) {
			return p.fail(l.number, "this is not JSON")
		}
	case strings.HasPrefix(l.text, "$"):
		if err := p.pathCheck(&c); err != nil {
			return err
		}
		if c.anyone {
			return p.fail(l.number, `expected " = " and JSON after the path`)
		}
	default:
		f, ok := parseField(l.text)
		if !ok {
			return p.fail(l.number, "expected a header, a path or JSON")
		}
		c.name, c.text = f.name, f.value
	}
	s.checks = append(s.checks, c)
	return nil
}

func (p *parser) refusal(s *Step) error {
	l := p.take()
	c := check{line: l.number, not: true, text: l.text}
	switch {
	case strings.HasPrefix(l.text, "$"):
		if err := p.pathCheck(&c); err != nil {
			return err
		}
	case strings.HasPrefix(l.text, `"`):
		c.kind = checkText
		if err := json.Unmarshal([]byte(l.text), &c.text); err != nil {
			return p.fail(l.number, "expected a JSON string")
		}
	default:
		if _, ok := parseField(l.text + ":"); !ok {
			return p.fail(l.number, "expected the name of a header, a path, or a text in quotes")
		}
		c.name = l.text
	}
	s.checks = append(s.checks, c)
	return nil
}

// pathCheck reads "$.path = json" or "$.path".
func (p *parser) pathCheck(c *check) (err error) {
	c.kind = checkPath
	where, want, found := strings.Cut(c.text, " = ")
	if c.path, err = parsePath(strings.TrimSpace(where)); err != nil {
		return p.fail(c.line, "%v", err)
	}
	c.text, c.anyone = want, !found
	if found && !plausible(want) {
		return p.fail(c.line, "this is not JSON")
	}
	return nil
}

var variablePattern = regexp.MustCompile(`\{([a-zA-Z][a-zA-Z0-9]*)\}`)

func (p *parser) save(s *Step) (err error) {
	l := p.take()
	name, from, ok := strings.Cut(l.text, " ")
	if !ok || !variablePattern.MatchString("{"+name+"}") {
		return p.fail(l.number, "expected a name made of letters and digits, and what to save under it")
	}
	v := save{line: l.number, name: name}
	if strings.HasPrefix(from, "$") {
		if v.path, err = parsePath(from); err != nil {
			return p.fail(l.number, "%v", err)
		}
	} else if _, ok := parseField(from + ":"); ok {
		v.header = from
	} else {
		return p.fail(l.number, "expected a path or the name of a header")
	}
	s.saves = append(s.saves, v)
	return nil
}

// balanced reports whether all brackets of a JSON text are closed.
func balanced(text string) bool {
	depth, quoted, escaped := 0, false, false
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
	}
	return depth <= 0 && !quoted
}

// plausible reports whether text is JSON whatever its variables stand for.
func plausible(text string) bool {
	return json.Valid([]byte(variablePattern.ReplaceAllString(text, "0")))
}
