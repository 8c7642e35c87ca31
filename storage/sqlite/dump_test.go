package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/storage"
)

// TestDumpStreams: nothing is sorted, so a dump needs no memory for it.
func TestDumpStreams(t *testing.T) {
	s := openNew(t, Options{})
	u, g := newUser(1), newGroup(2)
	create(t, s, u, g)
	addMembers(t, s, g, u)
	if err := s.read(t.Context(), func(c *sqlite.Conn) error {
		before := len(prepared(c))
		give := func(storage.Record) error { return nil }
		for _, part := range []func(*sqlite.Conn, string, func(storage.Record) error) error{dumpResources, dumpMembers, dumpItems, dumpAudit} {
			if err := part(c, "default", give); err != nil {
				return err
			}
		}
		list := prepared(c)
		if len(list) != before+4 {
			t.Errorf("prepared %d statements, want 4 more than %d", len(list), before)
		}
		for _, sql := range list {
			if plan := strings.Join(explainSQL(t, c, sql), "\n\t"); strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("sorts:\n%s\n\t%s", sql, plan)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestLoadsAreSeeks: what loads one record does not depend on how many there are.
func TestLoadsAreSeeks(t *testing.T) {
	s := openNew(t, Options{})
	u, gone, g := newUser(1), newUser(2), newGroup(3)
	mark := &storage.LoadMark{Dump: "d", Digest: []byte{1}}
	statements := newlyPrepared(t, s, func(tx storage.Tx) error {
		if err := tx.SetLoad(nil, mark); err != nil {
			return err
		}
		for _, r := range []storage.Record{
			{Tenant: &storage.Tenant{Name: "x", Created: someday}},
			{Client: newClient("c1", "idp")},
			{Token: &storage.Token{ID: "k1", Client: "c1", Hash: []byte{1}, Created: someday, Expires: someday}},
			{Resource: &storage.WholeResource{Resource: *u}},
			{Resource: &storage.WholeResource{Resource: *gone, Deleted: someday}},
			{Resource: &storage.WholeResource{Resource: *g}},
			{Members: &storage.GroupMembers{Group: g.ID, Members: []storage.Member{{Value: u.ID}, {Value: gone.ID}}}},
			{Item: &storage.Item{Kind: "note", ID: "1", Keys: []string{"a"}, Version: 3, Data: []byte("{}")}},
			{Audit: &storage.AuditEntry{Seq: 7, At: someday, Actor: "operator", Action: "x"}},
		} {
			if err := tx.Load(&r); err != nil {
				return err
			}
		}
		return tx.SetLoad(mark, nil)
	})
	if len(statements) < 12 {
		t.Errorf("prepared only %q", statements)
	}
	for _, sql := range statements {
		onWriter(t, s, func(c *sqlite.Conn) error {
			if text := strings.Join(explainSQL(t, c, sql), "\n\t"); scans.MatchString(text) && !strings.Contains(sql, "SELECT coalesce(max(n)") {
				t.Errorf("scans:\n%s\n\t%s", sql, text)
			}
			return nil
		})
	}
}

// TestGuestDumps: a second process reads a tenant whole while the server goes on,
// and loads nothing.
func TestGuestDumps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	s := open(t, path, Options{})
	defer s.Close()
	for n := range 20 {
		create(t, s, newUser(n))
	}
	guest := open(t, path, Options{Guest: true, MustExist: true})
	defer guest.Close()
	users := 0
	for r, err := range guest.Dump(t.Context(), storage.DefaultTenant) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Resource != nil {
			create(t, s, newUser(100+users))
			users++
		}
	}
	if users != 20 {
		t.Errorf("the dump has %d users, want the 20 there were", users)
	}
	mark := &storage.LoadMark{Dump: "d", Digest: []byte{1}}
	for name, fn := range map[string]func(storage.Tx) error{
		"SetLoad": func(tx storage.Tx) error { return tx.SetLoad(nil, mark) },
		"Load":    func(tx storage.Tx) error { return tx.Load(&storage.Record{Client: newClient("c1", "x")}) },
	} {
		if err := guest.Write(t.Context(), "acme", fn); !errors.Is(err, errGuest) {
			t.Errorf("%s by a guest: got %v, want %v", name, err, errGuest)
		}
	}
}

// TestCloseEndsDumps: a dump does not outlive its store.
func TestCloseEndsDumps(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "roster.db"), Options{})
	create(t, s, newUser(1), newUser(2))
	var last error
	closed := make(chan error, 1)
	for _, err := range s.Dump(t.Context(), storage.DefaultTenant) {
		if last = err; err == nil {
			go func() { closed <- s.Close() }()
			<-s.closing
		}
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if !errors.Is(last, storage.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", last)
	}
}

// TestPasswordsAreMigrated: a store of the first schema keeps its passwords, those
// of deleted users too.
func TestPasswordsAreMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	schema, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	c, err := openConn(path, writer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	script := schema.Migrations[0] + fmt.Sprintf(`; PRAGMA application_id = %d; PRAGMA user_version = 1;
		INSERT INTO resource (n, tenant, type, id, version, created, modified, deleted, name, keys, doc, shadow) VALUES
			(1, 'default', 'User', 'ana', 1, 1, 1, NULL, '', x'', '{}', x''), (2, 'acme', 'User', 'bob', 1, 1, 1, 2, '', x'', '{}', x''),
			(3, 'acme', 'User', 'carl', 1, 1, 1, NULL, '', x'', '{}', x'');
		INSERT INTO credential (n, kind, secret) VALUES (1, 'password', '$argon2id$"ana"'), (2, 'password', '$argon2id$bob');
		INSERT INTO keyed (n) SELECT 3; DELETE FROM keyed WHERE n = 0;`, schema.AppID)
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	defer s.Close()
	for _, want := range []struct {
		tenant     storage.TenantID
		user, data string
	}{{"default", "ana", `{"passwordHash":"$argon2id$\"ana\""}`}, {"acme", "bob", `{"passwordHash":"$argon2id$bob"}`}} {
		list, err := s.Items(t.Context(), want.tenant, "credential", "")
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %d credentials, %v, want 1", want.tenant, len(list), err)
		}
		if i := list[0]; i.ID != want.user || string(i.Data) != want.data || i.Version != 1 || !i.Expires.IsZero() || len(i.Keys) > 0 {
			t.Errorf("%s: got %+v with %s, want %s with %s", want.tenant, i, i.Data, want.user, want.data)
		}
	}
}

// TestAuditTrailIsMigrated: a store of the first schema keeps its audit trail, and
// each tenant goes on from its own last number.
func TestAuditTrailIsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.db")
	schema, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	c, err := openConn(path, writer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	script := schema.Migrations[0] + fmt.Sprintf("; PRAGMA application_id = %d; PRAGMA user_version = 1;", schema.AppID)
	for n := range 9 {
		script += fmt.Sprintf(`INSERT INTO audit (seq, tenant, at, request_id, actor, action, type, id, version, attributes)
			VALUES (%d, '%s', 1000, 'r', 'operator', 'a%[1]d', 'User', 'u', 1, 'a b');`, n+1, []string{"default", "default", "acme"}[n%3])
	}
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	defer s.Close()
	for tenant, want := range map[storage.TenantID]string{"default": "1 2 4 5 7 8 9", "acme": "3 6 9 10"} {
		if err := s.Write(t.Context(), tenant, func(tx storage.Tx) error {
			return tx.Audit(storage.AuditEntry{At: time.Now(), Actor: "operator", Action: "new"})
		}); err != nil {
			t.Fatal(err)
		}
		list, err := s.AuditEntries(t.Context(), tenant, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []string
		for i, e := range list {
			numbers = append(numbers, fmt.Sprint(e.Seq))
			if i < len(list)-1 && (e.Action != fmt.Sprint("a", e.Seq) || e.At.UnixMilli() != 1000 || len(e.Attributes) != 2) {
				t.Errorf("%s: entry %+v", tenant, e)
			}
		}
		if got := strings.Join(numbers, " "); got != want {
			t.Errorf("%s: entries %s, want %s", tenant, got, want)
		}
	}
}
