package domains

import (
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"example.com": "example.com", " Example.COM. ": "example.com", "bücher.example": "xn--bcher-kva.example", "BÜCHER.example": "xn--bcher-kva.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "a.b.example.co.uk": "a.b.example.co.uk", "someone.github.io": "someone.github.io",
		"faß.example": "xn--fa-hia.example",
		"":            "", "com": "", "co.uk": "", "github.io": "", "localhost": "", "x.localhost": "", "acme.roster.invalid": "", "printer.local": "", "7.0.0.127.in-addr.arpa": "",
		"127.0.0.1": "", "1.2.3.4": "", "[::1]": "", "-a.example": "", "a-.example": "", "a..example": "", "a_b.example": "", "*.example.com": "", "a b.example": "",
		"exam\x00ple.com": "", "a@example.com": "", "http://example.com": "", "example.com/": "", "example.com:53": "", strings.Repeat("a", 64) + ".example": "",
		strings.Repeat("a.", 125) + "example": "", "xn--zzzzzzzz.example": "", ".example.com": "",
	} {
		got, err := Normalize(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Normalize(%q) = %q, %v; want %q", name, got, err, want)
		}
		if err != nil && name != "" && strings.Contains(err.Error(), name) && name != "com" && name != "co.uk" {
			t.Errorf("the error repeats %q: %v", name, err)
		}
	}
}

func TestUnder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, domain, local string
		ok                  bool
	}{
		{"ana@example.com", "example.com", "ana", true},
		{"Ana@EXAMPLE.com", "example.com", "Ana", true},
		{"a@b@example.com", "example.com", "a@b", true},
		{"ana@bücher.example", "xn--bcher-kva.example", "ana", true},
		{"ana@xn--bcher-kva.example", "xn--bcher-kva.example", "ana", true},
		{"ana@sub.example.com", "example.com", "", false},
		{"ana@notexample.com", "example.com", "", false},
		{"@example.com", "example.com", "", false},
		{"example.com", "example.com", "", false},
		{"ana@example.com ", "example.com", "", false},
		{"", "example.com", "", false},
	} {
		local, ok := Under(c.name, c.domain)
		if ok != c.ok || ok && local != c.local {
			t.Errorf("Under(%q, %q) = %q, %t; want %q, %t", c.name, c.domain, local, ok, c.local, c.ok)
		}
	}
}
