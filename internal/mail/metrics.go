package mail

import "github.com/prometheus/client_golang/prometheus"

// What became of an attempt to send.
const (
	outcomeSent   = "sent"
	outcomeFailed = "failed" // it is tried again
	outcomeDead   = "dead"
)

type metrics struct {
	attempts *prometheus.CounterVec
	length   prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roster_mail_total", Help: "Mail by kind and outcome: sent, failed (retried) or dead (given up).",
		}, []string{"kind", "outcome"}),
		length: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roster_mail_queue_length", Help: "Messages that wait to be sent, when this process last looked.",
		}),
	}
	for _, k := range Kinds() { // there from the start, so that alerts see the first one
		for _, o := range []string{outcomeSent, outcomeFailed, outcomeDead} {
			m.attempts.WithLabelValues(string(k), o)
		}
	}
	if r != nil {
		r.MustRegister(m.attempts, m.length)
	}
	return m
}
