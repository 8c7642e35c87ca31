//go:build unix

package auth

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAddKeyKeepsTheOwner: root adds a key to the file of the service, which goes on reading
// it.
func TestAddKeyKeepsTheOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "roster.keys")
	if err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	const uid, gid = 4711, 4712
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
	if _, err := AddKey(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != uid || s.Gid != gid || info.Mode().Perm() != 0o600 {
		t.Errorf("after AddKey the file is of %d:%d with mode %v; want %d:%d, 0600", s.Uid, s.Gid, info.Mode(), uid, gid)
	}
}
