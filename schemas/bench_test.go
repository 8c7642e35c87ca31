package schemas_test

import (
	"os"
	"testing"

	"github.com/roster-id/roster/schemas"
)

// typicalUser is what an identity provider sends for one user: about 1 KB.
func typicalUser(tb testing.TB) []byte {
	b, err := os.ReadFile("testdata/user.json")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// bodyLimits are those of a request.
var bodyLimits = schemas.Limits{Depth: 32, Tokens: 100_000}

func userType(tb testing.TB) *schemas.ResourceType {
	set, err := schemas.Load()
	if err != nil {
		tb.Fatal(err)
	}
	return set.Type("User")
}

func BenchmarkDecode(b *testing.B) {
	body := typicalUser(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := schemas.Decode(body, bodyLimits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBind(b *testing.B) {
	user := userType(b)
	raw, err := schemas.Decode(typicalUser(b), bodyLimits)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := user.Bind(raw, schemas.Lenient); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeAndBind is the whole way in.
func BenchmarkDecodeAndBind(b *testing.B) {
	user := userType(b)
	body := typicalUser(b)
	b.ReportAllocs()
	for b.Loop() {
		raw, err := schemas.Decode(body, bodyLimits)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := user.Bind(raw, schemas.Lenient); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDocument(b *testing.B) {
	user := userType(b)
	attrs := bound(b, user, typicalUser(b))
	b.ReportAllocs()
	for b.Loop() {
		user.Document(attrs)
	}
}

func BenchmarkParse(b *testing.B) {
	user := userType(b)
	doc := user.Document(bound(b, user, typicalUser(b)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := user.Parse(doc); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIndexKeys folds every string of a user that is compared folded, as
// deriving an index does.
func BenchmarkIndexKeys(b *testing.B) {
	user := userType(b)
	attrs := bound(b, user, typicalUser(b))
	b.ReportAllocs()
	for b.Loop() {
		foldAll(user.Attributes(), attrs)
	}
}

func foldAll(defs []*schemas.Attribute, attrs map[string]any) (n int) {
	for _, a := range defs {
		switch v := attrs[a.Name].(type) {
		case string:
			n += len(a.Key(v))
		case map[string]any:
			n += foldAll(a.SubAttributes, v)
		case []any:
			for _, e := range v {
				if m, ok := e.(map[string]any); ok {
					n += foldAll(a.SubAttributes, m)
				}
			}
		}
	}
	return n
}

func bound(tb testing.TB, t *schemas.ResourceType, body []byte) map[string]any {
	tb.Helper()
	raw, err := schemas.Decode(body, bodyLimits)
	if err != nil {
		tb.Fatal(err)
	}
	attrs, err := t.Bind(raw, schemas.Strict)
	if err != nil {
		tb.Fatal(err)
	}
	return attrs
}
