package tracing_test

import (
	"context"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/tracing"
	"github.com/roster-id/roster/storage"
)

// empty is a store with nothing in it.
type empty struct{ storage.Store }

func (empty) Get(context.Context, storage.TenantID, string, string) (*storage.Resource, error) {
	return nil, storage.ErrNotFound
}

// TestTypes: spans of the store call a type as those of the provider do, so that what a
// tenant calls its own is in neither. That there is no such resource is no failure.
func TestTypes(t *testing.T) {
	for typ, want := range map[string]string{"User": "User", "Gadget": auth.CustomResource} {
		spans := tracetest.NewSpanRecorder()
		tracer := tracing.New(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
		ctx, _ := tracer.Request(t.Context(), http.Header{}, "GET", "/", "r")
		_, _ = tracing.Store(empty{}).Get(ctx, storage.DefaultTenant, typ, "1")
		got := spans.Ended()
		if len(got) != 1 || len(got[0].Attributes()) != 1 || got[0].Attributes()[0].Value.AsString() != want || got[0].Status().Code != codes.Unset {
			t.Errorf("a %s: %+v, want one span of type %s that has not failed", typ, got, want)
		}
	}
}
