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
			Name: "roster_events_total", Help: "Events by delivery and outcome: delivered, failed (retried), dead or expired (not retried).",
		}, []string{"delivery", "outcome"}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roster_events_behind", Help: "Feeds with events that have not been tried yet, when this process last looked.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roster_events_lag_seconds", Help: "Age of the oldest undelivered event of webhook and push feeds, when this process last looked.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roster_events_waiting", Help: "Events that are being retried, or wait behind such events, when this process last looked.",
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
