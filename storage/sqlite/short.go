package sqlite

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Much of what a row would hold is the same in all rows of its type: the names of
// attributes, the list of schemas. Shadows and documents have it in a short form, and a
// page holds three users in place of two.

// shortNames are the names that shadows have as numbers, their places in this list.
// Stores are full of these numbers: names may be added at the end, with a migration that
// makes shorten run again, and that is all that may change. What is not here stands in
// shadows as it is; no name of an attribute is a number (RFC 7643 §2.1).
var shortNames = []string{
	"value", "type", "schemas", "userName", "externalId", "name", "displayName", "emails", "active", "primary",
	"formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix", "nickName", "profileUrl", "title",
	"userType", "preferredLanguage", "locale", "timezone", "phoneNumbers", "ims", "photos", "addresses", "streetAddress", "locality",
	"region", "postalCode", "country", "entitlements", "roles", "x509Certificates", "display",
	storage.SafeName("$ref"), storage.SafeName(schemas.EnterpriseUserURI),
	"employeeNumber", "costCenter", "organization", "division", "department", "manager",
}

// shortName returns what a shadow has for a name.
var shortName = func() func(string) string {
	short := make(map[string]string, len(shortNames))
	for i, name := range shortNames {
		short[name] = strconv.Itoa(i)
	}
	return func(name string) string {
		if s, ok := short[name]; ok {
			return s
		}
		return name
	}
}()

// schemaList is a list of schemas that many resources have.
type schemaList struct {
	doc       string // what a document with the list begins with, up to its id
	extension string // what leads to the extension in a document, or ""
	shadow    []byte // JSONB of what the shadow would have, without the header
	literal   string // SQL that makes the list as the shadow would have it
}

// schemaLists are numbered from 1, which stands in rows for the list: they may grow at the
// end, like shortNames.
var schemaLists = []schemaList{
	newSchemaList(schemas.UserURI),
	newSchemaList(schemas.UserURI, schemas.EnterpriseUserURI),
	newSchemaList(schemas.GroupURI),
}

func newSchemaList(uris ...string) schemaList {
	l := schemaList{doc: `{"schemas":["` + strings.Join(uris, `","`) + `"],"id":"`}
	if len(uris) > 1 {
		l.extension = `"` + uris[1] + `":`
	}
	folded := make([]string, len(uris))
	var j jsonb
	for i, uri := range uris {
		folded[i] = schemas.Fold(uri)
		j.Text("", folded[i])
	}
	l.shadow, l.literal = j.b, `jsonb_array('`+strings.Join(folded, `', '`)+`')`
	return l
}

// listNumber returns the number of a list in a shadow, or 0.
func listNumber(shadow []byte) int64 {
	return int64(1 + slices.IndexFunc(schemaLists, func(l schemaList) bool { return bytes.Equal(l.shadow, shadow) }))
}

// inPlace stands in documents for what leads to the extension. JSON has no such byte.
const inPlace = 1

// shortDoc appends a document as a row has it: if it begins with one of schemaLists and
// the id, the digit of the list takes the place of both. Every other one begins with a brace.
func shortDoc(dst, doc []byte, id string) []byte {
	for i := range schemaLists {
		l := &schemaLists[i]
		n := len(l.doc) + len(id)
		if len(doc) <= n || string(doc[:len(l.doc)]) != l.doc || string(doc[len(l.doc):n]) != id {
			continue
		}
		dst, doc = append(dst, '1'+byte(i)), doc[n:]
		if l.extension != "" {
			if before, after, found := bytes.Cut(doc, []byte(l.extension)); found {
				dst, doc = append(append(dst, before...), inPlace), after
			}
		}
		break
	}
	return append(dst, doc...)
}

// longestList is more than what shortDoc takes out of any document, beside the id.
const longestList = 256

// appendDoc appends the document of a row from a column. The id is that of the row.
func appendDoc[ID string | []byte](dst []byte, st *sqlite.Stmt, col int, id ID) []byte {
	n := st.ColumnLen(col)
	dst = slices.Grow(dst, n+len(id)+longestList)
	at := len(dst)
	row := dst[at : at+n]
	if st.ColumnBytes(col, row); n == 0 || row[0] < '1' || row[0] > '0'+byte(len(schemaLists)) {
		return dst[:at+n]
	}
	// All of it moves to the right in the buffer, the last part first.
	l := &schemaLists[row[0]-'1']
	end, left := n-1+len(l.doc)+len(id), row[1:]
	if i := bytes.IndexByte(left, inPlace); i >= 0 {
		end += len(l.extension) - 1
		tail := left[i+1:]
		copy(dst[at+end-len(tail):at+end], tail)
		copy(dst[at+end-len(tail)-len(l.extension):at+end], l.extension)
		left = left[:i]
	}
	copy(dst[at+len(l.doc)+len(id):at+end], left)
	return append(append(dst, l.doc...), id...)[:at+end]
}

// shorten brings shadows of an older program into the short form, in portions, as derive
// does; documents may stay as they are. Indexes over shadows are dropped, for choose to
// make them anew.
func (s *Store) shorten(ctx context.Context, c *sqlite.Conn) error {
	after, long, err := noted(c, "long")
	if err != nil || !long {
		return err
	}
	have, err := chosenPaths(c)
	if err != nil {
		return err
	}
	for path := range have {
		if err := dropChosen(c, path); err != nil {
			return err
		}
	}
	s.opt.Log.Info("what resources are searched by is written in a shorter form")
	for rows := 1; rows > 0; {
		err := upgradeStep(ctx, c, func() error {
			rows, after, err = shortenRows(c, after)
			if err != nil {
				return err
			}
			return exec(c, `UPDATE long SET n = ?`, after)
		})
		if err != nil {
			return err
		}
	}
	return exec(c, `DELETE FROM long`)
}

// shortenRows shortens the shadows of the rows beyond one, as many as go into a portion,
// and returns how many there were and the last one. One shadow is held at a time, which
// may be large.
func shortenRows(c *sqlite.Conn, after int64) (rows int, last int64, err error) {
	var list []int64
	err = query(c, `SELECT n FROM resource WHERE n > ? ORDER BY n LIMIT 0 + ?`, func(st *sqlite.Stmt) error {
		list = append(list, st.ColumnInt64(0))
		return nil
	}, after, derivedAtOnce)
	if err != nil || len(list) == 0 {
		return 0, after, err
	}
	for _, n := range list {
		var shadow []byte
		err := query(c, `SELECT shadow FROM resource WHERE n = ?`, func(st *sqlite.Stmt) error { shadow = columnBytes(st, 0); return nil }, n)
		if err != nil {
			return 0, 0, err
		}
		if err := exec(c, `UPDATE resource SET shadow = ? WHERE n = ?`, shortShadow(shadow), n); err != nil {
			return 0, 0, err
		}
	}
	return len(list), list[len(list)-1], nil
}

// shortShadow returns a shadow in the short form. One that is no object in JSONB, which
// is damage, stays as it is.
func shortShadow(b []byte) []byte {
	e, rest, ok := nextElement(b)
	if !ok || e.typ != jsonbObject || len(rest) > 0 {
		return b
	}
	j := newJSONB()
	if !j.copyAll(e) {
		return b
	}
	return j.bytes()
}

// element is one of JSONB.
type element struct {
	typ     byte
	raw     []byte // with its header
	payload []byte
}

// nextElement reads the element that b begins with.
func nextElement(b []byte) (e element, rest []byte, ok bool) {
	if len(b) == 0 {
		return e, nil, false
	}
	size, header := uint64(b[0]>>4), 1
	if size > 11 {
		more := 1 << (size - 12) // bytes that say the size
		if header += more; len(b) < header {
			return e, nil, false
		}
		size = 0
		for _, c := range b[1:header] {
			size = size<<8 | uint64(c)
		}
	}
	if size > uint64(len(b)-header) {
		return e, nil, false
	}
	end := header + int(size) //nolint:gosec // within b
	return element{b[0] & 0xf, b[:end], b[header:end]}, b[end:], true
}

// copyAll writes the members of an object or an array, and reports whether they could be read.
func (j *jsonb) copyAll(of element) bool {
	for b := of.payload; len(b) > 0; {
		var name string
		e, rest, ok := nextElement(b)
		if ok && of.typ == jsonbObject {
			name = string(e.payload)
			e, rest, ok = nextElement(rest)
		}
		if !ok {
			return false
		}
		switch e.typ {
		case jsonbArray, jsonbObject:
			j.Begin(name, e.typ == jsonbArray)
			if !j.copyAll(e) {
				return false
			}
			j.End()
		default:
			j.name(name)
			j.b = append(j.b, e.raw...)
		}
		b = rest
	}
	return true
}
