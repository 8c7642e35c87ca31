package bench

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseReady(t *testing.T) {
	for _, c := range []struct {
		line, base, ops string
		ok              bool
	}{
		{"listening scim=http://127.0.0.1:1/scim/v2 ops=http://127.0.0.1:2", "http://127.0.0.1:1/scim/v2", "http://127.0.0.1:2", true},
		{"listening scim=http://127.0.0.1:1 ops=http://127.0.0.1:2", "http://127.0.0.1:1/scim/v2", "http://127.0.0.1:2", true},
		{"listening scim=https://[::1]:1/ ops=http://[::1]:2/", "https://[::1]:1/scim/v2", "http://[::1]:2", true},
		{"listening scim=http://127.0.0.1:1", "http://127.0.0.1:1/scim/v2", "", true},
		{"listening baseline=http://127.0.0.1:1 ops=http://127.0.0.1:2\r", "http://127.0.0.1:1", "http://127.0.0.1:2", true},
		{"no clients yet; make the first token with:", "", "", false},
		{"listening scim=", "", "", false},
		{"", "", "", false},
	} {
		base, ops, ok := parseReady(c.line)
		if base != c.base || ops != c.ops || ok != c.ok {
			t.Errorf("parseReady(%q) = %q, %q, %t, want %q, %q, %t", c.line, base, ops, ok, c.base, c.ops, c.ok)
		}
	}
}

// A line may arrive in pieces, and more may follow or come before.
func TestReadyWriter(t *testing.T) {
	w := &readyWriter{ready: make(chan [2]string, 1)}
	for _, piece := range []string{"hello\nlisten", "ing scim=http://a:1 ", "ops=http://a:2\nno cli", "ents\nlistening scim=http://b:1\n"} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", piece, n, err)
		}
	}
	if got, want := <-w.ready, [2]string{"http://a:1/scim/v2", "http://a:2"}; got != want || w.at.IsZero() {
		t.Errorf("ready with %v at %s, want %v", got, w.at, want)
	}
}

func TestRunning(t *testing.T) {
	for _, c := range []struct{ url, ops, want string }{
		{"https://roster.example", "", "https://roster.example/scim/v2"},
		{"https://roster.example/", "", "https://roster.example/scim/v2"},
		{"http://127.0.0.1:8080/other/base", "http://127.0.0.1:9090/", "http://127.0.0.1:8080/other/base"},
		{"127.0.0.1:8080", "", ""},
		{"roster.example", "", ""},
		{"https://roster.example", "127.0.0.1:9090", ""},
	} {
		got := ""
		s, err := Running(c.url, c.ops, "secret")
		if err == nil {
			got = s.URL
		}
		if got != c.want {
			t.Errorf("Running(%s, %s) = %q, %v, want %q", c.url, c.ops, got, err, c.want)
		}
	}
}

// Settings of the one who measures are not those of the server measured.
func TestPlainEnviron(t *testing.T) {
	t.Setenv("ROSTER_LISTEN", "0.0.0.0:1")
	t.Setenv("KEPT", "yes")
	env := plainEnviron()
	if !slices.Contains(env, "KEPT=yes") || slices.Contains(env, "ROSTER_LISTEN=0.0.0.0:1") {
		t.Errorf("plainEnviron() = %v", env)
	}
}

func TestParseMetrics(t *testing.T) {
	got, err := parseMetrics(strings.NewReader(`# HELP go_memstats_mallocs_total Total.
# TYPE go_memstats_mallocs_total counter
go_memstats_mallocs_total 1.23456e+06
go_memstats_alloc_bytes_total 42
go_memstats_frees_total 7
process_resident_memory_bytes 1.8e+07
roster_http_requests_total{method="GET",route="/Users",status="200"} 3
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{metricAllocs: 1234560, metricBytes: 42, metricRSS: 18e6}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("parseMetrics (-want +got):\n%s", d)
	}
	if _, err := parseMetrics(strings.NewReader(metricRSS + " many\n")); err == nil {
		t.Error("parseMetrics of what is no number: no error")
	}
}

func TestParseVmRSS(t *testing.T) {
	for text, want := range map[string]int64{
		"Name:\troster\nVmPeak:\t  900 kB\nVmRSS:\t   18000 kB\nRssAnon:\t 1 kB\n": 18000 << 10,
		"Name:\troster\n": 0,
	} {
		if got := parseVMRSS([]byte(text)); got != want {
			t.Errorf("parseVMRSS(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	var l tail
	for range 1000 {
		_, _ = l.Write([]byte("a line\n"))
	}
	_, _ = l.Write([]byte("the last\n"))
	if got := l.String(); len(got) > tailSize || !strings.HasSuffix(got, "a line\nthe last") {
		t.Errorf("tail has %d bytes and ends with %q", len(got), got[max(0, len(got)-30):])
	}
}
