package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func newBackupCommand() *cobra.Command {
	b := &backupCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "backup --to FILE",
		Short: "Back up all tenants to a file, while servers run",
		Long: "Write all tenants of a store to a file, as of the moment at which the backup begins, whether or not servers\n" +
			"are running on the store. `roster restore` creates a store from it, of either kind.\n\n" +
			"The file contains hashes of passwords and tokens, and secrets encrypted with the key file. The key file is\n" +
			"not included: keep a copy elsewhere, or nobody with an authenticator app can sign in after a restore.\n" +
			"The file appears under its name once it is complete and on disk. Only its owner can read it (mode 0600).",
		Example: "  roster backup --store /var/lib/roster/roster.db --to /mnt/backup/roster-$(date +%F).jsonl\n" +
			"  roster backup --to - | zstd > roster.jsonl.zst",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	b.store.add(cmd)
	cmd.Flags().StringVar(&b.to, "to", "", "the `file` to write, which must not exist; - for standard output")
	cmd.Flags().StringVar(&b.keyFile, "key-file", "", "the key `file` of the store; if unset, roster.keys beside an embedded store (ROSTER_KEY_FILE)")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// backupCommand is one call of `roster backup`.
type backupCommand struct {
	store       storeFlags
	to, keyFile string
	getenv      func(string) string
}

func (b *backupCommand) run(cmd *cobra.Command) (err error) {
	ctx, say := cmd.Context(), cmd.ErrOrStderr()
	if b.to == "-" && isTerminal(cmd.OutOrStdout()) {
		return errors.New("a backup is not written to a terminal: name a file with --to")
	}
	p, err := b.store.place(cmd, b.getenv)
	if err != nil {
		return err
	}
	set, err := schemas.Load()
	if err != nil {
		return err
	}
	store, err := openAsIs(ctx, p, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := wholeTenants(ctx, store); err != nil {
		return err
	}
	w := &dump.BackupWriter{Store: store, Schemas: set, Kind: p.kind, Product: versionText(), Now: time.Now}
	var done *dump.Backup
	if b.to == "-" {
		done, err = w.Write(ctx, cmd.OutOrStdout())
	} else {
		err = whole(b.to, func(f io.Writer) (err error) {
			done, err = w.Write(ctx, f)
			return err
		})
	}
	if err != nil {
		return err
	}
	for _, t := range done.Parts {
		_, _ = fmt.Fprintf(say, "Tenant %q: %s.\n", t.Tenant, t.Records)
	}
	keys := keyFile(p, keySetting(cmd, b.getenv, b.keyFile))
	if b.to != "-" && keys != "" && sameFolder(keys, b.to) {
		_, _ = fmt.Fprintln(say, "The backup lies beside the key file: whoever takes both can open the secrets. Keep them apart.")
	}
	return nil
}

// wholeTenants reports a tenant that has been loaded or restored in part: a backup of it
// would be one of a part.
func wholeTenants(ctx context.Context, store storage.Store) error {
	tenants, err := store.ListTenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if err := wholeTenant(ctx, store, t.ID); err != nil {
			return err
		}
	}
	return nil
}

func wholeTenant(ctx context.Context, store storage.Store, id storage.TenantID) error {
	mark, err := store.LoadMark(ctx, id)
	if err == nil && mark != nil {
		err = fmt.Errorf("tenant %q has been loaded in part: complete that first", id)
	}
	return err
}

// whole makes a file of what fn writes, or none: until it is complete and on disk it has
// another name.
func whole(path string, fn func(io.Writer) error) error {
	if base := filepath.Base(path); path == "" || os.IsPathSeparator(path[len(path)-1]) || base == "." || base == ".." {
		return fmt.Errorf("%q is not the name of a file to write", path)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("there is no folder for the file: %w", err)
	}
	exists := func() error {
		_, err := os.Lstat(path)
		switch {
		case err == nil:
			return fmt.Errorf("%s exists; choose another name", path)
		case errors.Is(err, fs.ErrNotExist):
			return nil
		}
		return err
	}
	if err := exists(); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-*")
	if err != nil {
		return err
	}
	err = fn(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = exists(); err == nil {
			err = os.Rename(f.Name(), path)
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func sameFolder(a, b string) bool {
	x, err := os.Stat(filepath.Dir(a))
	if err != nil {
		return false
	}
	y, err := os.Stat(filepath.Dir(b))
	return err == nil && os.SameFile(x, y)
}
