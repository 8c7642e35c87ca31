package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func newDumpCommand() *cobra.Command {
	d := &dumpCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Write a complete tenant to a file",
		Long: "Write a complete tenant to a file, as of the moment at which the dump begins, whether or not a server is\n" +
			"running on the store. `roster load` creates the same tenant from it in another store.\n\n" +
			"The file contains hashes of passwords and tokens. Only its owner can read it (mode 0600); protect it like\n" +
			"the store itself.",
		Example: "  roster dump --store /var/lib/roster/roster.db --out default.jsonl\n" +
			"  roster dump | gzip > default.jsonl.gz",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	d.store.add(cmd)
	f := cmd.Flags()
	f.StringVar(&d.tenant, "tenant", string(storage.DefaultTenant), "the tenant to write")
	f.StringVar(&d.out, "out", "-", "the `file` to write, which must not exist; - for standard output")
	return cmd
}

// dumpCommand is one call of `roster dump`.
type dumpCommand struct {
	store       storeFlags
	tenant, out string
	getenv      func(string) string
}

func (d *dumpCommand) run(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	if d.out == "-" && isTerminal(cmd.OutOrStdout()) {
		return errors.New("a dump is not written to a terminal: name a file with --out")
	}
	p, err := d.store.place(cmd, d.getenv)
	if err != nil {
		return err
	}
	set, err := schemas.Load()
	if err != nil {
		return err
	}
	store, err := openExisting(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := wholeTenant(ctx, store, storage.TenantID(d.tenant)); err != nil {
		return err
	}
	w := &dump.Writer{Store: store, Schemas: set, Product: versionText(), Now: time.Now()}
	var counts dump.Counts
	if d.out == "-" {
		counts, err = w.Write(ctx, storage.TenantID(d.tenant), cmd.OutOrStdout())
	} else {
		err = whole(d.out, func(f io.Writer) (err error) {
			counts, err = w.Write(ctx, storage.TenantID(d.tenant), f)
			return err
		})
	}
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("no tenant called %q", d.tenant)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "Dumped tenant %q: %s.\n", d.tenant, counts)
	return nil
}

// isTerminal reports whether a person sees what is written to w at once.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
