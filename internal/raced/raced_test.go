package raced

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestWhole: what is smaller with the race detector is among what the Makefile runs
// without it.
func TestWhole(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `\s*:=\s*(.*)$`).FindSubmatch(makefile)
		if m == nil {
			t.Fatal("the Makefile has no ", name)
		}
		return string(m[1])
	}
	tests := strings.Split(value("WHOLE"), "|")
	smaller := 0
	for _, dir := range strings.Fields(value("WHOLEIN")) {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d tests, %v", dir, len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range tests {
				if bytes.Contains(text, []byte("\nfunc "+name+"(")) {
					smaller++
				}
			}
		}
	}
	if smaller < len(tests) {
		t.Errorf("%d of %d tests are in %s", smaller, len(tests), value("WHOLEIN"))
	}
	uses := regexp.MustCompile(`raced\.(Size|Skip)\(`)
	function := regexp.MustCompile(`(?m)^func (\w+)\(`)
	err = filepath.WalkDir("../..", func(path string, e os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		starts := function.FindAllSubmatchIndex(text, -1)
		for _, at := range uses.FindAllIndex(text, -1) {
			name := ""
			for _, f := range starts {
				if f[0] < at[0] {
					name = string(text[f[2]:f[3]])
				}
			}
			if !slices.Contains(tests, name) && path != "raced_test.go" {
				t.Errorf("%s is smaller with the race detector, and not in WHOLE", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
