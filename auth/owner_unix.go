//go:build unix

package auth

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// giveTo gives a file to the owner and the group of another, or one that root replaces could
// not be read any more by the server. Who may not give it away keeps it.
func giveTo(f *os.File, other fs.FileInfo) error {
	s, ok := other.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := f.Chown(int(s.Uid), int(s.Gid)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
