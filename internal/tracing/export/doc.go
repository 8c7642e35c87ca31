// Package export sends the spans of package tracing to a collector, with OTLP.
package export
