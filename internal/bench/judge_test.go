package bench

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 4}, 4}, {[]float64{8, 2}, 5}, {[]float64{4, 1, 3, 100}, 3.5},
	} {
		if got := median(c.list); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.list, got, c.want)
		}
	}
}

func TestPaired(t *testing.T) {
	rounds := func(ops ...float64) *Row { return &Row{Rounds: ops} }
	for _, c := range []struct {
		name string
		a, b *Row
		want float64 // NaN for none
	}{
		{"one round", rounds(50), rounds(100), 0.5},
		// The machine was three times slower in the second round, for both. The
		// median of each alone would say 0.9.
		{"a disturbance that hits both", rounds(80, 30, 90), rounds(100, 40, 100), 0.8},
		{"a round that is an outlier", rounds(80, 1, 80), rounds(100, 100, 100), 0.8},
		{"a round that was not measured", rounds(80, 90), rounds(100), 0.8},
		{"nothing got done", rounds(80), rounds(0), math.NaN()},
		{"no row", rounds(80), nil, math.NaN()},
		{"neither", nil, nil, math.NaN()},
	} {
		got := math.NaN()
		if v := paired(c.a, c.b); v != nil {
			got = *v
		}
		if got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%s: paired = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		value    float64
		relation string
		limit    float64
		want     string
	}{
		{0.8, ">=", 0.8, Pass}, {0.79, ">=", 0.8, Fail}, {2, ">=", 0.8, Pass},
		{1.3, "<=", 1.3, Pass}, {1.31, "<=", 1.3, Fail}, {0.5, "<=", 1.3, Pass},
		{149.9, "<", 150, Pass}, {150, "<", 150, Fail},
		{math.NaN(), ">=", 0.8, Fail},
	} {
		if got := verdict(&c.value, c.relation, c.limit); got != c.want {
			t.Errorf("verdict(%v %s %v) = %s, want %s", c.value, c.relation, c.limit, got, c.want)
		}
	}
	if got := verdict(nil, ">=", 1); got != Unknown {
		t.Errorf("verdict of nothing = %s, want %s", got, Unknown)
	}
}

// made makes a report of rows with one round each.
func made(rows ...*Row) *Report {
	rep := &Report{Settings: Settings{Users: 1000}, Rows: rows}
	for _, r := range rows {
		r.Label = labels[r.Name]
		r.add(sample{ops: r.PerSecond})
	}
	rep.finish()
	return rep
}

func TestJudge(t *testing.T) {
	row := func(name string, population int, ops float64) *Row {
		return &Row{Name: name, Population: population, PerSecond: ops}
	}
	group := func(name string, size int, ops float64) *Row {
		return &Row{Name: name, Population: 1000, GroupSize: &size, PerSecond: ops}
	}
	type verdicts map[string]string
	for _, c := range []struct {
		name string
		rep  *Report
		want verdicts
		pass bool
	}{
		{"nothing measured", made(), verdicts{}, true},
		{"a row without what it is compared with", made(row(Get, 1000, 80)), verdicts{}, true},
		{"get just good enough", made(row(BaselineRead, 1000, 100), row(Get, 1000, 80)), verdicts{"get-share": Pass}, true},
		{"get too slow", made(row(BaselineRead, 1000, 100), row(Get, 1000, 79)), verdicts{"get-share": Fail}, false},
		{
			"filter compares with get", made(row(BaselineRead, 1000, 100), row(Get, 1000, 90), row(Filter, 1000, 63)),
			verdicts{"get-share": Pass, "filter-share": Pass}, true,
		},
		{"create", made(row(BaselineWrite, 1000, 100), row(Create, 1000, 59)), verdicts{"create-share": Fail}, false},
		{"page", made(row(BaselinePage, 1000, 100), row(Page, 1000, 25)), verdicts{"page-share": Pass}, true},
		{"population", made(row(Patch, 1000, 100), row(Patch, 10, 130)), verdicts{"patch-population": Pass}, true},
		{"population, too much slower", made(row(Patch, 1000, 100), row(Patch, 10, 131)), verdicts{"patch-population": Fail}, false},
		{"far page", made(row(Page, 1000, 300), row(PageFar, 1000, 100)), verdicts{"page-far": Pass}, true},
		{"far page, too far", made(row(Page, 1000, 301), row(PageFar, 1000, 100)), verdicts{"page-far": Fail}, false},
		{
			"groups", made(group(MemberAdd, 0, 120), group(MemberAdd, 10, 121), group(MemberAdd, 900, 100)),
			verdicts{"member-add-0": Pass, "member-add-10": Fail}, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := verdicts{}
			for _, target := range c.rep.Targets {
				got[target.Name] = target.Result
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("judge (-want +got):\n%s", d)
			}
			if c.rep.Pass != c.pass {
				t.Errorf("Pass = %t, want %t", c.rep.Pass, c.pass)
			}
		})
	}
}

func TestJudgeLimits(t *testing.T) {
	good := MemoryResult{OwnServer: true, Idle: 39e6, Loaded: 249e6, WalkGrowth: 1e6}
	for _, c := range []struct {
		name   string
		start  float64
		memory func(*MemoryResult)
		want   map[string]string
	}{
		{
			"good", 149, func(*MemoryResult) {},
			map[string]string{"start": Pass, "memory-idle": Pass, "memory-loaded": Pass, "memory-listing": Pass},
		},
		{
			"bad", 151, func(m *MemoryResult) { m.Idle, m.Loaded, m.WalkGrowth = 41e6, 251e6, 17e6 },
			map[string]string{"start": Fail, "memory-idle": Fail, "memory-loaded": Fail, "memory-listing": Fail},
		},
		{
			"a server that was not empty", 1, func(m *MemoryResult) { m.OwnServer = false },
			map[string]string{"start": Pass, "memory-listing": Pass},
		},
		{
			"idle not known", 1, func(m *MemoryResult) { m.Idle = 0 },
			map[string]string{"start": Pass, "memory-idle": Unknown, "memory-loaded": Pass, "memory-listing": Pass},
		},
	} {
		m := good
		c.memory(&m)
		got := map[string]string{}
		for _, target := range judge(&Report{Start: &StartResult{Median: c.start}, Memory: &m}) {
			got[target.Name] = target.Result
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// A row that one of several targets finds too slow is marked so.
func TestRowResult(t *testing.T) {
	rep := made(
		&Row{Name: BaselineRead, Population: 1000, PerSecond: 100},
		&Row{Name: Get, Population: 1000, PerSecond: 70},
		&Row{Name: Get, Population: 10, PerSecond: 71},
	)
	if got := rep.Rows[1].Result; got != Fail {
		t.Errorf("result = %q, want %q", got, Fail)
	}
	if got := rep.Rows[2].Result; got != "" {
		t.Errorf("result of the small population = %q, want none", got)
	}
	// The small population has no baseline of its own.
	if d := cmp.Diff([]Ratio{{BaselineRead, 0.71}}, rep.Rows[2].Ratios); d != "" {
		t.Errorf("ratios (-want +got):\n%s", d)
	}
}
