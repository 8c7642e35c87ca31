package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/verify"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func newVerifyCommand() *cobra.Command {
	v := &verifyCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the consistency of a store",
		Long: "Check that a store is consistent, whether or not a server is running on it: search data of resources, unique\n" +
			"values, counts, memberships, tokens, references, secrets and the key file, and the audit trail. Nothing is\n" +
			"changed. Flaws are reported with ids, never with values.\n\n" +
			"The exit code is 0 if nothing is wrong, and 1 otherwise.",
		Example: "  roster verify --store /var/lib/roster/roster.db",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return v.run(cmd) },
	}
	v.store.add(cmd)
	cmd.Flags().StringVar(&v.keyFile, "key-file", "", "the key `file` of the store; if unset, roster.keys beside an embedded store (ROSTER_KEY_FILE)")
	cmd.Flags().BoolVar(&v.json, "json", false, "print JSON, one flaw per line, and on the last line what was checked")
	return cmd
}

// verifyCommand is one call of `roster verify`.
type verifyCommand struct {
	store   storeFlags
	keyFile string
	json    bool
	getenv  func(string) string
}

// maxPrinted is how many flaws of a kind are printed.
const maxPrinted = 1000

func (v *verifyCommand) run(cmd *cobra.Command) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	p, err := v.store.place(cmd, v.getenv)
	if err != nil {
		return err
	}
	set, err := schemas.Load()
	if err != nil {
		return err
	}
	path := keyFile(p, keySetting(cmd, v.getenv, v.keyFile))
	var keys *auth.KeyRing
	if path != "" {
		if keys, err = auth.LoadKeyRing(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	store, err := openAsIs(ctx, p, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	checked, ok := store.(interface {
		storage.Store
		storage.Checker
	})
	if !ok {
		return errors.New("this kind of store cannot be verified")
	}
	found := map[storage.FlawKind]int{}
	lines := json.NewEncoder(out)
	var unprinted error
	tell := func(f storage.Flaw) {
		if found[f.Kind]++; found[f.Kind] > maxPrinted || unprinted != nil {
			return
		}
		if v.json {
			unprinted = lines.Encode(f)
		} else {
			_, unprinted = fmt.Fprintln(out, f)
		}
	}
	report, err := (&verify.Verifier{Store: checked, Schemas: set, Keys: keys, Now: time.Now, Found: tell}).Run(ctx)
	if err != nil {
		return err
	}
	if keys == nil {
		if sealed, err := auth.AnythingSealed(ctx, store); err != nil {
			return err
		} else if sealed {
			tell(storage.Flaw{Kind: storage.FlawSealed, What: "there are secrets, and the key file is not here: name it with --key-file"})
		}
	}
	if unprinted != nil {
		return fmt.Errorf("print what is wrong: %w", unprinted)
	}
	if v.json {
		err = lines.Encode(report)
	} else {
		checked := "checked"
		if len(found) == 0 {
			checked = "The store is consistent: checked"
		}
		_, err = fmt.Fprintf(out, "%s %d tenants, %d resources, %d items, %d audit entries\n", checked, report.Tenants, report.Resources, report.Items, report.Entries)
	}
	if err != nil || len(found) == 0 {
		return err
	}
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, found[kind]))
	}
	return fmt.Errorf("the store has flaws: %s", strings.Join(kinds, ", "))
}
