package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// keyFile returns where the key file of a store is: where the setting says, or
// beside an embedded store; "" if there is none.
func keyFile(p place, setting string) string {
	if setting == "" && p.kind == embedded {
		return filepath.Join(filepath.Dir(sqlite.File(p.location)), "roster.keys")
	}
	return setting
}

// openKeys reads the key file and sees to it that it is the one of the store. One
// beside an embedded store is made if nothing has been sealed yet. Without a key
// file there are no keys, and no sign-in.
func openKeys(ctx context.Context, p place, setting string, store storage.Store, log *slog.Logger) (*auth.KeyRing, error) {
	path := keyFile(p, setting)
	if path == "" {
		log.Warn("key-file is not set: nobody can sign in")
		return nil, nil
	}
	keys, err := auth.LoadKeyRing(path)
	if errors.Is(err, fs.ErrNotExist) {
		sealed, sealedErr := auth.AnythingSealed(ctx, store)
		switch {
		case sealedErr != nil:
			return nil, sealedErr
		case sealed:
			return nil, fmt.Errorf("the secrets in the store are sealed with keys that are not here: %w; put the file back", err)
		case setting != "":
			return nil, fmt.Errorf("%w; make one with: roster keys create --key-file %s", err, path)
		}
		if err := auth.CreateKeyFile(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make a key file: %w", err)
		}
		log.Info("made a key file; keep a copy, apart from those of the store", "key-file", path)
		keys, err = auth.LoadKeyRing(path)
	}
	if err != nil {
		return nil, err
	}
	return keys, keys.Check(ctx, store)
}
