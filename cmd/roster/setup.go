package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/console"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// newSetupCommand makes `roster setup`, and newRecoverCommand `roster recover`: the
// two ways in for somebody who has a shell on the host. The link is the only thing
// that they print to standard output.
func newSetupCommand() *cobra.Command {
	l := &linkCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Print a one-time link for the first administrator",
		Long: "Print a link with which somebody becomes the first Global Administrator of a tenant: its page asks for a user\n" +
			"name, a password and an authenticator app. The link works once, within a day, and replaces any earlier link.\n" +
			"The server may be running or be started afterwards. If there already is a Global Administrator who can sign\n" +
			"in, no link is printed; see roster recover.",
		Args: cobra.NoArgs,
	}
	l.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return l.run(cmd, openBeside, func(ctx context.Context, a *auth.Authenticator, by auth.Principal) (auth.Secret, error) {
			link, err := a.NewFirstSetup(ctx, by)
			if errors.Is(err, auth.ErrAdministered) {
				err = fmt.Errorf("%w; for one who is locked out, run roster recover", err)
			}
			return link, err
		})
	}
	return cmd
}

func newRecoverCommand() *cobra.Command {
	l := &linkCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "recover NAME",
		Short: "Print a one-time link for a user who is locked out",
		Long: "Print a link with which a user who lost the password, the authenticator app or both sets a new password and\n" +
			"enrols an app again. NAME is the user name or an e-mail address. The link works once, within an hour. When it\n" +
			"is used, former passcodes, recovery codes and sessions end, and the audit trail records it.",
		Args: cobra.ExactArgs(1),
	}
	l.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return l.run(cmd, openExisting, func(ctx context.Context, a *auth.Authenticator, by auth.Principal) (auth.Secret, error) {
			user, err := a.UserNamed(ctx, by.Tenant, args[0])
			if errors.Is(err, storage.ErrNotFound) {
				return "", errors.New("no user is called that, or more than one has the address")
			}
			if err != nil {
				return "", err
			}
			return a.NewSetup(ctx, by, user, true)
		})
	}
	return cmd
}

// linkCommand is what both have in common.
type linkCommand struct {
	store       storeFlags
	tenant, url string
	getenv      func(string) string
}

func (l *linkCommand) add(cmd *cobra.Command) {
	l.store.add(cmd)
	cmd.Flags().StringVar(&l.tenant, "tenant", string(storage.DefaultTenant), "the tenant of the account")
	cmd.Flags().StringVar(&l.url, "public-url", "", "URL under which people reach the server; if unset, $ROSTER_PUBLIC_URL, or else http://127.0.0.1:8080")
}

func (l *linkCommand) run(cmd *cobra.Command, open openFunc, link func(context.Context, *auth.Authenticator, auth.Principal) (auth.Secret, error)) error {
	base, err := l.base()
	if err != nil {
		return err
	}
	by := auth.Principal{Kind: auth.Operator, Tenant: storage.TenantID(l.tenant)}
	return l.store.use(cmd, l.getenv, open, by.Tenant, func(ctx context.Context, store storage.Store) error {
		set, err := schemas.Load()
		if err != nil {
			return err
		}
		secret, err := link(ctx, &auth.Authenticator{Store: store, Schemas: set, Now: time.Now}, by)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), setupLink(base, secret))
		return err
	})
}

// base returns where the server is reached.
func (l *linkCommand) base() (string, error) {
	text := l.url
	if text == "" {
		text = l.getenv("ROSTER_PUBLIC_URL")
	}
	if text == "" {
		return "http://127.0.0.1:8080", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", errors.New("public-url: expected a URL like https://roster.example.com")
	}
	return strings.TrimSuffix(text, "/"), nil
}

// setupLink returns the link with a secret. It stands in the fragment, which no
// browser sends and no server logs.
func setupLink(base string, secret auth.Secret) string {
	return base + console.SetupPath + "#" + secret.Reveal()
}
