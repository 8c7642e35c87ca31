package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// TestCanariesOfAdministrators goes on from TestCanariesOfPeople: links, temporary
// passwords, tokens that an administrator makes, and the key file, which are looked
// for in what administrators get to read as well, the audit trail among it.
func TestCanariesOfAdministrators(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := serveStore(t, store, "--log-level", "debug", "--shutdown-delay", "0s")
	secrets := map[string]string{}
	bad := map[string]string{}
	p := &people{process: s, t: t}
	// Tokens are looked for by the part that is secret.
	took := func(what, token string) string {
		secrets[what] = secretOf(token)
		return token
	}
	fail := func(path, body string) {
		t.Helper()
		res, text, err := s.do("POST", strings.TrimSuffix(s.scim, basePath)+path, p.token, body, "Content-Type", "application/json")
		if err != nil || res.StatusCode < 400 || res.StatusCode >= 500 {
			t.Errorf("POST %s: %v %s, %v", path, res, text, err)
		}
		bad[fmt.Sprintf("the answer %d to %s", len(bad), path)] = text
	}
	type signedIn struct {
		Token, User, Level, Password, Secret string
		RecoveryCodes                        []string
	}

	link := strings.TrimSpace(roster(t, "setup", "--store", store))
	_, link, ok := strings.Cut(link, "#")
	if !ok {
		t.Fatal("the link has no fragment")
	}
	took("the link", link)
	secrets["the password"], secrets["a wrong password"] = canary("password"), canary("wrong")
	password := quote(secrets["the password"])
	fail("/auth/v1/setup", `{"link":`+quote(link)+`,"userName":"ana","password":"short"}`)
	fail("/auth/v1/setup", `{"link":`+quote(link[:len(link)-1])+`,"userName":"ana","password":`+password+`}`)
	var in signedIn
	p.ask(200, "POST", "/auth/v1/setup", `{"link":`+quote(link)+`,"userName":"ana","password":`+password+`}`, &in)
	p.token = took("the first session", in.Token)
	fail("/auth/v1/setup", `{"link":`+quote(link)+`,"userName":"bo","password":`+password+`}`)
	p.ask(200, "POST", "/auth/v1/totp", `{}`, &in)
	secret := in.Secret
	secrets["the secret of the app"] = secret
	passcodes := map[string]bool{}
	at := func(steps time.Duration) string {
		code, err := totp.GenerateCode(secret, time.Now().Add(steps*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		passcodes[code] = true
		return code
	}
	// One step behind, so that the next ones are at once later. It is refused if a step
	// ends at this moment.
	for tries := 0; ; tries++ {
		res, text, err := s.do("POST", strings.TrimSuffix(s.scim, basePath)+"/auth/v1/totp/confirm", p.token, `{"code":"`+at(-1)+`"}`, "Content-Type", "application/json")
		if err == nil && res.StatusCode == http.StatusOK {
			if err := json.Unmarshal([]byte(text), &in); err != nil {
				t.Fatal(err)
			}
			break
		}
		if err != nil || tries == 2 {
			t.Fatalf("the enrolment: %v %s, %v", res, text, err)
		}
	}
	p.token = took("the session after the enrolment", in.Token)
	for i, c := range in.RecoveryCodes {
		secrets[fmt.Sprint("recovery code ", i)] = c
	}
	codes := in.RecoveryCodes
	wrong := quote(secrets["a wrong password"])
	fail("/auth/v1/sign-in", `{"name":"ana","password":`+wrong+`}`)
	fail("/auth/v1/sign-in", `{"name":"ana","password":`+password+`,"passcode":`+wrong+`}`)
	fail("/auth/v1/sign-in", `{"name":"ana","password":`+password+`,"pass":`+wrong+`}`)
	fail("/auth/v1/sign-in", `{"name":"ana","password":[`+password+`]}`)
	fail("/auth/v1/password", `{"current":`+password+`,"new":"short"}`)
	p.ask(200, "POST", "/auth/v1/sign-in", `{"name":"ana","password":`+password+`,"passcode":"`+at(0)+`"}`, &in)
	p.token = took("a session", in.Token)
	code := at(1)
	p.ask(200, "POST", "/auth/v1/step-up", `{"code":"`+code+`"}`, &in)
	p.token = took("the session after the step-up", in.Token)
	p.ask(201, "POST", "/admin/v1/clients", `{"name":"idp","scopes":["users"]}`, &in)
	client := took("the client's token", in.Token)
	_, text, err := s.do("POST", "/Users", client, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"bo"}`)
	if err != nil {
		t.Fatal(err)
	}
	bo := between(text, `"id":"`, `"`)
	p.ask(200, "POST", "/admin/v1/users/"+bo+"/password-reset", "", &in)
	secrets["the temporary password"] = in.Password
	fail("/auth/v1/step-up", `{"code":"`+code+`"}`) // a second time
	recovery := strings.TrimSpace(roster(t, "recover", "ana", "--store", store))
	_, recovery, _ = strings.Cut(recovery, "#")
	took("the link to recover", recovery)
	if p.token == "" || bo == "" || len(codes) != 10 {
		t.Fatal("something was not shown")
	}

	keys, err := os.ReadFile(filepath.Join(store, "roster.keys"))
	if err != nil {
		t.Fatal(err)
	}
	secrets["the key"] = strings.TrimSpace(strings.TrimPrefix(string(keys), "v1:"))
	_, metrics, err := s.do("GET", s.ops+"/metrics", "", "")
	if err != nil {
		t.Fatal(err)
	}
	trail := ""
	for _, path := range []string{"/admin/v1/audit?limit=1000", "/admin/v1/clients", "/auth/v1/sessions", "/auth/v1/session"} {
		res, text, err := s.do("GET", strings.TrimSuffix(s.scim, basePath)+path, p.token, "")
		if err != nil || res.StatusCode != 200 {
			t.Errorf("GET %s: %v %s, %v", path, res, text, err)
		}
		trail += text
	}
	if !strings.Contains(trail, "user:") {
		t.Errorf("the audit trail says nothing of people: %s", trail)
	}
	// An administrator who used one has to enrol anew before anything else.
	p.ask(200, "POST", "/auth/v1/sign-in", `{"name":"ana","password":`+password+`,"recoveryCode":`+quote(codes[0])+`}`, &in)
	took("a session by a recovery code", in.Token)
	places := files(t, store)
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	for where, content := range files(t, store) {
		places[where+" afterwards"] = content
	}
	for where := range places {
		if strings.HasPrefix(where, "roster.keys") {
			delete(places, where)
		}
	}
	for where, content := range bad {
		places[where] = content
	}
	places["standard output"], places["the log"], places["the metrics"], places["what people see"] = s.printed(s.stdout), s.printed(s.stderr), metrics, trail
	lookFor(t, secrets, places)
	// Six digits are somewhere in every file of a database.
	for where, content := range places {
		for code := range passcodes {
			if !strings.HasPrefix(where, "roster.db") && regexp.MustCompile(`\b`+code+`\b`).MatchString(content) {
				t.Errorf("a passcode stands in %s", where)
			}
		}
	}
}

// between returns what stands in a text after one string and before another.
func between(text, after, before string) string {
	_, rest, _ := strings.Cut(text, after)
	found, _, _ := strings.Cut(rest, before)
	return found
}
