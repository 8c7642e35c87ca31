package storage

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/schemas"
)

func TestIndexValue(t *testing.T) {
	long := strings.Repeat("a", maxIndexed)
	for _, s := range []string{"", "ana", "é😀", long} {
		if got := IndexValue(s); got != s {
			t.Errorf("IndexValue(%q) = %q, want it unchanged", s, got)
		}
	}
	seen := map[string]string{}
	for shift := range 5 { // cut the text at every byte of its letters
		for _, letter := range []string{"a", "é", "한", "😀", "😀é"} {
			for _, end := range []string{"", "x", "y"} {
				s := strings.Repeat("x", shift) + strings.Repeat(letter, 250) + end
				got := IndexValue(s)
				if !utf8.ValidString(got) || len(got) > maxIndexed {
					t.Errorf("IndexValue of %d bytes of %q after %d others is %q", len(s), letter, shift, got)
				}
				if other, ok := seen[got]; ok && other != s {
					t.Errorf("two texts have the index value %q", got)
				}
				seen[got] = s
			}
		}
	}
}

func TestSafeName(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"userName", "$ref", "urn:x:2.0:User", "urn:x:2%2E0:User", "a.b", "a%b", "%24ref", "a$b", "%", "."} {
		safe := SafeName(name)
		if strings.ContainsAny(safe, ".$") {
			t.Errorf("SafeName(%q) = %q", name, safe)
		}
		if other, ok := seen[safe]; ok {
			t.Errorf("%q and %q are both called %q", name, other, safe)
		}
		seen[safe] = name
	}
	if got := SafeName("userName"); got != "userName" {
		t.Errorf("SafeName(userName) = %q", got)
	}
}

// TestTicks: times that differ for ParseTime have different numbers in the same
// order, in all the years there are.
func TestTicks(t *testing.T) {
	last := int64(math.MinInt64)
	for _, text := range []string{"0001-01-01T00:00:00Z", "1969-12-31T23:59:59.9999998Z", "1969-12-31T23:59:59.9999999Z", "1970-01-01T00:00:00Z",
		"2026-03-01T12:00:00.987Z", "2026-03-01T12:00:00.9870001Z", "2026-03-01T12:00:00.987001Z", "9999-12-31T23:59:59.9999999Z"} {
		at, ok := schemas.ParseTime(text)
		if !ok {
			t.Fatal(text)
		}
		n := Ticks(at)
		if n <= last {
			t.Errorf("%s is %d after %d", text, n, last)
		}
		last = n
	}
}

func TestDeriveKeys(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	unique, equal := Derive(set.Type("User"), map[string]any{
		"userName": " ＡＮＡ ", "externalId": "Ext", "displayName": "Ana Ng", "title": "x",
		"emails": []any{map[string]any{"value": "A@X"}, map[string]any{"value": "a@x", "type": "work"}, map[string]any{"type": "home"}},
	}, NoShadow{})
	if diff := cmp.Diff([]Key{{"userName", "ana"}}, unique); diff != "" {
		t.Errorf("unique keys (-want +got):\n%s", diff)
	}
	want := []Key{{"displayName", "ana ng"}, {"emails.value", "a@x"}, {"externalId", "Ext"}}
	order := cmpopts.SortSlices(func(a, b Key) bool { return a.Path < b.Path })
	if diff := cmp.Diff(want, equal, order); diff != "" {
		t.Errorf("other keys (-want +got):\n%s", diff)
	}
	unique, equal = Derive(set.Type("Group"), map[string]any{"displayName": "Staff", "members": []any{map[string]any{"value": "x"}}}, NoShadow{})
	if diff := cmp.Diff([]Key{{"displayName", "staff"}}, unique); diff != "" || len(equal) > 0 {
		t.Errorf("a group has %v and %v (-want +got):\n%s", unique, equal, diff)
	}
}
