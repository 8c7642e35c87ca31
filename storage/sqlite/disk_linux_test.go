package sqlite

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestLocalDisk(t *testing.T) {
	if err := localDisk(t.TempDir(), fileSystem); err != nil {
		t.Errorf("the temporary folder: %v", err)
	}
	if err := localDisk(t.TempDir()+"/missing", fileSystem); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	err := localDisk("/srv/share", func(string) (string, error) { return networks[0x6969], nil })
	if want := "store: /srv/share is on a network file system (NFS), where SQLite cannot keep data safe: choose a folder on a local disk"; err == nil || err.Error() != want {
		t.Errorf("a share: got %v, want %s", err, want)
	}
}

func TestFuseNetwork(t *testing.T) {
	const mounts = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 22 0:31 / /srv/remote rw,nosuid shared:2 - fuse.sshfs ana@host:/ rw
37 36 0:32 / /srv/remote/local rw - fuse.ntfs-3g /dev/sdb1 rw
38 22 0:33 / /mnt/a\040share rw - fuse.rclone remote: rw
39 22 0:34 / /mnt/vm rw - virtiofs share rw
40 22 0:35 / /mnt/twice rw - fuse.sshfs x: rw
41 22 0:36 / /mnt/twice rw - fuse.mergerfs a:b rw
broken
`
	for folder, want := range map[string]string{
		"/": "", "/srv": "", "/srv/remote": "sshfs", "/srv/remote/roster/data": "sshfs", "/srv/remotely": "",
		"/srv/remote/local/x": "", "/mnt/a share/x": "rclone", "/mnt/vm/x": "", "/mnt/twice/x": "",
	} {
		if got := fuseNetwork(folder, strings.NewReader(mounts)); got != want {
			t.Errorf("%s: got %q, want %q", folder, got, want)
		}
	}
}
