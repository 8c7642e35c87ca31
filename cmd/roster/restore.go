package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/backup"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func newRestoreCommand() *cobra.Command {
	r := &restoreCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "restore --from FILE",
		Short: "Create a store from a backup",
		Long: "Create a store from what `roster backup` wrote. The file is checked completely before anything is written, and\n" +
			"the store has to be a new one. If a restore was interrupted, start it again to continue. Stop all servers on\n" +
			"the former store first, and start none on the new one before the restore is complete.\n\n" +
			"A backup does not contain what was revoked or used after it was made. So the restore invalidates everything\n" +
			"that gave access: sessions, step-ups, cursors, recovery codes, temporary passwords, links of invitations,\n" +
			"and passcodes that could have been used. The tokens of clients end too; create new ones with roster client\n" +
			"rotate. If it is known which clients were changed since, name them with --revoked; if none were, use\n" +
			"--keep-tokens.",
		Example: "  roster restore --from /mnt/backup/roster.jsonl --store /var/lib/roster/roster.db\n" +
			"  roster restore --from roster.jsonl --revoked trail.jsonl --store mongodb://db1,db2/roster",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	r.store.add(cmd)
	f := cmd.Flags()
	f.StringVar(&r.from, "from", "", "the backup, a `file`")
	f.StringVar(&r.keyFile, "key-file", "", "the key `file` of the store that was backed up; unset, roster.keys beside an embedded store (ROSTER_KEY_FILE)")
	f.BoolVar(&r.keepTokens, "keep-tokens", false, "keep the tokens of clients, because none was revoked since the backup")
	f.StringVar(&r.revoked, "revoked", "", "`file` that says which tokens end: ids of clients or tokens, one per line, or the output of roster audit export of the former store since the backup; other tokens stay valid")
	f.BoolVar(&r.dryRun, "dry-run", false, "check the backup, and write nothing")
	cmd.MarkFlagsMutuallyExclusive("keep-tokens", "revoked")
	if err := cmd.MarkFlagRequired("from"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// restoreCommand is one call of `roster restore`.
type restoreCommand struct {
	store         storeFlags
	from, keyFile string
	keepTokens    bool
	revoked       string
	dryRun        bool
	getenv        func(string) string
}

func (r *restoreCommand) run(cmd *cobra.Command) (err error) {
	ctx, say := cmd.Context(), cmd.ErrOrStderr()
	policy := &backup.Policy{At: time.Now(), KeepTokens: r.keepTokens}
	p, err := r.store.place(cmd, r.getenv)
	if err != nil {
		return err
	}
	set, err := schemas.Load()
	if err != nil {
		return err
	}
	if r.revoked != "" {
		if err := policy.ReadRevoked(r.revoked); err != nil {
			return err
		}
	}
	f, err := os.Open(r.from)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is no file; a backup is read twice, so write what comes through a pipe to a file first", r.from)
	}
	keys := keyFile(p, keySetting(cmd, r.getenv, r.keyFile))
	in, done := watched(f, fi.Size(), "checking", say)
	opens := &opener{path: keys}
	b, err := dump.VerifyBackup(ctx, in, set, func(tenant storage.TenantID, rec storage.Record) error {
		policy.Look(rec)
		return opens.look(tenant, rec)
	})
	done()
	if err != nil {
		return inFile(r.from, err)
	}
	if err := policy.Unknown(); err != nil {
		return err
	}
	if r.dryRun {
		_, _ = fmt.Fprintf(say, "The backup of %s, made by %s, is whole.\n", formatTime(b.Header.Created), b.Header.Product)
		r.tell(say, b)
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(say, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := openStore(ctx, p, log, nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	restorer := &dump.Restorer{Store: store, Schemas: set, Now: time.Now, Alter: policy.Alter, Changes: policy.Changes(b)}
	if p.kind == embedded {
		restorer.AtOnce = restoredAtOnce
	}
	in, done = watched(f, fi.Size(), "restoring", say)
	err = restorer.Restore(ctx, in, b)
	done()
	if err != nil {
		return inFile(r.from, err)
	}
	_, _ = fmt.Fprintf(say, "Restored the backup of %s.\n", formatTime(b.Header.Created))
	r.tell(say, b)
	_, _ = fmt.Fprintf(say, "Tokens that ended: %d.\n", policy.Ended)
	if policy.Ended > 0 {
		_, _ = fmt.Fprintln(say, "Their clients need new ones: roster client rotate.")
	}
	if opens.missing {
		_, _ = fmt.Fprintln(say, "Secrets in it are sealed with the key file of the former store, which is not here yet: put it in its place before a server starts.")
	}
	return nil
}

// restoredAtOnce is how many records a restore writes with one fsync. Nobody else waits
// for their turn meanwhile.
const restoredAtOnce = 10_000

func (r *restoreCommand) tell(say io.Writer, b *dump.Backup) {
	for _, t := range b.Parts {
		_, _ = fmt.Fprintf(say, "Tenant %q: %s, up to number %d.\n", t.Tenant, t.Records, t.LastAudit)
	}
}

// opener finds out whether the key file opens the secrets of a backup.
type opener struct {
	path    string
	ring    *auth.KeyRing
	missing bool // there are secrets, and no key file
}

func (o *opener) look(tenant storage.TenantID, rec storage.Record) (err error) {
	if rec.Item == nil || !auth.IsCanary(rec.Item) || o.missing {
		return nil
	}
	if o.ring == nil {
		o.ring, err = auth.LoadKeyRing(o.path)
		if o.path == "" || errors.Is(err, fs.ErrNotExist) {
			o.missing = true
			return nil
		}
	}
	if err == nil && o.ring.CheckCanary(tenant, rec.Item) != nil {
		err = fmt.Errorf("the secrets of tenant %q in the backup were not sealed with the key file %s: put that of the former store in its place", tenant, o.path)
	}
	return err
}
