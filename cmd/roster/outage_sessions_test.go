package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestSessionsFailClosed: without the database nobody is let in, by a session or by a
// right password, and nobody is told that either is bad. With it both are good again.
func TestSessionsFailClosed(t *testing.T) {
	t.Parallel()
	double := mongotest.StartDouble(t, mongotest.Config{})
	uri := "mongodb://" + double.Addr() + "/roster?replicaSet=rs0" // without the patience of tests
	keys := filepath.Join(t.TempDir(), "roster.keys")
	if err := auth.CreateKeyFile(keys); err != nil {
		t.Fatal(err)
	}
	client := rosterToken(t, "client", "create", "--store", uri, "--name", "okta", "--scopes", "users")
	s := serveStore(t, uri, "--key-file", keys)
	s.client.Timeout = requestTime + patience
	root := strings.TrimSuffix(s.scim, basePath)
	user := fmt.Sprintf(`{"schemas":[%q],"userName":"ana","password":"seven tall herons on a roof"}`, schemas.UserURI)
	if err := s.expect(http.StatusCreated, "POST", "/Users", client, user); err != nil {
		t.Fatal(err)
	}
	type try struct{ method, path, token, body string }
	right := try{"POST", root + "/auth/v1/sign-in", "", `{"name":"ana","password":"seven tall herons on a roof"}`}
	wrong := try{"POST", root + "/auth/v1/sign-in", "", `{"name":"ana","password":"six"}`}
	send := func(x try) (*http.Response, string) {
		t.Helper()
		res, answer, err := s.do(x.method, x.path, x.token, x.body, "Content-Type", "application/json")
		if err != nil {
			t.Fatalf("%s %s: %v", x.method, x.path, err)
		}
		return res, answer
	}
	var in struct{ Token string }
	if res, answer := send(right); res.StatusCode != http.StatusOK || json.Unmarshal([]byte(answer), &in) != nil || in.Token == "" {
		t.Fatalf("sign-in answered %s %s", res.Status, answer)
	}
	session := try{"GET", root + "/auth/v1/session", in.Token, ""}
	well := map[*try]int{
		&right: 200, &wrong: 401, &session: 200,
		{"GET", root + "/auth/v1/session", in.Token[:len(in.Token)-1], ""}: 401,
		{"GET", s.scim + "/Me", in.Token, ""}:                              200,
	}
	check := func(when string) {
		t.Helper()
		for x, want := range well {
			if res, answer := send(*x); res.StatusCode != want {
				t.Errorf("%s: %s %s answered %s %s; want %d", when, x.method, x.path, res.Status, answer, want)
			}
		}
	}
	away := func(x *try, usual int) {
		res, answer, err := s.do(x.method, x.path, x.token, x.body, "Content-Type", "application/json")
		if err != nil {
			t.Errorf("%s %s: %v", x.method, x.path, err)
			return
		}
		// What is no token at all is none without the database too.
		if plainly := x.token != "" && x.token != in.Token; plainly && res.StatusCode == usual {
			return
		}
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("without the database: %s %s answered %s %s; want 503 with Retry-After", x.method, x.path, res.Status, answer)
		}
	}
	check("before")
	double.Stop()
	time.Sleep(cacheTime)
	var wait sync.WaitGroup
	for x, usual := range well {
		wait.Go(func() { away(x, usual) })
	}
	wait.Wait()
	double.Restart(t)
	if err := eventually(func() error { return s.expect(http.StatusOK, "GET", s.ops+"/readyz", "", "") }); err != nil {
		t.Fatal(err)
	}
	check("afterwards")
}
