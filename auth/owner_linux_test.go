package auth

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAddKeyKeepsTheOwner: root rotates the keys of a server that runs as somebody else,
// and that reads the file again.
func TestAddKeyKeepsTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root gives files away")
	}
	path := filepath.Join(t.TempDir(), "roster.keys")
	if err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	const uid, gid = 12345, 23456
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
	if st := info.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is of %d:%d with mode %v", st.Uid, st.Gid, info.Mode())
	}
}
