package hrfile

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/internal/sheet"
	"github.com/roster-id/roster/schemas"
)

// Exporter writes users of a server into a file, one record for each, which an import with
// the same mapping finds nothing to change by.
type Exporter struct {
	Client    *Client
	Mapping   *Mapping
	JSONLines bool   // and not CSV
	Filter    string // which users (RFC 7644 §3.4.2.2); "" for all
	// Progress is told how many users are written; it may be nil.
	Progress func(done int)
}

// Exported counts.
type Exported struct {
	Users int
	// NoKey is how many of them an import would reject, as they have no key.
	NoKey int
	// NoManager is how many have a manager without a key, and so none in the file.
	NoManager int
}

// Write writes the file. Users who change meanwhile are as they were at some moment of it.
// After an error what is written is not complete.
func (e *Exporter) Write(ctx context.Context, w io.Writer) (n Exported, err error) {
	m := e.Mapping
	keys := map[string]string{} // by the ids of those who have one
	if m.manager != nil {
		err := e.Client.walk(ctx, m.key.attr.Path, "", func(raw jsontext.Value) error {
			u, err := decode(raw)
			if err != nil {
				return err
			}
			id, _ := u["id"].(string)
			if key, _ := m.key.of(u).(string); key != "" {
				keys[id] = key
			}
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	out := bufio.NewWriterSize(w, 64<<10)
	write := e.records(out)
	if err := write.head(); err != nil {
		return n, err
	}
	err = e.Client.walk(ctx, strings.Join(m.attributes(), ","), e.Filter, func(raw jsontext.Value) error {
		u, err := decode(raw)
		if err != nil {
			return err
		}
		if m.key.of(u) == nil {
			n.NoKey++
		}
		err = write.record(func(f *field) any {
			v := f.of(u)
			if f == m.manager && v != nil {
				id, _ := v.(string)
				if v = keys[id]; v == "" {
					n.NoManager++
				}
			}
			return f.cell(v)
		})
		if n.Users++; err == nil && e.Progress != nil {
			e.Progress(n.Users)
		}
		return err
	})
	if err != nil {
		return n, err
	}
	return n, errors.Join(write.end(), out.Flush())
}

// recordWriter writes records of one form.
type recordWriter struct {
	head   func() error
	record func(cell func(*field) any) error
	end    func() error
}

func (e *Exporter) records(out *bufio.Writer) recordWriter {
	var fields []*field // one for each column
	for _, f := range e.Mapping.fields {
		if f.column != "" && !slices.ContainsFunc(fields, func(g *field) bool { return g.column == f.column }) {
			fields = append(fields, f)
		}
	}
	if e.JSONLines {
		none := func() error { return nil }
		return recordWriter{none, func(cell func(*field) any) error { return writeObject(out, fields, cell) }, none}
	}
	c := csv.NewWriter(out)
	c.Comma, c.UseCRLF = rune(e.Mapping.Delimiter), true // RFC 4180
	cells := make([]string, len(fields))
	return recordWriter{
		head: func() error {
			for i, f := range fields {
				cells[i] = f.column
			}
			return c.Write(cells)
		},
		record: func(cell func(*field) any) error {
			for i, f := range fields {
				cells[i] = ""
				if v := cell(f); v != nil {
					cells[i] = sheet.Harmless(fmt.Sprint(v))
				}
			}
			return c.Write(cells)
		},
		end: func() error { c.Flush(); return c.Error() },
	}
}

// writeObject writes a line of JSON Lines. Of what is not there it says nothing.
func writeObject(out *bufio.Writer, fields []*field, cell func(*field) any) error {
	b := []byte{'{'}
	for _, f := range fields {
		v := cell(f)
		if v == nil {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(appendText(b, f.column), ':'), text...)
	}
	_, err := out.Write(append(b, "}\n"...))
	return err
}

// cell returns what stands in the file for a value of a user: what convert makes it of. It is
// nil of none.
func (f *field) cell(v any) any {
	switch v := v.(type) {
	case bool:
		w := f.no[0]
		if v {
			w = f.yes[0]
		}
		if w == strconv.FormatBool(v) {
			return v
		}
		return w
	case string:
		if v == "" {
			return nil
		}
		if f.date == "" {
			return v
		}
		t, err := time.Parse(time.DateOnly, v)
		if f.attr.Type == schemas.DateTime {
			t, err = time.Parse(time.RFC3339, v)
		}
		if err != nil {
			return v // it came from elsewhere
		}
		return t.Format(f.date)
	}
	return v
}
