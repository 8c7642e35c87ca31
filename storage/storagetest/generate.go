package storagetest

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"github.com/roster-id/roster/schemas"
)

// generator makes resources and filters at random. The same seed makes the same
// ones.
type generator struct {
	*rand.Rand
	seed uint64
	// seen are values of attributes in resources, for filters to ask about.
	seen map[*schemas.Attribute][]any
}

func newGenerator(seed uint64) *generator {
	return &generator{rand.New(rand.NewPCG(seed, 0)), seed, map[*schemas.Attribute][]any{}}
}

// chance is true in percent of a hundred cases.
func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

// words are few, so that values meet, and awkward: quotes and wildcards of every
// query language, white space, letters that fold to others or to several, that
// only compatibility normalisation brings together, that sort differently by code
// unit and by code point.
var words = append([]string{
	"ana", "Ana", "ANA", "ａｎａ", "bob", "BOB ", " bob", "Ng", "ng ab", "alpha", "beta", "x", "X", "xy", "XYZ",
	"İstanbul", "istanbul", "ISTANBUL", "ıstanbul", "i\u0307stanbul", "straße", "STRASSE", "ẞ", "ss", "ﬁnn", "finn", "ﬀ",
	"Åsa", "A\u030asa", "\u212bsa", "é", "e\u0301", "É", "σίσυφος", "ΣΊΣΥΦΟΣ", "ς", "ǆ", "ǅ", "①", "1", "½", "㎏", "kg",
	"😀", "😀😀", "\ufffd", "\ue000", "\U0010fffd", "한", "\u1112\u1161\u11ab", "א", "ﷺ",
	"work", "WORK", "home", "other", "a@x.example", "A@X.example", "b@y.example", "@", "10", "9", "-1", "true", "null", "2020-01-01T00:00:00Z",
}, hostile...)

// text makes a string value.
func (g *generator) text() string {
	switch g.IntN(12) {
	case 0:
		return pick(g, words) + pick(g, words)
	case 1:
		return pick(g, words) + " " + pick(g, words)
	case 2:
		return strings.Repeat(pick(g, words)+"é", 90) + pick(g, words)
	}
	return pick(g, words)
}

var integers = []int64{0, 1, -1, 2, 9, 10, 42, 1 << 31, 1<<53 - 1, 1 << 53, 1<<53 + 1, math.MaxInt64, math.MinInt64}

var decimals = []float64{0, 1, -1, 0.5, -0.25, 0.1, 0.3, 2, 9, 10, 1e15, 1e21, -1e21, 1e-7, 5e-324, math.MaxFloat64, 1 << 53, 1 << 63, 123456.789}

// instant makes a time at a moment that is likely to meet another: with whole
// milliseconds, with fractions of them, or with the digits of .NET and more.
func (g *generator) instant() time.Time {
	base := pick(g, []time.Time{birth, birth.Add(time.Second), time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(1969, 12, 31, 23, 59, 59, 999_000_000, time.UTC), time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC)})
	switch g.IntN(6) {
	case 0:
		return base
	case 1:
		return base.Add(time.Duration(g.IntN(4)) * time.Millisecond)
	case 3:
		return base.Add(time.Duration(g.IntN(6)) * 100 * time.Nanosecond)
	case 4:
		return base.Add(time.Duration(g.IntN(30)) * 10 * time.Nanosecond)
	case 2:
		return base.Add(time.Duration(g.IntN(2000)) * time.Microsecond)
	}
	return base.Add(time.Duration(g.IntN(100)) * time.Hour)
}

// written writes a time in one of the ways clients do.
func (g *generator) written(t time.Time) string {
	switch g.IntN(4) {
	case 0:
		return t.Format("2006-01-02T15:04:05.999999999") // no zone is UTC
	case 1:
		return t.In(time.FixedZone("", 3600*(g.IntN(27)-13)+60*g.IntN(60))).Format(time.RFC3339Nano)
	case 2:
		return t.Format("2006-01-02T15:04:05.000000000Z07:00")
	}
	return t.Format(time.RFC3339Nano)
}

// value makes one value of an attribute as a client sends it.
func (g *generator) value(a *schemas.Attribute) any {
	switch a.Type {
	case schemas.Boolean:
		return g.chance(50)
	case schemas.Integer:
		return pick(g, integers)
	case schemas.Decimal:
		if g.chance(30) {
			return math.Round(g.NormFloat64()*1000) / 100
		}
		return pick(g, decimals)
	case schemas.DateTime:
		return g.written(g.instant())
	case schemas.Binary:
		return base64.StdEncoding.EncodeToString([]byte(pick(g, words)))
	case schemas.Reference:
		return "https://x.example/" + pick(g, []string{"a", "A", "b", "%20", "_", "ß", "'", "?a=b&c", "😀"})
	case schemas.Complex:
		return g.object(a.SubAttributes)
	}
	if len(a.CanonicalValues) > 0 && g.chance(70) {
		return pick(g, a.CanonicalValues)
	}
	for {
		s := g.text()
		if _, err := a.BindElement(s, schemas.Lenient); err == nil { // names are refused some
			return s
		}
	}
}

// object makes some of the attributes.
func (g *generator) object(attrs []*schemas.Attribute) map[string]any {
	m := map[string]any{}
	for _, a := range attrs {
		if g.chance(45) || a.Mutability == schemas.ReadOnly {
			continue
		}
		if !a.MultiValued {
			m[a.Name] = g.value(a)
			continue
		}
		list := make([]any, g.IntN(4))
		for i := range list {
			list[i] = g.value(a)
		}
		m[a.Name] = list
	}
	return m
}

// resource makes the body of a resource.
func (g *generator) resource(rt *schemas.ResourceType) map[string]any {
	var own []*schemas.Attribute
	for _, a := range rt.Attributes() {
		if a.Name != "schemas" && a.Path != "id" && a.Path != "meta" && a.Path != "password" && !a.Detached {
			own = append(own, a)
		}
	}
	m := g.object(own)
	for _, a := range own {
		for a.Required && !a.Extension && blank(m[a.Name]) {
			m[a.Name] = g.value(a)
		}
	}
	return m
}

func blank(v any) bool {
	s, _ := v.(string)
	return strings.TrimSpace(s) == ""
}

// observe remembers the values of a tree.
func (g *generator) observe(attrs []*schemas.Attribute, tree map[string]any) {
	for _, a := range attrs {
		list, ok := tree[a.Name].([]any)
		if !ok && tree[a.Name] != nil {
			list = []any{tree[a.Name]}
		}
		for _, v := range list {
			if m, ok := v.(map[string]any); ok {
				g.observe(a.SubAttributes, m)
			} else {
				g.seen[a] = append(g.seen[a], v)
			}
		}
	}
}

// filterable returns the attributes a filter may name: with their sub-attributes,
// without those that only exist on the way out.
func filterable(rt *schemas.ResourceType) []*schemas.Attribute {
	var all []*schemas.Attribute
	var walk func([]*schemas.Attribute)
	walk = func(attrs []*schemas.Attribute) {
		for _, a := range attrs {
			if !a.Readable() || madeUp(a) {
				continue
			}
			all = append(all, a)
			walk(a.SubAttributes)
		}
	}
	walk(rt.Attributes())
	return all
}

// madeUp reports whether a value is only made when a resource is written out;
// such comparisons never reach a store.
func madeUp(a *schemas.Attribute) bool {
	return a.Path == "meta.location" || a.Name == "$ref" && a.Top().Detached
}

// usual are the attributes that filters are mostly about.
var usual = []string{
	"userName", "externalId", "id", "displayName", "emails", "emails.value", "emails.type", "members", "members.value", "members.type",
	"groups", "groups.value", "groups.type", "meta.lastModified", "meta.created", "active", "name.familyName", "asset", "serials", "ports.value",
}

// filterOn makes a filter on resources of a type.
func (g *generator) filterOn(rt *schemas.ResourceType) string {
	c := &composer{g: g, rt: rt, attrs: filterable(rt), terms: 12}
	for _, path := range usual {
		if a := rt.Lookup(path); a != nil {
			c.usual = append(c.usual, a)
		}
	}
	return c.filter(1+g.IntN(4), nil)
}

// composer writes one filter.
type composer struct {
	g     *generator
	rt    *schemas.ResourceType
	attrs []*schemas.Attribute
	usual []*schemas.Attribute
	terms int // how many more there may be
}

// filter makes a filter up to depth; inside brackets it is on elements of in.
func (c *composer) filter(depth int, in *schemas.Attribute) string {
	g := c.g
	if depth <= 1 || c.terms < 3 || g.chance(30) {
		return c.term(in)
	}
	switch g.IntN(5) {
	case 0:
		return "not (" + c.filter(depth-1, in) + ")"
	case 1:
		return "(" + c.filter(depth-1, in) + ")"
	case 2:
		return c.filter(depth-1, in) + " or " + c.filter(depth-1, in)
	}
	return c.filter(depth-1, in) + " and " + c.filter(depth-1, in)
}

func (c *composer) term(in *schemas.Attribute) string {
	g := c.g
	c.terms--
	if in != nil {
		var subs []*schemas.Attribute
		for _, s := range in.SubAttributes {
			if s.Readable() && !madeUp(s) {
				subs = append(subs, s)
			}
		}
		s := pick(g, subs)
		return c.comparison(s, s.Name)
	}
	a := pick(g, c.attrs)
	if g.chance(40) {
		a = pick(g, c.usual)
	}
	if a.Type == schemas.Complex && !a.Extension && g.chance(80) {
		path := c.spell(a)
		text := path + "[" + c.filter(1+g.IntN(3), a) + "]"
		if g.chance(20) {
			return text + "." + strings.TrimPrefix(c.term(a), path+".")
		}
		return text
	}
	return c.comparison(a, c.spell(a))
}

// spell writes a path: mostly as the schema does, else in another case, with the
// schema's URN, or without the one of an extension.
func (c *composer) spell(a *schemas.Attribute) string {
	core := c.rt.Top(a.Top().Name) != nil && !a.Top().Extension
	switch c.g.IntN(10) {
	case 0:
		return strings.ToUpper(a.Path)
	case 1:
		if core && a.Top().Name != "schemas" && a.Top().Name != "id" && a.Top().Name != "externalId" && a.Top().Name != "meta" {
			return c.rt.Schema.ID + ":" + a.Path
		}
	case 2:
		if top := a.Top(); top.Extension && a != top {
			if bare := strings.TrimPrefix(a.Path, top.Path+":"); c.rt.Lookup(bare) == a {
				return bare
			}
		}
	}
	return a.Path
}

var (
	allOps     = []string{"eq", "eq", "eq", "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"}
	orderedOps = []string{"eq", "eq", "ne", "gt", "ge", "lt", "le"}
	equalOps   = []string{"eq", "eq", "ne"}
)

// comparison makes what follows a path.
func (c *composer) comparison(a *schemas.Attribute, path string) string {
	g := c.g
	leaf := a.Leaf()
	if g.chance(12) || leaf == nil || leaf.Type == schemas.Complex {
		return path + pick(g, []string{" pr", " pr", " PR", " eq null", " ne null"})
	}
	var ops []string
	var literal string
	switch leaf.Type {
	case schemas.Boolean:
		ops, literal = equalOps, pick(g, []string{"true", "false", `"True"`, "FALSE"})
	case schemas.Integer:
		ops, literal = orderedOps, fmt.Sprint(c.integer(leaf))
	case schemas.Decimal:
		ops, literal = orderedOps, c.decimal(leaf)
	case schemas.DateTime:
		ops, literal = orderedOps, quote(g.written(c.time(leaf)))
	case schemas.Binary:
		ops, literal = equalOps, quote(c.text(leaf))
	default:
		ops, literal = allOps, quote(c.text(leaf))
	}
	op := pick(g, ops)
	if g.chance(10) {
		op = strings.ToUpper(op)
	}
	return path + " " + op + " " + literal
}

// known returns a value that some resource has for a.
func (c *composer) known(a *schemas.Attribute) any {
	if list := c.g.seen[a]; len(list) > 0 && c.g.chance(75) {
		return pick(c.g, list)
	}
	return nil
}

// text is a string to ask about: one that is there, part of one, or in other
// letters.
func (c *composer) text(a *schemas.Attribute) string {
	g := c.g
	s, ok := c.known(a).(string)
	if !ok {
		s = g.text()
	}
	switch r := []rune(s); g.IntN(12) {
	case 0:
		i := g.IntN(len(r) + 1)
		return string(r[:i])
	case 1:
		i := g.IntN(len(r) + 1)
		return string(r[i:])
	case 2:
		i := g.IntN(len(r) + 1)
		return string(r[i : i+g.IntN(len(r)+1-i)])
	case 3:
		return strings.ToUpper(s)
	case 4:
		return strings.Map(func(r rune) rune {
			if g.chance(50) {
				return unicode.ToUpper(r)
			}
			return unicode.ToLower(r)
		}, s)
	case 5:
		return " " + s
	case 6:
		return schemas.Fold(s)
	}
	return s
}

func (c *composer) integer(a *schemas.Attribute) int64 {
	n, ok := c.known(a).(int64)
	if !ok {
		n = pick(c.g, integers)
	}
	switch {
	case c.g.chance(10) && n < math.MaxInt64:
		n++
	case c.g.chance(10) && n > math.MinInt64:
		n--
	}
	return n
}

func (c *composer) decimal(a *schemas.Attribute) string {
	g := c.g
	var f float64
	switch v := c.known(a).(type) {
	case int64:
		f = float64(v)
	case float64:
		f = v
	default:
		f = pick(g, decimals)
	}
	switch g.IntN(8) {
	case 0:
		f = math.Nextafter(f, math.Inf(1))
	case 1:
		f = math.Nextafter(f, math.Inf(-1))
	case 2:
		f = -f
	}
	if math.IsInf(f, 0) {
		f = 0
	}
	return pick(g, []func(float64) string{
		func(f float64) string { return fmt.Sprintf("%.17g", f) },
		func(f float64) string { return fmt.Sprintf("%.20e", f) },
		func(f float64) string { return string(schemas.AppendFloat(nil, f)) },
	})(f)
}

func (c *composer) time(a *schemas.Attribute) time.Time {
	g := c.g
	s, _ := c.known(a).(string)
	t, ok := schemas.ParseTime(s)
	if !ok {
		t = g.instant()
	}
	return t.Add(pick(g, []time.Duration{0, 0, 0, 0, 100 * time.Nanosecond, -time.Nanosecond, time.Microsecond, -time.Microsecond, 500 * time.Microsecond, time.Millisecond, -time.Millisecond, time.Hour}))
}
