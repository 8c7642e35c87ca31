package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/roster-id/roster/internal/api"
	"github.com/roster-id/roster/internal/console"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestWithoutAKeyFile: where secrets cannot be sealed nobody signs in, and nothing of
// signing in and administration is there: not a route, not a page.
func TestWithoutAKeyFile(t *testing.T) {
	server := mongotest.Start(t)
	s := serveStore(t, server.URI(server.NewDatabase(t)))
	base := strings.TrimSuffix(s.scim, basePath)
	surface := &api.API{}
	paths := map[string][]string{}
	for _, r := range surface.AuthRoutes() {
		paths[api.AuthBase+r.Path] = append(paths[api.AuthBase+r.Path], r.Method)
	}
	for _, r := range surface.AdminRoutes() {
		paths[api.AdminBase+r.Path] = append(paths[api.AdminBase+r.Path], r.Method)
	}
	for _, r := range surface.EventRoutes() {
		paths[api.EventsBase+r.Path] = append(paths[api.EventsBase+r.Path], r.Method)
	}
	for _, r := range console.Routes() {
		paths[r.Path] = append(paths[r.Path], r.Method)
	}
	asked := 0
	for path, methods := range paths {
		for _, method := range methods {
			asked++
			if err := s.expect(http.StatusNotFound, method, base+strings.ReplaceAll(path, "{id}", "x"), "", ""); err != nil {
				t.Error(err)
			}
		}
	}
	if asked < 40 {
		t.Errorf("only %d routes were asked for", asked)
	}
	if log := s.printed(s.stderr); !strings.Contains(log, "key-file") {
		t.Errorf("the log does not say that nobody can sign in:\n%s", log)
	}
}
