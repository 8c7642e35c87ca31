package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWriteTable(t *testing.T) {
	allocs, octets, size := 43.4, 4400.0, 0
	rep := &Report{
		Format: Format, Started: time.Unix(0, 0), Version: "v1.2.3",
		Machine:  Machine{OS: "linux", Arch: "amd64", Cores: 2, Go: "go1.26.0"},
		Settings: Settings{Users: 100_000, Connections: 64, Seconds: 3, Rounds: 3, Seed: 1},
		Loads:    []Load{{Users: 100_000, Connections: 64, Seconds: 20, PerSecond: 5000}},
		Rows: []*Row{
			{Name: BaselineRead, Population: 100_000, Connections: 64, samples: []sample{{ops: 20_000, p50: 900, p95: 2500, p99: 12_345, allocs: &allocs, octets: &octets}}},
			{Name: Get, Population: 100_000, Connections: 64, samples: []sample{{ops: 15_000, p50: 1000, p95: 999_900, p99: 1.5e6}}},
			{Name: MemberAdd, Population: 100_000, GroupSize: &size, Connections: 8, samples: []sample{{ops: 100}}},
		},
		Start:  &StartResult{Median: 17.25, Samples: []float64{17.25}},
		Memory: &MemoryResult{OwnServer: true, Idle: 18e6, Loaded: 251e6, LoadPeak: 260e6, FirstWalkGrowth: 30e6, WalkGrowth: 5e5, WalkPeak: 270e6},
	}
	for _, row := range rep.Rows {
		row.Label = labels[row.Name]
		row.Rounds = []float64{row.samples[0].ops}
	}
	rep.note("the moon was full")
	rep.finish()
	var b strings.Builder
	if err := rep.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	want := `roster bench v1.2.3: 2 cores, linux/amd64, go1.26.0; 64 connections, 100,000 users, 3 × 3s per row, seed 1
loaded 100,000 users in 20.0s: 5,000/s

                          population  conns   ops/s      p50       p95      p99  allocs/op  KB/op  ratio  to
baseline: one row read       100,000     64  20,000   900 µs   2.50 ms  12.3 ms         43    4.4
get by id                    100,000     64  15,000  1.00 ms  999.9 ms   1.50 s          -      -   0.75  baseline-read  FAIL
add a member, group of 0     100,000      8     100     0 µs      0 µs     0 µs          -      -

start with an empty store: 17.2 ms (median of 1)

resident memory: 18.0 MB idle, 251.0 MB after loading (at most 260.0 MB); listing all users: +30.0 MB, then +0.5 MB (at most 270.0 MB)

FAIL  get by id, as a share of baseline: one row read      0.75  >=      0.80
pass  start with an empty store                         17.2 ms   <  150.0 ms
pass  resident memory, idle                             18.0 MB   <   40.0 MB
FAIL  resident memory after loading 100,000 users      251.0 MB   <  250.0 MB
pass  growth of memory while all users are listed        0.5 MB   <   16.0 MB

Note: the moon was full.
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 65_536: "65,536", 1_234_567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
	if got := grouped(999.5); got != "1,000" {
		t.Errorf("grouped(999.5) = %s, want 1,000", got)
	}
}

func TestTrace(t *testing.T) {
	for _, c := range []struct {
		name              string
		rss               []int64
		last, max, growth int64
	}{
		{"one look", []int64{50}, 50, 50, 0},
		{"flat", []int64{50, 50, 50}, 50, 50, 0},
		{"grows", []int64{50, 60, 90}, 90, 90, 40},
		{"is given back", []int64{90, 60, 50}, 50, 90, 0},
		{"is taken again", []int64{90, 50, 70, 60}, 60, 90, 0},
		{"and more than that", []int64{90, 50, 70, 100}, 100, 100, 10},
	} {
		var got trace
		for _, v := range c.rss {
			got.add(v)
		}
		if got.last != c.last || got.max != c.max || got.growth() != c.growth {
			t.Errorf("%s: of %v last %d, max %d, growth %d; want %d, %d, %d", c.name, c.rss, got.last, got.max, got.growth(), c.last, c.max, c.growth)
		}
	}
}
