package patch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/roster-id/roster/schemas"
)

func benchmark(b *testing.B, rt *schemas.ResourceType, before, ops string) {
	attrs, list := tree(b, rt, before), message(b, ops, lenient)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Apply(rt, attrs, list, lenient); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyScalar(b *testing.B) {
	benchmark(b, user, fullUser, `{"op":"replace","path":"active","value":false}`)
}

func BenchmarkApplyValuePath(b *testing.B) {
	benchmark(b, user, fullUser, `{"op":"replace","path":"emails[type eq \"work\"].value","value":"b@example.com"}`)
}

func BenchmarkApplyPathless(b *testing.B) {
	benchmark(b, user, fullUser, `{"op":"replace","value":{"displayName":"A","name.givenName":"B","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department":"C","active":true}}`)
}

// BenchmarkApplyMembers is one request that fills a group.
func BenchmarkApplyMembers(b *testing.B) {
	for _, n := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprintf(`{"value":"m%d"}`, i)
			}
			benchmark(b, group, `{}`, `{"op":"add","path":"members","value":[`+strings.Join(ids, ",")+`]}`)
		})
	}
}
