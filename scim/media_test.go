package scim

import (
	"net/http/httptest"
	"testing"
)

func TestMediaType(t *testing.T) {
	for _, tt := range []struct {
		accept []string
		want   string
	}{
		{nil, mediaSCIM},
		{[]string{""}, mediaSCIM},
		{[]string{"*/*"}, mediaSCIM},
		{[]string{"application/*"}, mediaSCIM},
		{[]string{"application/scim+json"}, mediaSCIM},
		{[]string{"text/html"}, mediaSCIM},

		{[]string{"application/json"}, mediaJSON},
		{[]string{"Application/JSON; Charset=utf-8"}, mediaJSON},
		{[]string{"text/html, application/json;q=0.9"}, mediaJSON},
		{[]string{"application/json, text/plain, */*"}, mediaJSON}, // the default of a common library
		{[]string{"application/json, application/*"}, mediaJSON},

		// Named alike and liked alike: the default, whatever the order.
		{[]string{"application/json, application/scim+json"}, mediaSCIM},
		{[]string{"application/scim+json", "application/json"}, mediaSCIM},
		{[]string{"application/json;q=0.5, application/scim+json;q=0.5"}, mediaSCIM},

		// By quality, in any order and over several lines.
		{[]string{"application/json;q=0.9, application/scim+json;q=0.8"}, mediaJSON},
		{[]string{"application/scim+json;q=0.8", "application/json;q=0.9"}, mediaJSON},
		{[]string{"application/json;q=0.8, application/scim+json"}, mediaSCIM},
		{[]string{"application/json;Q=0.1, application/scim+json;q=0.05"}, mediaJSON},

		// The most specific range counts, not the first or the best.
		{[]string{"*/*;q=0.9, application/json;q=0.1"}, mediaSCIM},
		{[]string{"application/*;q=0.9, application/scim+json;q=0.1"}, mediaJSON},
		{[]string{"*/*, application/*;q=0.2, application/json;q=0.5"}, mediaJSON},
		{[]string{"application/json;q=0.1, application/json;q=0.7, */*;q=0.5"}, mediaJSON},

		// q=0 is "not this".
		{[]string{"application/json;q=0"}, mediaSCIM},
		{[]string{"application/json;q=0, */*"}, mediaSCIM},
		{[]string{"application/json;q=0.000"}, mediaSCIM},
		{[]string{"application/scim+json;q=0, */*;q=0.1"}, mediaJSON},
		{[]string{"application/scim+json;q=0, application/json;q=0"}, mediaSCIM},
		{[]string{"application/*;q=0"}, mediaSCIM},

		// What is malformed says nothing.
		{[]string{"application/json;q=2"}, mediaSCIM},
		{[]string{"application/json;q=NaN"}, mediaSCIM},
		{[]string{"application/json;q=-1, application/scim+json;q=0"}, mediaSCIM},
		{[]string{"application/jsonp, application/json-seq"}, mediaSCIM},
		{[]string{";;;, ,,application/json,/"}, mediaJSON},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.Header["Accept"] = tt.accept
		if got := mediaType(r); got != tt.want {
			t.Errorf("Accept %q: got %s, want %s", tt.accept, got, tt.want)
		}
	}
}
