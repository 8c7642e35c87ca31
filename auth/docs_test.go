package auth

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestPermissionTable holds the table in docs/security.md against the catalogue.
func TestPermissionTable(t *testing.T) {
	b, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := permissionTable(); !strings.Contains(string(b), want) {
		t.Errorf("docs/security.md has another table of permissions; it should be:\n%s", want)
	}
}

func permissionTable() string {
	var b strings.Builder
	b.WriteString("| permission | lets its holder | of the built-in roles |\n|---|---|---|\n")
	for _, p := range permissions {
		var roles []string
		for _, r := range builtIn {
			if r.Permissions.Has(p.Permission) {
				roles = append(roles, r.Display)
			}
		}
		who := strings.Join(roles, ", ")
		if len(roles) == len(builtIn) {
			who = "all"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.Name, strings.ToLower(p.Description[:1])+strings.TrimSuffix(p.Description[1:], "."), who)
	}
	return b.String()
}
