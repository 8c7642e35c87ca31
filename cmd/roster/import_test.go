package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/storage/mongo/mongotest"
)

const importMapping = `match: externalId
attributes:
  - {column: id, to: externalId}
  - {column: login, to: userName}
  - {column: given, to: name.givenName}
  - {column: family, to: name.familyName}
  - {column: title, to: title}
  - {column: mail, to: 'emails[type eq "work"].value'}
  - {column: unit, to: department}
  - {column: boss, to: manager}
`

// importFile writes rows and their mapping. One in ten manages; the managers are spread
// over the file, and so are theirs.
func importFile(t *testing.T, rows int) (file, mapping string) {
	t.Helper()
	folder := t.TempDir()
	file, mapping = filepath.Join(folder, "people.csv"), filepath.Join(folder, "mapping.yaml")
	var b bytes.Buffer
	b.WriteString("id,login,given,family,title,mail,unit,boss\n")
	bosses := max(rows/10, 1)
	for n := range rows {
		fmt.Fprintf(&b, "%d,user%d@example.com,Given%d,Family%d,Engineer,user%d@example.com,Unit %d,%d\n", n, n, n, n, n, n%50, (n*7919%bosses)*10%rows)
	}
	if err := errors.Join(os.WriteFile(file, b.Bytes(), 0o600), os.WriteFile(mapping, []byte(importMapping), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file, mapping
}

// onImportStores runs fn with a server on each store and the token of a client.
func onImportStores(t *testing.T, fn func(t *testing.T, s *process, token string)) {
	t.Run("SQLite", func(t *testing.T) {
		store := filepath.Join(t.TempDir(), "roster.db")
		token := rosterToken(t, "client", "create", "--store", store, "--name", "hr", "--scopes", "users")
		fn(t, serveStoreWith(t, shipped(t), store), token)
	})
	t.Run("MongoDB", func(t *testing.T) {
		server := mongotest.Start(t)
		store := server.URI(server.NewDatabase(t))
		keys := filepath.Join(t.TempDir(), "roster.keys")
		roster(t, "keys", "create", "--key-file", keys)
		token := rosterToken(t, "client", "create", "--store", store, "--name", "hr", "--scopes", "users")
		fn(t, serveStoreWith(t, shipped(t), store, "--key-file", keys), token)
	})
}

// importing makes the command, of the server's program; it is not started.
func importing(s *process, token, file, mapping string) *exec.Cmd {
	cmd := exec.Command(s.cmd.Path, "import", file, "--map", mapping, "--url", s.scim)
	cmd.Env = append(cleanEnv(), "ROSTER_TOKEN="+token)
	return cmd
}

// TestImportKilled kills `roster import` wherever it is, until the file is in all the
// same: everybody is there once, with the right manager.
func TestImportKilled(t *testing.T) {
	t.Parallel()
	const rows = 1500
	file, mapping := importFile(t, rows)
	onImportStores(t, func(t *testing.T, s *process, token string) {
		kills := 0
		users := func() string {
			_, body, err := s.do("GET", "/Users?count=1", token, "")
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ = strings.Cut(body, `"totalResults":`)
			total, _, _ := strings.Cut(body, ",")
			return total
		}
		var lived time.Duration
		partly := false
		for {
			cmd := importing(s, token, file, mapping)
			var say bytes.Buffer
			cmd.Stderr = &say
			err := runAndKill(t, cmd, &lived)
			if err == nil {
				break
			}
			// What the server was still busy with for one that was killed is in the way of
			// the next, once.
			inTheWay := kills > 0 && strings.Contains(say.String(), "409 uniqueness")
			if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Exited() && !inTheWay {
				t.Fatalf("roster import after %d kills: %v\n%s", kills, err, &say)
			}
			kills++
			if n, _ := strconv.Atoi(users()); n > 0 && n < rows {
				partly = true
			}
		}
		t.Logf("imported after %d kills", kills)
		if !partly {
			t.Error("it was never killed in the midst, so this has shown little")
		}
		if got := users(); got != strconv.Itoa(rows) {
			t.Errorf("there are %s users; want %d", got, rows)
		}
		out, err := importing(s, token, file, mapping).Output()
		if want := fmt.Sprintf("%d rows: 0 created, 0 updated, %d unchanged, 0 disabled, 0 rejected\n", rows, rows); err != nil || string(out) != want {
			t.Errorf("the import after the last says %q, %v; want %q", out, err, want)
		}
	})
}

// TestImportTime compares an import with creating as many users through Bulk, on a
// server each, and logs the figures (make imports). ROSTER_TEST_IMPORT says how many.
func TestImportTime(t *testing.T) {
	rows, err := strconv.Atoi(cmp.Or(os.Getenv("ROSTER_TEST_IMPORT"), "0"))
	if err != nil || rows == 0 {
		t.Skip("NOT RUN: what an import costs; set ROSTER_TEST_IMPORT to the number of rows, as make imports does")
	}
	file, mapping := importFile(t, rows)
	onImportStores(t, func(t *testing.T, s *process, token string) {
		begun := time.Now()
		cmd := importing(s, token, file, mapping)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		took := time.Since(begun)
		t.Logf("import: %d rows in %s, of which %s on the processor, peak %d MiB", rows, took, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10)
	})
	for _, managers := range []bool{false, true} {
		onImportStores(t, func(t *testing.T, s *process, token string) {
			const portion = 250
			begun := time.Now()
			var g errgroup.Group
			g.SetLimit(4)
			for from := 0; from < rows; from += portion {
				g.Go(func() error {
					var b strings.Builder
					b.WriteString(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[`)
					for n := from; n < min(from+portion, rows); n++ {
						manager := ""
						if n > from {
							b.WriteByte(',')
							if managers {
								manager = fmt.Sprintf(`,"manager":{"value":"bulkId:n%d"}`, from+(n-from)/10)
							}
						}
						fmt.Fprintf(&b, `{"method":"POST","path":"/Users","bulkId":"n%[1]d","data":{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User",`+
							`"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"externalId":"%[1]d","userName":"user%[1]d@example.com",`+
							`"name":{"givenName":"Given%[1]d","familyName":"Family%[1]d"},"title":"Engineer","emails":[{"type":"work","value":"user%[1]d@example.com"}],`+
							`"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Unit %[2]d"%[3]s}}}`, n, n%50, manager)
					}
					b.WriteString("]}")
					return s.expect(200, "POST", "/Bulk", token, b.String())
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			t.Logf("Bulk: %d users in %s, with managers: %t", rows, took, managers)
		})
	}
}
