package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/config"
)

// storeFlags are the flags of commands that open a store without reading the
// whole configuration.
type storeFlags struct {
	store           string
	allowStandalone bool
}

func (f *storeFlags) add(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.store, "store", config.DefaultStore, "`path` or URL of the store (ROSTER_STORE)")
	cmd.PersistentFlags().BoolVar(&f.allowStandalone, "allow-standalone", false,
		"accept a MongoDB server that belongs to no replica set; for trying things out (ROSTER_ALLOW_STANDALONE)")
}

// place returns the store that flags and environment name. The environment is no
// flag default, because help prints defaults and a store's URL may hold a
// password.
func (f *storeFlags) place(cmd *cobra.Command, getenv func(string) string) (place, error) {
	location, standalone := f.store, f.allowStandalone
	if env := getenv("ROSTER_STORE"); env != "" && !cmd.Flags().Changed("store") {
		location = env
	}
	if env := getenv("ROSTER_ALLOW_STANDALONE"); env != "" && !cmd.Flags().Changed("allow-standalone") {
		allow, err := strconv.ParseBool(env)
		if err != nil {
			return place{}, fmt.Errorf("ROSTER_ALLOW_STANDALONE: expected true or false")
		}
		standalone = allow
	}
	return findPlace(location, standalone)
}

func newMigrateCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Prepare a store for this version of roster",
		Long: "Prepare a store for this version of roster: create it if there is none, and bring its tables or\n" +
			"collections and indexes up to date. `roster serve` does the same when it starts; on a large store it\n" +
			"can be done ahead of time. A file must not be in use. Servers of an older version have to be stopped\n" +
			"first when the schema version grows; docs/operations.md says when it does.",
		Args: cobra.NoArgs,
	}
	flags.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := flags.place(cmd, os.Getenv)
		if err != nil {
			return err
		}
		return migrate(cmd.Context(), cmd, p)
	}
	return cmd
}

func migrate(ctx context.Context, cmd *cobra.Command, p place) error {
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	store, err := openStore(ctx, p, log, nil)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "The store %s is ready.\n", config.StoreURL(p.location))
	return err
}
