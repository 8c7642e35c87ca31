package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the HTTP surface. Every label is from a small vocabulary
// of our own: nothing a client sends becomes one.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	cut      *prometheus.CounterVec
	inWork   *prometheus.GaugeVec
	waiting  *prometheus.GaugeVec
	overload *prometheus.CounterVec
	limited  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_http_requests_total", Help: "HTTP requests by method, route and status.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "roster_http_request_duration_seconds", Help: "Time from the first byte of a request to the last of its response.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "route"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_tokens_refused_total", Help: "Requests refused for their credentials, by reason.",
		}, []string{"reason"}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_http_responses_cut_total", Help: "Responses that were cut off, by cause: client, error or panic.",
		}, []string{"cause"}),
		inWork: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "roster_requests_in_work", Help: "Requests being processed, by lane: common, deprovisioning or people.",
		}, []string{"lane"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "roster_requests_waiting", Help: "Requests in the queue, by lane.",
		}, []string{"lane"}),
		overload: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_requests_overload_total", Help: "Requests refused because of overload, by lane and reason: the queue was full, or they waited too long (late).",
		}, []string{"lane", "reason"}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "roster_requests_limited_total", Help: "Requests refused because their client exceeded its rate.",
		}),
	}
	for _, cause := range []string{cutByClient, cutByError, cutByPanic} { // there from the start, so that alerts see the first one
		m.cut.WithLabelValues(cause)
	}
	r.MustRegister(m.requests, m.duration, m.refused, m.cut, m.inWork, m.waiting, m.overload, m.limited)
	return m
}

// StoreMetrics count what a store writes.
type StoreMetrics struct {
	commits prometheus.Counter
	writes  prometheus.Histogram
	took    prometheus.Histogram
}

// NewStoreMetrics registers the metrics of a store of this kind, such as sqlite.
func NewStoreMetrics(r prometheus.Registerer, kind string) *StoreMetrics {
	commits := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roster_store_commits_total", Help: "Transactions committed durably.",
	}, []string{"store"})
	m := &StoreMetrics{
		commits: commits.WithLabelValues(kind),
		writes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roster_store_commit_writes", Help: "Writes that shared a commit.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "roster_store_commit_duration_seconds", Help: "Time from the first write of a commit until it is durable.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
	}
	r.MustRegister(commits, m.writes, m.took)
	return m
}

// Committed notes one commit.
func (m *StoreMetrics) Committed(writes int, took time.Duration) {
	m.commits.Inc()
	m.writes.Observe(float64(writes))
	m.took.Observe(took.Seconds())
}

// Operations registers the counter of provisioning operations and returns the
// function that counts; see scim.Provider.Observe.
func Operations(r prometheus.Registerer) func(resourceType, operation, outcome string) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roster_provisioning_operations_total", Help: "Operations on resources by type, operation and outcome.",
	}, []string{"resource_type", "operation", "outcome"})
	r.MustRegister(c)
	return func(resourceType, operation, outcome string) {
		c.WithLabelValues(resourceType, operation, outcome).Inc()
	}
}

// AsyncRequests registers the metrics of bulk requests that are carried out after they
// were answered and returns the functions that set them; see scim.Async.
func AsyncRequests(r prometheus.Registerer) (pending func(n int), done func()) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "roster_bulk_pending", Help: "Asynchronous bulk requests that wait or are in progress, when this process last looked.",
	})
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "roster_bulk_done_total", Help: "Asynchronous bulk requests that this process completed.",
	})
	r.MustRegister(g, c)
	return func(n int) { g.Set(float64(n)) }, c.Inc
}

// OverdueReviews registers the gauge of reviews that should have been closed and returns
// the function that sets it; see access.Desk.Overdue.
func OverdueReviews(r prometheus.Registerer) func(reviews int) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "roster_reviews_overdue", Help: "Reviews past their due date that nobody has closed, in all tenants.",
	})
	r.MustRegister(g)
	return func(reviews int) { g.Set(float64(reviews)) }
}

// Chores registers the counter of what a process does again and again, and returns the
// function that counts how it ended.
func Chores(r prometheus.Registerer, names ...string) func(name string, err error) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "roster_chores_total", Help: "Background tasks of this process, by chore and outcome.",
	}, []string{"chore", "outcome"})
	r.MustRegister(c)
	for _, name := range names {
		c.WithLabelValues(name, "ok")
		c.WithLabelValues(name, "failed")
	}
	return func(name string, err error) {
		outcome := "ok"
		if err != nil {
			outcome = "failed"
		}
		c.WithLabelValues(name, outcome).Inc()
	}
}

// SignIns registers the counters of what proves who somebody is and returns the
// function that counts; see auth.Authenticator.Observe.
func SignIns(r prometheus.Registerer) func(event, outcome string) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"outcome"})
	}
	signIns := counter("roster_signin_total", "Attempts to sign in, by outcome.")
	passcodes := counter("roster_passcode_total", "Passcodes and recovery codes given in a session, by outcome.")
	stepUps := counter("roster_stepup_total", "Fresh passcodes given in a session, by outcome.")
	lockouts := counter("roster_lockouts_total", "Accounts locked for a while, or whose passcodes were disabled, after too many failures.")
	counters := map[string]*prometheus.CounterVec{
		"signin": signIns, "passcode": passcodes, "recovery": passcodes, "check": passcodes, "stepup": stepUps, "lockout": lockouts,
	}
	r.MustRegister(signIns, passcodes, stepUps, lockouts)
	for _, outcome := range []string{"locked", "disabled"} { // there from the start, so that alerts see the first one
		lockouts.WithLabelValues(outcome)
	}
	for _, c := range []*prometheus.CounterVec{signIns, passcodes, stepUps} {
		c.WithLabelValues("ok")
	}
	emergencies := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "roster_emergency_signin_total", Help: "Sign-ins to emergency accounts.",
	})
	r.MustRegister(emergencies)
	return func(event, outcome string) {
		if c, ok := counters[event]; ok {
			c.WithLabelValues(outcome).Inc()
			return
		}
		if event == "emergency" {
			emergencies.Inc()
		}
	}
}
