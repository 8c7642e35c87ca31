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
	Lane
	// Known and Inside are lanes of their own; see laneName.
	Known  Lane `json:"known,omitzero"`
	Inside Lane `json:"inside,omitzero"`
	// FactorFailures counts wrong passcodes and recovery codes since a good one, in
	// all lanes.
	FactorFailures int `json:"factorFailures,omitzero"`
	// FactorDisabled: none is accepted until somebody resets the user's factors.
	FactorDisabled bool `json:"factorDisabled,omitzero"`
}

// laneName says where an attempt came from. Each lane has delays of its own, so that
// whoever fails in one does not keep out those who come by another.
type laneName uint8

const (
	// laneStrangers is for whoever comes from a device that the account is not known to
	// use.
	laneStrangers laneName = iota
	// laneKnown is for devices that it has signed in from. That proves nothing, for a
	// network and a program can be guessed.
	laneKnown
	// laneInside is for sessions in which a passcode was given.
	laneInside
)

func (t *Throttle) lane(n laneName) *Lane {
	switch n {
	case laneKnown:
		return &t.Known
	case laneInside:
		return &t.Inside
	default:
		return &t.Lane
	}
}

// Lane counts the failures of one way to an account.
type Lane struct {
	Failures    int       `json:"failures,omitzero"`
	Last        time.Time `json:"last,omitzero"`
	LockedUntil time.Time `json:"lockedUntil,omitzero"`
}

// Locked reports whether nothing is accepted at a time.
func (l *Lane) Locked(now time.Time) bool { return now.Before(l.LockedUntil) }

// begin counts an attempt, or reports false if none may be made now.
func (l *Lane) begin(now time.Time) bool {
	if l.LockedUntil.Sub(now) > longestDelay {
		// A clock was wrong. Nobody is locked out for longer by that.
		l.LockedUntil = now.Add(longestDelay)
	}
	if l.Locked(now) {
		return false
	}
	l.Failures++
	l.Last = now
	l.LockedUntil = time.Time{}
	if n := l.Failures - freeFailures; n >= 0 {
		l.LockedUntil = now.Add(min(firstDelay<<min(n, 10), longestDelay))
	}
	return true
}

// takeBack uncounts an attempt that was begun at a time and neither failed nor
// completed a sign-in. It lifts the delay that the attempt itself has set.
func (l *Lane) takeBack(begun time.Time) {
	l.Failures = max(l.Failures-1, 0)
	if l.Failures < freeFailures || l.Last.Equal(begun) {
		l.LockedUntil = time.Time{}
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
