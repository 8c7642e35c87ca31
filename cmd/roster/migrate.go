package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/config"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func newMigrateCommand() *cobra.Command {
	var flags storeFlags
	var indexed []string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Prepare a store for this version of roster",
		Long: "Prepare a store for this version of roster: create it if it does not exist, and bring its tables or\n" +
			"collections and indexes up to date. `roster serve` does the same at start; on a large store it can be done\n" +
			"ahead of time. An embedded store must not be in use. If the schema version changes, servers of an older\n" +
			"version have to be stopped first; docs/operations.md says when that is the case.\n\n" +
			"With --index-attributes, the indexes that this setting of the server names are built and all others of this\n" +
			"kind are dropped; without it, indexes stay as they are.",
		Args: cobra.NoArgs,
	}
	flags.add(cmd)
	cmd.Flags().StringSliceVar(&indexed, "index-attributes", nil, "`attributes` to index beyond the usual ones, such as User:title (ROSTER_INDEX_ATTRIBUTES)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := flags.place(cmd, os.Getenv)
		if err != nil {
			return err
		}
		if env := fromEnv(cmd, os.Getenv, "index-attributes"); env != "" {
			indexed = config.Items(env)
		} else if !cmd.Flags().Changed("index-attributes") {
			return migrate(cmd.Context(), cmd, p, nil)
		}
		set, err := schemas.Load()
		if err != nil {
			return err
		}
		chosen, err := storage.ChooseIndexed(set, indexed)
		if err != nil {
			return fmt.Errorf("index-attributes: %w", err)
		}
		return migrate(cmd.Context(), cmd, p, chosen)
	}
	return cmd
}

func migrate(ctx context.Context, cmd *cobra.Command, p place, indexed []*schemas.Attribute) error {
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	store, err := openStore(ctx, p, log, indexed, nil)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "The store %s is ready.\n", config.StoreURL(p.location))
	return err
}
