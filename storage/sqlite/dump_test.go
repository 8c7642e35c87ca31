package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

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
