package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/hrfile"
)

func newExportCommand() *cobra.Command {
	e := &exportCommand{hrFlags: hrFlags{getenv: os.Getenv}}
	cmd := &cobra.Command{
		Use:   "export FILE --map MAPPING --url URL",
		Short: "Export people to a file for an HR system",
		Long: "Export people from a running server, over SCIM, to a CSV or JSON Lines file with the columns of the mapping.\n" +
			"The mapping is the same as for `roster import`; importing the file again with it changes nothing.\n" +
			"The file must not exist. It is readable by its owner alone (mode 0600), and appears only when complete.\n" +
			"The token is that of a client with the scope users, in ROSTER_TOKEN or in a file (--token-file).",
		Example: "  roster export people.csv --map mapping.yaml --url https://roster.example\n" +
			"  roster export active.jsonl --map mapping.yaml --url https://roster.example --filter 'active eq true'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return e.run(cmd, args[0]) },
	}
	e.add(cmd, "export from")
	cmd.Flags().StringVar(&e.filter, "filter", "", "export only the users that this SCIM `filter` selects")
	return cmd
}

// exportCommand is one call of `roster export`.
type exportCommand struct {
	hrFlags
	filter string
}

func (e *exportCommand) run(cmd *cobra.Command, file string) error {
	jsonLines, err := isJSONLines(file)
	if err != nil {
		return err
	}
	mapping, err := e.readMapping()
	if err != nil {
		return err
	}
	client, err := e.client()
	if err != nil {
		return err
	}
	x := &hrfile.Exporter{Client: client, Mapping: mapping, JSONLines: jsonLines, Filter: e.filter}
	say := cmd.ErrOrStderr()
	progress, hide := progressOn(say, "exporting")
	x.Progress = func(done int) { progress(done, -1) }
	var n hrfile.Exported
	err = whole(file, func(w io.Writer) (err error) {
		n, err = x.Write(cmd.Context(), w)
		return err
	})
	hide()
	if err != nil {
		return err
	}
	if n.NoKey > 0 {
		fmt.Fprintf(say, "%d users have no value for %s, which the mapping matches by: an import would reject them.\n", n.NoKey, mapping.Match())
	}
	if n.NoManager > 0 {
		fmt.Fprintf(say, "%d users have a manager without a value for %s, and no manager in the file.\n", n.NoManager, mapping.Match())
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d users exported\n", n.Users)
	return err
}
