package scim_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// BenchmarkHandler is what a request costs the server, without the network.
func BenchmarkHandler(b *testing.B) {
	s := testserver.Start(b, testserver.Options{})
	ids := s.Users(b, 1000)
	ask := func(b *testing.B, status int, method, path, body string) {
		req := httptest.NewRequestWithContext(b.Context(), method, testserver.Base+path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+s.Token)
		if body == "" {
			req.Body = http.NoBody
		} else {
			req.Header.Set("Content-Type", "application/scim+json")
		}
		w := httptest.NewRecorder()
		if s.Handler.ServeHTTP(w, req); w.Code != status {
			b.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	var next atomic.Uint64
	for _, c := range []struct {
		name string
		do   func(*testing.B)
	}{
		{"Get", func(b *testing.B) { ask(b, 200, "GET", "/Users/"+ids[next.Add(1)%1000], "") }},
		{"List", func(b *testing.B) { ask(b, 200, "GET", "/Users?count=20", "") }},
		{"Filter", func(b *testing.B) {
			ask(b, 200, "GET", fmt.Sprintf("/Users?filter=userName+eq+%%22u%d%%22", next.Add(1)%1000), "")
		}},
		{"Create", func(b *testing.B) { ask(b, 201, "POST", "/Users", benchmarkUser(next.Add(1)+1e6)) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.do(b)
			}
		})
	}
}
