package raced

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestWhole: what is smaller with the race detector is among what the Makefile runs
// without it, and all of that is there.
func TestWhole(t *testing.T) {
	const root = "../.."
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
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
	tests, folders := strings.Split(value("WHOLE"), "|"), strings.Fields(value("WHOLEIN"))
	found := map[string]bool{} // of both
	uses := regexp.MustCompile(`raced\.(Size|Skip)\(`)
	function := regexp.MustCompile(`(?m)^func (\w+)\(`)
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder := "." + filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), filepath.FromSlash(root)))
		run := slices.Contains(folders, folder)
		starts := function.FindAllSubmatchIndex(text, -1)
		for _, f := range starts {
			if name := string(text[f[2]:f[3]]); run && slices.Contains(tests, name) {
				found[name], found[folder] = true, true
			}
		}
		for _, at := range uses.FindAllIndex(text, -1) {
			name := ""
			for _, f := range starts {
				if f[0] < at[0] {
					name = string(text[f[2]:f[3]])
				}
			}
			if !run || !slices.Contains(tests, name) {
				t.Errorf("%s in %s is smaller with the race detector, and not in WHOLE and WHOLEIN", name, folder)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(tests, folders) {
		if !found[name] {
			t.Errorf("the Makefile names %s, and there is none", name)
		}
	}
}
