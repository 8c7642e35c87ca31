package filter

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	oracle "github.com/scim2/filter-parser/v2"

	"github.com/roster-id/roster/schemas"
)

var seeds = []string{
	`userName eq "bjensen"`,
	`name.familyName co "O'Malley" or title pr`,
	`urn:ietf:params:scim:schemas:core:2.0:User:userName sw "J"`,
	`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value eq "x"`,
	`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User pr`,
	`meta.lastModified ge "2011-05-13T04:42:34Z" and department ne null`,
	`userType eq "Employee" and not (emails co "example.com" or emails.value co "example.org")`,
	`title pr and userType eq "a" or nickName pr and not(active pr)`,
	`emails[type eq "work" and value co "@example.com"] or ims[type eq "xmpp" and value co "@foo.com"]`,
	`emails[type eq "work" or not (primary eq "True")].value eq "x"`,
	`active eq "False" and active ne TRUE`,
	`userName eq "\"\\\/\b\f\n\r\t\u00e5\ud83d\ude00å😀"`,
	`slots ge -10 and weight lt 2.5e-3`,
	`ports[number eq 80 and protocols co "h"]`,
	`shelves[row le 3].value sw ""`,
	`tags ew "x" or levels ne 0 or key eq "QQ==" or bought lt "2024-02-29T12:00:00+02:00"`,
	`((title pr)`, `emails[`, `not title pr`, `password eq "x"`, `userName eq "\ud800"`,
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	anaTree, rigTree := tree(f, ana, user, false), tree(f, rig, device, true)
	f.Fuzz(func(t *testing.T, text string) {
		checkParse(t, text, user, anaTree)
		checkParse(t, text, device, rigTree)
		checkParsePath(t, text, user)
	})
}

// checkParse holds the promises about any text: an error is a SyntaxError that
// says where and quotes no value; a filter prints back to itself and means the
// same then.
func checkParse(t *testing.T, text string, rt *schemas.ResourceType, attrs map[string]any) {
	t.Helper()
	e, err := Parse(text, rt, DefaultLimits)
	if err != nil {
		checkError(t, text, err)
		return
	}
	printed := e.String()
	again, err := Parse(printed, rt, Limits{})
	if err != nil {
		t.Fatalf("Parse(%q) prints as %q: %v", text, printed, err)
	}
	if d := cmp.Diff(e, again, byPointer); d != "" {
		t.Fatalf("Parse(%q) prints as %q (-first +second):\n%s", text, printed, d)
	}
	if s := again.String(); s != printed {
		t.Fatalf("Parse(%q) prints as %q, then as %q", text, printed, s)
	}
	if e.Match(attrs) != again.Match(attrs) || e.Match(attrs) == (Not{e}).Match(attrs) {
		t.Fatalf("%q and what it prints, or its negation, disagree", text)
	}
}

func checkParsePath(t *testing.T, text string, rt *schemas.ResourceType) {
	t.Helper()
	p, err := ParsePath(text, rt, DefaultLimits)
	if err != nil {
		checkError(t, text, err)
		return
	}
	again, err := ParsePath(p.String(), rt, Limits{})
	if err != nil {
		t.Fatalf("ParsePath(%q) prints as %q: %v", text, p, err)
	}
	if d := cmp.Diff(p, again, byPointer); d != "" {
		t.Fatalf("ParsePath(%q) prints as %q (-first +second):\n%s", text, p, d)
	}
}

func checkError(t *testing.T, text string, err error) {
	t.Helper()
	e, ok := errors.AsType[*SyntaxError](err)
	if !ok {
		t.Fatalf("Parse(%q): error is a %T, want a *SyntaxError", text, err)
	}
	if e.Offset < 0 || e.Offset > len(text) {
		t.Fatalf("Parse(%q): %v is outside of the text", text, err)
	}
	// Only what looks like a name is shown, and of that not too much.
	if len(e.Msg) > 300 || strings.ContainsAny(e.Msg, "<>&'\\\x00\n") {
		t.Fatalf("Parse(%q): %v", text, err)
	}
}

// FuzzOracle compares with filter-parser where both accept a text. It knows no
// schema, so its tree is bound here; what is documented to differ is left out.
func FuzzOracle(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 200 || strings.Count(text, "(") > 8 {
			return // the oracle takes its time
		}
		for _, rt := range []*schemas.ResourceType{user, device} {
			compareWithOracle(t, text, rt)
		}
	})
}

// TestOracle does the same for filters made to be valid, most of which the
// oracle must know.
func TestOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rounds = 300
	compared := 0
	for range rounds {
		text := randomFilter(r, 3)
		if _, err := Parse(text, user, Limits{}); err != nil {
			t.Errorf("Parse(%q): %v", text, err)
		}
		if compareWithOracle(t, text, user) {
			compared++
		}
	}
	if compared < rounds/2 {
		t.Errorf("the oracle knows only %d of %d filters", compared, rounds)
	}
}

// randomFilter makes a filter on users that is nested at most so deep.
func randomFilter(r *rand.Rand, depth int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	n := 8
	if depth == 0 {
		n = 5
	}
	switch r.IntN(n) {
	case 0:
		return pick("title", "NAME.givenName", "emails", "Meta") + " " + pick("pr", "PR", "ne null")
	case 1:
		return "active " + pick("eq", "NE") + " " + pick("true", "false")
	case 2:
		return "meta.created " + pick("eq", "ne", "gt", "ge", "lt", "le") + ` "2011-05-13T04:42:34Z"`
	case 3:
		return "emails[" + pick(`type eq "work"`, `value pr`, `type eq "a" and value co "b"`, `type eq "a" or value co "b"`,
			`not (primary eq true)`) + "]"
	case 4:
		return pick("userName", "name.familyName", "emails.value", "groups",
			"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department") + " " +
			pick("eq", "ne", "CO", "sw", "Ew", "gt", "ge", "lt", "le") + " " + pick(`"ANA"`, `""`, `"a b"`, `"\u00e5\n"`, `"å"`)
	case 5:
		return randomFilter(r, depth-1) + pick(" and ", " AND ") + randomFilter(r, depth-1)
	case 6:
		return randomFilter(r, depth-1) + pick(" or ", " Or ") + randomFilter(r, depth-1)
	}
	return pick("(", "not (", "NOT(") + randomFilter(r, depth-1) + ")"
}

// compareWithOracle reports whether there was something to compare.
func compareWithOracle(t *testing.T, text string, rt *schemas.ResourceType) bool {
	t.Helper()
	got, err := Parse(text, rt, Limits{})
	if err != nil {
		return false
	}
	theirs, ok := ask(text)
	if !ok {
		return false
	}
	want, ok := bindOracle(theirs, rt, nil)
	if !ok {
		return false
	}
	if d := cmp.Diff(want, got, byPointer); d != "" {
		t.Errorf("Parse(%q) (-oracle +ours):\n%s", text, d)
	}
	return true
}

// ask returns the oracle's tree. It panics on some texts.
func ask(text string) (e oracle.Expression, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	e, err := oracle.ParseFilterNumber([]byte(text))
	return e, err == nil
}

// bindOracle makes the oracle's tree one of ours, by other code than Parse's.
func bindOracle(e oracle.Expression, rt *schemas.ResourceType, in *schemas.Attribute) (Expr, bool) {
	switch e := e.(type) {
	case *oracle.LogicalExpression:
		left, ok := bindOracle(e.Left, rt, in)
		if !ok {
			return nil, false
		}
		right, ok := bindOracle(e.Right, rt, in)
		if !ok {
			return nil, false
		}
		if e.Operator == oracle.AND {
			return And(append(spread[And](left), spread[And](right)...)), true
		}
		return Or(append(spread[Or](left), spread[Or](right)...)), true
	case *oracle.NotExpression:
		inner, ok := bindOracle(e.Expression, rt, in)
		return Not{inner}, ok
	case *oracle.ValuePath:
		a := rt.Lookup(e.AttributePath.String())
		inner, ok := bindOracle(e.ValueFilter, rt, a)
		return ValuePath{a, inner}, ok
	case *oracle.AttributeExpression:
		return bindOracleTerm(e, rt, in)
	}
	return nil, false
}

func spread[L ~[]Expr](e Expr) []Expr {
	if list, ok := e.(L); ok {
		return list
	}
	return []Expr{e}
}

func bindOracleTerm(e *oracle.AttributeExpression, rt *schemas.ResourceType, in *schemas.Attribute) (Expr, bool) {
	a := rt.Lookup(e.AttributePath.String())
	if in != nil {
		a = in.Sub(e.AttributePath.String())
	}
	op := strings.ToLower(string(e.Operator))
	switch {
	case op == "pr", e.CompareValue == nil && op == "ne":
		return Present{Attr: a}, true
	case e.CompareValue == nil:
		return Not{Present{Attr: a}}, true
	}
	a = a.Leaf()
	c := Compare{Attr: a}
	for i, name := range opNames {
		if name == op {
			c.Op = Op(i)
		}
	}
	switch v := e.CompareValue.(type) {
	case bool:
		c.Value = v
	case json.Number:
		if a.Type == schemas.Integer {
			n, err := v.Int64()
			c.Value = n
			return c, err == nil
		}
		n, err := v.Float64()
		c.Value = n
		return c, err == nil
	case string:
		// The oracle leaves escapes as they are, and cuts a quote off the end of
		// a text that ends in an escaped one.
		var s string
		if err := json.Unmarshal([]byte(`"`+v+`"`), &s); err != nil {
			return nil, false
		}
		switch a.Type {
		case schemas.Boolean: // in quotes: not a boolean to the oracle
			c.Value = strings.EqualFold(s, "true")
		case schemas.DateTime:
			t, ok := schemas.ParseTime(s)
			c.Value, c.Text = t, s
			return c, ok // ours has a colon in each zone
		default:
			c.Value, c.Text = a.Key(s), s
		}
	}
	return c, true
}
