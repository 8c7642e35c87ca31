package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/config"
)

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
