package auth

import (
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// secretNames are what secrets, their hashes and checksums are called.
var secretNames = regexp.MustCompile(`(?i)secret|password|passcode|hash|digest|token|code|sum\b|mac\b|link|reveal`)

// comparedOpenly are the comparisons of that kind that give nothing away, with the
// reason.
var comparedOpenly = map[string]string{
	"c.PasswordHash != old":                          "both are from the store",
	"text[sumAt:] == string(sum[:])":                 "a checksum, which anybody can compute",
	"text[len(text)-sumLen:] != string(sum[:])":      "a checksum, which anybody can compute",
	"t.principal.Token == token":                     "public ids",
	"token.Client != client.ID":                      "ids",
	"unicode != domain":                              "names of domains",
	"tenantEncoding.EncodeToString(decoded) != name": "the name of a tenant",
}

// TestSecretsAreComparedInConstantTime: M20. Nothing that is called like a secret is compared by
// ==, bytes.Equal or the like, which take longer the more is right. It
// looks at all code that is handed secrets.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	files := token.NewFileSet()
	var parsed []*ast.File
	constants := map[string]bool{"nil": true, "true": true, "false": true}
	for _, dir := range []string{".", "../internal/api", "../internal/server", "../scim", "../cmd/roster", "../internal/access", "../internal/domains", "../internal/mail", "../internal/console", "../internal/config"} {
		list, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(list) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range list {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(files, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
			for _, d := range f.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
					for _, s := range g.Specs {
						for _, n := range s.(*ast.ValueSpec).Names {
							constants[n.Name] = true
						}
					}
				}
			}
		}
	}
	// A literal, a constant and the length of something tell nothing.
	known := func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.BasicLit:
			return true
		case *ast.Ident:
			return constants[e.Name]
		case *ast.CallExpr:
			f, ok := e.Fun.(*ast.Ident)
			return ok && f.Name == "len"
		}
		return false
	}
	seen := map[string]bool{}
	for _, f := range parsed {
		ast.Inspect(f, func(n ast.Node) bool {
			var left, right ast.Expr
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if n.Op == token.EQL || n.Op == token.NEQ {
					left, right = n.X, n.Y
				}
			case *ast.CallExpr:
				if f := printed(files, n.Fun); len(n.Args) == 2 && (f == "bytes.Equal" || f == "bytes.Compare" || f == "strings.EqualFold" || f == "strings.Compare" || f == "slices.Equal" || f == "slices.Contains" || f == "reflect.DeepEqual") {
					left, right = n.Args[0], n.Args[1]
				}
			}
			if left == nil || known(left) || known(right) {
				return true
			}
			text := printed(files, n)
			if secretNames.MatchString(printed(files, left)) || secretNames.MatchString(printed(files, right)) {
				seen[text] = true
				if comparedOpenly[text] == "" {
					t.Errorf("%s: %s", filepath.ToSlash(files.Position(n.Pos()).String()), text)
				}
			}
			return true
		})
	}
	for text := range comparedOpenly {
		if !seen[text] {
			t.Errorf("there is no comparison %s any more", text)
		}
	}
}

func printed(files *token.FileSet, n ast.Node) string {
	var b strings.Builder
	if err := printer.Fprint(&b, files, n); err != nil {
		return err.Error()
	}
	return b.String()
}
