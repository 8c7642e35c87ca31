package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Span is a part of a request that is under way. The zero Span is none: it can be used as any
// other.
type Span struct{ span trace.Span }

// On reports whether somebody collects the span.
func (s Span) On() bool { return s.span != nil }

// End ends the span, with whether it failed. What the error says is not told: it may be
// anything.
func (s Span) End(failed bool) {
	if s.span == nil {
		return
	}
	if failed {
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}

// TraceID returns the id of the trace, or "".
func (s Span) TraceID() string {
	if s.span == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Responded notes the status of a response.
func (s Span) Responded(status int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
}

// Start begins a span in the one that ctx is in, if there is one. kind is the type of
// resources that it is about, or "".
func Start(ctx context.Context, name, kind string) (context.Context, Span) {
	parent, _ := ctx.Value(spanKey{}).(Span)
	if parent.span == nil {
		return ctx, Span{}
	}
	var opt []trace.SpanStartOption
	if kind != "" {
		opt = append(opt, trace.WithAttributes(attribute.String("roster.type", kind)))
	}
	// The provider of a span begins those in it.
	tctx, span := parent.span.TracerProvider().Tracer(Scope).Start(ctx, name, opt...)
	return with(tctx, span)
}

// Scope is what the spans are said to come from.
const Scope = "github.com/roster-id/roster"

type spanKey struct{}

func with(ctx context.Context, span trace.Span) (context.Context, Span) {
	if !span.IsRecording() { // it was not sampled, and neither is what is in it
		return ctx, Span{}
	}
	s := Span{span}
	return context.WithValue(ctx, spanKey{}, s), s
}

// Tracer begins the spans of requests. A nil Tracer begins none.
type Tracer struct{ tracer trace.Tracer }

// New returns a Tracer of a provider.
func New(p trace.TracerProvider) *Tracer { return &Tracer{p.Tracer(Scope)} }

// Request begins the span of a request to a route, in the trace that its traceparent
// names, if any (W3C Trace Context).
func (t *Tracer) Request(ctx context.Context, h http.Header, method, route, requestID string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
	return with(t.tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", method), attribute.String("http.route", route),
		attribute.String("roster.request_id", requestID))))
}
