package backup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestRevoked: what somebody names to have its tokens ended has to be in the backup, or
// tokens would stay that were meant; what a trail tells of may have been made since.
func TestRevoked(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	records := []storage.Record{
		{Client: &storage.Client{ID: "c1", Name: "hr"}}, {Token: &storage.Token{ID: "t1", Client: "c1", Expires: at.Add(time.Hour)}},
		{Client: &storage.Client{ID: "c2", Name: "okta"}}, {Token: &storage.Token{ID: "t2", Client: "c2", Expires: at.Add(time.Hour)}},
		{Token: &storage.Token{ID: "t3", Client: "c2", Expires: at.Add(-time.Hour)}},
	}
	const entry = `{"action":"client.revoke","type":"Client","id":`
	for name, test := range map[string]struct {
		file  string
		ended int
		err   string // of what is read, or of what the backup does not have
	}{
		"a client":             {"# since March\nc2\n", 1, ""},
		"a token":              {"t1\n", 1, ""},
		"both":                 {"c1\nt2\n", 2, ""},
		"a name":               {"c1\n\nhr\n", 1, "line 3: no client or token"},
		"two that are unknown": {"c3\nt4\n", 0, "line 2: no client or token"},
		"nothing":              {"", 0, "names nothing"},
		"a comment":            {"# none\n\n", 0, "names nothing"},
		"a trail":              {entry + `"c1"}` + "\n" + entry + `"made since"}`, 1, ""},
		"a trail of others":    {`{"action":"user.create","type":"User","id":"c1"}`, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "revoked")
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			p := &Policy{At: at}
			err := p.ReadRevoked(path)
			if err == nil {
				for _, rec := range records {
					p.Look(rec)
				}
				err = p.Unknown()
			}
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) || p.Ended != test.ended {
				t.Errorf("%d tokens ended, %v; want %d, %q", p.Ended, err, test.ended, test.err)
			}
			if err != nil && strings.Contains(err.Error(), "hr") {
				t.Errorf("%v: it may be the text of a token", err)
			}
		})
	}
}
