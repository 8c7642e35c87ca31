package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

func TestEndings(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	token := func(id string, created, used, expires time.Duration) *storage.Token {
		k := &storage.Token{ID: id, Created: now.Add(created), Expires: now.Add(expires)}
		if used != 0 {
			k.LastUsed = now.Add(used)
		}
		return k
	}
	for _, test := range []struct {
		name    string
		tokens  []*storage.Token
		overlap time.Duration
		want    string
	}{
		{"none", nil, day, ""},
		{"one", []*storage.Token{token("a", -day, -1, 9*day)}, day, "a+24h0m0s"},
		{"no overlap", []*storage.Token{token("a", -day, -1, 9*day)}, 0, "a+0s"},
		{"ends sooner anyway", []*storage.Token{token("a", -day, -1, time.Hour)}, day, "a+1h0m0s"},
		{"expired", []*storage.Token{token("a", -day, -1, 0)}, day, ""},
		{"used and never used", []*storage.Token{token("a", -2*day, -1, 9*day), token("b", -day, 0, 9*day)}, day, "a+24h0m0s b+0s"},
		{"both used", []*storage.Token{token("a", -2*day, -2, 9*day), token("b", -day, -1, 9*day)}, day, "b+24h0m0s a+0s"},
		{"neither used", []*storage.Token{token("a", -2*day, 0, 9*day), token("b", -day, 0, 9*day)}, day, "b+24h0m0s a+0s"},
		{"three", []*storage.Token{token("a", -3, 0, day), token("b", -2, 0, day), token("c", -1, 0, day)}, time.Hour, "c+1h0m0s b+0s a+0s"},
	} {
		var got []string
		for _, e := range endings(test.tokens, now, test.overlap) {
			got = append(got, fmt.Sprintf("%s+%v", e.Token, e.At.Sub(now)))
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: endings = %q; want %q", test.name, s, test.want)
		}
	}
}
