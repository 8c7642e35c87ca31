package scim_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/scimtest/testserver"
	"github.com/roster-id/roster/storage"
)

// TestWith: what is written with a new or deleted resource becomes durable with it, and
// neither without the other.
func TestWith(t *testing.T) {
	s := testserver.Start(t, testserver.Options{})
	ctx, by := t.Context(), auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	users := s.Provider.Schemas.Type("User")
	body := func() any { return map[string]any{"userName": "ana"} }
	note := &storage.Item{Kind: "note", ID: "1", Data: []byte("{}")}
	trail := func() (list []string) {
		t.Helper()
		entries, err := s.Store.AuditEntries(ctx, storage.DefaultTenant, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries[1:] { // the client's is before
			list = append(list, e.Action)
		}
		return list
	}
	noted := func() bool {
		_, err := s.Store.Item(ctx, storage.DefaultTenant, "note", "1")
		return err == nil
	}
	no := errors.New("no")
	_, err := s.Provider.CreateWith(ctx, by, users, body(), func(tx storage.Tx, _ *storage.Resource) error {
		return errors.Join(tx.PutItem(nil, note), no)
	})
	if !errors.Is(err, no) || noted() || trail() != nil {
		t.Errorf("a part that fails: %v, noted: %t, the trail: %v", err, noted(), trail())
	}
	made, err := s.Provider.CreateWith(ctx, by, users, body(), func(tx storage.Tx, r *storage.Resource) error {
		if _, err := tx.Get("User", r.ID); err != nil {
			return err
		}
		return tx.PutItem(nil, note)
	})
	if err != nil || !noted() {
		t.Fatalf("CreateWith: %v, noted: %t", err, noted())
	}
	err = s.Provider.DeleteWith(ctx, by, users, made.ID, scim.Precondition{}, func(tx storage.Tx) error { return errors.Join(tx.DeleteItem(note), no) })
	if _, there := s.Store.Get(ctx, storage.DefaultTenant, "User", made.ID); !errors.Is(err, no) || there != nil || !noted() {
		t.Errorf("a part that fails: %v; the user: %v, noted: %t", err, there, noted())
	}
	if err := s.Provider.DeleteWith(ctx, by, users, made.ID, scim.Precondition{}, func(tx storage.Tx) error { return tx.DeleteItem(note) }); err != nil || noted() {
		t.Errorf("DeleteWith: %v, noted: %t", err, noted())
	}
	if diff := cmp.Diff([]string{"user.create", "user.delete"}, trail()); diff != "" {
		t.Errorf("the trail (-want +got):\n%s", diff)
	}
	// Memberships are changes of groups, with which nothing else is written.
	members := s.Provider.Schemas.Type("GroupMembership")
	_, err = s.Provider.CreateWith(ctx, by, members, body(), func(storage.Tx, *storage.Resource) error { return nil })
	if err == nil || s.Provider.DeleteWith(ctx, by, members, "a.b", scim.Precondition{}, func(storage.Tx) error { return nil }) == nil {
		t.Error("a membership was written with more")
	}
}
