package bench

import (
	"cmp"
	"fmt"
)

// Results of a Target.
const (
	Pass    = "pass"
	Fail    = "fail"
	Unknown = "unknown" // it could not be measured
)

// Units of a Target beside "", a ratio.
const (
	Milliseconds = "ms"
	Bytes        = "bytes"
)

// Target is something the server is to be good at, and whether it is.
type Target struct {
	Name     string   `json:"name"`
	Text     string   `json:"text"`
	Value    *float64 `json:"value"` // null if it could not be measured
	Relation string   `json:"relation"`
	Limit    float64  `json:"limit"`
	Unit     string   `json:"unit,omitempty"`
	Result   string   `json:"result"`
}

// The targets.
const (
	getShare    = 0.80 // of the requests per second of the row it is compared with
	filterShare = 0.70
	createShare = 0.60
	pageShare   = 0.25

	slowerWithMore = 1.3 // times as long with the population as with the small one
	slowerFar      = 3.0
	slowerInGroup  = 1.2

	startLimit  = 150  // milliseconds
	idleLimit   = 40e6 // bytes
	loadedLimit = 250e6
	// growthLimit is what counts as flat: a small part of all that is listed, as
	// much as the garbage collector takes between two of its rounds.
	growthLimit = 16e6
)

// judge compares what was measured with the targets. A target whose rows were
// not asked for is left out.
func judge(rep *Report) []Target {
	j := judgement{rep: rep, targets: []Target{}}
	n := rep.Settings.Users
	at := func(name string) *Row { return rep.row(name, n) }

	j.share(at(Get), at(BaselineRead), getShare)
	j.share(at(Filter), at(Get), filterShare)
	j.share(at(Create), at(BaselineWrite), createShare)
	j.share(at(Page), at(BaselinePage), pageShare)

	for _, name := range []string{Get, Filter, Create, Page, Patch} {
		for _, small := range rep.Rows {
			if small.Name == name && small.Population < n {
				j.slowdown(name+"-population", at(name), small, slowerWithMore)
			}
		}
	}
	j.slowdown("page-far", at(PageFar), at(Page), slowerFar)
	j.groups(MemberAdd)
	j.groups(MemberRemove)

	if s := rep.Start; s != nil {
		j.limit("start", "start with an empty store", &s.Median, startLimit, Milliseconds)
	}
	if m := rep.Memory; m != nil {
		if m.OwnServer {
			j.limit("memory-idle", "resident memory, idle", bytesOrNil(m.Idle), idleLimit, Bytes)
			j.limit("memory-loaded", fmt.Sprintf("resident memory after loading %s users", grouped(n)), bytesOrNil(m.Loaded), loadedLimit, Bytes)
		}
		growth := float64(m.WalkGrowth)
		j.limit("memory-listing", "growth of memory while all users are listed", &growth, growthLimit, Bytes)
	}
	return j.targets
}

// bytesOrNil is nil for a size that nobody could tell.
func bytesOrNil(n int64) *float64 {
	if n == 0 {
		return nil
	}
	v := float64(n)
	return &v
}

type judgement struct {
	rep     *Report
	targets []Target
}

// share asks for so many of another row's requests per second.
func (j *judgement) share(row, of *Row, atLeast float64) {
	if row == nil || of == nil {
		return
	}
	j.add(row, Target{
		Name: row.Name + "-share", Text: fmt.Sprintf("%s, as a share of %s", row.Label, of.Label),
		Value: paired(row, of), Relation: ">=", Limit: atLeast,
	})
}

// slowdown asks that a row take at most so many times as long as another.
func (j *judgement) slowdown(name string, row, than *Row, atMost float64) {
	if row == nil || than == nil {
		return
	}
	j.add(row, Target{
		Name: name, Text: fmt.Sprintf("%s, time compared with %s", row.title(), than.title()),
		Value: paired(than, row), Relation: "<=", Limit: atMost,
	})
}

// groups asks that the largest group is hardly slower to change than the
// others.
func (j *judgement) groups(name string) {
	var largest *Row
	for _, r := range j.rep.Rows {
		if r.Name == name && r.GroupSize != nil && (largest == nil || *r.GroupSize > *largest.GroupSize) {
			largest = r
		}
	}
	for _, r := range j.rep.Rows {
		if r.Name == name && r.GroupSize != nil && r != largest {
			j.slowdown(fmt.Sprintf("%s-%d", name, *r.GroupSize), largest, r, slowerInGroup)
		}
	}
}

func (j *judgement) limit(name, text string, value *float64, below float64, unit string) {
	j.add(nil, Target{Name: name, Text: text, Value: value, Relation: "<", Limit: below, Unit: unit})
}

// add judges a target and notes in its row how that went.
func (j *judgement) add(row *Row, t Target) {
	t.Result = verdict(t.Value, t.Relation, t.Limit)
	j.targets = append(j.targets, t)
	if row != nil && (t.Result == Fail || row.Result == "") {
		row.Result = t.Result
	}
}

func verdict(value *float64, relation string, limit float64) string {
	if value == nil {
		return Unknown
	}
	c := cmp.Compare(*value, limit)
	if relation == ">=" && c >= 0 || relation == "<=" && c <= 0 || relation == "<" && c < 0 {
		return Pass
	}
	return Fail
}
