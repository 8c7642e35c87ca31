package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/roster-id/roster/schemas"
)

// TestCanariesOfEvents looks for what only a receiver of events is to see: its secrets and
// the path of its address in the log, the metrics, the audit trail, errors and the store,
// and what the events say in the log and the metrics.
func TestCanariesOfEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client := rosterToken(t, "client", "create", "--store", dir+"/", "--name", "idp", "--scopes", "users")
	s := serveStore(t, dir, "--log-level", "debug", "--shutdown-delay", "0s", "--event-networks", "127.0.0.0/8")
	admin := administrate(t, s, "--store", dir)
	personal := map[string]string{"the title": canary("title"), "what the receiver says": canary("answer"), "a redirect": "canaryredirect" + rand.Text()}
	secrets := map[string]string{"the path": "canarypath" + rand.Text(), "the receiver's token": "canarytoken" + rand.Text(), "a password in an address": "canaryuser" + rand.Text()}
	var good, bad, full atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Location", "https://example.com/"+personal["a redirect"])
		if !strings.Contains(r.URL.Path, secrets["the path"]) {
			t.Errorf("the path is %s", r.URL.Path)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/bad"):
			bad.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		case strings.HasSuffix(r.URL.Path, "/redirect"):
			bad.Add(1)
			w.WriteHeader(http.StatusFound)
		default:
			if good.Add(1); strings.Contains(string(body), `"data":`) {
				full.Add(1)
			}
			w.WriteHeader(http.StatusAccepted)
		}
		_, _ = io.WriteString(w, personal["what the receiver says"])
	}))
	t.Cleanup(receiver.Close)
	url := receiver.URL + "/" + secrets["the path"]
	const events = `,"events":["urn:ietf:params:scim:event:prov:create:full","urn:ietf:params:scim:event:prov:delete"]}`
	var made struct {
		Feed   struct{ ID string }
		Secret string
	}
	admin.ask(201, "POST", "/admin/v1/feeds", `{"name":"a","delivery":"webhook","url":"`+url+`/good"`+events, &made)
	secrets["the secret"] = strings.TrimPrefix(made.Secret, "whsec_")
	admin.ask(201, "POST", "/admin/v1/feeds/"+made.Feed.ID+"/rotate", "", &made)
	secrets["the next secret"] = strings.TrimPrefix(made.Secret, "whsec_")
	for _, d := range []string{"bad", "redirect"} {
		admin.ask(201, "POST", "/admin/v1/feeds", `{"name":"`+d+`","delivery":"push","token":"`+secrets["the receiver's token"]+`","url":"`+url+`/`+d+`"`+events, &made)
		admin.ask(200, "POST", "/admin/v1/feeds/"+made.Feed.ID+"/test", "", nil)
	}
	places := map[string]string{}
	for _, wrong := range []string{
		`{"name":"x","delivery":"push","url":"https://u:` + secrets["a password in an address"] + `@example.com/"}`,
		`{"name":"x","delivery":"poll","url":"` + url + `"}`, `{"name":"x","delivery":"webhook","url":"` + url + `","token":"` + secrets["the receiver's token"] + `"}`,
		`{"name":"x","delivery":"push","url":"` + url + `","token":"` + secrets["the receiver's token"] + ` "}`,
	} {
		res, text, err := s.do("POST", strings.TrimSuffix(s.scim, basePath)+"/admin/v1/feeds", admin.token, wrong, "Content-Type", "application/json")
		if err != nil || res.StatusCode != http.StatusBadRequest {
			t.Errorf("%v %s, %v", res, text, err)
		}
		places[fmt.Sprint("an error ", len(places))] = text
	}
	res, text, err := s.do("POST", "/Users", client, fmt.Sprintf(`{"schemas":[%q],"userName":"bo","title":%s}`, schemas.UserURI, quote(personal["the title"])))
	if err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("%v %s, %v", res, text, err)
	}
	if err := eventually(func() error {
		if full.Load() == 0 || bad.Load() < 4 {
			return errors.New("the events are not sent")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/admin/v1/audit?limit=1000", "/admin/v1/feeds/" + made.Feed.ID + "/dead-letters"} {
		res, text, err := s.do("GET", strings.TrimSuffix(s.scim, basePath)+path, admin.token, "")
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%v %s, %v", res, text, err)
		}
		places[path] = text
	}
	if _, places["the metrics"], err = s.do("GET", s.ops+"/metrics", "", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	places["the log"], places["standard output"] = s.printed(s.stderr), s.printed(s.stdout)
	if !strings.Contains(places["the log"], "events were not delivered") || !strings.Contains(places["the metrics"], `roster_events_total{delivery="push",outcome="failed"}`) {
		t.Error("nothing was told of what failed")
	}
	lookFor(t, personal, places)
	for where, content := range files(t, dir) {
		places[where] = content
	}
	lookFor(t, secrets, places)
}
