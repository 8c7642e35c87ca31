package hrfile

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLostServer: an import whose server fails in the midst of the file says what
// the server said, and not that its own reading was ended by that.
func TestLostServer(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/scim/v2/ServiceProviderConfig":
			_, _ = io.WriteString(w, `{"bulk":{"supported":true,"maxOperations":1000,"maxPayloadSize":1048576}}`)
		case "/scim/v2/Users":
			_, _ = io.WriteString(w, `{"Resources":[]}`)
		default:
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer srv.Close()
	var rows strings.Builder
	rows.WriteString("Number,Login\n")
	for n := range 2 * atOnce * batchLength { // more than is sent at once
		fmt.Fprintf(&rows, "%d,u%d\n", n, n)
	}
	file := filepath.Join(t.TempDir(), "people.csv")
	if err := os.WriteFile(file, []byte(rows.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := ParseMapping([]byte("match: externalId\nattributes:\n  - {column: Number, to: externalId}\n  - {column: Login, to: userName}\n"), userType(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(srv.URL, "token")
	if err != nil {
		t.Fatal(err)
	}
	run := &Importer{Client: c, Mapping: m, File: f, Reject: func(Reject) error { return nil }}
	_, err = run.Run(t.Context())
	if want := "POST " + srv.URL + "/scim/v2: 502 Bad Gateway"; err == nil || err.Error() != want {
		t.Errorf("the import ended with %q; want %q", err, want)
	}
}
