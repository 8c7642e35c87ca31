package mongo

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/roster-id/roster/storage"
)

// TestKey: different parts never make the same _id, and what belongs to one
// tenant begins alike.
func TestKey(t *testing.T) {
	parts := []string{"", "a", "/", "a/", "/a", "%", "%2F", "a%2Fb", "a/b", "m", "0"}
	seen := map[string][3]string{}
	for _, a := range parts {
		for _, b := range parts {
			for _, c := range parts {
				k := key(a, b, c)
				if other, ok := seen[k]; ok {
					t.Errorf("key(%q) and key(%q) are both %q", [3]string{a, b, c}, other, k)
				}
				seen[k] = [3]string{a, b, c}
				if !strings.HasPrefix(k, key(a, "")) {
					t.Errorf("key(%q, %q, %q) is %q, which does not begin with %q", a, b, c, k, key(a, ""))
				}
			}
		}
	}
	for _, group := range []string{"", "g", "g/h"} {
		bounds, _ := within("t", rowsOf("t", group), "")[1].Value.(bson.D)
		lo, _ := bounds[0].Value.(string)
		hi, _ := bounds[1].Value.(string)
		for _, other := range []string{"", "g", "g/h", "g0", "h"} {
			for _, member := range []string{"a", "0", "\U0010ffff"} {
				id := rowsOf("t", other) + member
				if inside := lo < id && id < hi; inside != (group == other) {
					t.Errorf("the membership of %q in %q is among those of %q: %v", member, other, group, inside)
				}
			}
		}
	}
}

// TestShadowLeavesNothingEmpty: an object or array without content is not there,
// and the elements of an array are numbered without a gap.
func TestShadowLeavesNothingEmpty(t *testing.T) {
	w := newShadow()
	w.Begin("gone", false)
	w.Begin("too", true)
	w.End()
	w.End()
	w.Begin("list", true)
	w.Begin("", false)
	w.End()
	w.Text("", "a")
	w.Begin("", false)
	w.Int("n", 1)
	w.End()
	w.End()
	w.Text(storage.SafeName("urn:x:2.0:User"), "dot")
	w.Text(storage.SafeName("$ref"), "dollar")
	raw := w.bytes()
	if err := raw.Validate(); err != nil {
		t.Fatal(err)
	}
	const want = `{"list": ["a",{"n": {"$numberLong":"1"}}],"urn:x:2%2E0:User": "dot","%24ref": "dollar"}`
	if got := raw.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
