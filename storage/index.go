package storage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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
	// Shadow is the resource as filters see it, as JSON: strings in comparison
	// form, dateTimes as milliseconds since 1970, names safe for every database
	// (SafeName).
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
	x := &Index{Shadow: make([]byte, 0, 512)}
	x.object(t.Attributes(), attrs)
	return x
}

func (x *Index) object(defs []*schemas.Attribute, attrs map[string]any) {
	x.Shadow = append(x.Shadow, '{')
	first := true
	for _, a := range defs {
		v, ok := attrs[a.Name]
		if !ok || a.Detached || !a.Readable() || a.Path == "id" || a.Path == "meta" {
			continue
		}
		start := len(x.Shadow)
		if !first {
			x.Shadow = append(x.Shadow, ',')
		}
		x.Shadow = schemas.AppendString(x.Shadow, SafeName(a.Name))
		x.Shadow = append(x.Shadow, ':')
		body := len(x.Shadow)
		x.value(a, v)
		if a.Type == schemas.Complex && len(x.Shadow)-body == 2 {
			x.Shadow = x.Shadow[:start] // nothing of it may be read, so it is not in the document either
			continue
		}
		first = false
	}
	x.Shadow = append(x.Shadow, '}')
}

func (x *Index) value(a *schemas.Attribute, v any) {
	switch v := v.(type) {
	case string:
		x.text(a, v)
	case bool:
		x.Shadow = strconv.AppendBool(x.Shadow, v)
	case int64:
		x.Shadow = strconv.AppendInt(x.Shadow, v, 10)
	case float64:
		x.Shadow = schemas.AppendFloat(x.Shadow, v)
	case json.Number:
		x.Shadow = append(x.Shadow, v...)
	case map[string]any:
		x.object(a.SubAttributes, v)
	case []any:
		x.Shadow = append(x.Shadow, '[')
		first := true
		for _, e := range v {
			start := len(x.Shadow)
			if !first {
				x.Shadow = append(x.Shadow, ',')
			}
			body := len(x.Shadow)
			x.value(a, e)
			if a.Type == schemas.Complex && len(x.Shadow)-body == 2 {
				x.Shadow = x.Shadow[:start]
				continue
			}
			first = false
		}
		x.Shadow = append(x.Shadow, ']')
	default:
		x.Shadow = append(x.Shadow, "null"...)
	}
}

func (x *Index) text(a *schemas.Attribute, s string) {
	if a.Type == schemas.DateTime {
		if t, ok := schemas.ParseTime(s); ok {
			x.Shadow = schemas.AppendFloat(x.Shadow, Millis(t))
			return
		}
	}
	key := a.Key(s)
	x.Shadow = schemas.AppendString(x.Shadow, key)
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
