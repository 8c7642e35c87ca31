package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/verify"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

// keySetting returns what a command's flag key-file says, or else the environment.
func keySetting(cmd *cobra.Command, getenv func(string) string, flag string) string {
	return cmp.Or(fromEnv(cmd, getenv, "key-file"), flag)
}

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
		log.Info("created a key file; keep a copy, apart from backups of the store", "key-file", path)
		keys, err = auth.LoadKeyRing(path)
	}
	if err != nil {
		return nil, err
	}
	return keys, keys.Check(ctx, store)
}

// newKeysCommand makes `roster keys`.
func newKeysCommand() *cobra.Command {
	k := &keysCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Manage the keys that encrypt secrets in the store",
		Long: "Manage the key file. Secrets that Roster has to read back, such as those of authenticator apps, are encrypted\n" +
			"(\"sealed\") with keys that are kept outside the database; if the key file is lost, the secrets are lost. The\n" +
			"file has one line per key version: v1: and 32 random bytes in base64. The newest version seals, older ones\n" +
			"still open what they sealed.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("which of create and rotate? See roster help keys")
		},
	}
	k.store.add(cmd)
	cmd.PersistentFlags().StringVar(&k.file, "key-file", "", "the key `file`; if unset, roster.keys beside an embedded store (ROSTER_KEY_FILE)")
	cmd.AddCommand(
		&cobra.Command{
			Use:   "create",
			Short: "Create a key file with a new key",
			Args:  cobra.NoArgs,
			RunE:  func(cmd *cobra.Command, _ []string) error { return k.create(cmd) },
		},
		k.rotateCommand(),
	)
	return cmd
}

type keysCommand struct {
	getenv func(string) string
	store  storeFlags
	file   string
}

func (k *keysCommand) rotateCommand() *cobra.Command {
	var noNew, noSeal bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Add a new key and seal all secrets with it",
		Long: "Add a new key to the key file and seal all secrets with it, while servers run. If servers have copies of the\n" +
			"file, add the key with --no-seal, copy the file to all of them, and then seal with --no-new. --no-new also\n" +
			"continues a rotation that was interrupted.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return k.rotate(cmd, noNew, noSeal) },
	}
	cmd.Flags().BoolVar(&noNew, "no-new", false, "add no key; seal everything with the newest one")
	cmd.Flags().BoolVar(&noSeal, "no-seal", false, "add a key, but do not seal anything with it yet")
	cmd.MarkFlagsMutuallyExclusive("no-new", "no-seal")
	return cmd
}

// place returns the store and the key file that flags and environment name.
func (k *keysCommand) place(cmd *cobra.Command) (place, string, error) {
	p, err := k.store.place(cmd, k.getenv)
	if err != nil {
		return place{}, "", err
	}
	path := keyFile(p, keySetting(cmd, k.getenv, k.file))
	if path == "" {
		return place{}, "", errors.New("key-file is not set; a MongoDB database has no folder for it")
	}
	return p, path, nil
}

func (k *keysCommand) create(cmd *cobra.Command) error {
	_, path, err := k.place(cmd)
	if err != nil {
		return err
	}
	if err := auth.CreateKeyFile(path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the key file %s exists already; roster keys rotate adds a key to it", path)
	} else if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "The key file %s is ready. Keep a copy, apart from backups of the store.\n", path)
	return err
}

func (k *keysCommand) rotate(cmd *cobra.Command, noNew, noSeal bool) (err error) {
	p, path, err := k.place(cmd)
	if err != nil {
		return err
	}
	keys, err := auth.LoadKeyRing(path)
	if err != nil {
		return err
	}
	store, err := openExisting(cmd.Context(), p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := keys.Check(cmd.Context(), store); err != nil {
		return err
	}
	if !noNew {
		version, err := auth.AddKey(path)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "Added key v%d to %s.\n", version, path); err != nil {
			return err
		}
	}
	if noSeal {
		return nil
	}
	n, err := keys.Rotate(cmd.Context(), store, time.Now, verify.Sealed...)
	if err != nil {
		return fmt.Errorf("%d users are done; roster keys rotate --no-new goes on: %w", n, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Secrets of %d users and messages are sealed anew with key v%d; former keys are needed for older copies of the store only.\n", n, keys.Newest())
	return err
}
