package scimtest

import (
	"io/fs"
	"strings"
	"testing"
)

// Run plays every script (*.txt) in fsys, each as a test of its own, against the
// server that open gives for it. open may let the tests run in parallel.
func Run(t *testing.T, fsys fs.FS, open func(*testing.T) *Runner) {
	t.Helper()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".txt") {
			return err
		}
		t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			runner := open(t)
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			script, err := Parse(name, text)
			if err != nil {
				t.Fatal(err)
			}
			if err := runner.Play(t.Context(), script); err != nil {
				t.Error(err)
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
