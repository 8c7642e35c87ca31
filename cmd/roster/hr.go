package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/roster-id/roster/internal/hrfile"
	"github.com/roster-id/roster/schemas"
)

// hrFlags say with which server a file of people is exchanged, and what its columns mean.
type hrFlags struct {
	mapping, url, tokenFile string
	getenv                  func(string) string
}

// add adds the flags to a command; does is what it does to a server.
func (h *hrFlags) add(cmd *cobra.Command, does string) {
	f := cmd.Flags()
	f.StringVar(&h.mapping, "map", "", "the `file` with the mapping, in YAML")
	f.StringVar(&h.url, "url", "", does+" the server that runs at this `URL`")
	f.StringVar(&h.tokenFile, "token-file", "", "a `file` with the token, instead of ROSTER_TOKEN")
	for _, name := range []string{"map", "url"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag
		}
	}
}

func (h *hrFlags) readMapping() (*hrfile.Mapping, error) {
	set, err := schemas.Load()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(h.mapping)
	if err != nil {
		return nil, err
	}
	m, err := hrfile.ParseMapping(b, set.Type("User"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.mapping, err)
	}
	return m, nil
}

func (h *hrFlags) client() (*hrfile.Client, error) {
	token := h.getenv("ROSTER_TOKEN")
	if h.tokenFile != "" {
		b, err := os.ReadFile(h.tokenFile)
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(b))
	}
	return hrfile.NewClient(h.url, token)
}

// isJSONLines tells the form of a file by its name.
func isJSONLines(file string) (bool, error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv":
		return false, nil
	case ".jsonl", ".ndjson":
		return true, nil
	}
	return false, fmt.Errorf("%s: expected a name that ends in .csv or .jsonl", file)
}

// progressOn returns what shows on a terminal how many of how many are done, and what takes
// that away again. Nothing depends on what it shows.
func progressOn(w io.Writer, doing string) (show func(done, of int), hide func()) {
	if !isTerminal(w) {
		return func(int, int) {}, func() {}
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(doing), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	return func(done, of int) { bar.ChangeMax(of); _ = bar.Set(done) }, func() { _ = bar.Clear() }
}
