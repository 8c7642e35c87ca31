package storage

import (
	"context"
	"testing"

	"pgregory.net/rapid"
)

// numbers is a trail of entries with these numbers.
type numbers []int64

func (n numbers) AuditEntries(_ context.Context, _ TenantID, after int64, limit int) (list []AuditEntry, _ error) {
	for _, seq := range n {
		if seq > after && len(list) < limit {
			list = append(list, AuditEntry{Seq: seq})
		}
	}
	return list, nil
}

func TestLastEntry(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var trail numbers
		seq := int64(0)
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(1, 50), 0, 40).Draw(t, "gaps") {
			seq += gap
			trail = append(trail, seq)
		}
		until := rapid.Int64Range(0, seq+1).Draw(t, "until")
		var want int64
		for _, n := range trail {
			if n <= until {
				want = n
			}
		}
		got, err := LastEntry(t.Context(), trail, "x", func(e *AuditEntry) bool { return e.Seq <= until })
		if err != nil || got != want {
			t.Fatalf("of %v up to %d: %d, %v, want %d", trail, until, got, err, want)
		}
	})
}

func TestEachEntry(t *testing.T) {
	t.Parallel()
	var trail numbers
	for n := range int64(3000) {
		trail = append(trail, 2*n+1)
	}
	for _, test := range []struct {
		after       int64
		bound       int
		until       int64 // which the visitor does not want, nor what is behind it
		to, visited int64
		more        bool
	}{
		{0, 5000, 9999, 5999, 3000, false},
		{0, 3000, 9999, 5999, 3000, true}, // it does not look whether there are others
		{0, 1500, 9999, 2999, 1500, true},
		{0, 5000, 601, 599, 300, true},
		{0, 5000, 1, 0, 0, true},
		{599, 5000, 603, 601, 1, true},
		{5999, 5000, 9999, 5999, 0, false},
	} {
		var visited int64
		to, more, err := EachEntry(t.Context(), trail, "x", test.after, test.bound, func(e *AuditEntry) bool {
			if e.Seq >= test.until {
				return false
			}
			visited++
			return true
		})
		if err != nil || to != test.to || more != test.more || visited != test.visited {
			t.Errorf("behind %d, of at most %d, up to %d: to %d, more %v, %d visited, %v; want %d, %v, %d", test.after, test.bound, test.until, to, more, visited, err, test.to, test.more, test.visited)
		}
	}
}
