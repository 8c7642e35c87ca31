package storage

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: no such record in this tenant.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the record changed since it was read.
	ErrConflict = errors.New("changed meanwhile")
	// ErrUnavailable: the store cannot serve this now; nothing was changed, and
	// the same request may succeed later.
	ErrUnavailable = errors.New("store unavailable")
	// ErrOutcomeUnknown is an ErrUnavailable, except that the change may have been
	// made: the connection was lost while it was being committed.
	ErrOutcomeUnknown = fmt.Errorf("%w: whether the change was made is not known", ErrUnavailable)
	// ErrTooExpensive: the query took longer than a store grants one query.
	ErrTooExpensive = errors.New("query too expensive")
	// ErrUnaudited: a write changed something and recorded no audit entry.
	ErrUnaudited = errors.New("change without an audit entry")
	// ErrNotEmpty: a load begins only in a tenant that holds nothing.
	ErrNotEmpty = errors.New("the tenant is not empty")
	// ErrNoStore: there is no store yet.
	ErrNoStore = errors.New("there is no store")
	// ErrOtherVersion: the store was not written by this version, and was to be left as it
	// is.
	ErrOtherVersion = errors.New("the store is of another version: use the roster that serves it, or bring it up to date with roster migrate")
	// ErrLoading: the tenant is being loaded, and cannot be used before that is
	// complete.
	ErrLoading = errors.New("the tenant is being loaded")
)

// UniqueError says that a value which must be unique is taken.
type UniqueError struct {
	Attr string // the attribute's path, "userName"; of several the first
}

func (e *UniqueError) Error() string { return e.Attr + " is already in use" }

// UnknownMemberError says that a member to be added does not exist.
type UnknownMemberError struct {
	Index int // its place in the list that was given
}

func (e *UnknownMemberError) Error() string {
	return fmt.Sprintf("member %d does not exist", e.Index)
}
