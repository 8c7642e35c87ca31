package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/scim"
)

// lanes returns the common lane of a server with so many places and so long a queue. Those who
// wait do so for a second.
func lanes(places, queue int) *lane {
	return newAdmission(Admission{Requests: places, Queue: queue, Wait: time.Second}, newMetrics(prometheus.NewRegistry())).common
}

// taken fails the test unless these are the places taken and those who wait.
func taken(t *testing.T, l *lane, inWork, waiting float64) {
	t.Helper()
	if w, q := value(l.inWork), value(l.inQueue); w != inWork || q != waiting || float64(l.waiting.Load()) != waiting {
		t.Errorf("%v in work and %v waiting, want %v and %v", w, q, inWork, waiting)
	}
}

// value is that of a gauge or counter.
func value(m prometheus.Metric) float64 {
	r := prometheus.NewRegistry()
	r.MustRegister(m.(prometheus.Collector))
	families, _ := r.Gather() // of one metric that has just been made
	got := families[0].GetMetric()[0]
	return got.GetGauge().GetValue() + got.GetCounter().GetValue()
}

// retry fails the test unless err tells a client when to come back.
func retry(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*scim.Error](err); !ok || e.Status != 503 || e.RetryAfter < 1 || e.RetryAfter > 3 {
		t.Errorf("%v, want 503 and when to try again", err)
	}
}

// TestLane: what waits is served in the order in which it came, what finds the queue full
// is refused at once, what waits too long then. synctest sees to it that no goroutine is
// left.
func TestLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := lanes(2, 3)
		for range 2 {
			if err := l.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var order []int
		for i := range 3 {
			go func() {
				if err := l.enter(t.Context()); err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
			}()
			synctest.Wait()
		}
		taken(t, l, 2, 3)
		began := time.Now()
		retry(t, l.enter(t.Context()))
		if took := time.Since(began); took != 0 {
			t.Errorf("refused after %v, want at once", took)
		}
		for range 3 {
			l.leave()
			synctest.Wait()
		}
		if !slices.Equal(order, []int{0, 1, 2}) {
			t.Errorf("served in the order %v", order)
		}
		taken(t, l, 2, 0)

		began = time.Now()
		retry(t, l.enter(t.Context()))
		if took := time.Since(began); took != time.Second {
			t.Errorf("refused after %v, want a second", took)
		}
		if full, late := value(l.full), value(l.late); full != 1 || late != 1 {
			t.Errorf("%v refused because the queue was full, %v because it took too long; want 1 and 1", full, late)
		}
		l.leave()
		l.leave()
		taken(t, l, 0, 0)
	})
}

// TestLaneOfWhoLeft: who does not wait any longer gives its place in the queue back, and takes
// none in work.
func TestLaneOfWhoLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := lanes(1, 1)
		if err := l.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- l.enter(ctx) }()
		synctest.Wait()
		retry(t, l.enter(t.Context()))
		cancel()
		retry(t, <-left)
		taken(t, l, 1, 0)
		if late := value(l.late); late != 0 {
			t.Errorf("%v counted as too late, want none: it left by itself", late)
		}

		next := make(chan error)
		go func() { next <- l.enter(t.Context()) }()
		synctest.Wait()
		taken(t, l, 1, 1)
		l.leave()
		if err := <-next; err != nil {
			t.Fatal(err)
		}
		l.leave()
		taken(t, l, 0, 0)
	})
}

// TestPlaceThatIsLent: a place is lent while a body arrives slowly, is taken again at its end or refused, and
// is given back once.
func TestPlaceThatIsLent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := lanes(1, 0)
		begin := func() (*place, *io.PipeWriter, chan error) {
			if err := l.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			body, w := io.Pipe()
			c := &call{r: (&http.Request{Body: body}).WithContext(t.Context())}
			c.place.lane, c.place.held = l, true
			c.lend()
			end := make(chan error)
			go func() {
				_, err := io.ReadAll(c.r.Body)
				end <- err
			}()
			return &c.place, w, end
		}
		p, w, end := begin()
		time.Sleep(bodyPatience - 1)
		synctest.Wait()
		taken(t, l, 1, 0)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		taken(t, l, 0, 0)
		w.Close()
		if err := <-end; err != nil {
			t.Error(err)
		}
		taken(t, l, 1, 0)
		p.leave()
		taken(t, l, 0, 0)

		p, w, end = begin()
		time.Sleep(bodyPatience + 1)
		synctest.Wait()
		if err := l.enter(t.Context()); err != nil { // somebody else has it
			t.Fatal(err)
		}
		w.Close()
		retry(t, <-end)
		p.leave()
		taken(t, l, 1, 0)
		l.leave()

		p, w, end = begin()
		w.Close()
		if err := <-end; err != nil {
			t.Error(err)
		}
		time.Sleep(bodyPatience + 1)
		synctest.Wait()
		p.lend()          // by a timer that was late
		taken(t, l, 1, 0) // a body that is there lends nothing
		p.leave()
		taken(t, l, 0, 0)
	})
}

// TestPlaceOfAnnouncedBody: a body whose length was announced is there with its last byte. Over HTTP/2
// nobody who reads no further is told of its end.
func TestPlaceOfAnnouncedBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := lanes(1, 0)
		begin := func() (*call, *io.PipeWriter, chan error) {
			if err := l.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			body, w := io.Pipe()
			c := &call{r: (&http.Request{Body: body, ContentLength: 2}).WithContext(t.Context())}
			c.place.lane, c.place.held = l, true
			c.lend()
			end := make(chan error)
			go func() {
				_, err := io.ReadFull(c.r.Body, make([]byte, 2))
				end <- err
			}()
			return c, w, end
		}
		for _, pause := range []time.Duration{0, bodyPatience + 1} {
			c, w, end := begin()
			if _, err := w.Write([]byte("{")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pause)
			synctest.Wait()
			taken(t, l, map[bool]float64{true: 1}[pause == 0], 0)
			if _, err := w.Write([]byte("}")); err != nil {
				t.Fatal(err)
			}
			if err := <-end; err != nil {
				t.Error(err)
			}
			time.Sleep(bodyPatience + 1)
			synctest.Wait()
			taken(t, l, 1, 0)
			w.Close()
			if n, err := c.r.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // as io.Reader has it
				t.Errorf("behind the end: %d %v", n, err)
			}
			c.place.leave()
			taken(t, l, 0, 0)
		}

		c, w, end := begin()
		time.Sleep(bodyPatience + 1)
		synctest.Wait()
		if err := l.enter(t.Context()); err != nil { // somebody else has it
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("{}")); err != nil {
			t.Fatal(err)
		}
		retry(t, <-end)
		c.place.leave()
		taken(t, l, 1, 0)
		l.leave()
	})
}

// TestPlaceOfSlowReader: who reads slowly gives the place back once, if there is room among those who do.
func TestPlaceOfSlowReader(t *testing.T) {
	t.Parallel()
	a := newAdmission(Admission{Requests: 1, Wait: time.Second}, newMetrics(prometheus.NewRegistry()))
	begin := func() *place {
		if err := a.common.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		return &place{lane: a.common, readers: a.readers, held: true}
	}
	for range 2 {
		first := begin()
		first.stall()
		first.stall()
		taken(t, a.common, 0, 0)
		second := begin()
		second.stall() // there is no room
		taken(t, a.common, 1, 0)
		first.leave()
		second.stall()
		taken(t, a.common, 0, 0)
		second.leave()
		second.stall() // by a timer that was late
		taken(t, a.common, 0, 0)
	}
}
