package scim_test

import (
	"slices"
	"testing"
	"time"

	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
)

// BenchmarkWalk asks in turns for the first page of a walk, the second, and the
// ten-thousandth: without an order, by a filter, and sorted. On the double of MongoDB
// the pages are of one user, for it holds fewer.
func BenchmarkWalk(b *testing.B) {
	for _, on := range []struct {
		name        string
		users, size int
	}{{"SQLite", 100_000, 10}, {"MongoDB", 10_000, 1}} {
		b.Run(on.name, func(b *testing.B) {
			m := newBenchmarkOn(b, stores[on.name](b), on.users)
			family, err := filter.Parse(`name.familyName eq "Lindqvist"`, m.user, filter.DefaultLimits)
			if err != nil {
				b.Fatal(err)
			}
			for _, walk := range []struct {
				name string
				q    storage.Query
			}{
				{"all", storage.Query{}},
				{"filtered", storage.Query{Filter: family}},
				{"by userName", storage.Query{SortBy: m.user.Lookup("userName")}},
			} {
				b.Run(walk.name, func(b *testing.B) { m.walk(b, walk.q, on.users, on.size) })
			}
		})
	}
}

// walk reports the medians for the pages of a walk over users in pages of size.
func (m *benchmark) walk(b *testing.B, q storage.Query, users, size int) {
	q.Type, q.StartIndex, q.Walk = m.user.Name, 1, true
	page := func(after *storage.Mark, count int) *storage.Mark {
		q.After, q.Count = after, count
		page, err := m.Query(b.Context(), m.by, m.user, q)
		if err != nil {
			b.Fatal(err)
		}
		for n := 0; ; {
			r, err := page.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if len(r) == 0 {
				if n != count {
					b.Fatalf("a page of %d, want %d", n, count)
				}
				return page.Last
			}
			n += len(r)
		}
	}
	// In large steps to the place before the last page.
	first := page(nil, size)
	at := first
	for left := users - 2*size; left > 0; left -= min(left, 1000) {
		at = page(at, min(left, 1000))
	}
	took := map[string][]time.Duration{}
	for b.Loop() {
		for _, p := range []struct {
			name  string
			after *storage.Mark
		}{{"first", nil}, {"second", first}, {"ten-thousandth", at}} {
			start := time.Now()
			page(p.after, size)
			took[p.name] = append(took[p.name], time.Since(start))
		}
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return float64(took[name][len(took[name])/2].Nanoseconds()) / 1e3
	}
	b.ReportMetric(0, "ns/op") // of three pages, which says nothing
	for name := range took {
		b.ReportMetric(median(name), name+"-µs")
	}
	b.ReportMetric(median("ten-thousandth")/median("first"), "ten-thousandth/first")
	b.ReportMetric(median("ten-thousandth")/median("second"), "ten-thousandth/second")
}
