package sqlite

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

// TestDeletedAreSeeks: what is deleted is listed and counted along its own index, from a
// place on, and found by its id.
func TestDeletedAreSeeks(t *testing.T) {
	s := openNew(t, Options{})
	create(t, s, newUser(1))
	ctx, tenant := t.Context(), storage.DefaultTenant
	for range 50 { // so that every reader is asked
		_, _ = s.ListDeleted(ctx, tenant, "User", storage.DeletedPlace{}, 10)
		_, _ = s.ListDeleted(ctx, tenant, "User", storage.DeletedPlace{At: someday, ID: "x"}, 10)
		_, _ = s.CountDeleted(ctx, tenant, "User")
		_, _ = s.GetDeleted(ctx, tenant, "User", "x")
		_, _ = s.FormerGroups(ctx, tenant, "x")
	}
	plan := planner(t, s)
	seen := 0
	for _, sql := range keptByReaders(s) {
		if !strings.Contains(sql, "deleted IS NOT NULL") {
			continue
		}
		seen++
		text := strings.Join(plan(sql), "\n\t")
		want := "resource_deleted (tenant=? AND type=?"
		switch {
		case strings.Contains(sql, "(r.deleted, r.id) <"):
			want = "resource_deleted (tenant=? AND type=? AND deleted>? AND (deleted,id)<(?,?))"
		case strings.Contains(sql, "id = ?"):
			want = "resource_hidden (tenant=? AND id=?)"
		}
		if !strings.Contains(text, want) || strings.Contains(text, "SCAN") || strings.Contains(text, "ORDER BY") && !strings.Contains(sql, "g.id") {
			t.Errorf("%s\n\t%s\nwant %s", sql, text, want)
		}
	}
	if seen != 5 {
		t.Errorf("%d statements, want 5", seen)
	}
}

// TestRowNumbersComeOnce: the number of a row that was purged, were it the highest, is
// no other's, even after a restart: keys, pages and handles go by it.
func TestRowNumbersComeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	users := newUser(1)
	create(t, s, users)
	last := users.Ref
	for n := 2; n < 6; n++ {
		u := newUser(n)
		create(t, s, u)
		if u.Ref <= last {
			t.Errorf("row %d after %d", u.Ref, last)
		}
		last = u.Ref
		purgeRow(t, s, u)
		if n == 3 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, path, Options{})
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// purgeRow deletes and purges a resource.
func purgeRow(t *testing.T, s *Store, r *storage.Resource) {
	t.Helper()
	err := write(s, func(tx storage.Tx) error {
		held, err := tx.Get(r.Type, r.ID)
		if err != nil {
			return err
		}
		if err := tx.Delete(held, someday); err != nil {
			return err
		}
		w, err := tx.GetDeleted(r.Type, r.ID)
		if err == nil {
			_, err = tx.Purge(w)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPurgedLeavesTheLog: what was purged goes from the file and its log while the store
// is open, as soon as nobody reads what was before, and whoever writes does not wait for
// that.
func TestPurgedLeavesTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{eraseAfter: time.Millisecond})
	defer s.Close()
	const word = "quetzalcoatlus"
	u := newResource(userType, 1, map[string]any{"userName": word, "displayName": word, "title": strings.Repeat(word, 1000)})
	create(t, s, u)
	found := func() (n int) {
		for _, name := range []string{path, path + "-wal"} {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(b, []byte(word))
		}
		return n
	}
	if found() == 0 {
		t.Fatal("it is not there to begin with")
	}
	// Somebody reads what is there now, for a while.
	inside, leave, left := make(chan bool), make(chan bool), make(chan error)
	go func() {
		left <- s.snapshot(context.Background(), func(c *sqlite.Conn) error {
			err := query(c, `SELECT count(*) FROM resource`, func(*sqlite.Stmt) error { return nil })
			close(inside)
			<-leave
			return err
		})
	}()
	<-inside
	purgeRow(t, s, u)
	for n := 2; n < 30; n++ {
		create(t, s, newUser(n))
	}
	if found() == 0 {
		t.Error("what somebody still reads has gone")
	}
	close(leave)
	if err := <-left; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for found() > 0 {
		select {
		case <-ctx.Done():
			t.Fatal("it is still there")
		case <-time.After(time.Millisecond):
		}
	}
	create(t, s, newUser(30))
}
