package patch

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/roster-id/roster/schemas"
)

// TestAdded adds random elements to lists of several kinds, and a loop over all pairs says
// what is there then (RFC 7644 §3.5.2.1): whatever an element brought is there, and what has
// the type and the value of another is in the one that was first.
func TestAdded(t *testing.T) {
	text := rapid.SampledFrom([]any{"a", "b", "c"})
	number := rapid.SampledFrom([]any{int64(0), int64(1), int64(2)})
	kinds := []struct {
		rt    *schemas.ResourceType
		path  string
		parts map[string]*rapid.Generator[any]
	}{
		{user, "emails", map[string]*rapid.Generator[any]{"value": text, "type": text, "display": text}},
		{user, "addresses", map[string]*rapid.Generator[any]{"type": text, "country": text, "region": text}},
		{device, "taps", map[string]*rapid.Generator[any]{"value": number, "type": text, "note": text}},
		{device, "links", map[string]*rapid.Generator[any]{"type": text}},
	}
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom(kinds).Draw(t, "kind")
		mode := schemas.Mode(rapid.Bool().Draw(t, "strict"))
		attrs := base(k.rt)
		var want []map[string]any
		for range rapid.IntRange(1, 4).Draw(t, "operations") {
			var value []any
			for range rapid.IntRange(1, 40).Draw(t, "elements") {
				element := map[string]any{}
				for _, name := range slices.Sorted(maps.Keys(k.parts)) {
					if rapid.Bool().Draw(t, "has "+name) {
						element[name] = k.parts[name].Draw(t, name)
					}
				}
				value = append(value, element)
				want = added(want, element)
			}
			got, err := Apply(k.rt, attrs, []Operation{{Op: Add, Path: k.path, Value: value}}, mode)
			if err != nil {
				t.Fatal(err)
			}
			attrs = got.Attributes
		}
		var list []map[string]any
		for _, v := range listOf(attrs, k.rt.Top(k.path)) {
			list = append(list, v.(map[string]any))
		}
		if d := cmp.Diff(want, list); d != "" {
			t.Fatalf("%s (-want +got):\n%s", k.path, d)
		}
	})
}

func added(list []map[string]any, element map[string]any) []map[string]any {
	if len(element) == 0 {
		return list
	}
	for _, other := range list {
		if element["value"] == nil && maps.Equal(element, other) {
			return list
		}
		if element["value"] != nil && element["value"] == other["value"] && element["type"] == other["type"] {
			maps.Copy(other, element)
			return list
		}
	}
	return append(list, maps.Clone(element))
}
