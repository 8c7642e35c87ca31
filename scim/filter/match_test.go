package filter

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/roster-id/roster/schemas"
)

const ana = `{
	"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
	"id": "2819c223", "externalId": "Ana",
	"userName": "Ana@Example.com", "displayName": "Åsa Ström", "nickName": "",
	"name": {"givenName": "Ana", "familyName": "Ng"},
	"active": false,
	"emails": [
		{"type": "work", "value": "Ana@Corp.example", "primary": true},
		{"type": "home", "value": "ana@home.example"},
		{"value": "other@example.com"}],
	"addresses": [{"type": "work", "country": "SE"}],
	"ims": [{"type": ""}],
	"photos": [],
	"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "R&D", "manager": {"value": "26118915"}},
	"meta": {"resourceType": "User", "lastModified": "2024-05-01T10:00:00.5+02:00"}}`

func TestMatch(t *testing.T) {
	tests := []struct {
		text string
		want bool
	}{
		// One value.
		{`userName eq "ana@EXAMPLE.com"`, true},
		{`userName eq "ana"`, false},
		{`userName ne "ana@example.com"`, false},
		{`userName ne "bob"`, true},
		{`userName co "@EX"`, true},
		{`userName co "nobody"`, false},
		{`userName sw "ANA"`, true},
		{`userName sw "na"`, false},
		{`userName ew ".COM"`, true},
		{`userName ew ".co"`, false},
		{`userName gt "ana"`, true},
		{`userName ge "ANA@example.com"`, true},
		{`userName gt "ANA@example.com"`, false},
		{`userName lt "anb"`, true},
		{`userName le "ANA@example.com"`, true},
		{`userName lt "ana"`, false},
		{`displayName eq "ÅSA STRÖM"`, true},
		{`displayName sw "åsa"`, true},
		{`externalId eq "Ana"`, true},
		{`externalId eq "ana"`, false},
		{`externalId ne "ana"`, true},
		{`id sw "2819"`, true},
		{`name.givenName eq "ana"`, true},
		{`department eq "r&d"`, true},
		{`manager eq "26118915"`, true},
		{`manager.value ne "26118915"`, false},
		{`active eq false`, true},
		{`active ne false`, false},
		{`active eq true`, false},
		{`active ne true`, true},
		{`meta.lastModified eq "2024-05-01T08:00:00.5Z"`, true},
		{`meta.lastModified ne "2024-05-01T08:00:00.5Z"`, false},
		{`meta.lastModified gt "2024-05-01T09:00:00Z"`, false},
		{`meta.lastModified ge "2024-05-01T08:00:00.500"`, true},
		{`meta.lastModified lt "2024-05-01T08:00:00.5000001Z"`, true},
		{`meta.lastModified le "2024-05-01T08:00:00.4Z"`, false},

		// No value: ne is the negation of eq, nothing else matches.
		{`title eq "x"`, false},
		{`title ne "x"`, true},
		{`title co ""`, false},
		{`title sw ""`, false},
		{`title ew ""`, false},
		{`title gt ""`, false},
		{`title ge ""`, false},
		{`title lt "x"`, false},
		{`title le "x"`, false},
		{`name.middleName ne "x"`, true},
		{`costCenter ne "x"`, true},
		{`meta.created ne "2024-05-01T08:00:00Z"`, true},
		{`meta.created lt "2024-05-01T08:00:00Z"`, false},

		// The empty string is a value, but not one that counts as present.
		{`nickName eq ""`, true},
		{`nickName co ""`, true},
		{`nickName pr`, false},
		{`userName co ""`, true},
		{`userName sw ""`, true},
		{`userName ew ""`, true},

		// Several values: any element.
		{`emails.type eq "home"`, true},
		{`emails eq "ANA@corp.example"`, true},
		{`emails co "@corp"`, true},
		{`emails.type eq "fax"`, false},
		{`emails.primary eq true`, true},
		{`emails.primary eq false`, false},
		{`emails.primary ne true`, true},
		{`emails.type ne "work"`, true},
		{`addresses.country ne "SE"`, false},
		{`addresses.locality ne "Umeå"`, true}, // the element lacks it
		{`phoneNumbers ne "x"`, false},         // no element at all
		{`photos ne "x"`, false},
		{`groups.display ne "x"`, false},
		{`schemas eq "URN:ietf:params:scim:schemas:core:2.0:user"`, true},
		{`schemas ne "urn:ietf:params:scim:schemas:core:2.0:User"`, true},
		{`schemas eq "urn:x"`, false},

		// Value paths: all of it in one element.
		{`emails[type eq "work" and value co "@corp"]`, true},
		{`emails[type eq "home" and value co "@corp"]`, false},
		{`emails.type eq "home" and emails.value co "@corp"`, true},
		{`emails[type eq "home" or type eq "fax"]`, true},
		{`emails[not (type pr)]`, true},
		{`emails[type eq null and value sw "other"]`, true},
		{`emails[type ne "work" and type ne "home"]`, true},
		{`not (emails[type eq "fax"])`, true},
		{`emails[type eq "work"].value eq "ana@corp.example"`, true},
		{`emails[type eq "home"].value eq "ana@corp.example"`, false},
		{`emails[type eq "work"].display pr`, false},
		{`emails[type eq "work"].display ne "x"`, true},
		{`emails[type eq "fax"].value ne "x"`, false},
		{`phoneNumbers[type ne "x"]`, false},
		{`name[givenName eq "ana" and familyName eq "ng"]`, true},
		{`name[givenName eq "ana" and not (familyName eq "ng")]`, false},
		{`manager[value eq "26118915"]`, true},
		{`manager[displayName eq "x"]`, false},

		// Presence.
		{`userName pr`, true},
		{`title pr`, false},
		{`active pr`, true},
		{`name pr`, true},
		{`name.familyName pr`, true},
		{`name.middleName pr`, false},
		{`emails pr`, true},
		{`emails.type pr`, true},
		{`emails.display pr`, false},
		{`ims pr`, false},
		{`ims.type pr`, false},
		{`photos pr`, false},
		{`phoneNumbers pr`, false},
		{`schemas pr`, true},
		{`manager pr`, true},
		{`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User pr`, true},
		{`title eq null`, true},
		{`title ne null`, false},
		{`emails ne null`, true},

		// Logic.
		{`userName pr and active eq false`, true},
		{`userName pr and active eq true`, false},
		{`title pr or active eq false`, true},
		{`title pr or active eq true`, false},
		{`not (title pr)`, true},
		{`not (title pr or userName pr)`, false},
		{`title pr and title pr or userName pr`, true},
		{`title pr and (title pr or userName pr)`, false},
	}
	attrs := tree(t, ana, user, false)
	for _, test := range tests {
		e := parse(t, test.text, user)
		if got := e.Match(attrs); got != test.want {
			t.Errorf("%q.Match(ana) = %t, want %t", test.text, got, test.want)
		}
	}
}

const rig = `{
	"serial": "A1", "slots": 8, "weight": 2.5, "bought": "2024-02-29T00:00:00Z", "online": true, "key": "QUJD", "home": "https://x.example/A",
	"tags": ["Red", "big"], "levels": [1, 2.0, 3],
	"ports": [
		{"number": 80, "protocols": ["http", "h2"]},
		{"number": 22, "protocols": ["ssh"], "secret": "s"},
		{"number": 7}],
	"vault": {"value": "s"},
	"owner": {"names": ["Bo"]},
	"urn:example:my-co:2.0:Lab": {"shelves": [{"value": "top", "row": 1}, {"value": "low"}]}}`

func TestMatchTypes(t *testing.T) {
	tests := []struct {
		text string
		want bool
	}{
		{`slots eq 8`, true},
		{`slots ne 8`, false},
		{`slots gt 7`, true},
		{`slots ge 8`, true},
		{`slots lt 8`, false},
		{`slots le 7`, false},
		{`weight eq 2.50`, true},
		{`weight gt 2`, true},
		{`weight lt 3`, true},
		{`levels eq 2`, true},
		{`levels gt 3`, false},
		{`levels ne 1`, true},
		{`online eq "TRUE"`, true},
		{`key eq "QUJD"`, true},
		{`key eq "qujd"`, false},
		{`home eq "https://x.example/A"`, true},
		{`home eq "https://x.example/a"`, false},
		{`home gt "https://x.example"`, true},
		{`serial eq "a1"`, false},
		{`tags eq "red"`, true},
		{`tags co "I"`, true},
		{`tags sw "x"`, false},
		{`tags pr`, true},
		{`bought lt "2024-03-01T00:00:00+09:00"`, true},

		// A list within a list: the inner elements.
		{`ports.protocols eq "ssh"`, true},
		{`ports[number eq 80 and protocols eq "h2"]`, true},
		{`ports[number eq 22 and protocols eq "h2"]`, false},
		{`ports[number eq 80 and protocols ne "h2"]`, true},
		{`ports[number eq 22 and protocols ne "ssh"]`, false},
		{`ports[number eq 7 and protocols ne "ssh"]`, false},
		{`ports[number eq 7 and protocols pr]`, false},
		{`owner.names eq "bo"`, true},
		{`owner.names ne "bo"`, false},
		{`urn:example:my-co:2.0:Lab:shelves.row ne 1`, true},
		{`shelves[value eq "low" and row pr]`, false},
		{`shelves[value eq "top"].row eq 1`, true},
		{`shelves eq "LOW"`, true},

		// What may not be read does not make the rest present.
		{`vault pr`, false},
		{`vault.label pr`, false},
		{`owner pr`, true},
		{`ports pr`, true},
	}
	for _, numbers := range []bool{false, true} {
		attrs := tree(t, rig, device, numbers)
		for _, test := range tests {
			if got := parse(t, test.text, device).Match(attrs); got != test.want {
				t.Errorf("%q.Match(rig) = %t, want %t (json.Number: %t)", test.text, got, test.want, numbers)
			}
		}
	}
}

// A tree that does not fit its schema matches as if the value were missing.
func TestMatchMisfits(t *testing.T) {
	attrs := map[string]any{
		"serial": int64(1), "slots": "8", "weight": json.Number("x"), "bought": "yesterday", "online": "true",
		"tags": "red", "levels": []any{nil, "x"}, "ports": []any{"x", nil}, "owner": map[string]any{"names": []any{""}}, "home": nil,
		"vault": map[string]any{}, "key": []any{"A"},
	}
	tests := []struct {
		text string
		want bool
	}{
		{`serial eq "1"`, false}, {`serial ne "1"`, true}, {`serial sw ""`, false},
		{`slots eq 8`, false}, {`slots ne 8`, true}, {`slots lt 9`, false},
		{`weight eq 1`, false}, {`weight ne 1`, true},
		{`bought lt "2024-03-01T00:00:00Z"`, false}, {`bought ne "2024-03-01T00:00:00Z"`, true},
		{`online eq true`, false}, {`online ne true`, true},
		{`tags eq "red"`, true}, {`levels eq 1`, false}, {`levels ne 1`, true}, {`levels pr`, true},
		{`ports.number ne 1`, true}, {`ports.number eq 1`, false}, {`ports[number ne 1]`, false},
		{`owner.names eq "x"`, false}, {`owner.names pr`, false}, {`owner pr`, false}, {`home pr`, false}, {`home ne "x"`, true}, {`vault pr`, false}, {`key eq "A"`, true},
	}
	for _, test := range tests {
		if got := parse(t, test.text, device).Match(attrs); got != test.want {
			t.Errorf("%q.Match = %t, want %t", test.text, got, test.want)
		}
	}
	if parse(t, `userName eq "x"`, user).Match(nil) {
		t.Error("an empty resource matched")
	}
}

// The filter of a PATCH path is matched against one element, on its own.
func TestMatchElement(t *testing.T) {
	element := map[string]any{"type": "work", "value": "Ana@x"}
	for text, want := range map[string]bool{
		`emails[type eq "work"]`:                          true,
		`emails[type eq "home"]`:                          false,
		`emails[type eq "work" and value co "@X"]`:        true,
		`emails[type eq "home" or not (display pr)]`:      true,
		`emails[display ne "x" and display eq null]`:      true,
		`emails[not (type eq "work" and value sw "ana")]`: false,
	} {
		p, err := ParsePath(text, user, DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Filter.Match(element); got != want {
			t.Errorf("filter of %q.Match(element) = %t, want %t", text, got, want)
		}
		if got := parse(t, text, user).(ValuePath).Filter.Match(element); got != want {
			t.Errorf("filter in %q.Match(element) = %t, want %t", text, got, want)
		}
	}
}

// An Expr need not come from Parse.
func TestMatchMadeByHand(t *testing.T) {
	emails := user.Lookup("emails")
	attrs := map[string]any{
		"active": false,
		"emails": []any{map[string]any{"type": "work", "value": "ana@x"}},
		"meta":   map[string]any{"created": "0001-01-01T00:00:00Z"},
	}
	typ := Compare{Attr: emails.Sub("type"), Op: Equal, Value: "work"}
	for _, test := range []struct {
		e    Expr
		want bool
	}{
		{typ, true},
		{ValuePath{emails, typ}, true},
		{ValuePath{emails, And{typ, Or{Not{Present{Attr: emails.Sub("value")}}, stranger{}}}}, true},
		{ValuePath{emails, And{typ, Not{Present{Attr: emails.Sub("value")}}}}, false},
		{Compare{Attr: user.Lookup("active"), Op: Contains, Value: false}, false},
		{Compare{Attr: user.Lookup("active"), Op: Equal}, false},
		{Compare{Attr: user.Lookup("meta.created"), Op: StartsWith, Value: time.Time{}}, false},
	} {
		if got := test.e.Match(attrs); got != test.want {
			t.Errorf("%v.Match = %t, want %t", test.e, got, test.want)
		}
	}
}

// stranger is an Expr of a type this package does not know.
type stranger struct{}

func (stranger) Match(map[string]any) bool { return true }
func (stranger) String() string            { return "strange pr" }

func TestCompareNumbers(t *testing.T) {
	const big = 1 << 53
	tests := []struct {
		v, w any
		want int
	}{
		{int64(1), int64(2), -1},
		{int64(2), 2.0, 0},
		{2.0, int64(2), 0},
		{int64(2), 2.5, -1},
		{int64(-2), -2.5, 1},
		{2.5, int64(2), 1},
		{2.5, 2.25, 1},
		{json.Number("2"), int64(2), 0},
		{json.Number("2.0"), int64(2), 0},
		{json.Number("2e0"), 2.0, 0},
		{int64(big + 1), float64(big), 1}, // float64(big+1) is big
		{float64(big), int64(big + 1), -1},
		{json.Number("9007199254740993"), float64(big), 1},
		{int64(math.MaxInt64), float64(1 << 63), -1},
		{int64(math.MinInt64), -float64(1 << 63), 0},
		{int64(math.MinInt64), -1e19, 1},
		{json.Number("9223372036854775808"), int64(math.MaxInt64), 1},
		{json.Number("1e300"), json.Number("1e301"), -1},
	}
	for _, test := range tests {
		if got, ok := compareNumbers(test.v, test.w); got != test.want || !ok {
			t.Errorf("compareNumbers(%T %v, %T %v) = %d, %t; want %d", test.v, test.v, test.w, test.w, got, ok, test.want)
		}
	}
	for _, v := range []any{nil, "1", true, json.Number(""), json.Number("1e999"), []any{}} {
		if _, ok := compareNumbers(v, int64(1)); ok {
			t.Errorf("compareNumbers(%#v, 1) compared", v)
		}
		if _, ok := compareNumbers(int64(1), v); ok {
			t.Errorf("compareNumbers(1, %#v) compared", v)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	attrs := tree(t, ana, user, false)
	for _, text := range []string{
		`id eq "2819c223"`,
		`externalId sw "An" and not (id gt "3")`,
		`active eq false`,
		`name.givenName pr`,
		`manager eq "26118915"`,
		`emails[primary eq true]`,
		`meta.lastModified gt "2024-01-01T00:00:00Z"`,
	} {
		e := parse(t, text, user)
		if n := testing.AllocsPerRun(100, func() { e.Match(attrs) }); n != 0 {
			t.Errorf("%q.Match allocates %v times", text, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	attrs := tree(b, ana, user, false)
	for _, text := range []string{
		`id eq "2819c223"`,
		`userName eq "ana@example.com"`,
		`emails[type eq "home" and value co "@home"]`,
		`department eq "r&d"`,
		`meta.lastModified gt "2024-01-01T00:00:00Z"`,
	} {
		e := parse(b, text, user)
		b.Run(fmt.Sprint(e), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !e.Match(attrs) {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{
		"ValuePath": `emails[type eq "work" and value co "@example.com"]`,
		"Logic":     `title pr and userType eq "Employee" and not (emails co "example.com" or active eq "False")`,
		"URN":       schemas.EnterpriseUserURI + `:manager.value eq "26118915"`,
	} {
		b.Run(name, func(b *testing.B) { benchmarkParse(b, text) })
	}
}

func BenchmarkParseUserName(b *testing.B) { benchmarkParse(b, `userName eq "x"`) }

func benchmarkParse(b *testing.B, text string) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text, user, DefaultLimits); err != nil {
			b.Fatal(err)
		}
	}
}
