// Package api is the REST API beside SCIM: /auth/v1 for what people do for themselves
// and /admin/v1 for administration (api.go has both route tables).
//
// A request passes the gate of internal/server, which knows from the route table
// what it needs. Bodies are JSON, read within strict limits by body.go;
// errors are problems (RFC 9457), written by problem.go. The rules
// are in auth and scim: a handler here reads the request, calls them and writes the
// response. openapi.yaml describes all routes, and the tests check it against them.
//
// A secret is shown once, in the response to the request that created it.
package api
