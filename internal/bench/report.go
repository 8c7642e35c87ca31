package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Format names the shape of a Report as JSON. It changes when a name or a
// meaning in it does.
const Format = "roster-bench/1"

// Report is the result of a run.
type Report struct {
	Format   string        `json:"format"`
	Started  time.Time     `json:"started"`
	Version  string        `json:"version"`
	Machine  Machine       `json:"machine"`
	Settings Settings      `json:"settings"`
	Loads    []Load        `json:"loads"`
	Rows     []*Row        `json:"rows"`
	Start    *StartResult  `json:"start,omitempty"`
	Memory   *MemoryResult `json:"memory,omitempty"`
	Targets  []Target      `json:"targets"`
	// Pass says that no target was missed.
	Pass  bool     `json:"pass"`
	Notes []string `json:"notes"`
}

// Machine is what the run happened on.
type Machine struct {
	OS    string `json:"os"`
	Arch  string `json:"arch"`
	Cores int    `json:"cores"`
	Go    string `json:"go"`
}

// Settings are how the run was set up.
type Settings struct {
	URL         string  `json:"url,omitempty"` // of a server that was running already
	Users       int     `json:"users"`
	Connections int     `json:"connections"`
	Seconds     float64 `json:"seconds"`
	Rounds      int     `json:"rounds"`
	Seed        uint64  `json:"seed"`
	UserBytes   int     `json:"user_bytes,omitempty"` // of a user in an answer
	PageBytes   int     `json:"page_bytes,omitempty"`
}

// Load is how users were put into a server.
type Load struct {
	Users       int     `json:"users"`
	Connections int     `json:"connections"`
	Seconds     float64 `json:"seconds"`
	PerSecond   float64 `json:"users_per_second"`
}

// Row is what was measured of one kind of request. Its figures are medians over
// the rounds.
type Row struct {
	Name        string  `json:"name"`
	Label       string  `json:"label"`
	Population  int     `json:"population"`
	GroupSize   *int    `json:"group_size,omitempty"`
	Connections int     `json:"connections"`
	Requests    int64   `json:"requests"` // in all rounds
	PerSecond   float64 `json:"ops_per_second"`
	P50         float64 `json:"p50_us"`
	P95         float64 `json:"p95_us"`
	P99         float64 `json:"p99_us"`
	// Allocs and AllocBytes are what the server allocated for a request; null if
	// it does not tell.
	Allocs     *float64  `json:"allocs_per_request"`
	AllocBytes *float64  `json:"alloc_bytes_per_request"`
	Rounds     []float64 `json:"rounds_ops_per_second"`
	Ratios     []Ratio   `json:"ratios"`
	// Result is Pass or Fail where targets judge the row.
	Result string `json:"result,omitempty"`

	samples []sample
	instead int // the size a group was to have, if there are too few users
}

// Ratio compares a row's requests per second with those of another, round by
// round; it is the median of that.
type Ratio struct {
	To    string  `json:"to"` // the name of the other row
	Value float64 `json:"value"`
}

// StartResult is how long an empty server takes from its start until it is
// ready, in milliseconds.
type StartResult struct {
	Median  float64   `json:"median_ms"`
	Samples []float64 `json:"samples_ms"`
}

// MemoryResult is how much memory the server held, in bytes.
type MemoryResult struct {
	OwnServer       bool  `json:"own_server"` // it began empty
	Idle            int64 `json:"idle_bytes,omitempty"`
	Loaded          int64 `json:"loaded_bytes"`
	LoadPeak        int64 `json:"load_peak_bytes"`
	FirstWalkGrowth int64 `json:"first_walk_growth_bytes"`
	WalkGrowth      int64 `json:"walk_growth_bytes"`
	WalkPeak        int64 `json:"walk_peak_bytes"`
}

var labels = map[string]string{
	BaselineFixed: "baseline: a fixed user",
	BaselineRead:  "baseline: one row read",
	BaselinePage:  "baseline: a ready-made page",
	BaselineWrite: "baseline: one row written",
	Get:           "get by id",
	Filter:        "filter by userName",
	Page:          "page of 100",
	PageFar:       "page of 100 at 90 %",
	Create:        "create",
	Patch:         "patch a scalar",
	MemberAdd:     "add a member",
	MemberRemove:  "remove a member",
}

func (rep *Report) newRow(name string, population, conns int) *Row {
	row := &Row{Name: name, Label: labels[name], Population: population, Connections: conns, Rounds: []float64{}, Ratios: []Ratio{}}
	rep.Rows = append(rep.Rows, row)
	return row
}

func (rep *Report) note(format string, args ...any) {
	rep.Notes = append(rep.Notes, fmt.Sprintf(format, args...))
}

// row finds a row by its name and population; with several group sizes it is
// the first.
func (rep *Report) row(name string, population int) *Row {
	i := slices.IndexFunc(rep.Rows, func(r *Row) bool { return r.Name == name && r.Population == population })
	if i < 0 {
		return nil
	}
	return rep.Rows[i]
}

// comparedTo says which rows a row is compared with, the one that matters most
// first.
var comparedTo = map[string][]string{
	Get:          {BaselineRead, BaselineFixed},
	Filter:       {Get, BaselineRead},
	Page:         {BaselinePage},
	PageFar:      {Page, BaselinePage},
	Create:       {BaselineWrite},
	Patch:        {BaselineWrite},
	MemberAdd:    {MemberAdd}, // of the smallest group
	MemberRemove: {MemberRemove},
}

// finish computes what follows from the samples.
func (rep *Report) finish() {
	for _, row := range rep.Rows {
		row.finish()
	}
	for _, row := range rep.Rows {
		for _, name := range comparedTo[row.Name] {
			other := rep.row(name, row.Population)
			if other == nil && strings.HasPrefix(name, "baseline-") {
				other = rep.row(name, rep.Settings.Users)
			}
			if v := paired(row, other); v != nil && row != other {
				row.Ratios = append(row.Ratios, Ratio{name, *v})
			}
		}
	}
	rep.Targets = judge(rep)
	rep.Pass = !slices.ContainsFunc(rep.Targets, func(t Target) bool { return t.Result == Fail })
}

// add takes in what a round found out.
func (row *Row) add(s sample) {
	row.samples = append(row.samples, s)
	row.Rounds = append(row.Rounds, s.ops)
	row.Requests += s.requests
}

func (row *Row) finish() {
	mid := func(of func(sample) float64) float64 {
		list := make([]float64, len(row.samples))
		for i, s := range row.samples {
			list[i] = of(s)
		}
		return median(list)
	}
	row.PerSecond = mid(func(s sample) float64 { return s.ops })
	row.P50 = mid(func(s sample) float64 { return s.p50 })
	row.P95 = mid(func(s sample) float64 { return s.p95 })
	row.P99 = mid(func(s sample) float64 { return s.p99 })
	if len(row.samples) > 0 && !slices.ContainsFunc(row.samples, func(s sample) bool { return s.allocs == nil }) {
		allocs := mid(func(s sample) float64 { return *s.allocs })
		octets := mid(func(s sample) float64 { return *s.octets })
		row.Allocs, row.AllocBytes = &allocs, &octets
	}
}

// title names the row among all others.
func (row *Row) title() string {
	switch {
	case row.GroupSize != nil:
		of := grouped(*row.GroupSize)
		if row.instead > 0 {
			of += " (instead of " + grouped(row.instead) + ")"
		}
		return fmt.Sprintf("%s, group of %s", row.Label, of)
	case strings.HasPrefix(row.Name, "baseline-"):
		return row.Label
	}
	return fmt.Sprintf("%s, %s users", row.Label, grouped(row.Population))
}

// paired returns the median of the ratios of a's rounds to b's: the rounds of
// both took place side by side, so what slowed one down slowed the other. It is
// nil when there is nothing to compare.
func paired(a, b *Row) *float64 {
	if a == nil || b == nil {
		return nil
	}
	var list []float64
	for i := range min(len(a.Rounds), len(b.Rounds)) {
		if b.Rounds[i] > 0 {
			list = append(list, a.Rounds[i]/b.Rounds[i])
		}
	}
	if len(list) == 0 {
		return nil
	}
	m := median(list)
	return &m
}

// median returns the middle of a list, or 0 if it is empty.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	m := len(list) / 2
	if len(list)%2 == 1 {
		return list[m]
	}
	return (list[m-1] + list[m]) / 2
}

// WriteJSON writes the report as JSON.
func (rep *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(rep)
}

// WriteTable writes the report for people.
func (rep *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	rep.heading(&b)
	if len(rep.Rows) > 0 {
		b.WriteString("\n")
		rep.figures(&b)
	}
	rep.other(&b)
	if len(rep.Targets) > 0 {
		b.WriteString("\n")
		rep.verdicts(&b)
	}
	for _, n := range rep.Notes {
		fmt.Fprintf(&b, "\nNote: %s.", n)
	}
	if len(rep.Notes) > 0 {
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (rep *Report) heading(b *strings.Builder) {
	m, s := rep.Machine, rep.Settings
	fmt.Fprintf(b, "roster bench %s: %d cores, %s/%s, %s; %d connections, %s users, %d × %gs per row, seed %d\n",
		rep.Version, m.Cores, m.OS, m.Arch, m.Go, s.Connections, grouped(s.Users), s.Rounds, s.Seconds, s.Seed)
	if s.URL != "" {
		fmt.Fprintf(b, "server: %s\n", s.URL)
	}
	for _, l := range rep.Loads {
		fmt.Fprintf(b, "loaded %s users in %.1fs: %s/s\n", grouped(l.Users), l.Seconds, grouped(l.PerSecond))
	}
}

func (rep *Report) figures(b *strings.Builder) {
	cells := [][]string{{"", "population", "conns", "ops/s", "p50", "p95", "p99", "allocs/op", "KB/op", "ratio", "to", ""}}
	for _, r := range rep.Rows {
		label := r.Label
		if r.GroupSize != nil {
			label = r.title()
		}
		allocs, octets, ratio, to := "-", "-", "", ""
		if r.Allocs != nil {
			allocs, octets = grouped(*r.Allocs), fmt.Sprintf("%.1f", *r.AllocBytes/1e3)
		}
		if len(r.Ratios) > 0 {
			ratio, to = fmt.Sprintf("%.2f", r.Ratios[0].Value), r.Ratios[0].To
			if r.GroupSize != nil {
				to += ", smallest"
			}
		}
		cells = append(cells, []string{
			label, grouped(r.Population), fmt.Sprint(r.Connections), grouped(r.PerSecond),
			latency(r.P50), latency(r.P95), latency(r.P99), allocs, octets, ratio, to, loud(r.Result),
		})
	}
	columns(b, cells, "<>>>>>>>>><<")
}

// other writes what is not about requests.
func (rep *Report) other(b *strings.Builder) {
	if s := rep.Start; s != nil {
		fmt.Fprintf(b, "\nstart with an empty store: %.1f ms (median of %d)\n", s.Median, len(s.Samples))
	}
	if m := rep.Memory; m != nil {
		b.WriteString("\nresident memory: ")
		if m.OwnServer {
			fmt.Fprintf(b, "%s idle, ", megabytes(m.Idle))
		}
		fmt.Fprintf(b, "%s after loading (at most %s); listing all users: +%s, then +%s (at most %s)\n",
			megabytes(m.Loaded), megabytes(m.LoadPeak), megabytes(m.FirstWalkGrowth), megabytes(m.WalkGrowth), megabytes(m.WalkPeak))
	}
}

func (rep *Report) verdicts(b *strings.Builder) {
	var cells [][]string
	for _, t := range rep.Targets {
		value := "not measured"
		if t.Value != nil {
			value = quantity(*t.Value, t.Unit)
		}
		cells = append(cells, []string{loud(t.Result), t.Text, value, t.Relation, quantity(t.Limit, t.Unit)})
	}
	columns(b, cells, "<<>>>")
}

// loud makes a failure stand out among the passes.
func loud(result string) string {
	if result == Fail {
		return strings.ToUpper(result)
	}
	return result
}

func quantity(v float64, unit string) string {
	switch unit {
	case Bytes:
		return megabytes(int64(v))
	case Milliseconds:
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func latency(us float64) string {
	switch {
	case us < 1e3:
		return fmt.Sprintf("%.0f µs", us)
	case us < 1e4:
		return fmt.Sprintf("%.2f ms", us/1e3)
	case us < 1e6:
		return fmt.Sprintf("%.1f ms", us/1e3)
	}
	return fmt.Sprintf("%.2f s", us/1e6)
}

// columns writes a table whose columns are aligned to the left (<) or to the
// right (>).
func columns(b *strings.Builder, cells [][]string, align string) {
	width := make([]int, len(align))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, line := range cells {
		text := ""
		for i, c := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if align[i] == '>' {
				text += pad + c + "  "
			} else {
				text += c + pad + "  "
			}
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
}
