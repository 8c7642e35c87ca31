package mongo

import (
	"context"
	"time"

	"github.com/roster-id/roster/storage"
)

// Describe implements storage.Describer.
func (s *Store) Describe(ctx context.Context) (is storage.Description, err error) {
	admin := s.client.Database("admin")
	build, err := admin.RunCommand(ctx, d("buildInfo", 1)).Raw()
	if err != nil {
		return is, explain(err)
	}
	hello, err := admin.RunCommand(ctx, d("hello", 1)).Raw()
	if err != nil {
		return is, explain(err)
	}
	is.Product, is.Standalone = "MongoDB "+text(build, "version"), !s.can.transactions
	if ms, ok := hello.Lookup("localTime").DateTimeOK(); ok {
		is.Clock = time.UnixMilli(ms).UTC()
	}
	is.Schema, _, err = s.schema(ctx)
	return is, explain(err)
}
