package hrfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/roster-id/roster/schemas"
)

// What is done about people whom the file does not have.
const (
	Ignore  = "ignore"
	Disable = "disable"
)

// Mapping says what the columns of a file mean.
type Mapping struct {
	fields  []*field
	key     *field // one of fields
	manager *field // one of fields, or nil
	shape   *node  // of the users that are made

	Delimiter byte
	// Absent is Ignore or Disable.
	Absent string
	// StopAbove is which percentage of the active users may be disabled at most.
	StopAbove float64
}

// field is an attribute with where its value comes from.
type field struct {
	at      int    // its place among the fields of the mapping, and of its value among the values of a row
	path    string // of the attribute, as it is written in the mapping
	attr    *schemas.Attribute
	element string // the type of the element, of a multi-valued attribute
	column  string // "" of a constant
	value   any    // of a constant
	do      []string
	yes, no []string
	date    string
	about   *field // the value of the same element, or nil
}

// MappingError is what is wrong with a line of a mapping.
type MappingError struct {
	Line int
	Msg  string
}

func (e *MappingError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// text is a YAML scalar that knows its line.
type text struct {
	s    string
	line int
	set  bool
}

func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: expected one value", n.Line)
	}
	*t = text{n.Value, n.Line, true}
	return nil
}

type mappingFile struct {
	Match      text       `yaml:"match"`
	Delimiter  text       `yaml:"delimiter"`
	Attributes fieldFiles `yaml:"attributes"`
	Absent     absentFile `yaml:"absent"`
}

func (m *mappingFile) UnmarshalYAML(n *yaml.Node) error {
	if err := known(n, "expected match, attributes and perhaps delimiter and absent", "match", "delimiter", "attributes", "absent"); err != nil {
		return err
	}
	type plain mappingFile
	return n.Decode((*plain)(m))
}

type absentFile struct {
	Do        text `yaml:"do"`
	StopAbove text `yaml:"stopAbove"`
}

func (a *absentFile) UnmarshalYAML(n *yaml.Node) error {
	if err := known(n, "absent: expected do and perhaps stopAbove", "do", "stopAbove"); err != nil {
		return err
	}
	type plain absentFile
	return n.Decode((*plain)(a))
}

type fieldFiles []fieldFile

func (f *fieldFiles) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: attributes: expected a list, with a line like - {column: Login, to: userName} for each", n.Line)
	}
	return n.Decode((*[]fieldFile)(f))
}

// known reports that a node is no mapping, with what was expected, or that it has another
// name than these. The decoder would speak of Go types, and inside UnmarshalYAML it does not
// look at names.
func known(n *yaml.Node, expected string, names ...string) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s", n.Line, expected)
	}
	for i := 0; i < len(n.Content); i += 2 {
		if k := n.Content[i]; !slices.Contains(names, k.Value) {
			return fmt.Errorf("line %d: unknown name %q; valid are %s", k.Line, k.Value, strings.Join(names, ", "))
		}
	}
	return nil
}

type fieldFile struct {
	line int
	fieldNode
}

type fieldNode struct {
	To     text   `yaml:"to"`
	Column text   `yaml:"column"`
	Value  text   `yaml:"value"`
	Do     []text `yaml:"do"`
	True   []text `yaml:"true"`
	False  []text `yaml:"false"`
	Date   text   `yaml:"date"`
}

func (a *fieldFile) UnmarshalYAML(n *yaml.Node) error {
	a.line = n.Line
	if err := known(n, "expected an attribute: to, and column or value", "to", "column", "value", "do", "true", "false", "date"); err != nil {
		return err
	}
	return n.Decode(&a.fieldNode)
}

// ParseMapping reads a mapping in YAML. All that is wrong with what its lines
// mean is said at once, as MappingErrors.
func ParseMapping(b []byte, user *schemas.ResourceType) (*Mapping, error) {
	var in mappingFile
	if err := yaml.NewDecoder(bytes.NewReader(b)).Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return nil, err // names the line
	}
	var errs []error
	wrong := func(line int, format string, args ...any) {
		errs = append(errs, &MappingError{max(line, 1), fmt.Sprintf(format, args...)})
	}
	m := &Mapping{Delimiter: ',', Absent: Ignore, StopAbove: 10}
	if d := in.Delimiter; d.set {
		switch {
		case d.s == "tab":
			m.Delimiter = '\t'
		case len(d.s) != 1 || strings.ContainsAny(d.s, "\"\r\n") || d.s[0] >= utf8.RuneSelf:
			wrong(d.line, "delimiter: expected one character, or tab")
		default:
			m.Delimiter = d.s[0]
		}
	}
	if a := in.Absent.Do; a.set {
		if m.Absent = a.s; a.s != Ignore && a.s != Disable {
			wrong(a.line, "absent: do: expected disable or ignore")
		}
	}
	if p := in.Absent.StopAbove; p.set {
		var err error
		if m.StopAbove, err = strconv.ParseFloat(p.s, 64); err != nil || !(m.StopAbove >= 0 && m.StopAbove <= 100) {
			wrong(p.line, "absent: stopAbove: expected a percentage")
		}
	}
	seen := map[string]int{}
	for _, a := range in.Attributes {
		f, err := a.field(user)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if line := seen[schemas.Fold(f.path)]; line > 0 {
			wrong(a.To.line, "%s has its value from line %d already", f.path, line)
			continue
		}
		seen[schemas.Fold(f.path)] = a.To.line
		if f.isManager() {
			m.manager = f
		}
		f.at = len(m.fields)
		m.fields = append(m.fields, f)
	}
	switch m.key = m.field(in.Match.s); {
	case !slices.Contains([]string{"externalId", "userName", "employeeNumber"}, in.Match.s):
		wrong(in.Match.line, "match: expected externalId, userName or employeeNumber")
	case (m.key == nil || m.key.column == "") && len(errs) == 0:
		wrong(in.Match.line, "match: no column is mapped to %s", in.Match.s)
	}
	if m.field("userName") == nil && len(errs) == 0 {
		wrong(1, "attributes: nothing is mapped to userName, and nobody can be without one")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, f := range m.fields {
		i := slices.IndexFunc(m.fields, func(g *field) bool {
			return f.element != "" && schemas.Fold(g.element) == schemas.Fold(f.element) && g.attr.Parent == f.attr.Parent && g.attr.Name == "value"
		})
		if i >= 0 {
			f.about = m.fields[i]
		}
	}
	m.shape = shapeOf(m.fields)
	return m, nil
}

// Match returns the attribute by which a record is found to be a user.
func (m *Mapping) Match() string { return m.key.attr.Name }

// field returns the one of a name at the top of a user or of an extension.
func (m *Mapping) field(name string) *field {
	for _, f := range m.fields {
		if f.attr.Name == name && (f.attr.Parent == nil || f.attr.Parent.Extension) {
			return f
		}
	}
	return nil
}

// attributes returns the paths of what the mapping is about, and of more, as SCIM's parameter
// attributes takes them.
func (m *Mapping) attributes(more ...string) []string {
	for _, f := range m.fields {
		path := f.attr.Path
		if f.element != "" {
			path = f.attr.Parent.Path
		}
		if !slices.Contains(more, path) {
			more = append(more, path)
		}
	}
	return more
}

func (f *field) isManager() bool {
	return f.attr.Name == "value" && f.attr.Parent != nil && f.attr.Parent.Name == "manager"
}

var elementPath = regexp.MustCompile(`^([A-Za-z]+)\[type eq "([^"\\]+)"\]\.([A-Za-z]+)$`)

func (a *fieldFile) field(user *schemas.ResourceType) (*field, error) {
	wrong := func(t text, format string, args ...any) (*field, error) {
		line := a.line
		if t.set {
			line = t.line
		}
		return nil, &MappingError{line, fmt.Sprintf(format, args...)}
	}
	if !a.To.set {
		return wrong(a.To, "to: name an attribute")
	}
	f := &field{path: a.To.s, column: a.Column.s, date: a.Date.s}
	if m := elementPath.FindStringSubmatch(a.To.s); m != nil {
		f.attr, f.element = user.Lookup(m[1]+"."+m[3]), m[2]
		if f.attr == nil || f.attr.Parent == nil || !f.attr.Parent.MultiValued || f.attr.Parent.Sub("type") == nil || f.attr.Name == "type" {
			return wrong(a.To, "%s is no attribute of the elements of a user's attribute", f.path)
		}
	} else if f.attr = user.Lookup(a.To.s); f.attr == nil {
		if f.attr = user.Lookup(schemas.EnterpriseUserURI + ":" + a.To.s); f.attr == nil {
			return wrong(a.To, "users have no attribute %q", f.path)
		}
	}
	if f.attr.Name == "manager" {
		f.attr = f.attr.Sub("value")
	}
	if f.element == "" {
		f.path = f.attr.Path
	}
	multi := f.attr.MultiValued || f.element == "" && f.attr.Parent != nil && f.attr.Parent.MultiValued
	switch {
	case schemas.Fold(f.attr.Name) == "password":
		return wrong(a.To, "passwords are not imported")
	case f.attr.Mutability == schemas.ReadOnly || f.attr.Top().Mutability == schemas.ReadOnly || !f.attr.Readable() || f.attr.Detached:
		return wrong(a.To, "%s cannot be written by an import", f.path)
	case multi:
		return wrong(a.To, `%s has several values: write which, like emails[type eq "work"].value`, f.path)
	case len(f.attr.SubAttributes) > 0:
		return wrong(a.To, "%s has parts: name one of them", f.path)
	case a.Column.set == a.Value.set:
		return wrong(a.To, "%s: name either a column or a value", f.path)
	case f.isManager() && !a.Column.set:
		return wrong(a.To, "%s: managers come from a column", f.path)
	case a.Date.set && f.attr.Type != schemas.DateTime && f.attr.Type != schemas.String:
		return wrong(a.Date, "%s is no date", f.path)
	case (len(a.True) > 0 || len(a.False) > 0) && f.attr.Type != schemas.Boolean:
		return wrong(a.To, "%s is not true or false", f.path)
	}
	for _, t := range a.Do {
		if t.s != "trim" && t.s != "lower" {
			return wrong(t, "do: expected trim or lower")
		}
		f.do = append(f.do, t.s)
	}
	if a.Date.set {
		v := time.Date(2001, 12, 31, 0, 0, 0, 0, time.UTC)
		if back, err := time.Parse(f.date, v.Format(f.date)); err != nil || !back.Equal(v) {
			return wrong(a.Date, "date: write how the 2nd of January 2006 looks in the file, like 02.01.2006")
		}
	}
	f.yes, f.no = words(a.True, "true"), words(a.False, "false")
	for _, w := range f.yes {
		if slices.Contains(f.no, w) {
			return wrong(a.To, "true and false: a word cannot be both")
		}
	}
	if a.Value.set {
		v, err := f.convert(a.Value.s)
		if err != nil {
			return wrong(a.Value, "value: %v", err)
		}
		f.value = v
	}
	return f, nil
}

func words(list []text, otherwise string) []string {
	if len(list) == 0 {
		return []string{otherwise}
	}
	var out []string
	for _, t := range list {
		out = append(out, schemas.Fold(t.s))
	}
	return out
}

// convert makes the attribute's value of a cell; nil of an empty one. Its
// errors do not quote it.
func (f *field) convert(s string) (any, error) {
	for _, do := range f.do {
		switch do {
		case "trim":
			s = strings.TrimSpace(s)
		case "lower":
			s = strings.ToLower(s)
		}
	}
	if s == "" {
		if f.attr.Path == "active" {
			return true, nil // as whoever is made without it is
		}
		return nil, nil
	}
	if !utf8.ValidString(s) {
		return nil, errors.New("the value is not UTF-8")
	}
	if strings.ContainsRune(s, 0) {
		return nil, errors.New("the value has the character U+0000")
	}
	if f.date != "" {
		t, err := time.Parse(f.date, s)
		if err != nil {
			return nil, fmt.Errorf("the value is no date like %s", f.date)
		}
		if s = t.Format(time.DateOnly); f.attr.Type == schemas.DateTime {
			s = t.Format(time.RFC3339)
		}
	}
	if f.attr.Type == schemas.Boolean {
		switch w := schemas.Fold(strings.TrimSpace(s)); {
		case slices.Contains(f.yes, w):
			return true, nil
		case slices.Contains(f.no, w):
			return false, nil
		}
		return nil, errors.New("the value is neither a word for true nor one for false")
	}
	if f.isManager() {
		return s, nil // the key of another row
	}
	bound, err := f.attr.Bind(s, schemas.Lenient)
	if err != nil {
		return nil, errors.New("the value does not fit the attribute")
	}
	if bound == nil {
		return s, nil
	}
	return bound, nil
}
