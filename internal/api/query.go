package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parameters reads those of a query. One that does not exist, or is given twice, is
// refused: who asks for something must not take everything for the answer, nor change it all.
func parameters(r *http.Request, names ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query is not well formed")
	}
	for name, v := range values {
		if len(names) == 0 {
			return nil, invalid("expected no parameters")
		}
		if !slices.Contains(names, name) || len(v) != 1 {
			return nil, invalid("expected some of " + strings.Join(names, ", ") + ", each once")
		}
	}
	return values, nil
}

// number reads a parameter that is a whole number within bounds; preset if it is not
// given.
func number(values url.Values, name string, preset, least, most int) (int, error) {
	s := values.Get(name)
	if s == "" {
		return preset, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, invalid(fmt.Sprintf("%s: expected a number from %d to %d", name, least, most))
	}
	return n, nil
}

// instant reads a parameter that is a date and time; zero if it is not given.
func instant(values url.Values, name string) (time.Time, error) {
	s := values.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, invalid(name + ": expected a date and time (RFC 3339)")
	}
	return at, nil
}
