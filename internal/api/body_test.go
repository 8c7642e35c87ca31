package api

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
)

type sample struct {
	Name    string      `json:"name,omitempty"`
	Secret  auth.Secret `json:"secret,omitempty"`
	Number  int         `json:"number,omitempty"`
	List    []string    `json:"list,omitempty"`
	Flag    *bool       `json:"flag,omitempty"`
	Expires time.Time   `json:"expires,omitzero"`
}

func TestRead(t *testing.T) {
	t.Parallel()
	const canary = "canary"
	for _, test := range []struct{ name, body, want string }{
		{"empty", "", "is not acceptable JSON"},
		{"no JSON", canary, "is not acceptable JSON"},
		{"an array", `["canary"]`, "the body: expected an object"},
		{"null", `null`, "the body: expected an object"},
		{"nothing in it", `{}`, ""},
		{"two values", `{} {}`, "unexpected data"},
		{"unknown", `{"canarie":1}`, `there is no such member: "canarie"`},
		{"unknown by case", `{"NAME":"canary"}`, `there is no such member: "NAME"`},
		{"unknown and long", `{"` + strings.Repeat("x", 1000) + `":1}`, `xxx..."`},
		{"unknown and not printable", `{"a\nbé":1}`, `"a\nb\u00e9"`},
		{"twice", `{"name":"canary","name":"canary"}`, "is not acceptable JSON"},
		{"twice by case", `{"name":"canary","Name":"canary"}`, "is not acceptable JSON"},
		{"a number", `{"name":17}`, "name: expected a string"},
		{"a secret number", `{"secret":17}`, "secret: expected a string"},
		{"an object for a secret", `{"secret":{"value":"canary"}}`, "secret: expected a string"},
		{"a string", `{"number":"canary"}`, "number: expected a whole number"},
		{"a fraction", `{"number":1.5}`, "number: expected a whole number"},
		{"too large", `{"number":123456789012345678901234567890}`, "number: expected a whole number"},
		{"a flag", `{"flag":"canary"}`, "flag: expected true or false"},
		{"a list", `{"list":"canary"}`, "list: expected an array"},
		{"an element", `{"list":["canary",1]}`, "list[1]: expected a string"},
		{"a date", `{"expires":"canary"}`, "expires: expected a date and time"},
		{"U+0000", `{"name":"\u0000"}`, "is not acceptable JSON"},
		{"not UTF-8", "{\"name\":\"\xff\"}", "is not acceptable JSON"},
		{"deep", `{"list":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, "is not acceptable JSON"},
		{"many", `{"list":["` + strings.Repeat(`","`, 2000) + `"]}`, "is not acceptable JSON"},
		{"large", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, "larger than 65536 bytes"},
		{"good", `{"name":"canary","secret":"canary","number":1,"list":["canary"],"flag":true,"expires":"2030-01-01T00:00:00Z"}`, ""},
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(test.body))
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		if test.name == "large" {
			r.ContentLength = -1
		}
		var got sample
		err := read(r, &got)
		if test.want == "" {
			if err != nil || test.name == "good" && (got.Name != canary || got.Secret.Reveal() != canary || !*got.Flag || got.Expires.Year() != 2030) {
				t.Errorf("%s: %+v, %v", test.name, got, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: no error, want %s", test.name, test.want)
			continue
		}
		if p := problemFor(err); p.Status/100 != 4 || !strings.Contains(p.Detail, test.want) || strings.Contains(p.Detail, canary) {
			t.Errorf("%s: %d %s, want %s", test.name, p.Status, p.Detail, test.want)
		}
	}
}

// TestReadRequired: what a body has to say is not taken for false, or for nothing, when it
// does not say it.
func TestReadRequired(t *testing.T) {
	t.Parallel()
	type inner struct {
		Value string `json:"value"`
		Kind  string `json:"kind,omitempty"`
	}
	type outer struct {
		Flag  bool            `json:"flag"`
		One   *inner          `json:"one,omitempty"`
		Many  []inner         `json:"many,omitempty"`
		Empty inner           `json:"empty,omitzero"`
		Raw   json.RawMessage `json:"raw,omitempty"`
	}
	for _, test := range []struct{ body, want string }{
		{`{}`, "flag: is required"},
		{`{"flag":null}`, "flag: is required"},
		{`{"flag":false}`, ""},
		{`{"flag":false,"one":{}}`, "one.value: is required"},
		{`{"flag":false,"one":null,"many":null,"empty":null}`, ""},
		{`{"flag":false,"many":[{"value":""},{"kind":"k"}]}`, "many[1].value: is required"},
		{`{"flag":false,"empty":{"kind":"k"}}`, "empty.value: is required"},
		{`{"flag":false,"raw":{"value":null,"list":[{}]}}`, ""},
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(test.body))
		r.Header.Set("Content-Type", "application/json")
		var detail string
		if err := read(r, &outer{}); err != nil {
			detail = problemFor(err).Detail
		}
		if detail != test.want {
			t.Errorf("%s: %q, want %q", test.body, detail, test.want)
		}
	}
}

func TestReadMediaType(t *testing.T) {
	t.Parallel()
	for media, ok := range map[string]bool{
		"application/json": true, "Application/JSON": true, "": false, "text/plain": false,
		"application/x-www-form-urlencoded": false, "multipart/form-data": false, "application/scim+json": false, "application/json x": false,
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		r.Header.Set("Content-Type", media)
		if err := read(r, &sample{}); (err == nil) != ok || err != nil && problemFor(err).Status != 415 {
			t.Errorf("%q: %v", media, err)
		}
	}
	for coding, ok := range map[string]bool{"identity": true, "gzip": false, "identity, gzip": false} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Encoding", coding)
		if err := read(r, &sample{}); (err == nil) != ok || err != nil && problemFor(err).Status != 415 {
			t.Errorf("encoded as %q: %v", coding, err)
		}
	}
}
