// Package api is what people and their programs reach beside SCIM: /auth/v1 for
// themselves and /admin/v1 for others (api.go has both route tables).
//
// A request comes through the gate of internal/server, which knows by the route
// table what it needs. Bodies are JSON, read within strict limits by body.go;
// errors are problems (RFC 9457), written by problem.go. What anything means is
// the business of auth and scim: a handler here reads, asks and answers.
// openapi.yaml describes all of it, and the tests hold it against the routes.
//
// Secrets are told once, in the answer to what made them, and nowhere else.
package api
