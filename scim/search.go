package scim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// MaxCount is how many resources a page has at most (RFC 7644 §3.4.2.4), and how many
// it has if the client does not say. ServiceProviderConfig tells it.
const MaxCount = 1000

// SearchRequest is what a client asks of a list (RFC 7644 §3.4.3), still as
// text.
type SearchRequest struct {
	Filter     string
	SortBy     string
	SortOrder  string
	StartIndex int // 1-based
	Count      int // already within MaxCount
	// Cursor is nil for a page by index, and empty for the first page of a walk
	// (RFC 9865).
	Cursor     *string
	Projection projectionRequest
}

// projectionRequest is the attributes and excludedAttributes of a request, and what it
// wrote.
type projectionRequest struct {
	attributes, excluded []string
	written              written
}

// parseQuery reads a query string as form data, where "+" is a space, except as [keepPlus]
// says. Unknown parameters are ignored; of one given twice the first counts, except for
// lists, which are one, and the filter: whoever means less than everything must not get more.
func parseQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	v, err := url.ParseQuery(keepPlus(raw))
	if err != nil {
		return nil, &Error{Status: 400, Type: InvalidSyntax, Detail: "the query string is not valid: check the percent-encoding, of semicolons too"}
	}
	for name, values := range v {
		switch {
		case name == "filter" && len(values) > 1:
			return nil, &Error{Status: 400, Type: InvalidFilter, Detail: "there is more than one filter: join them with and, or with or"}
		case name != "filter" && strings.EqualFold(name, "filter"):
			return nil, &Error{Status: 400, Type: InvalidFilter, Detail: "the parameter is called filter, in lower case"}
		}
	}
	return v, nil
}

// keepPlus encodes the "+" of addresses in a filter that is no form data, as Rauthy writes
// it: userName%20eq%20%22a+b@example.com%22. Form data has "+" for a space, and %40 for "@".
func keepPlus(raw string) string {
	if !strings.Contains(raw, "+") || !strings.Contains(raw, "@") {
		return raw
	}
	params := strings.Split(raw, "&")
	for i, param := range params {
		if !strings.HasPrefix(param, "filter=") {
			continue
		}
		// Every second part is a value, between quotes.
		parts := strings.Split(strings.ReplaceAll(param, `"`, "%22"), "%22")
		between := ""
		for j := 0; j < len(parts); j += 2 {
			between += parts[j]
		}
		if strings.Contains(between, "+") {
			continue
		}
		for j := 1; j < len(parts); j += 2 {
			if strings.Contains(parts[j], "@") {
				parts[j] = strings.ReplaceAll(parts[j], "+", "%2B")
			}
		}
		params[i] = strings.Join(parts, "%22")
	}
	return strings.Join(params, "&")
}

func parseSearch(q url.Values) (SearchRequest, error) {
	s := SearchRequest{Filter: q.Get("filter"), SortBy: q.Get("sortBy"), SortOrder: q.Get("sortOrder"), StartIndex: 1, Count: MaxCount}
	if q.Has("filter") && strings.TrimSpace(s.Filter) == "" {
		return s, &Error{Status: 400, Type: InvalidFilter, Detail: "the filter is empty"}
	}
	var err error
	if s.StartIndex, err = integer(q, "startIndex", 1); err != nil {
		return s, err
	}
	if q.Has("cursor") {
		if q.Has("startIndex") {
			return s, errTwoPlaces
		}
		s.Cursor = new(q.Get("cursor"))
	}
	s.Count, err = integer(q, "count", MaxCount)
	switch {
	case s.Cursor != nil && err != nil:
		return s, errInvalidCount
	case err != nil:
		return s, err
	}
	s.StartIndex = max(1, s.StartIndex)
	s.Count = min(max(0, s.Count), MaxCount)
	s.Projection, err = parseProjection(q)
	return s, err
}

// SearchRequestURI is the schema of the body of POST .search (RFC 7644 §3.4.3).
const SearchRequestURI = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"

// parameter is an attribute of a message that is called like a parameter of a GET.
type parameter struct {
	name string
	kind string // of the JSON value, for people to read
}

// searchParameters are the attributes of a SearchRequest.
var searchParameters = []parameter{
	{"filter", "a string"}, {"sortBy", "a string"}, {"sortOrder", "a string"}, {"cursor", "a string"},
	{"startIndex", "an integer"}, {"count", "an integer"}, {"attributes", "an array of strings"}, {"excludedAttributes", "an array of strings"},
}

// parseSearchBody reads a SearchRequest as if its values had come as parameters.
func parseSearchBody(body any, mode schemas.Mode) (SearchRequest, error) {
	q, err := parametersIn(body, SearchRequestURI, searchParameters, mode)
	if err != nil {
		return SearchRequest{}, err
	}
	return parseSearch(q)
}

// parametersIn reads the attributes of a message of this schema as parameters. SCIM-SDK
// sends integers in quotes.
func parametersIn(body any, uri string, parameters []parameter, mode schemas.Mode) (url.Values, error) {
	if err := hasSchema(body, uri); err != nil {
		return nil, err
	}
	q := url.Values{}
	for _, p := range parameters {
		v, _ := schemas.Field(body, p.name)
		if v == nil {
			continue
		}
		var text string
		var ok bool
		switch p.kind {
		case "a string":
			text, ok = v.(string)
		case "an integer":
			var n json.Number
			n, ok = v.(json.Number)
			text = n.String()
			if !ok && mode == schemas.Lenient {
				text, ok = v.(string)
			}
		default:
			text, ok = joined(v)
		}
		if !ok {
			return nil, &Error{Status: 400, Type: InvalidValue, Detail: p.name + ": expected " + p.kind}
		}
		q.Set(p.name, text)
	}
	return q, nil
}

// joined puts names of attributes between commas; one that is given as a string is
// taken for a list, as in a query.
func joined(v any) (string, bool) {
	list, ok := v.([]any)
	if !ok {
		s, ok := v.(string)
		return s, ok
	}
	all := make([]string, len(list))
	for i, e := range list {
		if all[i], ok = e.(string); !ok {
			return "", false
		}
	}
	return strings.Join(all, ","), true
}

// hasSchema refuses a message that does not say what it is (RFC 7644 §3.1).
func hasSchema(body any, uri string) error {
	if _, ok := body.(map[string]any); !ok {
		return &Error{Status: 400, Type: InvalidSyntax, Detail: "the body has to be a JSON object"}
	}
	// For every client: what is no search would select everything.
	if v, _ := schemas.Field(body, "schemas"); !schemas.IsMessage(v, uri, schemas.Strict) {
		return &Error{Status: 400, Type: InvalidSyntax, Detail: "schemas: expected " + uri}
	}
	return nil
}

func integer(q url.Values, name string, missing int) (int, error) {
	text := strings.TrimSpace(q.Get(name))
	if text == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // more than an int holds is as much as it holds
		return 0, &Error{Status: 400, Type: InvalidValue, Detail: name + ": expected an integer"}
	}
	return n, nil
}

func parseProjection(q url.Values) (projectionRequest, error) {
	p := projectionRequest{attributes: names(q["attributes"]), excluded: names(q["excludedAttributes"])}
	if len(p.attributes) > 0 && len(p.excluded) > 0 {
		return p, &Error{Status: 400, Type: InvalidValue, Detail: "attributes and excludedAttributes exclude each other (RFC 7644 §3.9)"}
	}
	return p, nil
}

func names(lists []string) []string {
	return strings.FieldsFunc(strings.Join(lists, ","), func(r rune) bool { return r == ',' || r == ' ' })
}

// query binds the request to a resource type. location is where resources of
// the type are found, ending in a slash. What the type does not have and one of also
// has is an attribute without a value.
func (s SearchRequest) query(t *schemas.ResourceType, location string, also ...*schemas.ResourceType) (storage.Query, error) {
	q := storage.Query{Type: t.Name, StartIndex: s.StartIndex, Count: s.Count, Walk: s.Cursor != nil}
	if s.Filter != "" {
		e, err := filter.Parse(s.Filter, t, filter.DefaultLimits, also...)
		if err != nil {
			return q, err
		}
		if len(also) > 0 {
			e = without(e, t)
		}
		if q.Filter, err = computed(e, t, location); err != nil {
			return q, err
		}
	}
	if s.SortBy != "" {
		named := t.Lookup(s.SortBy)
		for i := 0; named == nil && i < len(also); i++ {
			named = also[i].Lookup(s.SortBy)
		}
		a := named
		if a != nil {
			a = a.Leaf()
		}
		switch {
		case named == nil:
			return q, &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: no such attribute"}
		case a == nil:
			return q, &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: " + named.Path + " is made of sub-attributes: name one of them"}
		case !a.Readable() || a.Top().Detached || unstored(a) || ofWord(t, a):
			return q, &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: lists cannot be ordered by " + named.Path}
		case has(t, a):
			q.SortBy = a
		}
	}
	switch strings.ToLower(s.SortOrder) {
	case "", "ascending", "descending":
		q.Descending = s.descending()
	default:
		return q, &Error{Status: 400, Type: InvalidValue, Detail: "sortOrder: expected ascending or descending"}
	}
	return q, nil
}

// descending reports whether the order is turned round; without sortBy sortOrder means
// nothing (RFC 7644 §3.4.2.3).
func (s SearchRequest) descending() bool {
	return s.SortBy != "" && strings.EqualFold(s.SortOrder, "descending")
}

// has reports whether an attribute is one of a resource type.
func has(t *schemas.ResourceType, a *schemas.Attribute) bool { return t.Lookup(a.Path) == a }

// without puts what they come to in the place of the terms on attributes that a type
// does not have: they have no value.
func without(e filter.Expr, t *schemas.ResourceType) filter.Expr {
	return filter.Map(e, func(e filter.Expr) filter.Expr {
		var attr *schemas.Attribute
		switch e := e.(type) {
		case filter.ValuePath:
			attr = e.Attr
		case filter.Present:
			attr = e.Attr
		case filter.Compare:
			attr = e.Attr
		}
		if has(t, attr) {
			return e
		}
		return constant(t, e.Match(nil))
	})
}

// unstored reports whether a is made up when a resource is written out, so that
// no store can compare it.
func unstored(a *schemas.Attribute) bool {
	return a.Path == "meta.location" || a.Path == "meta.version" || a.Name == "$ref" && a.Top().Detached || ofManager(a) || ofAssignment(a)
}

// ofManager reports whether a is what is made up of a manager.
func ofManager(a *schemas.Attribute) bool {
	return a.Path == schemas.EnterpriseUserURI+":manager.$ref" || a.Path == schemas.EnterpriseUserURI+":manager.displayName"
}

// computed rewrites the comparisons with meta.location into ones with id, which
// is all a location says, and refuses those with other values that are made up
// on the way out: meta.version depends on the groups that are shown, and a manager
// has an address if it exists.
func computed(e filter.Expr, t *schemas.ResourceType, location string) (filter.Expr, error) {
	var bad error // of the first term that has one
	out := filter.Map(e, func(term filter.Expr) filter.Expr {
		term, err := computedTerm(term, t, location)
		bad = cmp.Or(bad, err)
		return term
	})
	return out, bad
}

func computedTerm(e filter.Expr, t *schemas.ResourceType, location string) (filter.Expr, error) {
	switch e := e.(type) {
	case filter.ValuePath:
		inner, err := computed(e.Filter, t, location)
		return filter.ValuePath{Attr: e.Attr, Filter: inner}, err
	case filter.Present:
		if ofWord(t, e.Attr) {
			return wordTerm(e, t, e.Attr)
		}
		if e.Attr.Path == "meta.location" || e.Attr.Path == "meta.version" { // everything has these
			return filter.Present{Attr: t.Top("id")}, nil
		}
		if ofManager(e.Attr) { // whether a manager exists is not known to the user
			return nil, incomparable(e.Attr, e.Attr.Parent.Path+".value")
		}
		if unstored(e.Attr) || ofMembership(t, e.Attr) {
			return filter.Present{Attr: e.Attr.Parent.Sub("value")}, nil
		}
	case filter.Compare:
		if ofWord(t, e.Attr) {
			return wordTerm(e, t, e.Attr)
		}
		if !unstored(e.Attr) && !ofMembership(t, e.Attr) {
			return e, nil
		}
		if e.Attr.Path == "meta.location" && (e.Op == filter.Equal || e.Op == filter.NotEqual) {
			id, ok := strings.CutPrefix(e.Text, location)
			if !ok {
				id = ""
			}
			return filter.Compare{Attr: t.Top("id"), Op: e.Op, Value: id, Text: id}, nil
		}
		switch {
		case e.Attr.Path == "meta.version":
			return nil, incomparable(e.Attr, "meta.lastModified")
		case ofManager(e.Attr) || ofAssignment(e.Attr) || ofMembership(t, e.Attr):
			return nil, incomparable(e.Attr, e.Attr.Parent.Path+".value")
		}
		return nil, incomparable(e.Attr, "the id")
	}
	return e, nil
}

func incomparable(a *schemas.Attribute, instead string) error {
	return &Error{Status: 400, Type: InvalidFilter, Detail: fmt.Sprintf("%s cannot be compared like this: compare %s instead", a.Path, instead)}
}
