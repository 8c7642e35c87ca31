// Package bench is the load generator behind roster bench: it says how fast a
// SCIM server is, not in requests per second of one machine on one day, but as
// ratios to what the same machine does at the same time without SCIM.
//
// [Run] starts two SCIM servers, one with the population asked for and one with
// a small one, and a baseline server: the same HTTP server and the same store,
// serving bytes and bare rows (baseline.go). Each is a process of its own, so
// that client and servers share no heap (spawn.go). Users come from a seed
// (people.go) and go in by POST. Then rows that are compared are measured in
// turns, A B A B, because a machine's noise changes from second to second: a
// ratio is taken within a round, and the median over the rounds counts.
//
// A row is measured in a closed loop: each connection sends its next request
// when the last is answered (measure.go). Every answer is checked, and a wrong
// one ends the run: being fast with the wrong user is no result. The client
// (client.go) does little more than system calls, since what it needs of the
// processor the server cannot have.
//
// A [Report] is the result, as JSON with stable names and as a table. What is
// good enough is in judge.go.
//
// Begin with bench.go, then rows.go.
package bench
