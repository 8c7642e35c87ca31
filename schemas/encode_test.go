package schemas_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/roster-id/roster/schemas"
)

// A resource is written in the order of the schema, whatever map it comes from.
func TestAppendJSON(t *testing.T) {
	user := userType(t)
	whole := object{
		"schemas": []any{userURI, enterpriseURI}, "id": "1", "userName": "maya", "active": true, "password": "hunter2",
		"name":        object{"givenName": "Maya", "familyName": "Osei"},
		"emails":      []any{object{"value": "a", "type": "work"}, object{"primary": true, "value": "b"}},
		"groups":      []any{object{"value": "g"}},
		"meta":        object{"resourceType": "User", "version": `W/"1"`},
		enterpriseURI: object{"manager": object{"value": "2", "$ref": "../Users/2"}, "department": "Harbour"},
		"nosuch":      "not written",
	}
	only := func(paths ...string) func(*schemas.Attribute) bool {
		return func(a *schemas.Attribute) bool {
			for _, p := range paths {
				if a.Path == p {
					return true
				}
			}
			return false
		}
	}
	for _, c := range []struct {
		name string
		in   object
		keep func(*schemas.Attribute) bool
		want string
	}{
		{"whole", whole, nil, `{"schemas":["` + userURI + `","` + enterpriseURI + `"],"id":"1","userName":"maya",` +
			`"name":{"familyName":"Osei","givenName":"Maya"},"active":true,` +
			`"emails":[{"value":"a","type":"work"},{"value":"b","primary":true}],"groups":[{"value":"g"}],` +
			`"` + enterpriseURI + `":{"department":"Harbour","manager":{"value":"2","$ref":"../Users/2"}},` +
			`"meta":{"resourceType":"User","version":"W/\"1\""}}`},
		{"nothing kept", whole, only(), `{}`},
		{"a password is not written even when asked for", whole, only("password", "userName"), `{"userName":"maya"}`},
		{"some", whole, only("id", "active"), `{"id":"1","active":true}`},
		{"an object without what is in it is left out", whole, only("id", "name", "emails", enterpriseURI), `{"id":"1"}`},
		{"elements without anything in them are left out", whole, only("id", "emails", "emails.primary"), `{"id":"1","emails":[{"primary":true}]}`},
		{"one sub-attribute of an extension", whole, only(enterpriseURI, enterpriseURI+":department"), `{"` + enterpriseURI + `":{"department":"Harbour"}}`},
		{"empty", object{}, nil, `{}`},
		{"no value at all", object{"title": nil}, nil, `{"title":null}`},
	} {
		got := user.AppendJSON([]byte("before "), c.in, c.keep)
		if diff := cmp.Diff("before "+c.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// The stored document has no memberships, no meta and nothing secret, however
// the schema says that it is secret.
func TestDocument(t *testing.T) {
	user := userType(t)
	got := user.Document(object{"userName": "maya", "password": "hunter2", "groups": []any{object{"value": "g"}}, "meta": object{"version": "1"}})
	if want := `{"userName":"maya"}`; string(got) != want {
		t.Errorf("Document = %s, want %s", got, want)
	}
	set, _ := schemas.Load()
	got = set.Type("Group").Document(object{"displayName": "Crew", "members": []any{object{"value": "u"}}})
	if want := `{"displayName":"Crew"}`; string(got) != want {
		t.Errorf("Document = %s, want %s", got, want)
	}
	rt := customType(t, `{"id":"urn:example:X","attributes":[
		{"name":"a"},{"name":"never","returned":"never"},{"name":"asked","returned":"request"},
		{"name":"written","mutability":"writeOnly"},
		{"name":"box","type":"complex","subAttributes":[{"name":"meta"},{"name":"pin","mutability":"writeOnly"}]}]}`)
	got = rt.Document(object{"a": "1", "never": "x", "asked": "2", "written": "x", "box": object{"meta": "3", "pin": "x"}})
	if want := `{"a":"1","asked":"2","box":{"meta":"3"}}`; string(got) != want {
		t.Errorf("Document = %s, want %s", got, want)
	}
}

// TestRoundTrip writes random trees and reads them back: the tree is the same,
// numbers with their types included, and so are the bytes of a second writing.
func TestRoundTrip(t *testing.T) {
	rt := gaugeType(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		attrs, err := rt.Bind(randomObject(rng, rt.Schema.Attributes), schemas.Lenient)
		if err != nil {
			t.Fatal(err)
		}
		delete(attrs, "secret")
		doc := rt.Document(attrs)
		back, err := rt.Parse(doc)
		if err != nil {
			t.Fatalf("Parse(%s): %v", doc, err)
		}
		if diff := cmp.Diff(attrs, back); diff != "" {
			t.Fatalf("%s (-bound +parsed):\n%s", doc, diff)
		}
		if again := rt.Document(back); string(again) != string(doc) {
			t.Fatalf("written once %s, then %s", doc, again)
		}
		if !json.Valid(doc) {
			t.Fatalf("not JSON: %s", doc)
		}
	}
}

func TestParseDocument(t *testing.T) {
	rt := gaugeType(t)
	for _, c := range []struct {
		doc  string
		want object // nil: refused
	}{
		{`{"ratio":2,"count":3,"ratios":[1,2.5],"readings":[{"value":1,"count":1}]}`,
			object{"ratio": 2.0, "count": int64(3), "ratios": []any{1.0, 2.5}, "readings": []any{object{"value": 1.0, "count": int64(1)}}}},
		// What a schema no longer fits stays as it is.
		{`{"count":1.5,"gone":1,"text":2}`, object{"count": json.Number("1.5"), "gone": json.Number("1"), "text": json.Number("2")}},
		{`[]`, nil},
		{`"x"`, nil},
		{`{"text":"x"`, nil},
		{``, nil},
	} {
		got, err := rt.Parse([]byte(c.doc))
		if (err != nil) != (c.want == nil) {
			t.Errorf("Parse(%s): %v", c.doc, err)
		} else if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
			t.Errorf("Parse(%s) (-want +got):\n%s", c.doc, diff)
		}
	}
	// A number nobody converted is written as it was.
	if got := rt.Document(object{"count": json.Number("1.5")}); string(got) != `{"count":1.5}` {
		t.Errorf("Document = %s", got)
	}
}

func TestAppendFloat(t *testing.T) {
	for _, c := range []struct {
		in   float64
		want string
	}{
		{0, "0"}, {math.Copysign(0, -1), "0"}, {1, "1"}, {-1.5, "-1.5"}, {0.1, "0.1"}, {1e15, "1000000000000000"},
		{123456789012345680000, "123456789012345680000"}, {1e21, "1e+21"}, {1e-6, "0.000001"}, {1e-7, "1e-7"},
		{1.7e9 * 1e3, "1700000000000"}, {math.MaxFloat64, "1.7976931348623157e+308"}, {math.SmallestNonzeroFloat64, "5e-324"},
	} {
		if got := string(schemas.AppendFloat([]byte("x"), c.in)); got != "x"+c.want {
			t.Errorf("AppendFloat(%v) = %s, want %s", c.in, got[1:], c.want)
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 10_000 {
		f := math.Float64frombits(rng.Uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		text := string(schemas.AppendFloat(nil, f))
		if back, err := strconv.ParseFloat(text, 64); err != nil || back != f || !json.Valid([]byte(text)) {
			t.Fatalf("AppendFloat(%v) = %s", f, text)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `""`}, {`a"b\c/d`, `"a\"b\\c/d"`}, {"\b\f\n\r\t", `"\b\f\n\r\t"`}, {"\x00\x1f\x7f", "\"\\u0000\\u001f\x7f\""},
		{"<&>", `"<&>"`}, {"å日😀", `"å日😀"`}, {"a\xffb", "\"a\ufffdb\""},
	} {
		if got := string(schemas.AppendString(nil, c.in)); got != c.want {
			t.Errorf("AppendString(%q) = %s, want %s", c.in, got, c.want)
		}
	}
}
