package console

import (
	"bytes"
	"embed"
	"io/fs"
	"net/http"
	"path"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
)

//go:embed static
var static embed.FS

// policy lets a page load and ask what this server has, and show the picture of an
// enrolment, which comes inside an answer.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// types are named here because what mime knows depends on the machine.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
}

// SetupPath is where the page behind a one-time link is. The link's secret follows
// it as a fragment.
const SetupPath = "/setup"

// InvitationPath is where an invitation is accepted; the same goes for its secret.
const InvitationPath = "/invitation"

// Routes is the route table of the console, from the root.
func Routes() []scim.Route {
	files := []struct{ path, name string }{
		{SetupPath, "setup.html"},
		{"/static/setup.js", "setup.js"},
		{InvitationPath, "setup.html"}, // the script does what the path says
		{"/static/roster.css", "roster.css"},
	}
	routes := make([]scim.Route, len(files))
	for i, f := range files {
		routes[i] = scim.Route{Method: http.MethodGet, Path: f.path, Needs: auth.Public(), Serve: serve(f.name)}
	}
	return routes
}

func serve(name string) func(http.ResponseWriter, *http.Request, auth.Principal) error {
	content, err := fs.ReadFile(static, path.Join("static", name))
	if err != nil {
		panic(err) // it is part of the binary
	}
	media := types[path.Ext(name)]
	return func(w http.ResponseWriter, r *http.Request, _ auth.Principal) error {
		h := w.Header()
		h.Set("Content-Type", media)
		h.Set("Content-Security-Policy", policy)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		return nil
	}
}
