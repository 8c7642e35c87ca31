package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/roster-id/roster/internal/dump"
)

// watched is what in holds, with a bar for those who look on until done is called. size is
// -1 where nobody knows it.
func watched(in io.Reader, size int64, doing string, say io.Writer) (r io.Reader, done func()) {
	if !isTerminal(say) {
		return in, func() {}
	}
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(say), progressbar.OptionSetDescription(doing),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0)) // or it is drawn beside us, and after done
	read := progressbar.NewReader(in, bar)
	return &read, func() { _ = bar.Clear() } // nothing depends on what it shows
}

// inFile adds which file a line is in.
func inFile(path string, err error) error {
	if _, ok := errors.AsType[*dump.LineError](err); ok && path != "-" {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}
