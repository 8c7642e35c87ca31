package scim

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// Limits of a list (RFC 7644 §3.4.2.4); ServiceProviderConfig tells them.
const (
	DefaultCount = 100
	MaxCount     = 500
)

// SearchRequest is what a client asks of a list (RFC 7644 §3.4.3), still as
// text.
type SearchRequest struct {
	Filter     string
	SortBy     string
	SortOrder  string
	StartIndex int // 1-based
	Count      int // already within MaxCount
	Projection projectionRequest
}

// projectionRequest is the attributes and excludedAttributes of a request.
type projectionRequest struct{ attributes, excluded []string }

// parseQuery reads a query string as form data, where "+" is a space. Unknown
// parameters are ignored (vendor row E03); of one given twice the first counts,
// except for the filter: whoever means less than everything must not get more.
func parseQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &Error{Status: 400, Type: InvalidSyntax, Detail: "the query string is not valid: check the percent-encoding"}
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

func parseSearch(q url.Values) (SearchRequest, error) {
	s := SearchRequest{Filter: q.Get("filter"), SortBy: q.Get("sortBy"), SortOrder: q.Get("sortOrder"), StartIndex: 1, Count: DefaultCount}
	if q.Has("filter") && strings.TrimSpace(s.Filter) == "" {
		return s, &Error{Status: 400, Type: InvalidFilter, Detail: "the filter is empty"}
	}
	var err error
	if s.StartIndex, err = integer(q, "startIndex", 1); err != nil {
		return s, err
	}
	if s.Count, err = integer(q, "count", DefaultCount); err != nil {
		return s, err
	}
	s.StartIndex = max(1, s.StartIndex)
	s.Count = min(max(0, s.Count), MaxCount)
	s.Projection, err = parseProjection(q)
	return s, err
}

func integer(q url.Values, name string, missing int) (int, error) {
	if !q.Has(name) {
		return missing, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(q.Get(name)))
	if err != nil {
		return 0, &Error{Status: 400, Type: InvalidValue, Detail: name + ": expected an integer"}
	}
	return n, nil
}

func parseProjection(q url.Values) (projectionRequest, error) {
	p := projectionRequest{attributes: names(q.Get("attributes")), excluded: names(q.Get("excludedAttributes"))}
	if len(p.attributes) > 0 && len(p.excluded) > 0 {
		return p, &Error{Status: 400, Type: InvalidValue, Detail: "attributes and excludedAttributes exclude each other (RFC 7644 §3.9)"}
	}
	return p, nil
}

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// query binds the request to a resource type. location is where resources of
// the type are found, ending in a slash.
func (s SearchRequest) query(t *schemas.ResourceType, location string) (storage.Query, error) {
	q := storage.Query{Type: t.Name, StartIndex: s.StartIndex, Count: s.Count}
	if s.Filter != "" {
		e, err := filter.Parse(s.Filter, t, filter.DefaultLimits)
		if err != nil {
			return q, err
		}
		if q.Filter, err = computed(e, t, location); err != nil {
			return q, err
		}
	}
	if s.SortBy != "" {
		named := t.Lookup(s.SortBy)
		a := named
		if a != nil {
			a = a.Leaf()
		}
		switch {
		case named == nil:
			return q, &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: no such attribute"}
		case a == nil:
			return q, &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: " + named.Path + " is made of sub-attributes: name one of them"}
		case !a.Readable() || a.Top().Detached || unstored(a):
			return q, &Error{Status: 400, Type: InvalidPath, Detail: "sortBy: lists cannot be ordered by " + named.Path}
		}
		q.SortBy = a
	}
	switch strings.ToLower(s.SortOrder) {
	case "", "ascending":
	case "descending":
		q.Descending = s.SortBy != ""
	default:
		return q, &Error{Status: 400, Type: InvalidValue, Detail: "sortOrder: expected ascending or descending"}
	}
	return q, nil
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
// has a name and an address if it exists.
func computed(e filter.Expr, t *schemas.ResourceType, location string) (filter.Expr, error) {
	switch e := e.(type) {
	case filter.And:
		terms, err := computedAll(e, t, location)
		return filter.And(terms), err
	case filter.Or:
		terms, err := computedAll(e, t, location)
		return filter.Or(terms), err
	case filter.Not:
		inner, err := computed(e.Expr, t, location)
		return filter.Not{Expr: inner}, err
	case filter.ValuePath:
		inner, err := computed(e.Filter, t, location)
		return filter.ValuePath{Attr: e.Attr, Filter: inner}, err
	case filter.Present:
		if e.Attr.Path == "meta.location" || e.Attr.Path == "meta.version" { // everything has these
			return filter.Present{Attr: t.Top("id")}, nil
		}
		if ofManager(e.Attr) { // whether a manager exists is not known to the user
			return nil, incomparable(e.Attr, e.Attr.Parent.Path+".value")
		}
		if unstored(e.Attr) || ofAssignment(e.Attr) {
			return filter.Present{Attr: e.Attr.Parent.Sub("value")}, nil
		}
	case filter.Compare:
		if !unstored(e.Attr) {
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
		case ofManager(e.Attr) || ofAssignment(e.Attr):
			return nil, incomparable(e.Attr, e.Attr.Parent.Path+".value")
		}
		return nil, incomparable(e.Attr, "the id")
	}
	return e, nil
}

func incomparable(a *schemas.Attribute, instead string) error {
	return &Error{Status: 400, Type: InvalidFilter, Detail: fmt.Sprintf("%s cannot be compared like this: compare %s instead", a.Path, instead)}
}

func computedAll(terms []filter.Expr, t *schemas.ResourceType, location string) ([]filter.Expr, error) {
	out := make([]filter.Expr, len(terms))
	for i, e := range terms {
		var err error
		if out[i], err = computed(e, t, location); err != nil {
			return nil, err
		}
	}
	return out, nil
}
