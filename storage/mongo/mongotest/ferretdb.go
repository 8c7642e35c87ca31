package mongotest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// StartFerretDB starts FerretDB, a server of another make that understands part
// of MongoDB's protocol, on a folder that goes with the test. It skips the test
// where FerretDB cannot be built, which takes the go command and, the first
// time, a while.
//
// FerretDB's updates are not atomic and it has no transactions, so it is a
// second opinion on what one client does alone. Its hello names no replica set,
// and its buildInfo has fields ferretdbVersion and ferretdbFeatures.
func StartFerretDB(tb testing.TB) *Server {
	tb.Helper()
	dir := tb.TempDir()
	program := filepath.Join(dir, "ferrettest")
	if out, err := buildFerretDB(program); err != nil {
		tb.Skipf("mongotest: not run, FerretDB cannot be built: %v\n%s", err, out)
	}
	cmd := exec.Command(program, dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	if _, err := cmd.StdinPipe(); err != nil { // it ends when we do
		tb.Fatalf("mongotest: %v", err)
	}
	stdout, ours, err := os.Pipe()
	if err != nil {
		tb.Fatalf("mongotest: %v", err)
	}
	defer func() { _ = stdout.Close() }()
	cmd.Stdout = ours
	err = cmd.Start()
	_ = ours.Close()
	if err != nil {
		tb.Fatalf("mongotest: %v", err)
	}
	ended := supervise(tb, cmd)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		<-ended
		tb.Fatalf("mongotest: FerretDB does not start: %v\n%s", err, log.Bytes())
	}
	s := &Server{Kind: KindFerretDB, address: parseAddress(strings.TrimSpace(line))}
	s.Version = s.version(tb)
	announce(tb, s)
	return s
}

// buildFerretDB builds the program of the module beside this package.
func buildFerretDB(program string) (output []byte, err error) {
	here, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/roster-id/roster/storage/mongo/mongotest").Output()
	if err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(strings.TrimSpace(string(here)), "..", "ferrettest")
	build.Env = append(os.Environ(), "GOWORK=off")
	return build.CombinedOutput()
}
