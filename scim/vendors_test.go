package scim_test

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// vendorRows are the habits of clients that Roster answers to, by the ids that
// scripts and comments call them by: the first and last of each client.
var vendorRows = []struct {
	client      string
	prefix      string
	first, last int
}{
	{"Microsoft Entra ID", "E", 1, 44},
	{"Okta", "O", 1, 22},
	{"OneLogin", "L", 1, 7},
	{"JumpCloud", "J", 1, 7},
	{"Ping", "P", 1, 6},
	{"Google Workspace", "G", 1, 4},
	{"AWS", "A", 1, 3},
	{"SailPoint", "S", 1, 7},
	{"authentik", "K", 1, 6},
	{"midPoint, Keycloak", "M", 1, 3},
	{"HR systems", "H", 1, 8},
	{"all", "X", 3, 9},
}

// withoutScript says why a row has no script of its own.
var withoutScript = map[string]string{
	"E06": "a burst of requests, none of them turned away: TestBurst",
	"E39": "the token endpoint of gallery apps: there is none, a token is made before it is needed (roster client create, /admin/v1/clients)",
	"E41": "Entra's own API for HR systems, not a request to a SCIM server",
	"E43": "what Entra does not ask for; special characters are in filter.txt",
	"O18": "Okta gives up after 60 s; every request has a deadline of 30 s",
	"O19": "what Okta does not use",
	"G04": "Google sends no groups, and what is said of them nobody has confirmed",
	"A03": "limits of AWS as a server, which this one does not copy",
}

// TestVendorRows holds the scripts to the list: every habit of a client has a
// script whose comment names it, or a reason why not.
func TestVendorRows(t *testing.T) {
	rows := map[string]bool{}
	for _, r := range vendorRows {
		for n := r.first; n <= r.last; n++ {
			rows[fmt.Sprintf("%s%02d", r.prefix, n)] = true
		}
	}
	named := map[string][]string{}
	id := regexp.MustCompile(`\b[EOLJPGASKMXH][0-9]{2}\b`)
	parens := regexp.MustCompile(`\(([^()]*)\)`)
	testdata := os.DirFS("testdata")
	err := fs.WalkDir(testdata, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".txt") {
			return err
		}
		text, err := fs.ReadFile(testdata, name)
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				continue
			}
			for _, m := range parens.FindAllStringSubmatch(line, -1) {
				for _, row := range id.FindAllString(m[1], -1) {
					named[row] = append(named[row], name)
					if !rows[row] {
						t.Errorf("%s names %s, which is no row", name, row)
					}
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for row := range rows {
		reason := withoutScript[row]
		where := slices.DeleteFunc(slices.Clone(named[row]), func(name string) bool { return name == "clients/strict.txt" })
		switch {
		case len(where) == 0 && reason == "":
			t.Errorf("%s has no script", row)
		case len(where) > 0 && reason != "":
			t.Errorf("%s has a script (%s) and a reason for having none", row, where[0])
		}
	}
	for row := range withoutScript {
		if !rows[row] {
			t.Errorf("%s has a reason and is no row", row)
		}
	}
}
