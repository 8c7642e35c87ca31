package api

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	t.Parallel()
	var l rate
	now := time.Unix(1e9, 0)
	a := netip.MustParseAddr("192.0.2.1")
	for i := range 10 {
		if wait := l.admit(a, now.Add(time.Duration(i)*time.Second)); wait != 0 {
			t.Fatalf("attempt %d has to wait %v", i, wait)
		}
	}
	for _, test := range []struct {
		from string
		at   time.Duration
		want time.Duration
	}{
		{"192.0.2.1", 10 * time.Second, 50 * time.Second},
		{"192.0.2.1", 10 * time.Second, 50 * time.Second}, // what is refused does not count
		{"::ffff:192.0.2.1", 59 * time.Second, time.Second},
		{"192.0.2.2", 10 * time.Second, 0},
		{"192.0.2.1", 60 * time.Second, 0},
		{"192.0.2.1", 60 * time.Second, time.Second}, // the second of the ten was a second later
		{"192.0.2.1", 61 * time.Second, 0},
		{"192.0.2.1", -time.Hour, 0}, // the clock went back
	} {
		if got := l.admit(netip.MustParseAddr(test.from), now.Add(test.at)); got != test.want {
			t.Errorf("%s after %v: wait %v, want %v", test.from, test.at, got, test.want)
		}
	}
}

func TestRateOfIPv6(t *testing.T) {
	t.Parallel()
	var l rate
	now := time.Unix(1e9, 0)
	for i := range 10 {
		if l.admit(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), now) != 0 {
			t.Fatal("one of the first ten is refused")
		}
	}
	if l.admit(netip.MustParseAddr("2001:db8:0:0:ffff::1"), now) == 0 {
		t.Error("an eleventh attempt from the same /64 is let in")
	}
	if l.admit(netip.MustParseAddr("2001:db8:0:1::1"), now) != 0 {
		t.Error("another /64 is refused")
	}
}

func TestRateIsBounded(t *testing.T) {
	t.Parallel()
	var l rate
	now := time.Unix(1e9, 0)
	for i := range 2*maxAddresses + 10 {
		l.admit(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(l.addresses) > maxAddresses {
		t.Errorf("%d addresses are kept", len(l.addresses))
	}
	l.admit(netip.MustParseAddr("192.0.2.1"), now.Add(time.Minute))
	if len(l.addresses) != 1 {
		t.Errorf("of those whose attempts are past, %d are kept", len(l.addresses)-1)
	}
}
