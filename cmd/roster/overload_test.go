package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roster-id/roster/schemas"
)

// overloadTest is a server and what is asked of it.
type overloadTest struct {
	t      *testing.T
	server *process
	token  string
	http   *http.Client
	apart  *http.Client // of the one that takes access away: the others' connections are not in its way
	spare  chan string  // ids of users to be deleted or deactivated
	serial atomic.Int64
}

// tally is what became of requests.
type tally struct {
	mu       sync.Mutex
	served   []time.Duration // 2xx
	refused  []time.Duration // 503
	problems []string        // anything else, the first few
	broken   int
}

func (a *tally) add(took time.Duration, status int, header http.Header, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, noNumber := strconv.Atoi(header.Get("Retry-After"))
	switch {
	case err == nil && status/100 == 2:
		a.served = append(a.served, took)
	case err == nil && status == 503 && noNumber == nil:
		a.refused = append(a.refused, took)
	default:
		if a.broken++; len(a.problems) < 3 {
			a.problems = append(a.problems, fmt.Sprintf("%d %v %v", status, header, err))
		}
	}
}

func p99(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(took))
	return s[len(s)*99/100]
}

func (o *overloadTest) send(to *tally, method, url, body string) {
	o.sendBy(o.http, to, method, url, body)
}

func (o *overloadTest) sendBy(client *http.Client, to *tally, method, url, body string) {
	if strings.HasPrefix(url, "/") {
		url = o.server.scim + url
	}
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		to.add(0, 0, nil, err)
		return
	}
	r.Header.Set("Authorization", "Bearer "+o.token)
	r.Header.Set("Content-Type", "application/scim+json")
	began := time.Now()
	res, err := client.Do(r)
	if err != nil {
		to.add(0, 0, nil, err)
		return
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	to.add(time.Since(began), res.StatusCode, res.Header, err)
}

// ask sends one request of the mixture: half of them read a page of a thousand users, a quarter one of a
// hundred, a quarter create somebody.
func (o *overloadTest) ask(to *tally) {
	switch n := o.serial.Add(1); n % 4 {
	case 0:
		o.send(to, "GET", "/Users?count=100", "")
	case 1:
		o.send(to, "POST", "/Users", userBody(fmt.Sprintf("load-%d@example.com", n), fmt.Sprintf("load-%d", n)))
	default:
		o.send(to, "GET", "/Users?count=1000", "")
	}
}

// closed has so many workers ask one request after another, until over says so.
func (o *overloadTest) closed(to *tally, workers int, over func() bool) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for !over() {
				o.ask(to)
			}
		})
	}
	wg.Wait()
}

// paced asks so many requests in a second for a while, whether they are answered or not.
func (o *overloadTest) paced(to *tally, perSecond float64, d time.Duration) {
	var wg sync.WaitGroup
	began := time.Now()
	for n := 0; ; {
		at := time.Since(began)
		if at > d {
			break
		}
		for ; float64(n) < at.Seconds()*perSecond; n++ {
			wg.Go(func() { o.ask(to) })
		}
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
}

// deprovision deletes and deactivates users in turns until over says so.
func (o *overloadTest) deprovision(to *tally, pause time.Duration, over func() bool) {
	for i := 0; !over(); i++ {
		select {
		case id := <-o.spare:
			if i%2 == 0 {
				o.sendBy(o.apart, to, "DELETE", "/Users/"+id, "")
			} else {
				o.sendBy(o.apart, to, "PATCH", "/Users/"+id, patchBody(object{"op": "replace", "path": "active", "value": false}))
			}
		default:
			return
		}
		time.Sleep(pause)
	}
}

// fill creates users through Bulk, and remembers some of them to take access away from.
func (o *overloadTest) fill(users, spare int) {
	o.t.Helper()
	id := regexp.MustCompile(`/Users/([0-9a-f-]{36})`)
	o.spare = make(chan string, spare)
	for n := 0; n < users; n += 500 {
		var operations []object
		for i := n; i < min(n+500, users); i++ {
			mark := fmt.Sprintf("fill-%d", i)
			user := marked(mark)
			user["schemas"], user["userName"] = []string{schemas.UserURI}, mark+"@example.com"
			operations = append(operations, object{"method": "POST", "path": "/Users", "bulkId": strconv.Itoa(i), "data": user})
		}
		res, body, err := o.server.do("POST", "/Bulk", o.token, marshal(object{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:BulkRequest"}, "Operations": operations}))
		if err != nil || res.StatusCode != 200 {
			o.t.Fatalf("%v %v %.300s", err, res, body)
		}
		seen := ""
		for _, m := range id.FindAllStringSubmatch(body, -1) {
			if m[1] != seen && len(o.spare) < spare {
				o.spare <- m[1]
			}
			seen = m[1]
		}
	}
}

var (
	inWork   = regexp.MustCompile(`(?m)^roster_requests_(?:in_work|waiting)\{lane="\w+"\} (\d+)$`)
	refusals = regexp.MustCompile(`(?m)^roster_requests_overload_total\{lane="(\w+)",reason="\w+"\} (\d+)$`)
	highest  = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)
)

// settled says what is left of requests that are over.
func (o *overloadTest) settled() error {
	_, metrics, err := o.server.do("GET", o.server.ops+"/metrics", "", "")
	if err != nil {
		return err
	}
	all := inWork.FindAllStringSubmatch(metrics, -1)
	if len(all) != 6 {
		return fmt.Errorf("%d gauges of lanes", len(all))
	}
	for _, m := range all {
		if m[1] != "0" {
			return fmt.Errorf("%s", m[0])
		}
	}
	return nil
}

// TestOverload asks more of a server than it can do. What it takes on it finishes, what it refuses it says
// how to go on with, and whoever takes access away, or asks whether it lives, does not notice. With
// ROSTER_TEST_OVERLOAD it measures that, for so many seconds each time.
func TestOverload(t *testing.T) {
	seconds, _ := strconv.Atoi(os.Getenv("ROSTER_TEST_OVERLOAD"))
	if seconds == 0 {
		t.Parallel()
	}
	dir := t.TempDir()
	store := dir + "/roster.db"
	o := &overloadTest{t: t, token: rosterToken(t, "client", "create", "--store", store, "--name", "load", "--scopes", "users")}
	// More than places and queue have, and fewer than one address may have.
	o.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 450, MaxConnsPerHost: 450}, Timeout: patience}
	o.apart = &http.Client{Transport: &http.Transport{}, Timeout: patience}
	t.Cleanup(o.http.CloseIdleConnections)
	t.Cleanup(o.apart.CloseIdleConnections)
	if seconds == 0 {
		o.server = serveStore(t, store, "--log-level=error", "--max-requests=2", "--max-queued-requests=2")
		o.small()
		return
	}
	o.server = serveStore(t, store, "--log-level=error")
	o.measure(time.Duration(seconds) * time.Second)
}

func (o *overloadTest) small() {
	o.fill(500, 40)
	var common, urgent, after tally
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		o.deprovision(&urgent, 0, func() bool { return false })
	})
	o.closed(&common, 16, done.Load)
	wg.Wait()
	o.alive()
	if len(common.served) == 0 || len(common.refused) == 0 || common.broken > 0 {
		o.t.Errorf("%d served and %d refused, both should be some; %d answers of other kinds, such as %q", len(common.served), len(common.refused), common.broken, common.problems)
	}
	if len(urgent.served) != 40 {
		o.t.Errorf("of 40 users access was taken from %d; %d refused, %q", len(urgent.served), len(urgent.refused), urgent.problems)
	}
	if err := eventually(o.settled); err != nil {
		o.t.Error(err)
	}
	for range 20 {
		o.ask(&after)
	}
	if len(after.served) != 20 {
		o.t.Errorf("afterwards %d of 20 served, %d refused, %q", len(after.served), len(after.refused), after.problems)
	}
}

// alive fails the test unless the server says that it lives and is ready.
func (o *overloadTest) alive() {
	for _, path := range []string{"/healthz", "/readyz"} {
		if err := o.server.expect(http.StatusOK, "GET", o.server.ops+path, "", ""); err != nil {
			o.t.Error(err)
		}
	}
}

// processorTime is what the server has used of processors so far.
func (o *overloadTest) processorTime() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", o.server.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (o *overloadTest) measure(d time.Duration) {
	o.fill(5000, 4000)
	until := func(d time.Duration) func() bool {
		end := time.Now().Add(d)
		return func() bool { return time.Now().After(end) }
	}
	var warm, single, peak, common, urgent, after tally
	o.closed(&warm, 64, until(d/4))
	o.closed(&single, 1, until(d/2))
	cpu := o.processorTime()
	o.closed(&peak, 64, until(d))
	atPeak := o.processorTime() - cpu
	most := float64(len(peak.served)) / d.Seconds()

	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { o.deprovision(&urgent, 10*time.Millisecond, done.Load) })
	wg.Go(func() {
		for !done.Load() {
			o.alive()
			time.Sleep(100 * time.Millisecond)
		}
	})
	cpu = o.processorTime()
	began := time.Now()
	o.paced(&common, 4*most, d)
	took := time.Since(began)
	atFour := o.processorTime() - cpu
	done.Store(true)
	wg.Wait()
	stopped := time.Now()
	for len(after.served) == 0 {
		o.ask(&after)
	}
	recovery := time.Since(stopped)
	o.closed(&after, 64, until(d/2))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.server.cmd.Process.Pid))
	rss := highest.FindStringSubmatch(string(status))
	if err != nil || rss == nil {
		o.t.Fatal(err)
	}
	kb, _ := strconv.Atoi(rss[1])
	_, metrics, _ := o.server.do("GET", o.server.ops+"/metrics", "", "")
	row := func(what string, v any) { o.t.Logf("| %s | %v |", what, v) }
	row("one at a time, p99", p99(single.served))
	row("peak, 64 at a time, requests/s", int(most))
	row("peak, p99", p99(peak.served))
	row("offered at 4 times the peak, requests/s", int(float64(len(common.served)+len(common.refused)+common.broken)/took.Seconds()))
	row("goodput", fmt.Sprintf("%d/s, %.0f %% of the peak", int(float64(len(common.served))/took.Seconds()), 100*float64(len(common.served))/took.Seconds()/most))
	row("served, p99", p99(common.served))
	row("refused, p99", p99(common.refused))
	row("neither", fmt.Sprint(common.broken, common.problems))
	row("deprovisioning: served, refused, other, p99", fmt.Sprint(len(urgent.served), len(urgent.refused), urgent.broken, urgent.problems, p99(urgent.served)))
	row("processor time of the server, of two seconds in one: at the peak, beyond it", fmt.Sprintf("%.2f, %.2f", atPeak.Seconds()/d.Seconds(), atFour.Seconds()/took.Seconds()))
	row("first request served after", recovery)
	row("afterwards, requests/s of the peak", fmt.Sprintf("%.0f %%", 100*float64(len(after.served))/(d/2).Seconds()/most))
	row("resident memory, highest", fmt.Sprintf("%d MB", kb>>10))
	row("refused, by lane", refusals.FindAllString(metrics, -1))
	if len(urgent.served) == 0 || len(urgent.refused)+urgent.broken > 0 {
		o.t.Errorf("deprovisioning: %d served, %d refused, %q", len(urgent.served), len(urgent.refused), urgent.problems)
	}
}
