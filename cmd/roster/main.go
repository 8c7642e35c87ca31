package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run())
}

// run is main with a result, so that deferred work is done before the process
// ends.
func run() int {
	if os.Getenv("GOGC") == "" {
		// What is alive is small beside what requests leave behind: collecting a
		// third as often costs some 30 MB and spares a tenth of the processor.
		debug.SetGCPercent(300)
	}
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	// A command may be where it does not see that it is to end: at a pipe that nobody
	// writes to. A second signal ends it at once.
	context.AfterFunc(ctx, stop)
	if err := execute(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "roster:", err)
		return 1
	}
	return 0
}

// execute runs the command that the arguments name.
func execute(ctx context.Context, args []string) error {
	cmd := newRootCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		// What the command was about to do then, and could not, is not what went wrong.
		err = fmt.Errorf("interrupted: %w", err)
	}
	return err
}

// endings are the signals that end a command in order. SIGHUP, from a terminal that
// goes away or somebody who hopes that settings are read again, would end it at
// once; where it is ignored (nohup) it stays so.
func endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "roster",
		Short: "A SCIM 2.0 server for identity providers and HR systems",
		// An error is printed once, by run, and usage is for those who ask.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		newServeCommand(), newSetupCommand(), newRecoverCommand(), newClientCommand(openBeside, openExisting), newTenantCommand(),
		newDumpCommand(), newLoadCommand(), newBackupCommand(), newRestoreCommand(), newVerifyCommand(), newDoctorCommand(),
		newImportCommand(), newExportCommand(), newAuditCommand(), newMigrateCommand(), newKeysCommand(), newMailCommand(), newBenchCommand(),
		newVersionCommand(),
	)
	sayUsage(root)
	return root
}

// sayUsage makes commands that are given too few arguments or too many say which they take.
func sayUsage(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		sayUsage(sub)
	}
	if check := cmd.Args; check != nil && !cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) == nil {
				return nil
			}
			return fmt.Errorf("arguments beside flags: %d; expected: %s", len(args), cmd.UseLine())
		}
	}
}
