// Package raced tells tests how much to do. The race detector finds races and makes all
// else many times slower; wrong answers are found by volume and by trying every way, which
// needs no detector. So a test that does one thing after the other at length is left out with
// it, or small, and `make test` runs those without it, whole.
package raced

import "testing"

// Skip leaves out, with the race detector, what takes long and is not about races.
func Skip(t testing.TB) {
	t.Helper()
	if On {
		t.Skip("NOT RUN with the race detector; make test runs it without")
	}
}

// Size returns whole, or small with the race detector.
func Size(whole, small int) int {
	if On {
		return small
	}
	return whole
}
