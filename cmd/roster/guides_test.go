package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const guidesDir = "../../docs/guides"

// block is a fenced block at the margin of a page.
var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// TestGuides runs the commands in docs/guides as they are written there, each page in
// one shell, against a server of its own. What a block of commands prints is held
// against the block behind it, where … stands for anything.
func TestGuides(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT RUN: the commands of the guides: %v", err)
		}
	}
	pages, err := filepath.Glob(guidesDir + "/*.md")
	if err != nil || len(pages) < 7 {
		t.Fatalf("there are %d guides: %v", len(pages), err)
	}
	for _, page := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			tryGuide(t, page)
		})
	}
}

func tryGuide(t *testing.T, page string) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	store := dir + "/roster.db"
	s := serveStore(t, store)
	as := strings.NewReplacer("https://scim.example.com", strings.TrimSuffix(s.scim, "/scim/v2"), "/var/lib/roster/roster.db", store)

	script := "set -eu\n"
	want := map[string]string{} // what is printed, by the file it goes to
	last := ""
	for i, m := range block.FindAllStringSubmatch(string(b), -1) {
		switch m[1] {
		case "sh":
			last = fmt.Sprintf("%s/printed-%d", dir, i)
			script += fmt.Sprintf("exec >'%s'\n%s", last, as.Replace(m[2]))
		case "json", "text":
			want[last] = m[2]
		default:
			t.Errorf("a block of %s is neither commands nor what they print", m[1])
		}
	}
	if len(want) == 0 {
		t.Error("no command's output is shown")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var say bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, cleanEnv(), &say
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, &say)
	}
	for file, text := range want {
		printed, err := os.ReadFile(file)
		if err != nil || !printedAs(text).Match(printed) {
			t.Errorf("printed:\n%s\nthe page has:\n%s\n%v", printed, text, err)
		}
	}
}

func printedAs(text string) *regexp.Regexp {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(text), "…", ".*")
	return regexp.MustCompile(`(?s)\A` + pattern + `\z`)
}
