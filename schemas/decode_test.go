package schemas_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/roster-id/roster/schemas"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       any
	}{
		{"string", `"a"`, "a"},
		{"empty string", `""`, ""},
		{"escapes", `"\"\\\/\b\f\n\r\tA\u00e5"`, "\"\\/\b\f\n\r\tAå"},
		{"surrogate pair", `"\ud83d\ude00"`, "😀"},
		{"true", `true`, true},
		{"false", `false`, false},
		{"null", `null`, nil},
		{"numbers keep their text", `[0, -0, 1.50, 1e400, 12345678901234567890]`, []any{
			json.Number("0"), json.Number("-0"), json.Number("1.50"), json.Number("1e400"), json.Number("12345678901234567890")}},
		{"empty object", `{}`, map[string]any{}},
		{"empty array", ` [ ] `, []any{}},
		{"nested", `{"a":[{"b":null},[]],"c":{}}`, map[string]any{
			"a": []any{map[string]any{"b": nil}, []any{}}, "c": map[string]any{}}},
		{"escaped name", `{"\u0061":1}`, map[string]any{"a": json.Number("1")}},
		{"same name in different objects", `{"a":{"a":1},"b":[{"a":1},{"A":2}]}`, map[string]any{
			"a": map[string]any{"a": json.Number("1")},
			"b": []any{map[string]any{"a": json.Number("1")}, map[string]any{"A": json.Number("2")}}}},
		{"names databases give a meaning are only names", `{"__proto__":1,"$set":2,"a.b":3,"":4}`, map[string]any{
			"__proto__": json.Number("1"), "$set": json.Number("2"), "a.b": json.Number("3"), "": json.Number("4")}},
		{"Kelvin sign is not k", "{\"k\":1,\"\u212a\":2}", map[string]any{"k": json.Number("1"), "\u212a": json.Number("2")}},
		{"long s is not s", "{\"s\":1,\"ſ\":2}", map[string]any{"s": json.Number("1"), "ſ": json.Number("2")}},
		{"only ASCII letters fold", `{"å":1,"Å":2}`, map[string]any{"å": json.Number("1"), "Å": json.Number("2")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := schemas.Decode([]byte(c.body), schemas.Limits{})
			if err != nil {
				t.Fatalf("Decode(%s): %v", c.body, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("Decode(%s) (-want +got):\n%s", c.body, diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	const (
		twice = "an attribute is given twice (names are compared without regard to case)"
		early = "the JSON ends too early"
		bad   = "not valid JSON"
		nul   = "the character U+0000 is not allowed"
		utf   = "invalid UTF-8"
		more  = "unexpected data after the JSON value"
	)
	for _, c := range []struct{ name, body, want string }{
		{"nothing", ``, early},
		{"white space", " \n", early},
		{"byte order mark", "\ufeff{}", "a byte order mark"},
		{"single quotes", `{'a':1}`, bad},
		{"bare name", `{a:1}`, bad},
		{"trailing comma", `{"a":1,}`, bad},
		{"comment", `{} // done`, bad},
		{"NaN", `NaN`, bad},
		{"leading zero", `[01]`, bad},
		{"mismatched brackets", `[1}`, bad},
		{"raw control character", "\"a\nb\"", bad},
		{"raw U+0000", "\"a\x00b\"", bad},
		{"a literal cut short", `tru`, early},

		{"two values", `{} {}`, more},
		{"two values without space", `1"a"`, more},
		{"a bracket too many", `{}}`, bad},

		{"U+0000 in a value", `{"a":"x\u0000"}`, nul},
		{"U+0000 in a name", `{"a\u0000":1}`, nul},

		{"invalid UTF-8 in a value", "{\"a\":\"\xff\"}", utf},
		{"invalid UTF-8 in a name", "{\"\xc3\x28\":1}", utf},
		{"overlong slash", "\"\xc0\xaf\"", utf},
		{"surrogate as UTF-8", "\"\xed\xa0\x80\"", utf},
		{"text after UTF-8 as a name", `{"UTF-8": x}`, bad},
		{"lone high surrogate", `"\ud800"`, bad},
		{"lone low surrogate", `"\udc00"`, bad},
		{"high surrogate twice", `"\ud800\ud800"`, bad},

		{"the same name", `{"a":1,"a":1}`, twice},
		{"the same name, escaped", `{"a":1,"\u0061":1}`, twice},
		{"names that differ in case", `{"active":true,"ACTIVE":false}`, twice},
		{"URNs that differ in case", `{"urn:a:User":{},"URN:A:user":{}}`, twice},
		{"within a value", `{"emails":[{"value":"a","Value":"b"}]}`, twice},
		{"case next to another script", `{"åB":1,"åb":2}`, twice},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := schemas.Decode([]byte(c.body), schemas.Limits{})
			syntax, ok := errors.AsType[*schemas.SyntaxError](err)
			if !ok {
				t.Fatalf("Decode(%q) = %v, want a *SyntaxError", c.body, err)
			}
			if syntax.Msg != c.want {
				t.Errorf("Decode(%q) says %q, want %q", c.body, syntax.Msg, c.want)
			}
			if syntax.Offset < 0 || syntax.Offset > int64(len(c.body)) {
				t.Errorf("Decode(%q) points at byte %d", c.body, syntax.Offset)
			}
		})
	}
}

// A name given twice is found wherever the two stand in an object of any size,
// small ones being compared pairwise and big ones through a map.
func TestDecodeFindsNamesGivenTwice(t *testing.T) {
	for _, n := range []int{2, 15, 16, 17, 18, 40, 1000} {
		for _, at := range []int{0, n/2 - 1, n - 2} {
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprintf("Name%dK", i)
			}
			body := func() []byte { return []byte(`{"` + strings.Join(names, `":0,"`) + `":0}`) }
			if v, err := schemas.Decode(body(), schemas.Limits{}); err != nil || len(v.(map[string]any)) != n {
				t.Fatalf("%d different names: %v", n, err)
			}
			names[n-1] = strings.ToUpper(names[at])
			if _, err := schemas.Decode(body(), schemas.Limits{}); err == nil {
				t.Errorf("%d names, the last equal to number %d: accepted", n, at)
			}
			names[n-1] = strings.Replace(names[at], "K", "\u212a", 1)
			if _, err := schemas.Decode(body(), schemas.Limits{}); err != nil {
				t.Errorf("%d names, the last like number %d with a Kelvin sign: %v", n, at, err)
			}
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	mixed := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + strings.Repeat("]}", n/2) }
	for _, c := range []struct {
		name, body string
		limits     schemas.Limits
		want       string // empty: accepted
	}{
		{"depth n-1", nest(31), schemas.Limits{Depth: 32}, ""},
		{"depth n", nest(32), schemas.Limits{Depth: 32}, ""},
		{"depth n+1", nest(33), schemas.Limits{Depth: 32}, "nested deeper than 32 levels"},
		{"objects count too", mixed(32), schemas.Limits{Depth: 32}, ""},
		{"objects count too, n+2", mixed(34), schemas.Limits{Depth: 32}, "nested deeper than 32 levels"},
		{"siblings do not add up", "[" + strings.Repeat("[],", 99) + "[]]", schemas.Limits{Depth: 2}, ""},
		{"the tokenizer's own depth", nest(10_000), schemas.Limits{}, ""},
		{"beyond the tokenizer's own depth", nest(10_001), schemas.Limits{}, "not valid JSON"},

		// Brackets, names and values: [ { "a" 1 } ] is six.
		{"tokens n-1", `[{"a":1}]`, schemas.Limits{Tokens: 7}, ""},
		{"tokens n", `[{"a":1}]`, schemas.Limits{Tokens: 6}, ""},
		{"tokens n+1", `[{"a":1}]`, schemas.Limits{Tokens: 5}, "more than 5 JSON values"},
		{"a name too many", `{"a":1,"b":2}`, schemas.Limits{Tokens: 3}, "more than 3 JSON values"},
		{"one token", `1`, schemas.Limits{Tokens: 1}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := schemas.Decode([]byte(c.body), c.limits)
			got := ""
			if syntax, ok := errors.AsType[*schemas.SyntaxError](err); ok {
				got = syntax.Msg
			}
			if got != c.want || (err == nil) != (c.want == "") {
				t.Errorf("Decode(%.20s…, %+v) = %v, want %q", c.body, c.limits, err, c.want)
			}
		})
	}
}

// A body that was cut off is refused wherever the cut is.
func TestDecodeTruncated(t *testing.T) {
	body := typicalUser(t)
	body = body[:strings.LastIndexByte(string(body), '}')+1]
	if _, err := schemas.Decode(body, bodyLimits); err != nil {
		t.Fatal(err)
	}
	for n := range body {
		_, err := schemas.Decode(body[:n], bodyLimits)
		if err == nil {
			t.Fatalf("the first %d bytes are accepted", n)
		}
		if want := "the JSON ends too early"; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the first %d bytes: %v, want %s", n, err, want)
		}
	}
}

// An error never repeats what the client sent: it may be a password.
func TestDecodeErrorsQuoteNothing(t *testing.T) {
	const secret = "hunter2"
	for _, body := range []string{
		`{"` + secret + `":1,"` + secret + `":2}`, `{"password":"` + secret + `" x}`, `["` + secret, `["` + secret + `\u0000"]`,
		`["` + secret + "\xff" + `"]`, `{"` + secret + `" 1}`, secret,
	} {
		_, err := schemas.Decode([]byte(body), bodyLimits)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("Decode(%s) = %v", body, err)
		}
	}
}

// What a decoder kept from one body must not show in the next, be it refused in
// the middle or bigger than what is kept.
func TestDecodeForgets(t *testing.T) {
	want, err := schemas.Decode(typicalUser(t), bodyLimits)
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range []string{`{"a":[{"b":1,`, `[1,2,{"c":"\ud800"}]`, `{"a":` + strings.Repeat(`[`, 40), `[` + strings.Repeat("0,", 5000) + `0]`} {
		schemas.Decode([]byte(before), bodyLimits)
		got, err := schemas.Decode(typicalUser(t), bodyLimits)
		if err != nil {
			t.Fatalf("after %.20s…: %v", before, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %.20s… (-want +got):\n%s", before, diff)
		}
	}
}

// Decoders are used again, but never by two at once.
func TestDecodeConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		body := fmt.Appendf(nil, `{"n":%d,"list":[%d,"s%d",{"n%d":null}]}`, i, i, i, i)
		n := json.Number(strconv.Itoa(i))
		want := object{"n": n, "list": []any{n, "s" + string(n), object{"n" + string(n): nil}}}
		wg.Go(func() {
			for range 200 {
				got, err := schemas.Decode(body, bodyLimits)
				if err != nil || !cmp.Equal(any(want), got) {
					t.Errorf("Decode(%s) = %v, %v", body, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// The tree must not change when the buffer the body came in is used again.
func TestDecodeCopiesTheBody(t *testing.T) {
	body := []byte(`{"name":["value",12]}`)
	got, err := schemas.Decode(body, bodyLimits)
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	if diff := cmp.Diff(map[string]any{"name": []any{"value", json.Number("12")}}, got); diff != "" {
		t.Errorf("after the body was overwritten (-want +got):\n%s", diff)
	}
}

// One mebibyte that is made to cost as much as possible is refused before it
// does: the limit on tokens and depth bounds what is allocated.
func TestDecodeBoundsMemory(t *testing.T) {
	const size = 1 << 20
	fill := func(start, repeat string) []byte {
		return []byte(start + strings.Repeat(repeat, (size-len(start))/len(repeat)))
	}
	for _, c := range []struct {
		name string
		body []byte
		want uint64 // bytes allocated at most
	}{
		{"numbers", fill("[", "0,"), 24 << 20},
		{"arrays inside each other", fill("", "["), 2 << 20},
		{"objects inside each other", fill("", `{"a":`), 2 << 20},
		{"empty arrays", fill("[", "[],"), 24 << 20},
		{"empty objects", fill("[", "{},"), 24 << 20},
		{"names", func() []byte {
			b := []byte(`{"0":0`)
			for i := 1; len(b) < size-20; i++ {
				b = fmt.Appendf(b, `,"%d":0`, i)
			}
			return append(b, '}')
		}(), 24 << 20},
		{"one string", []byte(`"` + strings.Repeat("a", size-2) + `"`), 4 << 20},
		{"one string of escapes", []byte(`"` + strings.Repeat(`\u00e5`, (size-2)/6) + `"`), 4 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := schemas.Decode(c.body, bodyLimits)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > c.want {
				t.Errorf("allocated %d KiB, want at most %d", got>>10, c.want>>10)
			}
			if err != nil && !strings.Contains(err.Error(), "more than 100000 JSON values") && !strings.Contains(err.Error(), "nested deeper than 32") {
				t.Error(err)
			}
		})
	}
}

// Strings share the copy of the body, so what a body costs is its containers.
func TestDecodeAllocations(t *testing.T) {
	body := typicalUser(t)
	if got := testing.AllocsPerRun(100, func() { schemas.Decode(body, bodyLimits) }); got > 70 {
		t.Errorf("Decode of a user: %v allocations, want at most 70", got)
	}
}
