package export

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/roster-id/roster/internal/tracing"
)

// flushTime is how long the last spans have to be sent.
const flushTime = 5 * time.Second

// Wanted reports whether the environment says where to send spans.
func Wanted(getenv func(string) string) bool {
	return !strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") &&
		(getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
}

// Open returns what begins spans that are sent to where the OTEL_ variables of the environment say, as
// they say. Call stop at the end: it sends what is left.
func Open(ctx context.Context, version string, log *slog.Logger) (t *tracing.Tracer, stop func(), err error) {
	// What the libraries say may repeat what they were set up with, which may be secret.
	invalid := errors.New("the OTEL_ variables do not say how to send traces")
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, nil, invalid
	}
	// The environment has the last word about what it is called.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "roster"), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil {
		return nil, nil, invalid
	}
	var told atomic.Int64
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {
		// A collector that is away is told of once a minute, not for each batch.
		now := time.Now().Unix()
		if last := told.Load(); now-last >= 60 && told.CompareAndSwap(last, now) {
			log.Warn("traces could not be sent")
		}
	}))
	p := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
	return tracing.New(p), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			log.Warn("the last traces could not be sent")
		}
	}, nil
}
