package api

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/roster-id/roster/internal/sheet"
)

// The forms of a table.
const (
	formatJSON = "json"
	formatCSV  = "csv"
)

// tableRoom is how much of a table is held back: what fails before that much is known is
// answered as an error.
const tableRoom = 64 << 10

// table answers with rows as they are found, as JSON or, for who asks for it, as CSV
// (RFC 4180). document is a struct whose last member is a slice of rows, empty; what else
// it says is for JSON only. each calls its argument for every row.
func table[Row any](w http.ResponseWriter, r *http.Request, name string, document any, each func(func(Row) error) error) error {
	format, err := formatOf(r)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(&late{w: w, begin: func() {
		h := w.Header()
		h.Add("Vary", "Accept")
		h.Set("Content-Type", "application/json")
		if format == formatCSV {
			h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
			h.Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
		}
	}}, tableRoom)
	if format == formatCSV {
		err = writeCSV(out, each)
	} else {
		err = writeJSON(out, document, each)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// late sets the headers of a response when its body begins.
type late struct {
	w     http.ResponseWriter
	begin func()
}

func (l *late) Write(b []byte) (int, error) {
	if l.begin != nil {
		l.begin()
		l.begin = nil
	}
	return l.w.Write(b)
}

// formatOf says which form a request asks for: by the parameter, or else by which of the
// two its Accept prefers.
func formatOf(r *http.Request) (string, error) {
	if values := r.URL.Query(); values.Has("format") {
		f := values.Get("format")
		if f != formatJSON && f != formatCSV {
			return "", invalid("format: expected json or csv")
		}
		return f, nil
	}
	quality := map[string]float64{}
	for element := range strings.SplitSeq(strings.Join(r.Header["Accept"], ","), ",") {
		media, parameters, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		quality[media] = 1
		if q, ok := parameters["q"]; ok {
			quality[media], _ = strconv.ParseFloat(q, 64)
		}
	}
	if quality["text/csv"] > max(quality["application/json"], 0) {
		return formatCSV, nil
	}
	return formatJSON, nil
}

func writeJSON[Row any](out *bufio.Writer, document any, each func(func(Row) error) error) error {
	frame, err := json.Marshal(document)
	if err != nil {
		return err
	}
	const end = "]}"
	head, ok := strings.CutSuffix(string(frame), end)
	if !ok {
		return fmt.Errorf("%T does not end with rows", document)
	}
	if _, err := out.WriteString(head); err != nil {
		return err
	}
	separator := ""
	err = each(func(row Row) error {
		text, err := json.Marshal(row)
		if err != nil {
			return err
		}
		if _, err := out.WriteString(separator); err != nil {
			return err
		}
		separator = ","
		_, err = out.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	_, err = out.WriteString(end)
	return err
}

func writeCSV[Row any](out *bufio.Writer, each func(func(Row) error) error) error {
	c := csv.NewWriter(out)
	c.UseCRLF = true
	fields := reflect.VisibleFields(reflect.TypeFor[Row]())
	cells := make([]string, len(fields))
	for i, f := range fields {
		cells[i], _, _ = strings.Cut(f.Tag.Get("json"), ",")
	}
	if err := c.Write(cells); err != nil {
		return err
	}
	err := each(func(row Row) error {
		v := reflect.ValueOf(row)
		for i, f := range fields {
			cells[i] = cell(v.FieldByIndex(f.Index).Interface())
		}
		return c.Write(cells)
	})
	if err != nil {
		return err
	}
	c.Flush()
	return c.Error()
}

func cell(v any) string {
	switch v := v.(type) {
	case string:
		return sheet.Harmless(v)
	case []string:
		return sheet.Harmless(strings.Join(v, "; "))
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.UTC().Format(time.RFC3339)
	}
	return fmt.Sprint(v) // a number, true or false
}
