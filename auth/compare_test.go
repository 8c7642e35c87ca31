package auth

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecretsAreComparedInConstantTime: M20. Nothing that is called a secret is
// compared with == or !=, unless with nothing.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	secret := regexp.MustCompile(`(?i)(secret|passcode|password|code|token|plain|mac|sealed|recovery)$`)
	constants := constantsOf(t)
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
			nothing := constants[x] || constants[y] || y == `""` || y == "nil" || y == "0" || strings.HasPrefix(x, "len(")
			if named := secret.MatchString(x) || secret.MatchString(y) || strings.HasSuffix(x, "Hash"); named && !nothing && !allowed[text(b)] {
				t.Errorf("%s: %s", set.Position(b.Pos()), text(b))
			}
			return true
		})
	}
	if seen < 50 || !constants["RequirePasscode"] {
		t.Errorf("only %d comparisons were looked at", seen)
	}
}

// constantsOf returns the names of the package's constants, which keep no secret.
func constantsOf(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					names[n.Name] = true
				}
			}
		}
	}
	return names
}
