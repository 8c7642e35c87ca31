package mongotest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// filter is a query on documents, checked as a whole before the first document
// is looked at, so that what is wrong or unsupported in it is always reported.
type filter struct {
	match func(bson.D) bool
	// terms are the conditions on single fields that all have to hold; the
	// planner picks an index by them and an upsert takes its equalities.
	terms []term
}

type term struct {
	path     string
	operator string // "$eq", "$in", "$gt", "$gte", "$lt" or "$lte"
	operand  any
}

func parseFilter(d bson.D) (*filter, error) {
	f := &filter{}
	match, err := f.document(d, true)
	if err != nil {
		return nil, err
	}
	f.match = match
	return f, nil
}

// document compiles the conjunction of a document's fields. Its terms are noted
// where nothing but conjunctions stands above it.
func (f *filter) document(d bson.D, conjunct bool) (func(bson.D) bool, error) {
	var all []func(bson.D) bool
	for _, e := range d {
		var match func(bson.D) bool
		var err error
		switch {
		case e.Key == "$comment":
			continue
		case e.Key == "$and" || e.Key == "$or" || e.Key == "$nor":
			match, err = f.logical(e.Key, e.Value, conjunct)
		case e.Key == "$expr" || e.Key == "$where" || e.Key == "$text" || e.Key == "$jsonSchema":
			err = refused(e.Key)
		case strings.HasPrefix(e.Key, "$"):
			err = errorf(badValue, "unknown top level operator: %s", e.Key)
		default:
			var p predicate
			if p, err = f.field(e.Key, e.Value, conjunct); err == nil {
				path := strings.Split(e.Key, ".")
				match = func(d bson.D) bool { return p.at(d, path) }
			}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, match)
	}
	return func(d bson.D) bool {
		for _, match := range all {
			if !match(d) {
				return false
			}
		}
		return true
	}, nil
}

func (f *filter) logical(operator string, v any, conjunct bool) (func(bson.D) bool, error) {
	list, ok := v.(bson.A)
	if !ok || len(list) == 0 {
		return nil, errorf(badValue, "%s must be a nonempty array", operator)
	}
	conjunct = conjunct && (operator == "$and" || operator == "$or" && len(list) == 1)
	branches := make([]func(bson.D) bool, len(list))
	for i, e := range list {
		d, ok := e.(bson.D)
		if !ok {
			return nil, errorf(badValue, "%s argument's entries must be objects", operator)
		}
		var err error
		if branches[i], err = f.document(d, conjunct); err != nil {
			return nil, err
		}
	}
	return func(d bson.D) bool {
		// $and looks for a branch that fails, $or and $nor for one that holds.
		found := slices.ContainsFunc(branches, func(match func(bson.D) bool) bool {
			return match(d) != (operator == "$and")
		})
		return found == (operator == "$or")
	}, nil
}

// predicate is a condition on the values at a path, or on one value alone where
// it stands inside $elemMatch.
type predicate struct {
	at    func(d bson.D, path []string) bool
	value func(v any) bool
}

// leaf holds where one of the values at the path passes the test.
func leaf(whole bool, test func(v any, present bool) bool) predicate {
	return predicate{
		at:    func(d bson.D, path []string) bool { return walk(d, path, whole, test) },
		value: func(v any) bool { return test(v, true) },
	}
}

func not(p predicate) predicate {
	return predicate{
		at:    func(d bson.D, path []string) bool { return !p.at(d, path) },
		value: func(v any) bool { return !p.value(v) },
	}
}

func allOf(ps []predicate) predicate {
	return predicate{
		at: func(d bson.D, path []string) bool {
			return !slices.ContainsFunc(ps, func(p predicate) bool { return !p.at(d, path) })
		},
		value: func(v any) bool {
			return !slices.ContainsFunc(ps, func(p predicate) bool { return !p.value(v) })
		},
	}
}

func anyOf(ps []predicate) predicate {
	return predicate{
		at: func(d bson.D, path []string) bool {
			return slices.ContainsFunc(ps, func(p predicate) bool { return p.at(d, path) })
		},
		value: func(v any) bool {
			return slices.ContainsFunc(ps, func(p predicate) bool { return p.value(v) })
		},
	}
}

// isOperators reports whether a document says how to compare rather than what
// to compare with.
func isOperators(v any) (bson.D, bool) {
	d, ok := v.(bson.D)
	return d, ok && len(d) > 0 && strings.HasPrefix(d[0].Key, "$")
}

// field compiles what a query says of one field.
func (f *filter) field(path string, v any, conjunct bool) (predicate, error) {
	note := func(operator string, operand any) {
		if conjunct {
			f.terms = append(f.terms, term{path, operator, operand})
		}
	}
	if d, ok := isOperators(v); ok {
		return f.operators(d, note)
	}
	if re, ok := v.(bson.Regex); ok {
		return regex(re)
	}
	note("$eq", v)
	return equal(v), nil
}

func (f *filter) operators(d bson.D, note func(operator string, operand any)) (predicate, error) {
	var all []predicate
	for _, e := range d {
		if e.Key == "$options" {
			if _, ok := lookup(d, "$regex"); !ok {
				return predicate{}, errorf(badValue, "$options needs a $regex")
			}
			continue
		}
		p, err := f.operator(e.Key, e.Value, d)
		if err != nil {
			return predicate{}, err
		}
		switch list, _ := e.Value.(bson.A); {
		case slices.Contains([]string{"$eq", "$gt", "$gte", "$lt", "$lte"}, e.Key):
			note(e.Key, e.Value)
		case e.Key == "$in" && len(list) != 1:
			note(e.Key, e.Value)
		case e.Key == "$in" || e.Key == "$all" && len(list) == 1:
			// One of one is that one, also for an upsert.
			if c := classOf(list[0]); c != classRegex && c != classDocument {
				note("$eq", list[0])
			}
		}
		all = append(all, p)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return allOf(all), nil
}

func (f *filter) operator(name string, v any, siblings bson.D) (predicate, error) {
	switch name {
	case "$eq":
		return equal(v), nil
	case "$ne":
		if _, ok := v.(bson.Regex); ok {
			return predicate{}, errorf(badValue, "Can't have regex as arg to $ne.")
		}
		return not(equal(v)), nil
	case "$gt", "$gte", "$lt", "$lte":
		return order(name, v)
	case "$in", "$nin":
		p, err := in(name, v)
		if name == "$nin" && err == nil {
			p = not(p)
		}
		return p, err
	case "$not":
		return f.negation(v)
	case "$exists":
		return exists(v), nil
	case "$regex":
		return regexOperator(v, siblings)
	case "$elemMatch":
		return f.elemMatch(v)
	case "$all":
		return f.all(v)
	case "$size":
		return size(v)
	case "$type":
		return typeIs(v)
	case "$mod", "$bitsAllClear", "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet",
		"$geoWithin", "$geoIntersects", "$near", "$nearSphere":
		return predicate{}, refused(name)
	}
	return predicate{}, errorf(badValue, "unknown operator: %s", name)
}

func equal(v any) predicate {
	if v == nil {
		return leaf(false, func(x any, _ bool) bool { return x == nil })
	}
	if s, ok := v.(string); ok {
		return leaf(false, func(x any, _ bool) bool { t, ok := x.(string); return ok && s == t })
	}
	return leaf(false, func(x any, present bool) bool { return present && compare(x, v) == 0 })
}

func order(name string, v any) (predicate, error) {
	if _, ok := v.(bson.Regex); ok {
		return predicate{}, errorf(badValue, "Can't have RegEx as arg to predicate over field")
	}
	class := classOf(v)
	return leaf(false, func(x any, _ bool) bool { // an absent value compares as null
		if classOf(x) != class {
			return false
		}
		switch c := compare(x, v); name {
		case "$gt":
			return c > 0
		case "$gte":
			return c >= 0
		case "$lt":
			return c < 0
		default:
			return c <= 0
		}
	}), nil
}

func in(name string, v any) (predicate, error) {
	list, ok := v.(bson.A)
	if !ok {
		return predicate{}, errorf(badValue, "%s needs an array", name)
	}
	var some []predicate
	plain := map[string]bool{}
	for _, e := range list {
		if d, ok := isOperators(e); ok {
			return predicate{}, errorf(badValue, "cannot nest $ under %s: %s", name, d[0].Key)
		}
		if re, ok := e.(bson.Regex); ok {
			p, err := regex(re)
			if err != nil {
				return predicate{}, err
			}
			some = append(some, p)
			continue
		}
		plain[string(appendAscending(nil, e))] = true
	}
	some = append(some, leaf(false, func(x any, _ bool) bool {
		var buf [64]byte
		return plain[string(appendAscending(buf[:0], x))]
	}))
	if len(some) == 1 {
		return some[0], nil
	}
	return anyOf(some), nil
}

func (f *filter) negation(v any) (predicate, error) {
	if re, ok := v.(bson.Regex); ok {
		p, err := regex(re)
		return not(p), err
	}
	d, ok := isOperators(v)
	if !ok {
		return predicate{}, errorf(badValue, "$not needs a regex or a document of operators")
	}
	p, err := f.operators(d, func(string, any) {})
	return not(p), err
}

func exists(v any) predicate {
	want := true
	switch v := v.(type) {
	case nil:
		want = false
	case bool:
		want = v
	case int32, int64, float64:
		f, _ := number(v)
		want = f != 0
	}
	p := leaf(true, func(_ any, present bool) bool { return present })
	if want {
		return p
	}
	return not(p)
}

func (f *filter) elemMatch(v any) (predicate, error) {
	d, ok := v.(bson.D)
	if !ok {
		return predicate{}, errorf(badValue, "$elemMatch needs an Object")
	}
	var match func(any) bool
	if ops, ok := isOperators(d); ok && !slices.Contains([]string{"$and", "$or", "$nor"}, ops[0].Key) {
		p, err := f.operators(ops, func(string, any) {})
		if err != nil {
			return predicate{}, err
		}
		match = p.value
	} else {
		matchDocument, err := f.document(d, false)
		if err != nil {
			return predicate{}, err
		}
		match = func(v any) bool {
			switch v := v.(type) {
			case bson.D:
				return matchDocument(v)
			case bson.A:
				return matchDocument(byPosition(v))
			}
			return false
		}
	}
	return leaf(true, func(v any, _ bool) bool {
		a, ok := v.(bson.A)
		return ok && slices.ContainsFunc(a, match)
	}), nil
}

// byPosition is an array as BSON writes it: a document of its elements.
func byPosition(a bson.A) bson.D {
	d := make(bson.D, len(a))
	for i, v := range a {
		d[i] = bson.E{Key: strconv.Itoa(i), Value: v}
	}
	return d
}

func (f *filter) all(v any) (predicate, error) {
	list, ok := v.(bson.A)
	if !ok {
		return predicate{}, errorf(badValue, "$all needs an array")
	}
	if len(list) == 0 { // matches nothing
		return leaf(true, func(any, bool) bool { return false }), nil
	}
	ps := make([]predicate, len(list))
	for i, e := range list {
		var err error
		switch d, ok := isOperators(e); {
		case ok && d[0].Key == "$elemMatch" && len(d) == 1:
			ps[i], err = f.elemMatch(d[0].Value)
		case ok:
			err = errorf(badValue, "no $ expressions in $all")
		default:
			if re, ok := e.(bson.Regex); ok {
				ps[i], err = regex(re)
			} else {
				ps[i] = equal(e)
			}
		}
		if err != nil {
			return predicate{}, err
		}
	}
	return allOf(ps), nil
}

func size(v any) (predicate, error) {
	n, ok := integer(v)
	if !ok || n < 0 {
		return predicate{}, errorf(badValue, "$size must be a whole number that is not negative")
	}
	return leaf(true, func(v any, _ bool) bool {
		a, ok := v.(bson.A)
		return ok && int64(len(a)) == n
	}), nil
}

var typeNames = map[string]func(any) bool{
	"double":    func(v any) bool { _, ok := v.(float64); return ok },
	"string":    func(v any) bool { return classOf(v) == classString },
	"object":    func(v any) bool { return classOf(v) == classDocument },
	"array":     func(v any) bool { return classOf(v) == classArray },
	"binData":   func(v any) bool { return classOf(v) == classBinary },
	"objectId":  func(v any) bool { return classOf(v) == classObjectID },
	"bool":      func(v any) bool { return classOf(v) == classBool },
	"date":      func(v any) bool { return classOf(v) == classDate },
	"null":      func(v any) bool { return classOf(v) == classNull },
	"regex":     func(v any) bool { return classOf(v) == classRegex },
	"int":       func(v any) bool { _, ok := v.(int32); return ok },
	"timestamp": func(v any) bool { return classOf(v) == classTimestamp },
	"long":      func(v any) bool { _, ok := v.(int64); return ok },
	"number":    func(v any) bool { return classOf(v) == classNumber },
}

func typeIs(v any) (predicate, error) {
	names, ok := v.(bson.A)
	if !ok {
		names = bson.A{v}
	}
	var some []predicate
	for _, n := range names {
		name, ok := n.(string)
		if !ok {
			return predicate{}, refused("$type by number")
		}
		is, ok := typeNames[name]
		if !ok {
			return predicate{}, errorf(badValue, "Unknown type name alias: %s", name)
		}
		some = append(some, leaf(false, func(v any, present bool) bool { return present && is(v) }))
	}
	return anyOf(some), nil
}

func regexOperator(v any, siblings bson.D) (predicate, error) {
	var re bson.Regex
	switch v := v.(type) {
	case string:
		re.Pattern = v
	case bson.Regex:
		re = v
	default:
		return predicate{}, errorf(badValue, "$regex has to be a string")
	}
	if o, ok := lookup(siblings, "$options"); ok {
		options, ok := o.(string)
		if !ok || re.Options != "" {
			return predicate{}, errorf(badValue, "$options has to be a string, and set once")
		}
		re.Options = options
	}
	return regex(re)
}

// escaped are the characters of a pattern that stand for themselves.
var escaped = regexp.MustCompile(`(?s)\\Q.*?(\\E|\z)|\\.|\[\^?\]?(\\.|[^\]\\])*\]`)

// regex compiles a regular expression of the subset that PCRE and Go read in
// the same way; look-around and back references do not compile.
func regex(re bson.Regex) (predicate, error) {
	flags := ""
	for _, o := range re.Options {
		if !strings.ContainsRune("ims", o) {
			return predicate{}, refused("regular expression option " + string(o))
		}
		flags += string(o)
	}
	pattern := re.Pattern
	if flags != "" {
		pattern = "(?" + flags + ")" + pattern
	}
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return predicate{}, errorf(regexInvalid, "Regular expression is invalid: %s", err)
	}
	// PCRE's $ also holds before a newline at the very end, an escaped one is
	// only itself.
	dollar := strings.Contains(escaped.ReplaceAllString(re.Pattern, ""), "$")
	return leaf(false, func(v any, _ bool) bool {
		s, ok := v.(string)
		if !ok {
			r, ok := v.(bson.Regex)
			return ok && r == re
		}
		return compiled.MatchString(s) || dollar && strings.HasSuffix(s, "\n") && compiled.MatchString(s[:len(s)-1])
	}), nil
}
