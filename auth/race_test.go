package auth

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/roster-id/roster/storage"
)

// TestPasswordChangedMeanwhile: a password that was good when the attempt began is not
// when it counts, if somebody has written another one in between, or has ended all
// sessions.
func TestPasswordChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(storage.Tx, string) error{
		"another password": func(tx storage.Tx, id string) error {
			_, err := WritePassword(tx, id, "$argon2id$other", time.Unix(1772366400, 0).UTC())
			return err
		},
		"sessions ended": drop,
		"factors reset": func(tx storage.Tx, id string) error {
			c, err := ReadCredential(tx, id)
			if err != nil {
				return err
			}
			c.resetMFA()
			return SaveCredential(tx, id, c)
		},
	} {
		d := newDirectory(t)
		id := d.add("ana", false)
		store := &between{Store: d.Store, after: func() { d.write(func(tx storage.Tx) error { return change(tx, id) }) }}
		d.Authenticator = d.another(store, d.Keys)
		if _, err := d.give("ana", goodPassword); !errors.Is(err, ErrSignIn) {
			t.Errorf("%s: %v; want ErrSignIn", name, err)
		}
	}
}

// TestRehashedMeanwhile: two sign-ins at once, of which one hashes the password anew, do
// not get in each other's way.
func TestRehashedMeanwhile(t *testing.T) {
	d := newDirectory(t)
	id := d.add("ana", false)
	d.promote(id)
	other := d.another(d.Store, d.Keys)
	store := &between{Store: d.Store}
	store.after = func() {
		if _, err := other.SignIn(t.Context(), SignInRequest{Tenant: storage.DefaultTenant, Name: "ana", Password: goodPassword}); err != nil {
			t.Error(err)
		}
	}
	d.Authenticator = d.another(store, d.Keys)
	before := d.credential(id).PasswordHash
	if _, err := d.give("ana", goodPassword); err != nil {
		t.Errorf("SignIn: %v", err)
	}
	if d.credential(id).PasswordHash == before {
		t.Error("nobody hashed the password anew, so this test shows nothing")
	}
}

// between does something after the first write.
type between struct {
	storage.Store
	after func()
}

func (s *between) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	err := s.Store.Write(ctx, tenant, fn)
	if after := s.after; after != nil {
		s.after = nil
		after()
	}
	return err
}
