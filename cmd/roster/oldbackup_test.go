package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/storagetest"
)

// TestBackupOfFormerVersion restores what the first version that made backups wrote
// (testdata/backups, named by its commit): two tenants, a manager, a group, somebody who
// was deleted, and a password. The store that is made of it is sound, and all are there.
func TestBackupOfFormerVersion(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"SQLite", "MongoDB"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file, keys, to := filepath.Join(dir, "backup.jsonl"), filepath.Join(dir, "roster.keys"), filepath.Join(dir, "roster.db")
			storagetest.Unzip(t, filepath.Join("testdata", "backups", "b36e644.jsonl.gz"), file)
			roster(t, "keys", "create", "--key-file", keys)
			if kind == "MongoDB" {
				server := mongotest.Start(t)
				to = server.URI(server.NewDatabase(t))
			}
			roster(t, "restore", "--from", file, "--store", to, "--key-file", keys)
			out := roster(t, "verify", "--store", to, "--key-file", keys)
			if want := ", 4 items, 17 audit entries"; !strings.Contains(out, want) {
				t.Errorf("verify says %q; want %s", out, want)
			}
			token := rosterToken(t, "client", "create", "--store", to, "--name", "reader", "--scopes", "users,groups")
			s := serveStore(t, to, "--key-file", keys)
			for path, want := range map[string][]string{
				"/Users?count=0": {`"totalResults":3`},
				`/Users?filter=userName+eq+"bo@example.com"`: {`"title":"Engineer"`, `"manager":{"value":"01a21881-ea1b-79a8-bb0c-af1e7f4c6363"`, `"display":"Staff"`},
				`/Groups?filter=displayName+eq+"Staff"`:      {`"display":"ana@example.com"`, `"display":"bo@example.com"`},
				`/Users?filter=externalId+eq+"1"`:            {`"userName":"ana@example.com"`},
				`/Users?filter=userName+eq+"cy@example.com"`: {`"totalResults":0`},
				`/Users?filter=emails+co+"ana@example"`:      {`"totalResults":1`},
			} {
				_, body, err := s.do("GET", path, token, "")
				if err != nil {
					t.Fatal(err)
				}
				for _, w := range want {
					if !strings.Contains(body, w) {
						t.Errorf("GET %s: got %s; want %s in it", path, body, w)
					}
				}
			}
		})
	}
}
