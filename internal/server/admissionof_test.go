package server

import (
	"testing"
	"time"
)

// TestAdmissionOf: what waits leaves connections to others. If one address could fill them
// with requests that wait, nothing would ever be refused, and nobody else get in.
func TestAdmissionOf(t *testing.T) {
	for _, test := range []struct{ requests, connections, queue int }{
		{16, 500, 128},
		{64, 500, 311},
		{64, 0, 512},
		{512, 500, 512},
		{0, 500, 0},
	} {
		if got := AdmissionOf(test.requests, test.connections, time.Second).Queue; got != test.queue {
			t.Errorf("AdmissionOf(%d, %d): %d wait; want %d", test.requests, test.connections, got, test.queue)
		}
	}
}
