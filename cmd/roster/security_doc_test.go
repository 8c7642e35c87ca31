package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityTable holds the tables of docs/security.md against the tests: every
// requirement and every case has a row, and every test that a row names exists.
func TestSecurityTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t, filepath.Join("..", ".."))
	_, tables, found := strings.Cut(string(text), "## What holds, and what shows it")
	if !found {
		t.Fatal("there are no tables")
	}
	row := regexp.MustCompile(`(?m)^\| (?:([SVM][0-9]+) \| )?([^|]+) \| ([^|]+) \|$`)
	name := regexp.MustCompile("`([^`]+)`")
	seen := map[string]bool{}
	covered, beyond := 0, 0
	for _, m := range row.FindAllStringSubmatch(tables, -1) {
		id, shown := m[1], strings.TrimSpace(m[3])
		switch {
		case id == "" && shown == "test": // the head of a table
			continue
		case id == "":
			id = m[2]
			beyond++
		}
		if seen[id] {
			t.Errorf("%s has two rows", id)
		}
		seen[id] = true
		names := name.FindAllStringSubmatch(shown, -1)
		if len(names) == 0 && !strings.HasPrefix(shown, "Not covered: ") {
			t.Errorf("%s names no test and does not say why: %q", id, shown)
		}
		for _, n := range names {
			if !tests[n[1]] {
				t.Errorf("%s names %s: there is no such test", id, n[1])
			}
		}
		if len(names) > 0 {
			covered++
		}
	}
	for _, kind := range []struct {
		format string
		last   int
	}{{"S%d", 45}, {"V%02d", 37}, {"M%02d", 22}} {
		for i := 1; i <= kind.last; i++ {
			if id := fmt.Sprintf(kind.format, i); !seen[id] {
				t.Errorf("%s has no row", id)
			}
		}
	}
	if beyond == 0 {
		t.Error("there are no rows beyond those")
	}
	t.Logf("%d of %d rows name tests", covered, len(seen))
}

// testNames returns the names of all tests and fuzz targets below a folder, and
// the cases of the storage contract, which are sentences.
func testNames(t *testing.T, root string) map[string]bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example|Benchmark)\w*)\(`)
	promise := regexp.MustCompile(`(?m)^\t\{"([^"]+)", \w+\},$`)
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		contract := filepath.Base(filepath.Dir(path)) == "storagetest"
		if !contract && !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
		if contract {
			for _, m := range promise.FindAllSubmatch(b, -1) {
				names[string(m[1])] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
