//go:build !linux

package sqlite

// fileSystem knows file systems on Linux only.
func fileSystem(string) (string, error) { return "", nil }
