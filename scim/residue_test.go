package scim_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/sqlite"
)

// residue is somebody's life in a directory, all of which has a word in it that stands
// nowhere else, until they are purged.
func (w *world) residue(word string) {
	w.t.Helper()
	ctx := w.t.Context()
	body := func(n int) string {
		return fmt.Sprintf(`{"userName":"%[1]s-%[2]d","displayName":"%[1]s","externalId":"x-%[1]s","password":"%[1]s-password","title":"%[3]s",
			"name":{"familyName":"%[1]s","formatted":"Dr %[1]s"},"emails":[{"value":"%[1]s@x.example","type":"work"}],"photos":[{"value":"https://x.example/%[1]s"}],
			"%[4]s":{"department":"of %[1]s"}}`, word, n, strings.Repeat(word+" ", 1+n*50), schemas.EnterpriseUserURI)
	}
	w.create(word, "User", body(0))
	id := w.ids[word]
	for n := 1; n < 8; n++ { // longer and shorter, so that it is moved around
		if err := w.put(operator(), "User", id, body(n%5)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.create("of "+word, "Group", fmt.Sprintf(`{"displayName":"some","members":[{"value":%q,"display":"%s, given"}]}`, id, word))
	w.create("gone with "+word, "Group", fmt.Sprintf(`{"displayName":"%[2]s group","members":[{"value":%[1]q,"display":"%[2]s, given"}]}`, id, word))
	w.assign(word+" is deckhand", w.ids["deckhand"], word, `,"reason":"because of `+word+`"`)
	user, group := w.p.Schemas.Type("User"), w.p.Schemas.Type("Group")
	del := func(t *schemas.ResourceType, id string) {
		w.t.Helper()
		if err := w.p.Delete(ctx, operator(), t, id, scim.Precondition{}); err != nil {
			w.t.Fatal(err)
		}
	}
	del(user, id)
	if _, err := w.p.Restore(ctx, operator(), user, id, scim.Restoration{Name: word + "-again"}); err != nil {
		w.t.Fatal(err)
	}
	del(user, id)
	del(group, w.ids["gone with "+word])
	for _, x := range []struct {
		t  *schemas.ResourceType
		id string
	}{{user, id}, {group, w.ids["gone with "+word]}} {
		if err := w.p.Purge(ctx, operator(), x.t, x.id); err != nil {
			w.t.Fatal(err)
		}
	}
}

// inFiles counts how often the files of a folder have a word, in whatever case.
func inFiles(t *testing.T, dir, word string) (n int) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(bytes.ToLower(b), []byte(strings.ToLower(word)))
	}
	return n
}

// TestPurgedIsGone: of somebody who was purged nothing remains but what the audit trail
// says: not in the file of an embedded store, which is looked at as bytes, nor in any
// collection.
func TestPurgedIsGone(t *testing.T) {
	t.Parallel()
	const word = "Quetzalcoatlus"
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s, err := sqlite.Open(t.Context(), dir, sqlite.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, s)
		w.residue(word)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		count := func() int { return inFiles(t, dir, word) }
		if count() == 0 {
			t.Error("the audit trail tells nothing")
		}
		// Without the audit trail there is nothing at all.
		c, err := zombiezen.OpenConn(filepath.Join(dir, "roster.db"), zombiezen.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{"PRAGMA secure_delete = ON", "DELETE FROM audit", "PRAGMA wal_checkpoint(TRUNCATE)"} {
			if err := sqlitex.ExecuteTransient(c, sql, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if n := count(); n > 0 {
			t.Errorf("beside the audit trail the files have the name %d times", n)
		}
	})
	t.Run("MongoDB", func(t *testing.T) {
		t.Parallel()
		server := mongotest.Start(t)
		name := server.NewDatabase(t)
		s, err := mongo.Open(t.Context(), server.URI(name), mongo.Options{QueryTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w := newWorld(t, s)
		w.residue(word)
		client, err := driver.Connect(options.Client().ApplyURI(server.URI(name)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Disconnect(t.Context()) }()
		collections, err := client.Database(name).ListCollectionNames(t.Context(), bson.D{})
		if err != nil || len(collections) < 5 {
			t.Fatal(collections, err)
		}
		looked, entries := 0, 0
		for _, c := range collections {
			cursor, err := client.Database(name).Collection(c).Find(t.Context(), bson.D{})
			if err != nil {
				t.Fatal(err)
			}
			for cursor.Next(t.Context()) {
				looked++
				has := bytes.Contains(bytes.ToLower(cursor.Current), []byte(strings.ToLower(word)))
				kind, _ := cursor.Current.Lookup("k").StringValueOK()
				switch entry := c == "rows" && (kind == "#" || kind == "w"); {
				case entry && has:
					entries++
				case has:
					t.Errorf("%s has %s", c, cursor.Current)
				}
			}
			if err := cursor.Err(); err != nil {
				t.Fatal(err)
			}
		}
		if entries == 0 {
			t.Errorf("of %d documents none of the audit trail has the name", looked)
		}
	})
}
