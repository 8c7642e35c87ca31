//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// terminal returns both ends of a new terminal: what a program writes to its own can be
// read from ours.
func terminal(t *testing.T) (ours, its *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("NOT RUN: the system gives no terminals: %v", err)
	}
	t.Cleanup(func() { ours.Close() })
	var locked, number int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &locked, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, ours.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	its, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, its
}

// TestProgress: who loads a dump at a terminal sees how far it is, whether the end is
// known or not. Who keeps what is printed keeps none of it.
func TestProgress(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	from, file := filepath.Join(folder, "from.db"), filepath.Join(folder, "dump.jsonl")
	fillForLoad(t, from, 3000)
	roster(t, "dump", "--store", from, "--out", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, in string
		shows    []string
	}{
		{"a file", file, []string{"checking", "loading", "%", "B/"}},
		{"a pipe", "-", []string{"loading", "B"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ours, its := terminal(t)
			args := []string{"load", "--in", test.in, "--store", filepath.Join(t.TempDir(), "to.db")}
			cmd := exec.Command("roster", args...)
			cmd.Env, cmd.Stdin, cmd.Stderr = cleanEnv(), bytes.NewReader(text), its
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			its.Close()
			var seen bytes.Buffer
			_, _ = seen.ReadFrom(ours) // it ends with an error when nobody has the terminal any more
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, &seen)
			}
			for _, want := range append(test.shows, "\r", "Loaded tenant") {
				if !strings.Contains(seen.String(), want) {
					t.Errorf("nothing shows %q: %q", want, seen.String())
				}
			}
			var kept bytes.Buffer
			args[len(args)-1] = filepath.Join(t.TempDir(), "to.db")
			cmd = exec.Command("roster", args...)
			cmd.Env, cmd.Stdin, cmd.Stderr = cleanEnv(), bytes.NewReader(text), &kept
			if err := cmd.Run(); err != nil || !strings.HasPrefix(kept.String(), "Loaded tenant") || strings.Contains(kept.String(), "\r") {
				t.Errorf("away from a terminal: %v, %q", err, &kept)
			}
		})
	}
}
