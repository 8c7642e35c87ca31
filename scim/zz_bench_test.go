package scim_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

type env struct {
	h   http.Handler
	tok string
	st  *sqlite.Store
	ids []string
	bl  *sqlite.Baseline
}

func userBody(i uint64) []byte {
	x := i * 0x9E3779B97F4A7C15
	return fmt.Appendf(nil, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"externalId":"%016x-ext","userName":"u%016x@harborlight.example","active":true,"displayName":"Maya %x","emails":[{"primary":true,"type":"work","value":"u%016x@harborlight.example"},{"type":"home","value":"h%016x@home.example"}],"name":{"formatted":"Maya Osei","familyName":"Osei","givenName":"Maya"},"phoneNumbers":[{"type":"work","value":"+46 70 555 01 17"},{"type":"mobile","value":"+46 70 555 01 18"}],"preferredLanguage":"en-US","title":"Dockmaster","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"HL-%x","department":"Harbour Office"}}`, x, x, x, x, x, x)
}

func setup(b *testing.B, n int) *env {
	ctx := context.Background()
	st, err := sqlite.Open(ctx, b.TempDir()+"/", sqlite.Options{})
	if err != nil { b.Fatal(err) }
	b.Cleanup(func() { st.Close() })
	set, _ := schemas.Load()
	sec, tok, _ := auth.NewToken(rand.Reader, "c1", time.Now(), time.Hour)
	err = st.Write(ctx, "default", func(tx storage.Tx) error {
		tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "x"})
		if err := tx.CreateClient(&storage.Client{ID: "c1", Name: "x", Scopes: []string{"users", "groups"}, Created: time.Now()}); err != nil { return err }
		return tx.CreateToken(tok)
	})
	if err != nil { b.Fatal(err) }
	p := &scim.Provider{Store: st, Schemas: set, Hasher: auth.NewHasher(), Now: time.Now}
	h := scim.NewHandler(p, func(r *http.Request) string { return "http://h/scim/v2" })
	srv, err := server.New(server.Options{Mounts: []server.Mount{{"/scim/v2", h.Routes()}}, Verifier: auth.NewVerifier(st, time.Now), Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Registry: prometheus.NewRegistry(), Listen: "127.0.0.1:0"})
	if err != nil { b.Fatal(err) }
	e := &env{h: srv.Handler(), tok: sec.Reveal(), st: st}
	e.bl, _ = sqlite.NewBaseline(ctx, st)
	u := set.Type("User")
	type w struct{}
	sem := make(chan w, 64)
	ids := make([]string, n)
	for i := range n {
		sem <- w{}
		go func() {
			v, _ := schemas.Decode(userBody(uint64(i)), schemas.Limits{})
			r, err := p.Create(ctx, auth.Principal{Kind: auth.Operator, Tenant: "default"}, u, v)
			if err != nil { panic(err) }
			ids[i] = r.ID
			<-sem
		}()
	}
	for range 64 { sem <- w{} }
	e.ids = ids
	return e
}

func (e *env) do(b *testing.B, method, path string, body []byte, want int) {
	r := httptest.NewRequest(method, "http://h/scim/v2"+path, bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+e.tok)
	w := httptest.NewRecorder()
	e.h.ServeHTTP(w, r)
	if w.Code != want { b.Error(w.Code, w.Body.String()) }
}

const N = 20000

func BenchmarkGet(b *testing.B) { e := setup(b, N); b.ReportAllocs(); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) { i := 0; for pb.Next() { i = (i*7919 + 13) % N; e.do(b, "GET", "/Users/"+e.ids[i], nil, 200) } }) }
func BenchmarkFilter(b *testing.B) { e := setup(b, N); b.ReportAllocs(); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) { i := 0; for pb.Next() { i = (i*7919 + 13) % N; e.do(b, "GET", fmt.Sprintf(`/Users?filter=userName+eq+%%22u%016x@harborlight.example%%22`, uint64(i)*0x9E3779B97F4A7C15), nil, 200) } }) }
func BenchmarkPage(b *testing.B) { e := setup(b, N); b.ReportAllocs(); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) { for pb.Next() { e.do(b, "GET", "/Users?count=100", nil, 200) } }) }
func BenchmarkPageDeep(b *testing.B) { e := setup(b, N); b.ReportAllocs(); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) { for pb.Next() { e.do(b, "GET", "/Users?count=100&startIndex=18000", nil, 200) } }) }
func BenchmarkPatch(b *testing.B) { e := setup(b, N); var k atomic.Uint64; b.SetParallelism(32); b.ReportAllocs(); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) { for pb.Next() { i := k.Add(1); e.do(b, "PATCH", "/Users/"+e.ids[i*7919%N], fmt.Appendf(nil, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"replace","path":"title","value":"t%d"}]}`, i), 200) } }) }
func BenchmarkCreate(b *testing.B) { e := setup(b, N); var k atomic.Uint64; k.Store(1 << 32); b.SetParallelism(32); b.ReportAllocs(); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) { for pb.Next() { e.do(b, "POST", "/Users", userBody(k.Add(1)), 201) } }) }
func BenchmarkRowWrite(b *testing.B) { e := setup(b, N); var k atomic.Uint64; k.Store(1 << 32); b.SetParallelism(32); b.ReportAllocs(); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) { for pb.Next() { i := k.Add(1); if err := e.bl.Write(context.Background(), fmt.Sprint(i), userBody(i)); err != nil { b.Error(err) } } }) }
