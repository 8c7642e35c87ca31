package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// demoToken gives the client called demo a new token, and ends the one before.
func demoToken(ctx context.Context, store storage.Store) (auth.Secret, error) {
	const name = "demo"
	var out bytes.Buffer
	s := &clientSession{
		ctx: ctx, store: store, now: time.Now(), out: &out, say: io.Discard,
		by: auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant},
	}
	err := s.rotate(name, "0s", "1d")
	if errors.Is(err, errNoClient) {
		err = s.create(storage.Client{Name: name, Scopes: []string{"users", "groups"}}, "1d")
	}
	return auth.Secret(strings.TrimSpace(out.String())), err
}
