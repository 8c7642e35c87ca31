// Package tracing makes the spans of requests: of the request itself, of what the
// provider does for it, and of what it asks of the store. It costs nothing where
// nobody collects them: [Start] then returns its argument. Names and attributes of spans
// come from fixed sets: no path, no id of a resource, no value that a client sent.
//
// Package export sends spans to the endpoint in OpenTelemetry's standard variables.
package tracing
