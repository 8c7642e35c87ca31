package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestTraceExport: a server that is told of a collector sends it what requests were, when it ends at
// the latest, and nothing of whom they were about. A collector that is away holds nothing up.
func TestTraceExport(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sent bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/v1/traces" {
			_, _ = io.Copy(&sent, r.Body)
		}
	}))
	defer collector.Close()
	const canary = "canary-zq7@example.com"
	run := func(env ...string) *process {
		store := t.TempDir() + "/roster.db"
		token := rosterToken(t, "client", "create", "--store", store, "--name", "idp", "--scopes", "users")
		s, err := launch{dir: t.TempDir(), env: append(cleanEnv(), env...), args: []string{"--store", store}}.start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.kill)
		if err := s.expect(201, "POST", "/Users", token, userBody(canary, "m")); err != nil {
			t.Fatal(err)
		}
		if err := s.end(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := run("OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_SERVICE_NAME=directory")
	mu.Lock()
	got := sent.String()
	mu.Unlock()
	for _, want := range []string{"POST /scim/v2/Users", "store commit", "directory", "service.version"} { // strings stand in protobuf as they are
		if !strings.Contains(got, want) {
			t.Errorf("the collector got nothing of %q in %d bytes", want, len(got))
		}
	}
	if strings.Contains(got, canary) || strings.Contains(got, "roster_") {
		t.Error("the collector was told too much")
	}
	if !strings.Contains(s.printed(s.stderr), `"trace_id":"`) {
		t.Error("the log does not name the trace")
	}

	collector.Close()
	s = run("OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=authorization=sesame", "OTEL_EXPORTER_OTLP_TIMEOUT=100")
	if log := s.printed(s.stderr); !strings.Contains(log, "traces could not be sent") || strings.Contains(log, "sesame") {
		t.Errorf("with a collector that is away: %s", log)
	}
	if s = run(); strings.Contains(s.printed(s.stderr), "trace_id") {
		t.Error("traces that nobody asked for")
	}
}
