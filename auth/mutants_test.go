package auth

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutants changes the decision in one place at a time, each condition into its
// opposite, and runs its tests: at least 90 % of the changes have to be noticed. It
// compiles the package once for each, so it runs when ROSTER_TEST_MUTANTS is set
// (make mutants).
func TestMutants(t *testing.T) {
	if os.Getenv("ROSTER_TEST_MUTANTS") == "" {
		t.Skip("NOT RUN: the mutants of the decision, which take minutes; set ROSTER_TEST_MUTANTS=1 to run them")
	}
	const file = "effect.go"
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	total, survivors := 0, 0
	for i := 0; ; i++ {
		source, what := mutant(t, path, i)
		if what == "" {
			break
		}
		total++
		if survives(t, path, source) {
			survivors++
			t.Logf("nobody notices: %s", what)
		}
	}
	t.Logf("%d of %d mutants are noticed", total-survivors, total)
	if total < 30 || survivors*10 > total {
		t.Errorf("%d of %d mutants survive; want at most a tenth", survivors, total)
	}
}

// mutant returns the file with its i-th condition changed, and what that is; nothing
// when there are not so many.
func mutant(t *testing.T, path string, i int) (source []byte, what string) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	// here makes the change if it is the i-th.
	here := func(at ast.Node, how string, change func()) {
		if n == i {
			change()
			what = fmt.Sprintf("%s %s", fset.Position(at.Pos()), how)
		}
		n++
	}
	not := func(x ast.Expr) ast.Expr { return &ast.UnaryExpr{Op: token.NOT, X: &ast.ParenExpr{X: x}} }
	flipped := map[token.Token]token.Token{token.LAND: token.LOR, token.LOR: token.LAND, token.EQL: token.NEQ, token.NEQ: token.EQL,
		token.GEQ: token.LSS, token.LSS: token.GEQ, token.GTR: token.LEQ, token.LEQ: token.GTR}
	ast.Inspect(f, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.FuncDecl:
			return x.Name.Name != "String" && x.Name.Name != "Error"
		case *ast.IfStmt:
			here(x, "if negated", func() { x.Cond = not(x.Cond) })
		case *ast.BinaryExpr:
			if op, ok := flipped[x.Op]; ok {
				here(x, x.Op.String()+" becomes "+op.String(), func() { x.Op = op })
			}
			if x.Op == token.AND_NOT {
				here(x, "&^ becomes &", func() { x.Op = token.AND })
			}
		case *ast.UnaryExpr:
			if x.Op == token.NOT {
				here(x, "! dropped", func() { x.Op = token.ADD; x.X = &ast.ParenExpr{X: x.X} })
			}
		case *ast.SwitchStmt:
			for _, c := range x.Body.List {
				clause := c.(*ast.CaseClause)
				switch {
				case clause.List == nil:
				case x.Tag == nil:
					here(clause, "case negated", func() { clause.List[0] = not(clause.List[0]) })
				default:
					here(clause, "case emptied", func() { clause.Body = nil })
				}
			}
		case *ast.ReturnStmt:
			if len(x.Results) == 1 {
				if id, ok := x.Results[0].(*ast.Ident); ok && (id.Name == "true" || id.Name == "false") {
					here(x, "return negated", func() { x.Results[0] = not(id) })
				}
			}
		}
		return true
	})
	if what == "" {
		return nil, ""
	}
	var b strings.Builder
	if err := format.Node(&b, fset, f); err != nil {
		t.Fatal(err)
	}
	// "+(x)" stands for a negation that was dropped.
	return []byte(strings.ReplaceAll(b.String(), "+(", "(")), what
}

// survives reports whether the tests of the decision pass with a file in the place of
// another. A mutant that does not compile is a fault of this test.
func survives(t *testing.T, path string, source []byte) bool {
	t.Helper()
	dir := t.TempDir()
	mutated, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{mutated: source, overlay: replace} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", overlay, "-run", "^(TestPermitted.*|TestDenied.*|TestAssigned.*|TestAdministrative)$", ".").CombinedOutput()
	if strings.Contains(string(out), "[build failed]") {
		t.Fatalf("%s\n%s", out, source)
	}
	return err == nil
}
