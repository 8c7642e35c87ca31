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
