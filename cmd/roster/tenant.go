package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// newTenantCommand makes `roster tenant`, which makes and lists tenants.
func newTenantCommand() *cobra.Command {
	c := &tenantCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "tenant",
		Short: "Manage tenants, the directories of a store",
		Long: "Manage tenants. Each tenant is a separate directory: its users, groups, roles, clients and audit trail are\n" +
			"not visible in any other. Other commands take --tenant.",
		Args: cobra.NoArgs, // a mistyped subcommand is an argument
		RunE: func(*cobra.Command, []string) error {
			return errors.New("which of create and list? See roster help tenant")
		},
	}
	c.store.add(cmd)
	cmd.AddCommand(c.createCommand(), c.listCommand())
	return cmd
}

type tenantCommand struct {
	store  storeFlags
	getenv func(string) string
}

func (c *tenantCommand) createCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "create ID",
		Short: "Create a tenant",
		Long: "Create a tenant without users. The server may be running. Then print a link for the first administrator with\n" +
			"roster setup --tenant ID, and create a client with roster client create --tenant ID.",
		Example: "  roster tenant create acme --name 'Acme Ltd'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			by := auth.Principal{Kind: auth.Operator, Tenant: storage.TenantID(args[0])}
			if name == "" {
				name = args[0]
			}
			if err := errors.Join(auth.CheckTenantID(by.Tenant), auth.CheckTenantName(name)); err != nil {
				return err // before a store is made
			}
			return c.store.use(cmd, c.getenv, openBeside, storage.DefaultTenant, func(ctx context.Context, store storage.Store) error {
				err := auth.CreateTenant(ctx, store, by, name, time.Now())
				if _, taken := errors.AsType[*storage.UniqueError](err); taken {
					return fmt.Errorf("there is a tenant called %q already", by.Tenant)
				}
				if err != nil {
					return fmt.Errorf("create tenant %q: %w", by.Tenant, err)
				}
				_, err = fmt.Fprintf(cmd.ErrOrStderr(), "Created tenant %q. For its first administrator: roster setup --tenant %s\n", by.Tenant, by.Tenant)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "display name of the tenant; the id if unset")
	return cmd
}

func (c *tenantCommand) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List tenants",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.store.use(cmd, c.getenv, openExisting, storage.DefaultTenant, func(ctx context.Context, store storage.Store) error {
				list, err := store.ListTenants(ctx)
				if err != nil {
					return err
				}
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintln(table, "ID\tNAME\tCREATED") // Flush tells
				for _, t := range list {
					_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", t.ID, tame(t.Name), formatTime(t.Created))
				}
				return table.Flush()
			})
		},
	}
}
