package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/config"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/sqlite"
)

// The kinds of stores, as metrics name them.
const (
	embedded = "sqlite"
	mongodb  = "mongodb"
)

// place says where a store is.
type place struct {
	kind string
	// location is the path of an embedded store, or the URL of a database, which
	// may hold a password.
	location string
	// allowStandalone accepts a MongoDB server without transactions.
	allowStandalone bool
}

// findPlace reads what --store says.
func findPlace(location string, allowStandalone bool) (place, error) {
	scheme, rest, isURL := strings.Cut(location, "://")
	switch {
	case strings.HasPrefix(location, "mongodb:") && !isURL, strings.HasPrefix(location, "mongodb+srv:") && !isURL:
		return place{}, errors.New("store: an address of MongoDB begins with mongodb:// or mongodb+srv://") // it may hold a password
	case !isURL:
		return place{kind: embedded, location: location}, nil
	case scheme == "sqlite" || scheme == "file":
		return place{kind: embedded, location: rest}, nil
	case scheme == "mongodb" || scheme == "mongodb+srv":
		return place{kind: mongodb, location: location, allowStandalone: allowStandalone}, nil
	}
	return place{}, fmt.Errorf("store: expected the path of a file, or a mongodb:// or mongodb+srv:// URL, not a %s:// URL", scheme)
}

// commandTime is how long a server waits for a store that is in use: it may be a
// short command that uses it.
const commandTime = 2 * time.Second

// openStore opens the store of a server. indexed are the attributes that are to have
// an index by choice, nil for those that have one. onCommit is told of every commit.
func openStore(ctx context.Context, p place, log *slog.Logger, indexed []*schemas.Attribute, onCommit func(int, time.Duration)) (storage.Store, error) {
	if p.kind == mongodb {
		return openMongo(ctx, p, mongo.Options{Indexed: indexed, OnCommit: onCommit, Log: log})
	}
	for deadline := time.Now().Add(commandTime); ; {
		store, err := sqlite.Open(ctx, p.location, sqlite.Options{Indexed: indexed, OnCommit: onCommit, Log: log})
		if err == nil {
			return store, nil
		}
		if !errors.Is(err, sqlite.ErrInUse) || time.Now().After(deadline) {
			return nil, err
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
func openBeside(ctx context.Context, p place) (storage.Store, error) {
	return openGuest(ctx, p, sqlite.Options{Guest: true})
}

// openExisting is openBeside for commands that are about what is there.
func openExisting(ctx context.Context, p place) (storage.Store, error) {
	return openGuest(ctx, p, sqlite.Options{Guest: true, MustExist: true})
}

// openAsIs is openExisting for commands that change nothing: a store of an older version
// stays one.
func openAsIs(ctx context.Context, p place, log *slog.Logger) (storage.Store, error) {
	if p.kind == mongodb {
		return openMongo(ctx, p, mongo.Options{AsIs: true, Log: log})
	}
	return openGuest(ctx, p, sqlite.Options{Guest: true, MustExist: true, AsIs: true, Log: log})
}

func openGuest(ctx context.Context, p place, opt sqlite.Options) (storage.Store, error) {
	if p.kind == mongodb {
		return openMongo(ctx, p, mongo.Options{})
	}
	store, err := sqlite.Open(ctx, p.location, opt)
	if err != nil {
		return nil, err
	}
	return store, nil
}

func openMongo(ctx context.Context, p place, opt mongo.Options) (storage.Store, error) {
	opt.AllowStandalone = p.allowStandalone
	store, err := mongo.Open(ctx, p.location, opt)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// storeFlags are the flags of commands that open a store without reading the
// whole configuration.
type storeFlags struct {
	store           string
	allowStandalone bool
}

func (f *storeFlags) add(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.store, "store", config.DefaultStore, "`path` or URL of the store (ROSTER_STORE)")
	cmd.PersistentFlags().BoolVar(&f.allowStandalone, "allow-standalone", false,
		"accept a MongoDB server outside a replica set; for evaluation only (ROSTER_ALLOW_STANDALONE)")
}

// fromEnv returns what the environment says of a setting that no flag gives, or "".
func fromEnv(cmd *cobra.Command, getenv func(string) string, flag string) string {
	if cmd.Flags().Changed(flag) {
		return ""
	}
	return getenv(config.EnvName(flag))
}

// place returns the store that flags and environment name. The environment is no
// flag default, because help prints defaults and a store's URL may hold a
// password.
func (f *storeFlags) place(cmd *cobra.Command, getenv func(string) string) (place, error) {
	standalone := f.allowStandalone
	if env := fromEnv(cmd, getenv, "allow-standalone"); env != "" {
		allow, err := strconv.ParseBool(env)
		if err != nil {
			return place{}, fmt.Errorf("ROSTER_ALLOW_STANDALONE: expected true or false")
		}
		standalone = allow
	}
	return findPlace(cmp.Or(fromEnv(cmd, getenv, "store"), f.store), standalone)
}

// openFunc is openBeside, openExisting, or what takes their place in a test.
type openFunc func(context.Context, place) (storage.Store, error)

// use opens the store that flags and environment name for fn, if it has the tenant.
func (f *storeFlags) use(cmd *cobra.Command, getenv func(string) string, open openFunc, tenant storage.TenantID,
	fn func(context.Context, storage.Store) error) (err error) {
	p, err := f.place(cmd, getenv)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	_, before := os.Stat(sqlite.File(p.location))
	store, err := open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if p.kind == embedded && errors.Is(before, fs.ErrNotExist) {
		// Said now, a path that was mistyped or left out is no riddle when the server
		// knows nothing of the token.
		fmt.Fprintf(cmd.ErrOrStderr(), "Made a new store: %s\n", sqlite.File(p.location))
	}
	list, err := store.ListTenants(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(t *storage.Tenant) bool { return t.ID == tenant }) {
		return fmt.Errorf("no tenant called %q", tenant)
	}
	return fn(ctx, store)
}
