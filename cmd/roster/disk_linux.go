package main

import "syscall"

// diskSpace returns how many bytes are free to this user where a folder lies.
func diskSpace(folder string) (free uint64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true //nolint:gosec // a size is positive
}
