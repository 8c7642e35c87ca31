package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/storage"
)

func newAuditCommand() *cobra.Command {
	a := &auditCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify and export the audit trail",
		Long: "Verify and export the audit trail, whether or not a server is running on the store.\n\n" +
			"Each entry contains the hash of the previous entry in its chain, and the server regularly signs how far\n" +
			"the chains have come; docs/security.md says what that proves.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("which of verify and export? See roster help audit")
		},
	}
	cmd.AddCommand(a.verifyCommand(), a.exportCommand())
	return cmd
}

// auditCommand is one call of `roster audit`.
type auditCommand struct {
	store  storeFlags
	tenant string
	getenv func(string) string
}

func (a *auditCommand) add(cmd *cobra.Command) {
	a.store.add(cmd)
	cmd.Flags().StringVar(&a.tenant, "tenant", string(storage.DefaultTenant), "the tenant whose trail it is")
}

// run opens the store for fn.
func (a *auditCommand) run(cmd *cobra.Command, fn func(context.Context, storage.Store, storage.TenantID) error) error {
	tenant := storage.TenantID(a.tenant)
	return a.store.use(cmd, a.getenv, openExisting, tenant, func(ctx context.Context, store storage.Store) error { return fn(ctx, store, tenant) })
}

func (a *auditCommand) verifyCommand() *cobra.Command {
	var file string
	var keys []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check whether the audit trail has been tampered with",
		Long: "Read the whole audit trail and check whether entries have been edited, removed, inserted or moved.\n" +
			"Only checkpoints can show that the end of the trail is missing: the store contains the latest one, and the\n" +
			"file of the server's setting audit-checkpoints contains all. Give --public-key, which the server logs at\n" +
			"start; without it, whoever can write to the checkpoints could have made them.\n\n" +
			"The exit code is 0 if nothing is wrong, and 1 otherwise, with a line for each fault.",
		Example: "  roster audit verify --store /var/lib/roster/roster.db --checkpoints /mnt/worm/checkpoints.jsonl --public-key 8m2Z…=",
		Args:    cobra.NoArgs,
	}
	a.add(cmd)
	f := cmd.Flags()
	f.StringVar(&file, "checkpoints", "", "`file` with checkpoints to compare the trail with")
	f.StringArrayVar(&keys, "public-key", nil, "a `key` whose checkpoints count, in base64; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var trusted []ed25519.PublicKey
		for _, k := range keys {
			key, err := audit.ParseKey(k)
			if err != nil {
				return fmt.Errorf("public-key: %w", err)
			}
			trusted = append(trusted, key)
		}
		return a.run(cmd, func(ctx context.Context, store storage.Store, tenant storage.TenantID) error {
			return verifyTrail(ctx, cmd, store, tenant, file, trusted)
		})
	}
	return cmd
}

func verifyTrail(ctx context.Context, cmd *cobra.Command, store storage.Store, tenant storage.TenantID, file string, trusted []ed25519.PublicKey) error {
	var checkpoints []audit.Checkpoint
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		if checkpoints, err = audit.ReadCheckpoints(f, tenant, trusted...); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	out, faults := cmd.OutOrStdout(), int64(0)
	last, err := audit.Last(ctx, store, tenant)
	if err == nil && last != nil && last.Tenant == tenant { // one of a tenant that was loaded under another name says nothing
		if err = last.Authenticate(trusted...); err == nil {
			checkpoints = append(checkpoints, *last)
		}
	}
	switch {
	case errors.Is(err, audit.ErrForged):
		faults++
		_, _ = fmt.Fprintf(out, "forged: tenant %q, the checkpoint in the store\n", tenant)
	case err != nil:
		return err
	}
	r, err := audit.Verify(ctx, store, tenant, checkpoints)
	if err != nil {
		return err
	}
	for _, f := range r.Faults {
		_, _ = fmt.Fprintln(out, f)
	}
	if more := r.Faulty - int64(len(r.Faults)); more > 0 {
		_, _ = fmt.Fprintf(out, "and %d more\n", more)
	}
	faults += r.Faulty
	_, err = fmt.Fprintf(out, "tenant %q: %d entries (%d from before there were chains), %d chains, %d checkpoints, the last of them at number %d\n",
		tenant, r.Entries, r.Unchained, r.Chains, r.Checkpoints, r.Vouched)
	switch {
	case err != nil:
		return err
	case faults > 0:
		return fmt.Errorf("the audit trail of tenant %q has been changed; faults: %d", tenant, faults)
	case r.Checkpoints > 0 && len(trusted) == 0:
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "Without --public-key whoever can write to the checkpoints could have made them.")
	}
	_, err = fmt.Fprintln(out, "no faults found")
	return err
}

func (a *auditCommand) exportCommand() *cobra.Command {
	var q audit.Query
	var since, until string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export the audit trail as JSON Lines",
		Long: "Write the entries of the audit trail to standard output, oldest first, one JSON object per line. Names of\n" +
			"members may be added in later versions, but do not change. To continue an earlier export, pass the seq of\n" +
			"its last line to --after.",
		Example: "  roster audit export --since 2026-03-01 | gzip > march.jsonl.gz",
		Args:    cobra.NoArgs,
	}
	a.add(cmd)
	f := cmd.Flags()
	f.Int64Var(&q.After, "after", 0, "the `number` behind which to begin")
	f.StringVar(&since, "since", "", "only entries from this `time` on, such as 2026-03-01 or 2026-03-01T12:00:00Z")
	f.StringVar(&until, "until", "", "only entries before this `time`")
	f.StringVar(&q.Actor, "actor", "", "only what this `actor` did, such as operator or client:ID")
	f.StringVar(&q.ID, "id", "", "only what was done to the record with this `id`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var errSince, errUntil error
		q.Since, errSince = moment("since", since)
		q.Until, errUntil = moment("until", until)
		if err := errors.Join(errSince, errUntil); err != nil {
			return err
		}
		return a.run(cmd, func(ctx context.Context, store storage.Store, tenant storage.TenantID) error {
			_, err := audit.Export(ctx, store, tenant, q, cmd.OutOrStdout())
			return err
		})
	}
	return cmd
}

// moment reads a time; a date is its beginning in UTC.
func moment(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s: expected a date such as 2026-03-01, or a time such as 2026-03-01T12:00:00Z", flag)
}
