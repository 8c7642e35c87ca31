package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// demoToken gives the client called demo a new token, and ends the one before.
func demoToken(ctx context.Context, store storage.Store) (auth.Secret, error) {
	const name = "demo"
	s := &clientSession{ctx: ctx, store: store, now: time.Now(), say: io.Discard, by: auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}}
	made, err := s.rotate(name, 0, day)
	if errors.Is(err, errNoClient) {
		made, err = s.create(storage.Client{Name: name, Scopes: []string{"users", "groups"}}, day)
	}
	if err != nil {
		return "", err
	}
	return made.Text, nil
}
