package main

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// stumbling fails its first write.
type stumbling struct{ failed bool }

func (s *stumbling) Write(b []byte) (int, error) {
	if !s.failed {
		s.failed = true
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

// TestVerifyNotPrinted: a flaw that could not be printed is said to be missing, whatever
// becomes of the rest.
func TestVerifyNotPrinted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roster.db")
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		grant := &storage.Item{Kind: "grant", ID: "g", Data: []byte(`{"role":"absent","principal":"absent","type":"User"}`)}
		return errors.Join(tx.PutItem(nil, grant), tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "test"}))
	})
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--store", path}, {"--store", path, "--json"}} {
		cmd := newVerifyCommand()
		cmd.SetArgs(args)
		cmd.SetOut(&stumbling{})
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		err := cmd.ExecuteContext(t.Context())
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("roster verify %s: %v", strings.Join(args[2:], " "), err)
		}
	}
}
