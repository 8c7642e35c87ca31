package events

import "github.com/prometheus/client_golang/prometheus"

// What became of an attempt.
const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed" // it is tried again
	outcomeDead      = "dead"
	outcomeExpired   = "expired" // it was older than the feed keeps events
)

type metrics struct {
	events *prometheus.CounterVec
	behind prometheus.Gauge
	lag    prometheus.Gauge
	held   prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_events_total", Help: "Events by delivery and outcome: delivered, failed (they are tried again), dead or expired (they are not).",
		}, []string{"delivery", "outcome"}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roster_events_behind", Help: "Feeds that have events which were not tried yet, when this process last looked.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roster_events_lag_seconds", Help: "Age of the oldest event that was not delivered to a feed that is sent to, when this process last looked.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roster_events_waiting", Help: "Events that are tried again, or wait behind such, when this process last looked.",
		}),
	}
	for _, d := range []Delivery{Webhook, Push, Poll} { // there from the start, so that alerts see the first one
		for _, o := range []string{outcomeDelivered, outcomeFailed, outcomeDead, outcomeExpired} {
			m.events.WithLabelValues(string(d), o)
		}
	}
	if r != nil {
		r.MustRegister(m.events, m.behind, m.lag, m.held)
	}
	return m
}
