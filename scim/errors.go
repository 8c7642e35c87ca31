package scim

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/storage"
)

// ErrorType is a scimType (RFC 7644 §3.12, table 9).
type ErrorType string

// The scimTypes of RFC 7644.
const (
	InvalidFilter ErrorType = "invalidFilter"
	TooMany       ErrorType = "tooMany"
	Uniqueness    ErrorType = "uniqueness"
	Mutability    ErrorType = "mutability"
	InvalidSyntax ErrorType = "invalidSyntax"
	InvalidPath   ErrorType = "invalidPath"
	NoTarget      ErrorType = "noTarget"
	InvalidValue  ErrorType = "invalidValue"
)

// ErrorURI is the schema of an error response.
const ErrorURI = "urn:ietf:params:scim:api:messages:2.0:Error"

// Error is an error response (RFC 7644 §3.12).
type Error struct {
	Status int
	Type   ErrorType // may be empty
	Detail string
	// RetryAfter, in seconds, is sent as a header when it is not zero.
	RetryAfter int

	unknown string // the name of an attribute as the client wrote it, which Detail ends with
}

func (e *Error) Error() string { return e.Detail }

// Repeatable returns the detail if it may be kept and shown to others than the
// client: those of invalidFilter and invalidPath name attributes as the client wrote
// them, which may be anything; from others such a name is taken off.
func (e *Error) Repeatable() string {
	if e.Type == InvalidFilter || e.Type == InvalidPath {
		return ""
	}
	if e.unknown != "" {
		return strings.TrimSuffix(e.Detail, ": "+e.unknown)
	}
	return e.Detail
}

// naming adds the name of an unknown attribute to the detail.
func (e *Error) naming(unknown string) *Error {
	if unknown != "" {
		e.Detail, e.unknown = e.Detail+": "+unknown, unknown
	}
	return e
}

// AppendJSON appends the error as it goes over the wire.
func (e *Error) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"schemas":["`+ErrorURI+`"],"status":"`...)
	dst = strconv.AppendInt(dst, int64(e.Status), 10)
	dst = append(dst, '"')
	if e.Type != "" {
		dst = append(dst, `,"scimType":"`+string(e.Type)+`"`...)
	}
	dst = append(dst, `,"detail":`...)
	dst = schemas.AppendString(dst, e.Detail)
	return append(dst, '}')
}

// Errors of a Provider.
var (
	// ErrPreconditionFailed: If-Match, or the version of an operation in Bulk, did not hold.
	ErrPreconditionFailed = errors.New("the resource has changed")
	// errExcluded: If-None-Match did not hold.
	errExcluded = &Error{Status: 412, Detail: "the resource has a version that If-None-Match names"}
	// ErrForbidden: the principal may not do this.
	ErrForbidden = errors.New("not allowed")
)

// ErrorFor says how err reads on the wire. An error nobody named is a 500
// without details; its text goes to the log beside the request id.
func ErrorFor(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*auth.RefusedError](err); ok {
		return &Error{Status: 401, Detail: "a valid bearer token is required"}
	}
	if _, ok := errors.AsType[*auth.LevelError](err); ok {
		return &Error{Status: 401, Detail: "a passcode is required, see WWW-Authenticate"}
	}
	if e, ok := errors.AsType[*schemas.SyntaxError](err); ok {
		return &Error{Status: 400, Type: InvalidSyntax, Detail: "the body is not acceptable JSON: " + e.Error()}
	}
	if e, ok := errors.AsType[*schemas.ValueError](err); ok {
		told := &Error{Status: 400, Type: valueErrorTypes[e.Kind], Detail: e.Error()}
		return told.naming(e.Unknown)
	}
	if e, ok := errors.AsType[*patch.Error](err); ok {
		told := &Error{Status: patchErrors[e.Kind].status, Type: patchErrors[e.Kind].scimType, Detail: e.Error()}
		return told.naming(e.Unknown)
	}
	if e, ok := errors.AsType[*filter.SyntaxError](err); ok {
		return &Error{Status: 400, Type: InvalidFilter, Detail: "the filter is not valid: " + e.Error()}
	}
	if e, ok := errors.AsType[*storage.UniqueError](err); ok {
		return &Error{Status: 409, Type: Uniqueness, Detail: e.Attr + " is already in use"}
	}
	if e, ok := errors.AsType[*auth.DeniedError](err); ok {
		return &Error{Status: 403, Detail: e.Error()}
	}
	switch {
	case errors.Is(err, auth.ErrLastAdministrator):
		return &Error{Status: 409, Detail: "this would leave nobody with the role Global Administrator who can sign in"}
	case errors.Is(err, storage.ErrNotFound):
		return &Error{Status: 404, Detail: "no such resource"}
	case errors.Is(err, ErrPreconditionFailed):
		return &Error{Status: 412, Detail: "the resource has changed: its version is not the one in If-Match, or in version of an operation in Bulk"}
	case errors.Is(err, auth.ErrInvalidRequest):
		return &Error{Status: 400, Detail: "a token is accepted in the Authorization header only"}
	case errors.Is(err, auth.ErrLimited):
		return &Error{Status: 403, Detail: "the password has to be changed, or a passcode enrolled, before anything else"}
	case errors.Is(err, ErrForbidden), errors.Is(err, auth.ErrNotPermitted):
		return &Error{Status: 403, Detail: "the scopes of the client, or the roles of the person, do not permit this"}
	case errors.Is(err, storage.ErrTooExpensive):
		return &Error{Status: 400, Type: TooMany, Detail: "the query takes too long: compare an indexed attribute such as userName, externalId or emails.value with eq"}
	case errors.Is(err, auth.ErrPasswordEmpty):
		return &Error{Status: 400, Type: InvalidValue, Detail: "password: expected at least one character"}
	case errors.Is(err, auth.ErrPasswordTooLong):
		return &Error{Status: 400, Type: InvalidValue, Detail: "password: expected at most 128 characters"}
	case errors.Is(err, storage.ErrOutcomeUnknown):
		return &Error{Status: 503, Detail: "temporarily unavailable, and whether the change was made is not known: read the resource, or try again", RetryAfter: 2}
	case errors.Is(err, auth.ErrBusy), errors.Is(err, storage.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &Error{Status: 503, Detail: "temporarily unavailable, nothing was changed: try again", RetryAfter: 2}
	}
	return &Error{Status: http.StatusInternalServerError, Detail: "internal error"}
}

var valueErrorTypes = map[schemas.Kind]ErrorType{
	schemas.InvalidValue:       InvalidValue,
	schemas.InvalidSyntax:      InvalidSyntax,
	schemas.MutabilityConflict: Mutability,
}

var patchErrors = map[patch.Kind]struct {
	status   int
	scimType ErrorType
}{
	patch.InvalidSyntax: {400, InvalidSyntax},
	patch.InvalidPath:   {400, InvalidPath},
	patch.InvalidFilter: {400, InvalidFilter},
	patch.InvalidValue:  {400, InvalidValue},
	patch.NoTarget:      {400, NoTarget},
	patch.Mutability:    {400, Mutability},
	patch.TooMany:       {413, ""},
}
