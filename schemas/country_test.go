package schemas_test

import (
	"testing"

	"golang.org/x/text/language"

	"github.com/roster-id/roster/schemas"
)

func TestCountry(t *testing.T) {
	for in, want := range map[string]string{"SE": "SE", "se": "SE", " De ": "DE", "": "", " ": "", "S": "", "SWE": "", "UK": "", "EU": "", "XX": "", "ZZ": "", "E S": "", "752": "", "ſe": ""} {
		got, ok := schemas.Country(in)
		if ok != (want != "") || ok && got != want {
			t.Errorf("Country(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
	n := 0
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			code := string([]rune{a, b})
			if _, ok := schemas.Country(code); !ok {
				continue
			}
			n++
			// A second opinion.
			if r, err := language.ParseRegion(code); err != nil || !r.IsCountry() || r.String() != code {
				t.Errorf("%s is taken for a country", code)
			}
		}
	}
	if n != 249 { // ISO 3166-1
		t.Errorf("there are %d countries", n)
	}
}
