package sqlite

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// condition is SQL with its arguments. It is handed on by value, which a strings.Builder
// must not be.
type condition struct {
	sql  []byte
	args []any
}

func (c *condition) add(sql string, args ...any) {
	c.sql = append(c.sql, sql...)
	c.args = append(c.args, args...)
}

func (c *condition) text() string { return string(c.sql) }

// compiler turns a filter into a condition on a row r of resource. Every
// condition is true or false, never NULL, so that NOT means what it means in
// filter.Expr.Match.
type compiler struct {
	condition
	tenant string
	typ    string
	recent *recent         // nil when the keys in memory are not known: those of the rows not merged yet are looked at
	chosen map[string]bool // see Store.chosen
	asked  bool            // the condition depends on those
	// under is the group that all rows looked at are in, directly or through others; ""
	// for none.
	under string
}

// scope is where the attributes of a comparison are found: in the row as a
// whole, or in one element of a multi-valued attribute.
type scope struct {
	element *schemas.Attribute // nil for the row
	source  string             // "r.shadow" or "e.value"
	depth   int
}

var row = scope{source: "r.shadow"}

func (c *compiler) expr(e filter.Expr, s scope) {
	switch e := e.(type) {
	case filter.And:
		c.join([]filter.Expr(e), " AND ", s)
	case filter.Or:
		c.join([]filter.Expr(e), " OR ", s)
	case filter.Not:
		c.add("NOT (")
		c.expr(e.Expr, s)
		c.add(")")
	case filter.ValuePath:
		c.valuePath(e, s)
	case filter.Present:
		c.present(e.Attr, s)
	case filter.Compare:
		c.compare(e, s)
	default:
		panic(fmt.Sprintf("unknown expression %T", e))
	}
}

func (c *compiler) join(terms []filter.Expr, op string, s scope) {
	c.add("(")
	for i, t := range terms {
		if i > 0 {
			c.add(op)
		}
		c.expr(t, s)
	}
	c.add(")")
}

func (c *compiler) valuePath(e filter.ValuePath, s scope) {
	if only, ok := e.Filter.(filter.Compare); ok && e.Attr.MultiValued {
		c.compare(only, s) // one term over any element is a plain comparison
		return
	}
	if e.Attr.Detached {
		c.relation(e.Attr, e.Filter, func() { c.expr(e.Filter, scope{element: e.Attr, source: "", depth: s.depth}) })
		return
	}
	if !e.Attr.MultiValued {
		// Paths below a single complex value are found from the row itself. The
		// value must exist, or ne would select resources without it.
		c.add("(")
		c.present(e.Attr, s)
		c.add(" AND ")
		c.expr(e.Filter, s)
		c.add(")")
		return
	}
	c.elements(e.Attr, s, func(in scope) { c.expr(e.Filter, in) })
}

// elements says that one element of a satisfies what inner adds.
func (c *compiler) elements(a *schemas.Attribute, s scope, inner func(scope)) {
	in := scope{element: a, source: fmt.Sprintf("e%d.value", s.depth), depth: s.depth + 1}
	c.add(fmt.Sprintf("EXISTS (SELECT 1 FROM %s e%d WHERE ", each(a, s), s.depth))
	inner(in)
	c.add(")")
}

// each is SQL for the elements of a.
func each(a *schemas.Attribute, s scope) string {
	if a.Path != "schemas" {
		return "jsonb_each(" + s.source + ", " + path(a, s.element) + ")"
	}
	list := "json_extract(" + s.source + ", " + path(a, s.element) + ")"
	var b strings.Builder
	b.WriteString("jsonb_each(CASE " + list)
	for i, l := range schemaLists {
		b.WriteString(" WHEN " + strconv.Itoa(i+1) + " THEN " + l.literal)
	}
	b.WriteString(" ELSE " + list + " END)")
	return b.String()
}

// relation says that one membership row of the group, or one group of the
// member, satisfies what inner adds; its columns are v.id, v.type and v.display. Of a
// group the row of the member that the filter names, if it does, is the only one looked at.
func (c *compiler) relation(a *schemas.Attribute, e filter.Expr, inner func()) {
	if a.Name == "members" {
		c.add(`EXISTS (SELECT 1 FROM (SELECT x.id AS id, x.type AS type, ` + display + ` AS display
			FROM membership m JOIN resource x ON x.n = m.member AND x.deleted IS NULL WHERE m.grp = r.n`)
		if id, ok := filter.Named(e, "members.value"); ok {
			c.add(` AND m.id = ?`, id)
		}
		c.add(`) v WHERE `)
	} else {
		c.add(`EXISTS (SELECT 1 FROM (WITH RECURSIVE up (n, direct) AS (
				SELECT m.grp, 1 FROM membership m JOIN resource g ON g.n = m.grp AND g.deleted IS NULL WHERE m.member = r.n
				UNION
				SELECT m.grp, 0 FROM up JOIN membership m ON m.member = up.n JOIN resource g ON g.n = m.grp AND g.deleted IS NULL)
			SELECT g.id AS id, iif(max(up.direct), 'direct', 'indirect') AS type, g.name AS display
			FROM up CROSS JOIN resource g ON g.n = up.n GROUP BY g.n) v WHERE `)
	}
	inner()
	c.add(")")
}

// path returns the JSON path of a, from the row or from an element, as an SQL
// literal.
func path(a, element *schemas.Attribute) string {
	var b strings.Builder
	b.WriteString("'$")
	for _, name := range storage.ShadowPath(a, element) {
		b.WriteString(`."` + strings.ReplaceAll(shortName(name), "'", "''") + `"`)
	}
	b.WriteString("'")
	return b.String()
}

func (c *compiler) present(a *schemas.Attribute, s scope) {
	if s.element != nil && s.element.Detached {
		c.add("(" + c.column(a, s) + " IS NOT '')")
		return
	}
	if top := a.Top(); s.element == nil && top.Detached {
		c.relation(top, nil, func() {
			if a == top {
				c.add("1")
			} else {
				c.present(a, scope{element: top})
			}
		})
		return
	}
	if m := storage.OuterElement(a, s.element); m != nil && m != a {
		c.elements(m, s, func(in scope) { c.present(a, in) })
		return
	}
	c.add("(" + c.column(a, s) + " IS NOT NULL)")
}

// column returns the SQL expression for a single value.
func (c *compiler) column(a *schemas.Attribute, s scope) string {
	if s.element != nil && s.element.Detached {
		switch a.Name {
		case "value":
			return "v.id"
		case "type":
			return "lower(v.type)"
		case "display":
			return "roster_fold(v.display)"
		}
		return "''" // $ref is computed on the way out
	}
	switch a.Path {
	case "id":
		return "r.id"
	case "meta":
		return "1"
	case "meta.created":
		return "r.created"
	case "meta.lastModified":
		return "r.modified"
	case "meta.resourceType":
		return "r.type"
	case "meta.version":
		return `('W/"' || r.version || '"')`
	}
	if a == s.element {
		return s.source // an element of a simple multi-valued attribute
	}
	return "json_extract(" + s.source + ", " + path(a, s.element) + ")"
}

func (c *compiler) compare(e filter.Compare, s scope) {
	inRelation := s.element != nil && s.element.Detached
	if top := e.Attr.Top(); !inRelation && top.Detached {
		if e.Attr.Path == "members.value" && e.Op == filter.Equal {
			c.isMember(e.Value)
			return
		}
		if c.under != "" && e.Attr.Path == "groups.value" && e.Op == filter.Equal && e.Value == c.under {
			c.add("1")
			return
		}
		c.relation(top, nil, func() { c.compare(e, scope{element: top}) })
		return
	}
	if m := storage.OuterElement(e.Attr, s.element); m != nil && !inRelation {
		c.elements(m, s, func(in scope) { c.compare(e, in) })
		return
	}
	v := e.Value
	if t, ok := v.(time.Time); ok {
		v = instant(e.Attr, t)
	}
	c.operator(c.column(e.Attr, s), e.Op, v)
}

// instant returns a time as it compares with those of an attribute. Those of
// meta are whole milliseconds; what lies between two of them is half-way, lest
// rounding makes it one of them.
func instant(a *schemas.Attribute, t time.Time) any {
	if a.Top().Path != "meta" {
		return storage.Ticks(t)
	}
	ms := t.UnixMilli()
	if t.Equal(time.UnixMilli(ms)) {
		return ms
	}
	return float64(ms) + 0.5
}

// isMember is the membership test "members.value eq x": two index seeks,
// whatever the size of the group.
func (c *compiler) isMember(v any) {
	c.add(`EXISTS (SELECT 1 FROM membership m WHERE m.grp = r.n AND m.member = (`)
	c.memberRow(v)
	c.add("))")
}

// memberRow selects the row number of the user or group with this id.
func (c *compiler) memberRow(v any) {
	c.add(`SELECT x.n FROM resource x WHERE x.tenant = ? AND x.type IN ('User', 'Group') AND x.id = ? AND x.deleted IS NULL`, c.tenant, v)
}

func (c *compiler) operator(col string, op filter.Op, v any) {
	switch op {
	case filter.Equal:
		c.add("("+col+" IS ?)", v)
	case filter.NotEqual:
		c.add("("+col+" IS NOT ?)", v)
	case filter.Contains:
		c.add("((instr("+col+", ?) > 0) IS TRUE)", v)
	case filter.StartsWith:
		c.add("((substr("+col+", 1, length(?)) = ?) IS TRUE)", v, v)
	case filter.EndsWith:
		if v == "" {
			c.add("(" + col + " IS NOT NULL)")
			return
		}
		c.add("((substr("+col+", -length(?)) = ?) IS TRUE)", v, v)
	case filter.Greater:
		c.add("(("+col+" > ?) IS TRUE)", v)
	case filter.GreaterOrEqual:
		c.add("(("+col+" >= ?) IS TRUE)", v)
	case filter.Less:
		c.add("(("+col+" < ?) IS TRUE)", v)
	case filter.LessOrEqual:
		c.add("(("+col+" <= ?) IS TRUE)", v)
	}
}

// What the rank of an index promises, see seek.
const (
	fewRows = 70 // and above: as many as have the same value
	oneRow  = 90
)

// seek finds the index that narrows a filter down most. It returns a FROM
// clause that yields r for a superset of what the filter selects, and how well it
// narrows. Without a seek, ok is false. When it is a group that narrows down, c.under
// says which, and the clause is for selection.below to make.
func (c *compiler) seek(e filter.Expr) (from condition, rank int, ok bool) {
	consider := func(r int, build func(*condition)) {
		if r > rank {
			rank = r
			from, c.under = condition{}, ""
			build(&from)
		}
	}
	for _, t := range filter.Conjuncts(e) {
		cmp, isCompare := t.(filter.Compare)
		if !isCompare {
			continue
		}
		path, text := cmp.Attr.Path, ""
		if v, isText := cmp.Value.(string); isText {
			text = v
		}
		switch {
		case cmp.Op == filter.Equal && path == "id":
			consider(100, func(f *condition) {
				f.add("resource r WHERE r.tenant = ? AND r.type = ? AND r.id = ? AND r.deleted IS NULL", c.tenant, c.typ, text)
			})
		case cmp.Op == filter.Equal && storage.Unique(cmp.Attr):
			consider(oneRow, func(f *condition) {
				k := hashUnique(c.tenant, c.typ, storage.Key{Path: path, Value: storage.IndexValue(strings.TrimSpace(text))})
				f.add(byRow+"SELECT n FROM unique_key WHERE h = ?", k[:])
				if c.unmerged(f, k.part()) {
					return
				}
				for _, n := range c.recent.findUnique(k) {
					f.add(" UNION ALL SELECT ?", n)
				}
				f.add(") AND r.deleted IS NULL")
			})
		case cmp.Op == filter.Equal && storage.Indexed(cmp.Attr):
			consider(80, func(f *condition) {
				k := hashLookup(c.tenant, c.typ, storage.Key{Path: path, Value: storage.IndexValue(text)})
				f.add(byRow+"SELECT n FROM lookup WHERE h = ?", int64(k))
				if c.unmerged(f, k.part()) {
					return
				}
				if rows := c.recent.findLookup(k); len(rows) > 0 {
					f.add(" UNION ALL SELECT value FROM json_each(?)", jsonInts(rows))
				}
				f.add(") AND r.tenant = ? AND r.type = ? AND r.deleted IS NULL", c.tenant, c.typ)
			})
		case cmp.Op == filter.Equal && c.chosen[path] && storage.OuterElement(cmp.Attr, nil) == nil:
			consider(75, func(f *condition) {
				v := cmp.Value
				if t, ok := v.(time.Time); ok {
					v = instant(cmp.Attr, t)
				}
				f.add("resource r INDEXED BY "+chosenIndex(path)+" WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL AND "+
					c.column(cmp.Attr, row)+" = ?", c.tenant, c.typ, v)
			})
		case cmp.Op == filter.Equal && path == "members.value":
			consider(fewRows, func(f *condition) {
				inner := compiler{tenant: c.tenant}
				inner.memberRow(text)
				f.add(`membership k CROSS JOIN resource r ON r.n = k.grp WHERE k.member = (`+inner.text()+`)
					AND r.tenant = ? AND r.type = ? AND r.deleted IS NULL`, append(inner.args, c.tenant, c.typ)...)
			})
		case cmp.Op == filter.Equal && path == "groups.value" && cmp.Attr.Top().Detached && text != "": // not those of an invitation, and nothing has the id ""
			consider(60, func(*condition) { c.under = text })
		case path == "meta.lastModified" && cmp.Op >= filter.Greater || path == "meta.lastModified" && cmp.Op == filter.Equal:
			at, _ := cmp.Value.(time.Time)
			r := 20
			if cmp.Op == filter.Equal {
				r = 50
			}
			consider(r, func(f *condition) {
				f.add("resource r INDEXED BY resource_modified WHERE r.tenant = ? AND r.type = ? AND r.deleted IS NULL AND r.modified "+
					sqlOrder[cmp.Op]+" ?", c.tenant, c.typ, instant(cmp.Attr, at))
			})
		}
	}
	return from, rank, rank > 0
}

// unmerged ends the look-up of a key with the rows whose keys of this part are not in the
// tables yet, where those in memory are not known.
func (c *compiler) unmerged(f *condition, part int) bool {
	if c.recent != nil {
		c.asked = true
		return false
	}
	f.add(" UNION ALL SELECT n FROM resource WHERE n > (SELECT n FROM key_part WHERE part = ?)) AND r.deleted IS NULL AND r.tenant = ? AND r.type = ?", part, c.tenant, c.typ)
	return true
}

// byRow looks rows up by their numbers. Left to itself, SQLite may rather walk an
// index of all rows of the type.
const byRow = "resource r NOT INDEXED WHERE r.n IN ("

// jsonInts writes row numbers as a JSON array.
func jsonInts(rows []int64) string {
	b := []byte{'['}
	for i, n := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(append(b, ']'))
}

var sqlOrder = map[filter.Op]string{
	filter.Equal: "=", filter.Greater: ">", filter.GreaterOrEqual: ">=", filter.Less: "<", filter.LessOrEqual: "<=",
}

// order returns the ORDER BY of a query (RFC 7644 §3.4.2.3).
func order(a *schemas.Attribute, descending bool) string {
	dir, nulls := "ASC", "LAST"
	if descending {
		dir, nulls = "DESC", "FIRST"
	}
	if a == nil {
		return "r.id " + dir
	}
	return sortColumn(a) + " " + dir + " NULLS " + nulls + ", r.id " + dir
}

// sortColumn is what order compares for an attribute.
func sortColumn(a *schemas.Attribute) string {
	m := storage.OuterElement(a, nil)
	if m == nil {
		c := compiler{}
		return c.column(a, row)
	}
	// The primary value decides, or else the first.
	leaf := "e.value"
	if a != m {
		leaf = "json_extract(e.value, " + path(a, m) + ")"
		if a.MultiValued {
			leaf = "json_extract(" + leaf + ", '$[0]')"
		}
	}
	primary := ""
	if m.Sub("primary") != nil {
		primary = "coalesce(json_extract(e.value, " + path(m.Sub("primary"), m) + "), 0) DESC, "
	}
	return "(SELECT " + leaf + " FROM " + each(m, row) + " e ORDER BY " + primary + "e.key LIMIT 1)"
}

// behind selects what comes behind a mark in an order. Where an index has the order,
// the first comparison is one that it answers.
func behind(a *schemas.Attribute, descending bool, m *storage.Mark) (sql string, args []any) {
	beyond := ">"
	if descending {
		beyond = "<"
	}
	if a == nil {
		return "r.id " + beyond + " ?", []any{m.ID}
	}
	col := sortColumn(a)
	switch {
	case m.Value == nil && descending: // what has no value comes first
		return "(" + col + " IS NOT NULL OR r.id < ?)", []any{m.ID}
	case m.Value == nil:
		return col + " IS NULL AND r.id > ?", []any{m.ID}
	}
	sql, args = col+" "+beyond+"= ? AND ("+col+" "+beyond+" ? OR r.id "+beyond+" ?)", []any{m.Value, m.Value, m.ID}
	if !descending && a.Top().Name != "meta" && a.Path != "id" {
		sql = "(" + sql + " OR " + col + " IS NULL)"
	}
	return sql, args
}
