package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestHalfReceiver: a receiver that fails half the time, however often in a row, is told of
// every change within the time in which events are tried, and of each resource in order.
// The clock is the test's, so that it need not wait for what is tried again later.
func TestHalfReceiver(t *testing.T) {
	onStoresWith(t, testserver.Options{ByHand: true}, testHalfReceiver)
}

func testHalfReceiver(t *testing.T, w *world) {
	token := w.feedAdmin(t)
	hook := listenForEvents(t)
	made := w.feed(t, token, object{"name": "HR", "delivery": "webhook", "url": hook.URL})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	lots := rand.New(rand.NewPCG(seed, 0))
	acked, inARow, most := map[string]bool{}, map[string]int{}, 0
	hook.answers(func(d delivered) int { // one at a time
		var e told
		if err := json.Unmarshal([]byte(d.body), &e); err != nil {
			t.Error(err)
		}
		version := 0
		for _, p := range e.Events {
			if _, err := fmt.Sscan(strings.Trim(strings.TrimPrefix(p.Version, "W/"), `"`), &version); err != nil {
				t.Error(err)
			}
		}
		key := func(v int) string { return fmt.Sprint(e.SubID.ID, " ", v) }
		if version > 1 && !acked[key(version-1)] {
			t.Errorf("%s before the version before it was acknowledged", key(version))
		}
		if lots.IntN(2) == 0 {
			inARow[key(version)]++
			most = max(most, inARow[key(version)])
			return 500
		}
		acked[key(version)] = true
		return 200
	})
	want := 0
	const users, versions = 60, 6
	for i := range users {
		id := w.userNamed(t, fmt.Sprint("user", i), "")
		for v := range versions - 1 {
			w.patchUser(t, id, "title", fmt.Sprint(v))
		}
		want += versions
	}
	rounds := 0
	for ; rounds < 600; rounds++ { // 20 hours; events are tried for 24
		w.Feeds.Step(t.Context(), storage.DefaultTenant, made.Feed.ID)
		hook.mu.Lock()
		n := len(acked)
		hook.mu.Unlock()
		if n == want {
			break
		}
		w.advance(2 * time.Minute)
	}
	hook.mu.Lock()
	defer hook.mu.Unlock()
	t.Logf("%d of %d events after %d rounds, up to %d failures in a row", len(acked), want, rounds, most)
	if len(acked) != want {
		t.Errorf("%d events were not told", want-len(acked))
	}
}
