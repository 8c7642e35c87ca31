package auth

import (
	"errors"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestTimingOfRefusals: M15. Samples of each kind of refusal, interleaved, at the real
// cost of a hash, are compared with Welch's t-test. It is about wall-clock time, so it
// runs when it is asked for (make timing); TestAnswersAreEqual counts the work
// instead.
func TestTimingOfRefusals(t *testing.T) {
	samples, err := strconv.Atoi(os.Getenv("ROSTER_TEST_TIMING"))
	if err != nil {
		t.Skip("NOT RUN: whether the time of a refusal tells why; set ROSTER_TEST_TIMING to the number of samples, as make timing does")
	}
	d := newDirectory(t)
	d.Hasher = NewHasher()
	ids := map[string]string{}
	for _, name := range []string{"wrong", "blocked", "locked", "totp"} {
		ids[name] = d.add(name, false)
	}
	d.setActive(ids["blocked"], false)
	dev, _ := d.enrol("totp")
	unknownName := "nowhere"
	for d.decoy(storage.DefaultTenant, unknownName).administrator {
		unknownName += "x"
	}
	decoy := d.decoy(storage.DefaultTenant, unknownName).id
	classes := []struct{ name, user, id, password, passcode string }{
		{"wrong password", "wrong", ids["wrong"], "wrong password", ""},
		{"unknown name", unknownName, decoy, goodPassword, ""},
		{"blocked", "blocked", ids["blocked"], goodPassword, ""},
		{"locked", "locked", ids["locked"], goodPassword, ""},
		{"wrong passcode", "totp", ids["totp"], goodPassword, dev.wrong()},
	}
	times := make([][]float64, len(classes))
	for n := range samples {
		for i := range classes {
			i = (i + n) % len(classes)
			c := classes[i]
			d.write(func(tx storage.Tx) error {
				credential, err := ReadCredential(tx, c.id)
				if err != nil {
					return err
				}
				credential.Throttle = Throttle{}
				if c.name == "locked" {
					credential.Throttle = Throttle{Lane: Lane{Failures: freeFailures, LockedUntil: d.clock.now().Add(time.Minute)}}
				}
				return SaveCredential(tx, c.id, credential)
			})
			began := time.Now()
			if _, err := d.give(c.user, c.password, c.passcode); !errors.Is(err, ErrSignIn) {
				t.Fatalf("%s: %v", c.name, err)
			}
			times[i] = append(times[i], float64(time.Since(began))/float64(time.Millisecond))
		}
	}
	for i, c := range classes {
		stat, median := welch(times[0], times[i]), quantile(times[i], 0.5)
		off := median/quantile(times[0], 0.5) - 1
		t.Logf("%-15s median %.2f ms (%+.2f %%), t = %+.2f", c.name, median, 100*off, stat)
		if math.Abs(stat) >= 4.5 || math.Abs(off) > 0.05 {
			t.Errorf("%s: median %+.2f %% off, |t| = %.2f; want less than 5 %% and 4.5", c.name, 100*off, math.Abs(stat))
		}
	}
}

// welch returns Welch's t of two samples, without the slowest hundredth, which is the
// machine's doing.
func welch(a, b []float64) float64 {
	moments := func(list []float64) (mean, variance, n float64) {
		limit := quantile(list, 0.99)
		for _, x := range list {
			if x <= limit {
				mean += x
				n++
			}
		}
		mean /= n
		for _, x := range list {
			if x <= limit {
				variance += (x - mean) * (x - mean)
			}
		}
		return mean, variance / (n - 1), n
	}
	m1, v1, n1 := moments(a)
	m2, v2, n2 := moments(b)
	if v1+v2 == 0 {
		return 0
	}
	return (m2 - m1) / math.Sqrt(v1/n1+v2/n2)
}

func quantile(list []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
