package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
)

// TestCanariesOfPeople looks for what people prove who they are with where it does
// not belong: in the log at its most talkative, errors, metrics, and the store.
func TestCanariesOfPeople(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	client := rosterToken(t, "client", "create", "--store", dir+"/", "--name", "okta", "--scopes", "users")
	s := serveStore(t, dir, "--log-level", "debug")
	root := strings.TrimSuffix(s.scim, basePath)
	secrets := map[string]string{"the password": canary("password"), "the next password": canary("next"), "a wrong password": canary("wrong")}
	bad := map[string]string{}
	send := func(want int, method, path, token, body string, header ...string) (*http.Response, map[string]any) {
		t.Helper()
		if body != "" && !strings.HasPrefix(path, root+basePath) {
			header = append([]string{"Content-Type", "application/json"}, header...)
		}
		res, text, err := s.do(method, path, token, body, header...)
		if err != nil || res.StatusCode != want {
			t.Fatalf("%s %s: %v %s %v, want %d", method, path, res, text, err, want)
		}
		if want >= 400 {
			bad["the answer to "+method+" "+path+": "+text] = text
		}
		var o map[string]any
		_ = json.Unmarshal([]byte(text), &o) // some have no body
		return res, o
	}
	send(201, "POST", root+basePath+"/Users", client, fmt.Sprintf(`{"schemas":[%q],"userName":"ana","password":%s}`, schemas.UserURI, quote(secrets["the password"])))
	signIn := func(want int, extra string) (*http.Response, map[string]any) {
		t.Helper()
		return send(want, "POST", root+"/auth/v1/sign-in", "", `{"name":"ana","password":`+quote(secrets["the password"])+extra+`}`)
	}
	_, in := signIn(200, "")
	session := in["token"].(string)
	secrets["a session"] = session
	_, e := send(200, "POST", root+"/auth/v1/totp", session, `{}`)
	secrets["the TOTP secret"], secrets["the URI"] = e["secret"].(string), e["uri"].(string)
	code, err := totp.GenerateCode(e["secret"].(string), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, confirmed := send(200, "POST", root+"/auth/v1/totp/confirm", session, `{"code":"`+code+`"}`)
	mfa := confirmed["token"].(string)
	secrets["a session after the passcode"] = mfa
	for i, c := range confirmed["recoveryCodes"].([]any) {
		secrets[fmt.Sprint("recovery code ", i)] = c.(string)
	}
	res, _ := send(200, "POST", root+"/auth/v1/sign-in", "", `{"name":"ana","password":`+quote(secrets["the password"])+`,"cookie":true}`, "Origin", root)
	secrets["a cookie"] = res.Cookies()[0].Value
	// Whatever can be wrong about them.
	send(403, "POST", root+"/auth/v1/step-up", mfa, `{"code":"`+code+`"}`)
	send(403, "POST", root+"/auth/v1/totp/check", mfa, `{"code":`+quote(secrets["recovery code 1"])+`}`)
	send(400, "POST", root+"/auth/v1/step-up", mfa, `{"code":["`+code+`"]}`)
	send(400, "POST", root+"/auth/v1/password", mfa, `{"current":`+quote(secrets["the password"])+`,"new":"short"}`)
	send(403, "POST", root+"/auth/v1/password", mfa, `{"current":`+quote(secrets["a wrong password"])+`,"new":`+quote(secrets["the next password"])+`}`)
	send(401, "POST", root+"/auth/v1/sign-in", "", `{"name":"ana","password":`+quote(secrets["a wrong password"])+`}`)
	send(401, "GET", root+"/auth/v1/session", session, "")
	send(401, "GET", root+"/auth/v1/session", mfa[:len(mfa)-1], "")
	send(400, "GET", root+"/auth/v1/session?access_token="+mfa, "", "")
	send(403, "POST", root+"/auth/v1/sign-out", "", `{}`, "Cookie", auth.CookieName+"="+mfa)
	send(403, "GET", root+"/admin/v1/clients", mfa, "")
	signIn(401, `,"passcode":"`+code+`"`)
	signIn(400, `,"passcodes":"`+code+`"`)

	_, metrics, err := s.do("GET", s.ops+"/metrics", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, series := range []string{`roster_signin_total{outcome="ok"} `, `roster_signin_total{outcome="wrong"} `, `roster_stepup_total{outcome="replayed"} `, `roster_lockouts_total{outcome="locked"} `} {
		if !strings.Contains(metrics, "\n"+series) {
			t.Errorf("/metrics has no series %s", series)
		}
	}
	bad["the metrics"] = metrics
	for where, content := range files(t, dir) {
		bad[where] = content
	}
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	bad["the log"] = s.printed(s.stderr)
	for where, content := range files(t, dir) {
		bad[where+" afterwards"] = content
	}
	lookFor(t, secrets, bad)
	// A code is short, and could be found by chance in what is no text.
	if regexp.MustCompile(`\b` + code + `\b`).MatchString(bad["the log"]) {
		t.Error("the passcode stands in the log")
	}
}
