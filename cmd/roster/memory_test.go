//go:build linux && !race

// Memory is read from /proc, and the race detector has memory of its own.

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMemoryOfSignIns: 200 sign-ins at once to an administrator's account, each of which
// takes 64 MiB to look at, take no more memory than one hash for each core and 50 MiB,
// beyond what the server needs anyway. Those who do not get a place in the queue are told to come
// again, and the server says meanwhile that it is well.
func TestMemoryOfSignIns(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN with -short: 34 hashes of 64 MiB each take a while")
	}
	store := filepath.Join(t.TempDir(), "roster.db")
	s := serveStore(t, store, "--trusted-proxies", "127.0.0.0/8")
	before := s.peak(t)
	base := strings.TrimSuffix(s.scim, basePath)
	link := strings.TrimSpace(roster(t, "setup", "--store", store, "--public-url", base))
	_, fragment, _ := strings.Cut(link, "#")
	p := &people{process: s, t: t}
	p.ask(200, "POST", "/auth/v1/setup", fmt.Sprintf(`{"link":%q,"userName":"root","password":"seven tall herons on a roof"}`, fragment), nil)

	const attempts = 200
	statuses := make([]int, attempts)
	var wait sync.WaitGroup
	for n := range attempts {
		wait.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), "POST", base+"/auth/v1/sign-in", strings.NewReader(`{"name":"root","password":"wrong"}`))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", n))
			res, err := s.client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			statuses[n] = res.StatusCode
			res.Body.Close()
		})
	}
	over := make(chan struct{})
	go func() { wait.Wait(); close(over) }()
	healthy := 0
	for done := false; !done; healthy++ {
		time.Sleep(5 * time.Millisecond) // or the processor would do nothing else
		select {
		case <-over:
			done = true
		default:
		}
		if res, text, err := s.do("GET", s.ops+"/healthz", "", ""); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("meanwhile: %v %s, %v", res, text, err)
		}
	}
	count := map[int]int{}
	for _, status := range statuses {
		count[status]++
	}
	if count[http.StatusUnauthorized] == 0 || count[http.StatusServiceUnavailable] == 0 || count[http.StatusUnauthorized]+count[http.StatusServiceUnavailable] != attempts {
		t.Errorf("answers by status: %v, want 401 and 503", count)
	}
	const mib = 1 << 20
	cores := runtime.GOMAXPROCS(0)
	grown, most := s.peak(t)-before, (cores*64+50)*mib
	if grown > most {
		t.Errorf("%d MiB more at the most, want %d at most", grown/mib, most/mib)
	}
	t.Logf("%d MiB before, %d MiB more at the most (bound %d), %v, asked %d times for health", before/mib, grown/mib, most/mib, count, healthy)
}

// peak returns the most memory that a server has had.
func (s *process) peak(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("the system does not tell how much memory a process has")
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
