package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

const (
	fullUser = `{"externalId":"7","name":{"givenName":"Ana","familyName":"Roe"},"active":true,"title":"Dr",
		"emails":[{"value":"a@example.com","type":"work","primary":true},{"value":"h@example.com","type":"home","display":"H"}],
		"addresses":[{"type":"work","country":"SE","locality":"Malmö"}],"roles":[{"value":"r1","primary":true},{"value":"r2"}],
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Ops","manager":{"value":"m1","$ref":"../Users/m1"}}}`
	fullDevice = `{"serial":"s1","tags":["a","b"],"maker":{"name":"Acme"},"ports":[{"value":"eth0","mac":"aa","names":["x"]},{"value":"eth1","speed":10}]}`
)

// FuzzApply looks for operations that break what a PATCH promises: the input is
// as it was, the result fits the schema, what clients may not write is
// unchanged, and a replace done twice is a replace done once.
func FuzzApply(f *testing.F) {
	for _, ops := range []string{
		`{"op":"add","path":"nickName","value":"x"}`,
		`{"op":"replace","path":"emails[type eq \"work\"].value","value":"x"}`,
		`{"op":"replace","path":"emails[type eq \"other\"]","value":{"value":"x","primary":true}}`,
		`{"op":"remove","path":"emails[value pr and not (type eq \"home\")]"}`,
		`{"op":"replace","value":{"name.givenName":"x","emails":[{"value":"y"}],"manager":"m2","groups":[],"members":[{"value":"u1"}]}}`,
		`{"op":"add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User","value":{"manager":{"value":"m2"}}}`,
		`{"op":"Remove","path":"members","value":[{"$ref":null,"value":"u1"}]}`,
		`{"op":"remove","path":"members[value eq \"u1\" or type sw \"U\"]"}`,
		`{"op":"add","path":"ports[value eq \"eth2\"].names","value":["a"]},{"op":"replace","path":"ports.speed","value":5}`,
		`{"op":"replace","path":"emails.value","value":""},{"op":"add","path":"emails.type","value":null}`,
		`{"op":"replace","path":"displayName","value":[{"$ref":null,"value":"x"}]}`,
	} {
		f.Add("["+ops+"]", false)
		f.Add("["+ops+"]", true)
	}
	type fixed struct {
		rt   *schemas.ResourceType
		text string
	}
	f.Fuzz(func(t *testing.T, text string, isStrict bool) {
		mode := schemas.Mode(isStrict)
		body, err := schemas.Decode([]byte(text), schemas.Limits{Depth: 20, Tokens: 5000})
		if err != nil {
			return
		}
		if _, ok := body.([]any); ok {
			body = map[string]any{"schemas": []any{MessageURI}, "Operations": body}
		}
		ops, err := Decode(body, DefaultLimits, mode)
		if err != nil {
			checkError(t, err, len(ops))
			return
		}
		for _, r := range []fixed{{user, fullUser}, {group, `{"externalId":"7"}`}, {device, fullDevice}} {
			before, untouched := tree(t, r.rt, r.text), tree(t, r.rt, r.text)
			got, err := Apply(r.rt, before, ops, mode)
			if d := cmp.Diff(untouched, before); d != "" {
				t.Fatalf("Apply changed its input (-was +is):\n%s", d)
			}
			if err != nil {
				checkError(t, err, len(ops))
			} else {
				checkResult(t, r.rt, untouched, got, mode)
			}
			for _, o := range ops {
				if _, filters := measure(o.Value); o.Op == Replace && filters == 0 && !strings.Contains(o.Path, "[") {
					checkTwice(t, r.rt, untouched, o, mode)
				}
			}
		}
	})
}

func checkError(t *testing.T, err error, operations int) {
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is a %T: %v", err, err)
	}
	if operations > 0 && (e.Index < -1 || e.Index >= operations) || e.Msg == "" || e.Kind.String() == "" {
		t.Fatalf("an odd error: %#v", e)
	}
}

func checkResult(t *testing.T, rt *schemas.ResourceType, before map[string]any, got Result, mode schemas.Mode) {
	for _, a := range rt.Attributes() {
		if a.Mutability == schemas.ReadOnly && !cmp.Equal(before[a.Name], got.Attributes[a.Name]) {
			t.Fatalf("%s is read-only and changed", a.Name)
		}
		if _, ok := got.Attributes[a.Name]; ok && a.Detached {
			t.Fatalf("%s is in the tree", a.Name)
		}
	}
	for _, c := range got.Members {
		if (c.Where != nil) != (c.Kind == RemoveWhere) {
			t.Fatalf("%s with filter %v", c.Kind, c.Where)
		}
		for _, m := range c.Members {
			if id, _ := m["value"].(string); id == "" {
				t.Fatalf("%s of a member without a value: %v", c.Kind, m)
			}
		}
	}
	doc := rt.Document(got.Attributes)
	raw, err := schemas.Decode(doc, schemas.Limits{})
	if err != nil {
		t.Fatalf("the document does not decode: %v\n%s", err, doc)
	}
	bound, err := rt.Bind(raw, mode)
	if err != nil {
		t.Fatalf("the document does not bind: %v\n%s", err, doc)
	}
	bound["id"] = before["id"]
	if again := rt.Document(bound); !bytes.Equal(doc, again) {
		t.Fatalf("the document does not bind to itself:\n%s\n%s", doc, again)
	}
}

func checkTwice(t *testing.T, rt *schemas.ResourceType, before map[string]any, o Operation, mode schemas.Mode) {
	once, err := Apply(rt, before, []Operation{o}, mode)
	if err != nil {
		return
	}
	twice, err := Apply(rt, once.Attributes, []Operation{o}, mode)
	if err != nil {
		t.Fatalf("%v the second time: %v", o, err)
	}
	one, two := rt.Document(once.Attributes), rt.Document(twice.Attributes)
	if !bytes.Equal(one, two) {
		value, _ := json.Marshal(o.Value)
		t.Fatalf("%s %q %s is not the same twice:\n%s\n%s", o.Op, o.Path, value, one, two)
	}
}
