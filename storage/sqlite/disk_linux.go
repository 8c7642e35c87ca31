package sqlite

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// networks are the file systems that statfs tells by a number (statfs(2), Linux's
// magic.h).
var networks = map[uint32]string{
	0x6969:     "NFS",
	0x517b:     "SMB",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB",
	0x01021997: "9p",
	0x5346414f: "AFS",
	0x73757245: "Coda",
	0x00c36400: "Ceph",
	0x0bd00bd0: "Lustre",
	0x47504653: "GPFS",
	0x564c:     "NCP",
}

// fuse is the number of all file systems that are programs. Only their name tells
// whether one of them reaches over a network.
const fuse = 0x65735546

// fuseNetworks are the programs that do.
var fuseNetworks = []string{"sshfs", "nfs", "smb", "cifs", "s3fs", "goofys", "mount-s3", "gcsfuse", "blobfuse", "rclone", "davfs", "ceph", "glusterfs", "juicefs", "curlftpfs", "seaweedfs", "cvmfs"}

// fileSystem names the network file system that a folder is on, or "".
func fileSystem(folder string) (string, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return "", err
	}
	magic := uint32(st.Type) //nolint:gosec // the type is signed on some platforms
	if magic != fuse {
		return networks[magic], nil
	}
	folder, err := filepath.EvalSymlinks(folder)
	if err == nil {
		folder, err = filepath.Abs(folder)
	}
	if err != nil {
		return "", err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", nil //nolint:nilerr // without /proc nobody can tell, and most such file systems are local
	}
	defer f.Close()
	return fuseNetwork(folder, f), nil
}

// fuseNetwork looks a folder up in a list of mounts (proc_pid_mountinfo(5)) and
// names the program if it reaches over a network.
func fuseNetwork(folder string, mounts io.Reader) string {
	longest, program := "", ""
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 1 {
			continue
		}
		point := unescape.Replace(fields[4])
		inside := point == folder || strings.HasPrefix(folder, strings.TrimSuffix(point, "/")+"/")
		if inside && len(point) >= len(longest) { // of two on one point the later lies above
			longest, program = point, kind[0]
		}
	}
	name, isFuse := strings.CutPrefix(program, "fuse.")
	if !isFuse {
		return ""
	}
	for _, n := range fuseNetworks {
		if name == n || strings.HasPrefix(name, n+".") || strings.HasPrefix(name, n+"-") {
			return name
		}
	}
	return ""
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
