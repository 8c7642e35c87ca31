package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

func newLoadCommand() *cobra.Command {
	l := &loadCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "load --in FILE",
		Short: "Load a tenant from a dump",
		Long: "Load what `roster dump` wrote into an empty tenant. A file is checked completely before anything is\n" +
			"loaded. If a load was interrupted, load the same dump again to continue; until the load is complete,\n" +
			"nobody can use the tenant. On an embedded store, no server may run meanwhile.\n\n" +
			"Secrets in the dump, such as those of authenticator apps, are sealed for their tenant with the key file of\n" +
			"the server that the dump is from. If the key file or the tenant is a different one, nothing is loaded.",
		Example: "  roster load --store /var/lib/roster/roster.db --in default.jsonl\n" +
			"  gunzip < default.jsonl.gz | roster load --in -",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd) },
	}
	l.store.add(cmd)
	f := cmd.Flags()
	f.StringVar(&l.tenant, "tenant", "", "the tenant to load into; by default that of the dump")
	f.StringVar(&l.in, "in", "", "the `file` to load; - for standard input")
	f.StringVar(&l.keyFile, "key-file", "", "the key `file` of the store; if unset, roster.keys beside an embedded store (ROSTER_KEY_FILE)")
	f.BoolVar(&l.dryRun, "dry-run", false, "check the dump, and load nothing")
	if err := cmd.MarkFlagRequired("in"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// loadCommand is one call of `roster load`.
type loadCommand struct {
	store      storeFlags
	tenant, in string
	keyFile    string
	dryRun     bool
	getenv     func(string) string

	// Of the dump, once it has been met.
	canary *storage.Item
	dumped storage.TenantID
}

func (l *loadCommand) run(cmd *cobra.Command) error {
	ctx, say := cmd.Context(), cmd.ErrOrStderr()
	p, err := l.store.place(cmd, l.getenv)
	if err != nil {
		return err
	}
	set, err := schemas.Load()
	if err != nil {
		return err
	}
	in, size := cmd.InOrStdin(), int64(-1)
	if l.in == "-" {
		in = untilEnded(ctx, in)
	} else {
		f, err := os.Open(l.in)
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		in = f
		if fi.Mode().IsRegular() {
			size = fi.Size()
		}
	}
	// What can be read twice is checked first, so that nothing of a bad dump is
	// ever loaded.
	if size >= 0 || l.dryRun {
		r, done := watched(in, size, "checking", say)
		result, err := dump.Verify(ctx, r, set, l.meet)
		done()
		if err != nil {
			return inFile(l.in, err)
		}
		if l.dryRun {
			_, _ = fmt.Fprintf(say, "The dump of tenant %q of %s is whole: %s.\n", result.Tenant, formatTime(result.Header.Created), result.Counts)
			return nil
		}
		if _, err := in.(io.Seeker).Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(say, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := openStore(ctx, p, log, nil, nil)
	if err != nil {
		return err
	}
	keys := keyFile(p, keySetting(cmd, l.getenv, l.keyFile))
	if err = l.fits(ctx, store, keys); err == nil {
		err = l.load(ctx, store, set, in, size, say, keys)
	}
	return errors.Join(err, store.Close())
}

// untilEnded reads a pipe, which may say nothing for ever, until ctx ends.
func untilEnded(ctx context.Context, in io.Reader) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	return r
}

// meet notes which keys the secrets of a dump were sealed with, and refuses a tenant that could
// not have been made in another way.
func (l *loadCommand) meet(h dump.Header, r storage.Record) error {
	if r.Tenant != nil {
		id := cmp.Or(storage.TenantID(l.tenant), storage.TenantID(h.Tenant))
		if err := auth.CheckTenantID(id); err != nil {
			return fmt.Errorf("tenant %q: %w", id, err)
		}
	}
	if r.Item != nil && auth.IsCanary(r.Item) {
		l.canary, l.dumped = r.Item, storage.TenantID(h.Tenant)
	}
	return nil
}

// fits reports why the secrets of the dump, if it is known to have any, could not be opened
// in the store: they are sealed for their tenant, and one key file opens all of a store.
func (l *loadCommand) fits(ctx context.Context, store storage.Store, keys string) error {
	if l.canary == nil {
		return nil
	}
	if into := cmp.Or(storage.TenantID(l.tenant), l.dumped); into != l.dumped {
		return fmt.Errorf("the dump has secrets that are sealed for tenant %q, and cannot be opened in another one: load it without --tenant", l.dumped)
	}
	ring, err := auth.LoadKeyRing(keys)
	if keys == "" || errors.Is(err, fs.ErrNotExist) {
		sealed, err := auth.AnythingSealed(ctx, store, l.dumped)
		if sealed {
			err = errors.New("the dump has sealed secrets, and so has the store: name the key file of the store with --key-file, so that it can be seen whether it opens both")
		}
		return err
	}
	if err == nil {
		err = ring.Check(ctx, store)
	}
	if err == nil && ring.CheckCanary(l.dumped, l.canary) != nil {
		err = fmt.Errorf("the secrets in the dump were not sealed with the key file %s: put that of the server that was dumped in its place, or, "+
			"if the store has secrets of its own, load into another store", keys)
	}
	return err
}

func (l *loadCommand) load(ctx context.Context, store storage.Store, set *schemas.Set, in io.Reader, size int64, say io.Writer, keys string) error {
	loader := &dump.Loader{Store: store, Schemas: set, Tenant: storage.TenantID(l.tenant), Now: time.Now}
	loader.Accept = func(h dump.Header, r storage.Record) error {
		if l.canary != nil {
			return nil // met, and found to fit
		}
		return errors.Join(l.meet(h, r), l.fits(ctx, store, keys))
	}
	r, done := watched(in, size, "loading", say)
	result, err := loader.Load(ctx, r)
	done()
	if result.Resumed > 0 {
		_, _ = fmt.Fprintf(say, "Went on after %d records that had been loaded before.\n", result.Resumed)
	}
	if err == nil {
		_, _ = fmt.Fprintf(say, "Loaded tenant %q: %s.\n", result.Tenant, result.Counts)
		return nil
	}
	if mark, markErr := store.LoadMark(context.WithoutCancel(ctx), result.Tenant); markErr == nil && mark != nil {
		_, _ = fmt.Fprintf(say, "%d records are loaded. Tenant %q cannot be used before the load is complete; load the same dump again to go on.\n",
			mark.Records, result.Tenant)
	}
	return inFile(l.in, err)
}
