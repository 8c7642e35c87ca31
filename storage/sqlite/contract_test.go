package sqlite

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/storagetest"
)

func TestContract(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return open(t, filepath.Join(t.TempDir(), "roster.db"), Options{QueryTimeout: time.Minute})
	})
}

// open opens a store whose log goes nowhere.
func open(t *testing.T, path string, opt Options) *Store {
	t.Helper()
	opt.Log = slog.New(slog.DiscardHandler)
	s, err := Open(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
