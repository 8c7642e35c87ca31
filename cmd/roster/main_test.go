package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInterrupted: whoever ends a command is not told that the store failed.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	folder := t.TempDir()
	store := filepath.Join(folder, "roster.db")
	if err := execute(t.Context(), []string{"migrate", "--store", store}); err != nil {
		t.Fatal(err)
	}
	err := execute(ctx, []string{"backup", "--store", store, "--to", filepath.Join(folder, "backup")})
	if err == nil || !strings.HasPrefix(err.Error(), "interrupted: ") {
		t.Errorf("a backup that was interrupted: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, ".backup*")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	err = execute(t.Context(), []string{"client", "revoke", "nobody", "--store", store})
	if err == nil || strings.Contains(err.Error(), "interrupted") {
		t.Errorf("a command that fails by itself: %v", err)
	}
}

// TestInterruptedWhileItReads: neither does it wait for a pipe that says nothing.
func TestInterruptedWhileItReads(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	silent, hold := io.Pipe()
	defer hold.Close()
	cmd := newLoadCommand()
	reads := 0
	cmd.SetIn(onRead(func(p []byte) (int, error) {
		if reads++; reads == 1 {
			return copy(p, "{"), nil
		}
		cancel() // it has taken that, and waits for more
		return silent.Read(p)
	}))
	cmd.SetArgs([]string{"--in", "-", "--store", filepath.Join(t.TempDir(), "roster.db")})
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a load that was interrupted: %v, want context.Canceled", err)
		}
	case <-time.After(patience):
		t.Error("a load that was interrupted waits for its pipe")
	}
}

// onRead is a reader made of a function.
type onRead func([]byte) (int, error)

func (f onRead) Read(p []byte) (int, error) { return f(p) }
