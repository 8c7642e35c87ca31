package sqlite

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func ub(i uint64) []byte {
	x := i * 0x9E3779B97F4A7C15
	return fmt.Appendf(nil, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"externalId":"%016x-ext","userName":"u%016x@harborlight.example","active":true,"displayName":"Maya %x","emails":[{"primary":true,"type":"work","value":"u%016x@harborlight.example"},{"type":"home","value":"h%016x@home.example"}],"name":{"formatted":"Maya Osei","familyName":"Osei","givenName":"Maya"},"phoneNumbers":[{"type":"work","value":"+46 70 555 01 17"},{"type":"mobile","value":"+46 70 555 01 18"}],"preferredLanguage":"en-US","title":"Dockmaster","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"HL-%x","department":"Harbour Office"}}`, x, x, x, x, x, x)
}

func BenchmarkW(b *testing.B) {
	ctx := context.Background()
	var commits, writes atomic.Int64
	st, err := Open(ctx, b.TempDir()+"/", Options{OnCommit: func(n int, _ time.Duration) { commits.Add(1); writes.Add(int64(n)) }})
	if err != nil { b.Fatal(err) }
	defer st.Close()
	set, _ := schemas.Load()
	u := set.Type("User")
	mk := func(i uint64) *storage.Resource {
		v, _ := schemas.Decode(ub(i), schemas.Limits{})
		a, _ := u.Bind(v, schemas.Lenient)
		id, _ := uuid.NewV7()
		a["id"] = id.String()
		return &storage.Resource{Type: "User", ID: id.String(), Version: 1, Created: time.Now(), LastModified: time.Now(), Name: "x", Doc: u.Document(a), Index: storage.NewIndex(u, a)}
	}
	put := func(r *storage.Resource) {
		err := st.Write(ctx, "default", func(t storage.Tx) error {
			if err := t.Create(r); err != nil { return err }
			if err := t.Audit(storage.AuditEntry{At: r.Created, RequestID: "0123456789abcdef", Actor: "client:01a20183-a482-7eba-8506-ea27ba403876", Action: "user.create", Type: "User", ID: r.ID}); err != nil { return err }
			return t.Publish(storage.Event{At: r.Created, Action: "create", Type: "User", ID: r.ID, Version: 1})
		})
		if err != nil { b.Error(err) }
	}
	var k atomic.Uint64
	pre := func(n int) []*storage.Resource { rs := make([]*storage.Resource, n); for i := range rs { rs[i] = mk(k.Add(1)) }; return rs }
	run := func(rs []*storage.Resource) {
		var i atomic.Int64
		done := make(chan int)
		for range 64 { go func() { for { j := i.Add(1) - 1; if j >= int64(len(rs)) { break }; put(rs[j]) }; done <- 1 }() }
		for range 64 { <-done }
	}
	run(pre(50000))
	rs := pre(b.N)
	c0, w0 := commits.Load(), writes.Load()
	b.ResetTimer()
	run(rs)
	b.ReportMetric(float64(writes.Load()-w0)/float64(commits.Load()-c0), "batch")
}
func BenchmarkRow(b *testing.B) {
	ctx := context.Background()
	st, _ := Open(ctx, b.TempDir()+"/", Options{})
	defer st.Close()
	bl, _ := NewBaseline(ctx, st)
	var i atomic.Int64
	d := ub(1)
	b.ResetTimer()
	done := make(chan int)
	for range 64 { go func() { for { j := i.Add(1); if j > int64(b.N) { break }; bl.Write(ctx, fmt.Sprintf("01a20183-a482-7eba-8506-%012d", j), d) }; done <- 1 }() }
	for range 64 { <-done }
}
