package schemas_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/roster-id/roster/schemas"
)

type object = map[string]any

// bindJSON binds the text of a body.
func bindJSON(tb testing.TB, rt *schemas.ResourceType, body string, mode schemas.Mode) (map[string]any, error) {
	tb.Helper()
	raw, err := schemas.Decode([]byte(body), bodyLimits)
	if err != nil {
		tb.Fatalf("Decode(%s): %v", body, err)
	}
	return rt.Bind(raw, mode)
}

// problem is what an error says: its path and kind.
func problem(err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*schemas.ValueError](err)
	if !ok {
		return fmt.Sprintf("%T", err)
	}
	kind := map[schemas.Kind]string{schemas.InvalidValue: "invalidValue", schemas.InvalidSyntax: "invalidSyntax", schemas.MutabilityConflict: "mutability"}[e.Kind]
	return strings.TrimSpace(e.Path + " " + kind)
}

const accepted = ""

// TestBindValues gives one value to one attribute in both modes. The table is
// also the list of what lenient forgives.
func TestBindValues(t *testing.T) {
	const (
		bad    = "invalidValue"
		syntax = "invalidSyntax"
	)
	user, gauge := userType(t), gaugeType(t)
	same := func(v any) [2]any { return [2]any{v, v} }
	both := func(s string) [2]string { return [2]string{s, s} }
	lenient := func(s string) [2]string { return [2]string{accepted, s} }
	for _, c := range []struct {
		name    string
		rt      *schemas.ResourceType
		body    string    // without the braces and schemas
		want    [2]any    // what becomes of the attribute: lenient, strict
		problem [2]string // lenient, strict
	}{
		// Strings are kept as they are.
		{"string", user, `"title":" Dr  å "`, same(object{"title": " Dr  å "}), both(accepted)},
		{"number for a string", user, `"title":5`, [2]any{}, both("title " + bad)},
		{"boolean for a string", user, `"title":true`, [2]any{}, both("title " + bad)},
		{"object for a string", user, `"title":{"value":"x"}`, [2]any{}, both("title " + bad)},
		{"list of two for a string", user, `"title":["x","y"]`, [2]any{}, both("title " + bad)},
		{"list of one for a string", user, `"title":["x"]`, [2]any{object{"title": "x"}}, lenient("title " + bad)},
		{"list of a list", user, `"title":[["x"]]`, [2]any{}, both("title " + bad)},
		{"null clears", user, `"title":null`, same(object{}), both(accepted)},
		{"an empty list clears", user, `"title":[]`, same(object{}), both(accepted)},
		{"an empty string clears", user, `"title":""`, [2]any{object{}}, lenient("title " + bad)},
		{"an element about nothing", user, `"phoneNumbers":[{"value":"","type":"work","primary":true},{"VALUE":"","display":"Bo"},{"value":"1","type":"home"}]`,
			[2]any{object{"phoneNumbers": []any{object{"value": "1", "type": "home"}}}}, lenient("phoneNumbers[0].value " + bad)},
		{"an element with null", user, `"phoneNumbers":[{"value":null,"type":"work"}]`, same(object{"phoneNumbers": []any{object{"type": "work"}}}), both(accepted)},
		{"an address about nothing", user, `"addresses":[{"type":"work","locality":"","country":""},{"type":"home","locality":"","country":"SE"}]`,
			[2]any{object{"addresses": []any{object{"type": "home", "country": "SE"}}}}, lenient("addresses[0].country " + bad)},
		{"an element that was never about anything", user, `"phoneNumbers":[{"type":"work","display":""}]`,
			[2]any{object{"phoneNumbers": []any{object{"type": "work"}}}}, lenient("phoneNumbers[0].display " + bad)},
		{"names in any case", user, `"TITLE":"x","Name":{"GIVENname":"y"}`, same(object{"title": "x", "name": object{"givenName": "y"}}), both(accepted)},
		{"canonical values are suggestions", user, `"emails":[{"value":"a","type":"ferry"}]`,
			same(object{"emails": []any{object{"value": "a", "type": "ferry"}}}), both(accepted)},

		{"boolean", user, `"active":true`, same(object{"active": true}), both(accepted)},
		{"boolean in quotes", user, `"active":"False"`, [2]any{object{"active": false}}, lenient("active " + bad)},
		{"boolean in capitals", user, `"active":"TRUE"`, [2]any{object{"active": true}}, lenient("active " + bad)},
		{"boolean with a long s", user, `"active":"falſe"`, [2]any{}, both("active " + bad)},
		{"boolean as a number", user, `"active":1`, [2]any{}, both("active " + bad)},
		{"boolean as a word", user, `"active":"yes"`, [2]any{}, both("active " + bad)},
		{"boolean empty", user, `"active":""`, [2]any{object{}}, lenient("active " + bad)},

		{"integer", gauge, `"count":-9223372036854775808`, same(object{"count": int64(math.MinInt64)}), both(accepted)},
		{"integer too big", gauge, `"count":9223372036854775808`, [2]any{}, both("count " + bad)},
		{"integer with a fraction", gauge, `"count":1.0`, [2]any{}, both("count " + bad)},
		{"integer with an exponent", gauge, `"count":1e2`, [2]any{}, both("count " + bad)},
		{"integer in quotes", gauge, `"count":"17"`, [2]any{object{"count": int64(17)}}, lenient("count " + bad)},
		{"integer in quotes with digits grouped", gauge, `"count":"1_000"`, [2]any{}, both("count " + bad)},
		{"integer as a boolean", gauge, `"count":true`, [2]any{}, both("count " + bad)},

		{"decimal", gauge, `"ratio":-1.5e3`, same(object{"ratio": -1500.0}), both(accepted)},
		{"decimal without a fraction", gauge, `"ratio":2`, same(object{"ratio": 2.0}), both(accepted)},
		{"decimal too big", gauge, `"ratio":1e400`, [2]any{}, both("ratio " + bad)},
		{"decimal in quotes", gauge, `"ratio":"0.25"`, [2]any{object{"ratio": 0.25}}, lenient("ratio " + bad)},
		{"hexadecimal in quotes", gauge, `"ratio":"0x1p4"`, [2]any{}, both("ratio " + bad)},
		{"no number in quotes", gauge, `"ratio":"inf"`, [2]any{}, both("ratio " + bad)},
		{"too big in quotes", gauge, `"ratio":"1e400"`, [2]any{}, both("ratio " + bad)},

		{"dateTime", gauge, `"seen":"2011-05-13T04:42:34+02:00"`, same(object{"seen": "2011-05-13T04:42:34+02:00"}), both(accepted)},
		{"dateTime without a time", gauge, `"seen":"2011-05-13"`, [2]any{}, both("seen " + bad)},
		{"dateTime as a number", gauge, `"seen":1305254554`, [2]any{}, both("seen " + bad)},

		{"reference", gauge, `"link":"https://example.com/a?b=c#d"`, same(object{"link": "https://example.com/a?b=c#d"}), both(accepted)},
		{"relative reference", gauge, `"link":"../Users/1"`, same(object{"link": "../Users/1"}), both(accepted)},
		{"reference that is no URI", gauge, `"link":"::x"`, [2]any{object{"link": "::x"}}, lenient("link " + bad)},

		{"binary", gauge, `"blob":"TWF5YQ=="`, same(object{"blob": "TWF5YQ=="}), both(accepted)},
		{"binary without padding", gauge, `"blob":"TWF5YQ"`, same(object{"blob": "TWF5YQ"}), both(accepted)},
		{"binary with half the padding", gauge, `"blob":"TWF5YQ="`, [2]any{}, both("blob " + bad)},
		{"binary in the URL alphabet", gauge, `"blob":"_-8="`, [2]any{}, both("blob " + bad)},
		{"binary with a line feed", gauge, `"blob":"TWF5\nYQ=="`, [2]any{}, both("blob " + bad)},

		{"reference", user, `"profileUrl":"https://login.example.com/maya"`, same(object{"profileUrl": "https://login.example.com/maya"}), both(accepted)},
		{"relative reference", user, `"profileUrl":"../Users/26118915"`, same(object{"profileUrl": "../Users/26118915"}), both(accepted)},
		{"reference with a space", user, `"profileUrl":"https://a b"`, [2]any{}, both("profileUrl " + bad)},
		{"reference of white space", user, `"profileUrl":" \t"`, [2]any{object{}}, lenient("profileUrl " + bad)},
		{"an element about such a reference", user, `"photos":[{"value":" ","type":"photo"}]`, [2]any{object{}}, lenient("photos[0].value " + bad)},
		{"text of white space", user, `"title":" "`, same(object{"title": " "}), both(accepted)},
		{"reference with a control character", user, `"profileUrl":"https://a\u0001"`, [2]any{}, both("profileUrl " + bad)},

		{"complex", user, `"name":{"givenName":"Maya","familyName":null}`, same(object{"name": object{"givenName": "Maya"}}), both(accepted)},
		{"empty complex", user, `"name":{}`, same(object{}), both(accepted)},
		{"complex of nulls", user, `"name":{"givenName":null,"familyName":[]}`, same(object{}), both(accepted)},
		{"complex of empty strings", user, `"name":{"givenName":"","familyName":""}`, [2]any{object{}}, lenient("name.familyName " + bad)},
		{"string for a complex without value", user, `"name":"Maya"`, [2]any{}, both("name " + bad)},
		{"wrong sub-attribute", user, `"name":{"givenName":5}`, [2]any{}, both("name.givenName " + bad)},
		{"unknown sub-attribute", user, `"name":{"givenName":"Maya","shoeSize":41}`, [2]any{object{"name": object{"givenName": "Maya"}}}, lenient("name " + syntax)},
		{"only unknown sub-attributes", user, `"name":{"shoeSize":41}`, [2]any{object{}}, lenient("name " + syntax)},

		{"multi-valued", user, `"emails":[{"value":"a"},{"value":"b"}]`, same(object{"emails": []any{object{"value": "a"}, object{"value": "b"}}}), both(accepted)},
		{"one object for a list", user, `"emails":{"value":"a"}`, [2]any{object{"emails": []any{object{"value": "a"}}}}, lenient("emails " + bad)},
		{"bare strings for a list of objects", user, `"emails":["a","b"]`, [2]any{object{"emails": []any{object{"value": "a"}, object{"value": "b"}}}}, lenient("emails[0] " + bad)},
		{"one bare string for a list of objects", user, `"emails":"a"`, [2]any{object{"emails": []any{object{"value": "a"}}}}, lenient("emails " + bad)},
		{"an empty string for a list", user, `"emails":""`, [2]any{object{}}, lenient("emails " + bad)},
		{"an empty list", user, `"roles":[]`, same(object{}), both(accepted)},
		{"null in a list", user, `"emails":[null,{"value":"a"},null,{}]`, same(object{"emails": []any{object{"value": "a"}}}), both(accepted)},
		{"only null in a list", user, `"emails":[null,{"value":null}]`, same(object{}), both(accepted)},
		{"wrong value in the second element", user, `"emails":[{"value":"a"},{"value":5}]`, [2]any{}, both("emails[1].value " + bad)},
		{"wrong bare value in the second element", user, `"emails":["a",5]`, [2]any{}, [2]string{"emails[1].value " + bad, "emails[0] " + bad}},
		{"a list in a list", user, `"emails":[[{"value":"a"}]]`, [2]any{}, both("emails[0] " + bad)},
		{"boolean in quotes inside", user, `"emails":[{"value":"a","primary":"true"}]`,
			[2]any{object{"emails": []any{object{"value": "a", "primary": true}}}}, lenient("emails[0].primary " + bad)},
		{"unknown sub-attribute in a list", user, `"emails":[{"value":"a"},{"value":"b","x":1}]`,
			[2]any{object{"emails": []any{object{"value": "a"}, object{"value": "b"}}}}, lenient("emails[1] " + syntax)},
		{"list of strings", gauge, `"texts":["b","a","b"]`, same(object{"texts": []any{"b", "a", "b"}}), both(accepted)},
		{"list of numbers", gauge, `"counts":[1,"2"]`, [2]any{object{"counts": []any{int64(1), int64(2)}}}, lenient("counts[1] " + bad)},
		{"list below a complex attribute", gauge, `"state":{"texts":["a",5]}`, [2]any{}, both("state.texts[1] " + bad)},

		{"extension", user, `"` + enterpriseURI + `":{"Department":"Harbour"}`, same(object{enterpriseURI: object{"department": "Harbour"}}), both(accepted)},
		{"extension in capitals", user, `"` + strings.ToUpper(enterpriseURI) + `":{"department":"Harbour"}`, same(object{enterpriseURI: object{"department": "Harbour"}}), both(accepted)},
		{"empty extension", user, `"` + enterpriseURI + `":{"department":null}`, same(object{}), both(accepted)},
		{"wrong in an extension", user, `"` + enterpriseURI + `":{"department":5}`, [2]any{}, both(enterpriseURI + ":department " + bad)},
		{"wrong below an extension", user, `"` + enterpriseURI + `":{"manager":{"value":5}}`, [2]any{}, both(enterpriseURI + ":manager.value " + bad)},
		{"unknown in an extension", user, `"` + enterpriseURI + `":{"x":1}`, [2]any{object{}}, lenient(enterpriseURI + " " + syntax)},
		{"manager as a string", user, `"` + enterpriseURI + `":{"manager":"42"}`,
			[2]any{object{enterpriseURI: object{"manager": object{"value": "42"}}}}, lenient(enterpriseURI + ":manager " + bad)},
		{"manager as a list of one", user, `"` + enterpriseURI + `":{"manager":[{"value":"42","$ref":null}]}`,
			[2]any{object{enterpriseURI: object{"manager": object{"value": "42"}}}}, lenient(enterpriseURI + ":manager " + bad)},
		{"manager cleared", user, `"` + enterpriseURI + `":{"manager":""}`, [2]any{object{}}, lenient(enterpriseURI + ":manager " + bad)},
		{"manager's readOnly name", user, `"` + enterpriseURI + `":{"manager":{"value":"42","displayName":"x"}}`,
			same(object{enterpriseURI: object{"manager": object{"value": "42"}}}), both(accepted)},

		// RFC 7644 §3.3: readOnly attributes are ignored, whatever is in them.
		{"readOnly", user, `"id":5,"meta":"x","groups":{"value":true}`, same(object{}), both(accepted)},
		{"readOnly at the top", gauge, `"serial":"1"`, same(object{}), both(accepted)},
		{"readOnly below", gauge, `"state":{"serial":5,"flag":true}`, same(object{"state": object{"flag": true}}), both(accepted)},

		{"unknown attribute", user, `"shoeSize":41`, [2]any{object{}}, lenient(syntax)},
		{"a path is no name", user, `"name.givenName":"x"`, [2]any{object{}}, lenient(syntax)},
		{"an extension attribute at the top", user, `"department":null`, [2]any{object{}}, lenient(syntax)},
		{"a name from another world", user, `"__proto__":{"admin":true},"$set":1`, [2]any{object{}}, lenient(syntax)},
		{"a name with a Kelvin sign", user, `"nic\u212aName":"x"`, [2]any{object{}}, lenient(syntax)},
		{"of two problems the first by path", user, `"title":5,"emails":[{"value":1}],"displayName":6,"name":{"givenName":1,"familyName":2}`, [2]any{}, both("displayName " + bad)},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := `{"schemas":["` + c.rt.Schema.ID + `"],` + c.body + `}`
			if c.rt == user {
				body = `{"userName":"maya",` + body[1:]
			}
			for i, mode := range []schemas.Mode{schemas.Lenient, schemas.Strict} {
				got, err := bindJSON(t, c.rt, body, mode)
				if p := problem(err); p != c.problem[i] {
					t.Errorf("%s(%s): %v, want problem %q", modeName(mode), body, err, c.problem[i])
				}
				if err != nil {
					if got != nil {
						t.Errorf("%s(%s) = %v besides an error", modeName(mode), body, got)
					}
					continue
				}
				delete(got, "userName")
				delete(got, "schemas")
				if diff := cmp.Diff(c.want[i], any(got)); diff != "" {
					t.Errorf("%s(%s) (-want +got):\n%s", modeName(mode), body, diff)
				}
			}
		})
	}
}

func modeName(m schemas.Mode) string {
	if m == schemas.Strict {
		return "strict"
	}
	return "lenient"
}

// The message says what was expected and never what was sent.
func TestBindMessages(t *testing.T) {
	gauge := gaugeType(t)
	for _, c := range []struct{ body, want string }{
		{`{"text":5}`, "text: expected a string"},
		{`{"flag":5}`, "flag: expected a boolean"},
		{`{"ratio":"secret"}`, "ratio: expected a decimal"},
		{`{"count":"secret"}`, "count: expected an integer"},
		{`{"seen":"secret"}`, "seen: expected a dateTime such as 2008-01-23T04:56:22Z"},
		{`{"blob":"sécret"}`, "blob: expected a base64 string"},
		{`{"link":"sec ret"}`, "link: expected a URI"},
		{`{"state":{"seen":"secret"}}`, "state.seen: expected a dateTime such as 2008-01-23T04:56:22Z"},
		{`{"text":["secret","x"]}`, "text: expected a string, not a list"},
		{`{"readings":[{"count":"secret"}]}`, "readings[0].count: expected an integer"},
		{`[]`, "a resource is a JSON object"},
		{`null`, "a resource is a JSON object"},
	} {
		_, err := bindJSON(t, gauge, c.body, schemas.Lenient)
		if err == nil || err.Error() != c.want {
			t.Errorf("Bind(%s) = %v, want %s", c.body, err, c.want)
		}
	}
}

// A name holds nothing that cannot be seen; what merely has no letter of ours in it stays.
func TestBindNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"ana": true, "A\u030ana 张 👩🏽": true, " ana\t": true, "\u06001": true,
		"a\u00adna": false, "\ufeffana": false, "ana\x00": false, "a\tna": false, "a\u2028na": false, "a\u115fna": false, "a\ufe0fna": false,
	} {
		got, err := userType(t).Bind(object{"schemas": []any{schemas.UserURI}, "userName": name, "title": name}, schemas.Strict)
		if ok != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), "userName: expected no ") {
			t.Errorf("%+q: %v, %v", name, got, err)
		}
		if ok && (got["userName"] != name || got["title"] != name) {
			t.Errorf("%+q became %v", name, got)
		}
	}
}

// The error of a body with many does not depend on the order of a map.
func TestBindErrorsAreStable(t *testing.T) {
	user := userType(t)
	const body = `{"userName":1,"title":2,"name":{"givenName":1,"familyName":2},"nickName":3,"locale":4,"active":5,"shoeSize":6,"timezone":7}`
	for _, mode := range []schemas.Mode{schemas.Lenient, schemas.Strict} {
		_, want := bindJSON(t, user, body, mode)
		for range 50 {
			if _, err := bindJSON(t, user, body, mode); err.Error() != want.Error() {
				t.Fatalf("%s: once %v, then %v", modeName(mode), want, err)
			}
		}
	}
}

// What a client says about schemas is checked, not kept.
func TestBindSchemas(t *testing.T) {
	user := userType(t)
	both := []any{userURI, enterpriseURI}
	for _, c := range []struct {
		name, body string
		want       []any
		problem    [2]string // lenient, strict
	}{
		{"core", `"schemas":["` + userURI + `"]`, both[:1], [2]string{}},
		{"in capitals (RFC 7643 §2.1)", `"SCHEMAS":["` + strings.ToUpper(userURI) + `"]`, both[:1], [2]string{}},
		{"both, without extension values", `"schemas":["` + userURI + `","` + enterpriseURI + `"]`, both[:1], [2]string{}},
		{"extension values without its URI", `"schemas":["` + userURI + `"],"` + enterpriseURI + `":{"department":"x"}`, both, [2]string{}},
		{"unknown URI", `"schemas":["http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/User","` + userURI + `"]`,
			both[:1], [2]string{"", "schemas[0] invalidValue"}},
		{"an attribute for a URI", `"schemas":["` + userURI + `","userName"]`, both[:1], [2]string{"", "schemas[1] invalidValue"}},
		{"an attribute's path for a URI", `"schemas":["` + userURI + `","` + enterpriseURI + `:manager"]`, both[:1], [2]string{"", "schemas[1] invalidValue"}},
		{"missing", ``, both[:1], [2]string{"", "schemas invalidValue"}},
		{"null", `"schemas":null`, both[:1], [2]string{"", "schemas invalidSyntax"}},
		{"empty", `"schemas":[]`, both[:1], [2]string{"", "schemas invalidValue"}},
		{"a string", `"schemas":"` + userURI + `"`, both[:1], [2]string{"", "schemas invalidSyntax"}},
		{"not the core one", `"schemas":["` + enterpriseURI + `"]`, nil, [2]string{"schemas invalidValue", "schemas invalidValue"}},
		{"of another type", `"schemas":["` + schemas.GroupURI + `"]`, nil, [2]string{"schemas invalidValue", "schemas[0] invalidValue"}},
		{"of a draft", `"schemas":["urn:scim:schemas:core:1.0"]`, both[:1], [2]string{"", "schemas[0] invalidValue"}},
		{"of a later draft", `"schemas":["urn:scim:schemas:core:2.0:User","urn:scim:schemas:extension:enterprise:2.0:User"]`, both[:1],
			[2]string{"", "schemas[0] invalidValue"}},
		{"of a draft, extension values too", `"schemas":["URN:scim:schemas:core:2.0"],"urn:scim:schemas:extension:Enterprise:2.0":{"department":"x"}`, both,
			[2]string{"", "invalidSyntax"}},
		{"of a draft, in the values alone", `"schemas":["` + userURI + `"],"urn:scim:schemas:extension:enterprise:1.0":{"department":"x"}`, both,
			[2]string{"", "invalidSyntax"}},
		{"of a draft, for another type", `"schemas":["urn:scim:schemas:core:2.0:Group"]`, nil, [2]string{"schemas invalidValue", "schemas[0] invalidValue"}},
		{"the extension twice", `"schemas":["` + userURI + `"],"urn:scim:schemas:extension:enterprise:2.0":{"department":"x"},"` + enterpriseURI + `":{"department":"y"}`, nil,
			[2]string{enterpriseURI + " invalidSyntax", "invalidSyntax"}},
		{"a number", `"schemas":5`, nil, [2]string{"schemas invalidSyntax", "schemas invalidSyntax"}},
		{"a number in the list", `"schemas":["` + userURI + `",5]`, nil, [2]string{"schemas[1] invalidSyntax", "schemas[1] invalidSyntax"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := strings.TrimSuffix(`{"userName":"maya",`+c.body, ",") + "}"
			for i, mode := range []schemas.Mode{schemas.Lenient, schemas.Strict} {
				got, err := bindJSON(t, user, body, mode)
				if p := problem(err); p != c.problem[i] {
					t.Errorf("%s(%s): %v, want problem %q", modeName(mode), body, err, c.problem[i])
				} else if err == nil {
					if diff := cmp.Diff(any(c.want), got["schemas"]); diff != "" {
						t.Errorf("%s(%s): schemas (-want +got):\n%s", modeName(mode), body, diff)
					}
				}
			}
		})
	}
}

// The values of a PATCH may be bound again, so what was made of them must not
// change when they do, nor the other way round.
func TestAttributeBindSharesNothing(t *testing.T) {
	gauge := gaugeType(t)
	raw := object{"texts": []any{"a"}, "state": object{"texts": []any{"b"}}, "readings": []any{object{"type": "c"}}}
	got := object{}
	for name, v := range raw {
		bound, err := gauge.Top(name).Bind(v, schemas.Lenient)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = bound
	}
	raw["texts"].([]any)[0] = "x"
	raw["state"].(object)["texts"].([]any)[0] = "x"
	raw["readings"].([]any)[0].(object)["type"] = "x"
	want := object{"texts": []any{"a"}, "state": object{"texts": []any{"b"}}, "readings": []any{object{"type": "c"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Bind of one attribute and of one element is what PATCH uses. Trees that were
// bound before fit again, numbers from filters too.
func TestAttributeBind(t *testing.T) {
	user, gauge := userType(t), gaugeType(t)
	for _, c := range []struct {
		a       *schemas.Attribute
		v       any
		want    any
		problem string
	}{
		{user.Lookup("emails"), []any{"a", object{"VALUE": "b"}}, []any{object{"value": "a"}, object{"value": "b"}}, ""},
		{user.Lookup("emails"), object{"value": 5}, nil, "emails[0].value invalidValue"},
		{user.Lookup("emails.value"), "a", "a", ""},
		{user.Lookup("emails.value"), true, nil, "emails.value invalidValue"},
		{user.Lookup("manager"), "42", object{"value": "42"}, ""},
		{user.Lookup("manager"), []any{}, nil, ""},
		{user.Lookup("manager.value"), 5, nil, enterpriseURI + ":manager.value invalidValue"},
		{user.Lookup(enterpriseURI), object{"manager": true}, nil, enterpriseURI + ":manager.value invalidValue"},
		{gauge.Lookup("count"), int64(5), int64(5), ""},
		{gauge.Lookup("count"), 5.0, int64(5), ""},
		{gauge.Lookup("count"), 5.5, nil, "count invalidValue"},
		{gauge.Lookup("count"), float64(1 << 63), nil, "count invalidValue"},
		{gauge.Lookup("count"), math.NaN(), nil, "count invalidValue"},
		{gauge.Lookup("ratio"), int64(5), 5.0, ""},
		{gauge.Lookup("ratio"), 0.5, 0.5, ""},
		{gauge.Lookup("ratio"), math.Inf(1), nil, "ratio invalidValue"},
		{gauge.Lookup("ratio"), math.NaN(), nil, "ratio invalidValue"},
		{gauge.Lookup("ratio"), []string{}, nil, "ratio invalidValue"},
	} {
		got, err := c.a.Bind(c.v, schemas.Lenient)
		if p := problem(err); p != c.problem {
			t.Errorf("%s.Bind(%v): %v, want problem %q", c.a, c.v, err, c.problem)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s.Bind(%v) (-want +got):\n%s", c.a, c.v, diff)
		}
	}
	got, err := user.Lookup("emails").BindElement("a", schemas.Lenient)
	if diff := cmp.Diff(any(object{"value": "a"}), got); err != nil || diff != "" {
		t.Errorf("BindElement = %v, %v", got, err)
	}
	if _, err := user.Lookup("emails").BindElement([]any{"a"}, schemas.Lenient); problem(err) != "emails invalidValue" {
		t.Errorf("BindElement of a list: %v", err)
	}
}

// A bare value never writes a readOnly sub-attribute.
func TestBareValueOfReadOnly(t *testing.T) {
	rt := customType(t, `{"id":"urn:example:X","attributes":[
		{"name":"badge","type":"complex","subAttributes":[{"name":"value","mutability":"readOnly"},{"name":"colour"}]}]}`)
	got, err := bindJSON(t, rt, `{"badge":"7"}`, schemas.Lenient)
	if err != nil || got["badge"] != nil {
		t.Errorf("Bind = %v, %v", got, err)
	}
}

func TestField(t *testing.T) {
	for _, c := range []struct {
		body any
		name string
		want any
		ok   bool
	}{
		{object{"Members": "x"}, "members", "x", true},
		{object{"members": nil}, "MEMBERS", nil, true},
		{object{"member": "x"}, "members", nil, false},
		{[]any{"members"}, "members", nil, false},
		{nil, "members", nil, false},
	} {
		if got, ok := schemas.Field(c.body, c.name); got != c.want || ok != c.ok {
			t.Errorf("Field(%v, %s) = %v, %v", c.body, c.name, got, ok)
		}
	}
}

func TestFinish(t *testing.T) {
	user := userType(t)
	lists := customType(t, `{"id":"urn:example:X","attributes":[
		{"name":"scores","type":"complex","multiValued":true,"subAttributes":[
			{"name":"value","type":"integer"},{"name":"type","caseExact":true},{"name":"primary","type":"boolean"}]},
		{"name":"flags","type":"complex","multiValued":true,"subAttributes":[{"name":"value","type":"boolean"},{"name":"note"}]},
		{"name":"runs","type":"complex","multiValued":true,"subAttributes":[{"name":"value"},{"name":"type","type":"integer"}]},
		{"name":"paths","type":"complex","multiValued":true,"subAttributes":[{"name":"value","multiValued":true},{"name":"note"}]},
		{"name":"tags","multiValued":true}]}`)
	e := func(kv ...any) object {
		m := object{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	many := func(n int, rest ...any) []any { // more than are compared pairwise
		var l []any
		for i := range n {
			l = append(l, e("value", fmt.Sprintf("n%d", i)))
		}
		return append(l, rest...)
	}
	for _, c := range []struct {
		name    string
		rt      *schemas.ResourceType
		attr    string
		in      any
		want    any       // nil: the attribute is gone
		problem [2]string // lenient, strict
	}{
		{"one primary", user, "emails", []any{e("value", "a"), e("value", "b", "primary", true)},
			[]any{e("value", "a"), e("value", "b", "primary", true)}, [2]string{}},
		{"the first primary value keeps it", user, "emails", []any{e("value", "a", "primary", true), e("value", "b", "primary", true)},
			[]any{e("value", "a", "primary", true), e("value", "b", "primary", false)}, [2]string{"", "emails[1].primary invalidValue"}},
		{"primary false is nothing special", user, "emails", []any{e("value", "a", "primary", false), e("value", "b", "primary", false)},
			[]any{e("value", "a", "primary", false), e("value", "b", "primary", false)}, [2]string{}},

		{"equal values", user, "emails", []any{e("value", "a", "type", "work"), e("value", "a", "type", "work", "display", "x")},
			[]any{e("value", "a", "type", "work")}, [2]string{}},
		{"equal but for case", user, "emails", []any{e("value", "Maya@Example", "type", "Work"), e("value", "maya@example", "type", "work")},
			[]any{e("value", "Maya@Example", "type", "Work")}, [2]string{}},
		{"another type", user, "emails", []any{e("value", "a", "type", "work"), e("value", "a", "type", "home"), e("value", "a")},
			[]any{e("value", "a", "type", "work"), e("value", "a", "type", "home"), e("value", "a")}, [2]string{}},
		{"exact values differ in case", user, "photos", []any{e("value", "https://a/X"), e("value", "https://a/x")},
			[]any{e("value", "https://a/X"), e("value", "https://a/x")}, [2]string{}},
		{"a repeated value is still the primary one", user, "emails", []any{e("value", "a"), e("value", "A", "primary", true), e("value", "b")},
			[]any{e("value", "a", "primary", true), e("value", "b")}, [2]string{}},
		{"primary twice on one value", user, "emails", []any{e("value", "a", "primary", true), e("value", "a", "primary", true)},
			[]any{e("value", "a", "primary", true)}, [2]string{}},
		{"elements without value", user, "emails", []any{e("type", "work"), e("type", "work")},
			[]any{e("type", "work"), e("type", "work")}, [2]string{}},
		{"elements that cannot have one", user, "addresses", []any{e("country", "SE"), e("country", "SE")},
			[]any{e("country", "SE"), e("country", "SE")}, [2]string{}},
		{"among many", user, "emails", many(40, e("value", "N3"), e("value", "n7", "primary", true), e("value", "new"), e("type", "work")),
			func() []any {
				l := many(40, e("value", "new"), e("type", "work"))
				l[7].(object)["primary"] = true
				return l
			}(), [2]string{}},

		{"numbers", lists, "scores", []any{e("value", int64(1)), e("value", int64(2)), e("value", int64(1))},
			[]any{e("value", int64(1)), e("value", int64(2))}, [2]string{}},
		{"an exact type", lists, "scores", []any{e("value", int64(1), "type", "a"), e("value", int64(1), "type", "A")},
			[]any{e("value", int64(1), "type", "a"), e("value", int64(1), "type", "A")}, [2]string{}},
		{"a type that is a number", lists, "runs", []any{e("value", "a", "type", int64(1)), e("value", "a", "type", int64(2)), e("value", "A", "type", int64(1))},
			[]any{e("value", "a", "type", int64(1)), e("value", "a", "type", int64(2))}, [2]string{}},
		{"booleans", lists, "flags", []any{e("value", true), e("value", false), e("value", true, "note", "x")},
			[]any{e("value", true), e("value", false)}, [2]string{}},
		{"values that are lists", lists, "paths", []any{e("value", []any{"a"}), e("value", []any{"a"})},
			[]any{e("value", []any{"a"}), e("value", []any{"a"})}, [2]string{}},
		{"simple values are a list, not a set", lists, "tags", []any{"a", "a"}, []any{"a", "a"}, [2]string{}},

		{"empty elements", user, "emails", []any{e(), e("value", "a"), e()}, []any{e("value", "a")}, [2]string{}},
		{"only empty elements", user, "emails", []any{e(), e()}, nil, [2]string{}},
		{"an empty list", user, "emails", []any{}, nil, [2]string{}},
		{"an empty list of simple values", lists, "tags", []any{}, nil, [2]string{}},
		{"an empty object", user, "name", e(), nil, [2]string{}},
		{"an extension with nothing in it", user, enterpriseURI, e("manager", e()), nil, [2]string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, mode := range []schemas.Mode{schemas.Lenient, schemas.Strict} {
				attrs := object{c.attr: copyTree(c.in)}
				if c.rt == user {
					attrs["userName"] = "maya"
				}
				err := c.rt.Finish(attrs, nil, mode)
				if p := problem(err); p != c.problem[i] {
					t.Fatalf("%s: %v, want problem %q", modeName(mode), err, c.problem[i])
				}
				if err != nil {
					continue
				}
				if diff := cmp.Diff(c.want, attrs[c.attr]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", modeName(mode), diff)
				}
				if diff := cmp.Diff([]any{c.rt.Schema.ID}, attrs["schemas"]); diff != "" {
					t.Errorf("%s: schemas (-want +got):\n%s", modeName(mode), diff)
				}
				again := copyTree(attrs).(object)
				if err := c.rt.Finish(again, nil, mode); err != nil || !cmp.Equal(attrs, again) {
					t.Errorf("%s: Finish twice: %v, %v", modeName(mode), err, cmp.Diff(attrs, again))
				}
			}
		})
	}
}

func copyTree(v any) any {
	switch v := v.(type) {
	case object:
		m := make(object, len(v))
		for k, e := range v {
			m[k] = copyTree(e)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = copyTree(e)
		}
		return l
	}
	return v
}

// Required attributes must have a value; one that is readOnly is the server's
// affair, and sub-attributes are required only of values that are there.
func TestRequired(t *testing.T) {
	core := `{"id":"urn:example:X","attributes":[
		{"name":"title","required":true},
		{"name":"serial","required":true,"mutability":"readOnly"},
		{"name":"box","type":"complex","subAttributes":[{"name":"size","required":true},{"name":"colour"}]},
		{"name":"doors","type":"complex","multiValued":true,"subAttributes":[{"name":"size","required":true},{"name":"colour"}]},
		{"name":"keys","type":"complex","multiValued":true,"required":true,"subAttributes":[{"name":"value"}]},
		{"name":"tags","multiValued":true,"required":true}]}`
	ext := `{"id":"urn:example:E","attributes":[{"name":"depth","required":true},{"name":"note"}]}`
	c, err := schemas.Parse([]byte(core))
	if err != nil {
		t.Fatal(err)
	}
	e, err := schemas.Parse([]byte(ext))
	if err != nil {
		t.Fatal(err)
	}
	optional, err := schemas.NewResourceType("Thing", "/Things", "", c, schemas.Extension{Schema: e})
	if err != nil {
		t.Fatal(err)
	}
	needed, err := schemas.NewResourceType("Thing", "/Things", "", c, schemas.Extension{Schema: e, Required: true})
	if err != nil {
		t.Fatal(err)
	}
	const whole = `"title":"t","keys":[{"value":"k"}],"tags":["x"]`
	for _, c := range []struct {
		name, body string
		rt         *schemas.ResourceType
		want       string
	}{
		{"all there", whole, optional, ""},
		{"missing", `"keys":[{"value":"k"}],"tags":["x"]`, optional, "title invalidValue"},
		{"null", `"title":null,"keys":[{"value":"k"}],"tags":["x"]`, optional, "title invalidValue"},
		{"only spaces", `"title":" \u00a0\t","keys":[{"value":"k"}],"tags":["x"]`, optional, "title invalidValue"},
		{"a list that is missing", `"title":"t","tags":["x"]`, optional, "keys invalidValue"},
		{"a list with nothing in it", `"title":"t","keys":[{"value":null}],"tags":["x"]`, optional, "keys invalidValue"},
		{"a simple list with nothing in it", `"title":"t","keys":[{"value":"k"}],"tags":[null]`, optional, "tags invalidValue"},
		{"the first in the order of the schema", ``, optional, "title invalidValue"},
		{"sub-attribute", whole + `,"box":{"colour":"red"}`, optional, "box.size invalidValue"},
		{"sub-attribute in the second element", whole + `,"doors":[{"size":"1"},{"colour":"red"}]`, optional, "doors[1].size invalidValue"},
		{"in an extension", whole + `,"urn:example:E":{"note":"x"}`, optional, "urn:example:E:depth invalidValue"},
		{"an extension", whole, needed, "urn:example:E invalidValue"},
		{"an extension with nothing in it", whole + `,"urn:example:E":{"note":null}`, needed, "urn:example:E invalidValue"},
		{"an extension that is there", whole + `,"urn:example:E":{"depth":"1"}`, needed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := strings.TrimSuffix(`{"schemas":["urn:example:X"],`+c.body, ",") + "}"
			for _, mode := range []schemas.Mode{schemas.Lenient, schemas.Strict} {
				if _, err := bindJSON(t, c.rt, body, mode); problem(err) != c.want {
					t.Errorf("%s(%s): %v, want problem %q", modeName(mode), body, err, c.want)
				}
			}
		})
	}
	// A PATCH may leave something empty that is required.
	for _, empty := range []any{[]any{}, []any{object{}}} {
		attrs := object{"title": "t", "keys": empty, "tags": []any{"x"}}
		if err := optional.Finish(attrs, nil, schemas.Lenient); problem(err) != "keys invalidValue" {
			t.Errorf("Finish with keys %v: %v", empty, err)
		}
	}
}

func TestKeepImmutable(t *testing.T) {
	rt := customType(t, `{"id":"urn:example:X","attributes":[
		{"name":"serial","mutability":"immutable"},
		{"name":"limits","type":"integer","multiValued":true,"mutability":"immutable"},
		{"name":"title"},
		{"name":"box","type":"complex","subAttributes":[{"name":"size","mutability":"immutable"},{"name":"colour"}]},
		{"name":"doors","type":"complex","multiValued":true,"subAttributes":[{"name":"value","mutability":"immutable"},{"name":"colour"}]}]}`,
		`{"id":"urn:example:E","attributes":[{"name":"origin","mutability":"immutable"},{"name":"note"}]}`)
	const e = "urn:example:E"
	uris := func(s ...any) []any { return append([]any{"urn:example:X"}, s...) }
	for _, c := range []struct {
		name             string
		prev, next, want object
		problem          string
	}{
		{"set once", object{}, object{"serial": "1"}, object{"serial": "1"}, ""},
		{"the same again", object{"serial": "1"}, object{"serial": "1"}, object{"serial": "1"}, ""},
		{"left out", object{"serial": "1", "title": "t"}, object{}, object{"serial": "1"}, ""},
		{"changed", object{"serial": "1"}, object{"serial": "2"}, nil, "serial mutability"},
		{"a list, the same", object{"limits": []any{int64(1), int64(2)}}, object{"limits": []any{int64(1), int64(2)}}, object{"limits": []any{int64(1), int64(2)}}, ""},
		{"a list, longer", object{"limits": []any{int64(1)}}, object{"limits": []any{int64(1), int64(2)}}, nil, "limits mutability"},
		{"below", object{"box": object{"size": "L", "colour": "red"}}, object{"box": object{"colour": "blue"}}, object{"box": object{"size": "L", "colour": "blue"}}, ""},
		{"below, changed", object{"box": object{"size": "L"}}, object{"box": object{"size": "M"}}, nil, "box.size mutability"},
		{"below, added", object{"box": object{"colour": "red"}}, object{"box": object{"size": "M"}}, object{"box": object{"size": "M"}}, ""},
		{"a whole complex attribute goes", object{"box": object{"size": "L"}}, object{}, object{}, ""},
		{"elements come and go", object{"doors": []any{object{"value": "1"}}}, object{"doors": []any{object{"value": "2"}}}, object{"doors": []any{object{"value": "2"}}}, ""},
		{"in an extension", object{e: object{"origin": "SE", "note": "x"}}, object{e: object{"note": "y"}}, object{e: object{"origin": "SE", "note": "y"}}, ""},
		{"in an extension, changed", object{e: object{"origin": "SE"}}, object{e: object{"origin": "NO"}}, nil, e + ":origin mutability"},
		{"in an extension that is left out", object{"schemas": uris(e), e: object{"origin": "SE", "note": "x"}}, object{"schemas": uris()},
			object{"schemas": uris(e), e: object{"origin": "SE"}}, ""},
		{"an extension without any", object{"schemas": uris(e), e: object{"note": "x"}}, object{"schemas": uris()}, object{"schemas": uris()}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			prev := copyTree(c.prev)
			inner := map[string]any{}
			for name, v := range c.next {
				inner[name] = copyTree(v)
			}
			given := maps.Clone(c.next)
			err := rt.KeepImmutable(c.prev, c.next)
			// Whoever has to do it again begins with the same values.
			if diff := cmp.Diff(inner, given); diff != "" {
				t.Errorf("a value of next has changed (-want +got):\n%s", diff)
			}
			if p := problem(err); p != c.problem {
				t.Fatalf("%v, want problem %q", err, c.problem)
			}
			if err == nil {
				if diff := cmp.Diff(c.want, c.next); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			if diff := cmp.Diff(prev, any(c.prev)); diff != "" {
				t.Errorf("prev has changed (-want +got):\n%s", diff)
			}
		})
	}
}

// A number that was stored and read back is the one that was set, so a PUT of
// the same body is no conflict.
func TestKeepImmutableNumbers(t *testing.T) {
	rt := customType(t, `{"id":"urn:example:X","attributes":[{"name":"ratio","type":"decimal","mutability":"immutable"}]}`)
	next, err := rt.Bind(object{"ratio": json.Number("2")}, schemas.Lenient)
	if err != nil {
		t.Fatal(err)
	}
	prev, err := rt.Parse(rt.Document(next))
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.KeepImmutable(prev, next); err != nil {
		t.Error(err)
	}
}
