//go:build unix

package auth

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file that takes the place of another one to whoever that belongs to:
// it may be a server that runs as somebody else.
func keepOwner(f *os.File, was fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	now, before := info.Sys().(*syscall.Stat_t), was.Sys().(*syscall.Stat_t)
	if now.Uid == before.Uid && now.Gid == before.Gid {
		return nil
	}
	return f.Chown(int(before.Uid), int(before.Gid))
}
