package mongo

import (
	"errors"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestClientOfOlderVersion: a client that was stored before clients had a rate has none, and can be
// given one.
func TestClientOfOlderVersion(t *testing.T) {
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{})
	ctx, at := t.Context(), time.UnixMilli(1_800_000_000_000).UTC()
	const tenant = storage.DefaultTenant
	write := func(action string, fn func(storage.Tx) error) error {
		return s.Write(ctx, tenant, func(tx storage.Tx) error {
			return errors.Join(fn(tx), tx.Audit(storage.AuditEntry{At: at, Actor: "operator", Action: action}))
		})
	}
	if err := write("create", func(tx storage.Tx) error { return tx.CreateClient(&storage.Client{ID: "c", Name: "c", Created: at}) }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Collection(clients).UpdateOne(ctx, byID(string(tenant), key(string(tenant), "c")), d("$unset", d(fRate, "", fBurst, ""))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first gives it a rate, the second another
		list, err := s.ListClients(ctx, tenant)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		next := *list[0]
		next.Rate, next.Burst = next.Rate+5, 9
		if err := write("update", func(tx storage.Tx) error { return tx.UpdateClient(list[0], &next) }); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.ListClients(ctx, tenant); err != nil || list[0].Rate != 10 || list[0].Burst != 9 {
		t.Errorf("%+v %v, want a rate of 10 and a burst of 9", list[0], err)
	}
}
