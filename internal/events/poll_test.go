package events

import "testing"

// TestWaitingPolls: polls that wait are bounded, of a feed and of all.
func TestWaitingPolls(t *testing.T) {
	t.Parallel()
	s := &Feeds{polls: map[string]int{}}
	n := 0
	for feed := range 3 * maxWaiting {
		id := string(rune('a' + feed))
		for i := range maxPolls + 1 {
			ok := s.mayWait(id)
			if ok {
				n++
			}
			if i == maxPolls && ok {
				t.Errorf("feed %d has %d polls that wait", feed, i+1)
			}
		}
	}
	if n != maxWaiting {
		t.Errorf("%d polls wait, want %d", n, maxWaiting)
	}
	for range maxPolls {
		s.waited("a")
	}
	if !s.mayWait("a") || len(s.polls) == 0 {
		t.Error("nobody waits in the place of those that have ended")
	}
}
