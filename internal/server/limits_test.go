package server

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestTimes: what bounds a connection to either listener (S31). Only a profile may take
// longer than anything else.
func TestTimes(t *testing.T) {
	for pprof, most := range map[bool]time.Duration{false: 60 * time.Second, true: 0} {
		s := &Server{opt: Options{Registry: prometheus.NewRegistry(), Pprof: pprof}}
		main, ops := s.servers(nil)
		for name, got := range map[string]*http.Server{"main": main, "ops": ops} {
			write := 60 * time.Second
			if got == ops {
				write = most
			}
			if got.ReadHeaderTimeout != 5*time.Second || got.ReadTimeout != 30*time.Second || got.WriteTimeout != write || got.IdleTimeout != 120*time.Second || got.MaxHeaderBytes != 16<<10 {
				t.Errorf("%s, pprof %t: header %v, read %v, write %v, idle %v, %d bytes of headers", name, pprof,
					got.ReadHeaderTimeout, got.ReadTimeout, got.WriteTimeout, got.IdleTimeout, got.MaxHeaderBytes)
			}
		}
		if n := main.HTTP2.MaxConcurrentStreams; n != 100 {
			t.Errorf("%d streams of one connection", n)
		}
	}
}
