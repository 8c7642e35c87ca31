package dump

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// LineError says which line of a dump is wrong, and what was expected there. It
// does not say what was found: that may be anybody's name or hash.
type LineError struct {
	Line     int // 1-based
	Expected string
	Err      error // why, if there is more to say
}

func (e *LineError) Error() string {
	s := fmt.Sprintf("line %d: expected %s", e.Line, e.Expected)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what there is more to say.
func (e *LineError) Unwrap() error { return e.Err }

// Reader reads a dump record by record.
type Reader struct {
	Header Header
	// Counts are what has been read so far.
	Counts Counts

	tenant  storage.TenantID
	schemas *schemas.Set // with what the tenant defines, as far as it has been read
	custom  []schemas.CustomSchema
	in      *bufio.Reader
	hash    hash.Hash
	buf     []byte
	line    int
	kind    int // of the last record
	records int64
	ended   bool
	part    bool // of a backup, in which more follows

	// Of the last record, if that is a resource.
	typ   *schemas.ResourceType
	attrs map[string]any
}

// NewReader reads the header of a dump. Resources have to be of a type that set
// knows, or that the tenant defines. Records become those of tenant; the header's, if that is empty.
func NewReader(in io.Reader, set *schemas.Set, tenant storage.TenantID) (*Reader, error) {
	r := &Reader{schemas: set, in: bufio.NewReaderSize(in, 256<<10), hash: sha256.New()}
	name, value, err := r.next()
	if errors.Is(err, io.EOF) {
		r.line++
		err = r.wrong("a dump, not an empty file")
	}
	if err == nil {
		err = r.begin(name, value, tenant)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

const expectedHeader = `the header of a dump, {"header":{"format":"` + formatName + `", …}}`

// begin takes the line of the header.
func (r *Reader) begin(name string, value []byte, tenant storage.TenantID) error {
	switch name {
	case "header":
	case backupLine:
		return r.wrong(expectedHeader + "; this is a backup, which roster restore takes")
	default:
		return r.wrong(expectedHeader)
	}
	var probe struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if !probeHeader(value, &probe) || probe.Format != formatName {
		return r.wrong(expectedHeader)
	}
	if probe.Version != formatVersion {
		return r.wrong(fmt.Sprintf("version %d of the format, which is what this roster reads; another version of roster made this dump", formatVersion))
	}
	if !decode(value, &r.Header) || r.Header.Dump == "" || r.Header.Tenant == "" || r.Header.Created.IsZero() {
		return r.wrong("a header with format, version, dump, tenant, created and product")
	}
	if r.tenant = tenant; tenant == "" {
		r.tenant = storage.TenantID(r.Header.Tenant)
	}
	r.hash.Write(r.buf)
	return nil
}

func (r *Reader) wrong(expected string) error { return &LineError{Line: r.line, Expected: expected} }

// Line is the number of the line that was read last.
func (r *Reader) Line() int { return r.line }

// Mark is how far the dump has been read.
func (r *Reader) Mark() *storage.LoadMark {
	return &storage.LoadMark{Dump: r.Header.Dump, Records: r.records, Digest: r.hash.Sum(nil)}
}

// Next returns the next record, or io.EOF when the trailer has been read and all
// is as it says. The document of a resource is one of its type, with its id.
func (r *Reader) Next() (storage.Record, error) {
	if r.ended {
		return storage.Record{}, io.EOF
	}
	name, value, err := r.next()
	if errors.Is(err, io.EOF) {
		r.line++
		err = r.wrong("another record, or the trailer: the dump is cut off here")
	}
	if err != nil {
		return storage.Record{}, err
	}
	if name == endName {
		return storage.Record{}, r.end(value)
	}
	for i, k := range kinds {
		if k.name != name {
			continue
		}
		if i < r.kind {
			return storage.Record{}, r.wrong(fmt.Sprintf("no more records of the kind %s behind those of the kind %s", name, kinds[r.kind].name))
		}
		if (r.records == 0) != (i == 0) {
			return storage.Record{}, r.wrong("one tenant, before everything else")
		}
		rec, ok := k.read(value, r.tenant)
		if !ok {
			return storage.Record{}, r.wrong(k.expected)
		}
		if err := r.check(rec); err != nil {
			return storage.Record{}, err
		}
		r.kind = i
		r.records++
		r.Counts.add(rec)
		r.hash.Write(r.buf)
		return rec, nil
	}
	return storage.Record{}, r.wrong("a record of one of the kinds " + kindNames())
}

func kindNames() string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return strings.Join(names, ", ")
}

// check reads the document of a resource.
func (r *Reader) check(rec storage.Record) error {
	r.typ, r.attrs = nil, nil
	if rec.Item != nil && rec.Item.Kind == storage.SchemaKind {
		d, err := storage.ReadDefinition(rec.Item)
		if err != nil {
			return r.wrong("a schema that this version can read")
		}
		r.custom = append(r.custom, d.CustomSchema)
		return nil
	}
	if len(r.custom) > 0 {
		set, err := r.schemas.With(r.custom)
		if err != nil {
			return r.wrong("schemas that go together and with those that are built in")
		}
		r.schemas, r.custom = set, nil
	}
	if rec.Resource == nil {
		return nil
	}
	if r.typ = r.schemas.Type(rec.Resource.Type); r.typ == nil {
		var names []string
		for _, t := range r.schemas.Types() {
			names = append(names, t.Name)
		}
		return r.wrong("a resource of one of the types " + strings.Join(names, ", "))
	}
	attrs, err := r.typ.Parse(rec.Resource.Doc)
	if err != nil || attrs["id"] != rec.Resource.ID {
		return r.wrong("a document that can be read, with the id of the resource")
	}
	r.attrs = attrs
	return nil
}

// end compares what was read with the trailer, behind which nothing may follow.
func (r *Reader) end(value []byte) error {
	var t trailer
	if !decode(value, &t) || len(t.SHA256) != 2*sha256.Size {
		return r.wrong("a trailer: records, and sha256 in hexadecimal")
	}
	if r.records == 0 {
		return r.wrong("one tenant, before everything else")
	}
	if t.Records != r.Counts {
		return r.wrong(fmt.Sprintf("the trailer to count %s, as there are", r.Counts))
	}
	if t.SHA256 != hex.EncodeToString(r.hash.Sum(nil)) {
		return r.wrong("the SHA-256 of the lines before: the dump has been altered")
	}
	r.ended = true
	if r.part {
		return io.EOF
	}
	if _, _, err := r.next(); !errors.Is(err, io.EOF) {
		r.ended = false
		return r.wrong("nothing behind the trailer")
	}
	return io.EOF
}

// next reads a line: the name of its one member, and the value of that. Lines
// have exactly the form in which they are written.
func (r *Reader) next() (name string, value []byte, err error) {
	r.buf = r.buf[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		r.buf = append(r.buf, part...)
		if len(r.buf) > maxLine {
			r.line++
			return "", nil, r.wrong(fmt.Sprintf("a line of up to %d bytes", maxLine))
		}
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return "", nil, fmt.Errorf("read the dump behind line %d: %w", r.line, err)
		}
		if len(r.buf) == 0 {
			return "", nil, io.EOF
		}
		r.line++
		return "", nil, r.wrong("a whole line: the dump is cut off here")
	}
	r.line++
	b := r.buf[:len(r.buf)-1]
	if b, ok := bytes.CutPrefix(b, []byte(`{"`)); ok {
		if n, v, ok := bytes.Cut(b, []byte(`":`)); ok && len(v) > 0 && v[len(v)-1] == '}' {
			return string(n), v[:len(v)-1], nil
		}
	}
	switch {
	case r.line > 1:
		return "", nil, r.wrong("an object with one member")
	case r.part:
		return "", nil, r.wrong(expectedBackup)
	}
	return "", nil, r.wrong(expectedHeader)
}
