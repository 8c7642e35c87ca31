package main

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSoak keeps a server busy for six seconds, or twice as many as ROSTER_TEST_SOAK says, with the
// changes of TestKill and with reads of much that overlap without end. Between two rounds the
// directory has to be what the workers know, and the server must hold no more goroutines, descriptors and
// memory than in the first rounds. The log of its store begins anew again and again, which is seen after
// a few minutes only.
func TestSoak(t *testing.T) {
	rounds := numberFrom(t, "ROSTER_TEST_SOAK", 3)
	k := newKillTest(t, numberFrom(t, "ROSTER_TEST_SEED", rand.Uint64()))
	reads := []string{"/Users?sortBy=title&count=200", "/Users?filter=title%20co%20%22a%22", "/Users?sortBy=displayName&startIndex=50", "/Groups?count=100"}
	var first, now held
	longest, read := int64(0), atomic.Int64{}
	for round := uint64(1); round <= rounds && !t.Failed(); round++ {
		var over atomic.Bool
		var wg sync.WaitGroup
		for _, w := range k.workers {
			wg.Go(func() { w.work(round, &over) })
		}
		for _, path := range reads {
			wg.Go(func() {
				for !over.Load() {
					if err := k.server.expect(http.StatusOK, "GET", path, k.token, ""); err != nil {
						t.Error(err)
						return
					}
					read.Add(1)
				}
			})
		}
		time.Sleep(2 * time.Second)
		over.Store(true)
		wg.Wait()

		k.suspect = map[string]bool{}
		for _, w := range k.workers {
			if w.pending != nil {
				t.Fatalf("%s %s was not answered: the server is gone", w.pending.method, w.pending.path)
			}
			k.acked += len(w.acked)
			w.acked = nil
		}
		k.compare()
		if info, err := os.Stat(filepath.Join(k.dir, "roster.db-wal")); err == nil {
			longest = max(longest, info.Size())
		}
		now = k.holds()
		if round <= 1+rounds/4 {
			first = held{max(first.goroutines, now.goroutines), max(first.descriptors, now.descriptors), max(first.memory, now.memory)}
		}
	}
	const mib = 1 << 20
	if now.goroutines > first.goroutines+16 || now.descriptors > first.descriptors+8 || now.memory > first.memory+64*mib {
		t.Errorf("the server held %+v in the first rounds, and %+v in the end", first, now)
	}
	if longest > 256*mib { // it is cut to 128 MiB, and waited for at 192 MiB
		t.Errorf("the log of the store had %d MiB", longest/mib)
	}
	if log := k.server.printed(k.server.stderr); log != "" {
		t.Errorf("the server had a reason to complain:\n%s", log)
	}
	t.Logf("%d changes, %d reads; at first %+v, in the end %+v, the log up to %d MiB", k.acked, read.Load(), first, now, longest/mib)
}

// held is what a server holds.
type held struct{ goroutines, descriptors, memory int }

var heldMetrics = regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds|process_resident_memory_bytes) (\S+)$`)

// holds tells what the server holds while nobody asks for anything.
func (k *killTest) holds() (h held) {
	k.t.Helper()
	k.server.client.CloseIdleConnections()
	time.Sleep(50 * time.Millisecond)
	_, text, err := k.server.do("GET", k.server.ops+"/metrics", "", "")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, m := range heldMetrics.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			k.t.Fatal(err)
		}
		switch m[1] {
		case "go_goroutines":
			h.goroutines = int(n)
		case "process_open_fds":
			h.descriptors = int(n)
		default:
			h.memory = int(n)
		}
	}
	if h.goroutines == 0 {
		k.t.Fatalf("GET /metrics: %s", text)
	}
	return h
}
