//go:build !unix

package auth

import (
	"io/fs"
	"os"
)

// giveTo: files have no owner and group here that could be kept.
func giveTo(*os.File, fs.FileInfo) error { return nil }
