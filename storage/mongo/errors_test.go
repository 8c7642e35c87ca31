package mongo

import (
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// emptied is like the driver's error of a pool that was just emptied, which has no
// name outside of it.
type emptied struct{ error }

func (emptied) Retryable() bool { return true }

// TestNotCommitted: of what a commit ends with, only the server's word lets a
// write begin again.
func TestNotCommitted(t *testing.T) {
	for _, c := range []struct {
		what string
		err  error
		want bool
	}{
		{"the server knows of no such transaction", mongo.CommandError{Code: 251, Labels: []string{transientTransaction}}, true},
		{"another writer was first", mongo.CommandError{Code: 112, Labels: []string{transientTransaction}}, true},
		{"the server may have committed", mongo.CommandError{Code: 91, Labels: []string{unknownCommit}}, false},
		{"a connection was lost", mongo.CommandError{Labels: []string{"NetworkError", unknownCommit}}, false},
		{"no connection was found", mongo.CommandError{Labels: []string{transientTransaction}, Wrapped: emptied{errors.New("cleared")}}, false},
	} {
		if got := notCommitted(c.err); got != c.want {
			t.Errorf("%s: got %t, want %t", c.what, got, c.want)
		}
	}
}
