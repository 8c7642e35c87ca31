package mongo

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/roster-id/roster/storage"
)

// Labels that servers and driver put on errors.
const (
	transientTransaction = "TransientTransactionError"
	unknownCommit        = "UnknownTransactionCommitResult"
)

// Error codes of MongoDB that mean something here.
const (
	codeUnauthorized        = 13
	codeIndexNotFound       = 27
	codeNamespaceExists     = 48
	codeMaxTimeMSExpired    = 50
	codeSnapshotTooOld      = 239
	codeSnapshotUnavailable = 246
)

// unavailableCodes are answers of a server that is stopping, stepping down, not
// primary or out of reach of a majority.
var unavailableCodes = map[int]bool{
	6:     true, // HostUnreachable
	7:     true, // HostNotFound
	24:    true, // LockTimeout
	43:    true, // CursorNotFound
	50:    true, // MaxTimeMSExpired
	64:    true, // WriteConcernFailed
	89:    true, // NetworkTimeout
	91:    true, // ShutdownInProgress
	100:   true, // UnsatisfiableWriteConcern
	112:   true, // WriteConflict
	133:   true, // FailedToSatisfyReadPreference
	134:   true, // ReadConcernMajorityNotAvailableYet
	189:   true, // PrimarySteppedDown
	202:   true, // NetworkInterfaceExceededTimeLimit
	237:   true, // CursorKilled
	239:   true, // SnapshotTooOld
	246:   true, // SnapshotUnavailable
	251:   true, // NoSuchTransaction
	262:   true, // ExceededTimeLimit
	290:   true, // TransactionExceededLifetimeLimitSeconds
	317:   true, // ConnectionPoolExpired
	365:   true, // TemporarilyUnavailable
	9001:  true, // SocketException
	10107: true, // NotWritablePrimary
	11600: true, // InterruptedAtShutdown
	11601: true, // Interrupted
	11602: true, // InterruptedDueToReplStateChange
	13435: true, // NotPrimaryNoSecondaryOk
	13436: true, // NotPrimaryOrSecondary
	14031: true, // OutOfDiskSpace
}

// explain turns errors of the driver into what callers tell apart; others come
// back as they are. It is the one place that does.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, storage.ErrUnavailable), errors.Is(err, storage.ErrTooExpensive):
		return err
	case errors.Is(err, context.Canceled), mongo.IsTimeout(err), disconnected(err), errors.Is(err, mongo.ErrClientDisconnected), unreachable(err),
		hasLabel(err, transientTransaction):
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	for _, code := range mongo.ErrorCodes(err) {
		if unavailableCodes[code] {
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
	}
	return err
}

// going reports whether a read met a server that is stopping or no longer primary,
// or lost its connection, so that the next one may find another.
func going(err error) bool {
	return disconnected(err) && !mongo.IsTimeout(err) || hasCode(err, 91, 133, 189, 9001, 10107, 11600, 11602, 13435, 13436)
}

// disconnected reports whether a connection was lost, or one waited for was not
// made because others had been lost.
func disconnected(err error) bool {
	var pool driver.RetryablePoolError
	if errors.As(err, &pool) && pool.Retryable() {
		return true
	}
	_, lost := errors.AsType[topology.ConnectionError](err)
	return lost || mongo.IsNetworkError(err)
}

// unreachable reports whether no server was found to send a command to.
func unreachable(err error) bool {
	_, ok := errors.AsType[topology.ServerSelectionError](err)
	return ok || errors.Is(err, topology.ErrTopologyClosed)
}

func hasLabel(err error, label string) bool {
	e, ok := errors.AsType[mongo.LabeledError](err)
	return ok && e.HasErrorLabel(label)
}

func hasCode(err error, codes ...int) bool {
	for _, have := range mongo.ErrorCodes(err) {
		for _, want := range codes {
			if have == want {
				return true
			}
		}
	}
	return false
}
