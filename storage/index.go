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

// managerPath is where a user refers to another one.
const managerPath = schemas.EnterpriseUserURI + ":manager.value"

// ManagerOf returns the attribute in which resources of a type refer to a manager, or
// nil. It was not always Indexed: backends derive the keys of older rows anew.
func ManagerOf(t *schemas.ResourceType) *schemas.Attribute { return t.Lookup(managerPath) }

// Indexed reports whether equality on a is an index look-up by one of the keys
// that Derive returns for it. Unique attributes, id, members.value, groups.value and meta are
// looked up by other means. In a type of a tenant's own what has one of these paths may be
// a number, which has no key.
func Indexed(a *schemas.Attribute) bool {
	switch a.Path {
	case "externalId", "displayName", "emails.value", "role.value", "principal.value", managerPath:
		return (a.Type == schemas.String || a.Type == schemas.Reference || a.Type == schemas.Binary) && !Unique(a)
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
// filters see it, with strings in comparison form, dateTimes as Ticks, and
// names safe for every database (SafeName). Elements of arrays have no name.
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

// usual is how many keys that equality finds a user has.
const usual = 4

// Derive writes the search shadow of a resource, without what backends have
// anyway (id, meta), and returns the keys of the resource: the values that no
// other live resource of the type may have, and those that equality finds
// without a scan, each once and in order.
func Derive(t *schemas.ResourceType, attrs map[string]any, w ShadowWriter) (unique, equal []Key) {
	d := derivation{ShadowWriter: w, equal: make([]Key, 0, usual)}
	d.object(fieldsOf(t), attrs)
	if name := t.Top("userName"); name != nil {
		for _, address := range schemas.SignInAddresses(attrs) {
			d.unique = append(d.unique, Key{name.Path, IndexValue(name.UniqueKey(address))})
		}
	}
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

// HasTimes reports whether shadows of resources of a type may hold dateTimes.
func HasTimes(t *schemas.ResourceType) bool { return anyTime(fieldsOf(t)) }

func anyTime(list []field) bool {
	return slices.ContainsFunc(list, func(f field) bool { return f.Type == schemas.DateTime || anyTime(f.sub) })
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
	folder        schemas.Folder
	unique, equal []Key
}

// A field is an attribute that is part of the shadow, and what Derive would ask
// about it for every resource.
type field struct {
	*schemas.Attribute
	safe            string
	unique, indexed bool
	sub             []field
}

func fieldsOf(t *schemas.ResourceType) []field {
	if known, ok := t.Memo.Load().([]field); ok {
		return known
	}
	list := newFields(t.Attributes())
	t.Memo.Store(list)
	return list
}

func newFields(defs []*schemas.Attribute) []field {
	var list []field
	for _, a := range defs {
		if !a.Detached && a.Readable() && !made(a) {
			list = append(list, field{a, SafeName(a.Name), Unique(a), Indexed(a), newFields(a.SubAttributes)})
		}
	}
	return list
}

// made reports whether backends have a from elsewhere.
func made(a *schemas.Attribute) bool {
	return a.Path == "id" || a.Path == "meta"
}

func (d *derivation) object(list []field, attrs map[string]any) {
	left := len(attrs) // most objects have few of the attributes that they may have
	for i := 0; i < len(list) && left > 0; i++ {
		f := &list[i]
		if v, ok := attrs[f.Name]; ok {
			left--
			d.value(f, f.safe, v)
		}
	}
}

func (d *derivation) value(f *field, name string, v any) {
	switch v := v.(type) {
	case string:
		d.text(f, name, v)
	case bool:
		d.Bool(name, v)
	case int64:
		d.Int(name, v)
	case float64:
		d.Float(name, v)
	case map[string]any:
		d.Begin(name, false)
		d.object(f.sub, v)
		d.End()
	case []any:
		d.Begin(name, true)
		for _, e := range v {
			d.value(f, "", e)
		}
		d.End()
	}
}

func (d *derivation) text(f *field, name, s string) {
	if f.Type == schemas.DateTime {
		if t, ok := schemas.ParseTime(s); ok {
			d.Int(name, Ticks(t))
			return
		}
	}
	key := d.folder.Key(f.Attribute, s)
	d.Text(name, key)
	switch {
	case f.unique:
		d.unique = append(d.unique, Key{f.Path, IndexValue(f.UniqueKey(s))})
	case f.indexed:
		d.equal = append(d.equal, Key{f.Path, IndexValue(key)})
	}
}

// Ticks returns a time in units of schemas.TimeUnit since 1970, as shadows hold it.
func Ticks(t time.Time) int64 {
	const second = int64(time.Second / schemas.TimeUnit)
	return t.Unix()*second + int64(t.Nanosecond())/int64(schemas.TimeUnit)
}

// ShadowPath returns the names that lead to a in a shadow, or in an element of the
// multi-valued attribute that is given.
func ShadowPath(a, element *schemas.Attribute) []string {
	var names []string
	for p := a; p != nil && p != element; p = p.Parent {
		names = append(names, SafeName(p.Name))
	}
	slices.Reverse(names)
	return names
}

// OuterElement returns the outermost multi-valued attribute on the way to a, from
// the resource or from an element, or nil. It may be a itself.
func OuterElement(a, element *schemas.Attribute) (m *schemas.Attribute) {
	for p := a; p != nil && p != element; p = p.Parent {
		if p.MultiValued {
			m = p
		}
	}
	return m
}

// CompareValues orders two values of one attribute as shadows hold them; nil, for
// none, comes last.
func CompareValues(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	switch a := a.(type) {
	case string:
		b, _ := b.(string)
		return strings.Compare(a, b)
	case bool:
		b, _ := b.(bool)
		switch {
		case a == b:
			return 0
		case b:
			return -1
		}
		return 1
	case int64:
		switch b := b.(type) {
		case int64:
			return cmp.Compare(a, b)
		case float64:
			return cmp.Compare(float64(a), b)
		}
	case float64:
		switch b := b.(type) {
		case int64:
			return cmp.Compare(a, float64(b))
		case float64:
			return cmp.Compare(a, b)
		}
	}
	return 0
}
