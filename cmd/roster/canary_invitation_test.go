package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestCanariesOfInvitations looks for the links of invitations, and for what an invitee
// gives, in the log at its most talkative, errors, metrics, the audit trail and the store.
func TestCanariesOfInvitations(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := serveStore(t, store, "--log-level", "debug", "--shutdown-delay", "0s")
	p := enter(t, s, roster(t, "setup", "--store", store), `"userName":"ana","password":"nine small otters in a boat"`)
	secrets := map[string]string{"the password": canary("password")}
	password := quote(secrets["the password"])

	var invited struct{ Link, ID string }
	took := func(what string) string {
		t.Helper()
		_, secret, ok := strings.Cut(invited.Link, "#")
		if !ok {
			t.Fatal("there is no link")
		}
		secrets[what] = secretOf(secret)
		return secret
	}
	p.ask(201, "POST", "/admin/v1/invitations", `{"invitation":{"email":"cy@example.org","message":"come"}}`, &invited)
	former := took("the first link")
	p.ask(200, "POST", "/admin/v1/invitations/"+invited.ID+"/resend", "", &invited)
	secret := took("the second link")

	places := map[string]string{}
	fail := func(want int, path, body string) {
		t.Helper()
		res, text, err := s.do("POST", strings.TrimSuffix(s.scim, basePath)+"/auth/v1/invitations"+path, "", body, "Content-Type", "application/json")
		if err != nil || res.StatusCode != want {
			t.Errorf("POST %s: %v %s, %v; want %d", path, res, text, err, want)
		}
		places[fmt.Sprintf("the answer %d", len(places))] = text
	}
	fail(401, "/look", `{"link":`+quote(former)+`}`)
	fail(400, "/accept", `{"link":`+quote(secret)+`,"password":"short"}`)
	fail(400, "/accept", `{"link":[`+quote(secret)+`],"password":`+password+`}`)
	fail(409, "/accept", `{"link":`+quote(secret)+`,"userName":"ana","password":`+password+`}`)
	var accepted struct{ Session struct{ Token string } }
	p.ask(200, "POST", "/auth/v1/invitations/accept", `{"link":`+quote(secret)+`,"password":`+password+`}`, &accepted)
	secrets["the session"] = secretOf(accepted.Session.Token)
	fail(401, "/accept", `{"link":`+quote(secret)+`,"password":`+password+`}`)

	for _, path := range []string{"/admin/v1/audit?limit=1000", "/scim/v2/Invitations", "/scim/v2/Users"} {
		res, text, err := s.do("GET", strings.TrimSuffix(s.scim, basePath)+path, p.token, "")
		if err != nil || res.StatusCode != 200 || !strings.Contains(text, "cy@example.org") {
			t.Errorf("GET %s: %v %s, %v", path, res, text, err)
		}
		places[path] = text
	}
	_, metrics, err := s.do("GET", s.ops+"/metrics", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	for where, content := range files(t, store) {
		places[where] = content
	}
	places["standard output"], places["the log"], places["the metrics"] = s.printed(s.stdout), s.printed(s.stderr), metrics
	lookFor(t, secrets, places)
}
