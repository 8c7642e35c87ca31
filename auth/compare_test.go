package auth

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestSecretsAreComparedInConstantTime: M20. Nothing that is called a secret is
// compared with == or !=, unless with nothing.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	secret := regexp.MustCompile(`(?i)(secret|passcode|password|code|token|plain|mac|sealed|recovery)$`)
	// What was stored before with what is stored now: neither comes from outside.
	allowed := map[string]bool{"c.PasswordHash != old": true,
		"t.principal.Token == token": true} // the public id of a token
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		source := readFile(t, f.Name())
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, f.Name(), source, 0)
		if err != nil {
			t.Fatal(err)
		}
		text := func(n ast.Node) string { return source[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset] }
		ast.Inspect(tree, func(n ast.Node) bool {
			b, ok := n.(*ast.BinaryExpr)
			if !ok || b.Op != token.EQL && b.Op != token.NEQ {
				return true
			}
			seen++
			x, y := text(b.X), text(b.Y)
			nothing := y == `""` || y == "nil" || y == "0" || strings.HasPrefix(x, "len(")
			if named := secret.MatchString(x) || secret.MatchString(y) || strings.HasSuffix(x, "Hash"); named && !nothing && !allowed[text(b)] {
				t.Errorf("%s: %s", set.Position(b.Pos()), text(b))
			}
			return true
		})
	}
	if seen < 50 {
		t.Errorf("only %d comparisons were looked at", seen)
	}
}
