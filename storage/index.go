package storage

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/roster-id/roster/schemas"
)

// Index is what a backend searches a resource by, derived once when it is
// written.
type Index struct {
	// Unique are the keys that no other live resource of the type may have.
	Unique []Key
	// Equal are the values that equality finds without a scan.
	Equal []Key
	// Shadow is the resource as filters see it, in JSONB, SQLite's binary form
	// of JSON: strings in comparison form, dateTimes as milliseconds since 1970,
	// names safe for every database (SafeName). What backends have anyway (id,
	// meta) is left out.
	Shadow []byte
}

// Key is a value under which a resource is found.
type Key struct {
	Path  string // the attribute's path
	Value string // see IndexValue
}

// maxIndexed bounds what goes into an index entry; longer values are found by
// their hash.
const maxIndexed = 200

// IndexValue returns what stands in an index for a value in comparison form.
func IndexValue(s string) string {
	if len(s) <= maxIndexed {
		return s
	}
	h := sha256.Sum256([]byte(s))
	cut := 32
	for !utf8.RuneStart(s[cut]) { // some databases take nothing but UTF-8
		cut--
	}
	return s[:cut] + "…" + base64.RawStdEncoding.EncodeToString(h[:])
}

// Indexed reports whether equality on a is an index look-up by one of
// Index.Equal. Unique attributes, id, members.value, groups.value and meta are
// looked up by other means.
func Indexed(a *schemas.Attribute) bool {
	switch a.Path {
	case "externalId", "displayName", "emails.value":
		return !Unique(a)
	}
	return false
}

// Unique reports whether a's values are unique keys.
func Unique(a *schemas.Attribute) bool {
	return a.Uniqueness != schemas.UniquenessNone && a.Type == schemas.String && a.Path != "id"
}

// SafeName returns a name that every database takes as a key: no dot, and no
// dollar sign.
func SafeName(name string) string {
	if !strings.ContainsAny(name, ".$%") {
		return name
	}
	return safeName.Replace(name)
}

var safeName = strings.NewReplacer("%", "%25", ".", "%2E", "$", "%24")

// NewIndex derives the index of a resource from its attribute tree.
func NewIndex(t *schemas.ResourceType, attrs map[string]any) *Index {
	x := &Index{Shadow: make([]byte, 0, 1024)}
	x.object(t.Attributes(), attrs)
	return x
}

func (x *Index) object(defs []*schemas.Attribute, attrs map[string]any) {
	start := len(x.Shadow)
	for _, a := range defs {
		v, ok := attrs[a.Name]
		if !ok || a.Detached || !a.Readable() || made(a) {
			continue
		}
		label := len(x.Shadow)
		x.Shadow = appendJSONB(x.Shadow, jsonbText, SafeName(a.Name))
		if !x.value(a, v) {
			x.Shadow = x.Shadow[:label] // nothing of it may be read, so it is not in the document either
		}
	}
	x.Shadow = closeJSONB(x.Shadow, jsonbObject, start)
}

// made reports whether backends have a from elsewhere.
func made(a *schemas.Attribute) bool {
	return a.Path == "id" || a.Path == "meta"
}

// value appends a value and reports whether there was anything to append.
func (x *Index) value(a *schemas.Attribute, v any) bool {
	start := len(x.Shadow)
	switch v := v.(type) {
	case string:
		x.text(a, v)
	case bool:
		typ := byte(jsonbFalse)
		if v {
			typ = jsonbTrue
		}
		x.Shadow = appendJSONBHeader(x.Shadow, typ, 0)
	case int64:
		x.Shadow = appendJSONB(x.Shadow, jsonbInt, strconv.FormatInt(v, 10))
	case float64:
		x.Shadow = appendJSONBFloat(x.Shadow, v)
	case map[string]any:
		x.object(a.SubAttributes, v)
		return len(x.Shadow) > start+1
	case []any:
		for _, e := range v {
			element := len(x.Shadow)
			if !x.value(a, e) {
				x.Shadow = x.Shadow[:element]
			}
		}
		if len(x.Shadow) == start {
			return false
		}
		x.Shadow = closeJSONB(x.Shadow, jsonbArray, start)
	}
	return len(x.Shadow) > start
}

func (x *Index) text(a *schemas.Attribute, s string) {
	if a.Type == schemas.DateTime {
		if t, ok := schemas.ParseTime(s); ok {
			x.Shadow = appendJSONBFloat(x.Shadow, Millis(t))
			return
		}
	}
	key := a.Key(s)
	x.Shadow = appendJSONB(x.Shadow, jsonbText, key)
	switch {
	case Unique(a):
		// Two elements with one value are not in each other's way.
		if k := (Key{a.Path, IndexValue(a.UniqueKey(s))}); !slices.Contains(x.Unique, k) {
			x.Unique = append(x.Unique, k)
		}
	case Indexed(a):
		x.Equal = append(x.Equal, Key{a.Path, IndexValue(key)})
	}
}

// Millis returns a time in milliseconds since 1970, the unit in which instants
// are stored; parts of a millisecond are kept as a fraction.
func Millis(t time.Time) float64 {
	return float64(t.Unix())*1e3 + float64(t.Nanosecond())/1e6
}
