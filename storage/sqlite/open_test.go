package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"

	"github.com/roster-id/roster/storage"
)

func TestFilesAreForTheOwner(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "data")
	s := open(t, folder+string(os.PathSeparator), Options{})
	defer s.Close()
	create(t, s, newUser(1))
	names, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(names) < 4 {
		t.Errorf("the folder has %q, %v, want the database, its log, its index and the lock", names, err)
	}
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, %v, want 600", filepath.Base(name), fi.Mode().Perm(), err)
		}
	}
	if fi, err := os.Stat(folder); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %o, %v, want 700", fi.Mode().Perm(), err)
	}
}

func TestFilesOthersMayReadAreRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660, 0o601} {
		path := filepath.Join(t.TempDir(), "roster.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), path, Options{})
		if err == nil {
			s.Close()
			t.Errorf("a file of mode %o was opened", mode)
			continue
		}
		if !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: got %v, want what to do about it", mode, err)
		}
	}
}

func TestPaths(t *testing.T) {
	folder := t.TempDir()
	for _, path := range []string{folder, folder + "/", filepath.Join(folder, "sub") + "/", filepath.Join(folder, "other.db")} {
		s := open(t, path, Options{})
		want := path
		if !strings.HasSuffix(path, ".db") {
			want = filepath.Join(path, "roster.db")
		}
		if _, err := os.Stat(want); err != nil {
			t.Errorf("Open(%q): %v", path, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close of %q: %v", path, err)
		}
	}
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("no database, and long enough to be seen as none: "+strings.Repeat("x", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", filepath.Join(file, "roster.db"), file} {
		for range 2 { // a failed Open leaves no lock behind
			s, err := Open(t.Context(), path, Options{})
			if err == nil {
				s.Close()
				t.Errorf("Open(%q) succeeded", path)
			}
			if errors.Is(err, ErrInUse) {
				t.Errorf("Open(%q): %v", path, err)
			}
		}
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	if second, err := Open(t.Context(), path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, %v, want ErrInUse", second, err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if second, err := Open(t.Context(), link, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("by another name: got %v, %v, want ErrInUse", second, err)
	}
	create(t, s, newUser(1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	defer s.Close()
	if n := count(t, s, userType, `userName eq "user1"`); n != 1 {
		t.Errorf("the next server finds %d users, want 1", n)
	}
}

func newClient(id, name string) *storage.Client {
	return &storage.Client{ID: id, Name: name, Created: someday}
}

func TestGuest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer s.Close()
	create(t, s, newUser(1), newGroup(2))
	addMembers(t, s, newGroup(2), newUser(1))
	guest := open(t, path, Options{Guest: true})
	defer guest.Close()

	// What one commits the other sees.
	if err := write(guest, func(tx storage.Tx) error { return tx.CreateClient(newClient("c1", "of the guest")) }); err != nil {
		t.Fatalf("guest: %v", err)
	}
	if list, err := s.ListClients(t.Context(), storage.DefaultTenant); err != nil || len(list) != 1 || list[0].Name != "of the guest" {
		t.Errorf("the server sees %v, %v", list, err)
	}
	create(t, s, newUser(3))
	for _, f := range []string{`userName eq "user3"`, `externalId eq "user3"`, `title eq "x" and id ew "3"`} {
		if n := count(t, guest, userType, f); n != 1 {
			t.Errorf("%s: the guest finds %d, want 1", f, n)
		}
	}

	// Resources are the server's to change.
	u := newUser(1)
	u.Ref = 1
	for name, fn := range map[string]func(storage.Tx) error{
		"Create": func(tx storage.Tx) error { return tx.Create(newUser(4)) },
		"Update": func(tx storage.Tx) error { return tx.Update(u, &storage.Resource{Version: 2, LastModified: someday}) },
		"Delete": func(tx storage.Tx) error { return tx.Delete(u, someday) },
	} {
		if err := write(guest, fn); !errors.Is(err, errGuest) {
			t.Errorf("%s by a guest: got %v, want errGuest", name, err)
		}
	}

	// Writers of both take turns.
	var wg sync.WaitGroup
	errs := make(chan error, 200)
	for i := range 20 {
		wg.Go(func() { errs <- write(s, func(tx storage.Tx) error { return tx.Create(newUser(100 + i)) }) })
		wg.Go(func() {
			errs <- write(guest, func(tx storage.Tx) error { return tx.CreateClient(newClient(fmt.Sprint("g", i), fmt.Sprint("g", i))) })
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Errorf("beside each other: %v", err)
		}
	}
	if list, err := s.ListClients(t.Context(), storage.DefaultTenant); err != nil || len(list) != 21 {
		t.Errorf("the server sees %d clients, %v, want 21", len(list), err)
	}
	if n := count(t, guest, userType, `userName pr`); n != 22 {
		t.Errorf("the guest sees %d users, want 22", n)
	}
	entries, err := s.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
	if err != nil || len(entries) != 44 {
		t.Errorf("%d audit entries, %v, want 44", len(entries), err)
	}
}

// TestGuestLeavesKeysAlone opens a guest while the server is about to merge keys:
// if the guest did, the server's own merge would fail from then on.
func TestGuestLeavesKeysAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer s.Close()
	users := make([]*storage.Resource, mergeRows)
	for i := range users {
		users[i] = newResource(userType, i, map[string]any{"userName": fmt.Sprint("u", i)})
	}
	create(t, s, users...)
	guest := open(t, path, Options{Guest: true})
	defer guest.Close()
	onWriter(t, guest, func(c *sqlite.Conn) error {
		return exec(c, `CREATE TABLE fault (id TEXT REFERENCES tenant DEFERRABLE INITIALLY DEFERRED)`)
	})
	if err := write(guest, func(tx storage.Tx) error { return tx.(*tx_).exec(`INSERT INTO fault (id) VALUES ('no tenant')`) }); err == nil {
		t.Error("a commit that was to fail did not")
	}
	for i := range 3 {
		id := fmt.Sprint("c", i)
		if err := write(guest, func(tx storage.Tx) error { return tx.CreateClient(newClient(id, id)) }); err != nil {
			t.Fatalf("guest: %v", err)
		}
	}
	if n := number(t, s, "SELECT min(n) FROM key_part"); n != 0 {
		t.Errorf("keys up to row %d are merged after a guest wrote", n)
	}
	create(t, s, newUser(1_000_000))
	if n := number(t, s, "SELECT min(n) FROM key_part"); n != int64(len(users)) {
		t.Errorf("keys up to row %d are merged after the server wrote, want %d", n, len(users))
	}
	for _, f := range []string{`userName eq "u0"`, fmt.Sprintf(`userName eq "u%d"`, mergeRows-1), `userName eq "user1000000"`} {
		if n := count(t, s, userType, f); n != 1 {
			t.Errorf("%s finds %d, want 1", f, n)
		}
	}
}

func TestGuestAloneIsTheServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	guest := open(t, path, Options{Guest: true})
	create(t, guest, newUser(1))
	if s, err := Open(t.Context(), path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, %v, want ErrInUse", s, err)
	}
	if err := guest.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	defer s.Close()
	if n := count(t, s, userType, `userName eq "user1"`); n != 1 {
		t.Errorf("found %d, want 1", n)
	}
}

// setVersion writes the schema version that the file claims to have.
func setVersion(t *testing.T, path string, version int) {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := exec(c, fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
		t.Fatal(err)
	}
}

func TestVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer s.Close()
	latest := int(number(t, s, "PRAGMA user_version"))
	schema, err := migrations()
	if err != nil || latest != len(schema.Migrations) || latest == 0 {
		t.Errorf("a new store has version %d, there are %d migrations, %v", latest, len(schema.Migrations), err)
	}

	// The server is older than the guest: the guest does not migrate under it.
	setVersion(t, path, latest-1)
	if guest, err := Open(t.Context(), path, Options{Guest: true}); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("got %v, %v, want that the server is older", guest, err)
	}
	if n := number(t, s, "PRAGMA user_version"); int(n) != latest-1 {
		t.Errorf("the guest set the version to %d", n)
	}

	// A newer file is refused to both, and left alone.
	setVersion(t, path, latest+1)
	for _, opt := range []Options{{Guest: true}, {}} {
		if !opt.Guest {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if s, err := Open(t.Context(), path, opt); err == nil || !strings.Contains(err.Error(), "newer") {
			t.Errorf("guest %v: got %v, %v, want that a newer roster is needed", opt.Guest, s, err)
		}
	}
	setVersion(t, path, latest)
	again := open(t, path, Options{})
	defer again.Close()
}

// TestGuestsWaitForUpgrades: while the server brings rows up to date, what they are
// searched by has two forms. A guest waits for it to end, and is refused if it takes long.
func TestGuestsWaitForUpgrades(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, path, Options{})
		defer s.Close()
		change := func(sql string) {
			onWriter(t, s, func(c *sqlite.Conn) error { return exec(c, sql) })
		}
		for _, table := range []string{"stale", "long"} {
			change("INSERT INTO " + table + " (n) VALUES (0)")
			for _, asIs := range []bool{false, true} {
				guest, err := Open(t.Context(), path, Options{Guest: true, AsIs: asIs})
				if err == nil {
					guest.Close()
				}
				if err == nil || !strings.Contains(err.Error(), "being brought up to date") {
					t.Errorf("%s, as is %v: got %v, want that the store is being brought up to date", table, asIs, err)
				}
			}
			time.AfterFunc(startTime/2, func() { change("DELETE FROM " + table) })
			open(t, path, Options{Guest: true}).Close()
		}
	})
}

// TestForeignFileIsRefused: to all, by what it is, and not a byte of it changes.
func TestForeignFileIsRefused(t *testing.T) {
	for _, id := range []int{0, 1234} {
		path := filepath.Join(t.TempDir(), "other.db")
		c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{fmt.Sprintf("PRAGMA application_id = %d", id), "PRAGMA journal_mode = DELETE", "CREATE TABLE precious (x)"} {
			if err := exec(c, sql); err != nil {
				t.Fatal(err)
			}
		}
		before, err := os.ReadFile(path)
		if err := errors.Join(err, c.Close(), os.Chmod(path, 0o600)); err != nil {
			t.Fatal(err)
		}
		for _, opt := range []Options{{}, {Guest: true}, {Guest: true, MustExist: true, AsIs: true}} {
			s, err := Open(t.Context(), path, opt)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "another program") {
				t.Errorf("%+v: Open = %v, want that it is of another program", opt, err)
			}
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("the database of another program was changed, %v", err)
		}
	}
}

// TestReopen writes in every way, with some keys merged and some not, and looks
// at everything again after the store was closed and opened.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	var users []*storage.Resource
	for i := range 30 {
		u := newUser(i)
		create(t, s, u)
		users = append(users, u)
		if i == 14 {
			onWriter(t, s, func(*sqlite.Conn) error { s.recent.rows = mergeRows; return nil })
		}
	}
	g := newGroup(100)
	create(t, s, g)
	addMembers(t, s, g, users[:20]...)
	next := func(i int, name string) *storage.Resource {
		r := newResource(userType, i, map[string]any{"userName": name, "externalId": name})
		r.Version = 2
		return r
	}
	if err := write(s, func(tx storage.Tx) error {
		return errors.Join(
			tx.Delete(users[3], someday), tx.Delete(users[25], someday), // a merged one and a later one
			tx.Update(users[4], next(4, "renamed4")), tx.Update(users[26], next(26, "renamed26")),
			tx.Create(newResource(userType, 40, map[string]any{"userName": "user3"})),
			tx.PutItem(nil, &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Data: []byte(`"kept"`)}),
			tx.CreateClient(newClient("c1", "client")),
			tx.CreateToken(&storage.Token{ID: "k1", Client: "c1", Hash: []byte{0, 1}, Created: someday, Expires: someday}),
			tx.Audit(storage.AuditEntry{At: someday, Actor: "operator", Action: "create", Type: "User", ID: "x", Version: 1}))
	}); err != nil {
		t.Fatal(err)
	}
	look := func(s *Store) string {
		var b strings.Builder
		for i := range 45 {
			for _, attr := range []string{"userName", "externalId", "displayName", "emails.value"} {
				v := fmt.Sprintf("user%d", i)
				if attr == "emails.value" {
					v += "@x.example"
				}
				fmt.Fprint(&b, count(t, s, userType, fmt.Sprintf(`%s eq "%s"`, attr, v)))
			}
		}
		for _, f := range []string{`userName eq "renamed4"`, `externalId eq "renamed4"`, `userName eq "renamed26"`, `externalId eq "renamed26"`, `groups.value eq "` + g.ID + `"`} {
			fmt.Fprintf(&b, "\n%s: %d", f, count(t, s, userType, f))
		}
		p, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 100})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\ntotal %d", p.TotalResults)
		list, err := p.Next(t.Context())
		for _, r := range list {
			fmt.Fprintf(&b, "\n%s %d %s %v", r.ID, r.Version, r.Doc, r.InGroups)
		}
		members, err2 := s.CountMembers(t.Context(), storage.DefaultTenant, g.ID, 100)
		items, err3 := s.Items(t.Context(), storage.DefaultTenant, "note", "a")
		token, client, err4 := s.Token(t.Context(), "k1")
		entries, err5 := s.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
		events, err6 := s.Events(t.Context(), storage.DefaultTenant, 0, 1000)
		tenants, err7 := s.ListTenants(t.Context())
		if err := errors.Join(err, err2, err3, err4, err5, err6, err7); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n%d members, %v, %v %v, %v, %v, %v", members, *items[0], *token, *client, entries, events, *tenants[0])
		return b.String()
	}
	want := look(s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, Options{})
		if diff := cmp.Diff(want, look(s)); diff != "" {
			t.Errorf("after opening it again (-before +after):\n%s", diff)
		}
	}
	defer s.Close()
	for name, free := range map[string]bool{"user0": false, "user3": false, "user4": true, "user25": true, "user26": true, "renamed4": false, "renamed26": false, "user29": false} {
		_, taken := errors.AsType[*storage.UniqueError](write(s, func(tx storage.Tx) error {
			return errors.Join(tx.Create(newResource(userType, 1000, map[string]any{"userName": name})), errRolledBack)
		}))
		if taken == free {
			t.Errorf("%s: taken is %v", name, taken)
		}
	}
}

var errRolledBack = errors.New("rolled back by the test")

func TestCloseIsForEverybody(t *testing.T) {
	s := open(t, t.TempDir(), Options{Log: slog.New(slog.DiscardHandler)})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestClosedIsUnavailable(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	create(t, s, newUser(1))
	page, err := s.Query(t.Context(), storage.DefaultTenant, storage.Query{Type: "User", StartIndex: 1, Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	page.Next(t.Context())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, tenant := t.Context(), storage.DefaultTenant
	for name, fn := range map[string]func() error{
		"Write":        func() error { return write(s, func(tx storage.Tx) error { return tx.Create(newUser(2)) }) },
		"Ping":         func() error { return s.Ping(ctx) },
		"Get":          func() error { _, err := s.Get(ctx, tenant, "User", newUser(1).ID); return err },
		"Query":        func() error { _, err := s.Query(ctx, tenant, storage.Query{Type: "User"}); return err },
		"CountMembers": func() error { _, err := s.CountMembers(ctx, tenant, "x", 1); return err },
		"Groups":       func() error { _, err := s.Groups(ctx, tenant, "x"); return err },
		"Item":         func() error { _, err := s.Item(ctx, tenant, "note", "x"); return err },
		"Items":        func() error { _, err := s.Items(ctx, tenant, "note", ""); return err },
		"ItemsByID":    func() error { _, err := s.ItemsByID(ctx, tenant, "note", "x"); return err },
		"ExtendItem":   func() error { return s.ExtendItem(ctx, tenant, "note", "x", someday) },
		"SweepItems":   func() error { _, err := s.SweepItems(ctx, someday); return err },
		"Token":        func() error { _, _, err := s.Token(ctx, "x"); return err },
		"ListClients":  func() error { _, err := s.ListClients(ctx, tenant); return err },
		"TokenUsed":    func() error { return s.TokenUsed(ctx, tenant, "x", someday) },
		"ListTenants":  func() error { _, err := s.ListTenants(ctx); return err },
		"AuditEntries": func() error { _, err := s.AuditEntries(ctx, tenant, 0, 1); return err },
		"Events":       func() error { _, err := s.Events(ctx, tenant, 0, 1); return err },
		"Members": func() (err error) {
			for _, e := range s.Members(ctx, tenant, "x", "") {
				err = e
			}
			return err
		},
	} {
		if err := fn(); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
}
