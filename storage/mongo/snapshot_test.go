package mongo

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestSnapshot: whichever way the first read of a snapshot goes, those after it
// see what it saw.
func TestSnapshot(t *testing.T) {
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{})
	if err := create(t.Context(), s, newUser(s, 1, "ana")); err != nil {
		t.Fatal(err)
	}
	all := d(fTenant, string(storage.DefaultTenant), fType, "User")
	each := func(ctx context.Context) (n int64, err error) {
		err = s.each(ctx, resources, all, func(bson.Raw) error { n++; return nil }, look().fields(only(fResource)))
		return n, err
	}
	count := func(ctx context.Context) (int64, error) { return s.db.Collection(resources).CountDocuments(ctx, all) }
	one := func(ctx context.Context) (int64, error) {
		return 0, s.db.Collection(resources).FindOne(ctx, all, options.FindOne().SetProjection(only(fID))).Err()
	}
	next := 2
	for name, first := range map[string]func(context.Context) (int64, error){"each": each, "count": count, "one": one} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := s.snapshot(ctx, func(ctx context.Context) error {
			if _, err := first(ctx); err != nil {
				return err
			}
			want := int64(next - 1)
			if err := create(t.Context(), s, newUser(s, next, name)); err != nil {
				return err
			}
			next++
			for i, then := range []func(context.Context) (int64, error){each, count} {
				if got, err := then(ctx); err != nil || got != want {
					t.Errorf("after %s, read %d: got %d, %v, want %d", name, i, got, err, want)
				}
			}
			return nil
		})
		cancel()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
