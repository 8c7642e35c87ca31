package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestKeyFileInPart: where the file cannot be brought to the disk none is left, or it would
// be in the way of the next attempt.
func TestKeyFileInPart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "roster.keys")
	create := func() error { return CreateKeyFile(path) }
	if os.Geteuid() == 0 { // who may do everything
		create = asNobody(t, folder, create)
	}
	if err := errors.Join(create(), os.Remove(path)); err != nil {
		t.Fatalf("in a folder of its own: %v", err)
	}
	if err := os.Chmod(folder, 0o300); err != nil { // it cannot be opened, to be synced
		t.Fatal(err)
	}
	if err := create(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("CreateKeyFile: %v; want fs.ErrPermission", err)
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// asNobody gives a folder to nobody, and returns fn as nobody would call it, who has files to
// deal with only.
func asNobody(t *testing.T, folder string, fn func() error) func() error {
	t.Helper()
	const nobody = 65534
	if err := errors.Join(os.Chown(folder, nobody, nobody), os.Chmod(filepath.Dir(folder), 0o711)); err != nil {
		t.Fatal(err)
	}
	return func() error {
		ended := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			if err := syscall.Setfsuid(nobody); err != nil {
				ended <- err
				return
			}
			ended <- fn()
		}()
		return <-ended
	}
}
