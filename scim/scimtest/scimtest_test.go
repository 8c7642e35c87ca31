package scimtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// echo answers with what it was asked, so that a script can look at its own
// requests.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	var sent any
	_ = json.Unmarshal(body, &sent)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Add("X-Two", "one")
	w.Header().Add("X-Two", "two")
	if r.URL.Path == "/scim/v2/text" {
		fmt.Fprint(w, "plain text")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "uri": r.RequestURI, "host": r.Host, "header": r.Header, "text": string(body), "sent": sent,
		"list": []any{map[string]any{"n": 1, "s": "a"}, map[string]any{"n": 2.0}, map[string]any{"n": 3}}, "none": nil,
	})
})

// failures plays a script against echo and returns what is wrong with it, one line
// for each failure.
func failures(t *testing.T, text string) string {
	t.Helper()
	s, err := Parse("t.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := &Runner{URL: "http://scim.test/scim/v2", Token: "tok", Vars: map[string]string{"quote": `a "b"`}, Client: Direct(echo)}
	err = r.Play(t.Context(), s)
	var lines []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			line, _, _ := strings.Cut(e.Error(), "\n")
			lines = append(lines, line)
		}
	} else if err != nil {
		t.Fatalf("Play: an error of another kind: %v", err)
	}
	return strings.Join(lines, "\n")
}

func TestScriptsThatHold(t *testing.T) {
	for _, test := range []struct{ name, script string }{
		{"status and body", "> GET /a\n< 200\n< {\"method\":\"GET\",\"uri\":\"/scim/v2/a\"}"},
		{"one of several statuses", "> GET /a\n< 404 200"},
		{"a path of the base itself", "> GET ?a=b\n< 200\n< {\"uri\":\"/scim/v2?a=b\"}"},
		{"percent-encoding", "> GET /a?filter=b eq \"å\" and c[d]&e=%41+%2B\n< 200\n" +
			`< {"uri":"/scim/v2/a?filter=b%20eq%20%22%C3%A5%22%20and%20c%5Bd%5D&e=%41+%2B"}`},
		{"the token", "> GET /a\n< 200\n< $.header.Authorization = [\"Bearer tok\"]"},
		{"another token", "> GET /a\n> Authorization: Basic x\n< 200\n< $.header.Authorization = [\"Basic x\"]"},
		{"no token", "> GET /a\n> Authorization:\n< 200\n! $.header.Authorization"},
		{"a media type by default", "> PUT /a\n> {}\n< 200\n< $.header[\"Content-Type\"] = [\"application/scim+json\"]"},
		{"no media type without a body", "> GET /a\n< 200\n! $.header[\"Content-Type\"]"},
		{"headers for all", "@ X-All: 1\n@ X-All: 2\n> GET /a\n< 200\n< {\"header\":{\"X-All\":[\"2\"]}}\n\n@ X-All:\n> GET /a\n< 200\n< {\"header\":{\"X-All\":null}}"},
		{"a header twice", "@ X-A: 0\n> GET /a\n> X-A: 1\n> X-A: 2\n< 200\n< $.header[\"X-A\"] = [\"1\",\"2\"]"},
		{"the host", "> GET /a\n> Host: other.test\n< 200\n< {\"host\":\"other.test\"}"},
		{"a body over several lines", "> PUT /a\n> {\"a\":\n>   1}\n< 200\n< {\"text\":\"{\\\"a\\\":\\n  1}\"}"},
		{"a body of anything", "> PUT /a\n>\n> X: not a header\n< 200\n< {\"text\":\"X: not a header\"}"},
		{"a body of nothing", "> PUT /a\n>\n< 200\n< {\"text\":\"\"}"},
		{"repetition", "> PUT /a\n> [{3 times}1,{end}2]\n< 200\n< $.sent = [1,1,1,2]"},
		{"an expectation over several lines", "> GET /a\n< 200\n< {\"method\":\n<  \"GET\", \"host\": \"/[^}]*/\"}\n< {\"none\":null}"},
		{"null is missing or null", "> GET /a\n< 200\n< {\"none\":null,\"nothing\":null}"},
		{"numbers by value", "> GET /a\n< 200\n< {\"list\":[{\"n\":3e0},{\"n\":2},{\"n\":1.0}]}"},
		{"and others", "> GET /a\n< 200\n< {\"list\":[{\"n\":2},\"...\"]}"},
		{"a path in order", "> GET /a\n< 200\n< $.list[*].n = [1,2,3]\n< $.list[*].s = [\"a\"]\n< $.list[0] = {\"n\":1,\"s\":\"a\"}\n< $.method = \"GET\""},
		{"refusals", "> GET /a\n< 200\n! $.nothing\n! $.list[7]\n! $.list[*].x\n! $.method[0]\n! $.method = \"PUT\"\n! $.nothing = 1\n! X-Nothing\n! \"nowhere\""},
		{"headers of the response", "> GET /a\n< 200\n< Content-Type: application/json\n< content-type: /application/.*/\n< X-Two: one, two"},
		{"saved", "> GET /b\n< 200\n= m $.method\n= l $.list[1]\n= ct Content-Type\n\n> PUT /{m}\n> X-Ct: {ct}\n> {\"m\":\"{m}\",\"l\":{l},\"q\":\"{quote}\"}\n< 200\n" +
			`< {"uri":"/scim/v2/GET","sent":{"m":"GET","l":{"n":2},"q":"{quote}"},"header":{"X-Ct":["{ct}"]}}`},
		{"the base", "> PUT /a\n> [\"{base}\"]\n< 200\n< $.sent = [\"http://scim.test/scim/v2\"]"},
		{"no JSON", "> GET /text\n< 200\n! \"other\""},
		{"carriage returns", "> GET /a\r\n< 200\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := failures(t, test.script); got != "" {
				t.Errorf("the script\n%s\nfails:\n%s", test.script, got)
			}
		})
	}
}

// TestScriptsThatDoNotHold is about what a runner must notice, and where it says
// that is.
func TestScriptsThatDoNotHold(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"status", "# Title\n> GET /a\n< 404\n< {\"never\":\"looked at\"}", "t.txt:2: GET /a: got status 200, want 404"},
		{"several statuses", "> GET /a\n< 404 405", "t.txt:1: GET /a: got status 200, want 404 405"},
		{"a member", "> GET /a\n< 200\n< {\"method\":\"PUT\"}", `t.txt:3: GET /a: $.method: got "GET", want "PUT"`},
		{"a missing member", "> GET /a\n< 200\n< {\"x\":1}", `t.txt:3: GET /a: $.x: got null, want 1`},
		{"a member that ought to be missing", "> GET /a\n< 200\n< {\"list\":null}", `t.txt:3: GET /a: $.list: got [{"n":1,"s":"a"},{"n":2},{"n":3}], want null`},
		{"an object", "> GET /a\n< 200\n< {\"method\":{\"a\":1}}", `t.txt:3: GET /a: $.method: got "GET", want {"a":1}`},
		{"an array", "> GET /a\n< 200\n< {\"method\":[]}", `t.txt:3: GET /a: $.method: got "GET", want []`},
		{"a type", "> GET /a\n< 200\n< {\"method\":true}", `t.txt:3: GET /a: $.method: got "GET", want true`},
		{"true is not 1", "> PUT /a\n> [true,1]\n< 200\n< $.sent = [1,true]", `t.txt:4: PUT /a: $.sent: got [true,1], want [1,true]`},
		{"an element", "> GET /a\n< 200\n< {\"list\":[{\"n\":1},{\"n\":1},{\"n\":3}]}", `t.txt:3: GET /a: $.list: no element of its own, of 3, for {"n":1}`},
		{"the only element", "> PUT /a\n> [{\"a\":1}]\n< 200\n< {\"sent\":[{\"a\":2}]}", `t.txt:4: PUT /a: $.sent[0].a: got 1, want 2`},
		{"an element too many", "> GET /a\n< 200\n< {\"list\":[{\"n\":3},{\"n\":1}]}", `t.txt:3: GET /a: $.list: got 3 elements, want 2; one too many is {"n":2}`},
		{"anything where there should be nothing", "> GET /a\n< 200\n< {\"list\":[]}", `t.txt:3: GET /a: $.list: got 3 elements, want 0; one too many is {"n":1,"s":"a"}`},
		{"an expression", "> GET /a\n< 200\n< {\"method\":\"/G/\"}", `t.txt:3: GET /a: $.method: got "GET", want "/G/"`},
		{"an expression on a number", "> GET /a\n< 200\n< {\"list\":[{\"n\":\"/1/\"},\"...\"]}", `t.txt:3: GET /a: $.list: no element of its own, of 3, for {"n":"/1/"}`},
		{"an expression that is none", "> GET /a\n< 200\n< {\"method\":\"/[/\"}\n< Content-Type: /[/", "t.txt:3: GET /a: $.method: error parsing regexp: missing closing ]: `[)$`\nt.txt:4: GET /a: error parsing regexp: missing closing ]: `[)$`"},
		{"a path", "> GET /a\n< 200\n< $.list[*].n = [3,2,1]", `t.txt:3: GET /a: $.list[*].n: got [1,2,3], want [3,2,1]`},
		{"a name in quotes", "> GET /a\n< 200\n< $.header[\"X:y\"] = 1\n< {\"header\":{\"X:y\":1}}",
			"t.txt:3: GET /a: $.header[\"X:y\"]: got null, want 1\nt.txt:4: GET /a: $.header[\"X:y\"]: got null, want 1"},
		{"there is something", "> GET /a\n< 200\n! $.method\n! $.list[*].s\n! $.none", "t.txt:3: GET /a: $.method: got \"GET\", want nothing\n" +
			"t.txt:4: GET /a: $.list[*].s: got [\"a\"], want nothing\nt.txt:5: GET /a: $.none: got null, want nothing"},
		{"it is that", "> GET /a\n< 200\n! $.method = \"GET\"", `t.txt:3: GET /a: $.method: got "GET", want anything else`},
		{"the header is there", "> GET /a\n< 200\n! Content-Type", "t.txt:3: GET /a: got the header Content-Type: application/json, want none"},
		{"the text is there", "> GET /a\n< 200\n! \"GET\"", `t.txt:3: GET /a: the body contains "GET"`},
		{"a header", "> GET /a\n< 200\n< Content-Type: text/html\n< X-None: a\n< X-Two: /one/",
			"t.txt:3: GET /a: got Content-Type: \"application/json\", want \"text/html\"\nt.txt:4: GET /a: got X-None: \"\", want \"a\"\nt.txt:5: GET /a: got X-Two: \"one, two\", want \"/one/\""},
		{"no JSON", "> GET /text\n< 200\n< {}\n! $.a", "t.txt:3: GET /text: the body is not JSON\nt.txt:4: GET /text: the body is not JSON"},
		{"nothing to save", "> GET /a\n< 200\n= x $.x\n= y X-None", "t.txt:3: GET /a: there is nothing at $.x to save\nt.txt:4: GET /a: there is no header X-None to save"},
		{"nothing saved", "> GET /{x}\n< 200\n> PUT /a\n> {\"a\":\"{y}\"}\n< 200\n> GET /a\n> A: {z}\n< 200\n> GET /a\n< 200\n< {\"a\":\"{w}\"}\n\n@ B: {v}\n> GET /a\n< 200",
			"t.txt:1: GET /{x}: nothing is saved as {x}\nt.txt:3: PUT /a: nothing is saved as {y}\nt.txt:6: GET /a: nothing is saved as {z}\n" +
				"t.txt:11: GET /a: nothing is saved as {w}\nt.txt:14: GET /a: nothing is saved as {v}"},
		{"all that is wrong", "> GET /a\n< 200\n< {\"method\":\"PUT\"}\n! $.method\n\n> GET /b\n< 201",
			"t.txt:3: GET /a: $.method: got \"GET\", want \"PUT\"\nt.txt:4: GET /a: $.method: got \"GET\", want nothing\nt.txt:6: GET /b: got status 200, want 201"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, failures(t, test.script)); diff != "" {
				t.Errorf("the script\n%s\nfails differently (-want +got):\n%s", test.script, diff)
			}
		})
	}
}

func TestFailureSaysWhatCameBack(t *testing.T) {
	s, err := Parse("t.txt", []byte("# What\n# it is.\n> GET /a\n< 404"))
	if err != nil {
		t.Fatal(err)
	}
	err = (&Runner{URL: "http://scim.test/scim/v2", Client: Direct(echo)}).Play(t.Context(), s)
	f, ok := errors.AsType[*Failure](err)
	if !ok || f.Title != "What\nit is." || f.Step != "GET /a" || !strings.Contains(f.Error(), "\n\tthe response: 200 {") {
		t.Errorf("got %#v", err)
	}
}

func TestScriptsThatAreNone(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"a sign", "? what", `t.txt:1: expected a line beginning with "#", "@", ">", "<", "!" or "=" and a space`},
		{"no space", "# a\n>GET /a", `t.txt:2: expected a line beginning with "#", "@", ">", "<", "!" or "=" and a space`},
		{"no request", "< 200", "t.txt:1: a request must come first"},
		{"no request after a space", "> GET /a\n< 200\n\n< {}", "t.txt:4: a request must come first"},
		{"no path", "> GET", "t.txt:1: expected a method and a path that begins with a slash"},
		{"no slash", "> GET a", "t.txt:1: expected a method and a path that begins with a slash"},
		{"no status", "> GET /a\n", "t.txt:1: no status follows this request"},
		{"no number", "> GET /a\n< OK", "t.txt:2: expected a status such as 200, or several"},
		{"an empty status", "> GET /a\n< ", "t.txt:2: expected a status such as 200, or several"},
		{"a status that is none", "> GET /a\n< 20", "t.txt:2: expected a status such as 200, or several"},
		{"no header for all", "@ nothing", "t.txt:1: expected a header"},
		{"not JSON", "> GET /a\n< 200\n< {\"a\":}", "t.txt:3: this is not JSON"},
		{"JSON without an end", "> GET /a\n< 200\n< {\"a\":\n< 1", "t.txt:3: this is not JSON"},
		{"not JSON after a path", "> GET /a\n< 200\n< $.a = b", "t.txt:3: this is not JSON"},
		{"a path alone", "> GET /a\n< 200\n< $.a", `t.txt:3: expected " = " and JSON after the path`},
		{"a path that is none", "> GET /a\n< 200\n< $..a = 1", `t.txt:3: $..a: expected $ followed by .name, ["name"], [0] or [*]`},
		{"a path that is none, refused", "> GET /a\n< 200\n! $a", `t.txt:3: $a: expected $ followed by .name, ["name"], [0] or [*]`},
		{"neither header nor JSON", "> GET /a\n< 200\n< what", "t.txt:3: expected a header, a path or JSON"},
		{"a refusal of nothing", "> GET /a\n< 200\n! what else", "t.txt:3: expected the name of a header, a path, or a text in quotes"},
		{"a text without an end", "> GET /a\n< 200\n! \"what", "t.txt:3: expected a JSON string"},
		{"a name", "> GET /a\n< 200\n= 1 $.a", "t.txt:3: expected a name made of letters and digits, and what to save under it"},
		{"nothing to save", "> GET /a\n< 200\n= a", "t.txt:3: expected a name made of letters and digits, and what to save under it"},
		{"not to be saved", "> GET /a\n< 200\n= a what else", "t.txt:3: expected a path or the name of a header"},
		{"saved from no path", "> GET /a\n< 200\n= a $[", `t.txt:3: $[: expected $ followed by .name, ["name"], [0] or [*]`},
		{"an index beyond all numbers", "> GET /a\n< 200\n= a $[99999999999999999999]", `t.txt:3: strconv.Atoi: parsing "99999999999999999999": value out of range`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("t.txt", []byte(test.script))
			if err == nil || err.Error() != test.want {
				t.Errorf("Parse(%q):\ngot  %v\nwant %s", test.script, err, test.want)
			}
		})
	}
}

// TestPlacing is about elements that fit in several places: each must find one of
// its own if there is any way.
func TestPlacing(t *testing.T) {
	for _, test := range []struct {
		want, got string
		ok        bool
	}{
		{`[{"a":1},{"a":1,"b":2}]`, `[{"a":1,"b":2},{"a":1,"b":3}]`, true},
		{`[{"a":1,"b":2},{"a":1}]`, `[{"a":1,"b":2},{"a":1,"b":3}]`, true},
		{`[{},{"a":1},{"a":1,"b":1}]`, `[{"a":1,"b":1},{"a":1},{"c":1}]`, true},
		{`[{"a":1,"b":1},{"a":1},{}]`, `[{"a":1,"b":1},{"a":1},{"c":1}]`, true},
		{`[{"a":1},{"a":1}]`, `[{"a":1},{"a":2}]`, false},
		{`["...",{"a":1},{"a":1}]`, `[{"a":1},{"a":2},{"a":1}]`, true},
		{`["x","x"]`, `["x"]`, false},
		{`["..."]`, `[]`, true},
	} {
		want, err := decode([]byte(test.want))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode([]byte(test.got))
		if err != nil {
			t.Fatal(err)
		}
		if msg := contains(want, got, "$"); (msg == "") != test.ok {
			t.Errorf("contains(%s, %s) = %q", test.want, test.got, msg)
		}
	}
}

func TestDecodeTakesOneValue(t *testing.T) {
	for _, text := range []string{"", "{", `{} {}`, `{}]`} {
		if v, err := decode([]byte(text)); err == nil {
			t.Errorf("decode(%q) = %v, want an error", text, v)
		}
	}
}

// TestCleaning: what a script created is deleted, the newest first, with the
// credentials it was created with.
func TestCleaning(t *testing.T) {
	var deleted []string
	n := 0
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			n++
			location := fmt.Sprintf("http://scim.test/scim/v2/Things/%d", n)
			if n == 3 {
				location = "http://elsewhere.test/Things/3"
			}
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusCreated)
		case http.MethodDelete:
			deleted = append(deleted, r.URL.Path+" "+r.Header.Get("Authorization"))
			w.WriteHeader(map[string]int{"/scim/v2/Things/1": 404, "/scim/v2/Things/2": 403, "/scim/v2/Things/4": 204}[r.URL.Path])
		}
	})
	s, err := Parse("t.txt", []byte("> POST /Things\n< 201\n> POST /Things\n> Authorization:\n< 201\n> POST /Things\n< 201\n> POST /Things\n> Authorization: Bearer other\n< 201"))
	if err != nil {
		t.Fatal(err)
	}
	err = (&Runner{URL: "http://scim.test/scim/v2", Token: "tok", Client: Direct(h)}).Play(t.Context(), s)
	want := []string{"/scim/v2/Things/4 Bearer other", "/scim/v2/Things/2 ", "/scim/v2/Things/1 Bearer tok"}
	if diff := cmp.Diff(want, deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
	if err == nil || err.Error() != "t.txt: cannot delete what it created: got status 403" {
		t.Errorf("Play: %v", err)
	}
}

func TestServersThatFail(t *testing.T) {
	s, err := Parse("t.txt", []byte("> GET /a\n< 200"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(*Exchange) error { return errors.New("not as it should be") }
	for name, r := range map[string]*Runner{
		"the handler panicked: oh": {Client: Direct(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") }))},
		"not as it should be":      {Client: Direct(echo), Check: check},
		"missing protocol scheme":  {Client: Direct(echo), URL: ":"},
		"got status 302":           {Client: Direct(http.RedirectHandler("/b", http.StatusFound))},
		"unexpected EOF": {Client: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader("{"), failing{}))}, nil
		})}},
	} {
		if r.URL == "" {
			r.URL = "http://scim.test/scim/v2"
		}
		if err := r.Play(t.Context(), s); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestRun(t *testing.T) {
	played := 0
	Run(t, fstest.MapFS{
		"a.txt":      {Data: []byte("> GET /a\n< 200")},
		"more/b.txt": {Data: []byte("> GET /b\n< 200")},
		"c.md":       {Data: []byte("no script")},
	}, func(*testing.T) *Runner {
		played++
		return &Runner{URL: "http://scim.test/scim/v2", Client: Direct(echo)}
	})
	if played != 2 {
		t.Errorf("played %d scripts, want 2", played)
	}
}
