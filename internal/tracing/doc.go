// Package tracing makes the spans of requests: of the request itself, of what the
// provider does for it, and of what it asks of the store. It costs nothing where
// nobody collects them: [Start] then returns what it was given. What spans say is from
// small vocabularies of our own: no path, no id of a resource, no value that a client
// sent.
//
// The package export sends spans to where the standard variables of OpenTelemetry say.
package tracing
