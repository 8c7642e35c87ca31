package scim

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestAppendTime compares with the layout of the standard library.
func TestAppendTime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	times := []time.Time{{}, time.UnixMilli(0), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}
	for range 10_000 {
		times = append(times, time.UnixMilli(r.Int64N(253402300799_999)).In(time.FixedZone("", r.IntN(86_400)-43_200)))
	}
	for _, at := range times {
		if got, want := string(appendTime(nil, at)), at.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Errorf("appendTime(%v) = %s, want %s", at, got, want)
		}
	}
}
