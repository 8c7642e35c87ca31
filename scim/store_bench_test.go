package scim_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// writers is how many goroutines write at a time in these benchmarks.
const writers = 64

// benchmarkUser is the body of the i-th user, about 1 KB.
func benchmarkUser(i uint64) string {
	return fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
		"externalId":"%016x-%[2]d","userName":"nadia.lindqvist.%[1]x.%[2]d@example.com","name":{"formatted":"Nadia Lindqvist","familyName":"Lindqvist","givenName":"Nadia"},
		"displayName":"Nadia Lindqvist %[2]d","title":"Customer Success Manager","userType":"Employee","preferredLanguage":"en-GB","locale":"en-GB",
		"timezone":"Europe/Stockholm","active":true,"emails":[{"value":"nadia.lindqvist.%[1]x.%[2]d@example.com","type":"work","primary":true},
		{"value":"nadia.%[2]d@mail.example.net","type":"home"}],"phoneNumbers":[{"value":"+46 8 123 45 67","type":"work"},{"value":"+46 70 123 45 67","type":"mobile"}],
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"%[2]d","costCenter":"4711","organization":"Example Industries","department":"Engineering"}}`,
		i*0x9e3779b97f4a7c15, i)
}

type benchmark struct {
	*scim.Provider
	store *sqlite.Store
	user  *schemas.ResourceType
	by    auth.Principal
	log   string // the write-ahead log
	ids   []string
	next  atomic.Uint64
}

func newBenchmark(b *testing.B, users int) *benchmark {
	b.Helper()
	dir := b.TempDir()
	store, err := sqlite.Open(b.Context(), dir, sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	m := newBenchmarkOn(b, store, users)
	m.store, m.log = store, filepath.Join(dir, "roster.db-wal")
	return m
}

func newBenchmarkOn(b *testing.B, store storage.Store, users int) *benchmark {
	b.Helper()
	set, err := schemas.Load()
	if err != nil {
		b.Fatal(err)
	}
	m := &benchmark{
		Provider: &scim.Provider{Store: store, Schemas: set, Now: time.Now}, user: set.Type("User"),
		by: auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant},
	}
	m.ids = make([]string, users)
	m.each(b, users, func(i int) (err error) { m.ids[i], err = m.create(b); return err })
	return m
}

func (m *benchmark) create(b *testing.B) (string, error) {
	body, err := schemas.Decode([]byte(benchmarkUser(m.next.Add(1))), scim.BodyLimits)
	if err != nil {
		return "", err
	}
	r, err := m.Create(b.Context(), m.by, m.user, body)
	if err != nil {
		return "", err
	}
	return r.ID, nil
}

// each calls do for 0 … n-1 from many goroutines.
func (m *benchmark) each(b *testing.B, n int, do func(int) error) {
	var next atomic.Int64
	done := make(chan error)
	for range writers {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					done <- nil
					return
				}
				if err := do(i); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// measure is each for b.N, and reports the processor time of an operation: how
// long it took says more about the disk and about what else runs.
func (m *benchmark) measure(b *testing.B, do func(int) error) {
	b.ReportAllocs()
	before := processorTime()
	b.ResetTimer()
	m.each(b, b.N, do)
	b.StopTimer()
	b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e3, "cpu-µs/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCreate creates users through the provider, next to bare rows of the
// same bytes through the same group commit.
func BenchmarkCreate(b *testing.B) {
	b.Run("row", func(b *testing.B) {
		m := newBenchmark(b, 0)
		rows, err := sqlite.NewBaseline(b.Context(), m.store)
		if err != nil {
			b.Fatal(err)
		}
		m.measure(b, func(i int) error {
			return rows.Write(b.Context(), fmt.Sprintf("01900000-0000-7000-8000-%012x", i), []byte(benchmarkUser(uint64(i))))
		})
	})
	b.Run("user", func(b *testing.B) {
		m := newBenchmark(b, 20_000)
		m.measure(b, func(int) error { _, err := m.create(b); return err })
		if fi, err := os.Stat(m.log); err == nil {
			b.ReportMetric(float64(fi.Size())/1e6, "MB-log")
		}
	})
}

// BenchmarkPatch changes one attribute of users at random, among few and many.
func BenchmarkPatch(b *testing.B) {
	for _, users := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(users), func(b *testing.B) {
			m := newBenchmark(b, users)
			m.measure(b, func(i int) error {
				body, err := schemas.Decode(fmt.Appendf(nil, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
					"Operations":[{"op":"replace","path":"title","value":"Title %d"}]}`, i), scim.BodyLimits)
				if err != nil {
					return err
				}
				ops, err := patch.Decode(body, patch.DefaultLimits, schemas.Lenient)
				if err != nil {
					return err
				}
				_, err = m.Patch(b.Context(), m.by, m.user, m.ids[rand.IntN(users)], scim.Precondition{}, ops)
				return err
			})
		})
	}
}
