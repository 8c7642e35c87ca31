package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/storage"
)

var auditPromises = []promise{
	{"audit entries come back as they were recorded, oldest first", auditEntries},
	{"events are the entries with a version", events},
	{"after and limit select a stretch of entries and events", stretches},
	{"entries and events appear with the change and vanish with it", withTheChange},
	{"a change without an audit entry is ErrUnaudited and leaves nothing", unaudited},
	{"a write that changes nothing needs no audit entry", nothingToAudit},
	{"a write whose entry was refused fails, and leaves nothing", refusedEntry},
	{"the chains of a trail are whole and go through every entry", wholeChains},
}

// wantWhole checks the chains of the trail and returns it.
func (d *directory) wantWhole() []storage.AuditEntry {
	d.t.Helper()
	r, err := audit.Verify(d.t.Context(), d, d.tenant, nil)
	if err != nil || !r.OK() || r.Unchained > 0 {
		d.t.Errorf("Verify: %+v, %v, want no faults", r, err)
	}
	list, err := d.AuditEntries(d.t.Context(), d.tenant, 0, all)
	if err != nil || int64(len(list)) != r.Entries {
		d.t.Errorf("AuditEntries: got %d, %v, want the %d that were verified", len(list), err, r.Entries)
	}
	return list
}

// sameEntry leaves out what the store gives.
var sameEntry = cmp.Options{cmpopts.IgnoreFields(storage.AuditEntry{}, "Seq", "Chain", "N", "Hash"), cmpopts.EquateEmpty()}

func auditEntries(t *testing.T, d *directory) {
	want := []storage.AuditEntry{
		{At: d.now(), RequestID: "r1", Actor: "client:c1", Action: "user.create", Type: "User", ID: storage.NewID()},
		{At: d.now().Add(-time.Hour), Actor: "operator", Action: "client.revoke", Type: "Client", ID: "c1"},
		{At: d.now(), RequestID: "r2", Actor: "client:c1", Action: "user.patch", Type: "User", ID: storage.NewID(),
			Version:    3,
			Attributes: []string{"userName", "name.givenName", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"}},
		{At: d.now(), Actor: "user:u1", Action: "user.patch", Type: "User", ID: storage.NewID(), Version: 1, From: "2001:db8::1", Level: "mfa",
			Changes: []storage.Change{
				{Path: "title", Before: []byte(`"\u00e9\u2028"`), After: []byte(`"é` + "\u2028" + `"`)},
				{Path: "emails", After: []byte(`[ {"value": 1.0e1 } ]`)},
				{Path: "nickName", Before: []byte(`null`)},
				{Path: "password"},
				{Path: "x", After: []byte(`"` + strings.Repeat("y", 20_000) + `"`)},
			}},
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
	if diff := cmp.Diff(want, got, sameEntry); err != nil || diff != "" {
		t.Errorf("AuditEntries: %v (-want +got):\n%s", err, diff)
	}
	for i, e := range got {
		if i > 0 && e.Seq <= got[i-1].Seq || e.Seq <= 0 {
			t.Errorf("entry %d has the number %d", i, e.Seq)
		}
	}
	d.wantWhole()
}

func events(t *testing.T, d *directory) {
	entries := []storage.AuditEntry{
		{At: d.now(), Actor: "client:c1", Action: "user.create", Type: "User", ID: storage.NewID(), Version: 1},
		{At: d.now(), Actor: "operator", Action: "client.create", Type: "Client", ID: "c2"},
		{At: d.now().Add(-time.Hour), RequestID: "r1", Actor: "client:c1", Action: "group.patch", Type: "Group", ID: storage.NewID(), Version: 1 << 40,
			Attributes: []string{"displayName", "members"}},
		{At: d.now(), Actor: "client:c1", Action: "user.delete", Type: "User", ID: storage.NewID(), Version: 2},
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
				tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: fmt.Sprint(i), Type: "User", ID: storage.NewID(), Version: 1}))
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
		"UpdateClient": func(tx storage.Tx) error {
			next := *s.client
			next.Name, next.Scopes = "renamed", []string{"groups"}
			return tx.UpdateClient(s.client, &next)
		},
		"RevokeClient": func(tx storage.Tx) error { return tx.RevokeClient(s.client.ID, at) },
		"CreateToken":  func(tx storage.Tx) error { return tx.CreateToken(newToken(d, "new", s.client.ID)) },
		"ExpireToken":  func(tx storage.Tx) error { return tx.ExpireToken(s.token.ID, at) },
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

func refusedEntry(t *testing.T, d *directory) {
	before := d.state()
	good := storage.AuditEntry{At: d.now(), Actor: "operator", Action: "test"}
	for name, spoil := range map[string]func(*storage.AuditEntry){
		"no actor":           func(e *storage.AuditEntry) { e.Actor = "" },
		"no action":          func(e *storage.AuditEntry) { e.Action = "" },
		"a chain":            func(e *storage.AuditEntry) { e.Chain = "s1" },
		"a place in a chain": func(e *storage.AuditEntry) { e.N = 1 },
		"a hash":             func(e *storage.AuditEntry) { e.Hash = make([]byte, 32) },
		"two paths in one":   func(e *storage.AuditEntry) { e.Attributes = []string{"a b"} },
		"an empty path":      func(e *storage.AuditEntry) { e.Attributes = []string{""} },
		"a nameless change":  func(e *storage.AuditEntry) { e.Changes = []storage.Change{{After: []byte("1")}} },
		"half a value":       func(e *storage.AuditEntry) { e.Changes = []storage.Change{{Path: "a", Before: []byte(`{"a":`)}} },
	} {
		bad := good
		spoil(&bad)
		for _, entries := range [][]storage.AuditEntry{{bad}, {good, bad}, {bad, good}} {
			r := d.draft(d.user, `{"userName":"ana"}`)
			err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
				err := tx.Create(r)
				for _, e := range entries {
					_ = tx.Audit(e) // somebody does not look
				}
				return err
			})
			if err == nil {
				t.Errorf("%s: the write was acknowledged", name)
			}
		}
	}
	if diff := cmp.Diff(before, d.state()); diff != "" {
		t.Errorf("writes without their entry left something (-before +after):\n%s", diff)
	}
	if list := d.wantWhole(); len(list) != 0 {
		t.Errorf("AuditEntries: got %d, want none", len(list))
	}
	if err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
		return errors.Join(tx.Create(d.draft(d.user, `{"userName":"ana"}`)), tx.Audit(good))
	}); err != nil {
		t.Error(err)
	}
}

func wholeChains(t *testing.T, d *directory) {
	furnish(d, 20)
	setScene(d.in(acme))
	for _, d := range []*directory{d, d.in(acme)} {
		chains := map[string]int64{}
		for _, e := range d.wantWhole() {
			if chains[e.Chain]++; e.N != chains[e.Chain] || len(e.Hash) != 32 {
				t.Errorf("%s: entry %d of chain %s is number %d and has a hash of %d bytes", d.tenant, chains[e.Chain], e.Chain, e.N, len(e.Hash))
			}
		}
		if len(chains) != 1 {
			t.Errorf("%s: one write after the other made %d chains, want one", d.tenant, len(chains))
		}
	}
}

func brokenWrites(t *testing.T, d *directory) {
	const each = 12
	hot := d.addUser("hot")
	var rand [racers]*rand.Rand
	var drafts [racers][each]*storage.Resource
	for i := range racers {
		rand[i] = newGenerator(uint64(i)).Rand
		for k := range each {
			drafts[i][k] = d.draft(d.user, fmt.Sprintf(`{"userName":"u%d"}`, (i*each+k)/2)) // each name twice
		}
	}
	var recorded [racers]int
	errs := race(func(i int) error {
		for k := range each {
			entries, how := 1+rand[i].IntN(3), rand[i].IntN(7)
			err := d.Write(t.Context(), d.tenant, func(tx storage.Tx) error {
				for range entries {
					err := tx.Audit(storage.AuditEntry{At: d.now(), Actor: "operator", Action: "test", ID: fmt.Sprint(i, "/", k)})
					if err != nil {
						return err
					}
				}
				switch how {
				case 0:
					return errTest
				case 1:
					panic("a write panics")
				case 2: // in each other's way
					r, err := tx.Get("User", hot.ID)
					if err != nil {
						return err
					}
					return tx.Update(r, d.touch(r))
				case 3:
					_, err := tx.Get("User", drafts[i][k].ID)
					return err // ErrNotFound
				}
				return tx.Create(drafts[i][k])
			})
			unique := (*storage.UniqueError)(nil)
			switch {
			case err == nil:
				recorded[i] += entries
			case how != 0 && how != 1 && how != 3 && !errors.As(err, &unique):
				return fmt.Errorf("a write of the kind %d: %w", how, err)
			}
		}
		return nil
	})
	want := 1
	for i, err := range errs {
		if want += recorded[i]; err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if list := d.wantWhole(); len(list) != want {
		t.Errorf("AuditEntries: got %d, want %d", len(list), want)
	}
}
