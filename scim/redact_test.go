package scim

import (
	"strings"
	"testing"

	"github.com/roster-id/roster/schemas"
)

const (
	redactedID = "01890a5d-ac96-774b-bcce-b302099a8057"
	enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
)

func newRedactor(t testing.TB, typ string) *redactor {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	return &redactor{set: set, t: set.Type(typ), room: redactedRoom}
}

func TestRedactResource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, body, want string }{
		{"User", `{"USERNAME":"ada","active":"true","name":{"givenName":"Ada","x":{"y":[1,true]}}}`,
			`{"active":"(string, 4)","name":{"givenName":"(string, 3)","unknown":{"unknown":["(number)",true]}},"userName":"(string, 3)"}`},
		{"User", `{"password":{"value":"hush"},"PASSWORD2":"hush","passwords":["hush"]}`, `{"password":"(secret)","unknown":"(string)","unknown 2":["(string)"]}`},
		{"User", `{"password":true}`, `{"password":"(secret)"}`},
		{"User", `{"schemas":["` + schemas.UserURI + `","urn:secret"],"id":"` + redactedID + `","externalId":"` + redactedID + `"}`,
			`{"externalId":"(string, 36)","id":"` + redactedID + `","schemas":["` + schemas.UserURI + `","(string)"]}`},
		{"User", `{"` + enterprise + `":{"manager":"` + redactedID + `","employeeNumber":"7","badge":"8"},"emails":{"value":"` + redactedID + `"}}`,
			`{"emails":{"value":"(string, 36)"},"` + enterprise + `":{"employeeNumber":"(string, 1)","manager":"` + redactedID + `","unknown":"(string)"}}`},
		{"Group", `{"members":[{"value":"` + redactedID + `"},{"value":"ada","$ref":"https://x/` + redactedID + `","display":"Ada"},"` + redactedID + `"]}`,
			`{"members":[{"value":"` + redactedID + `"},{"$ref":"(string, 46)","display":"(string, 3)","value":"(string, 3)"},"` + redactedID + `"]}`},
		{"User", `"just text"`, `"(string)"`},
		{"", `{"userName":"ada"}`, `{"unknown":"(string)"}`},
	} {
		r := newRedactor(t, c.typ)
		if got := string(r.body([]byte(c.body), r.resource)); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.body, got, c.want)
		}
	}
}

func TestRedactPatch(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"Operations":[{"op":"Add","path":"password","value":"` + redactedID + `"},{"op":"steal","path":"secretName","value":{"userName":"ada"}}]}`: `{"Operations":[{"op":"add","path":"password","value":"(secret)"},{"op":"(string)","path":"unknown","value":{"unknown":"(string)"}}]}`,
		`{"operations":{"op":"replace","value":{"name.givenName":"Ada","` + enterprise + `:department":"Engines","zip":"1"}}}`:                       `{"Operations":{"op":"replace","value":{"name.givenName":"(string, 3)","unknown":"(string)","` + enterprise + `:department":"(string, 7)"}}}`,
		`[{"op":"remove","path":"emails[type eq \"work\" and value sw \"a]d\"].display"}]`:                                                           `[{"op":"remove","path":"emails[type eq \"(string)\" and value sw \"(string)\"].display"}]`,
	} {
		r := newRedactor(t, "User")
		if got := string(r.body([]byte(body), r.patch)); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
}

func TestRedactText(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		`userName eq "ada \" lovelace" or Name.Familyname pr`: `userName eq "(string)" or name.familyName pr`,
		`emails[primary eq true and x gt -5].value`:           `emails[primary eq true and unknown gt (number)].value`,
		`userName eq ada`:                  `userName eq unknown`,
		`userName eq "never closed`:        `userName eq "(string)"`,
		`userName eq 'ada'`:                `userName eq unknown`,
		`not (title co "x")`:               `not (title co "(string)")`,
		"urn:x:y eq \"1\"\x00\n":           `unknown eq "(string)"unknown`,
		schemas.UserURI + `:userName eq 1`: `userName eq (number)`,
		``:                                 ``,
	} {
		if got := newRedactor(t, "User").text(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

// TestRedactedSize: what is told is bounded, whatever is sent.
func TestRedactedSize(t *testing.T) {
	t.Parallel()
	many := strings.Repeat(`{"value":"x","type":"y"},`, 2000)
	r := newRedactor(t, "User")
	got := string(r.body([]byte(`{"emails":[`+many+`{}],"userName":"ada"}`), r.resource))
	if want := `(1981 more)`; !strings.Contains(got, want) || len(got) > 4<<10 {
		t.Errorf("%d bytes without %s: %.300s", len(got), want, got)
	}
	r = newRedactor(t, "User")
	var names strings.Builder
	for i := range 3000 {
		names.WriteString(`"x` + strings.Repeat("y", i%7) + string(rune('a'+i%26)) + strings.Repeat("z", i/7) + `":1,`)
		if names.Len() > 50<<10 {
			break
		}
	}
	if got := string(r.body([]byte(`{`+names.String()+`"userName":"ada"}`), r.resource)); len(got) > 16<<10 {
		t.Errorf("%d bytes of unknown names", len(got))
	}
	r = newRedactor(t, "User")
	if got := string(r.body([]byte(`{"title":"`+strings.Repeat("x", maxToldBody)+`"}`), r.resource)); got != `"(65548 bytes, too many to be told)"` {
		t.Errorf("a long body: %.100s", got)
	}
}

// FuzzRedact: no text that is sent is told.
func FuzzRedact(f *testing.F) {
	f.Add(`{"userName":"§","§":["§"],"emails":[{"value":"§","§":1}]}`)
	f.Add(`{"Operations":[{"op":"§","path":"emails[§ eq \"§\"].§","value":"§"}]}`)
	f.Add(`[{"op":"add","path":"§","value":{"§":{"§":"§"}}}]`)
	f.Add(`{"schemas":["§"],"filter":"§ eq \"§\"","sortBy":"§","§":"§"}`)
	f.Add(`{"Operations":[{"method":"§","path":"/§/§","bulkId":"§","data":{"§":"§"}}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		const canary = "qzcanaryqz"
		body = strings.ReplaceAll(body, "§", canary)
		for _, typ := range []string{"User", "Group", ""} {
			r := newRedactor(t, typ)
			for name, form := range map[string]func(any) any{"resource": r.resource, "patch": r.patch, "bulk": r.bulk, "search": r.search} {
				r.room = redactedRoom
				if got := string(r.body([]byte(body), form)); strings.Contains(strings.ToLower(got), canary) {
					t.Errorf("%s of %s: %s", name, body, got)
				}
			}
			if got := r.query(body) + r.text(body); strings.Contains(strings.ToLower(got), canary) {
				t.Errorf("%s: %s", body, got)
			}
		}
	})
}
