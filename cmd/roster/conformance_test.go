package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// scim2Variable names the command of scim2-cli, which `make conformance` installs.
const scim2Variable = "ROSTER_TEST_SCIM2"

var (
	ansi         = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	suiteVerdict = regexp.MustCompile(`(?m)^([A-Z]+) \S+`)
)

// TestComplianceSuite runs scim2-tester, a public compliance suite, against the server as
// a client for users and groups: on each store, empty and filled. It has to end without
// an error.
func TestComplianceSuite(t *testing.T) {
	suite := os.Getenv(scim2Variable)
	if suite == "" {
		t.Skip("SKIPPED: the public compliance suite is not installed; run make conformance, or name its command scim2 in " + scim2Variable)
	}
	t.Parallel()
	database := mongotest.Start(t)
	for name, store := range map[string]func(*testing.T) string{
		"sqlite": func(t *testing.T) string { return filepath.Join(t.TempDir(), "roster.db") },
		"mongo":  func(t *testing.T) string { return database.URI(database.NewDatabase(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			place := store(t)
			s := serveStoreWith(t, shipped(t), place)
			token := rosterToken(t, "client", "create", "--store", place, "--name", "suite", "--scopes", "users,groups")
			runSuite(t, suite, s, token, "empty")
			for i := range 150 {
				body := fmt.Sprintf(`{"schemas":[%q],"userName":"there-%d","title":"t%d","emails":[{"value":"there-%d@x.example","primary":true}]}`, schemas.UserURI, i, i%7, i)
				if err := s.expect(201, "POST", "/Users", token, body); err != nil {
					t.Fatal(err)
				}
				if i%10 == 0 {
					if err := s.expect(201, "POST", "/Groups", token, fmt.Sprintf(`{"schemas":[%q],"displayName":"Group %d"}`, schemas.GroupURI, i)); err != nil {
						t.Fatal(err)
					}
				}
			}
			runSuite(t, suite, s, token, "filled")
		})
	}
}

func runSuite(t *testing.T, suite string, s *process, token, state string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(suite, "--url", s.scim, "test")
	cmd.Env = append(cleanEnv(), "SCIM_CLI_HEADERS=Authorization: Bearer "+token)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := ansi.ReplaceAllString(out.String(), "")
	verdicts := map[string]int{}
	for _, m := range suiteVerdict.FindAllStringSubmatch(text, -1) {
		verdicts[m[1]]++
	}
	t.Logf("scim2-tester on a server that is %s: %v", state, verdicts)
	if err != nil || verdicts["ERROR"] > 0 || verdicts["SUCCESS"] < 100 {
		t.Errorf("the suite ended with %v:\n%s", err, text)
	}
}
