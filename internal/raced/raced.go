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
