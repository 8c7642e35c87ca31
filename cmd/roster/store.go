package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// commandTime is how long a server waits for a store that is in use: it may be a
// short command that uses it.
const commandTime = 2 * time.Second

// openStore opens the store of a server. onCommit is told of every commit.
func openStore(ctx context.Context, location string, log *slog.Logger, onCommit func(int, time.Duration)) (storage.Store, error) {
	path, err := storePath(location)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(commandTime); ; {
		store, err := sqlite.Open(ctx, path, sqlite.Options{OnCommit: onCommit, Log: log})
		if !errors.Is(err, sqlite.ErrInUse) || time.Now().After(deadline) {
			return store, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// openBeside opens the store for a short command, whether or not a server runs
// on it.
func openBeside(ctx context.Context, location string) (storage.Store, error) {
	path, err := storePath(location)
	if err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, path, sqlite.Options{Guest: true})
}

// openExisting is openBeside for commands that have nothing to do where there is
// no store.
func openExisting(ctx context.Context, location string) (storage.Store, error) {
	path, err := storePath(location)
	if err != nil {
		return nil, err
	}
	store, err := sqlite.Open(ctx, path, sqlite.Options{Guest: true, Existing: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no store at %s", path)
	}
	if err != nil {
		return nil, err
	}
	return store, nil
}

// storeOf returns the store that a command is to use. The environment is no flag
// default, because help prints defaults and a store's URL may hold a password.
func storeOf(cmd *cobra.Command, flag string, getenv func(string) string) string {
	if env := getenv("ROSTER_STORE"); env != "" && !cmd.Flags().Changed("store") {
		return env
	}
	return flag
}

// storePath returns the path of an embedded store.
func storePath(location string) (string, error) {
	scheme, rest, isURL := strings.Cut(location, "://")
	switch {
	case !isURL:
		return location, nil
	case scheme == "sqlite" || scheme == "file":
		return rest, nil
	}
	return "", fmt.Errorf("store: this build keeps its data in a file: expected a path, not a %s:// URL", scheme)
}
