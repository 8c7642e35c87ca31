package main

import "syscall"

// diskSpace returns how many bytes are free to this user where a folder lies, and how many
// there are.
func diskSpace(folder string) (free, total uint64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return 0, 0, false
	}
	size := uint64(st.Bsize) //nolint:gosec // it is positive
	return st.Bavail * size, st.Blocks * size, true
}
