package mongotest

import (
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The error codes a server answers with, by the names of MongoDB's
// error_codes.yml.
const (
	internalError                = 1
	badValue                     = 2
	failedToParse                = 9
	unauthorized                 = 13
	typeMismatch                 = 14
	authenticationFailed         = 18
	illegalOperation             = 20
	alreadyInitialized           = 23
	namespaceNotFound            = 26
	indexNotFound                = 27
	conflictingUpdateOperators   = 40
	cursorNotFound               = 43
	namespaceExists              = 48
	maxTimeMSExpired             = 50
	dollarPrefixedFieldName      = 52
	commandNotFound              = 59
	immutableField               = 66
	cannotCreateIndex            = 67
	invalidOptions               = 72
	invalidNamespace             = 73
	unknownReplWriteConcern      = 79
	indexOptionsConflict         = 85
	indexKeySpecsConflict        = 86
	unsatisfiableWriteConcern    = 100
	writeConflict                = 112
	conflictingOperation         = 117
	notAReplicaSet               = 123
	cannotIndexParallelArrays    = 171
	transactionTooOld            = 225
	notImplemented               = 238
	snapshotTooOld               = 239
	noSuchTransaction            = 251
	transactionCommitted         = 256
	notSupportedInTransaction    = 263
	badSortOrder                 = 15975
	regexInvalid                 = 51091
	notSupportedOnStandalone     = 51300
	bsonObjectTooLarge           = 10334
	duplicateKey                 = 11000
	interruptedAtShutdown        = 11600
	projectionExcludesInsideKeep = 31254
	projectionKeepsInsideExclude = 31253
	projectionPathCollision      = 31249
	unknownField                 = 40415
)

var codeNames = map[int32]string{
	internalError:              "InternalError",
	alreadyInitialized:         "AlreadyInitialized",
	badValue:                   "BadValue",
	failedToParse:              "FailedToParse",
	unauthorized:               "Unauthorized",
	typeMismatch:               "TypeMismatch",
	authenticationFailed:       "AuthenticationFailed",
	illegalOperation:           "IllegalOperation",
	namespaceNotFound:          "NamespaceNotFound",
	indexNotFound:              "IndexNotFound",
	conflictingUpdateOperators: "ConflictingUpdateOperators",
	cursorNotFound:             "CursorNotFound",
	namespaceExists:            "NamespaceExists",
	maxTimeMSExpired:           "MaxTimeMSExpired",
	dollarPrefixedFieldName:    "DollarPrefixedFieldName",
	commandNotFound:            "CommandNotFound",
	immutableField:             "ImmutableField",
	cannotCreateIndex:          "CannotCreateIndex",
	invalidOptions:             "InvalidOptions",
	invalidNamespace:           "InvalidNamespace",
	unknownReplWriteConcern:    "UnknownReplWriteConcern",
	indexOptionsConflict:       "IndexOptionsConflict",
	indexKeySpecsConflict:      "IndexKeySpecsConflict",
	unsatisfiableWriteConcern:  "UnsatisfiableWriteConcern",
	writeConflict:              "WriteConflict",
	conflictingOperation:       "ConflictingOperationInProgress",
	cannotIndexParallelArrays:  "CannotIndexParallelArrays",
	transactionTooOld:          "TransactionTooOld",
	notImplemented:             "NotImplemented",
	notAReplicaSet:             "NotAReplicaSet",
	snapshotTooOld:             "SnapshotTooOld",
	noSuchTransaction:          "NoSuchTransaction",
	transactionCommitted:       "TransactionCommitted",
	notSupportedInTransaction:  "OperationNotSupportedInTransaction",
	bsonObjectTooLarge:         "BSONObjectTooLarge",
	duplicateKey:               "DuplicateKey",
	interruptedAtShutdown:      "InterruptedAtShutdown",
}

// transient is the label of errors after which a whole transaction may be tried
// again.
const transient = "TransientTransactionError"

// commandError is an error a client is told of.
type commandError struct {
	code    int32
	message string
	labels  []string
	details bson.D // further fields of the reply
}

func (e *commandError) Error() string { return e.message }

func errorf(code int32, format string, args ...any) *commandError {
	return &commandError{code: code, message: fmt.Sprintf(format, args...)}
}

// refused is the answer to what MongoDB has and the double does not.
func refused(what string) *commandError {
	return errorf(notImplemented, "the test double does not support %s", what)
}

// asCommandError gives an error nobody named a code, so that it is not lost.
func asCommandError(err error) *commandError {
	if e, ok := errors.AsType[*commandError](err); ok {
		return e
	}
	return errorf(internalError, "%s", err)
}

func codeName(code int32) string {
	if name, ok := codeNames[code]; ok {
		return name
	}
	return fmt.Sprintf("Location%d", code)
}

// labelled returns the error with a label added; the original may be shared.
func (e *commandError) labelled(label string) *commandError {
	if slices.Contains(e.labels, label) {
		return e
	}
	c := *e
	c.labels = append(slices.Clone(e.labels), label)
	return &c
}

// reply is the error as an answer to the whole command.
func (e *commandError) reply() bson.D {
	r := bson.D{
		{Key: "ok", Value: 0.0},
		{Key: "errmsg", Value: e.message},
		{Key: "code", Value: e.code},
		{Key: "codeName", Value: codeName(e.code)},
	}
	r = append(r, e.details...)
	if len(e.labels) > 0 {
		r = append(r, bson.E{Key: "errorLabels", Value: e.labels})
	}
	return r
}

// writeError is the error as one statement's entry in writeErrors.
func (e *commandError) writeError(index int) bson.D {
	r := bson.D{{Key: "index", Value: int32(index)}, {Key: "code", Value: e.code}}
	r = append(r, e.details...)
	return append(r, bson.E{Key: "errmsg", Value: e.message})
}
