package provlog

import (
	"net/http"

	"github.com/roster-id/roster/scim"
)

// Reason explains a failure.
type Reason struct {
	Meaning string `json:"meaning"`
	// Reference is where it is written down.
	Reference string `json:"reference"`
	// Tolerated are the rows of docs/compatibility.md about what a client with another
	// profile may send and a strict one is refused with the same scimType. One of
	// them may be the reason.
	Tolerated []string `json:"tolerated,omitzero"`
}

var byType = map[scim.ErrorType]Reason{
	scim.InvalidFilter: {Meaning: "The filter cannot be read, or compares an attribute in a way that its type does not have.", Reference: "RFC 7644 §3.4.2.2"},
	scim.TooMany:       {Meaning: "The answer would be too large, or take too long to find.", Reference: "RFC 7644 §3.12"},
	scim.Uniqueness:    {Meaning: "Another resource has the value of an attribute that has to be unique. Find it with a filter, and update it in place of creating another.", Reference: "RFC 7644 §3.3.1, RFC 7643 §2.2"},
	scim.Mutability:    {Meaning: "The attribute cannot be changed by clients, or not any more.", Reference: "RFC 7644 §3.5.1, RFC 7643 §2.2"},
	scim.InvalidSyntax: {Meaning: "The body is not of the form that the message or the resource type has.", Reference: "RFC 7644 §3.12"},
	scim.InvalidPath:   {Meaning: "The path of an operation is none of this resource type.", Reference: "RFC 7644 §3.5.2"},
	scim.NoTarget:      {Meaning: "The path of an operation selects nothing.", Reference: "RFC 7644 §3.5.2"},
	scim.InvalidValue:  {Meaning: "A value that is required is missing, or a value is not one that the attribute may have.", Reference: "RFC 7644 §3.12, RFC 7643 §2.3"},
}

var byStatus = map[int]Reason{
	http.StatusUnauthorized:          {Meaning: "The token is not accepted.", Reference: "RFC 6750 §3.1"},
	http.StatusForbidden:             {Meaning: "The client may not do this: its scopes do not allow it, or it would touch somebody with an administrative role.", Reference: "RFC 7644 §3.12, RFC 6750 §3.1"},
	http.StatusNotFound:              {Meaning: "There is no such resource, or no longer, or no such endpoint.", Reference: "RFC 7644 §3.12"},
	http.StatusMethodNotAllowed:      {Meaning: "The endpoint does not have this method.", Reference: "RFC 9110 §15.5.6"},
	http.StatusConflict:              {Meaning: "What is stored stands against it.", Reference: "RFC 7644 §3.12"},
	http.StatusPreconditionFailed:    {Meaning: "The resource has changed since the client read it, or has a version that the client ruled out. Read it again, and send the change with its new version.", Reference: "RFC 7644 §3.14, RFC 9110 §13.1"},
	http.StatusRequestEntityTooLarge: {Meaning: "The body, or the number of operations in it, is larger than ServiceProviderConfig allows.", Reference: "RFC 7644 §3.7.4"},
	http.StatusRequestURITooLong:     {Meaning: "The address is too long. Send the query to .search.", Reference: "RFC 7644 §3.4.3"},
	http.StatusUnsupportedMediaType:  {Meaning: "The body is none that SCIM has.", Reference: "RFC 7644 §3.1"},
	http.StatusNotImplemented:        {Meaning: "This server does not do this, or is not set up for it.", Reference: "RFC 7644 §3.12"},
	http.StatusServiceUnavailable:    {Meaning: "The server, or its store, could not be reached or was busy. Send the request again.", Reference: "RFC 9110 §15.6.4"},
	http.StatusInternalServerError:   {Meaning: "A fault of the server: its log has the cause beside the request id.", Reference: "RFC 9110 §15.6.1"},
}

// tolerated are the rows of docs/compatibility.md by what a strict client is told.
var tolerated = map[scim.ErrorType][]string{
	scim.InvalidSyntax: {
		"`op` capitalised", "unknown attributes in a body or a path-less value", "an empty list of operations",
		"`operations` in small letters; one operation that is no list; a list of operations without the message", "no `schemas` in a body",
		"the URIs that schemas had before the RFC: `urn:scim:schemas:core:1.0`, `urn:scim:schemas:extension:enterprise:2.0`",
		"`urn:scim:schemas:core:2.0:BulkRequest`, `…:core:2.0:PatchOp`: a message with the name of another family before its own",
	},
	scim.InvalidValue: {
		"booleans as strings, in any case", "`\"\"` for an attribute; white space for a URI", "an element of a list with `\"\"` as its `value`", "one object where a list belongs; a list of one where a single value belongs",
		"`manager` as a bare string", "a `manager` that is no user of the directory", "a `manager` or member that is to come, by its `externalId` or `userName`", "`schemas` in a path-less value",
		"an object, or the attributes of a path-less value, as JSON in a string", "integers in quotes in a POST `.search`", "`remove` with path `members` and a list", "two primary values in one request",
		"several values for a sub-attribute: `emails.value` with a list", "unknown schema URIs", "no `schemas` in a body",
		"the URIs that schemas had before the RFC: `urn:scim:schemas:core:1.0`, `urn:scim:schemas:extension:enterprise:2.0`",
	},
	scim.InvalidPath: {
		"keys of a path-less value that are paths: `name.givenName`, `urn:…:User:department`", "the URN of the core schema as a path", "a part of the name as a path of its own: `givenName`",
		"unknown attributes in a body or a path-less value", "a filter for an attribute with one value: `manager[value eq \"…\"]`",
	},
	scim.Mutability: {"`id`, `meta`, `groups` in a body or a path-less value; `groups` as a path"},
	scim.NoTarget:   {"add or replace on `emails[type eq \"work\"].value` without such an element", "`remove` on a filter that matches nothing"},
}

func reasonOf(f scim.Failure, strict bool) Reason {
	r, ok := byType[f.Type]
	if !ok {
		r, ok = byStatus[f.Status]
	}
	if !ok {
		r = Reason{Meaning: "The status says it all.", Reference: "RFC 9110 §15"}
	}
	if strict {
		r.Tolerated = tolerated[f.Type]
	}
	return r
}
