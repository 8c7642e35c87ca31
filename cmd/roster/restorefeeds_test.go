package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/roster-id/roster/schemas"
)

// TestRestoreOfFeeds: a feed that a backup brings back tells nobody before it is enabled,
// and then nothing under an id under which the former store has told something else.
func TestRestoreOfFeeds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, to, keys := filepath.Join(dir, "from", "roster.db"), filepath.Join(dir, "to", "roster.db"), filepath.Join(dir, "roster.keys")
	roster(t, "keys", "create", "--key-file", keys)
	client := rosterToken(t, "client", "create", "--store", store, "--name", "idp", "--scopes", "users")
	var mu sync.Mutex
	told := map[string]string{} // subjects by the ids of events
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct {
			SubID struct{ ID string } `json:"sub_id"`
		}
		body, _ := io.ReadAll(r.Body) // a short one fails below
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("webhook-id")
		if err := json.Unmarshal(body, &e); err != nil || told[id] != "" && told[id] != e.SubID.ID {
			t.Errorf("the event %s is of %s and of %s: %v", id, told[id], e.SubID.ID, err)
		}
		told[id] = e.SubID.ID
	}))
	defer receiver.Close()
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(told)
	}
	wait := func(n int) {
		t.Helper()
		if err := eventually(func() error {
			if count() < n {
				return errors.New("not all were told")
			}
			return nil
		}); err != nil {
			t.Fatalf("%v: %d of %d", err, count(), n)
		}
	}
	users := func(p *process, name string) {
		t.Helper()
		for i := range 12 {
			if err := p.expect(201, "POST", "/Users", client, fmt.Sprintf(`{"schemas":[%q],"userName":"%s%d"}`, schemas.UserURI, name, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := []string{"--key-file", keys, "--shutdown-delay", "0s", "--event-networks", "127.0.0.0/8"}
	s := serveStore(t, store, args...)
	admin := administrate(t, s, "--store", store)
	var made struct{ Feed struct{ ID string } }
	admin.ask(201, "POST", "/admin/v1/feeds", `{"name":"hr","delivery":"webhook","url":"`+receiver.URL+`"}`, &made)
	file := filepath.Join(dir, "backup.jsonl")
	roster(t, "backup", "--store", store, "--to", file)
	users(s, "lost")
	wait(12)
	admin.ask(204, "DELETE", "/admin/v1/feeds/"+made.Feed.ID, "", nil)
	if err := s.end(syscall.SIGINT); err != nil {
		t.Error(err)
	}

	roster(t, "restore", "--from", file, "--store", to, "--keep-tokens", "--key-file", keys)
	r := serveStore(t, to, args...)
	var feed struct{ Enabled bool }
	again := enter(t, r, roster(t, "recover", "root", "--store", to), `"password":"seven tall herons on a roof"`)
	again.ask(200, "GET", "/admin/v1/feeds/"+made.Feed.ID, "", &feed)
	if feed.Enabled {
		t.Error("the feed is enabled")
	}
	users(r, "new")
	again.ask(200, "PATCH", "/admin/v1/feeds/"+made.Feed.ID, `{"enabled":true}`, nil)
	wait(24)
}
