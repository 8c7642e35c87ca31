package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/internal/tracing"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// traced starts a server whose spans are recorded.
func traced(t *testing.T, sampler trace.Sampler, opt testserver.Options) (*testserver.Server, *tracetest.SpanRecorder) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder), trace.WithSampler(sampler))
	before := opt.Store
	opt.Store = func(s storage.Store) storage.Store {
		if before != nil {
			s = before(s)
		}
		return tracing.Store(s)
	}
	opt.Server = func(o *server.Options) { o.Tracer = tracing.New(provider) }
	return testserver.Start(t, opt), recorder
}

// tree writes spans with what is in them, in the order in which they began.
func tree(spans []trace.ReadOnlySpan, traceID string) string {
	var b strings.Builder
	var write func(parent, indent string)
	write = func(parent, indent string) {
		in := slices.DeleteFunc(slices.Clone(spans), func(s trace.ReadOnlySpan) bool {
			return s.SpanContext().TraceID().String() != traceID || s.Parent().SpanID().String() != parent
		})
		slices.SortStableFunc(in, func(a, b trace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
		for _, s := range in {
			b.WriteString(indent + s.Name())
			for _, a := range s.Attributes() {
				if a.Key != "roster.request_id" {
					fmt.Fprintf(&b, " %s=%s", a.Key, a.Value.String())
				}
			}
			if s.Status().Code == codes.Error {
				b.WriteString(" failed " + s.Status().Description)
			}
			b.WriteString("\n")
			write(s.SpanContext().SpanID().String(), indent+"  ")
		}
	}
	write("b7ad6b7169203331", "")
	return b.String()
}

// traceparent names a trace for the n-th request, and the span that it comes from.
func traceparent(n int) (id, header string) {
	id = fmt.Sprintf("0af7651916cd43dd8448eb21%08x", n)
	return id, "00-" + id + "-b7ad6b7169203331-01"
}

// TestTraces: a request is a span in the trace that it names, what the provider does one in that, what the
// store does in that one; the log has the trace. Nothing in them is of a person.
func TestTraces(t *testing.T) {
	t.Parallel()
	var log testserver.Log
	s, recorder := traced(t, trace.ParentBased(trace.NeverSample()), testserver.Options{Log: log.Logger()})
	id := s.Users(t, 1)[0]
	const canary = "canary-zq7"
	user := `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"` + canary + `@example.com"}`
	s.Do(t, "GET", "/Users/"+id, "") // so that the token is known to the verifier
	for i, test := range []struct {
		method, path, body string
		want               string
	}{
		{"GET", "/Users/" + id, "", `GET /scim/v2/Users/{id} http.request.method=GET http.route=/scim/v2/Users/{id} http.response.status_code=200
  get roster.type=User
    store get roster.type=User
`},
		{"POST", "/Users", user, `POST /scim/v2/Users http.request.method=POST http.route=/scim/v2/Users http.response.status_code=201
  create roster.type=User
    store write
      store commit
`},
		{"POST", "/Users", user, `POST /scim/v2/Users http.request.method=POST http.route=/scim/v2/Users http.response.status_code=409
  create roster.type=User
    store write
`},
		{"GET", `/Users?filter=userName+eq+%22` + canary + `%22`, "", `GET /scim/v2/Users http.request.method=GET http.route=/scim/v2/Users http.response.status_code=200
  query roster.type=User
    store query roster.type=User
`},
		{"GET", "/" + canary + "/x", "", `GET none http.request.method=GET http.route=none http.response.status_code=404
`},
	} {
		trace, header := traceparent(i)
		s.Do(t, test.method, test.path, test.body, "Traceparent", header)
		spans := recorder.Ended()
		if diff := cmp.Diff(test.want, tree(spans, trace)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", test.method, test.path, diff)
		}
		logged := 0
		for line := range strings.Lines(log.String()) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatal(err)
			}
			if entry["trace_id"] == trace && entry["msg"] == "request" {
				logged++
			}
		}
		if logged != 1 {
			t.Errorf("%d lines of the log name the trace, want 1", logged)
		}
	}
	all := fmt.Sprintf("%+v", tracetest.SpanStubsFromReadOnlySpans(recorder.Ended()))
	for _, secret := range []string{canary, id, s.Token} {
		if strings.Contains(all, secret) {
			t.Errorf("the spans say %q", secret)
		}
	}
	// What is not sampled is nowhere.
	n := len(recorder.Ended())
	s.Do(t, "GET", "/Users/"+id, "")
	if more := len(recorder.Ended()) - n; more != 0 {
		t.Errorf("%d spans of a request that is not sampled", more)
	}
}
