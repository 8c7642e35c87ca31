package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/storage"
)

var auditPromises = []promise{
	{"audit entries come back as they were recorded, oldest first", auditEntries},
	{"events are the entries with a version", events},
	{"after and limit select a stretch of entries and events", stretches},
	{"entries and events appear with the change and vanish with it", withTheChange},
	{"a change without an audit entry is ErrUnaudited and leaves nothing", unaudited},
	{"a write that changes nothing needs no audit entry", nothingToAudit},
}

func auditEntries(t *testing.T, d *directory) {
	want := []storage.AuditEntry{
		{At: d.now(), RequestID: "r1", Actor: "client:c1", Action: "user.create", Type: "User", ID: newID()},
		{At: d.now().Add(-time.Hour), Actor: "operator", Action: "client.revoke", Type: "Client", ID: "c1"},
		{At: d.now(), RequestID: "r2", Actor: "client:c1", Action: "user.patch", Type: "User", ID: newID(),
			Version:    3,
			Attributes: []string{"userName", "name.givenName", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"}},
	}
	for _, entries := range [][]storage.AuditEntry{want[:1], want[1:]} {
		err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
			for _, e := range entries {
				if err := tx.Audit(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.AuditEntries(t.Context(), d.tenant, 0, all)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(storage.AuditEntry{}, "Seq"), cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("AuditEntries: %v (-want +got):\n%s", err, diff)
	}
	for i, e := range got {
		if i > 0 && e.Seq <= got[i-1].Seq || e.Seq <= 0 {
			t.Errorf("entry %d has the number %d", i, e.Seq)
		}
	}
}

func events(t *testing.T, d *directory) {
	entries := []storage.AuditEntry{
		{At: d.now(), Actor: "client:c1", Action: "user.create", Type: "User", ID: newID(), Version: 1},
		{At: d.now(), Actor: "operator", Action: "client.create", Type: "Client", ID: "c2"},
		{At: d.now().Add(-time.Hour), RequestID: "r1", Actor: "client:c1", Action: "group.patch", Type: "Group", ID: newID(), Version: 1 << 40,
			Attributes: []string{"displayName", "members"}},
		{At: d.now(), Actor: "client:c1", Action: "user.delete", Type: "User", ID: newID(), Version: 2},
	}
	for _, list := range [][]storage.AuditEntry{entries[:1], entries[1:]} {
		err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
			for _, e := range list {
				if err := tx.Audit(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	whole, err := d.AuditEntries(t.Context(), d.tenant, 0, all)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(whole, func(e storage.AuditEntry) bool { return e.Version == 0 })
	got, err := d.Events(t.Context(), d.tenant, 0, all)
	if diff := cmp.Diff(want, got); err != nil || diff != "" || len(got) != 3 {
		t.Errorf("Events: %v (-want +got):\n%s", err, diff)
	}
}

func stretches(t *testing.T, d *directory) {
	for i := range 10 {
		d.do(func(tx storage.Tx) error {
			return errors.Join(
				tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: fmt.Sprint("more ", i)}),
				tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: fmt.Sprint(i), Type: "User", ID: newID(), Version: 1}))
		})
	}
	wholeAudit, err := d.AuditEntries(t.Context(), d.tenant, 0, all)
	if err != nil || len(wholeAudit) != 30 {
		t.Fatalf("AuditEntries: got %d, %v, want 30", len(wholeAudit), err)
	}
	wholeEvents, err := d.Events(t.Context(), d.tenant, 0, all)
	if err != nil || len(wholeEvents) != 10 {
		t.Fatalf("Events: got %d, %v, want 10", len(wholeEvents), err)
	}
	for _, limit := range []int{0, 1, 3, 50} {
		for i := range 11 {
			after := int64(0)
			if i > 0 {
				after = wholeEvents[i-1].Seq
			}
			got, err := d.Events(t.Context(), d.tenant, after, limit)
			if diff := cmp.Diff(wholeEvents[i:min(10, i+limit)], got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("Events after %d, up to %d: %v (-want +got):\n%s", after, limit, err, diff)
			}
		}
		for i := range 31 {
			after := int64(0)
			if i > 0 {
				after = wholeAudit[i-1].Seq
			}
			got, err := d.AuditEntries(t.Context(), d.tenant, after, limit)
			if diff := cmp.Diff(wholeAudit[i:min(30, i+limit)], got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("AuditEntries after %d, up to %d: %v (-want +got):\n%s", after, limit, err, diff)
			}
		}
	}
}

func withTheChange(t *testing.T, d *directory) {
	write := func(name string, then error) error {
		r := d.draft(d.user, `{"userName":`+quote(name)+`}`)
		return d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
			return errors.Join(tx.Create(r),
				tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: "user.create", Type: "User", ID: name, Version: 1}), then)
		})
	}
	for i := range 10 {
		err := write(fmt.Sprint("stays", i), nil)
		wantError(t, "Write", write(fmt.Sprint("fails", i), errTest), errTest)
		wantUnique(t, "Write", write("STAYS0", nil), "userName")
		if err != nil {
			t.Fatal(err)
		}
	}
	entries, err := d.AuditEntries(t.Context(), d.tenant, 0, all)
	if err != nil || len(entries) != 10 {
		t.Fatalf("AuditEntries: got %d, %v, want 10", len(entries), err)
	}
	list, err := d.Events(t.Context(), d.tenant, 0, all)
	if err != nil || len(list) != 10 {
		t.Fatalf("Events: got %d, %v, want 10", len(list), err)
	}
	for i := range 10 {
		if want := fmt.Sprint("stays", i); entries[i].ID != want || list[i].ID != want {
			t.Errorf("entry %d is for %s, event %d for %s, want both for %s", i, entries[i].ID, i, list[i].ID, want)
		}
	}
}

// changes are writes of one change each on a scene.
func changes(d *directory, s *scene) map[string]func(storage.Tx) error {
	at := d.now()
	u, g, gone := d.hold(s.user), d.hold(s.group), d.hold(s.gone)
	note := d.item("note", "1")
	return map[string]func(storage.Tx) error{
		"Create":             func(tx storage.Tx) error { return tx.Create(d.draft(d.user, `{"userName":"new"}`)) },
		"Update":             func(tx storage.Tx) error { return tx.Update(u, d.revise(d.user, u, `{"userName":"renamed"}`)) },
		"Update without Doc": func(tx storage.Tx) error { return tx.Update(u, d.touch(u)) },
		"Delete":             func(tx storage.Tx) error { return tx.Delete(gone, at) },
		"AddMembers":         func(tx storage.Tx) error { _, err := tx.AddMembers(g, asMembers(g)); return err },
		"RemoveMembers":      func(tx storage.Tx) error { _, err := tx.RemoveMembers(g, idsOf(u)); return err },
		"SetMembers":         func(tx storage.Tx) error { _, err := tx.SetMembers(g, asMembers(u)); return err },
		"SetMembers, none":   func(tx storage.Tx) error { _, err := tx.SetMembers(g, nil); return err },
		"PutItem":            func(tx storage.Tx) error { return tx.PutItem(note, newItem("note", "1", "other")) },
		"PutItem, new":       func(tx storage.Tx) error { return tx.PutItem(nil, newItem("note", "2", "both")) },
		"DeleteItem":         func(tx storage.Tx) error { return tx.DeleteItem(note) },
		"CreateClient":       func(tx storage.Tx) error { return tx.CreateClient(newClient(d, "new", "new")) },
		"RevokeClient":       func(tx storage.Tx) error { return tx.RevokeClient(s.client.ID, at) },
		"CreateToken":        func(tx storage.Tx) error { return tx.CreateToken(newToken(d, "new", s.client.ID)) },
		"ExpireToken":        func(tx storage.Tx) error { return tx.ExpireToken(s.token.ID, at) },
	}
}

func unaudited(t *testing.T, d *directory) {
	s := setScene(d)
	before := d.state()
	for name, change := range changes(d, s) {
		err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
			return change(tx)
		})
		wantError(t, name, err, storage.ErrUnaudited)
		if diff := cmp.Diff(before, d.state()); diff != "" {
			t.Fatalf("%s without an audit entry left something (-before +after):\n%s", name, diff)
		}
	}
	// Whether the entry comes before the change or after it makes no difference,
	// and an entry that failed with its write is none for the next one.
	entry := storage.AuditEntry{At: d.now(), Actor: "operator", Action: "test"}
	first := d.draft(d.user, `{"userName":"first"}`)
	if err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error { return errors.Join(tx.Audit(entry), tx.Create(first)) }); err != nil {
		t.Errorf("audit first: %v", err)
	}
	wantError(t, "Write", d.Write(t.Context(), d.tenant, func(tx storage.Tx) error { return errors.Join(tx.Audit(entry), errTest) }), errTest)
	wantError(t, "Write", d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
		return tx.Create(d.draft(d.user, `{"userName":"second"}`))
	}), storage.ErrUnaudited)
}

func nothingToAudit(t *testing.T, d *directory) {
	s := setScene(d)
	g, gone := d.hold(s.group), d.addUser("no member")
	stale := newItem("note", "1")
	before := d.state()
	for name, fn := range map[string]func(storage.Tx) error{
		"nothing": func(storage.Tx) error { return nil },
		"Get":     func(tx storage.Tx) error { _, err := tx.Get("User", s.user.ID); return err },
		"EachMember": func(tx storage.Tx) error {
			return tx.EachMember(g, func(storage.Member) error { return nil })
		},
		"AddMembers of members":  func(tx storage.Tx) error { _, err := tx.AddMembers(g, asMembers(s.user, s.gone)); return err },
		"RemoveMembers of none":  func(tx storage.Tx) error { _, err := tx.RemoveMembers(g, idsOf(gone)); return err },
		"SetMembers to the same": func(tx storage.Tx) error { _, err := tx.SetMembers(g, asMembers(s.gone, s.user)); return err },
		"Guard":                  func(tx storage.Tx) error { return tx.Guard("one") },
		"Item":                   func(tx storage.Tx) error { _, err := tx.Item("note", "1"); return err },
		"PutItem that fails":     func(tx storage.Tx) error { return want(storage.ErrConflict, tx.PutItem(stale, newItem("note", "1"))) },
		"DeleteItem that fails":  func(tx storage.Tx) error { return want(storage.ErrConflict, tx.DeleteItem(stale)) },
	} {
		if err := d.Write(t.Context(), d.tenant, fn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(before, d.state()); diff != "" {
		t.Errorf("writes that change nothing changed something (-before +after):\n%s", diff)
	}
}
