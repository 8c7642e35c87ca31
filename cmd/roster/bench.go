package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/bench"
	"github.com/roster-id/roster/internal/config"
)

// errTargetsMissed is how `roster bench --check` ends when the server is not
// good enough.
var errTargetsMissed = errors.New("a target was missed")

func newBenchCommand() *cobra.Command {
	b := &benchCommand{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast the server is",
		Long: "Measure how fast the server is, as ratios to baselines without SCIM that run side by side with it,\n" +
			"and compare that with targets. Without --url, servers are started on temporary folders (TMPDIR says\n" +
			"where: choose the disk you want to know about) and removed afterwards.\n\n" +
			"With --url, users and groups are created on that server, changed, and deleted at the end.",
		Example: "  roster bench\n" +
			"  roster bench --users 20000 --only get,create --json result.json --check\n" +
			"  ROSTER_TOKEN=… roster bench --url https://roster.example --users 1000",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return b.run(cmd.Context(), cmd.Flags().Changed("seed"), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.url, "url", "", "measure the server that runs at this `URL`, such as https://roster.example/scim/v2")
	f.StringVar(&b.token, "token", "", "bearer `token` for that server; others can see it in the list of processes, ROSTER_TOKEN they cannot")
	f.StringVar(&b.opsURL, "ops-url", "", "`URL` of that server's metrics listener, to count allocations and memory")
	f.BoolVar(&b.config.Keep, "keep", false, "leave on that server what was created there")
	f.IntVar(&b.config.Users, "users", 100_000, "how many users there are")
	f.IntVar(&b.config.Small, "small", 1000, "how many users there are on a second server, to compare with")
	f.IntVar(&b.config.Connections, "connections", 64, "how many requests are under way at a time")
	f.DurationVar(&b.config.Duration, "duration", 3*time.Second, "how long a row is measured in each round")
	f.IntVar(&b.config.Rounds, "rounds", 3, "how many times each row is measured; the median counts")
	f.Uint64Var(&b.config.Seed, "seed", 1, "decides which users there are and which are asked for; random with --url, so that a run does not meet an earlier one's users")
	f.StringSliceVar(&b.config.Only, "only", nil, "measure these rows only, and what they are compared with: "+strings.Join(bench.Names(), ", "))
	f.StringVar(&b.json, "json", "", "write the result as JSON to this `file`; with - to standard output, and the table to standard error")
	f.BoolVar(&b.check, "check", false, "fail if a target is missed")
	cmd.AddCommand(newBaselineCommand())
	return cmd
}

// benchCommand is one call of `roster bench`.
type benchCommand struct {
	config             bench.Config
	url, token, opsURL string
	json               string
	check              bool
	getenv             func(string) string
}

func (b *benchCommand) run(ctx context.Context, seeded bool, out, say io.Writer) error {
	b.config.Version, b.config.Progress = versionText(), say
	var spawn bench.Processes
	var err error
	if spawn.Executable, err = os.Executable(); err != nil {
		return err
	}
	if b.url != "" {
		token := cmp.Or(b.token, b.getenv("ROSTER_TOKEN"))
		if b.config.Server, err = bench.Running(b.url, b.opsURL, token); err != nil {
			return err
		}
		if !seeded {
			b.config.Seed = uint64(rand.Uint32()) // whatever reads the JSON can hold it
		}
	} else if b.token != "" || b.opsURL != "" || b.config.Keep {
		return errors.New("--token, --ops-url and --keep go with --url")
	}
	report, err := bench.Run(ctx, b.config, spawn)
	if err != nil {
		return err
	}
	if err := b.write(report, out, say); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if b.check && !report.Pass {
		return errTargetsMissed
	}
	return nil
}

func (b *benchCommand) write(report *bench.Report, out, say io.Writer) error {
	switch b.json {
	case "":
		return report.WriteTable(out)
	case "-":
		return errors.Join(report.WriteTable(say), report.WriteJSON(out))
	}
	err := report.WriteTable(out)
	f, ferr := os.Create(b.json)
	if ferr != nil {
		return errors.Join(err, ferr)
	}
	return errors.Join(err, report.WriteJSON(f), f.Close())
}

// newBaselineCommand makes the command that `roster bench` starts as a process
// of its own. It is nothing for people to call.
func newBaselineCommand() *cobra.Command {
	limits := config.Default()
	opt := bench.BaselineOptions{MaxConns: limits.MaxConnections, MaxConnsPerIP: limits.MaxConnectionsPerIP}
	var user, page string
	cmd := &cobra.Command{
		Use: "baseline", Short: "Serve the baselines", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opt.User, err = os.ReadFile(user); err != nil {
				return err
			}
			if opt.Page, err = os.ReadFile(page); err != nil {
				return err
			}
			// As the server beside it is told to.
			limits.LogLevel = slog.LevelError
			opt.Log = newLogger(limits, cmd.ErrOrStderr())
			return bench.ServeBaseline(cmd.Context(), opt, func(base, ops string) {
				fmt.Fprintf(cmd.OutOrStdout(), "listening baseline=%s ops=%s\n", base, ops)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&opt.Store, "store", "", "`path` of the store")
	f.StringVar(&opt.Listen, "listen", "127.0.0.1:0", "`address` to serve on")
	f.StringVar(&opt.OpsListen, "ops-listen", "127.0.0.1:0", "`address` to serve metrics on")
	f.StringVar(&user, "user", "", "`file` with a user")
	f.StringVar(&page, "page", "", "`file` with a page")
	f.IntVar(&opt.Rows, "rows", 0, "how many rows the store has")
	return cmd
}
