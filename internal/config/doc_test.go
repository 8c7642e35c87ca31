package config

import (
	"os"
	"strings"
	"testing"
)

// The table of settings in the documentation is the one the program has.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "<!-- settings -->\n")
	table, _, _ := strings.Cut(rest, "\n<!-- /settings -->")
	if want := Document(); strings.TrimSpace(table) != strings.TrimSpace(want) {
		t.Errorf("docs/configuration.md has another table of settings; it should be:\n%s", want)
	}
}
