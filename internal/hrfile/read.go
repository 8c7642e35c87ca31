package hrfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/internal/sheet"
)

// maxRecord bounds a record, so that one that never ends is a reject and not
// all of the memory.
const maxRecord = 256 << 10

// badRecord is what is wrong with a record; other errors are about reading at all.
type badRecord string

func (b badRecord) Error() string { return string(b) }

const (
	errLong   badRecord = "the record is longer than 256 KiB"
	errQuotes badRecord = "the quotes of the record are not in order"
)

// Of what is wrong with objects.
var (
	errObject = errors.New("the line is not one object of JSON in UTF-8 whose names are all different")
	errParts  = errors.New("the value is a list or an object")
)

// lines cuts a file into lines. Some can be put back.
type lines struct {
	in   *bufio.Reader
	line int      // of the last one returned
	back [][]byte // to be returned first; nil stands for one that was too long
}

// next returns a line with its end, or errLong of one that is skipped.
func (l *lines) next() ([]byte, error) {
	if len(l.back) > 0 {
		b := l.back[0]
		l.back = l.back[1:]
		l.line++
		if b == nil {
			return nil, errLong
		}
		return b, nil
	}
	var line []byte
	long := false
	for {
		b, err := l.in.ReadSlice('\n')
		if long = long || len(line)+len(b) > maxRecord; !long {
			line = append(line, b...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && (len(line) > 0 || long) {
			err = nil
		}
		if err != nil {
			return nil, err
		}
		l.line++
		if long {
			return nil, errLong
		}
		return line, nil
	}
}

// row is a record of a file.
type row struct {
	line int
	err  error // why it cannot be read
	cell func(column string) (string, error)
}

// records reads the records of a file.
type records struct {
	lines   lines
	comma   rune // 0 of JSON Lines
	columns map[string]int
	width   int
}

// open begins to read; columns are those that CSV must have.
func open(r io.Reader, m *Mapping, jsonLines bool) (*records, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	if b, _ := in.Peek(3); bytes.Equal(b, []byte("\xef\xbb\xbf")) {
		_, _ = in.Discard(3) // it is there
	}
	s := &records{lines: lines{in: in}}
	if jsonLines {
		return s, nil
	}
	s.comma = rune(m.Delimiter)
	_, head, err := s.record()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the file is empty")
		}
		return nil, fmt.Errorf("the line with the names of the columns: %w", err)
	}
	s.columns, s.width = map[string]int{}, len(head)
	twice := map[string]bool{}
	for i, name := range head {
		if !utf8.ValidString(name) {
			return nil, errors.New("the line with the names of the columns is not in UTF-8: convert the file to UTF-8")
		}
		name = strings.TrimSpace(name)
		_, twice[name] = s.columns[name]
		s.columns[name] = i
	}
	for _, f := range m.fields {
		if _, ok := s.columns[f.column]; f.column != "" && !ok {
			return nil, fmt.Errorf("the file has no column %q; are its columns separated by %q, as the mapping says?", f.column, string(s.comma))
		}
		if f.column != "" && twice[f.column] {
			return nil, fmt.Errorf("the file has two columns %q", f.column)
		}
	}
	return s, nil
}

// record reads a record of CSV. One that goes wrong, or has no end, costs its
// first line only: the next may well be good.
func (s *records) record() (int, []string, error) {
	var all []byte
	var rest [][]byte
	first, quotes := 0, 0
	for {
		b, err := s.lines.next()
		if first == 0 {
			first = s.lines.line
			if err != nil {
				return first, nil, err
			}
		}
		if err == nil && len(all) == 0 && len(bytes.TrimSpace(b)) == 0 {
			first = 0 // an empty line is no record
			continue
		}
		over := err != nil || len(all)+len(b) > maxRecord
		if all != nil && !errors.Is(err, io.EOF) {
			rest = append(rest, b)
		}
		all = append(all, b...)
		if quotes += bytes.Count(b, []byte{'"'}); quotes%2 == 1 && !over {
			continue
		}
		bad := errQuotes
		if !over {
			fields, err := s.split(all, quotes)
			switch {
			case err == nil && (s.width == 0 || len(fields) == s.width):
				return first, fields, nil
			case err == nil:
				bad = badRecord(fmt.Sprintf("the record has %d cells, and there are %d columns", len(fields), s.width))
			}
		}
		s.lines.back = append(rest, s.lines.back...)
		s.lines.line = first
		return first, nil, bad
	}
}

// split cuts a record into cells. Most have no quotes and need no reader of their own.
func (s *records) split(record []byte, quotes int) ([]string, error) {
	if quotes == 0 {
		return strings.Split(strings.TrimSuffix(strings.TrimSuffix(string(record), "\n"), "\r"), string(s.comma)), nil
	}
	r := csv.NewReader(bytes.NewReader(record))
	r.Comma, r.FieldsPerRecord = s.comma, -1
	return r.Read()
}

// next returns the next row; io.EOF after the last.
func (s *records) next() (row, error) {
	if s.comma == 0 {
		return s.object()
	}
	line, fields, err := s.record()
	if bad, ok := errors.AsType[badRecord](err); ok {
		return row{line: line, err: bad}, nil
	}
	if err != nil {
		return row{}, err
	}
	return row{line: line, cell: func(c string) (string, error) { return sheet.Meant(fields[s.columns[c]]), nil }}, nil
}

// object reads a record of JSON Lines.
func (s *records) object() (row, error) {
	for {
		b, err := s.lines.next()
		switch {
		case errors.Is(err, errLong):
			return row{line: s.lines.line, err: err}, nil
		case err != nil:
			return row{}, err
		case len(bytes.TrimSpace(b)) == 0:
			continue
		}
		cells := map[string]*string{}
		d := jsontext.NewDecoder(bytes.NewReader(b))
		err = flatten(d, "", cells)
		if _, end := d.ReadToken(); err == nil && !errors.Is(end, io.EOF) {
			err = errors.New("there is something behind the object")
		}
		if err != nil {
			if _, ok := errors.AsType[*jsontext.SyntacticError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errObject
			}
			return row{line: s.lines.line, err: err}, nil
		}
		return row{line: s.lines.line, cell: func(c string) (string, error) {
			switch v, ok := cells[c]; {
			case !ok:
				return "", nil
			case v == nil:
				return "", errParts // to take it for nothing would remove what there is
			default:
				return *v, nil
			}
		}}, nil
	}
}

// flatten reads an object. Names within names are joined with a dot; what has parts is
// there as nil beside them.
func flatten(d *jsontext.Decoder, prefix string, into map[string]*string) error {
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() != '{' {
		return errors.New("the line is not an object")
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		at := prefix + name.String()
		if _, twice := into[at]; twice { // once with dots, once as parts
			return errObject
		}
		switch d.PeekKind() {
		case '{':
			into[at] = nil
			if err := flatten(d, at+".", into); err != nil {
				return err
			}
			continue
		case '[':
			into[at] = nil
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		v, err := d.ReadToken()
		if err != nil {
			return err
		}
		if v.Kind() != 'n' {
			into[at] = new(v.String())
		}
	}
	_, err = d.ReadToken()
	return err
}

// values makes the values of a row, in the order of the mapping's fields. The
// second result says in which column an error is.
func (m *Mapping) values(r row) ([]any, string, error) {
	out := make([]any, len(m.fields))
	for i, f := range m.fields {
		if f.column == "" {
			out[i] = f.value
			continue
		}
		v, err := f.read(r)
		if err != nil {
			return out, f.column, err
		}
		if v == nil && (f == m.key || f.attr.Required && f.attr.Parent == nil) {
			return out, f.column, errors.New("the value is missing")
		}
		out[i] = v
	}
	for i, f := range m.fields {
		if f.about != nil && out[f.about.at] == nil {
			out[i] = nil // a mail address that there is none of is not primary
		}
	}
	return out, "", nil
}

// read returns the value of a row.
func (f *field) read(r row) (any, error) {
	s, err := r.cell(f.column)
	if err != nil {
		return nil, err
	}
	return f.convert(s)
}

// keyOf returns the key of a row, in the form in which keys are compared; "" of one
// that has none.
func (m *Mapping) keyOf(r row) (string, error) {
	v, err := m.key.read(r)
	s, _ := v.(string)
	return m.key.attr.UniqueKey(s), err
}
