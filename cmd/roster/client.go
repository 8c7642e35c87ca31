package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// newClientCommand makes `roster client`, which manages provisioning clients and
// their tokens. create and open open a store, and create makes one where there is
// none.
//
// A token is the only thing ever printed to standard output by create and
// rotate, so that a script can put it where it belongs; whatever there is to say
// to people goes to standard error.
func newClientCommand(create, open openFunc) *cobra.Command {
	c := &clientCommand{create: create, open: open, getenv: os.Getenv, now: time.Now}
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Manage provisioning clients and their tokens",
		Long: "Manage provisioning clients: the identity providers and HR systems that push users and groups\n" +
			"into Roster. Each client has one or two bearer tokens, which are shown once when they are made.",
		Args: cobra.NoArgs, // a mistyped subcommand is an argument
		RunE: func(*cobra.Command, []string) error {
			return errors.New("which of create, list, rotate, revoke and log? See roster help client")
		},
	}
	c.store.add(cmd)
	cmd.PersistentFlags().StringVar(&c.tenant, "tenant", string(storage.DefaultTenant), "the tenant of the client")
	cmd.AddCommand(c.createCommand(), c.listCommand(), c.rotateCommand(), c.revokeCommand(), c.logCommand())
	return cmd
}

// clientCommand is what the subcommands have in common.
type clientCommand struct {
	create openFunc
	open   openFunc
	getenv func(string) string
	now    func() time.Time

	store  storeFlags
	tenant string
}

func (c *clientCommand) createCommand() *cobra.Command {
	var (
		client  storage.Client
		expires string
	)
	cmd := &cobra.Command{
		Use:   "create --name NAME --scopes SCOPES",
		Short: "Create a client and print its token",
		Long: "Create a client and print its token, as the only line on standard output. The token cannot be shown again;\n" +
			"roster client rotate creates a new one. docs/configuration.md explains scopes, profiles and references.",
		Example: "  roster client create --name okta --scopes users,groups --profile okta",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Before the store is opened: a mistyped flag must not make a new,
			// empty one.
			lifetime, err := checkCreate(&client, expires)
			if err != nil {
				return err
			}
			return c.run(cmd, c.create, func(s *clientSession) error { return s.print(s.create(client, lifetime)) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&client.Name, "name", "", "a name for the client, unique in the tenant")
	f.StringSliceVar(&client.Scopes, "scopes", nil, "what the client may do: "+strings.Join(auth.ScopeNames(), ", "))
	f.StringVar(&client.Profile, "profile", "", "adapt to how the client writes SCIM: entra, okta or strict")
	f.StringVar(&client.References, "references", "", "late: accept managers and members that do not exist yet, and resolve them later")
	f.StringVar(&expires, "expires", formatDays(auth.DefaultTokenLifetime), "how long the token is valid, such as 90d or 24h, up to "+formatDays(auth.MaxTokenLifetime))
	f.StringSliceVar(&client.Networks, "network", nil, "accept the client's requests from this `CIDR` prefix only; may be repeated")
	f.IntVar(&client.Rate, "rate", 0, "requests per second that the client may send; 0 means the server's client-rate")
	f.IntVar(&client.Burst, "burst", 0, "requests that the client may send at once; 0 means as many as --rate")
	for _, name := range []string{"name", "scopes"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag
		}
	}
	return cmd
}

func (c *clientCommand) listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List clients and their tokens",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, c.open, func(s *clientSession) error { return s.list(asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, including expired and revoked tokens")
	return cmd
}

func (c *clientCommand) rotateCommand() *cobra.Command {
	var overlap, expires string
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give a client a new token and print it",
		Long: "Give a client a new token and print it, as the only line on standard output. The current token stays valid\n" +
			"for the overlap, so that there is time to enter the new one. A client has at most two valid tokens: if there\n" +
			"are several old ones, the most recently used one stays valid and the others end at once.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			stay, lifetime, err := checkRotate(overlap, expires)
			if err != nil {
				return err
			}
			return c.run(cmd, c.open, func(s *clientSession) error { return s.print(s.rotate(args[0], stay, lifetime)) })
		},
	}
	cmd.Flags().StringVar(&overlap, "overlap", "24h", "how long the old token stays valid, such as 24h, 7d or 0s")
	cmd.Flags().StringVar(&expires, "expires", formatDays(auth.DefaultTokenLifetime), "how long the new token is valid, such as 90d or 24h, up to "+formatDays(auth.MaxTokenLifetime))
	return cmd
}

func (c *clientCommand) revokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke a client and all its tokens",
		Long: "Revoke a client and all its tokens. Running servers refuse the tokens within a second. This cannot be undone;\n" +
			"the name can be used for a new client.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, c.open, func(s *clientSession) error { return s.revoke(args[0]) })
		},
	}
}

// run opens the store and hands it to fn.
func (c *clientCommand) run(cmd *cobra.Command, open openFunc, fn func(*clientSession) error) error {
	by := auth.Principal{Kind: auth.Operator, Tenant: storage.TenantID(c.tenant)}
	return c.store.use(cmd, c.getenv, open, by.Tenant, func(ctx context.Context, store storage.Store) error {
		return fn(&clientSession{ctx: ctx, store: store, now: c.now(), out: cmd.OutOrStdout(), say: cmd.ErrOrStderr(), by: by})
	})
}

// clientSession is one run of a subcommand.
type clientSession struct {
	ctx      context.Context
	store    storage.Store
	by       auth.Principal
	now      time.Time
	out, say io.Writer
}

// create makes a client of what is set in client, with a token.
func (s *clientSession) create(client storage.Client, lifetime time.Duration) (*auth.NewClient, error) {
	made, err := s.manager().Create(s.ctx, s.by, &client, lifetime)
	if _, taken := errors.AsType[*storage.UniqueError](err); taken {
		return nil, fmt.Errorf("there is a client called %q already; choose another name, or use `roster client rotate` to give it a new token", client.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("create client %q: %w", client.Name, err)
	}
	s.sayf("Created client %q (%s) with scopes %s.\n", client.Name, client.ID, strings.Join(client.Scopes, ","))
	return made, nil
}

// rotate gives a client a new token. The error is errNoClient if there is none, or none
// any more.
func (s *clientSession) rotate(name string, overlap, lifetime time.Duration) (*auth.NewClient, error) {
	client, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if !client.Revoked.IsZero() {
		return nil, fmt.Errorf("%w called %q is left: it was revoked on %s", errNoClient, name, formatTime(client.Revoked))
	}
	made, err := s.manager().Rotate(s.ctx, s.by, client.ID, overlap, lifetime)
	if err != nil {
		return nil, fmt.Errorf("rotate client %q: %w", name, err)
	}
	for _, e := range made.Ends {
		if e.At.After(s.now) {
			s.sayf("The old token (%s) is valid until %s.\n", e.Token, formatTime(e.At))
		} else {
			s.sayf("The old token (%s) is no longer valid.\n", e.Token)
		}
	}
	return made, nil
}

// revoke ends a client and its tokens. Doing so twice is no mistake.
func (s *clientSession) revoke(name string) error {
	client, err := s.find(name)
	if err != nil {
		return err
	}
	if !client.Revoked.IsZero() {
		s.sayf("Client %q was revoked on %s already.\n", name, formatTime(client.Revoked))
		return nil
	}
	if err := s.manager().Revoke(s.ctx, s.by, client.ID); err != nil {
		return fmt.Errorf("revoke client %q: %w", name, err)
	}
	s.sayf("Revoked client %q and all its tokens.\n", name)
	return nil
}

func (s *clientSession) list(asJSON bool) error {
	clients, err := s.store.ListClients(s.ctx, s.by.Tenant)
	if err != nil {
		return err
	}
	if asJSON {
		return writeClientsJSON(s.out, clients, s.now)
	}
	return writeClients(s.out, clients, s.now)
}

// errNoClient: there is no client with the name.
var errNoClient = errors.New("no client")

// find returns the client with a name. Where a revoked one left its name to
// another, that is the other.
func (s *clientSession) find(name string) (*storage.Client, error) {
	clients, err := s.store.ListClients(s.ctx, s.by.Tenant)
	if err != nil {
		return nil, err
	}
	var found *storage.Client
	for _, c := range clients {
		if c.Name == name && (found == nil || c.Revoked.IsZero()) {
			found = c
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w called %q", errNoClient, name)
	}
	return found, nil
}

func (s *clientSession) manager() *auth.ClientManager {
	return &auth.ClientManager{Store: s.store, Now: func() time.Time { return s.now }}
}

// print prints the token of create or rotate.
func (s *clientSession) print(made *auth.NewClient, err error) error {
	if err != nil {
		return err
	}
	s.sayf("This is the only time the token is shown. It is valid until %s.\n", formatTime(made.Token.Expires))
	if _, err := fmt.Fprintln(s.out, made.Text.Reveal()); err != nil {
		return fmt.Errorf("the token was made but could not be printed, use `roster client rotate` to make another: %w", err)
	}
	return nil
}

// sayf tells people something. Nothing depends on whether they see it.
func (s *clientSession) sayf(format string, args ...any) { _, _ = fmt.Fprintf(s.say, format, args...) }

// checkCreate reports all that is wrong with a client to be created and with the
// lifetime of its token, which it returns.
func checkCreate(c *storage.Client, expires string) (time.Duration, error) {
	lifetime, err := parseFlag("expires", expires, auth.DefaultTokenLifetime)
	return lifetime, errors.Join(flagged(auth.CheckClient(c, lifetime)), err)
}

// checkRotate reads the durations that rotate is given.
func checkRotate(overlap, expires string) (stay, lifetime time.Duration, err error) {
	stay, overlapErr := parseFlag("overlap", overlap, auth.DefaultOverlap)
	lifetime, err = parseFlag("expires", expires, auth.DefaultTokenLifetime)
	return stay, lifetime, errors.Join(overlapErr, err, flagged(auth.CheckRotation(stay, lifetime)))
}

// flagged names the flags in errors about durations, which do not name themselves.
func flagged(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var errs []error
	for _, err := range joined.Unwrap() {
		if e, ok := errors.AsType[*auth.ClientError](err); ok && (e.Member == "expires" || e.Member == "overlap") {
			err = fmt.Errorf("--%s: %w", e.Member, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
