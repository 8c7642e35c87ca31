//go:build !linux

package main

// diskSpace knows of disks on Linux only.
func diskSpace(string) (free uint64, ok bool) { return 0, false }
