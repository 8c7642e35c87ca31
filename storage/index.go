package storage

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/roster-id/roster/schemas"
)

// Index is what a backend searches a resource by, derived when the resource is
// written, in a form of the backend's own; see Indexer.
type Index any

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

// Indexed reports whether equality on a is an index look-up by one of the keys
// that Derive returns for it. Unique attributes, id, members.value, groups.value and meta are
// looked up by other means.
func Indexed(a *schemas.Attribute) bool {
	switch a.Path {
	case "externalId", "displayName", "emails.value", "role.value", "principal.value":
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

// ShadowWriter takes down the search shadow of a resource: the resource as
// filters see it, with strings in comparison form, dateTimes as milliseconds
// since 1970, and names safe for every database (SafeName). Elements of arrays
// have no name.
type ShadowWriter interface {
	Text(name, value string)
	Bool(name string, value bool)
	Int(name string, value int64)
	Float(name string, value float64)
	// Begin opens an object, or an array; End closes the innermost one, and
	// leaves nothing of it behind when nothing was written in between.
	Begin(name string, array bool)
	End()
}

// NoShadow is a ShadowWriter for those who want the keys alone.
type NoShadow struct{}

// Text implements ShadowWriter, as the others do, by doing nothing.
func (NoShadow) Text(string, string) {}

// Bool implements ShadowWriter.
func (NoShadow) Bool(string, bool) {}

// Int implements ShadowWriter.
func (NoShadow) Int(string, int64) {}

// Float implements ShadowWriter.
func (NoShadow) Float(string, float64) {}

// Begin implements ShadowWriter.
func (NoShadow) Begin(string, bool) {}

// End implements ShadowWriter.
func (NoShadow) End() {}

// Derive writes the search shadow of a resource, without what backends have
// anyway (id, meta), and returns the keys of the resource: the values that no
// other live resource of the type may have, and those that equality finds
// without a scan, each once and in order.
func Derive(t *schemas.ResourceType, attrs map[string]any, w ShadowWriter) (unique, equal []Key) {
	d := derivation{ShadowWriter: w}
	d.object(t.Attributes(), attrs)
	// Two elements with one value are one key, and not in each other's way.
	return distinct(d.unique), distinct(d.equal)
}

func distinct(keys []Key) []Key {
	if len(keys) > 1 {
		slices.SortFunc(keys, func(a, b Key) int { return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Value, b.Value)) })
		keys = slices.Compact(keys)
	}
	return keys
}

// NameOf returns what others call a resource with these attributes, see
// Resource.Name.
func NameOf(attrs map[string]any) string {
	if name, _ := attrs["displayName"].(string); name != "" {
		return name
	}
	for _, attr := range []string{"userName", "display"} {
		if name, _ := attrs[attr].(string); name != "" {
			return name
		}
	}
	return ""
}

type derivation struct {
	ShadowWriter
	unique, equal []Key
}

func (d *derivation) object(defs []*schemas.Attribute, attrs map[string]any) {
	for _, a := range defs {
		if v, ok := attrs[a.Name]; ok && !a.Detached && a.Readable() && !made(a) {
			d.value(a, SafeName(a.Name), v)
		}
	}
}

// made reports whether backends have a from elsewhere.
func made(a *schemas.Attribute) bool {
	return a.Path == "id" || a.Path == "meta"
}

func (d *derivation) value(a *schemas.Attribute, name string, v any) {
	switch v := v.(type) {
	case string:
		d.text(a, name, v)
	case bool:
		d.Bool(name, v)
	case int64:
		d.Int(name, v)
	case float64:
		d.Float(name, v)
	case map[string]any:
		d.Begin(name, false)
		d.object(a.SubAttributes, v)
		d.End()
	case []any:
		d.Begin(name, true)
		for _, e := range v {
			d.value(a, "", e)
		}
		d.End()
	}
}

func (d *derivation) text(a *schemas.Attribute, name, s string) {
	if a.Type == schemas.DateTime {
		if t, ok := schemas.ParseTime(s); ok {
			d.Float(name, Millis(t))
			return
		}
	}
	key := a.Key(s)
	d.Text(name, key)
	switch {
	case Unique(a):
		d.unique = append(d.unique, Key{a.Path, IndexValue(a.UniqueKey(s))})
	case Indexed(a):
		d.equal = append(d.equal, Key{a.Path, IndexValue(key)})
	}
}

// Millis returns a time in milliseconds since 1970, the unit in which instants
// are stored; parts of a millisecond are kept as a fraction.
func Millis(t time.Time) float64 {
	return float64(t.Unix())*1e3 + float64(t.Nanosecond())/1e6
}
