package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// openStore opens the store of a server. onCommit is told of every commit.
func openStore(ctx context.Context, location string, log *slog.Logger, onCommit func(int, time.Duration)) (storage.Store, error) {
	path, err := storePath(location)
	if err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, path, sqlite.Options{OnCommit: onCommit, Log: log})
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
