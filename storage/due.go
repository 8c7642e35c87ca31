package storage

import "time"

// dueDrift is how far the clocks of processes that share a store may be apart.
const dueDrift = 30 * time.Second

// Due reports whether the time has come that a record waits for, a lease's end among
// them, which was set to be at most so far ahead. What is further ahead was set by a
// clock that was wrong, and would wait for as long as that was wrong by.
func Due(at, now time.Time, most time.Duration) bool {
	ahead := at.Sub(now)
	return ahead <= 0 || ahead > most+dueDrift
}
