package hrfile

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

func userType(t testing.TB) *schemas.ResourceType {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	return set.Type("User")
}

const two = "match: userName\nattributes:\n  - {column: a, to: userName}\n  - {column: b, to: title}\n"

func TestRead(t *testing.T) {
	long := strings.Repeat("x", maxRecord)
	for _, test := range []struct {
		name, file string
		json       bool
		want       []string
	}{
		{"a byte order mark, and lines that end with CR LF", "\ufeffa,b\r\n1,x\r\n\r\n2,y\r\n", false, []string{"2 1 x", "4 2 y"}},
		{"a line break in quotes", "a,b\n1,\"x\ny\"\n2,z", false, []string{`2 1 x\ny`, "4 2 z"}},
		{"quotes without an end", "a,b\n1,\"x\n2,y\n3,z\n", false, []string{"2 " + string(errQuotes), "3 2 y", "4 3 z"}},
		{"quotes that one row opens and another closes", "a,b\n1,x\"\n2,y\"\n3,z\n", false, []string{"2 " + string(errQuotes), "3 " + string(errQuotes), "4 3 z"}},
		{"a long cell", "a,b\n1," + long + "\n2,y\n", false, []string{"2 " + string(errLong), "3 2 y"}},
		{"a long line in quotes", "a,b\n1,\"\n" + long + "\n2,y\n", false, []string{"2 " + string(errQuotes), "3 " + string(errLong), "4 2 y"}},
		{"cells that are missing", "a,b\n1\n2,y\n", false, []string{"2 the record has 1 cells, and there are 2 columns", "3 2 y"}},
		{"objects", "{\"a\":1,\"b\":true}\n\n{\"a\":\"2\",\"b\":null,\"c\":[1,{}]}\n", true, []string{"1 1 true", "3 2 "}},
		{"what has parts", "{\"a\":1,\"b\":[\"x\"]}\n{\"a\":2,\"b\":{\"c\":1}}\n", true, []string{"1 1 " + errParts.Error(), "2 2 " + errParts.Error()}},
		{"a name twice, once in parts", "{\"a\":1,\"b\":{\"c\":1},\"b.c\":2}\n{\"a\":3}\n", true, []string{"1 " + errObject.Error(), "2 3 "}},
		{"a name twice", "{\"a\":1,\"a\":2}\n{\"a\":3}\n", true, []string{"1 the line is not one object of JSON in UTF-8 whose names are all different", "2 3 "}},
		{"bytes that are not UTF-8", "{\"a\":\"\xff\"}\n{\"a\":3}\n", true, []string{"1 the line is not one object of JSON in UTF-8 whose names are all different", "2 3 "}},
		{"two objects, and none", "{} {}\n[]\n{\"a\":3}\n", true, []string{"1 there is something behind the object", "2 the line is not an object", "3 3 "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseMapping([]byte(two), userType(t))
			if err != nil {
				t.Fatal(err)
			}
			in, err := open(strings.NewReader(test.file), m, test.json)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for {
				r, err := in.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.err != nil {
					got = append(got, fmt.Sprintf("%d %v", r.line, r.err))
					continue
				}
				a, err := r.cell("a")
				if err != nil {
					t.Fatal(err)
				}
				b, err := r.cell("b")
				if err != nil {
					b = err.Error()
				}
				got = append(got, fmt.Sprintf("%d %s %s", r.line, a, strings.ReplaceAll(b, "\n", `\n`)))
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("rows (-want +got):\n%s", d)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{"", "the line with the names of the columns: the file is empty"},
		{"\xff\xfeN\x00u\x00", "the line with the names of the columns is not in UTF-8: convert the file to UTF-8"},
		{"a;b\n", `the file has no column "a"; are its columns separated by ",", as the mapping says?`},
		{"a,b,a\n", `the file has two columns "a"`},
	} {
		m, err := ParseMapping([]byte(two), userType(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(strings.NewReader(test.file), m, false); err == nil || err.Error() != test.want {
			t.Errorf("open(%q): %v; want %s", test.file, err, test.want)
		}
	}
}

func TestMapping(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"{column: x, to: meta.created}", "line 5: meta.created cannot be written by an import"},
		{"{column: x, to: emails.value}", `line 5: emails.value has several values: write which, like emails[type eq "work"].value`},
		{"{column: x, to: name}", "line 5: name has parts: name one of them"},
		{"{column: x, value: y, to: title}", "line 5: title: name either a column or a value"},
		{"{column: x, to: userName}", "line 5: userName has its value from line 3 already"},
		{"{column: x, to: active, true: [Yes], false: [yes]}", "line 5: true and false: a word cannot be both"},
		{"{value: maybe, to: active}", "line 5: value: the value is neither a word for true nor one for false"},
		{"{column: x, to: nickName, date: dd.mm.yyyy}", "line 5: date: write how the 2nd of January 2006 looks in the file, like 02.01.2006"},
		{"{value: x, to: manager}", "line 5: urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value: managers come from a column"},
		{"{column: x, to: 'title[type eq \"work\"].value'}", `line 5: title[type eq "work"].value is no attribute of the elements of a user's attribute`},
		{"{column: x, to: password}", "line 5: passwords are not imported"},
	} {
		_, err := ParseMapping([]byte(two+"  - "+test.line+"\n"), userType(t))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.line, err, test.want)
		}
	}
	for in, want := range map[string]string{
		"id,mail\n1,ana\n":                   "line 1: expected match, attributes and perhaps delimiter and absent",
		"match: userName\nmap: {}\n":         `line 2: unknown name "map"; valid are match, delimiter, attributes, absent`,
		"attributes:\n  column: x\n":         "line 2: attributes: expected a list, with a line like - {column: Login, to: userName} for each",
		"attributes: 5\n":                    "line 1: attributes: expected a list, with a line like - {column: Login, to: userName} for each",
		two + "absent: disable\n":            "line 5: absent: expected do and perhaps stopAbove",
		two + "absent: {stop: 5}\n":          `line 5: unknown name "stop"; valid are do, stopAbove`,
		two + "absent: {stopAbove: many}\n":  "line 5: absent: stopAbove: expected a percentage",
		two + "absent: {stopAbove: 100.5}\n": "line 5: absent: stopAbove: expected a percentage",
	} {
		if _, err := ParseMapping([]byte(in), userType(t)); err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", in, err, want)
		}
	}
}

func TestConvert(t *testing.T) {
	for _, test := range []struct {
		line, cell string
		want       any
		err        string
	}{
		{"to: nickName, do: [trim, lower]", "  AdA ", "ada", ""},
		{"to: nickName", "", nil, ""},
		{"to: nickName", "\xff", nil, "the value is not UTF-8"},
		{"to: nickName", "a\x00b", nil, "the value has the character U+0000"},
		{"to: nickName, date: 02.01.2006", "24.12.2026", "2026-12-24", ""},
		{"to: nickName, date: 02.01.2006", "2026-12-24", nil, "the value is no date like 02.01.2006"},
		{"to: active, true: [ja], false: [nej]", "JA", true, ""},
		{"to: active", "false", false, ""},
		{"to: active, do: [trim]", " ", true, ""},
	} {
		m, err := ParseMapping([]byte(two+"  - {column: x, "+test.line+"}\n"), userType(t))
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.fields[2].convert(test.cell)
		if text := fmt.Sprint(err); got != test.want || err == nil && test.err != "" || err != nil && text != test.err {
			t.Errorf("convert(%q) with %s = %v, %v; want %v, %s", test.cell, test.line, got, err, test.want, test.err)
		}
	}
}
