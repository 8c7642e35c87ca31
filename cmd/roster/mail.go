package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/config"
	"github.com/roster-id/roster/internal/mail"
)

// newMailSender makes what sends mail, or nil if there is no mail. out is standard
// output.
func newMailSender(c config.Mail, out io.Writer) (mail.Sender, error) {
	if c.From == "" {
		return nil, nil
	}
	from, err := mail.ParseFrom(c.From)
	switch {
	case err != nil:
		return nil, err
	case c.Dir != "":
		return &mail.Folder{Path: c.Dir, From: from}, nil
	case c.Stdout:
		return &mail.Stream{W: out, From: from}, nil
	}
	server, err := mail.ParseServer(c.SMTP)
	if err != nil {
		return nil, err
	}
	password := c.Password
	if c.PasswordFile != "" {
		if password, err = readPassword(c.PasswordFile); err != nil {
			return nil, fmt.Errorf("mail-password-file: %w", err)
		}
	}
	return &mail.SMTP{Server: server, From: from, Username: c.Username, Password: password, Auth: c.Auth}, nil
}

// readPassword reads a file that holds a password, and refuses one that everybody can
// read.
func readPassword(path string) (auth.Secret, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", fmt.Errorf("%s may be read by everybody (mode %o): run chmod o-rwx on it", path, mode)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(b), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return auth.Secret(password), nil
}

// newMailCommand makes `roster mail`.
func newMailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mail",
		Short: "Test the mail settings",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("which command? There is test; see roster help mail")
		},
	}
	cmd.AddCommand(newMailTestCommand())
	return cmd
}

func newMailTestCommand() *cobra.Command {
	var to, language string
	cmd := &cobra.Command{
		Use:   "test --to ADDRESS",
		Short: "Send a test message and show the mail server's responses",
		Long: "Send a test message with the settings of roster serve, bypassing the queue, and show the mail server's\n" +
			"responses. Settings come from flags, the environment (ROSTER_…) and a YAML file, in that order.",
		Args: cobra.NoArgs,
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&to, "to", "", "`address` to send to")
	cmd.Flags().StringVar(&language, "language", "", "`language` of the message; unset, mail-language")
	_ = cmd.MarkFlagRequired("to") // it fails for flags that do not exist
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(cmd.Flags(), os.Getenv)
		if err != nil {
			return fmt.Errorf("the configuration is not valid:\n%w", err)
		}
		return sendTest(cmd.Context(), c.Mail, to, language, cmd.OutOrStdout())
	}
	return cmd
}

func sendTest(ctx context.Context, c config.Mail, to, language string, out io.Writer) error {
	sender, err := newMailSender(c, out)
	if err != nil {
		return err
	}
	if sender == nil {
		return errors.New("mail is not set up: set mail-from, and mail-smtp, mail-dir or mail-stdout")
	}
	m := mail.Message{Kind: mail.Test, To: to, Language: language}
	letter, err := m.Letter(c.Language)
	if err != nil {
		return err
	}
	letter.ID, letter.Date = uuid.NewString(), time.Now()
	server, ok := sender.(*mail.SMTP)
	if !ok {
		if err := sender.Send(ctx, letter); err != nil {
			return err
		}
		if c.Dir != "" {
			_, err = fmt.Fprintf(out, "wrote %s.eml to %s\n", letter.ID, c.Dir)
		}
		return err
	}
	said, err := server.Say(ctx, letter)
	if e, ok := errors.AsType[*mail.SendError](err); ok && e.Detail != "" {
		return fmt.Errorf("%w: %s", err, e.Detail)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s:%d took the message and said: %s\n", server.Host, server.Port, said)
	return err
}
