package schemas_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/roster-id/roster/schemas"
)

// FuzzDecode: what Decode accepts encoding/json accepts too and understands the
// same, and written out again it is still accepted and the same.
func FuzzDecode(f *testing.F) {
	f.Add(typicalUser(f))
	for _, s := range []string{
		`{}`, `[]`, `"a\u00e5\ud83d\ude00"`, `[1,-0,1.5e300,true,false,null]`, `{"a":{"A":[{"b":""}]},"b":"\\\""}`,
		`{"a":1,"A":2}`, "{\"k\":1,\"\u212a\":2}", `"\ud800"`, "\"\xff\"", `"\u0000"`, ` { "x" : [ ] } `, "\ufeff{}", `[[[[[[[[`,
	} {
		f.Add([]byte(s))
	}
	limits := schemas.Limits{Depth: 32, Tokens: 1000}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := schemas.Decode(b, limits)
		if err != nil {
			if e, ok := errors.AsType[*schemas.SyntaxError](err); !ok || e.Offset < 0 || e.Offset > int64(len(b)) {
				t.Fatalf("Decode(%q): %v at a strange place", b, err)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("Decode accepts %q, encoding/json says %v", b, err)
		}
		if _, err := d.Token(); err != io.EOF {
			t.Fatalf("Decode accepts %q, but something follows the value", b)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Decode(%q) (-encoding/json +got):\n%s", b, diff)
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := schemas.Decode(text, limits)
		if err != nil {
			t.Fatalf("Decode(%q) written out as %q: %v", b, text, err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("Decode(%q) written out as %q (-first +second):\n%s", b, text, diff)
		}
	})
}

// FuzzBind: what Bind made fits again, in the same mode, and is the same; what
// strict accepts lenient accepts with the same result; and what is stored comes
// back.
func FuzzBind(f *testing.F) {
	f.Add(typicalUser(f))
	for _, s := range []string{
		`{"userName":"a","emails":[{"value":"a"},"b",{"value":"A","primary":"true"},null],"name":{"givenName":""},"active":"False"}`,
		`{"userName":["a"],"manager":"x","` + enterpriseURI + `":{"manager":"42"}}`,
		`{"text":"a","count":"17","ratio":1e300,"seen":"2008-01-23T04:56:22Z","blob":"YQ","link":"../a","readings":[1,2,{"value":1,"primary":true}]}`,
		`{"texts":["a",""],"flags":["true",false],"state":{"texts":"x","ratio":-0.0},"readings":{"value":"2","count":3}}`,
		`{"schemas":["` + userURI + `","` + enterpriseURI + `"],"userName":"å","x509Certificates":[{"value":"YWJj"}],"addresses":[{"country":"SE"},{}]}`,
		`{"userName":"a","phoneNumbers":[{"value":"","type":"work"},{"value":null,"type":"home"}],"addresses":[{"country":"","primary":true}]}`,
		`{"schemas":["` + userURI + `"],"userName":"a","phoneNumbers":[{"value":null,"type":"home"},{"value":[],"type":"work"}]}`,
		`{"schemas":"urn:example:Gauge","times":["2008-01-23T04:56:22"],"serial":5,"secret":"x"}`,
	} {
		f.Add([]byte(s))
	}
	types := []*schemas.ResourceType{userType(f), gaugeType(f)}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, rt := range types {
			var results [2]map[string]any
			for i, mode := range []schemas.Mode{schemas.Lenient, schemas.Strict} {
				raw, err := schemas.Decode(b, schemas.Limits{Depth: 32, Tokens: 1000}) // each time: Bind takes it over
				if err != nil {
					return
				}
				got, err := rt.Bind(raw, mode)
				if err != nil {
					if e, ok := errors.AsType[*schemas.ValueError](err); !ok || e.Msg == "" {
						t.Fatalf("%s: %s: %v", rt.Name, modeName(mode), err)
					}
					continue
				}
				results[i] = got
				again, err := rt.Bind(got, mode)
				if err != nil {
					t.Fatalf("%s: %s: %v does not fit again: %v", rt.Name, modeName(mode), got, err)
				}
				if diff := cmp.Diff(got, again); diff != "" {
					t.Fatalf("%s: %s: bound again (-first +second):\n%s", rt.Name, modeName(mode), diff)
				}
				doc := rt.Document(got)
				back, err := rt.Parse(doc)
				if err != nil {
					t.Fatalf("%s: Parse(%s): %v", rt.Name, doc, err)
				}
				delete(got, "password")
				delete(got, "secret")
				if diff := cmp.Diff(got, back); diff != "" {
					t.Fatalf("%s: stored as %s (-bound +parsed):\n%s", rt.Name, doc, diff)
				}
			}
			if results[1] != nil {
				if diff := cmp.Diff(results[1], results[0]); diff != "" {
					t.Fatalf("%s: (-strict +lenient):\n%s", rt.Name, diff)
				}
			}
		}
	})
}

// FuzzBinary: a binary is what encoding/base64 decodes, with padding or without,
// except that it may not be broken into lines.
func FuzzBinary(f *testing.F) {
	for _, s := range []string{"YQ==", "YQ", "YQ=", "Y", "YWJj", "YWJjZA", "====", "=", "a*==", "YW\nJj", "YQ==YQ==", "+/+/", "-_-_"} {
		f.Add(s)
	}
	blob := gaugeType(f).Top("blob")
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		_, padded := base64.StdEncoding.DecodeString(s)
		_, bare := base64.RawStdEncoding.DecodeString(s)
		want := (padded == nil || bare == nil) && !strings.ContainsAny(s, "\r\n")
		if _, err := blob.Bind(s, schemas.Strict); (err == nil) != want {
			t.Errorf("Bind(%q) = %v; encoding/base64 says %v, %v", s, err, padded, bare)
		}
	})
}

// FuzzLookup: a path that leads to an attribute leads there in any case, and
// the attribute's own path does too.
func FuzzLookup(f *testing.F) {
	for _, s := range []string{"userName", "emails.value", "Manager.Value", enterpriseURI, enterpriseURI + ":department", userURI + ":name.givenName", ":", ".", "\u212a"} {
		f.Add(s)
	}
	user := userType(f)
	f.Fuzz(func(t *testing.T, path string) {
		a := user.Lookup(path)
		if a == nil {
			return
		}
		if got := user.Lookup(strings.ToUpper(path)); got != a {
			t.Errorf("Lookup(%q) = %v, in capitals %v", path, a, got)
		}
		if got := user.Lookup(a.Path); got != a {
			t.Errorf("Lookup(%q) = %v, whose path leads to %v", path, a, got)
		}
	})
}
