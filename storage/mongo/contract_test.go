package mongo

import (
	"log/slog"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/storagetest"
)

func TestContract(t *testing.T) {
	server := mongotest.Start(t)
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return open(t, server.URI(server.NewDatabase(t)), Options{QueryTimeout: time.Minute})
	})
}

// open opens a store whose log goes nowhere, unless opt has one.
func open(t testing.TB, uri string, opt Options) *Store {
	t.Helper()
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(t.Context(), uri, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
