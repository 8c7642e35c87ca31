package auth

import "time"

// Failed attempts cost time, and too many wrong passcodes the factor.
const (
	// freeFailures is how many failures there may be before the first delay.
	freeFailures = 5
	firstDelay   = 30 * time.Second
	longestDelay = 15 * time.Minute
	// maxFactorFailures is how many passcodes and recovery codes may be wrong in a
	// row before none is accepted any more.
	maxFactorFailures = 20
)

// Throttle counts what has failed about an account, whichever way it was tried. An
// attempt is counted before it is looked at, in a write of its own, and taken back
// when it was good; so attempts at the same time are not more attempts.
type Throttle struct {
	Failures    int       `json:"failures,omitzero"`
	Last        time.Time `json:"last,omitzero"`
	LockedUntil time.Time `json:"lockedUntil,omitzero"`
	// FactorFailures counts wrong passcodes and recovery codes since a good one.
	FactorFailures int `json:"factorFailures,omitzero"`
	// FactorDisabled: none is accepted until somebody resets the user's factors.
	FactorDisabled bool `json:"factorDisabled,omitzero"`
}

// Locked reports whether nothing is accepted at a time.
func (t *Throttle) Locked(now time.Time) bool { return now.Before(t.LockedUntil) }

// begin counts an attempt, or reports false if none may be made now.
func (t *Throttle) begin(now time.Time) bool {
	if t.LockedUntil.Sub(now) > longestDelay {
		// A clock was wrong. Nobody is locked out for longer by that.
		t.LockedUntil = now.Add(longestDelay)
	}
	if t.Locked(now) {
		return false
	}
	t.Failures++
	t.Last = now
	t.LockedUntil = time.Time{}
	if n := t.Failures - freeFailures; n >= 0 {
		t.LockedUntil = now.Add(min(firstDelay<<min(n, 10), longestDelay))
	}
	return true
}

// takeBack uncounts an attempt that was begun at a time and neither failed nor
// completed a sign-in. It lifts the delay that the attempt itself has set.
func (t *Throttle) takeBack(begun time.Time) {
	t.Failures = max(t.Failures-1, 0)
	if t.Failures < freeFailures || t.Last.Equal(begun) {
		t.LockedUntil = time.Time{}
	}
}

// factorFailed counts a wrong passcode or recovery code, and reports whether it was
// one too many.
func (t *Throttle) factorFailed() bool {
	t.FactorFailures++
	if t.FactorFailures < maxFactorFailures || t.FactorDisabled {
		return false
	}
	t.FactorDisabled = true
	return true
}
