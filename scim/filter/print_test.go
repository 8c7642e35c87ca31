package filter

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

func TestString(t *testing.T) {
	const ent = schemas.EnterpriseUserURI
	tests := []struct {
		rt         *schemas.ResourceType
		text, want string // want is text when empty
	}{
		{user, `userName eq "ANA"`, ``},
		{user, `USERNAME  EQ  "ANA"`, `userName eq "ANA"`},
		{user, `userName eq ""`, ``},
		{user, `userName eq "\u0041\/\n\"\\\u20ac"`, `userName eq "A/\n\"\\€"`},
		{user, `title eq null`, `not (title pr)`},
		{user, `active eq "True"`, `active eq true`},
		{user, `emails co "x"`, `emails.value co "x"`},
		{user, `manager eq "y"`, ent + `:manager.value eq "y"`},
		{user, ent + ` pr`, ``},
		{user, `title pr or active pr and nickName pr`, ``},
		{user, `(title pr or active pr) and nickName pr`, ``},
		{user, `(title pr and (active pr and nickName pr))`, `title pr and active pr and nickName pr`},
		{user, `NOT(title pr) and not (title pr or active pr)`, `not (title pr) and not (title pr or active pr)`},
		{user, `emails[type eq "work" and (value co "@x" or not (primary eq true))]`, ``},
		{user, `emails[type eq "a" or type eq "b"].value eq "x"`, `emails[(type eq "a" or type eq "b") and value eq "x"]`},
		{user, `manager[value eq "y" and displayName pr]`, ent + `:manager[value eq "y" and displayName pr]`},
		{user, `meta.created gt "2011-05-13T04:42:34+02:00"`, ``},
		{device, `slots eq -9223372036854775808`, ``},
		{device, `weight eq 2.50`, `weight eq 2.5`},
		{device, `weight eq 1E21`, `weight eq 1e+21`},
		{device, `weight eq 1000`, ``},
	}
	for _, test := range tests {
		want := test.want
		if want == "" {
			want = test.text
		}
		e := parse(t, test.text, test.rt)
		if got := e.String(); got != want {
			t.Errorf("Parse(%q) prints as %q, want %q", test.text, got, want)
		}
		if d := cmp.Diff(e, parse(t, e.String(), test.rt), byPointer); d != "" {
			t.Errorf("Parse(%q) printed and parsed again (-first +second):\n%s", test.text, d)
		}
	}
}

func TestStringMadeByHand(t *testing.T) {
	emails := user.Lookup("emails")
	for _, test := range []struct {
		e    Expr
		want string
	}{
		{Compare{Attr: user.Lookup("userName"), Op: Contains, Value: "ana"}, `userName co "ana"`},
		{Compare{Attr: user.Lookup("meta.created"), Op: Less, Value: time.Unix(0, 5e8).UTC()}, `meta.created lt "1970-01-01T00:00:00.5Z"`},
		{Compare{Attr: emails.Sub("type"), Value: "a"}, `emails.type eq "a"`},
		{ValuePath{emails, Or{Compare{Attr: emails.Sub("type"), Value: "a"}, Not{Present{Attr: emails.Sub("value")}}}},
			`emails[type eq "a" or not (value pr)]`},
		{And{stranger{}, ValuePath{emails, stranger{}}}, `strange pr and emails[strange pr]`},
	} {
		if got := test.e.String(); got != test.want {
			t.Errorf("String() = %q, want %q", got, test.want)
		}
	}
	// A filter in brackets stands alone with the names it has there.
	if got := parse(t, `emails[type eq "a" and value pr]`, user).(ValuePath).Filter.String(); got != `type eq "a" and value pr` {
		t.Errorf("filter in brackets prints as %q", got)
	}
}

func TestEqual(t *testing.T) {
	a, b := user.Lookup("meta.created"), user.Lookup("userName")
	now := time.Now()
	c := Compare{Attr: a, Op: Less, Value: now, Text: "x"}
	for _, test := range []struct {
		d    Compare
		want bool
	}{
		{Compare{Attr: a, Op: Less, Value: now.UTC(), Text: "x", element: true}, true},
		{Compare{Attr: b, Op: Less, Value: now, Text: "x"}, false},
		{Compare{Attr: a, Op: Equal, Value: now, Text: "x"}, false},
		{Compare{Attr: a, Op: Less, Value: now.Add(1), Text: "x"}, false},
		{Compare{Attr: a, Op: Less, Value: "x", Text: "x"}, false},
		{Compare{Attr: a, Op: Less, Value: now, Text: "y"}, false},
	} {
		if got := c.Equal(test.d); got != test.want {
			t.Errorf("%v.Equal(%v) = %t, want %t", c, test.d, got, test.want)
		}
	}
	if !(Present{Attr: a}).Equal(Present{Attr: a, element: true}) || (Present{Attr: a}).Equal(Present{Attr: b}) {
		t.Error("Present.Equal is not about the attribute")
	}
}

// TestMap: each term becomes what it is mapped to, what is in brackets as a whole, and the rest stays.
func TestMap(t *testing.T) {
	t.Parallel()
	const text = `userName pr and (not (title eq "x") or emails[type eq "work" and value pr])`
	in := parse(t, text, user)
	var seen []string
	out := Map(in, func(term Expr) Expr {
		seen = append(seen, term.String())
		return Present{Attr: user.Top("id")}
	})
	if got, want := out.String(), `id pr and (not (id pr) or id pr)`; got != want {
		t.Errorf("Map(%s) = %s, want %s", text, got, want)
	}
	want := []string{`userName pr`, `title eq "x"`, `emails[type eq "work" and value pr]`}
	if !slices.Equal(seen, want) {
		t.Errorf("the terms are %q, want %q", seen, want)
	}
	if in.String() != text {
		t.Errorf("what was mapped is %s now", in)
	}
}
