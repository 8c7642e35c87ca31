package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/provlog"
)

func (c *clientCommand) logCommand() *cobra.Command {
	var q provlog.Query
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log NAME",
		Short: "Show the last requests of a client, and why they were refused",
		Long: "Show the last requests of a client, newest first, with the reason for each refusal. Values that the client\n" +
			"sent are not kept. The request id is the X-Request-Id of the response that the client got.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Limit < 1 {
				return fmt.Errorf("--limit: %d is not above zero", q.Limit)
			}
			return c.run(cmd, c.open, func(s *clientSession) error { return s.log(args[0], q, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&q.Refused, "refused", false, "only refused requests")
	cmd.Flags().IntVar(&q.Limit, "limit", 50, "how many requests to show")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one request per line, with the structure of their bodies")
	return cmd
}

// log prints the last requests of a client.
func (s *clientSession) log(name string, q provlog.Query, asJSON bool) error {
	client, err := s.find(name)
	if err != nil {
		return err
	}
	q.Client = client.ID
	list, _, err := provlog.Search(s.ctx, s.store, s.by.Tenant, s.now, q)
	if err != nil {
		return err
	}
	for _, e := range list {
		if asJSON {
			line, err := json.Marshal(e)
			if err == nil {
				_, err = fmt.Fprintf(s.out, "%s\n", line)
			}
			if err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprint(s.out, logText(e)); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		s.sayf("There is nothing in the provisioning log of client %q.\n", name)
	}
	return nil
}

// logText is a request for people to read.
func logText(e *provlog.Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %d  %s %s", e.At.UTC().Format("2006-01-02 15:04:05 UTC"), e.Status, e.Method, e.Route)
	if e.ResourceID != "" {
		b.WriteString("  " + e.ResourceID)
	}
	b.WriteString("  request " + e.RequestID + "\n")
	if e.Omitted > 0 {
		fmt.Fprintf(&b, "    %d more before it that are not kept\n", e.Omitted)
	}
	if e.Failed > 0 {
		fmt.Fprintf(&b, "    %d of %d operations failed\n", e.Failed, e.Operations)
	}
	for i, why := range e.Why() {
		f := e.Failures[i]
		b.WriteString("    ")
		if f.Bulk != nil {
			fmt.Fprintf(&b, "bulk operation %d: %d ", *f.Bulk, f.Status)
		}
		if f.Type != "" {
			b.WriteString(string(f.Type) + ": ")
		}
		if f.Operation != nil {
			fmt.Fprintf(&b, "operation %d: ", *f.Operation)
		}
		fmt.Fprintf(&b, "%s\n    %s (%s)\n", cmp.Or(f.Detail, "what the client was told names attributes as it wrote them, and is not kept"), why.Meaning, why.Reference)
	}
	return b.String()
}
