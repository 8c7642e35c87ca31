package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/hrfile"
)

func newImportCommand() *cobra.Command {
	i := &importCommand{hrFlags: hrFlags{getenv: os.Getenv}}
	cmd := &cobra.Command{
		Use:   "import FILE --map MAPPING --url URL",
		Short: "Import people from a file exported by an HR system",
		Long: "Import people from a CSV or JSON Lines file into a running server, over SCIM, as described by the mapping.\n" +
			"--dry-run shows the changes, with values, and changes nothing. Rows that cannot be imported are rejected\n" +
			"with a reason, and the others are imported. If an import was interrupted, run it again: it does the rest.\n" +
			"The token is that of a client with the scope users, in ROSTER_TOKEN or in a file (--token-file).",
		Example: "  roster import people.csv --map mapping.yaml --url https://roster.example --dry-run\n" +
			"  roster import people.jsonl --map mapping.yaml --url https://roster.example --rejects rejects.csv",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return i.run(cmd, args[0]) },
	}
	i.add(cmd, "import into")
	f := cmd.Flags()
	f.StringVar(&i.rejects, "rejects", "", "write rejected rows to this `file`, as CSV; without it they are printed to standard error")
	f.BoolVar(&i.dryRun, "dry-run", false, "show what would change, and change nothing")
	f.BoolVar(&i.json, "json", false, "print JSON Lines: the changes of a dry run, then the counts")
	f.BoolVar(&i.disableAnyway, "disable-anyway", false, "disable the users who are absent from the file, however many there are")
	return cmd
}

// importCommand is one call of `roster import`.
type importCommand struct {
	hrFlags
	rejects                     string
	dryRun, json, disableAnyway bool
}

func (i *importCommand) run(cmd *cobra.Command, file string) (err error) {
	out, say := cmd.OutOrStdout(), cmd.ErrOrStderr()
	jsonLines, err := isJSONLines(file)
	if err != nil {
		return err
	}
	mapping, err := i.readMapping()
	if err != nil {
		return err
	}
	client, err := i.client()
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(fmt.Errorf("%s is read more than once, and has to be a file", file), err)
	}
	run := &hrfile.Importer{Client: client, Mapping: mapping, File: f, JSONLines: jsonLines, DryRun: i.dryRun, DisableAnyway: i.disableAnyway}
	reject, end, err := i.openRejects(file, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	run.Reject = reject
	if i.dryRun {
		run.Preview = func(c hrfile.Change) error { return i.show(out, c) }
	}
	progress, hide := progressOn(say, "importing")
	defer hide()
	run.Progress = progress
	if i.getenv("GOGC") == "" {
		debug.SetGCPercent(100) // main's is for servers; here most is waiting
	}
	result, err := run.Run(cmd.Context())
	if stop, ok := errors.AsType[*hrfile.StopError](err); ok {
		return fmt.Errorf("%w; if that is right, say --disable-anyway", stop)
	}
	if err != nil {
		return fmt.Errorf("%w; %d created, %d updated, %d disabled until then: run the import again for the rest", err, result.Created, result.Updated, result.Disabled)
	}
	return i.conclude(out, say, result)
}

// openRejects returns what tells of rejected rows: in the file for them, or else to standard
// error. end has to be called.
func (i *importCommand) openRejects(file string, say io.Writer) (reject func(hrfile.Reject) error, end func() error, err error) {
	if i.rejects == "" {
		reject = func(r hrfile.Reject) error {
			_, err := fmt.Fprintf(say, "rejected: %s\n", rejectText(r))
			return err
		}
		return reject, func() error { return nil }, nil
	}
	f, err := i.createRejects(file)
	if err != nil {
		return nil, nil, err
	}
	w := csv.NewWriter(f)
	_ = w.Write([]string{"line", "column", "reason"}) // Flush tells of errors
	reject = func(r hrfile.Reject) error {
		line := ""
		if r.Line > 0 {
			line = strconv.Itoa(r.Line)
		}
		return w.Write([]string{line, r.Column, r.Reason})
	}
	return reject, func() error { w.Flush(); return errors.Join(w.Error(), f.Close()) }, nil
}

// createRejects empties the file of rejected rows, or makes it. It is none of those that are read.
func (i *importCommand) createRejects(file string) (*os.File, error) {
	if there, err := os.Stat(i.rejects); err == nil {
		for _, read := range []string{file, i.mapping, i.tokenFile} {
			if fi, err := os.Stat(read); err == nil && os.SameFile(there, fi) {
				return nil, fmt.Errorf("--rejects: %s is read by the import, expected another file", i.rejects)
			}
		}
	}
	return os.OpenFile(i.rejects, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // who is rejected is the operator's alone to know
}

// conclude says what an import came to. It is an error if a row was rejected.
func (i *importCommand) conclude(out, say io.Writer, result hrfile.Result) (err error) {
	if i.json {
		err = json.NewEncoder(out).Encode(map[string]any{"result": result})
	} else {
		begin := ""
		if i.dryRun {
			begin = "dry run: "
		}
		_, err = fmt.Fprintf(out, "%s%d rows: %d created, %d updated, %d unchanged, %d disabled, %d rejected\n", begin,
			result.Rows, result.Created, result.Updated, result.Unchanged, result.Disabled, result.Rejected)
	}
	if result.NotDisabled > 0 {
		fmt.Fprintf(say, "%d users are not in the file, but none was disabled: a rejected row whose key cannot be read may be one of them.\n", result.NotDisabled)
	}
	if err == nil && result.Rejected > 0 {
		err = fmt.Errorf("rejected: %d", result.Rejected)
	}
	return err
}

func rejectText(r hrfile.Reject) string {
	s := r.Reason
	if r.Column != "" {
		s = fmt.Sprintf("column %q: %s", r.Column, s)
	}
	if r.Line == 0 {
		return "a user who is not in the file: " + s
	}
	return fmt.Sprintf("line %d: %s", r.Line, s)
}

// show prints a change of a dry run.
func (i *importCommand) show(out io.Writer, c hrfile.Change) error {
	if i.json {
		return json.NewEncoder(out).Encode(c)
	}
	at := ""
	if c.Line > 0 {
		at = fmt.Sprintf("line %d: ", c.Line)
	}
	if _, err := fmt.Fprintf(out, "%s%s %q\n", at, c.Action, c.Key); err != nil {
		return err
	}
	for _, a := range c.Attributes {
		now := shown(a.New)
		if a.ManagerKey != "" {
			now = fmt.Sprintf("whoever will be %q", a.ManagerKey)
		}
		if c.Action == "update" {
			now = shown(a.Old) + " → " + now
		}
		if _, err := fmt.Fprintf(out, "    %s: %s\n", a.Path, now); err != nil {
			return err
		}
	}
	return nil
}

// shown quotes what could do things to a terminal.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return strconv.Quote(v)
	}
	return fmt.Sprint(v)
}
