package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRecover: once there is an administrator there is no link for a first one any more,
// and whoever lost everything is let in from the host, once, and has to enrol anew.
func TestRecover(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "roster.db")
	s := serveStore(t, store)
	base := strings.TrimSuffix(s.scim, basePath)
	setup := func(args ...string) string {
		t.Helper()
		_, fragment, ok := strings.Cut(strings.TrimSpace(roster(t, append(args, "--store", store, "--public-url", base)...)), "#")
		if !ok {
			t.Fatal("no link")
		}
		return fragment
	}
	p := &people{process: s, t: t}
	var in struct{ Token, Level, Secret, User string }
	link := setup("setup")
	former := link
	link = setup("setup") // while there is nobody, a new link ends the last one
	use := func(link, password string) string {
		return fmt.Sprintf(`{"link":%q,"userName":"ana@example.com","password":%q}`, link, password)
	}
	p.ask(401, "POST", "/auth/v1/setup", use(former, "nine small otters in a boat"), nil)
	p.ask(200, "POST", "/auth/v1/setup", use(link, "nine small otters in a boat"), &in)
	p.token = in.Token
	p.ask(200, "POST", "/auth/v1/totp", `{}`, &in)
	secret := in.Secret
	first := passcode(t, secret, "")
	p.ask(200, "POST", "/auth/v1/totp/confirm", fmt.Sprintf(`{"code":%q}`, first), &in)
	p.token = in.Token
	p.ask(200, "GET", "/admin/v1/clients", "", nil)
	before := p.token

	if out, err := exec.Command("roster", "setup", "--store", store).CombinedOutput(); err == nil || !strings.Contains(string(out), "roster recover") {
		t.Errorf("a second setup: %v, %s", err, out)
	}
	if out, err := exec.Command("roster", "recover", "nobody", "--store", store).CombinedOutput(); err == nil || strings.Contains(string(out), "#") {
		t.Errorf("a link for nobody: %v, %s", err, out)
	}
	p.ask(200, "PATCH", basePath+"/Users/"+in.User, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"add","path":"locale","value":"sv-SE"}]}`, nil)
	recovery := setup("recover", "ana@example.com")
	var page struct{ Kind, Language string }
	if p.ask(200, "POST", "/auth/v1/setup/link", fmt.Sprintf(`{"link":%q}`, recovery), &page); page.Kind != "password" || page.Language != "sv-SE" {
		t.Errorf("the page is told %+v, want a password, in Swedish", page)
	}
	again := fmt.Sprintf(`{"link":%q,"password":"seven tall herons on a roof"}`, recovery)
	p.ask(200, "GET", "/admin/v1/clients", "", nil) // the link alone does nothing
	var lost struct {
		Token, Level string
		Missing      []string
	}
	p.token = ""
	p.ask(200, "POST", "/auth/v1/setup", again, &lost)
	if lost.Level != "limited" || !slices.Equal(lost.Missing, []string{"enrolment"}) {
		t.Errorf("after recovery the session is %+v, want limited, and to enrol", lost)
	}
	p.ask(401, "POST", "/auth/v1/setup", again, nil)
	p.token = before
	p.ask(401, "GET", "/auth/v1/session", "", nil)
	p.token = ""
	p.ask(401, "POST", "/auth/v1/sign-in", `{"name":"ana@example.com","password":"nine small otters in a boat"}`, nil)
	p.ask(401, "POST", "/auth/v1/sign-in", fmt.Sprintf(`{"name":"ana@example.com","password":"seven tall herons on a roof","passcode":%q}`, passcode(t, secret, first)), nil)
	p.token = lost.Token
	p.ask(403, "GET", "/admin/v1/clients", "", nil)
	p.ask(200, "POST", "/auth/v1/totp", `{}`, &in)
	p.ask(200, "POST", "/auth/v1/totp/confirm", fmt.Sprintf(`{"code":%q}`, passcode(t, in.Secret, "")), &in)
	p.token = in.Token
	p.ask(200, "GET", "/admin/v1/clients", "", nil)
	if trail := roster(t, "audit", "export", "--store", store); !strings.Contains(trail, `"action":"setup.recover"`) || !strings.Contains(trail, `"action":"setup.use"`) {
		t.Errorf("the audit trail says nothing of it: %s", trail)
	}
}
