package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/roster-id/roster/internal/config"
)

// TestLinks: what the pages of the documentation link to is there, to the section.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages := allPages()
	link := regexp.MustCompile(`\]\(([^)\s#]*)(?:#([^)\s]+))?\)`)
	links := 0
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if m[2] != "" && !sections(readPage(t, target))[m[2]] {
				t.Errorf("%s: %s has no section %s", page, target, m[2])
			}
		}
	}
	if len(pages) < 15 || links < 50 {
		t.Errorf("%d links in %d pages", links, len(pages))
	}
}

// allPages are the pages of the documentation.
func allPages() []string {
	pages := []string{"../../README.md", "../../CHANGELOG.md"}
	for _, pattern := range []string{"../../docs/*.md", guidesDir + "/*.md"} {
		found, _ := filepath.Glob(pattern)
		pages = append(pages, found...)
	}
	return pages
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sections are the headings of a page as links name them.
func sections(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\pL\pN_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all[strings.ReplaceAll(name, " ", "-")] = true
	}
	return all
}

// TestPagesNameWhatThereIs: commands, flags, settings and metrics that the pages speak of
// exist, and no command and no metric goes without a word.
func TestPagesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	var (
		command  = regexp.MustCompile("\\broster (?:roster )?((?:[a-z]+ ?)+)([^`\n|;&]*)")
		flag     = regexp.MustCompile(`(?:^|[\s(])--([a-z][a-z-]+)`)
		alone    = regexp.MustCompile("`--([a-z][a-z-]+)")
		variable = regexp.MustCompile(`\bROSTER_[A-Z][A-Z_]*[A-Z]\b`)
		metric   = regexp.MustCompile("`(roster_[a-z_]+)[`{]")
	)
	series := exposed(t)
	measured := func(name string) bool { return series[name] != nil || series[name+"_bucket"] != nil }
	variables := map[string]bool{"ROSTER_TOKEN": true} // of import and bench, which are no servers
	for _, s := range config.Settings() {
		variables[s.Env] = true
	}
	flags, leaves := map[string]bool{}, map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		c.InheritedFlags() // which takes those of the parents along
		c.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
		if len(c.Commands()) == 0 && !c.Hidden {
			leaves[c.CommandPath()] = true
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	root := newRootCommand()
	walk(root)

	told := 0
	var all strings.Builder
	deployed, _ := filepath.Glob(deployDir + "/*.*") // what stands at the top of each
	for _, page := range append(allPages(), append(deployed, deployDir+"/kubernetes/kustomization.yaml")...) {
		text := strings.ReplaceAll(readPage(t, page), "\\\n", " ")
		all.WriteString(text)
		for _, m := range command.FindAllStringSubmatch(text, -1) {
			c, _, err := root.Find(strings.Fields(m[1]))
			if err != nil || c == root {
				continue // a sentence about roster
			}
			told++
			for _, f := range flag.FindAllStringSubmatch(m[2], -1) {
				if c.Flag(f[1]) == nil {
					t.Errorf("%s: %s has no flag --%s", page, c.CommandPath(), f[1])
				}
			}
		}
		for _, f := range alone.FindAllStringSubmatch(text, -1) {
			if !flags[f[1]] {
				t.Errorf("%s: no command has a flag --%s", page, f[1])
			}
		}
		for _, v := range variable.FindAllString(text, -1) {
			if !variables[v] && !strings.HasPrefix(v, "ROSTER_TEST_") {
				t.Errorf("%s: %s is no setting", page, v)
			}
		}
		for _, m := range metric.FindAllStringSubmatch(text, -1) {
			if !measured(m[1]) {
				t.Errorf("%s: the server exposes no %s", page, m[1])
			}
		}
	}
	if told < 100 {
		t.Errorf("the pages name commands %d times", told)
	}
	for leaf := range leaves {
		if !strings.Contains(all.String(), leaf) {
			t.Errorf("no page names %s", leaf)
		}
	}
	settings := readPage(t, "../../docs/configuration.md")
	for name := range series {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "roster_") && !strings.Contains(settings, "`"+base+"`") {
			t.Errorf("docs/configuration.md does not tell of %s", base)
		}
	}
}

// TestPagesExplainWords: what the program says by a word of its own, a page explains.
func TestPagesExplainWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ source, constant, page string }{
		{"internal/api/problem.go", `problemPrefix \+ `, "api.md"},
		{"internal/mail/sender.go", `Reason = `, "operations.md"},
		{"internal/events/send.go", `Reason = `, "operations.md"},
		{"internal/audit/verify.go", `Kind = `, "operations.md"},
		{"storage/check.go", `FlawKind = `, "operations.md"},
		{"auth/signin.go", `outcome = `, "configuration.md"},
		{"auth/bearer.go", `Reason = `, "configuration.md"},
	} {
		words := regexp.MustCompile(test.constant+`"([a-z -]+)"`).FindAllStringSubmatch(readPage(t, "../../"+test.source), -1)
		if len(words) == 0 {
			t.Errorf("%s has no %s", test.source, test.constant)
		}
		page := readPage(t, "../../docs/"+test.page)
		for _, m := range words {
			if !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("docs/%s does not explain %q", test.page, m[1])
			}
		}
	}
}
