package scim

import (
	"bytes"
	"testing"

	"github.com/roster-id/roster/schemas"
)

const (
	managerID = "01890a5d-ac96-774b-bcce-b302099a8057"
	beforeExt = `{"schemas":["` + schemas.UserURI + `","` + schemas.EnterpriseUserURI + `"],"id":"x","userName":"ana",`
	ext       = `"` + schemas.EnterpriseUserURI + `":`
)

func userType(t testing.TB) *schemas.ResourceType {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	return set.Type("User")
}

func TestFindManager(t *testing.T) {
	const object = `{"value":"` + managerID + `"}`
	for _, tt := range []struct{ name, doc, want string }{
		{"no extension", `{"schemas":["` + schemas.UserURI + `"],"id":"x","userName":"ana"}`, ""},
		{"no manager", beforeExt + ext + `{"department":"North"}}`, ""},
		{"alone", beforeExt + ext + `{"manager":` + object + `}}`, object},
		{"after others", beforeExt + ext + `{"employeeNumber":"1","department":"No\"rth}","manager":` + object + `}}`, object},
		{"before others", beforeExt + ext + `{"manager":` + object + `,"z":1}}`, object},
		{"with an address", beforeExt + ext + `{"manager":{"value":"` + managerID + `","$ref":"https://x.example/}{\"","z":[{"a":1},true]}}}`, `{"value":"` + managerID + `","$ref":"https://x.example/}{\"","z":[{"a":1},true]}`},
		{"value last", beforeExt + ext + `{"manager":{"a":null,"b":[1,{"value":"no"}],"value":"` + managerID + `"}}}`, `{"a":null,"b":[1,{"value":"no"}],"value":"` + managerID + `"}`},
		{"not ours", beforeExt + ext + `{"manager":{"value":"E-7"}}}`, ""},
		{"without an id", beforeExt + ext + `{"manager":{"$ref":"https://x.example/` + managerID + `"}}}`, ""},
		{"elsewhere", beforeExt + ext + `{"department":"North"},"urn:x":{"manager":` + object + `}}`, ""},
		{"deeper", beforeExt + ext + `{"a":{"manager":` + object + `},"n":-1.5e3}}`, ""},
		{"in a text", beforeExt + `"title":"\"manager\":{\"value\":\"` + managerID + `\"}",` + ext + `{"department":"\"manager\":{"}}`, ""},
		{"cut off", beforeExt + ext + `{"manager":{"value":"` + managerID, ""},
		{"cut off before", beforeExt + ext + `{"manager":{`, ""},
		{"no object", beforeExt + ext + `{"manager":[],"a":"\"manager\":{"}}`, ""},
	} {
		m, ok := findManager([]byte(tt.doc))
		got := ""
		if ok {
			got = tt.doc[m.start:m.end]
		}
		if got != tt.want || ok && m.id != managerID {
			t.Errorf("%s: findManager(%s) = %q (%q), want %q", tt.name, tt.doc, got, m.id, tt.want)
		}
	}
}

// FuzzFindManager holds what is found without parsing to what parsing says.
func FuzzFindManager(f *testing.F) {
	user := userType(f)
	f.Add(`{"userName":"ana",` + ext + `{"manager":{"value":"` + managerID + `","$ref":"\\\""},"department":"}"}}`)
	f.Add(`{"userName":"\"manager\":{",` + ext + `{"manager":"` + managerID + `","costCenter":"\"manager\":{\""}}`)
	f.Add(`{"userName":"ana","title":"` + schemas.EnterpriseUserURI + `\":{\"manager\":{",` + ext + `{"manager":{"value":"E-7"}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		_, _ = findManager([]byte(body)) // what is damaged must do no harm
		raw, err := schemas.Decode([]byte(body), schemas.Limits{Depth: 20, Tokens: 5000})
		if err != nil {
			return
		}
		attrs, err := user.Bind(raw, schemas.Lenient)
		if err != nil {
			return
		}
		doc := user.Document(attrs)
		stored, err := user.Parse(doc)
		if err != nil {
			t.Fatal(err)
		}
		extension, _ := stored[schemas.EnterpriseUserURI].(map[string]any)
		want, _ := extension["manager"].(map[string]any)
		id, _ := want["value"].(string)
		m, ok := findManager(doc)
		if ok != ours(id) || ok && m.id != id {
			t.Fatalf("found %v, %q in %s", ok, m.id, doc)
		}
		if !ok {
			return
		}
		// What goes out as stored is what goes out when it is parsed.
		v := newView(user, "https://roster.example/scim/v2", projectionRequest{})
		fast := append(v.manager(bytes.Clone(doc[:m.start]), m), doc[m.end:]...)
		v.showManager(stored, m)
		if slow := user.AppendJSON(nil, stored, nil); !bytes.Equal(fast, slow) {
			t.Fatalf("shown as stored and parsed:\n%s\n%s", fast, slow)
		}
	})
}
