// Package scimtest plays protocol scripts against a SCIM server: text files with
// requests and the expected responses. They are tests and documentation at the
// same time, and can be played against any running server, Roster or another:
//
//	# A stale If-Match leaves the resource alone (RFC 7644 §3.14).
//	> PATCH /Users/{ana}
//	> If-Match: W/"0"
//	> {"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"remove","path":"title"}]}
//	< 412
//	< {"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"412"}
//
// # The language
//
// Each line begins with a sign and a space; empty lines separate.
//
//	# text              a comment; the one above a request is its title
//	@ Header: value     sent with each request from here on; without a value, no longer
//	> METHOD /path      a request, below the server's base URL
//	> Header: value     its headers, in place of those of "@"; without a value, none
//	> {"a": "body"}     its body, which begins with the first line that is no header, or
//	                    after a line with the sign alone, and ends with the last ">"
//	< 200 204           the status, one of these
//	< Header: value     a header of the response
//	< {"json": 1}       what the body contains; it may go over several lines
//	< $.path = json     exactly what is found there
//	! $.path            nothing is found there, not even null
//	! $.path = json     something else, or nothing
//	! Header            the response does not have this header
//	! "text"            the body does not contain this text
//	= name $.path       saves what is found there under a name
//	= name Header       saves a header
//
// In a request's first line spaces, quotes and brackets are percent-encoded on
// the way out; "%" and "+" are sent as they stand. A body goes as
// application/scim+json unless a header says otherwise, and the bearer token of
// the [Runner] is sent unless there is an Authorization header.
//
// Braces around a name stand for what was saved, for the variables of the Runner,
// or for {base}, the base URL. In JSON a saved string is inserted between quotes
// that are already there, anything else as the JSON it is. In a request
// {3 times}text{end} stands for texttexttext.
//
// # What matches
//
// A body contains JSON in this sense. Of an object the members that are given
// must match, and there may be others; null says that a member is missing or
// null. The elements of an array must match one to one, in any order; with "..."
// among them there may be others. A string between slashes is a regular
// expression for the whole of a string, as is a header's value between slashes.
// Everything else must be equal, numbers by their value.
//
// A path is $ followed by .name, ["any name"], [0] or [*], which makes a list of
// what the rest finds in each element. It is the way to say in which order: the
// line
//
//	< $.Resources[*].userName = ["ana", "bo"]
//
// means these two, in this order, and no others.
//
// # Playing
//
// [Parse] reads a script and [Runner.Play] plays it; an error names the file, the
// line, and what was found instead. Afterwards whatever the script created is
// deleted, so a script can be played again. [Run] does both in a test for every
// script of a folder.
package scimtest
