// Package server is Roster's HTTP server: the outer mux with everything a
// request meets before it reaches the protocol, and the operators' listener.
//
// A request passes, in this order, the connection limits (limit.go), the
// wrapper that gives it an id, a log line, metrics and a deadline
// (middleware.go), the route table, admission to one of a bounded number of places
// (admission.go), and the gate: each route declares what it
// needs, and [New] refuses a table with an undeclared route. The routes come from
// other packages as scim.Route.
//
// Begin with server.go.
package server
