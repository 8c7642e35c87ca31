package auth

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneIssuer: M10. There is one place where a session is made: no other function makes
// the item of one, or its secret.
func TestOneIssuer(t *testing.T) {
	files := token.NewFileSet()
	found := map[string]int{}
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			name := path
			if fn, ok := d.(*ast.FuncDecl); ok {
				name = f.Name.Name + "." + fn.Name.Name
			}
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if kind := printed(files, n.Value); printed(files, n.Key) == "Kind" && (strings.HasSuffix(kind, "SessionKind") || kind == `"session"`) {
						found["an item in "+name]++
					}
				case *ast.CallExpr:
					for _, a := range n.Args {
						if printed(files, n.Fun) == "newText" && printed(files, a) == "sessionPrefix" {
							found["a secret in "+name]++
						}
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || found["an item in auth.issue"] != 1 || found["a secret in auth.issue"] != 1 {
		t.Errorf("sessions are made by %v; want one item and one secret in auth.issue", found)
	}
}
