package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

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
// on it. Where there is none it makes one.
func openBeside(ctx context.Context, location string) (storage.Store, error) {
	return openGuest(ctx, location, sqlite.Options{Guest: true})
}

// openExisting is openBeside for commands that are about what is there.
func openExisting(ctx context.Context, location string) (storage.Store, error) {
	return openGuest(ctx, location, sqlite.Options{Guest: true, MustExist: true})
}

func openGuest(ctx context.Context, location string, opt sqlite.Options) (storage.Store, error) {
	path, err := storePath(location)
	if err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, path, opt)
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
