package tracing_test

import (
	"testing"

	"github.com/roster-id/roster/internal/tracing"
)

// TestOff: where nobody collects traces they cost no memory, and every call does nothing.
func TestOff(t *testing.T) {
	var off *tracing.Tracer
	ctx, header := t.Context(), map[string][]string{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	allocations := testing.AllocsPerRun(100, func() {
		ctx, span := off.Request(ctx, header, "GET", "/Users/{id}", "r")
		_, inner := tracing.Start(ctx, "get", "User")
		inner.End(false)
		span.Responded(200)
		span.End(false)
		if span.On() || inner.On() || span.TraceID() != "" {
			t.Error("a span without a tracer")
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations, want none", allocations)
	}
}

func BenchmarkOff(b *testing.B) {
	var off *tracing.Tracer
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		ctx, span := off.Request(ctx, nil, "GET", "/Users/{id}", "r")
		_, inner := tracing.Start(ctx, "get", "User")
		inner.End(false)
		span.End(false)
	}
}
